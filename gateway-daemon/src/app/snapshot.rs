//! What is the case: one plain struct that `status`, `tags` and `demo` draw, and that the control socket sends as JSON.
//!
//! Times are ages and rates, never clock readings, so that a snapshot means the same on both ends of the socket. Every list is
//! in the order of the configuration. A reader accepts fields it does not know and fills in those it misses: the
//! command and the running gateway may be of different versions.

mod kinds;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use kinds::{BusKind, Health, StoreFaultKind};

/// The whole gateway at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// The gateway's id.
    pub gateway: String,
    /// Version of the running daemon.
    pub version: String,
    /// The run, as payloads print it: `<boot>-<start ms>`.
    pub boot: String,
    /// Time since the daemon started, ms.
    pub uptime_ms: u64,
    /// Hash of the configuration in force, as in birth messages.
    pub config: String,
    /// Changed configurations that were put in force since the start.
    pub reloads: u64,
    /// Changed configurations that were refused since the start.
    pub refusals: u64,
    /// Set while the file on disk is another one, which was refused.
    pub refused: Option<Refused>,
    /// What is wrong with the machine below: a sentence by the name of the fault.
    pub faults: BTreeMap<String, String>,
    /// Whether wall time is known; if not, messages carry only time since boot.
    pub clock_trusted: bool,
    /// Which clock it comes from, or why from none.
    pub clock: Clock,
    /// Certificates that this gateway shows to servers and to clients.
    pub certificates: Vec<Certificate>,
    /// Every bus.
    pub buses: Vec<Bus>,
    /// Every device.
    pub devices: Vec<Device>,
    /// Every tag.
    pub tags: Vec<Tag>,
    /// Every uplink with its queue.
    pub uplinks: Vec<Uplink>,
    /// The broker for local clients, if there is one.
    pub broker: Option<Broker>,
    /// The database.
    pub store: Store,
}

/// Where wall time comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// `trust_clock` of the configuration: `ntp`, `rtc` or `system`.
    pub trust: String,
    /// The clock that gave it in this run: `ntp`, `rtc` or `system`.
    pub source: Option<String>,
    /// Why no clock is believed at the moment.
    pub doubt: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
}

/// A certificate that this gateway shows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// Who shows it: `uplink` or `listener`.
    pub room: String,
    /// The name of the one who does.
    pub name: String,
    /// The key of the configuration: `client_cert` or `cert`.
    pub key: String,
    /// Its file.
    pub path: String,
    /// The day on which it ends, the first of its chain to do so.
    pub ends: String,
    /// Seconds until it ends, negative since it has; none while wall time is not known.
    pub left_s: Option<i64>,
    /// What is to be told of it, behind the name of the file: it ends soon, has ended, or begins later.
    pub remark: Option<String>,
    /// Whether somebody has to act now.
    pub urgent: bool,
}

/// A changed configuration that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// How long ago it was refused, ms.
    pub since_ms: u64,
    /// What is wrong with it, each with its place in the file.
    pub problems: Vec<String>,
}

/// One bus.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bus {
    /// Its name.
    pub name: String,
    /// What it is, for a person: `modbus-rtu /dev/ttyUSB0 19200 8E1`.
    pub medium: String,
    /// What kind it is.
    pub kind: BusKind,
    /// Its port, or HOST:PORT; empty for a simulated one.
    pub place: String,
    /// Whether its port or connection is open.
    pub up: bool,
    /// Whether no try to open it has ended yet: it has just started.
    pub untried: bool,
    /// Whether its connection has ended and is being opened again, and nothing has answered since; in a moment it is up or down.
    pub reopening: bool,
    /// How long it has been so, ms.
    pub since_ms: u64,
    /// Why it is not, or was not the last time.
    pub why: Option<String>,
    /// Requests answered per second, lately.
    pub polls_per_s: f64,
    /// Share of time in which the line was busy, lately, 0.0 to 1.0.
    pub busy: f64,
    /// Requests sent since the start.
    pub requests: u64,
    /// Requests answered since the start, exceptions included.
    pub answers: u64,
    /// Requests without a proper answer since the start.
    pub errors: u64,
    /// Poll cycles skipped because the cycle before them was not done.
    pub overruns: u64,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Name of its bus.
    pub bus: String,
    /// Its address on the bus.
    pub unit: u8,
    /// How many tags it has.
    pub tags: u64,
    /// How it is.
    pub health: Health,
    /// How long it has been so, ms; while it fails, the time since its last answer; while it is down, as its bus.
    pub since_ms: u64,
    /// The last thing that went wrong, as a reason word; kept after it recovered.
    pub why: Option<String>,
    /// What is wrong with it at present, in sentences whose subject it is, as in the log.
    pub wrong: Vec<String>,
    /// What is not wrong and worth knowing, in such sentences.
    pub notes: Vec<String>,
    /// Requests answered per second, lately.
    pub polls_per_s: f64,
    /// Requests sent since the start.
    pub requests: u64,
    /// Requests without a proper answer since the start, exceptions included.
    pub errors: u64,
    /// Whether it has answered since the start, exceptions of its own included.
    pub answered: bool,
    /// Whether it is back for less than 30 s, and requests that failed when it went away were not asked again yet: what they say of it may be over.
    pub unproven: bool,
}

