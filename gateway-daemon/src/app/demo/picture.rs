//! The demo as text: pure functions.

use std::time::Duration;

use super::arrivals::Arrivals;
use super::story::Story;
use crate::app::picture::within::{Part, Size, arrange};
use crate::app::picture::words::{bytes, count, counted, duration, value};
use crate::app::picture::{self, Ink, Mood, Paper};
use crate::app::snapshot::{Broker, Ledger, Snapshot, Tag, Uplink};

/// Queue depths remembered for the curve: a minute and some at two pictures per second, and as many as fit 80 columns.
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
    /// What was done to the field.
    pub story: &'a Story,
    /// Time since the start.
    pub elapsed: Duration,
    /// Messages in the queue, lately, oldest first.
    pub depths: &'a [u64],
}

/// The whole picture within a terminal: at 80 columns and 24 rows nothing of the built-in demo is left out.
#[must_use]
pub fn draw(view: &View<'_>, ink: Ink, (columns, rows): Size) -> String {
    let paper = Paper::screen(ink, columns);
    let title = format!(
        "{}  {}\n{}\n",
        ink.paint(Mood::Bold, "TIDEGATE DEMO"),
        ink.paint(Mood::Faint, "simulated devices -> gateway -> a pretend cloud; q ends it"),
        ink.paint(Mood::Bold, view.caption),
    );
    let cells: Vec<(String, Mood)> = view.snapshot.tags.iter().map(cell).collect();
    let parts = vec![
        Part::text(&title, 2, paper),
        Part::text(&flow(view, ink), 2, paper),
        Part::text(&picture::devices(&view.snapshot.devices, paper), 2, paper),
        Part::grid(&cells, ("tag", "tags"), (columns, ink)),
    ];
    arrange(parts, (columns, rows))
}

/// Where the readings are on their way, and what happens to the field.
fn flow(view: &View<'_>, ink: Ink) -> String {
    let mut text = String::new();
    let mut line = |label: &str, words: &str| {
        text.push_str(&format!(" {label:<8}  {words}\n"));
    };
    if let Some(uplink) = view.snapshot.uplinks.first() {
        // Why it is down the caption says.
        line("link", &picture::link_words(&Uplink { loss: None, ..uplink.clone() }, ink));
        line("queue", &queue_words(uplink));
        line("depth", &curve(view.depths));
        line("readings", &ledger_words(&uplink.ledger, ink));
    }
    let queued = view.snapshot.uplinks.first().map_or(0, |uplink| uplink.ledger.queued().rows);
    line("cloud", &cloud_words(view.arrivals, queued, ink));
    if let Some(broker) = &view.snapshot.broker {
        line("broker", &local_words(broker, ink));
    }
    if let Some(words) = view.story.write_line(view.snapshot, view.elapsed) {
        line("write", &words);
    }
    if let Some(words) = view.story.weak_line(view.snapshot, view.elapsed) {
        line("power", &words);
    }
    text
}

fn queue_words(uplink: &Uplink) -> String {
    let (queued, ledger) = (uplink.ledger.queued(), &uplink.ledger);
    format!(
        "{} ({}): {} in memory, {} on disk",
        counted(queued.rows, "message"),
        bytes(queued.bytes),
        count(ledger.in_memory.rows),
        count(ledger.stored.rows)
    )
}

fn ledger_words(ledger: &Ledger, ink: Ink) -> String {
    let dropped = ledger.dropped_total();
    let mood = if !ledger.balanced() || dropped.rows > 0 { Mood::Bad } else { Mood::Calm };
    let sum = format!(
        "{} = {} in memory + {} on disk + {} arrived",
        count(ledger.produced.readings.saturating_add(ledger.restored.readings)),
        count(ledger.in_memory.readings),
        count(ledger.stored.readings),
        count(ledger.acknowledged.readings)
    );
    ink.paint(mood, &format!("{sum} + {} dropped", count(dropped.readings)))
}

