//! In which order QoS 2 messages came that an earlier run had promised and not yet given to uplinks.
//!
//! Their facts are found in the order in which the store wrote them first: by turns, within a turn by their keys, whose packet identifier is little
//! endian, and under an identifier that was used before in the place of then. None of that is the order of the messages. That is in the
//! messages themselves: no two of one boot have the same time (it counts nanoseconds, and the broker sees to it). The format of the fact is as
//! it always was, so an older version reads it.
//!
//! Boots have no order of their own: those before this one count in the order of the youngest fact of each. Facts of a version that gave
//! messages the same time keep, where times are equal, the order of their identifiers.
//!
//! Times of earlier boots mean nothing in this one. So each message gets a time of this boot, those of earlier boots its first nanoseconds in their order,
//! and is written again with it, in one turn that is not later than anything else that comes to disk. Then all that is on disk is of one boot,
//! and has its order in itself, in whatever order it is found; boots are put in order only in what an earlier version wrote.

use std::collections::BTreeMap;

use super::wire::Reader;
use super::{Damaged, HOLDS, received_key};
use crate::broker::change::{FactKey, FactKind, Found};
use crate::tag::{BootId, BootNs};

/// When all messages that were found came, no two at the same time.
#[derive(Debug, Default)]
pub(in crate::broker) struct Arrivals(BTreeMap<FactKey, BootNs>);

impl Arrivals {
    /// When the message of a client's packet identifier came, as a time of this boot.
    pub(in crate::broker) fn of(&self, client: &str, packet: u16) -> BootNs {
        self.0.get(&received_key(client, packet)).copied().unwrap_or_default()
    }
}

/// Finds the times. `boot` is this boot, which is the youngest.
pub(in crate::broker) fn arrivals(found: &Found, boot: BootId) -> Arrivals {
    let received = found.facts.iter().filter(|(key, _)| key.kind == FactKind::Received);
    let held: Vec<_> = received.filter_map(|(key, value)| Some((key, came(value).ok()?))).collect();
    let mut boots: Vec<BootId> = Vec::new();
    for (_, (of, _)) in &held {
        boots.retain(|known| known != of);
        boots.push(*of);
    }
    boots.retain(|known| *known != boot);
    let mut ranked: Vec<_> = held
        .into_iter()
        .map(|(key, (of, at))| {
            let earlier = boots.iter().position(|known| *known == of);
            let place = earlier.unwrap_or(boots.len());
            let at_least = if earlier.is_some() { BootNs(0) } else { at };
            ((place, at, packet(key)), key, at_least)
        })
        .collect();
    ranked.sort_by_key(|(rank, ..)| *rank);
    // A message of an earlier boot is read with time 0. None is given that, so each of them counts as moved and is written again.
    let mut next = BootNs(1);
    let times = ranked.into_iter().map(|(_, key, at_least)| {
        let at = next.max(at_least);
        next = BootNs(at.0.saturating_add(1));
        (key.clone(), at)
    });
    Arrivals(times.collect())
}

/// The packet identifier at the end of a key.
fn packet(key: &FactKey) -> u16 {
    key.key.last_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// Boot and time of a message that is held.
fn came(value: &[u8]) -> Result<(BootId, BootNs), Damaged> {
    let mut reader = Reader(value);
    if reader.u8()? != HOLDS {
        return Err(Damaged);
    }
    // Format and flags of the message.
    reader.u16()?;
    Ok((BootId(reader.u64()?), BootNs(reader.u64()?)))
}
