//! Limits made smaller until their sums fit.
//!
//! In four steps, each only as far as it is needed: what stands above its default goes down towards it; then totals of bytes go down towards the least
//! with which the broker works; then counts do; and only then do queues of uplinks go below their part of a quarter of the file, because readings come
//! before what local clients keep. Within a step all limits give way by the same part. None goes below what is stored already.

use super::{FILE_PERCENT, Megabytes, Plan};
use crate::broker::settings::Limits;
use crate::uplink::settings::{BYTES_MAX, PACKET_BYTES_MAX};

/// What the store holds already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Messages of durable sessions, bytes.
    pub local_bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Retained messages, bytes.
    pub retained_bytes: u64,
    /// Of each uplink in the order of the file, bytes of rows.
    pub uplinks: Vec<u64>,
}

/// A limit that was made smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its key, with its table.
    pub key: String,
    /// What the file says.
    pub from: u64,
    /// What holds.
    pub to: u64,
    /// Whether it is a number of bytes.
    pub bytes: bool,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.bytes {
            write!(f, "{} is {} instead of {}", self.key, Megabytes(self.to), Megabytes(self.from))
        } else {
            write!(f, "{} is {} instead of {}", self.key, self.to, self.from)
        }
    }
}

/// A limit of the broker that may give way.
pub(super) struct Knob {
    /// Its key in `[broker.limits]`.
    pub(super) key: &'static str,
    /// Of which sums it is a part.
    sums: &'static [Of],
    /// A total of bytes, which goes first; otherwise a count or a size.
    total: bool,
    /// Whether it is a number of bytes.
    bytes: bool,
    /// With less the broker is of no use.
    least: u64,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
    stored: fn(&Stored) -> u64,
}

/// A sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Memory,
    Disk,
}

use Of::{Disk, Memory};

macro_rules! knob {
    ($key:literal, $field:ident, $sums:expr, total $total:literal, bytes $bytes:literal, least $least:expr, $stored:expr) => {
        Knob {
            key: $key,
            sums: $sums,
            total: $total,
            bytes: $bytes,
            least: $least,
            get: |limits| limits.$field as u64,
            // Never more than what was there before, so it fits its type.
            set: |limits, value| limits.$field = value.try_into().unwrap_or(limits.$field),
            stored: $stored,
        }
    };
}

/// All of them, one line each.
#[rustfmt::skip]
pub(super) const KNOBS: &[Knob] = &[
    knob!("queued_bytes_total_max", queued_bytes_total_max, &[Memory], total true, bytes true, least 1 << 20, |_| 0),
    knob!("unsent_bytes_total_max", unsent_bytes_total_max, &[Memory], total true, bytes true, least 1 << 20, |_| 0),
    knob!("received_bytes_total_max", received_bytes_total_max, &[Memory], total true, bytes true, least 1 << 20, |_| 0),
    knob!("stored_bytes_total_max", stored_bytes_total_max, &[Disk], total true, bytes true, least 64 << 10, |s| s.local_bytes),
    knob!("retained_bytes_max", retained_bytes_max, &[Memory, Disk], total false, bytes true, least 64 << 10, |s| s.retained_bytes),
    knob!("packet_max", packet_bytes_max, &[Memory], total false, bytes true, least 64 << 10, |_| 0),
    knob!("connections_max", connections_max, &[Memory], total false, bytes false, least 50, |_| 0),
    knob!("sessions_max", sessions_max, &[Memory, Disk], total false, bytes false, least 50, |s| s.sessions),
    knob!("subscriptions_max", subscriptions_max, &[Memory, Disk], total false, bytes false, least 500, |s| s.subscriptions),
];

/// Least bytes of an uplink's queue, however small the file is.
const QUEUE_BYTES_LEAST: u64 = 64 << 10;

/// Least size of an uplink's largest packet.
const PACKET_BYTES_LEAST: u64 = 64 << 10;

/// Steps in which the part is looked for by which limits give way.
const PART_STEPS: u64 = 1 << 16;

