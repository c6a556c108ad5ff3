//! What the uplink says about itself: birth, last will, clean stop and the ledger, as JSON.
//!
//! ```json
//! {"state":"online","version":"0.1.0","boot":"00000000deadbeef-1500","config":"9f2c","connects":2,"next_seq":17,
//!  "faults":{"data-partition":"..."},"set_aside":{"rows":1,"readings":0,"bytes":140080},
//!  "last_loss":{"reason":"ack-timeout","text":"..."},"last_failure":{"reason":"tcp-refused","text":"..."}}
//! {"state":"offline","boot":"00000000deadbeef-1500"}
//! {"state":"stopped","boot":"00000000deadbeef-1500","next_seq":17}
//! {"boot":"00000000deadbeef-1500","at_ms":61500,"next_seq":17,"restored":{"rows":0,"readings":0,"bytes":0},"produced":{..},
//!  "in_memory":{..},"stored":{..},"acknowledged":{..},"dropped":{"drop-oldest":{..}}}
//! ```
//! The birth is published again when the configuration or the faults change while connected; `faults` is there only while there are any, and so is
//! `set_aside`, what the cloud will not take: it is part of `stored`, and stands in the ledger message, too.
//! `boot` is the run of the daemon, the same text as in messages of readings. `dropped` lists only reasons that have occurred.
//! `trust_clock` is there only where it is not `ntp`: times may come from a clock that no time server has set.
//! `last_loss` is why the last connection that was up ended, and `last_failure` why the last attempt since then failed, if one did; both
//! of this run only.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::loss::Loss;
use super::queue::{DropReason, Ledger};
use super::row::{Seq, Tally};
use crate::settings::TrustClock;
use crate::tag::{BootNs, RunId};

/// What the birth message says about this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Version of the program.
    pub version: Arc<str>,
    /// This run of the daemon.
    pub run: RunId,
    /// Hash of the configuration in use, as text.
    pub config: Arc<str>,
    /// What is wrong with the machine below: a sentence for a person by the name of the fault.
    pub faults: Arc<BTreeMap<String, String>>,
    /// Which clock readings get their time from.
    pub trust_clock: TrustClock,
}

#[derive(Serialize)]
struct Status<'a> {
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    boot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_clock: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connects: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    faults: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_loss: Option<LastLoss>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<LastLoss>,
}

/// What went wrong before a birth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Losses<'a> {
    /// Why the last connection that was up ended.
    pub(super) down: Option<&'a Loss>,
    /// The last loss of all, failed attempts included.
    pub(super) last: Option<&'a Loss>,
}

#[derive(Serialize)]
struct LastLoss {
    reason: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Count {
    rows: u64,
    readings: u64,
    bytes: u64,
}

impl From<Tally> for Count {
    fn from(tally: Tally) -> Self {
        Self { rows: tally.rows, readings: tally.readings, bytes: tally.bytes }
    }
}

#[derive(Serialize)]
struct LedgerMessage {
    boot: String,
    at_ms: u64,
    next_seq: u64,
    restored: Count,
    produced: Count,
    in_memory: Count,
    stored: Count,
    acknowledged: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside: Option<Count>,
    dropped: BTreeMap<&'static str, Count>,
}

impl From<&Loss> for LastLoss {
    fn from(loss: &Loss) -> Self {
        Self { reason: loss.word(), text: loss.to_string() }
    }
}

pub(super) fn birth(
    identity: &Identity,
    connects: u64,
    next: Seq,
    aside: Tally,
    losses: Losses<'_>,
) -> Vec<u8> {
    json(&Status {
        state: "online",
        version: Some(&identity.version),
        boot: identity.run.to_string(),
        config: Some(&identity.config),
        trust_clock: Some(identity.trust_clock)
            .filter(|clock| *clock != TrustClock::Ntp)
            .map(TrustClock::word),
        connects: Some(connects),
        next_seq: Some(next.0),
        faults: Some(&*identity.faults).filter(|faults| !faults.is_empty()),
        set_aside: some(aside),
        last_loss: losses.down.map(LastLoss::from),
        last_failure: losses.last.filter(|last| losses.down != Some(last)).map(LastLoss::from),
    })
}

pub(super) fn will(identity: &Identity) -> Vec<u8> {
    json(&short("offline", identity, None))
}

pub(super) fn stopped(identity: &Identity, next: Seq) -> Vec<u8> {
    json(&short("stopped", identity, Some(next.0)))
}

pub(super) fn ledger(identity: &Identity, now: BootNs, next: Seq, aside: Tally, ledger: &Ledger) -> Vec<u8> {
    let dropped = DropReason::ALL.iter().map(|reason| (reason.word(), ledger.dropped(*reason)));
    json(&LedgerMessage {
        boot: identity.run.to_string(),
        at_ms: now.ms(),
        next_seq: next.0,
        restored: ledger.restored.into(),
        produced: ledger.produced.into(),
        in_memory: ledger.in_memory.into(),
        stored: ledger.stored.into(),
        acknowledged: ledger.acknowledged.into(),
        set_aside: some(aside),
        dropped: dropped
            .filter(|(_, count)| *count != Tally::default())
            .map(|(word, count)| (word, count.into()))
            .collect(),
    })
}

/// Nothing is not worth a member.
fn some(aside: Tally) -> Option<Count> {
    (aside.rows > 0).then(|| aside.into())
}

fn short<'a>(state: &'a str, identity: &Identity, next_seq: Option<u64>) -> Status<'a> {
    Status {
        state,
        version: None,
        boot: identity.run.to_string(),
        config: None,
        trust_clock: None,
        connects: None,
        next_seq,
        faults: None,
        set_aside: None,
        last_loss: None,
        last_failure: None,
    }
}

fn json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("structs of numbers and texts always have a JSON form")
}
