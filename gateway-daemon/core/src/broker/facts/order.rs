//! In which order QoS 2 messages came that an earlier run had promised and not yet given to uplinks.
//!
//! Their facts are found in the order in which the store wrote them first: by turns, within a turn by their keys, whose packet identifier is little
//! endian, and under an identifier that was used before in the place of then. None of that is the order of the messages. That is in the
//! messages themselves: no two of one boot have the same time (it counts nanoseconds, and the broker sees to it). The format of the fact is as
//! it always was, so an older version reads it.
//!
//! Boots have no order of their own: those before this one count in the order of the youngest fact of each. Facts of a version that gave
//! messages the same time keep, where times are equal, the order of their identifiers.

use std::collections::BTreeMap;

use super::wire::Reader;
use super::{Damaged, HOLDS, received_key};
use crate::broker::change::{FactKey, FactKind, Found};
use crate::tag::{BootId, BootNs};

/// Place of a message: older boots first, then by time, then by identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::broker) struct Rank {
    boot: usize,
    at: BootNs,
    packet: u16,
}

/// Places of all messages that were found.
#[derive(Debug, Default)]
pub(in crate::broker) struct Ranks(BTreeMap<FactKey, Rank>);

impl Ranks {
    /// The place of the message of a client's packet identifier.
    pub(in crate::broker) fn of(&self, client: &str, packet: u16) -> Rank {
        let known = self.0.get(&received_key(client, packet)).copied().unwrap_or_default();
        Rank { packet, ..known }
    }
}

/// Finds the places. `boot` is this boot, which is the youngest.
pub(in crate::broker) fn ranks(found: &Found, boot: BootId) -> Ranks {
    let held = || {
        let received = found.facts.iter().filter(|(key, _)| key.kind == FactKind::Received);
        received.filter_map(|(key, value)| Some((key, came(value).ok()?)))
    };
    let mut boots: Vec<BootId> = Vec::new();
    for (_, (of, _)) in held() {
        boots.retain(|known| *known != of);
        boots.push(of);
    }
    boots.retain(|known| *known != boot);
    boots.push(boot);
    let place = |of: BootId| boots.iter().position(|known| *known == of).unwrap_or_default();
    Ranks(held().map(|(key, (of, at))| (key.clone(), Rank { boot: place(of), at, packet: 0 })).collect())
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