/// One tag.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tag {
    /// Name of its device.
    pub device: String,
    /// Its name within the device.
    pub tag: String,
    /// The value, if its quality is good: a boolean, a number or a text.
    pub value: Option<serde_json::Value>,
    /// Engineering unit, if it has one.
    pub unit: Option<String>,
    /// `good`, or the reason why there is no value.
    pub quality: String,
    /// Time since it was sampled, ms; none before the first poll.
    pub age_ms: Option<u64>,
}

impl Tag {
    /// Whether the value can be used.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.quality == "good"
    }
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Between two tries.
    #[default]
    Waiting,
    /// A connection is being made.
    Connecting,
    /// Connected, and the cloud has said so.
    Up,
    /// Stopped on purpose.
    Stopped,
}

impl Link {
    /// The word in JSON and on the terminal.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Stopped => "stopped",
        }
    }
}

/// One uplink.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Where it goes, without secrets.
    pub url: String,
    /// How the link is.
    pub link: Link,
    /// How long it has been so, ms.
    pub since_ms: u64,
    /// Time until the next try, ms, while waiting.
    pub retry_in_ms: Option<u64>,
    /// Why the last connection ended or failed.
    pub loss: Option<String>,
    /// The same in one word, as in the birth message.
    pub reason: Option<String>,
    /// Times the link came up since the start.
    pub connects: u64,
    /// Messages sent and not yet acknowledged.
    pub in_flight: u64,
    /// Most messages in flight.
    pub window: u64,
    /// Messages acknowledged since the start, those of the uplink itself included.
    pub acks: u64,
    /// Messages acknowledged per second, lately.
    pub acks_per_s: f64,
    /// Messages of the cloud that entered the local broker.
    pub received: u64,
    /// Messages of the cloud that wait for the local broker or its disk.
    pub receiving: u64,
    /// Own messages that the cloud sent back and that were left out.
    pub echoes: u64,
    /// Filters of `accept` that the cloud refuses.
    pub refused: Vec<String>,
    /// Most rows in the queue.
    pub rows_max: u64,
    /// Most bytes in the queue.
    pub bytes_max: u64,
    /// Set while the queue drops messages because of its limits.
    pub dropping: Option<Dropping>,
    /// What the cloud will not take.
    pub set_aside: SetAside,
    /// Where every message is.
    pub ledger: Ledger,
}

/// A queue that drops messages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropping {
    /// How long it has done so, ms.
    pub since_ms: u64,
    /// Why, as the ledger calls it.
    pub reason: String,
}

/// Messages that the cloud will not take: they stay stored and are not sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SetAside {
    /// How many.
    pub messages: u64,
    /// Bytes they count for.
    pub bytes: u64,
    /// Topic of the newest and the server that will not take it.
    pub newest: Option<String>,
    /// Why the newest is set aside: `cut`, `alike` or `topic`.
    pub reason: Option<String>,
}

/// A number of messages, of the readings in them, and of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// Messages.
    pub rows: u64,
    /// Readings inside them.
    pub readings: u64,
    /// Bytes they count for in limits.
    pub bytes: u64,
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            readings: self.readings.saturating_add(other.readings),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// The promise "kept or counted" in numbers: `restored + produced = in memory + stored + acknowledged + dropped`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Found in the store when the daemon started.
    pub restored: Count,
    /// Put into the queue by this run.
    pub produced: Count,
    /// Only in memory.
    pub in_memory: Count,
    /// On disk.
    pub stored: Count,
    /// Acknowledged by the cloud.
    pub acknowledged: Count,
    /// Dropped, by reason.
    pub dropped: BTreeMap<String, Count>,
}

impl Ledger {
    /// Everything that was dropped, for whatever reason.
    #[must_use]
    pub fn dropped_total(&self) -> Count {
        self.dropped.values().fold(Count::default(), |sum, count| sum.plus(*count))
    }

    /// What the queue holds, in memory and on disk.
    #[must_use]
    pub fn queued(&self) -> Count {
        self.in_memory.plus(self.stored)
    }

