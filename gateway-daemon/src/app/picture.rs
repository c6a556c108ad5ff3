//! A [`Snapshot`] as text for a person: pure functions, used by `status`, `tags` and `demo`.

pub mod table;
pub mod words;

use std::fmt::Write as _;

use self::table::{Align, Cell, Table};
use self::words::{bytes, count, duration, rate, value};
use super::snapshot::{Broker, Bus, Device, Health, Ledger, Link, SetAside, Snapshot, Tag, Uplink};
use super::troubles::{is_well, troubles, verdict};

/// Whether text may carry colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// For pipes and files.
    Plain,
    /// ANSI colours, for terminals.
    Ansi,
}

/// What a piece of text says about the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Nothing in particular.
    Calm,
    /// Secondary.
    Faint,
    /// A heading.
    Bold,
    /// As it should be.
    Good,
    /// Unexpected, and being dealt with.
    Warn,
    /// Wrong.
    Bad,
}

impl Mood {
    /// For a count that should be zero.
    #[must_use]
    pub fn of_alarm(count: u64) -> Self {
        if count > 0 { Self::Bad } else { Self::Calm }
    }
}

impl Ink {
    /// Text in the colour of its mood.
    #[must_use]
    pub fn paint(self, mood: Mood, text: &str) -> String {
        let code = match mood {
            _ if self == Self::Plain => return text.to_owned(),
            Mood::Calm => return text.to_owned(),
            Mood::Faint => "2",
            Mood::Bold => "1",
            Mood::Good => "32",
            Mood::Warn => "33",
            Mood::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Everything about the gateway except the tags.
#[must_use]
pub fn status(snapshot: &Snapshot, ink: Ink) -> String {
    let mut text = verdict_line(snapshot, ink);
    text.push_str(&heading(snapshot, ink));
    text.push_str(&refused_lines(snapshot, ink));
    for (fault, sentence) in &snapshot.faults {
        text.push_str(&format!("{}\n", ink.paint(Mood::Bad, &format!("fault {fault}: {sentence}"))));
    }
    for uplink in &snapshot.uplinks {
        text.push('\n');
        text.push_str(&uplink_lines(uplink, ink));
    }
    if let Some(broker) = &snapshot.broker {
        text.push('\n');
        text.push_str(&broker_lines(broker, ink));
    }
    text.push('\n');
    text.push_str(&store_line(snapshot, ink));
    text.push('\n');
    text.push_str(&buses(&snapshot.buses, ink));
    text.push('\n');
    text.push_str(&devices(&snapshot.devices, ink));
    text
}

/// The tags, all or only those of `only`: each entry a device or `device/tag`.
#[must_use]
pub fn tags(snapshot: &Snapshot, only: &[String], ink: Ink) -> String {
    let wanted = |tag: &&Tag| {
        only.is_empty()
            || only.iter().any(|name| *name == tag.device || *name == format!("{}/{}", tag.device, tag.tag))
    };
    let mut table = Table::new(&[
        ("TAG", Align::Left),
        ("VALUE", Align::Right),
        ("UNIT", Align::Left),
        ("QUALITY", Align::Left),
        ("AGE", Align::Right),
    ]);
    for tag in snapshot.tags.iter().filter(wanted) {
        let good = tag.is_good();
        table.row([
            Cell::new(format!("{}/{}", tag.device, tag.tag)),
            Cell::new(tag.value.as_ref().map_or_else(|| "-".to_owned(), value)),
            Cell::new(tag.unit.clone().unwrap_or_default()),
            Cell::of(
                if good { Mood::Good } else { Mood::Bad },
                if tag.quality.is_empty() { "-" } else { &tag.quality },
            ),
            Cell::new(tag.age_ms.map_or_else(|| "-".to_owned(), duration)),
        ]);
    }
    if table.is_empty() {
        return match only {
            [] => "no tags are configured\n".to_owned(),
            names => format!("no tag is called {}\n", names.join(" or ")),
        };
    }
    table.draw(ink)
}

/// One line that says how it is, for logs and terminals that cannot be drawn on.
#[must_use]
pub fn one_line(snapshot: &Snapshot) -> String {
    let good = snapshot.tags.iter().filter(|tag| tag.is_good()).count();
    let mut line = format!("{} of {} tags good", good, snapshot.tags.len());
    for uplink in &snapshot.uplinks {
        let queued = uplink.ledger.queued();
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "; {} {}: {} readings produced, {} in memory, {} on disk, {} acknowledged, {} dropped",
            uplink.name,
            uplink.link.word(),
            uplink.ledger.produced.readings,
            uplink.ledger.in_memory.readings,
            uplink.ledger.stored.readings,
            uplink.ledger.acknowledged.readings,
            uplink.ledger.dropped_total().readings,
        );
        if uplink.link != Link::Up
            && queued.rows > 0
            && let Some(loss) = &uplink.loss
        {
            // What to do about it is in `status` and in the log.
            let fact = loss.split_once(", ").map_or(loss.as_str(), |(fact, _)| fact);
            let _ = write!(line, " ({fact})");
        }
    }
    line
}

/// How it is, before everything else.
fn verdict_line(snapshot: &Snapshot, ink: Ink) -> String {
    let found = troubles(snapshot);
    let mood = if is_well(&found) { Mood::Good } else { Mood::Bad };
    format!("{}\n", ink.paint(mood, &verdict(&found)))
}

fn heading(snapshot: &Snapshot, ink: Ink) -> String {
    let clock = if snapshot.clock_trusted {
        ink.paint(Mood::Good, "clock set")
    } else {
        ink.paint(Mood::Warn, "clock not set yet: messages carry time since boot")
    };
    format!(
        "{}  version {}, running for {}, {}\n",
        ink.paint(Mood::Bold, &format!("gateway {}", snapshot.gateway)),
        snapshot.version,
        duration(snapshot.uptime_ms),
        clock
    )
}

/// Why the file on disk is not in force, if so.
fn refused_lines(snapshot: &Snapshot, ink: Ink) -> String {
    /// The rest is in the journal.
    const PROBLEMS_MAX: usize = 5;
    let Some(refused) = &snapshot.refused else { return String::new() };
    let since = duration(refused.since_ms);
    let said = format!("the changed configuration was refused {since} ago, the former one is in force:");
    let mut text = format!("{}\n", ink.paint(Mood::Bad, &said));
    for problem in refused.problems.iter().take(PROBLEMS_MAX) {
        text.push_str(&format!("  {problem}\n"));
    }
    let more = refused.problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        text.push_str(&format!("  and {more} more, see the journal\n"));
    }
    text
}

/// Link, queue and ledger of one uplink.
#[must_use]
pub fn uplink_lines(uplink: &Uplink, ink: Ink) -> String {
    let link = match uplink.link {
        Link::Up => ink.paint(Mood::Good, &format!("up for {}", duration(uplink.since_ms))),
        Link::Connecting if uplink.connects == 0 => {
            ink.paint(Mood::Warn, &format!("connecting for {}", duration(uplink.since_ms)))
        }
        Link::Connecting => {
            ink.paint(Mood::Warn, &format!("down for {}, connecting", duration(uplink.since_ms)))
        }
        Link::Stopped => ink.paint(Mood::Faint, "stopped"),
        Link::Waiting => {
            let next =
                uplink.retry_in_ms.map(|ms| format!(", next try in {}", duration(ms))).unwrap_or_default();
            ink.paint(Mood::Bad, &format!("down for {}{next}", duration(uplink.since_ms)))
        }
    };
    let loss = uplink.loss.as_ref().map(|loss| {
        let word = if uplink.link == Link::Up { "last loss" } else { "because" };
        ink.paint(Mood::Faint, &format!("  ({word}: {loss})"))
    });
    let queued = uplink.ledger.queued();
    let share = queued.rows.saturating_mul(100).checked_div(uplink.rows_max).unwrap_or(0);
    let full = if share >= 80 {
        Mood::Bad
    } else if queued.rows > uplink.window {
        Mood::Warn
    } else {
        Mood::Calm
    };
    format!(
        "{}  {}\n  link    {link}{}\n  queue   {}\n  window  {} of {} in flight, {}/s acknowledged\n{}  ledger  {}\n",
        ink.paint(Mood::Bold, &format!("uplink {}", uplink.name)),
        uplink.url,
        loss.unwrap_or_default(),
        ink.paint(
            full,
            &format!(
                "{} messages ({}): {} in memory, {} on disk; {share} % of {}",
                count(queued.rows),
                bytes(queued.bytes),
                count(uplink.ledger.in_memory.rows),
                count(uplink.ledger.stored.rows),
                count(uplink.rows_max),
            )
        ),
        uplink.in_flight,
        uplink.window,
        rate(uplink.acks_per_s),
        down_line(uplink, ink) + &aside_line(uplink, ink),
        ledger(&uplink.ledger, ink),
    )
}

/// What the cloud will not take, if anything.
fn aside_line(uplink: &Uplink, ink: Ink) -> String {
    let SetAside { messages, bytes: size, newest, reason } = &uplink.set_aside;
    if *messages == 0 {
        return String::new();
    }
    let newest = newest.as_ref().map(|newest| format!(", the newest {newest}")).unwrap_or_default();
    let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let text = format!(
        "{} messages, {}{newest}{reason}: `queue list {}`",
        count(*messages),
        bytes(*size),
        uplink.name
    );
    format!("  aside   {}\n", ink.paint(Mood::Bad, &text))
}

/// What came down, if anything did or was refused.
fn down_line(uplink: &Uplink, ink: Ink) -> String {
    if uplink.received == 0 && uplink.refused.is_empty() {
        return String::new();
    }
    let waits = match uplink.receiving {
        0 => String::new(),
        some => format!(", {} wait for the disk", count(some)),
    };
    let refused = match uplink.refused.as_slice() {
        [] => String::new(),
        filters => ink.paint(Mood::Bad, &format!("; the cloud refuses {}", filters.join(", "))),
    };
    format!("  down    {} messages{waits}{refused}\n", count(uplink.received))
}

/// The promise in numbers of readings, with what breaks it.
fn ledger(ledger: &Ledger, ink: Ink) -> String {
    let restored = match ledger.restored.readings {
        0 => String::new(),
        readings => format!(" + {} from before", count(readings)),
    };
    let dropped = ledger.dropped_total();
    let reasons: Vec<String> = ledger
        .dropped
        .iter()
        .filter(|(_, dropped)| dropped.rows > 0)
        .map(|(reason, dropped)| format!("{} {reason}", count(dropped.readings)))
        .collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let verdict = if ledger.balanced() {
        ink.paint(Mood::Good, "balanced")
    } else {
        ink.paint(Mood::Bad, "DOES NOT BALANCE: readings are lost or counted twice")
    };
    format!(
        "{} readings produced{restored} = {} in memory + {} on disk + {} acknowledged + {} dropped{reasons}: {verdict}",
        count(ledger.produced.readings),
        count(ledger.in_memory.readings),
        count(ledger.stored.readings),
        count(ledger.acknowledged.readings),
        ink.paint(if dropped.rows > 0 { Mood::Bad } else { Mood::Calm }, &count(dropped.readings)),
    )
}

/// Listeners, clients and messages of the local broker.
#[must_use]
pub fn broker_lines(broker: &Broker, ink: Ink) -> String {
    let mut text = String::new();
    for listener in &broker.listeners {
        let connections = match listener.connections {
            1 => "1 connection".to_owned(),
            number => format!("{} connections", count(number)),
        };
        let name = ink.paint(Mood::Bold, &format!("listener {}", listener.name));
        let _ = writeln!(text, "{name}  {}: {connections}", listener.url);
    }
    let refused = match broker.logins_refused {
        0 => String::new(),
        refused => ink.paint(Mood::Warn, &format!(", {} log-ins refused", count(refused))),
    };
    let dropped = Mood::of_alarm(broker.dropped);
    let _ = writeln!(
        text,
        "{}  {} clients connected, {} sessions, {} subscriptions{refused}\n  waiting {} messages for clients, {} of them on disk; {} retained\n  \
         traffic {}/s in, {}/s out; {} received and {} sent since the start, {}",
        ink.paint(Mood::Bold, "broker"),
        count(broker.clients),
        count(broker.sessions),
        count(broker.subscriptions),
        count(broker.waiting),
        count(broker.stored),
        count(broker.retained),
        rate(broker.received_per_s),
        rate(broker.sent_per_s),
        count(broker.received),
        count(broker.sent),
        ink.paint(dropped, &format!("{} dropped", count(broker.dropped))),
    );
    text
}

fn store_line(snapshot: &Snapshot, ink: Ink) -> String {
    let store = &snapshot.store;
    let fault = match &store.fault {
        Some(fault) => ink.paint(Mood::Bad, &format!("  FAULT: {fault}")),
        None => String::new(),
    };
    let aside = match store.moved_aside {
        0 => String::new(),
        files => {
            let words = format!(
                "\n  {} damaged or foreign files moved aside since the start, {} messages lost with them; they lie beside the database",
                count(files),
                count(store.lost_rows)
            );
            ink.paint(Mood::Bad, &words)
        }
    };
    format!(
        "{}  {}: {} of {}, {} written since the start{fault}{aside}\n",
        ink.paint(Mood::Bold, "store"),
        store.path,
        bytes(store.file_bytes),
        bytes(store.file_bytes_max),
        bytes(store.written_bytes),
    )
}

/// The buses as a table.
#[must_use]
pub fn buses(buses: &[Bus], ink: Ink) -> String {
    let mut table = Table::new(&[
        ("BUS", Align::Left),
        ("LINE", Align::Left),
        ("STATE", Align::Left),
        ("POLLS/S", Align::Right),
        ("BUSY", Align::Right),
        ("ERRORS", Align::Right),
        ("OVERRUNS", Align::Right),
        ("", Align::Left),
    ]);
    for bus in buses {
        table.row([
            Cell::new(&bus.name),
            Cell::new(&bus.medium),
            if bus.up { Cell::of(Mood::Good, "up") } else { Cell::of(Mood::Bad, "down") },
            Cell::new(rate(bus.polls_per_s)),
            Cell::new(format!("{:.0} %", bus.busy * 100.0)),
            Cell::alarm(bus.errors),
            Cell::alarm(bus.overruns),
            Cell::of(Mood::Faint, bus.why.as_deref().unwrap_or_default()),
        ]);
    }
    table.draw(ink)
}

/// The devices as a table.
#[must_use]
pub fn devices(devices: &[Device], ink: Ink) -> String {
    let mut table = Table::new(&[
        ("DEVICE", Align::Left),
        ("BUS", Align::Left),
        ("UNIT", Align::Right),
        ("HEALTH", Align::Left),
        ("POLLS/S", Align::Right),
        ("REQUESTS", Align::Right),
        ("ERRORS", Align::Right),
        ("", Align::Left),
    ]);
    for device in devices {
        let mood = match device.health {
            Health::Unknown => Mood::Faint,
            Health::Good => Mood::Good,
            Health::Failing => Mood::Warn,
            Health::Dead => Mood::Bad,
        };
        let why = device.why.as_ref().map(|why| format!("last: {why}")).unwrap_or_default();
        table.row([
            Cell::new(&device.name),
            Cell::new(&device.bus),
            Cell::new(device.unit.to_string()),
            Cell::of(mood, device.health.word()),
            Cell::new(rate(device.polls_per_s)),
            Cell::new(count(device.requests)),
            Cell::alarm(device.errors),
            Cell::of(Mood::Faint, &why),
        ]);
    }
    table.draw(ink)
}

#[cfg(test)]
pub(crate) mod tests;
