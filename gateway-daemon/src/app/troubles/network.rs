//! What is wrong with uplinks and their queues.

use super::{Subject, Trouble, parts, share, some};
use crate::app::snapshot::{Link, Uplink};

/// A first connection may take so long before anybody wonders, ms.
const CONNECT_GRACE_MS: u64 = 60_000;
/// From here on a queue is nearly full, percent.
const NEARLY_FULL: u64 = 80;

/// The one promise that nothing may break.
pub(super) fn lost_count(uplink: &Uplink) -> Option<Trouble> {
    if uplink.ledger.balanced() {
        return None;
    }
    let sentence =
        format!("uplink {}: its ledger does not balance, readings are lost or counted twice", uplink.name);
    let remedy = "this is a fault of the program: please report it with the output of `status --json`";
    Some(Trouble::wrong(Subject::Uplink(uplink.name.clone()), sentence).remedy(remedy))
}

/// Everything else, in the order of its importance.
pub(super) fn uplink(uplink: &Uplink, found: &mut Vec<Trouble>) {
    let name = &uplink.name;
    let subject = || Subject::Uplink(name.clone());
    if let Some(dropping) = &uplink.dropping {
        let sentence = format!("uplink {name} drops messages ({})", dropping.reason);
        let remedy = "bring the uplink up, or give its queue more room: the log says which limit it is";
        found.push(Trouble::wrong(subject(), sentence).since(dropping.since_ms).remedy(remedy));
    }
    found.extend(link(uplink));
    let (stored, queued) = (uplink.ledger.queued(), share(uplink.ledger.queued().rows, uplink.rows_max));
    if queued.max(share(stored.bytes, uplink.bytes_max)) >= NEARLY_FULL && uplink.dropping.is_none() {
        let sentence = format!("the queue of uplink {name} is more than {NEARLY_FULL} % full");
        let remedy = "bring the uplink up before it drops messages, or give its queue more room";
        found.push(Trouble::wrong(subject(), sentence).remedy(remedy));
    }
    if uplink.set_aside.messages > 0 {
        let newest = uplink
            .set_aside
            .newest
            .as_ref()
            .map(|newest| format!(", the newest {newest}"))
            .unwrap_or_default();
        let sentence =
            format!("uplink {name}: the cloud will not take some messages, they are set aside{newest}");
        let remedy =
            format!("`gateway-daemon queue list {name}` shows them, and says how to send or delete them");
        found.push(Trouble::wrong(subject(), sentence).remedy(remedy));
    }
    if !uplink.refused.is_empty() {
        let filters = some(uplink.refused.iter().map(String::as_str));
        let sentence = format!("uplink {name}: the cloud refuses to send {filters}");
        let remedy = "check the access rules of the cloud, and `accept`";
        found.push(Trouble::wrong(subject(), sentence).remedy(remedy));
    }
    if uplink.ledger.dropped_total().rows > 0 && uplink.dropping.is_none() {
        let reasons = uplink.ledger.dropped.iter().filter(|(_, count)| count.rows > 0);
        let reasons = some(reasons.map(|(reason, _)| reason.as_str()));
        let sentence = format!("uplink {name} has dropped messages since the start ({reasons})");
        found.push(Trouble::notable(subject(), sentence));
    }
}

/// A link that is not up. One that has just begun to connect is no trouble yet.
fn link(uplink: &Uplink) -> Option<Trouble> {
    let fresh = uplink.loss.is_none() && uplink.connects == 0 && uplink.since_ms < CONNECT_GRACE_MS;
    if matches!(uplink.link, Link::Up | Link::Stopped) || fresh {
        return None;
    }
    let (why, remedy) = uplink.loss.as_deref().map_or(("no answer yet", None), parts);
    let sentence = format!("uplink {} is down: {why}", uplink.name);
    let remedy = remedy.unwrap_or("readings wait in its queue until it is up");
    Some(Trouble::wrong(Subject::Uplink(uplink.name.clone()), sentence).since(uplink.since_ms).remedy(remedy))
}
