//! The demo as text: pure functions.

use std::time::Duration;

use super::arrivals::Arrivals;
use crate::app::picture::words::{count, duration};
use crate::app::picture::{self, Ink, Mood};
use crate::app::snapshot::{Broker, Ledger, Snapshot};

/// Queue depths remembered for the curve: a minute at two pictures per second.
pub const DEPTHS_MAX: usize = 60;

/// Everything that a picture of the demo shows.
#[derive(Debug)]
pub struct View<'a> {
    /// The gateway.
    pub snapshot: &'a Snapshot,
    /// The pretend cloud.
    pub arrivals: &'a Arrivals,
    /// What a person should know about the moment.
    pub caption: &'a str,
    /// Time since the start.
    pub elapsed: Duration,
    /// Messages in the queue, lately, oldest first.
    pub depths: &'a [u64],
}

/// The whole picture.
#[must_use]
pub fn draw(view: &View<'_>, ink: Ink) -> String {
    let mut text = format!(
        "{}  {}\n{}\n\n",
        ink.paint(Mood::Bold, "TIDEGATE DEMO"),
        ink.paint(Mood::Faint, "simulated devices -> gateway -> a pretend cloud"),
        ink.paint(Mood::Bold, view.caption),
    );
    for uplink in &view.snapshot.uplinks {
        text.push_str(&picture::uplink_lines(uplink, ink));
    }
    text.push_str(&format!("  depth   {}\n", curve(view.depths)));
    text.push_str(&cloud_line(view.arrivals, ink));
    if let Some(broker) = &view.snapshot.broker {
        text.push_str(&local_line(broker, ink));
    }
    text.push('\n');
    text.push_str(&picture::tags(view.snapshot, &[], ink));
    text.push('\n');
    text.push_str(&picture::devices(&view.snapshot.devices, ink));
    text.push('\n');
    text.push_str(&picture::buses(&view.snapshot.buses, ink));
    text
}

/// One line per second for pipes.
#[must_use]
pub fn line(view: &View<'_>) -> String {
    format!(
        "{:>4} s  {}; {} readings arrived, {} duplicates\n",
        view.elapsed.as_secs(),
        picture::one_line(view.snapshot),
        view.arrivals.readings,
        view.arrivals.duplicates,
    )
}

fn cloud_line(arrivals: &Arrivals, ink: Ink) -> String {
    let holes = match arrivals.holes() {
        0 => "no gaps".to_owned(),
        holes => ink.paint(Mood::Warn, &format!("{} messages still to come", count(holes))),
    };
    let others = match arrivals.others {
        0 => String::new(),
        others => format!(", {} messages of local clients", count(others)),
    };
    format!(
        "{}  {} readings in {} messages arrived, {} repeated, {holes}{others}\n",
        ink.paint(Mood::Bold, "pretend cloud"),
        count(arrivals.readings),
        count(arrivals.messages),
        count(arrivals.duplicates),
    )
}

/// Who is connected, and how anybody can be.
fn local_line(broker: &Broker, ink: Ink) -> String {
    let clients = match broker.clients {
        0 => ink.paint(Mood::Faint, "no client yet"),
        1 => "1 client".to_owned(),
        clients => format!("{} clients", count(clients)),
    };
    let traffic = format!("{} messages received and {} sent", count(broker.received), count(broker.sent));
    let invitation = invitation(broker).map(|words| format!("  {}", ink.paint(Mood::Faint, &words)));
    let invitation = invitation.unwrap_or_default();
    format!("{}  {clients} connected, {traffic}{invitation}\n", ink.paint(Mood::Bold, "local broker"))
}

/// How to watch the readings with a client of one's own; `None` without a door.
#[must_use]
pub fn invitation(broker: &Broker) -> Option<String> {
    let port = broker.listeners.first()?.address.rsplit_once(':')?.1;
    Some(format!("watch it: mosquitto_sub -p {port} -t '#' -v"))
}

/// Depths as a curve of blocks, scaled to the highest.
fn curve(depths: &[u64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // Below this many messages everything is a flat line: a healthy queue is not an alpine panorama.
    const FLAT: u64 = 8;
    let highest = depths.iter().copied().max().unwrap_or(0).max(FLAT);
    let start = depths.len().saturating_sub(DEPTHS_MAX);
    let step = |depth: u64| usize::try_from(depth.saturating_mul(7).div_ceil(highest)).unwrap_or(7);
    depths[start..].iter().map(|depth| BLOCKS[step(*depth).min(7)]).collect()
}

/// How a demo ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Every reading arrived, and the gateway's own books agree.
    pub good: bool,
    /// The last words.
    pub text: String,
}

/// Compares what the gateway says it produced with what the cloud counted.
#[must_use]
pub fn verdict(ledger: &Ledger, arrivals: &Arrivals) -> Verdict {
    let had = ledger.produced.readings.saturating_add(ledger.restored.readings);
    let missing = had.saturating_sub(arrivals.readings);
    let surplus = arrivals.readings.saturating_sub(had);
    let mut text = format!(
        "{} readings produced, {} arrived, {} missing",
        count(had),
        count(arrivals.readings),
        count(missing)
    );
    let mut faults = Vec::new();
    for (number, what) in [
        (ledger.queued().readings, "still queued"),
        (ledger.dropped_total().readings, "dropped by a stated policy"),
        (surplus, "arrived that nobody produced"),
        (arrivals.holes(), "messages never came"),
        (arrivals.unreadable, "messages could not be read"),
    ] {
        if number > 0 {
            faults.push(format!("{} {what}", count(number)));
        }
    }
    if !ledger.balanced() {
        faults.push("the ledger does not balance".to_owned());
    }
    if had == 0 {
        faults.push("nothing was produced at all".to_owned());
    }
    if arrivals.duplicates > 0 {
        text.push_str(&format!(
            " ({} messages arrived twice and were recognised)",
            count(arrivals.duplicates)
        ));
    }
    let good = missing == 0 && faults.is_empty();
    if !faults.is_empty() {
        text.push_str(": ");
        text.push_str(&faults.join(", "));
    }
    Verdict { good, text }
}

