//! `queue` seen from a terminal.

use gateway_core::uplink::row::Blame;

use super::aside::{self, Message, Payload, Queued, Wanted};
use super::client::{exchange, socket};
use super::control::{Ask, Reply};
use super::picture::words::{bytes, count};
use super::{say, terminal};
use crate::cli::{self, QueueTask, exit};

/// `queue`: the exit code.
#[must_use]
pub(super) fn queue(args: &cli::Queue) -> u8 {
    let (uplink, wanted, json, reach) = match &args.task {
        QueueTask::List(of) => (&of.uplink, Wanted::List, of.json, &of.reach),
        QueueTask::Show(one) => (&one.uplink, Wanted::Show { seq: one.seq }, one.json, &one.reach),
        QueueTask::Send(some) => (&some.uplink, Wanted::Send { seq: some.seq }, some.json, &some.reach),
        QueueTask::Delete(some) => (&some.uplink, Wanted::Delete { seq: some.seq }, some.json, &some.reach),
    };
    let socket = match socket(reach) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    let ask = Ask::Queue { uplink: uplink.clone(), wanted };
    let reply = match exchange(&socket, &[ask]) {
        Ok(replies) => replies.into_iter().next(),
        Err(code) => return code,
    };
    match reply {
        Some(Reply::Queue(queued)) if json => say::json(&serde_json::json!(*queued)),
        // A payload stays as it is.
        Some(Reply::Queue(queued)) if matches!(wanted, Wanted::Show { .. }) => {
            say::payload(&text(wanted, &queued))
        }
        Some(Reply::Queue(queued)) => say::text(&terminal::paper().wrap(&(text(wanted, &queued) + "\n"))),
        Some(Reply::Refused(why)) => {
            say::error(why);
            return exit::NO;
        }
        _ => {
            say::error("the gateway gave an answer to another request");
            return exit::IO;
        }
    }
    exit::OK
}

fn text(wanted: Wanted, queued: &Queued) -> String {
    match wanted {
        Wanted::List => list(queued),
        Wanted::Show { .. } => queued.messages.first().map(show).unwrap_or_default(),
        Wanted::Send { .. } => format!("{} back in the queue of {}", messages(queued.done), queued.uplink),
        Wanted::Delete { .. } => {
            format!("{} deleted and counted as dropped: refused-by-cloud", messages(queued.done))
        }
    }
}

fn messages(number: u64) -> String {
    if number == 1 { "1 message".to_owned() } else { format!("{} messages", count(number)) }
}

fn list(queued: &Queued) -> String {
    let Queued { uplink, queued: all, set_aside, .. } = queued;
    let mut lines = vec![format!(
        "uplink {uplink}: {} queued ({}), {} of them set aside ({})",
        messages(all.rows),
        bytes(all.bytes),
        count(set_aside.rows),
        bytes(set_aside.bytes)
    )];
    for message in &queued.messages {
        let Message { seq, topic, reason, server, .. } = message;
        let (size, at) = (bytes(message.bytes), message.at.as_deref().unwrap_or("time not known"));
        lines.push(format!("{seq:>10}  {at}  {size:>9}  {reason:<5}  {server}  {}", aside::escaped(topic)));
    }
    lines.join("\n")
}

fn show(message: &Message) -> String {
    let reason = Blame::from_word(&message.reason).map(aside::why).unwrap_or(&message.reason);
    let mut lines = vec![
        format!("message {}", message.seq),
        format!("  topic     {}", aside::escaped(&message.topic)),
        format!("  produced  {}", message.at.as_deref().unwrap_or("time not known")),
        format!("  size      {} in the queue, {} readings", bytes(message.bytes), message.readings),
        format!("  server    {}", message.server),
        format!("  because   {reason}"),
    ];
    if let Some(Payload { bytes: size, text, hex, more }) = &message.payload {
        let rest = if *more { ", of which the beginning is" } else { "" };
        lines.push(format!("  payload   {size} bytes{rest}:"));
        let body =
            text.as_deref().map(aside::escaped).or_else(|| hex.as_ref().map(|hex| format!("hex {hex}")));
        lines.push(body.unwrap_or_default());
    }
    lines.join("\n")
}
