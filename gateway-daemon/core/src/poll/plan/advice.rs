//! What would make an impossible plan possible.

use std::time::Duration;

use super::blocks::Limits;
use super::bus_plan::{BusPlan, GroupPlan, cycle_cost, groups_of, ratio};
use crate::poll::settings::{Medium, Settings};
use crate::tag::GroupId;

/// Speeds that serial ports and devices know, bits per second.
const BAUDS: [u32; 10] = [1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800];

/// Widest gap that is worth trying: a whole request of registers nobody wants.
const GAP_MAX: u16 = 124;

/// Least part of a cycle's time that another gap limit must save to be worth saying.
const GAP_GAIN_MIN: f64 = 0.01;

/// One change that helps.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// Poll this group less often; alone enough.
    SlowerGroup {
        /// The group that costs most.
        group: GroupId,
        /// Shortest interval with which the bus fits.
        every: Duration,
    },
    /// Poll all groups of the bus less often by this factor.
    SlowerAll {
        /// Above 1.
        factor: f64,
    },
    /// Run the line faster; alone enough.
    Baud {
        /// Lowest standard speed with which the bus fits.
        baud: u32,
    },
    /// Another `gap_max` for a device saves time, enough or not.
    Gap {
        /// Index in [`Settings::devices`].
        device: usize,
        /// The limit that takes the least time.
        gap_max: u16,
        /// Share of the line with that change.
        share: f64,
    },
}

/// What helps a serial bus whose share is above 1, the least change first.
pub(super) fn advice(settings: &Settings, plan: &BusPlan) -> Vec<Advice> {
    let share = plan.share.unwrap_or(0.0);
    let mut result = gaps(settings, plan, share);
    result.extend(slower(plan, share));
    result.extend(baud(settings, plan));
    result
}

fn slower(plan: &BusPlan, share: f64) -> Option<Advice> {
    let costliest = plan.costliest(|group| group.share.unwrap_or(0.0))?;
    let group = plan.groups.iter().find(|group| group.group == costliest)?;
    let others = share - group.share?;
    if others >= 1.0 {
        return Some(Advice::SlowerAll { factor: round_up(share, 0.1) });
    }
    let every = group.cost.least?.as_secs_f64() / (1.0 - others);
    let step = if every < 1.0 { 0.01 } else { 0.1 };
    let every = Duration::try_from_secs_f64(round_up(every, step)).ok()?;
    Some(Advice::SlowerGroup { group: costliest, every: Duration::from_millis(whole_ms(every)) })
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn round_up(number: f64, step: f64) -> f64 {
    (number / step).ceil() * step
}

fn baud(settings: &Settings, plan: &BusPlan) -> Option<Advice> {
    let Medium::Serial(serial) = &settings.buses.get(plan.bus)?.medium else { return None };
    let faster = BAUDS.into_iter().filter(|baud| *baud > serial.baud);
    let mut trial = settings.clone();
    for baud in faster {
        if let Medium::Serial(serial) = &mut trial.buses[plan.bus].medium {
            serial.baud = baud;
        }
        let share: f64 = groups_of(&trial, plan.bus)
            .filter_map(|(index, _)| {
                Some(ratio(cycle_cost(&trial, index, None).0.least?, trial.groups[index].every))
            })
            .sum();
        if share <= 1.0 {
            return Some(Advice::Baud { baud });
        }
    }
    None
}

fn gaps(settings: &Settings, plan: &BusPlan, share: f64) -> Vec<Advice> {
    let mut devices: Vec<usize> =
        groups_of(settings, plan.bus).map(|(index, _)| settings.groups[index].device).collect();
    devices.dedup();
    devices.sort_unstable();
    devices.dedup();
    devices.into_iter().filter_map(|device| gap(settings, plan, share, device)).collect()
}

/// The gap limit with which a device's groups take the least time, if that is worth a change.
fn gap(settings: &Settings, plan: &BusPlan, share: f64, device: usize) -> Option<Advice> {
    if Limits::of(settings.devices.get(device)?).one_by_one {
        return None;
    }
    let of_device = |group: &&GroupPlan| settings.groups[group.group.0 as usize].device == device;
    let groups: Vec<&GroupPlan> = plan.groups.iter().filter(of_device).collect();
    let with = |gap_max: u16| -> f64 {
        let time = |group: &&GroupPlan| cycle_cost(settings, group.group.0 as usize, Some(gap_max)).0.least;
        groups.iter().filter_map(|group| Some(ratio(time(group)?, group.every))).sum()
    };
    let before: f64 = groups.iter().filter_map(|group| group.share).sum();
    let (gap_max, after) = (0..=GAP_MAX).map(|gap| (gap, with(gap))).min_by(|a, b| a.1.total_cmp(&b.1))?;
    (after < before * (1.0 - GAP_GAIN_MIN)).then_some(Advice::Gap {
        device,
        gap_max,
        share: share - before + after,
    })
}
