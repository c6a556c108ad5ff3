//! What a bus has to do, and whether it can.

use std::time::Duration;

use super::advice::{Advice, advice};
use super::blocks::{Limits, Span, blocks};
use super::wire::Cost;
use crate::poll::settings::{Bus, Connection, Medium, Settings};
use crate::tag::GroupId;

/// Fewest round trips per second and slot of a pipeline that no Modbus TCP device can keep up with: 100 us each is less
/// than the latency of a switch and two network stacks.
pub const ROUND_TRIPS_PER_S_MAX: f64 = 10_000.0;

/// Share of a serial line above which the time that devices need to think probably does not fit any more.
pub const SHARE_COMFORTABLE: f64 = 0.8;

/// Least interval, beside the pause after connecting, with which a connection for each cycle is comfortable for small devices.
const CONNECTING_COMFORTABLE: Duration = Duration::from_secs(1);

/// Blocks and cost of one poll group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPlan {
    /// Which group.
    pub group: GroupId,
    /// What one cycle costs.
    pub cost: Cost,
    /// Scan interval.
    pub every: Duration,
    /// Least share of the line: time of a cycle over the interval; `None` where the speed of the line is unknown.
    pub share: Option<f64>,
}

/// A bus that cannot do what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// The requests take longer than the time there is.
    TooMuch {
        /// Time asked for over time there is, above 1.
        share: f64,
        /// The group that takes the largest part.
        costliest: GroupId,
        /// What would help, the least change first.
        advice: Vec<Advice>,
    },
    /// More requests per second than any network answers.
    TooManyRequests {
        /// Requests per second asked for.
        per_s: f64,
        /// What the pipeline could carry at best.
        per_s_max: f64,
        /// The group that asks most.
        costliest: GroupId,
    },
    /// A point does not fit into one request to its device.
    PointTooLong {
        /// Index in [`Settings::tags`].
        tag: usize,
        /// Registers it takes.
        registers: u32,
        /// Registers the device allows.
        registers_max: u32,
    },
    /// A point runs over the highest address.
    PointBeyondEnd {
        /// Index in [`Settings::tags`].
        tag: usize,
    },
}

/// Something to know about a plan that can be carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Remark {
    /// The share leaves little time for devices to think.
    Tight {
        /// Least share of the line.
        share: f64,
    },
    /// A group is due more often than the longest request of another group takes, so some of its cycles will be late or
    /// skipped.
    Blocked {
        /// The group that waits.
        group: GroupId,
        /// The group it waits for.
        by: GroupId,
        /// Its own cycle and the other's longest request together.
        needs: Duration,
        /// Its interval.
        every: Duration,
    },
    /// A group for whose every cycle a connection is opened is due sooner than is comfortable for that.
    Connecting {
        /// The group with the shortest interval.
        group: GroupId,
        /// Its interval.
        every: Duration,
        /// The pause after connecting.
        pause: Duration,
    },
}

/// What a bus has to do in each cycle of each of its groups.
#[derive(Debug, Clone, PartialEq)]
pub struct BusPlan {
    /// Index in [`Settings::buses`].
    pub bus: usize,
    /// In the order of [`Settings::groups`].
    pub groups: Vec<GroupPlan>,
    /// Sum of the groups' shares; `None` where the speed of the line is unknown.
    pub share: Option<f64>,
    /// Requests per second over all groups.
    pub requests_per_s: f64,
    /// Why it cannot be done.
    pub problems: Vec<Problem>,
    /// What to know although it can be done.
    pub remarks: Vec<Remark>,
}

impl BusPlan {
    /// Plans the bus at `bus` of [`Settings::buses`].
    #[must_use]
    pub fn new(settings: &Settings, bus: usize) -> Self {
        let mut plan = Self {
            bus,
            groups: Vec::new(),
            share: None,
            requests_per_s: 0.0,
            problems: Vec::new(),
            remarks: Vec::new(),
        };
        let Some(line) = settings.buses.get(bus) else { return plan };
        let mut longest = Vec::new();
        for (index, id) in groups_of(settings, bus) {
            point_problems(settings, index, &mut plan.problems);
            let (cost, block_max) = cycle_cost(settings, index, None);
            let every = settings.groups[index].every;
            let share = cost.least.map(|time| ratio(time, every));
            plan.requests_per_s += f64::from(cost.requests) / seconds(every);
            longest.push(block_max);
            plan.groups.push(GroupPlan { group: id, cost, every, share });
        }
        plan.share = matches!(line.medium, Medium::Serial(_))
            .then(|| plan.groups.iter().filter_map(|group| group.share).sum());
        plan.judge(settings, line, &longest);
        plan
    }

    /// Plans every bus.
    #[must_use]
    pub fn all(settings: &Settings) -> Vec<Self> {
        (0..settings.buses.len()).map(|bus| Self::new(settings, bus)).collect()
    }