/// The verdict as the last lines of a demo.
#[must_use]
pub fn end(verdict: &Verdict, elapsed: Duration, ink: Ink) -> String {
    let mood = if verdict.good { Mood::Good } else { Mood::Bad };
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    format!("\n{} after {}.\n", ink.paint(mood, &verdict.text), duration(ms))
}

/// Cuts a picture to a terminal: lines that are too long would wrap and the picture would crawl.
#[must_use]
pub fn fit(text: &str, columns: usize, rows: usize) -> String {
    let mut fitted = String::with_capacity(text.len());
    for line in text.lines().take(rows.saturating_sub(1).max(1)) {
        let mut shown = 0;
        let mut in_escape = false;
        for c in line.chars() {
            match c {
                '\x1b' => in_escape = true,
                _ if in_escape => {}
                _ if shown >= columns => continue,
                _ => shown += 1,
            }
            fitted.push(c);
            if in_escape && c.is_ascii_alphabetic() {
                in_escape = false;
            }
        }
        fitted.push('\n');
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::picture::tests::{check_golden, healthy, troubled};
    use crate::app::snapshot::Count;

    fn arrivals(messages: u64) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for seq in 1..=messages {
            arrivals.take(format!(r#"{{"boot":"a-1","seq":{seq},"values":{{"a":1,"b":1}}}}"#).as_bytes());
        }
        arrivals
    }

    fn ledger(produced: u64, acknowledged: u64) -> Ledger {
        let rows = |rows: u64| Count { rows, readings: rows * 2, bytes: 0 };
        Ledger {
            produced: rows(produced),
            acknowledged: rows(acknowledged),
            stored: rows(produced - acknowledged),
            ..Ledger::default()
        }
    }

    #[test]
    fn golden_demo_of_good_and_of_bad_times() {
        let depths: Vec<u64> = (0..70).map(|at| if at < 40 { 2 } else { (at - 40) * 30 }).collect();
        let mut pictures = String::new();
        for (snapshot, caption) in
            [(healthy(), "All is well."), (troubled(), "The link is cut for another 7 s.")]
        {
            let view = View {
                snapshot: &snapshot,
                arrivals: &arrivals(1234),
                caption,
                elapsed: Duration::from_secs(42),
                depths: &depths,
            };
            pictures.push_str(&draw(&view, Ink::Plain));
            pictures.push_str("----\n");
            pictures.push_str(&line(&view));
            pictures.push_str("----\n");
        }
        check_golden("demo.txt", &pictures);
    }

    #[test]
    fn a_verdict_is_good_only_when_every_reading_arrived_once_and_the_books_agree() {
        let check = |ledger: &Ledger, arrivals: &Arrivals, good: bool, text: &str| {
            let verdict = verdict(ledger, arrivals);
            assert_eq!((verdict.good, verdict.text.as_str()), (good, text));
        };
        check(&ledger(10, 10), &arrivals(10), true, "20 readings produced, 20 arrived, 0 missing");
        let mut twice = arrivals(10);
        twice.take(br#"{"boot":"a-1","seq":3,"values":{"a":1}}"#);
        let text =
            "20 readings produced, 20 arrived, 0 missing (1 messages arrived twice and were recognised)";
        check(&ledger(10, 10), &twice, true, text);
        let text = "20 readings produced, 18 arrived, 2 missing";
        check(&ledger(10, 10), &arrivals(9), false, text);
        let text = "20 readings produced, 18 arrived, 2 missing: 2 still queued";
        check(&ledger(10, 9), &arrivals(9), false, text);
        let text = "20 readings produced, 22 arrived, 0 missing: 2 arrived that nobody produced";
        check(&ledger(10, 10), &arrivals(11), false, text);
        let mut books = ledger(10, 10);
        books.produced.rows += 1;
        let text = "20 readings produced, 20 arrived, 0 missing: the ledger does not balance";
        check(&books, &arrivals(10), false, text);
        let text = "0 readings produced, 0 arrived, 0 missing: nothing was produced at all";
        check(&Ledger::default(), &Arrivals::default(), false, text);
    }

    #[test]
    fn a_picture_is_cut_to_the_terminal_but_its_colours_are_closed() {
        assert_eq!(fit("abcdef\ngh\nij\nkl\n", 4, 4), "abcd\ngh\nij\n");
        assert_eq!(fit("\x1b[31mabcdef\x1b[0m\n", 2, 9), "\x1b[31mab\x1b[0m\n");
    }

    #[test]
    fn a_quiet_queue_is_a_flat_line_and_a_growing_one_is_not() {
        assert_eq!(curve(&[0, 0, 0]), "▁▁▁");
        assert_eq!(curve(&[0, 100, 200, 400, 800]), "▁▂▃▅█");
        assert_eq!(curve(&[5; 100]).chars().count(), DEPTHS_MAX);
    }
}