    /// Whether the equation holds, in messages and in readings.
    #[must_use]
    pub fn balanced(&self) -> bool {
        let had = self.restored.plus(self.produced);
        let has = self.queued().plus(self.acknowledged).plus(self.dropped_total());
        had.rows == has.rows && had.readings == has.readings
    }
}

/// The broker for local clients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Broker {
    /// Every door.
    pub listeners: Vec<Listener>,
    /// Clients that are connected.
    pub clients: u64,
    /// Sessions of clients, connected or not.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Messages that wait for clients, on disk or in memory.
    pub waiting: u64,
    /// Those of them that survive a power cut.
    pub stored: u64,
    /// Messages of clients since the start.
    pub received: u64,
    /// Messages of clients per second, lately.
    pub received_per_s: f64,
    /// Messages to clients since the start.
    pub sent: u64,
    /// Messages to clients per second, lately.
    pub sent_per_s: f64,
    /// Messages for clients that were dropped, for whatever reason.
    pub dropped: u64,
    /// Log-ins that were refused.
    pub logins_refused: u64,
}

/// Sessions of local clients, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionPage {
    /// Some of them.
    pub sessions: Vec<Session>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// The session of a local client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// Its number, of this run of the daemon.
    pub number: u32,
    /// The client id.
    pub client: String,
    /// The user it belongs to, if there is one.
    pub user: Option<String>,
    /// Whether its client is connected.
    pub connected: bool,
    /// How long it has been connected or away, running time of the daemon, ms.
    pub since_ms: u64,
    /// Its subscriptions.
    pub subscriptions: u64,
    /// Messages of QoS 1 and 2 that wait for it or are in flight.
    pub messages: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// After so much running time it ends: from now on while its client is away, from the end of the connection otherwise, ms; `null` is never.
    pub expires_in_ms: Option<u64>,
}

/// One door for local clients.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens, for a person: `mqtts://0.0.0.0:8883`.
    pub url: String,
    /// Address and port.
    pub address: String,
    /// Connections through it.
    pub connections: u64,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// Where it is.
    pub path: String,
    /// What is wrong with it, if anything.
    pub fault: Option<String>,
    /// What kind of fault this is.
    pub fault_kind: Option<StoreFaultKind>,
    /// Size of the database with its log, bytes.
    pub file_bytes: u64,
    /// Largest allowed size, bytes.
    pub file_bytes_max: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Database files that could not be used and were moved aside since the start.
    pub moved_aside: u64,
    /// Messages lost with them.
    pub lost_rows: u64,
    /// What was last found wrong with its files since the start, as a sentence: what was saved, what is lost, where the damaged file is.
    pub notice: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: u64) -> Count {
        Count { rows, readings: rows * 3, bytes: rows * 100 }
    }

    fn ledger() -> Ledger {
        Ledger {
            restored: rows(5),
            produced: rows(10),
            in_memory: rows(1),
            stored: rows(2),
            acknowledged: rows(8),
            dropped: [("full-oldest".to_owned(), rows(3)), ("age".to_owned(), rows(1))].into(),
        }
    }

    #[test]
    fn a_ledger_balances_when_everything_is_somewhere() {
        assert!(ledger().balanced());
        assert!(Ledger::default().balanced());
    }

    #[test]
    fn a_ledger_with_a_lost_or_doubled_message_does_not_balance() {
        for change in [
            |ledger: &mut Ledger| ledger.acknowledged.rows += 1,
            |ledger: &mut Ledger| ledger.stored.rows -= 1,
            |ledger: &mut Ledger| ledger.in_memory.readings += 1,
            |ledger: &mut Ledger| ledger.dropped.clear(),
            |ledger: &mut Ledger| ledger.produced.rows += 1,
        ] {
            let mut ledger = ledger();
            change(&mut ledger);
            assert!(!ledger.balanced(), "{ledger:?}");
        }
    }

    #[test]
    fn a_snapshot_survives_the_socket() {
        let snapshot = Snapshot {
            tags: vec![Tag { value: Some(230.1.into()), quality: "good".into(), ..Tag::default() }],
            uplinks: vec![Uplink { link: Link::Up, ledger: ledger(), ..Uplink::default() }],
            ..Snapshot::default()
        };
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }

    #[test]
    fn a_snapshot_of_another_version_is_still_read() {
        let snapshot: Snapshot = serde_json::from_str(r#"{"gateway":"a","moon":{"phase":1}}"#).unwrap();
        assert_eq!(snapshot, Snapshot { gateway: "a".into(), ..Snapshot::default() });
    }
}
