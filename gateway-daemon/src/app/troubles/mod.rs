//! What is wrong with the gateway: the one list that `status`, the topics of health, the status message of an uplink and the console go by.
//!
//! Pure: a [`Snapshot`] in, [`Trouble`]s out, the most important one first. A fact that is new to the gateway becomes a field of the snapshot, and the trouble
//! that follows from it a line here. What follows from something else that is wrong is left out: the devices of a bus that is not open, the tags of a device
//! that does not answer. A gateway that has just started, and a device that was not asked yet, are no trouble.
//!
//! Sentences hold no ages and no counts that go on, so that one is told again only when what it says has changed; the age is in [`Trouble::since_ms`].
//! Bounded by the configuration, and by three names in each sentence.

mod field;
mod network;
#[cfg(test)]
mod tests;

pub use field::{FAILING_MS, silent_device};

use std::fmt;

use super::picture::words;
use super::snapshot::{Certificate, Snapshot, StoreFaultKind};

/// Most names in one sentence.
const NAMES_MAX: usize = 3;
/// For so long after the start nobody expects the time to be known: a network, then a time server.
const CLOCK_GRACE_MS: u64 = 120_000;

/// What a trouble is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The gateway itself.
    Gateway,
    /// Its configuration.
    Config,
    /// The machine below: the name of the fault.
    Machine(String),
    /// The database.
    Store,
    /// The clock.
    Clock,
    /// A certificate that this gateway shows: who does, an uplink or a listener, and its name.
    Certificate(String, String),
    /// The broker for local clients.
    Broker,
    /// A bus.
    Bus(String),
    /// A device.
    Device(String),
    /// The connection of an uplink.
    Link(String),
    /// An uplink: its queue, and what its cloud takes.
    Uplink(String),
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody has to act, or something does not work.
    Wrong,
    /// Worth knowing: all may be well.
    Notable,
}

/// One thing that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it is about.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// For how long, ms, where that is known.
    pub since_ms: Option<u64>,
    /// What is wrong, as a whole sentence that names its subject.
    pub sentence: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl fmt::Display for Subject {
    /// A key that no other subject has: `bus/rs485-1`, `store`. Faults of the machine keep their names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Config => f.write_str("config"),
            Self::Machine(fault) => f.write_str(fault),
            Self::Store => f.write_str("store"),
            Self::Clock => f.write_str("clock"),
            Self::Certificate(room, name) => write!(f, "certificate/{room}/{name}"),
            Self::Broker => f.write_str("broker"),
            Self::Bus(name) => write!(f, "bus/{name}"),
            Self::Device(name) => write!(f, "device/{name}"),
            Self::Link(name) => write!(f, "link/{name}"),
            Self::Uplink(name) => write!(f, "uplink/{name}"),
        }
    }
}

impl Trouble {
    fn wrong(subject: Subject, sentence: impl Into<String>) -> Self {
        let (severity, sentence) = (Severity::Wrong, sentence.into());
        Self { subject, severity, since_ms: None, sentence, remedy: None }
    }

    fn notable(subject: Subject, sentence: impl Into<String>) -> Self {
        Self { severity: Severity::Notable, ..Self::wrong(subject, sentence) }
    }

    fn since(self, ms: u64) -> Self {
        Self { since_ms: Some(ms), ..self }
    }

    fn remedy(self, what: impl Into<String>) -> Self {
        Self { remedy: Some(what.into()), ..self }
    }

    /// What is wrong and what to do, without its age: the same as long as nothing changes.
    #[must_use]
    pub fn lasting(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}; {remedy}", self.sentence),
            None => self.sentence.clone(),
        }
    }
}

