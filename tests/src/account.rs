//! Settling the account of a site: what the device has answered against what the office has received.
//!
//! Every answer of a [`crate::counter_device::CounterDevice`] is a number of its own, ascending over all restarts of the gateway. So a
//! number that is missing is a poll that was lost, and the order of numbers is the order of polls.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use gateway_daemon::app::snapshot::{Snapshot, Uplink};

use crate::office::Arrival;

/// In how many ascending streams messages may arrive: with `live-first` one of fresh messages and one of the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `fifo`: one stream.
    Strict,
    /// `live-first`: each lane in itself.
    PerLane,
}

/// The only uplink of a picture.
#[must_use]
pub fn uplink(picture: &Snapshot) -> &Uplink {
    &picture.uplinks[0]
}

/// Every number in a message, in the order of arrival, repetitions included.
#[must_use]
pub fn numbers(arrivals: &[Arrival]) -> Vec<u64> {
    let values = arrivals.iter().filter_map(|arrival| arrival.json.get("values")?.as_object());
    values.flat_map(|values| values.values().filter_map(serde_json::Value::as_u64)).collect()
}

/// Which numbers from 1 to `answered` are not there.
#[must_use]
pub fn missing(arrivals: &[Arrival], answered: u32) -> BTreeSet<u64> {
    let there: BTreeSet<u64> = numbers(arrivals).into_iter().collect();
    (1..=u64::from(answered)).filter(|number| !there.contains(number)).collect()
}

/// Checks what must hold at every moment, whatever has happened: each message has one identity, and order is kept.
///
/// # Errors
/// What does not hold.
pub fn check(arrivals: &[Arrival], order: Order) -> Result<()> {
    let mut identities: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    let mut contents: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
    let mut first = Vec::new();
    for arrival in arrivals {
        let Some(identity) = arrival.number() else { continue };
        let inside = numbers(std::slice::from_ref(arrival));
        for number in &inside {
            let known = identities.entry(*number).or_insert_with(|| {
                first.push(*number);
                identity.clone()
            });
            ensure!(*known == identity, "{number} came as {known:?} and again as {identity:?}");
        }
        let known = contents.entry(identity.clone()).or_insert_with(|| inside.clone());
        ensure!(*known == inside, "{identity:?} came with {known:?} and again with {inside:?}");
    }
    let streams = streams(&first);
    let most = if order == Order::Strict { 1 } else { 2 };
    ensure!(streams <= most, "{streams} ascending streams instead of {most}: {first:?}");
    Ok(())
}

/// The fewest ascending streams into which `numbers` can be taken apart (patience sorting: each number goes onto the stream whose end
/// is the highest below it).
fn streams(numbers: &[u64]) -> usize {
    let mut ends: BTreeSet<u64> = BTreeSet::new();
    for number in numbers {
        if let Some(end) = ends.range(..number).next_back().copied() {
            ends.remove(&end);
        }
        ends.insert(*number);
    }
    ends.len()
}

/// Checks the equation of promise 1.
///
/// # Errors
/// Both sides of it.
pub fn balanced(picture: &Snapshot) -> Result<()> {
    let ledger = &uplink(picture).ledger;
    ensure!(ledger.balanced(), "the ledger does not balance: {ledger:?}");
    Ok(())
}

/// A last will, a birth or a clean stop, in the order of arrival: its state and, of a birth, the reason of the last loss.
#[must_use]
pub fn states(arrivals: &[Arrival]) -> Vec<(String, Option<String>)> {
    let text = |value: Option<&serde_json::Value>| value?.as_str().map(str::to_owned);
    let of = |arrival: &Arrival| {
        let state = text(arrival.json.get("state"))?;
        let reason = arrival.json.get("last_loss").and_then(|loss| text(loss.get("reason")));
        Some((state, reason))
    };
    // Buses and devices have states, too.
    let of_uplinks = arrivals.iter().filter(|arrival| !arrival.topic.contains("/health/"));
    of_uplinks.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(seq: u64, number: u64) -> Arrival {
        let json = format!(r#"{{"boot":"b-1","seq":{seq},"values":{{"count0":{number}}}}}"#);
        Arrival { topic: "gw/meter/1".into(), json: serde_json::from_str(&json).unwrap() }
    }

    fn verdict(pairs: &[(u64, u64)], order: Order) -> bool {
        let arrivals: Vec<_> = pairs.iter().map(|(seq, number)| arrival(*seq, *number)).collect();
        check(&arrivals, order).is_ok()
    }

    #[test]
    fn order_is_checked_per_stream() {
        assert!(verdict(&[(1, 1), (2, 2), (3, 3)], Order::Strict));
        assert!(!verdict(&[(1, 1), (3, 3), (2, 2)], Order::Strict));
        assert!(verdict(&[(1, 1), (9, 9), (2, 2), (10, 10), (3, 3)], Order::PerLane));
        assert!(!verdict(&[(3, 3), (2, 2), (1, 1)], Order::PerLane));
    }

    #[test]
    fn a_repetition_is_allowed_and_a_second_identity_is_not() {
        assert!(verdict(&[(1, 1), (2, 2), (1, 1), (2, 2)], Order::Strict));
        assert!(!verdict(&[(1, 1), (2, 1)], Order::Strict));
        assert!(!verdict(&[(1, 1), (1, 2)], Order::Strict));
    }

    #[test]
    fn what_is_missing_is_found_at_both_ends() {
        let arrivals = [arrival(1, 2), arrival(2, 4)];
        assert_eq!(missing(&arrivals, 5), [1, 3, 5].into());
    }
}
