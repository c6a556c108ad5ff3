//! What a seed means: settings of the gateway, its world, and how often which things go wrong.

use std::time::Duration;

use gateway_core::settings::Durability;
use gateway_core::tag::Name;
use gateway_core::uplink::queue::Memory;
use gateway_core::uplink::row::Qos;
use gateway_core::uplink::settings::{Drain, Limits, Settings, WhenFull};

use super::chance::Chance;

/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const S: u64 = 1000 * MS;
/// Nanoseconds of a minute.
pub const MIN: u64 = 60 * S;
/// Nanoseconds of an hour.
pub const HOUR: u64 = 60 * MIN;

/// Everything a run takes from its seed before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Settings of the uplink.
    pub settings: Settings,
    /// Bounds of memory.
    pub memory: Memory,
    /// Mean time between messages, ns.
    pub produce_every: u64,
    /// One message in so many begins a burst.
    pub burst_one_in: u64,
    /// One message in so many is an alarm.
    pub alarm_one_in: u64,
    /// One message in so many is larger than the link's packet limit.
    pub oversize_one_in: u64,
    /// Mean time between faults, ns.
    pub fault_every: u64,
    /// One way through the network when all is well, ns.
    pub delay: u64,
    /// Time of one message on the narrowest line, ns.
    pub service: u64,
    /// Rows hold records of readings, so that they can be thinned out.
    pub records: bool,
    /// Bytes the disk has room for.
    pub disk_bytes: u64,
    /// One message in so many is one that the cloud will not take: it ends the connection when it reads it.
    pub hostile_one_in: u64,
    /// The line breaks by itself with one message in so many.
    pub cut_one_in: u64,
    /// Some messages have publishers that are held up until they are safe.
    pub publishers: bool,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let chance = &mut Chance::new(seed);
        let when_full = match chance.of(0..=5) {
            0 | 1 => WhenFull::DropNewest,
            2 => WhenFull::ThinOut { bucket: Duration::from_secs(60) },
            _ => WhenFull::DropOldest,
        };
        let rows_max = chance.pick(&[60, 300, 3000, 100_000]);
        let limits = Limits {
            rows_max,
            bytes_max: chance.pick(&[rows_max * 60, rows_max * 200, 64 << 20]),
            age_max: chance.one_in(3).then(|| Duration::from_secs(chance.of(600..=20_000))),
            when_full,
        };
        let settings = Settings {
            name: Name::new("cloud").expect("a valid name"),
            forward: Vec::new(),
            accept: Vec::new(),
            qos: if chance.one_in(12) { Qos::AtMostOnce } else { Qos::AtLeastOnce },
            window: chance.pick(&[1, 2, 5, 20, 20, 100]),
            drain: chance.pick(&[Drain::LiveFirst, Drain::LiveFirst, Drain::Fifo]),
            limits,
            commit_interval: Duration::from_millis(chance.pick(&[200, 1000, 1000, 5000])),
            durability: if chance.one_in(4) { Durability::Strict } else { Durability::Interval },
            ack_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(chance.pick(&[30, 120])),
            status_topic: "gateway/status".into(),
            ledger_topic: "gateway/ledger".into(),
            ledger_every: Duration::from_secs(60),
        };
        let memory = Memory { rows_max: chance.pick(&[50, 500, 5000]), bytes_max: 4 << 20 };
        Self {
            settings,
            memory,
            produce_every: chance.of(2000..=20_000) * MS,
            burst_one_in: chance.pick(&[20, 100, 1000]),
            alarm_one_in: chance.pick(&[3, 50]),
            oversize_one_in: chance.pick(&[200, 100_000]),
            fault_every: chance.pick(&[5 * MIN, 20 * MIN, HOUR]),
            delay: chance.of(2..=120) * MS,
            service: chance.of(100..=10_000) * 1000,
            records: matches!(when_full, WhenFull::ThinOut { .. }),
            disk_bytes: chance.pick(&[u64::MAX, rows_max * 80]),
            hostile_one_in: u64::MAX,
            cut_one_in: u64::MAX,
            publishers: seed.is_multiple_of(2),
        }
    }

    /// The plan of a seed, bent towards one promise.
    #[must_use]
    pub fn bent(variant: Variant, seed: u64) -> Self {
        let mut plan = Self::of(seed);
        match variant {
            Variant::Any => {}
            Variant::Calm => {
                plan.be_healthy();
                plan.fault_every = u64::MAX;
            }
            Variant::Strict => {
                plan.settings.durability = Durability::Strict;
                plan.fault_every = 5 * MIN;
            }
            Variant::Tight => {
                plan.settings.limits.rows_max = 60;
                plan.fault_every = 5 * MIN;
                plan.oversize_one_in = 50;
            }
            Variant::Live => {
                plan.be_healthy();
                plan.settings.drain = Drain::LiveFirst;
                plan.fault_every = HOUR;
                plan.settings.window = 5;
                plan.delay = 100 * MS;
                plan.service = MS;
            }
            Variant::Hostile => {
                plan.settings.qos = Qos::AtLeastOnce;
                let rates = [u64::MAX, 200, 30, 10];
                plan.cut_one_in = rates[usize::try_from(seed % 4).unwrap_or(0)];
                plan.hostile_one_in = 60;
                plan.settings.limits.rows_max = plan.settings.limits.rows_max.max(3000);
                plan.settings.limits.bytes_max = 64 << 20;
            }
            Variant::Flaky => {
                plan.settings.qos = Qos::AtLeastOnce;
                plan.cut_one_in = [2, 3, 4, 6, 10, 30, 100][usize::try_from(seed % 7).unwrap_or(0)];
            }
            Variant::Fifo => plan.settings.drain = Drain::Fifo,
            Variant::Thin => {
                plan.records = true;
                plan.settings.limits.rows_max = 300;
                plan.settings.limits.when_full = WhenFull::ThinOut { bucket: Duration::from_secs(300) };
            }
        }
        plan
    }

    /// Ordinary settings, a large disk, nothing oversize.
    fn be_healthy(&mut self) {
        self.settings.durability = Durability::Interval;
        self.settings.qos = Qos::AtLeastOnce;
        self.settings.commit_interval = Duration::from_secs(1);
        self.settings.window = 20;
        self.burst_one_in = 1000;
        self.oversize_one_in = u64::MAX;
        self.disk_bytes = u64::MAX;
        self.memory = Memory::default();
        self.settings.limits.rows_max = 100_000;
        self.settings.limits.bytes_max = 64 << 20;
    }
}

/// Which promise a plan is bent towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// None: everything is drawn from the seed.
    Any,
    /// Nothing goes wrong.
    Calm,
    /// Rows are on disk before they are sent, and much goes wrong.
    Strict,
    /// A queue of 60 rows.
    Tight,
    /// Live first on a line that is fast enough, with outages.
    Live,
    /// Strictly in order.
    Fifo,
    /// The cloud ends the connection for some messages, on lines of all kinds.
    Hostile,
    /// The line breaks by itself, at all rates.
    Flaky,
    /// Records that are thinned out.
    Thin,
}

impl Variant {
    /// All of them with their names on the command line.
    pub const ALL: [(&'static str, Self); 9] = [
        ("any", Self::Any),
        ("calm", Self::Calm),
        ("strict", Self::Strict),
        ("tight", Self::Tight),
        ("live", Self::Live),
        ("fifo", Self::Fifo),
        ("thin", Self::Thin),
        ("hostile", Self::Hostile),
        ("flaky", Self::Flaky),
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, variant)| *variant == self).map_or("any", |(name, _)| name)
    }

    /// The variant of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, variant)| *variant)
    }
}