/// How far limits go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    AboveDefault,
    Totals,
    Everything,
    Uplinks,
}

impl Plan {
    /// Lowers limits until both sums fit, as far as that is possible. `all` lowers those of the file as well, otherwise only what it does not set. What was
    /// lowered comes back.
    pub fn lower(&mut self, all: bool, stored: &Stored) -> Vec<Change> {
        let before = self.clone();
        for sum in [Disk, Memory] {
            for step in [Step::AboveDefault, Step::Totals, Step::Everything, Step::Uplinks] {
                if !self.fits(sum) {
                    *self = self.after(sum, step, all, stored);
                }
            }
        }
        before.changes_to(self)
    }

    fn fits(&self, sum: Of) -> bool {
        match sum {
            Memory => self.memory().fits(),
            Disk => self.disk().fits(),
        }
    }

    /// With the largest part of what a step can take left with which the sum fits; without any of it if even that is too much.
    fn after(&self, sum: Of, step: Step, all: bool, stored: &Stored) -> Self {
        let (mut low, mut high) = (0, PART_STEPS);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let fits = self.with_part(sum, step, all, stored, middle).fits(sum);
            if fits { low = middle } else { high = middle }
        }
        self.with_part(sum, step, all, stored, low)
    }

    fn with_part(&self, sum: Of, step: Step, all: bool, stored: &Stored, part: u64) -> Self {
        let mut plan = self.clone();
        let between = |least: u64, now: u64| {
            let least = least.min(now);
            let span = u128::from(now - least) * u128::from(part) / u128::from(PART_STEPS);
            least + u64::try_from(span).unwrap_or(0)
        };
        let defaults = Limits::default();
        if let Some(limits) = &mut plan.broker {
            let mine = |knob: &&Knob| knob.sums.contains(&sum) && (all || !self.said.contains(&knob.key));
            for knob in KNOBS.iter().filter(mine) {
                let floor = match step {
                    Step::AboveDefault => (knob.get)(&defaults),
                    Step::Totals if !knob.total => continue,
                    Step::Totals | Step::Everything | Step::Uplinks => knob.least,
                };
                (knob.set)(limits, between(floor.max((knob.stored)(stored)), (knob.get)(limits)));
            }
        }
        let share = self.file_bytes_max / 4 / (self.uplinks.len() as u64).max(1) * 100 / FILE_PERCENT;
        for (index, uplink) in plan.uplinks.iter_mut().enumerate() {
            let held = stored.uplinks.get(index).copied().unwrap_or(0);
            if sum == Memory {
                let floor = if step == Step::AboveDefault { PACKET_BYTES_MAX } else { PACKET_BYTES_LEAST };
                if all && step != Step::Totals {
                    uplink.packet_bytes_max = between(floor, uplink.packet_bytes_max);
                }
            } else if all || !uplink.said {
                let floor = match step {
                    Step::AboveDefault => BYTES_MAX,
                    Step::Totals | Step::Everything => share.clamp(QUEUE_BYTES_LEAST, BYTES_MAX),
                    Step::Uplinks => QUEUE_BYTES_LEAST,
                };
                uplink.bytes_max = between(floor.max(held), uplink.bytes_max);
            }
        }
        plan
    }

    fn changes_to(&self, after: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut note = |key: String, from: u64, to: u64, bytes: bool| {
            if from != to {
                changes.push(Change { key, from, to, bytes });
            }
        };
        if let (Some(before), Some(now)) = (&self.broker, &after.broker) {
            for knob in KNOBS {
                let key = format!("`{}` in [broker.limits]", knob.key);
                note(key, (knob.get)(before), (knob.get)(now), knob.bytes);
            }
        }
        for (before, now) in self.uplinks.iter().zip(&after.uplinks) {
            let key = |key: &str| format!("`{key}` of [uplink.{}]", now.name);
            note(key("queue.bytes_max"), before.bytes_max, now.bytes_max, true);
            note(key("packet_max"), before.packet_bytes_max, now.packet_bytes_max, true);
        }
        changes
    }
}
