//! A [`Snapshot`] as text for a person: pure functions, used by `status`, `tags` and `demo`.

pub mod paper;
pub mod table;
pub mod verdict;
pub mod within;
pub mod words;

use std::fmt::Write as _;

pub use self::paper::{Ink, Paper};
use self::table::{Align, Cell, Table};
use self::words::{bytes, count, counted, duration, rate, value};
use super::snapshot::{Broker, Bus, Device, Health, Ledger, Link, SetAside, Snapshot, Tag, Uplink};
use super::troubles;

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

/// Everything about the gateway except the tags.
#[must_use]
pub fn status(snapshot: &Snapshot, paper: impl Into<Paper>) -> String {
    let paper = paper.into();
    let ink = paper.ink;
    let mut text = paper.wrap(&verdict::lines(snapshot, ink));
    text.push_str(&paper.wrap(&head(snapshot, ink)));
    for uplink in &snapshot.uplinks {
        text.push('\n');
        text.push_str(&paper.wrap(&uplink_lines(uplink, ink)));
    }
    if let Some(broker) = &snapshot.broker {
        text.push('\n');
        text.push_str(&paper.wrap(&broker_lines(broker, ink)));
    }
    text.push('\n');
    text.push_str(&paper.wrap(&store_line(snapshot, ink)));
    text.push('\n');
    text.push_str(&buses(&snapshot.buses, paper));
    text.push('\n');
    text.push_str(&devices(&snapshot.devices, paper));
    text
}

/// How the gateway itself is.
fn head(snapshot: &Snapshot, ink: Ink) -> String {
    let mut text = heading(snapshot, ink);
    text.push_str(&refused_lines(snapshot, ink));
    for (fault, sentence) in &snapshot.faults {
        text.push_str(&format!("{}\n", ink.paint(Mood::Bad, &format!("fault {fault}: {sentence}"))));
    }
    text
}

/// Tags as a table.
#[must_use]
pub fn tags(tags: &[&Tag], paper: impl Into<Paper>) -> String {
    if tags.is_empty() {
        return "no tags are configured\n".to_owned();
    }
    tag_table(tags).draw(paper)
}

fn tag_table(tags: &[&Tag]) -> Table<5> {
    let mut table = Table::new(&[
        ("TAG", Align::Left),
        ("VALUE", Align::Right),
        ("UNIT", Align::Left),
        ("QUALITY", Align::Left),
        ("AGE", Align::Right),
    ])
    .spare(&["AGE", "QUALITY", "UNIT"]);
    for tag in tags {
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
    table
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

fn heading(snapshot: &Snapshot, ink: Ink) -> String {
    format!(
        "{}  version {}, running for {}, {}\n",
        ink.paint(Mood::Bold, &format!("gateway {}", snapshot.gateway)),
        snapshot.version,
        duration(snapshot.uptime_ms),
        clock(snapshot, ink)
    )
}

/// Where the time comes from. Why it is not known, and what to do, stands here until the verdict says it: soon after a start nobody expects it to be known.
fn clock(snapshot: &Snapshot, ink: Ink) -> String {
    match (snapshot.clock_trusted, snapshot.clock.source.as_deref()) {
        (true, Some("system")) => {
            ink.paint(Mood::Warn, "clock as the system has it, which nobody has checked (trust_clock)")
        }
        (true, Some("rtc")) => ink.paint(Mood::Good, "clock set by the clock chip"),
        (true, _) => ink.paint(Mood::Good, "clock set"),
        (false, _) => {
            let said = ink.paint(Mood::Warn, "clock not set yet: messages carry time since boot");
            if troubles::clock(snapshot).is_some() {
                return said;
            }
            let why = snapshot.clock.doubt.iter().map(|doubt| format!("\n  {doubt}"));
            let what = snapshot.clock.remedy.iter().map(|remedy| format!(":\n  {remedy}"));
            std::iter::once(said).chain(why).chain(what).collect()
        }
    }
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

/// How a link is, since when, and why.
#[must_use]
pub fn link_words(uplink: &Uplink, ink: Ink) -> String {
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
    link + &loss.unwrap_or_default()
}

/// Link, queue and ledger of one uplink.
#[must_use]
pub fn uplink_lines(uplink: &Uplink, ink: Ink) -> String {
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
        "{}  {}\n  link    {}\n  queue   {}\n  window  {} of {} in flight, {}/s acknowledged\n{}  ledger  {}\n",
        ink.paint(Mood::Bold, &format!("uplink {}", uplink.name)),
        uplink.url,
        link_words(uplink, ink),
        ink.paint(
            full,
            &format!(
                "{} ({}): {} in memory, {} on disk; {share} % of {}",
                counted(queued.rows, "message"),
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
        "{}, {}{newest}{reason}: `queue list {}`",
        counted(*messages, "message"),
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
    format!("  down    {}{waits}{refused}\n", counted(uplink.received, "message"))
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
    let notice = store.notice.as_ref().map(|notice| ink.paint(Mood::Bad, &format!("\n  {notice}")));
    let notice = notice.unwrap_or_default();
    format!(
        "{}  {}: {} of {}, {} written since the start{fault}{aside}{notice}\n",
        ink.paint(Mood::Bold, "store"),
        store.path,
        bytes(store.file_bytes),
        bytes(store.file_bytes_max),
        bytes(store.written_bytes),
    )
}

/// The buses as a table.
#[must_use]
pub fn buses(buses: &[Bus], paper: impl Into<Paper>) -> String {
    bus_table(&buses.iter().collect::<Vec<_>>()).draw(paper)
}

fn bus_table(buses: &[&Bus]) -> Table<8> {
    let mut table = Table::new(&[
        ("BUS", Align::Left),
        ("LINE", Align::Left),
        ("STATE", Align::Left),
        ("POLLS/S", Align::Right),
        ("BUSY", Align::Right),
        ("ERRORS", Align::Right),
        ("OVERRUNS", Align::Right),
        ("", Align::Left),
    ])
    .spare(&["OVERRUNS", "BUSY", "POLLS/S", "ERRORS", "LINE"]);
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
    table
}

/// The devices as a table.
#[must_use]
pub fn devices(devices: &[Device], paper: impl Into<Paper>) -> String {
    let paper = paper.into();
    let mut text = device_table(&devices.iter().collect::<Vec<_>>()).draw(paper);
    // What is wrong stands in the verdict; this is how they are asked meanwhile.
    for device in devices {
        for note in &device.notes {
            text.push_str(&paper.wrap(&format!("device {}: {note}\n", device.name)));
        }
    }
    text
}

fn device_table(devices: &[&Device]) -> Table<8> {
    let mut table = Table::new(&[
        ("DEVICE", Align::Left),
        ("BUS", Align::Left),
        ("UNIT", Align::Right),
        ("HEALTH", Align::Left),
        ("POLLS/S", Align::Right),
        ("REQUESTS", Align::Right),
        ("ERRORS", Align::Right),
        ("", Align::Left),
    ])
    .spare(&["REQUESTS", "POLLS/S", "UNIT", "BUS", "ERRORS"]);
    for device in devices {
        let mood = match device.health {
            Health::Unknown => Mood::Faint,
            Health::Good => Mood::Good,
            Health::Failing => Mood::Warn,
            Health::Dead | Health::Down => Mood::Bad,
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
    table
}

#[cfg(test)]
pub(crate) mod tests;
