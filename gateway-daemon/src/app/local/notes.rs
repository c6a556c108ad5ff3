//! Notes of the broker as lines of the log. They are limited and counted where they are made, so the journal's own limit does not concern them.

use gateway_core::broker::{Event, Note};

use crate::status::journal::LIMITED;

/// Writes one line.
pub(super) fn write(note: &Note) {
    // Told by who carries out the command, with who gave it.
    if matches!(note.event, Event::SessionDropped { .. }) {
        return;
    }
    let level = if note.event.is_usual() { log::Level::Info } else { log::Level::Warn };
    let who = &note.who;
    let user = who.user.as_ref().map_or("", |user| user.as_str());
    let client = who.client.as_ref().map_or("", |client| client.as_str());
    let peer = who.peer.as_ref().map_or("", |peer| peer.as_str());
    let listener = who.listener.as_ref().map_or("", |name| name.as_str());
    let reason = note.event.kind();
    if let Event::More(_) = note.event {
        log::log!(target: LIMITED, level, reason; "{note}");
    } else {
        log::log!(target: LIMITED, level, user, client, peer, listener, reason; "{note}");
    }
}