/// A tag in as few columns as it can be read in.
fn cell(tag: &Tag) -> (String, Mood) {
    let name = format!("{}/{}", tag.device, tag.tag);
    match &tag.value {
        Some(read) => {
            let unit = tag.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
            (format!("{name} {}{unit}", value(read)), Mood::Calm)
        }
        None if tag.quality == "not-polled" => (format!("{name} -"), Mood::Faint),
        None => (format!("{name} {}", tag.quality), Mood::Bad),
    }
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

/// What the cloud has. A gap is a message that still waits, or one of a client that had its number: those have arrived without it.
fn cloud_words(arrivals: &Arrivals, queued: u64, ink: Ink) -> String {
    let holes = match arrivals.holes().saturating_sub(arrivals.others).min(queued) {
        0 => "no gaps".to_owned(),
        holes => ink.paint(Mood::Warn, &format!("{} to come", count(holes))),
    };
    let others = match arrivals.others {
        0 => String::new(),
        others => format!(", {} of clients", count(others)),
    };
    format!(
        "{} in {}, {} repeated, {holes}{others}",
        counted(arrivals.readings, "reading"),
        counted(arrivals.messages, "message"),
        count(arrivals.duplicates),
    )
}

/// Who is connected, and how anybody can be.
fn local_words(broker: &Broker, ink: Ink) -> String {
    let clients = match broker.clients {
        0 => "no client yet".to_owned(),
        1 => "1 client".to_owned(),
        clients => format!("{} clients", count(clients)),
    };
    match invitation(broker) {
        Some(words) => format!("{clients}; {}", ink.paint(Mood::Faint, &words)),
        None => clients,
    }
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
    // A number that is missing is no message that is missing: those of clients take numbers, too. The readings are the account.
    let mut text = format!(
        "{} produced, {} arrived, {} missing",
        counted(had, "reading"),
        count(arrivals.readings),
        count(missing)
    );
    let mut faults = Vec::new();
    for (number, what) in [
        (ledger.queued().readings, "still queued"),
        (ledger.dropped_total().readings, "dropped by a stated policy"),
        (surplus, "arrived that nobody produced"),
    ] {
        if number > 0 {
            faults.push(format!("{} {what}", count(number)));
        }
    }
    if arrivals.unreadable > 0 {
        faults.push(format!("{} could not be read", counted(arrivals.unreadable, "message")));
    }
    if !ledger.balanced() {
        faults.push("the ledger does not balance".to_owned());
    }
    if had == 0 {
        faults.push("nothing was produced at all".to_owned());
    }
    if arrivals.duplicates > 0 {
        let were = if arrivals.duplicates == 1 { "was" } else { "were" };
        text.push_str(&format!(
            " ({} arrived twice and {were} recognised)",
            counted(arrivals.duplicates, "message")
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

#[cfg(test)]
mod tests {
    use gateway_core::poll::settings::Kind;
    use serde_json::json;

    use super::super::script::tests::captions;
    use super::super::story::Wrote;
    use super::*;
    use crate::app::picture::paper::width;
    use crate::app::picture::tests::{check_golden, healthy, troubled};
    use crate::app::snapshot::{Count, Device, Health, Link};

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

    /// The demo's own devices and tags, as long as their texts get.
    fn plant(health: Health) -> Snapshot {
        let config = crate::app::demo::configure(None, std::path::Path::new("/tmp/x"), 1883).unwrap();
        let field = &config.field;
        let devices = field.devices.iter().map(|device| Device {
            name: device.name.to_string(),
            bus: field.buses[device.bus].name.to_string(),
            unit: device.unit.get(),
            health: if device.name.as_str() == "cellar" { health } else { Health::Good },
            why: (device.name.as_str() == "cellar" && health == Health::Dead).then(|| "timeout".to_owned()),
            polls_per_s: 4.0,
            requests: 1_234_567,
            ..Device::default()
        });
        let tags = field.tags.iter().map(|tag| {
            let device = field.devices[field.groups[tag.group].device].name.to_string();
            let dead = device == "cellar" && health == Health::Dead;
            let value = match tag.point.kind {
                _ if dead => None,
                Kind::Bit => Some(json!(false)),
                _ => Some(json!(-12_345.67)),
            };
            let quality = if dead { "device-down" } else { "good" };
            Tag {
                device,
                tag: tag.name.to_string(),
                unit: tag.unit.as_deref().map(str::to_owned),
                quality: quality.into(),
                value,
                age_ms: Some(999),
            }
        });
        Snapshot { devices: devices.collect(), tags: tags.collect(), ..healthy() }
    }

    /// Every scene of a demo that has run for hours: captions of the script, and what happens to the field.
    fn scenes() -> Vec<(String, Snapshot, Story)> {
        let wrote = Wrote {
            device: "oven".into(),
            tag: "setpoint".into(),
            value: "180".into(),
            at: Duration::ZERO,
            refused: None,
        };
        let story =
            Story { write: Some(wrote.clone()), weak: Some("cellar".into()), off: None, was_off: true };
        let off = Story { off: Some((Duration::from_secs(85_985), 1_234_500)), ..story.clone() };
        let why = "device oven (unit 2 on bus plant): no answer; check its power, its wires and its unit";
        let refused = Wrote { refused: Some(why.into()), ..wrote };
        let refused = Story { write: Some(refused), ..story.clone() };
        let mut scenes = Vec::new();
        for caption in captions() {
            scenes.push((caption.clone(), Snapshot::default(), Story::default()));
            scenes.push((caption.clone(), plant(Health::Good), story.clone()));
            scenes.push((caption.clone(), plant(Health::Failing), off.clone()));
            scenes.push((caption.clone(), plant(Health::Dead), off.clone()));
            scenes.push((caption.clone(), plant(Health::Dead), refused.clone()));
            let mut down = plant(Health::Dead);
            let uplink = &mut down.uplinks[0];
            (uplink.link, uplink.since_ms, uplink.retry_in_ms) = (Link::Waiting, 93_000, Some(2_300));
            uplink.loss = Some("TCP connection with 127.0.0.1:1883: refused, nothing listens there".into());
            uplink.ledger = ledger(80_000, 79_000);
            scenes.push((caption, down, off.clone()));
        }
        scenes
    }

    fn shown((caption, snapshot, story): &(String, Snapshot, Story), ink: Ink, size: Size) -> String {
        let depths: Vec<u64> = (0..70).map(|at| if at < 40 { 2 } else { (at - 40) * 30 }).collect();
        let mut arrivals = arrivals(10);
        (arrivals.messages, arrivals.readings) = (40_000, 80_000);
        let elapsed = Duration::from_secs(86_000);
        draw(&View { snapshot, arrivals: &arrivals, caption, story, elapsed, depths: &depths }, ink, size)
    }

    #[test]
    fn no_scene_of_the_demo_is_cut_off_at_80_columns_and_24_rows() {
        let scenes = scenes();
        assert!(scenes.len() > 40, "{}", scenes.len());
        for scene in &scenes {
            let picture = shown(scene, Ink::Plain, (80, 24));
            assert!(picture.lines().count() <= 24, "{picture}");
            assert!(picture.lines().all(|line| width(line) <= 80 && !line.contains('…')), "{picture}");
            assert!(!picture.contains(" more "), "{picture}");
            for tag in &scene.1.tags {
                assert!(picture.contains(&format!("{}/{} ", tag.device, tag.tag)), "{}\n{picture}", tag.tag);
            }
            assert!(picture.contains(&scene.0) && picture.contains("q ends it"), "{picture}");
            let coloured = shown(scene, Ink::Ansi, (80, 24));
            assert!(coloured.lines().count() <= 24 && coloured.lines().all(|line| width(line) <= 80));
        }
    }

    #[test]
    fn a_demo_on_a_terminal_of_any_size_keeps_to_it() {
        for size in [(20, 5), (40, 12), (80, 10), (132, 50), (1, 1)] {
            for scene in scenes().iter().take(8) {
                let picture = shown(scene, Ink::Plain, size);
                assert!(picture.lines().count() <= size.1, "{size:?}\n{picture}");
                assert!(picture.lines().all(|line| width(line) <= size.0), "{size:?}\n{picture}");
            }
        }
    }

    #[test]
    fn golden_demo_of_good_and_of_bad_times() {
        let mut pictures = String::new();
        for scene in scenes().iter().filter(|(caption, ..)| caption.starts_with("The link is cut")) {
            pictures.push_str(&shown(scene, Ink::Plain, (80, 24)));
            pictures.push_str("----\n");
        }
        let snapshot = troubled();
        let view = View {
            snapshot: &snapshot,
            arrivals: &arrivals(1234),
            caption: "",
            story: &Story::default(),
            elapsed: Duration::from_secs(42),
            depths: &[],
        };
        pictures.push_str(&line(&view));
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
        let text = "20 readings produced, 20 arrived, 0 missing (1 message arrived twice and was recognised)";
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
    fn messages_of_clients_take_numbers_and_are_no_gaps() {
        let mut arrivals = Arrivals::default();
        for seq in [1, 2, 4, 5] {
            let body = format!(r#"{{"boot":"a-1","seq":{seq},"values":{{"a":1,"b":1}}}}"#);
            arrivals.take(body.as_bytes());
        }
        arrivals.take(b"hello");
        assert_eq!(arrivals.holes(), 1);
        let words = cloud_words(&arrivals, 7, Ink::Plain);
        assert_eq!(words, "8 readings in 4 messages, 0 repeated, no gaps, 1 of clients");
        let verdict = verdict(&ledger(4, 4), &arrivals);
        assert_eq!(
            (verdict.good, verdict.text.as_str()),
            (true, "8 readings produced, 8 arrived, 0 missing")
        );
        let mut waits = self::arrivals(1);
        waits.take(br#"{"boot":"a-1","seq":4,"values":{}}"#);
        assert!(cloud_words(&waits, 2, Ink::Plain).ends_with("2 to come"));
        assert!(cloud_words(&waits, 0, Ink::Plain).ends_with("no gaps"), "nothing waits any more");
    }

    #[test]
    fn a_quiet_queue_is_a_flat_line_and_a_growing_one_is_not() {
        assert_eq!(curve(&[0, 0, 0]), "▁▁▁");
        assert_eq!(curve(&[0, 100, 200, 400, 800]), "▁▂▃▅█");
        assert_eq!(curve(&[5; 100]).chars().count(), DEPTHS_MAX);
    }
}
