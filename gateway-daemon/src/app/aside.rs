//! `queue` on the gateway's side: what an uplink has set aside because the cloud will not take it, and what a person wants done with it.

use std::sync::Arc;

use drivers::clock;
use gateway_core::payload;
use gateway_core::tag::{Stamp, WallClock};
use gateway_core::uplink::row::{Blame, Mark, Row, Seq, StoreEvent, StoreOp};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::control::{Peer, Reply};
use super::gateway::Gateway;
use super::known::Known;
use super::near;
use super::picture::words;
use super::snapshot::Count;
use super::survey;
use super::upstream::Upstream;
use super::walltime::WallTimes;

/// Most bytes of a payload that are shown; the rest is only counted.
const SHOWN_BYTES_MAX: usize = 64 << 10;

/// What is wanted of an uplink's queue.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Wanted {
    /// What is set aside.
    List,
    /// One message of it, with its payload.
    Show {
        /// Its number.
        seq: u64,
    },
    /// Messages go back into the queue.
    Send {
        /// Its number; `None` is all of them.
        seq: Option<u64>,
    },
    /// Messages are deleted and counted as dropped.
    Delete {
        /// Its number; `None` is all of them.
        seq: Option<u64>,
    },
}

/// A queue as a person sees it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(default)]
pub struct Queued {
    /// The uplink.
    pub uplink: String,
    /// In memory and on disk, what is set aside included.
    pub queued: Count,
    /// Set aside.
    pub set_aside: Count,
    /// How many messages were sent again or deleted.
    pub done: u64,
    /// What is set aside, oldest first; for [`Wanted::Show`] the one message.
    pub messages: Vec<Message>,
}

/// A message that is set aside.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(default)]
pub struct Message {
    /// Its number in the queue.
    pub seq: u64,
    /// Its topic, or the beginning of a long one.
    pub topic: String,
    /// Bytes it counts for in limits.
    pub bytes: u64,
    /// Readings inside it.
    pub readings: u64,
    /// When it was produced, if the wall time of that boot is known.
    pub at: Option<String>,
    /// `cut`, `alike` or `topic`.
    pub reason: String,
    /// The server that will not take it.
    pub server: String,
    /// What is sent, for [`Wanted::Show`].
    pub payload: Option<Payload>,
}

/// The payload of a message as it would be sent.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(default)]
pub struct Payload {
    /// Its length in bytes.
    pub bytes: u64,
    /// The beginning of it, if it is text.
    pub text: Option<String>,
    /// The beginning of it in hexadecimal, if it is not.
    pub hex: Option<String>,
    /// Whether there is more than is shown.
    pub more: bool,
}

/// Why a message is set aside, for a person.
#[must_use]
pub fn why(blame: Blame) -> &'static str {
    match blame {
        Blame::Cut => {
            "the server ended the connection each time after this message alone was sent, and took others"
        }
        Blame::Alike => {
            "the server has refused messages like it: same topic and size, or larger than all it takes"
        }
        Blame::Topic => {
            "its topic holds control characters or non-characters, for which servers end the connection"
        }
    }
}

/// Carries out what is wanted; the reply may follow when the store has answered.
pub(super) fn answer(
    gateway: &mut Gateway,
    uplink: &str,
    (wanted, by): (Wanted, Peer),
    reply: oneshot::Sender<Reply>,
) {
    let now = clock::now();
    let Some(index) = gateway.upstreams.iter().position(|upstream| upstream.name.as_str() == uplink) else {
        let names = gateway.upstreams.iter().map(|upstream| upstream.name.as_str());
        let sentence = format!("no uplink {uplink:?}; {}", near::instead(uplink, names, "there are"));
        // A client that left does not wait for its answer.
        let _ = reply.send(Reply::Refused(sentence));
        return;
    };
    let upstream = &mut gateway.upstreams[index];
    let (seqs, all) = match wanted {
        Wanted::List => (Vec::new(), true),
        Wanted::Show { seq } => return show(gateway, index, Seq(seq), reply),
        Wanted::Send { seq } | Wanted::Delete { seq } => match seq {
            Some(seq) => (vec![Seq(seq)], false),
            None => (upstream.uplink.queue().aside().map(|mark| mark.seq).collect(), true),
        },
    };
    let mut done = 0;
    for seq in seqs {
        let hit = match wanted {
            Wanted::Send { .. } => upstream.uplink.put_back(now, seq),
            _ => upstream.uplink.delete_aside(now, seq),
        };
        done += u64::from(hit);
        if !hit && !all {
            let _ = reply.send(Reply::Refused(not_there(uplink, seq)));
            return;
        }
    }
    if done > 0 {
        let word = if matches!(wanted, Wanted::Send { .. }) { "sent again" } else { "deleted" };
        let (by, messages) = (by.to_string(), words::counted(done, "message"));
        log::warn!(event = "queue", uplink = uplink, messages = done, by = by.as_str(); "uplink {uplink}: {messages} set aside before: {word} by hand, by {by}");
    }
    let mut queued = of(&gateway.upstreams[index], &gateway.walls);
    queued.done = done;
    if wanted != Wanted::List {
        queued.messages.clear();
    }
    let _ = reply.send(Reply::Queue(Box::new(queued)));
}