    /// Whether nothing speaks against it.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.problems.is_empty()
    }

    fn judge(&mut self, settings: &Settings, line: &Bus, longest: &[Option<Duration>]) {
        match self.share {
            Some(share) if share > 1.0 => {
                if let Some(costliest) = self.costliest(|group| group.share.unwrap_or(0.0)) {
                    let advice = advice(settings, self);
                    self.problems.push(Problem::TooMuch { share, costliest, advice });
                }
            }
            Some(share) if share > SHARE_COMFORTABLE => self.remarks.push(Remark::Tight { share }),
            _ => {}
        }
        if let Medium::Tcp { pipeline, .. } = line.medium {
            let per_s_max = f64::from(pipeline.max(1)) * ROUND_TRIPS_PER_S_MAX;
            let per_s = |group: &GroupPlan| f64::from(group.cost.requests) / seconds(group.every);
            if let Some(costliest) = self.costliest(per_s).filter(|_| self.requests_per_s > per_s_max) {
                let per_s = self.requests_per_s;
                self.problems.push(Problem::TooManyRequests { per_s, per_s_max, costliest });
            }
        }
        if self.fits() {
            self.remark_blocked(longest);
        }
        self.remark_connecting(&line.medium);
    }

    /// A connection for each cycle takes a handshake and the pause, and devices free the last one only after a while.
    fn remark_connecting(&mut self, medium: &Medium) {
        let (Medium::Tcp { connection: Connection::PerCycle, connect_pause: pause, .. }
        | Medium::RtuOverTcp { connection: Connection::PerCycle, connect_pause: pause, .. }) = *medium
        else {
            return;
        };
        let shortest = self.groups.iter().min_by_key(|group| group.every);
        if let Some(group) = shortest.filter(|group| group.every < pause + CONNECTING_COMFORTABLE) {
            let (group, every) = (group.group, group.every);
            self.remarks.push(Remark::Connecting { group, every, pause });
        }
    }

    /// A request that has begun is never interrupted, so each group may find the longest foreign one before it.
    fn remark_blocked(&mut self, longest: &[Option<Duration>]) {
        for (index, group) in self.groups.iter().enumerate() {
            let others = self.groups.iter().zip(longest).enumerate().filter(|(other, _)| *other != index);
            let Some((by, time)) = others
                .filter_map(|(_, (other, time))| time.map(|time| (other.group, time)))
                .max_by_key(|(_, time)| *time)
            else {
                continue;
            };
            let needs = group.cost.least.unwrap_or_default() + time;
            if needs > group.every {
                self.remarks.push(Remark::Blocked { group: group.group, by, needs, every: group.every });
            }
        }
    }

    /// The group with the highest `rank`.
    pub(super) fn costliest(&self, rank: impl Fn(&GroupPlan) -> f64) -> Option<GroupId> {
        self.groups.iter().max_by(|a, b| rank(a).total_cmp(&rank(b))).map(|group| group.group)
    }
}

/// Indices and ids of the groups of a bus.
pub(super) fn groups_of(settings: &Settings, bus: usize) -> impl Iterator<Item = (usize, GroupId)> {
    let on_bus = move |device: usize| settings.devices.get(device).is_some_and(|device| device.bus == bus);
    (0..)
        .zip(&settings.groups)
        .enumerate()
        .filter_map(move |(index, (id, group))| on_bus(group.device).then_some((index, GroupId(id))))
}

/// What one cycle of a group costs, with the device's own gap limit or another one, and its longest request.
pub(super) fn cycle_cost(
    settings: &Settings,
    group: usize,
    gap_max: Option<u16>,
) -> (Cost, Option<Duration>) {
    let group = &settings.groups[group];
    let device = &settings.devices[group.device];
    let bus = &settings.buses[device.bus];
    let spans: Vec<Span> = settings.tags[group.tags()].iter().map(|tag| Span::from(&tag.point)).collect();
    let mut limits = Limits::of(device);
    limits.gap_max = gap_max.unwrap_or(limits.gap_max);
    let costs: Vec<Cost> = blocks(&spans, &limits).iter().map(|block| Cost::of(block, bus, device)).collect();
    let longest = costs.iter().filter_map(|cost| cost.least).max();
    (costs.into_iter().fold(Cost::nothing(bus), Cost::plus), longest)
}

fn point_problems(settings: &Settings, group: usize, problems: &mut Vec<Problem>) {
    let group = &settings.groups[group];
    let limits = Limits::of(&settings.devices[group.device]);
    for index in group.tags() {
        let point = &settings.tags[index].point;
        let span = Span::from(point);
        let registers = u32::from(point.kind.registers());
        if registers > limits.length_max(point.table) {
            let registers_max = limits.length_max(point.table);
            problems.push(Problem::PointTooLong { tag: index, registers, registers_max });
        } else if span.end - span.start < registers {
            problems.push(Problem::PointBeyondEnd { tag: index });
        }
    }
}

/// An interval in seconds, never zero.
pub(super) fn seconds(every: Duration) -> f64 {
    every.max(Duration::from_nanos(1)).as_secs_f64()
}

pub(super) fn ratio(time: Duration, every: Duration) -> f64 {
    time.as_secs_f64() / seconds(every)
}