impl fmt::Display for Trouble {
    /// What is wrong, for how long, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        if let Some(ms) = self.since_ms {
            write!(f, " (for {})", words::duration(ms))?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// Everything that is not well, the most important first.
#[must_use]
pub fn troubles(snapshot: &Snapshot) -> Vec<Trouble> {
    let mut found = Vec::new();
    found.extend(snapshot.uplinks.iter().filter_map(network::lost_count));
    store(snapshot, &mut found);
    machine(snapshot, &mut found);
    config(snapshot, &mut found);
    field::buses(snapshot, &mut found);
    field::devices(snapshot, &mut found);
    for uplink in &snapshot.uplinks {
        network::uplink(uplink, &mut found);
    }
    field::tags(snapshot, &mut found);
    found.extend(clock(snapshot));
    certificates(snapshot, &mut found);
    broker(snapshot, &mut found);
    // The order within one severity is the one above.
    found.sort_by_key(|trouble| trouble.severity);
    found
}

/// Whether nothing is wrong.
#[must_use]
pub fn is_well(troubles: &[Trouble]) -> bool {
    troubles.iter().all(|trouble| trouble.severity != Severity::Wrong)
}

/// How the gateway is, in one line.
#[must_use]
pub fn verdict(troubles: &[Trouble]) -> String {
    let Some(first) = troubles.first() else { return "all is well".to_owned() };
    let others = troubles.iter().skip(1).filter(|other| other.severity == first.severity).count();
    match (first.severity, others) {
        (Severity::Wrong, 0) => format!("not well: {first}"),
        (Severity::Wrong, 1) => format!("not well: {first}; and 1 other thing is wrong"),
        (Severity::Wrong, others) => format!("not well: {first}; and {others} other things are wrong"),
        (Severity::Notable, 0) => format!("all is well; worth knowing: {first}"),
        (Severity::Notable, others) => format!("all is well; worth knowing: {first}; and {others} more"),
    }
}

fn store(snapshot: &Snapshot, found: &mut Vec<Trouble>) {
    /// From here on the file that holds the queues is nearly full, percent. It never becomes smaller, so what counts is what the queues hold.
    const NEARLY_FULL: u64 = 80;
    let store = &snapshot.store;
    if let Some(fault) = &store.fault {
        let sentence = format!("the store takes no messages: {fault}");
        let remedy = if store.fault_kind == Some(StoreFaultKind::Forbidden) {
            "until it does they are kept in memory only: give the folder to the user of the gateway, or name another place with `path` in [store]"
        } else {
            "until it does they are kept in memory only: look at the card or disk and at its free space"
        };
        found.push(Trouble::wrong(Subject::Store, sentence).remedy(remedy));
    }
    let held = snapshot.uplinks.iter().map(|uplink| uplink.ledger.stored.bytes);
    let held = held.fold(0, u64::saturating_add);
    if share(held, store.file_bytes_max) >= NEARLY_FULL {
        let sentence = format!("the database is more than {NEARLY_FULL} % full of messages that wait");
        found.push(
            Trouble::wrong(Subject::Store, sentence)
                .remedy("bring the uplinks up, or raise `store.file_max`"),
        );
    }
    if let Some(notice) = &store.notice {
        let remedy = "look at the card or disk, and who may delete or write its files";
        found.push(Trouble::notable(Subject::Store, notice.as_str()).remedy(remedy));
    } else if store.moved_aside > 0 {
        let sentence = "a damaged or foreign database was moved aside since the start";
        let remedy = "it lies beside the database; the counts of `status` say what was lost with it";
        found.push(Trouble::notable(Subject::Store, sentence).remedy(remedy));
    }
}

fn machine(snapshot: &Snapshot, found: &mut Vec<Trouble>) {
    let faults = snapshot.faults.iter();
    found.extend(
        faults.map(|(name, text)| {
            Trouble::wrong(Subject::Machine(name.clone()), format!("fault {name}: {text}"))
        }),
    );
}

fn config(snapshot: &Snapshot, found: &mut Vec<Trouble>) {
    let Some(refused) = &snapshot.refused else { return };
    let first = refused.problems.first().map(|problem| format!(": {problem}")).unwrap_or_default();
    let more = match refused.problems.len() {
        0 | 1 => String::new(),
        problems => format!(" (and {} more)", problems - 1),
    };
    let sentence = format!("the changed configuration is refused, the former one is in force{first}{more}");
    let remedy = "mend the file, then: systemctl reload tidegate";
    found.push(Trouble::wrong(Subject::Config, sentence).since(refused.since_ms).remedy(remedy));
}

/// What is not well with the clock. That it is not set yet is none soon after a start.
pub(super) fn clock(snapshot: &Snapshot) -> Option<Trouble> {
    if snapshot.clock_trusted {
        let sentence =
            "the time is that of the system's clock, which nobody has checked (trust_clock = \"system\")";
        let remedy = "give the gateway a time server, or a clock chip with trust_clock = \"rtc\"";
        let unchecked = snapshot.clock.source.as_deref() == Some("system");
        return unchecked.then(|| Trouble::notable(Subject::Clock, sentence).remedy(remedy));
    }
    if snapshot.uptime_ms < CLOCK_GRACE_MS {
        return None;
    }
    let why = snapshot.clock.doubt.as_ref().map(|doubt| format!(": {doubt}")).unwrap_or_default();
    let sentence = format!("the time is not known, messages carry the time since boot{why}");
    let remedy = snapshot.clock.remedy.as_deref();
    let remedy = remedy.unwrap_or("give the gateway a time server that it can reach (NTP)");
    Some(Trouble::notable(Subject::Clock, sentence).since(snapshot.uptime_ms).remedy(remedy))
}

fn certificates(snapshot: &Snapshot, found: &mut Vec<Trouble>) {
    for certificate in &snapshot.certificates {
        let Certificate { room, name, key, path, remark: Some(remark), urgent, .. } = certificate else {
            continue;
        };
        let (fact, remedy) = remark.split_once(": ").map_or((remark.as_str(), None), |(f, r)| (f, Some(r)));
        let subject = Subject::Certificate(room.clone(), name.clone());
        let sentence = format!("{room} {name}: `{key}` = {path} {fact}");
        let trouble =
            if *urgent { Trouble::wrong(subject, sentence) } else { Trouble::notable(subject, sentence) };
        found.push(Trouble { remedy: remedy.map(str::to_owned), ..trouble });
    }
}

fn broker(snapshot: &Snapshot, found: &mut Vec<Trouble>) {
    if snapshot.broker.as_ref().is_some_and(|broker| broker.dropped > 0) {
        let sentence = "messages for local clients were dropped since the start";
        let remedy = "`status --metrics` says why; see the limits of `[broker]`";
        found.push(Trouble::notable(Subject::Broker, sentence).remedy(remedy));
    }
}

/// How much of `max` is used, percent; without a limit none.
fn share(used: u64, max: u64) -> u64 {
    used.saturating_mul(100).checked_div(max).unwrap_or(0)
}

/// Up to [`NAMES_MAX`] of them, and how many more.
fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.into_iter().collect();
    let named = all.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMES_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// A sentence of the form "what is wrong; what to do" in its two parts. What stands in brackets belongs together.
fn parts(text: &str) -> (&str, Option<&str>) {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => {
                if let Some(remedy) = text[at..].strip_prefix("; ") {
                    return (&text[..at], Some(remedy));
                }
            }
            _ => {}
        }
    }
    (text, None)
}