fn not_there(uplink: &str, seq: Seq) -> String {
    format!("uplink {uplink}: message {} is not set aside; `queue list {uplink}` shows those that are", seq.0)
}

/// What is set aside in a queue.
fn of(upstream: &Upstream, walls: &WallTimes) -> Queued {
    let queue = upstream.uplink.queue();
    Queued {
        uplink: upstream.name.to_string(),
        queued: survey::count(queue.ledger().kept()),
        set_aside: survey::count(queue.aside_total()),
        done: 0,
        messages: queue.aside().map(|mark| message(mark, walls)).collect(),
    }
}

fn message(mark: &Mark, walls: &WallTimes) -> Message {
    let wall = walls.wall(Stamp { boot: mark.run.boot, at: mark.at });
    Message {
        seq: mark.seq.0,
        topic: mark.topic.to_string(),
        bytes: mark.tally.bytes,
        readings: mark.tally.readings,
        at: wall.map(survey::iso),
        reason: mark.blame.word().to_owned(),
        server: mark.server.to_string(),
        payload: None,
    }
}

/// Reads the message from disk, which this loop does not wait for.
fn show(gateway: &Gateway, index: usize, seq: Seq, reply: oneshot::Sender<Reply>) {
    let upstream = &gateway.upstreams[index];
    let mut queued = of(upstream, &gateway.walls);
    queued.messages.retain(|message| message.seq == seq.0);
    if queued.messages.is_empty() {
        let _ = reply.send(Reply::Refused(not_there(upstream.name.as_str(), seq)));
        return;
    }
    let in_memory = upstream.uplink.queue().row(seq);
    let (store, queue, units) = (Arc::clone(&gateway.store), upstream.queue, gateway.config.message.units);
    let (known, walls) = (gateway.known.clone(), gateway.walls.clone());
    // Bounded by the clients of the control socket: each waits for its answer.
    tokio::spawn(async move {
        let row = match in_memory {
            Some(row) => Ok(row),
            None => {
                let (after, until) = (Seq(seq.0.saturating_sub(1)), seq);
                let op = StoreOp::Fetch { op: 0, after, until, rows_max: 1, bytes_max: 0 };
                match store.apply(queue, op).await {
                    StoreEvent::Fetched { rows, .. } => {
                        rows.into_iter().next().ok_or("it is gone meanwhile".to_owned())
                    }
                    StoreEvent::Failed { fault, .. } => Err(format!("the store cannot read it: {fault}")),
                    other => Err(format!("the store answered something else: {other:?}")),
                }
            }
        };
        let answer =
            match row.and_then(|row| shown(&row, &known, &walls, units).map(|payload| (row, payload))) {
                Ok((row, payload)) => {
                    if let Some(message) = queued.messages.first_mut() {
                        message.topic = row.topic.to_string();
                        message.payload = Some(payload);
                    }
                    Reply::Queue(Box::new(queued))
                }
                Err(sentence) => Reply::Refused(format!("message {}: {sentence}", seq.0)),
            };
        let _ = reply.send(answer);
    });
}

fn shown(row: &Row, known: &Known, walls: &WallTimes, units: bool) -> Result<Payload, String> {
    let body = payload::render_row(row, known, walls, units).map_err(|fault| fault.to_string())?;
    let mut end = body.len().min(SHOWN_BYTES_MAX);
    let text = match std::str::from_utf8(&body) {
        Ok(text) => {
            end = text.floor_char_boundary(end);
            Some(text[..end].to_owned())
        }
        Err(_) => None,
    };
    let hex = if text.is_some() {
        None
    } else {
        Some(body[..end].iter().map(|byte| format!("{byte:02x}")).collect())
    };
    Ok(Payload { bytes: body.len() as u64, text, hex, more: end < body.len() })
}

/// A topic or payload on a terminal: control characters are written as escapes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let hidden = |char: char| {
        char.is_control() || u32::from(char) & 0xFFFE == 0xFFFE || ('\u{FDD0}'..='\u{FDEF}').contains(&char)
    };
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if hidden(char) { out.extend(char.escape_unicode()) } else { out.push(char) }
    }
    out
}

/// Says in the log that a message is set aside, and what to do.
pub(super) fn log_set_aside(uplink: &str, mark: &Mark) {
    let (topic, bytes, server, seq) = (escaped(&mark.topic), mark.tally.bytes, &*mark.server, mark.seq.0);
    log::error!(uplink = uplink, topic = topic.as_str(), bytes = bytes, server = server, reason = mark.blame.word(); "uplink {uplink}: message {seq} on {topic:?} ({bytes} bytes) is set aside, because {}; `gateway-daemon queue show {uplink} {seq}` shows it, `queue send` and `queue delete` end that", why(mark.blame));
}

/// Says in the log that the cloud takes no message of the uplink itself on this topic.
pub(super) fn log_silenced(uplink: &str, topic: &str, server: &str) {
    log::error!(uplink = uplink, topic = topic, server = server, reason = "own-message-refused"; "uplink {uplink}: {server} ends the connection for every message on {topic}, which is left out for an hour; allow the gateway to publish there");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_non_characters_never_reach_a_terminal() {
        assert_eq!(escaped("halle/größe 1"), "halle/größe 1");
        assert_eq!(escaped("x/\u{1}\u{1b}[2J\u{FFFE}"), "x/\\u{1}\\u{1b}[2J\\u{fffe}");
    }
}
