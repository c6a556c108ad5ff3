//! Where log records go: the systemd journal with structured fields when standard error is the journal, else plain lines on
//! standard error, `TIME LEVEL text (field=value ...)`. A line begins with whom it is about, the bus first, and its fields are those that the text does not
//! say already.
//!
//! Repeats are limited and counted (`limiter`); whoever asks for DEBUG by `TIDEGATE_LOG` gets those of DEBUG and below all. What happens once for each
//! deed of a person, such as a write, has a field [`EVENT`] that says which: it is told each time, as far as no script floods the journal (`events`).
//! Libraries below [`QUIET_LIBRARIES`] are heard only then: what they meet arrives as a structured loss of the link. A record that nobody
//! takes (standard error closed) is lost: logging never stops the gateway.

use std::io::Write as _;
use std::os::linux::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use gateway_core::payload::iso8601;
use gateway_core::tag::{BootNs, WallMs};
use gateway_core::text::one_line;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::events::Events;
use super::limiter::{INTERVAL, Kind, Limiter, Summary};

/// Libraries of the link, whose every situation is a loss with a reason, logged once by the gateway itself.
pub const QUIET_LIBRARIES: [&str; 2] = ["rumqttc", "rustls"];
/// Target of records that are limited and counted where they are made: the limit here does not concern them.
pub const LIMITED: &str = "gateway_daemon::clients";
/// The field of records of deeds: one deed, one line.
pub const EVENT: &str = "event";
/// Fields that say whom a line is about, in the order in which it names them.
const SUBJECTS: [&str; 3] = ["bus", "uplink", "device"];
/// Fields that say whom a record is about.
const ABOUT: [&str; 9] = ["device", "bus", "uplink", "listener", "queue", "path", "fault", "room", "reload"];

/// Fields that say of a deed what else it is about.
const ABOUT_DEEDS: [&str; 4] = ["tag", "point", "client", "uid"];

/// The log of this process.
static JOURNAL: OnceLock<Journal> = OnceLock::new();
/// Lines left out since the start.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Starts logging from `level` on. Later calls change nothing. `clock` is the time since boot, for counting repeats, and `wall` the time of day.
pub fn init(level: LevelFilter, clock: fn() -> BootNs, wall: fn() -> Option<WallMs>) {
    let out: Box<dyn Log> = match systemd_journal_logger::JournalLog::new() {
        Ok(journal) if stderr_is_journal() => Box::new(journal),
        _ => Box::new(Lines { clock, wall }),
    };
    let journal = JOURNAL.get_or_init(|| Journal { out, clock, limits: Mutex::default() });
    if log::set_logger(journal).is_ok() {
        log::set_max_level(level);
    }
}

/// The process is about to end: tells every count that is not due yet.
pub fn finish() {
    if let Some(journal) = JOURNAL.get() {
        journal.finish();
    }
}

/// Lines that were left out because they repeated.
#[must_use]
pub fn suppressed_total() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// systemd says in `JOURNAL_STREAM` which device and inode its journal socket has ("systemd.exec(5)").
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino())
}

/// What was counted.
#[derive(Debug, Default)]
struct Limits {
    repeats: Limiter,
    deeds: Events,
}

impl Limits {
    fn summaries(&mut self, now: BootNs) -> Vec<Summary> {
        let mut summaries = self.repeats.summaries(now);
        summaries.extend(self.deeds.summaries(now));
        summaries
    }
}

/// Limits, then hands on. [`Log::flush`] tells the counts that are due; call it from time to time.
struct Journal {
    out: Box<dyn Log>,
    clock: fn() -> BootNs,
    // Every thread that logs, for the time of a comparison; never held while a record is written.
    limits: Mutex<Limits>,
}

impl Journal {
    fn limits<T>(&self, ask: impl FnOnce(&mut Limits) -> T) -> T {
        ask(&mut self.limits.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn finish(&self) {
        self.tell(self.limits(|limits| limits.summaries(BootNs(u64::MAX))));
        self.out.flush();
    }

    fn tell(&self, summaries: Vec<Summary>) {
        for Summary { kind, left_out, last } in summaries {
            let minutes = INTERVAL.as_secs() / 60;
            let lines = if left_out == 1 { "line" } else { "lines" };
            self.out.log(
                &Record::builder()
                    .level(kind.level())
                    .target(kind.target())
                    .args(format_args!(
                        "{left_out} more {lines} within {minutes} minutes like this one: {last}"
                    ))
                    .build(),
            );
        }
    }
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_heard(metadata.target(), metadata.level(), log::max_level())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let sentence = sentence(record);
        if record.level() <= Level::Info && record.target() != LIMITED {
            let now = (self.clock)();
            let (passes, summaries) =
                self.limits(|limits| (passes(limits, now, record, &sentence), limits.summaries(now)));
            self.tell(summaries);
            if !passes {
                SUPPRESSED.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.out.log(&record.to_builder().args(format_args!("{sentence}")).build());
    }

    fn flush(&self) {
        self.tell(self.limits(|limits| limits.summaries((self.clock)())));
        self.out.flush();
    }
}

/// Our own crates at every level, others only when something is wrong: their everyday words are not ours.
fn is_heard(target: &str, level: Level, max: LevelFilter) -> bool {
    let of =
        |name: &str| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    if QUIET_LIBRARIES.into_iter().any(of) {
        return max >= LevelFilter::Debug;
    }
    target.starts_with("gateway") || target.starts_with("drivers") || level <= Level::Warn
}

/// Whether there is room for a record that says `sentence`.
fn passes(limits: &mut Limits, now: BootNs, record: &Record<'_>, sentence: &str) -> bool {
    let (level, target, words) = (record.level(), record.target(), record.args().to_string());
    let Some(event) = record.key_values().get(EVENT.into()) else {
        let kind = Kind::new(level, target, &about(record, &ABOUT), &words);
        return limits.repeats.passes(now, kind, sentence);
    };
    // The words behind the first are often those of whoever did it, who could make as many kinds of them as he likes.
    let first = words.split_whitespace().next().unwrap_or_default();
    let about = about(record, &ABOUT) + &about(record, &ABOUT_DEEDS);
    limits.deeds.passes(now, &event.to_string(), Kind::new(level, target, &about, first), sentence)
}

fn about(record: &Record<'_>, names: &[&str]) -> String {
    let mut text = String::new();
    for name in names.iter().copied() {
        let value = record.key_values().get(name.into()).map(|value| value.to_string());
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("{name}={value} "));
        }
    }
    text
}

/// What a record says on one line, beginning with whom it is about: a line of a journal is read without its fields.
fn sentence(record: &Record<'_>) -> String {
    let text = record.args().to_string();
    let mut subjects = String::new();
    for name in SUBJECTS {
        let Some(value) = record.key_values().get(name.into()) else { continue };
        let subject = format!("{name} {value}");
        if !has_word(&text, &subject) {
            subjects.push_str(&format!("{subject}: "));
        }
    }
    one_line(&(subjects + &text)).into_owned()
}

/// Whether `text` holds `word`, and not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(joins) && !text[at + word.len()..].starts_with(joins))
}

struct Lines {
    clock: fn() -> BootNs,
    wall: fn() -> Option<WallMs>,
}

impl Lines {
    /// `2026-11-30T11:25:38Z`; while nobody knows the time of day, the time since boot.
    fn time(&self) -> String {
        let wall = (self.wall)().and_then(iso8601);
        // Without its milliseconds.
        wall.map_or_else(
            || format!("boot+{}s", (self.clock)().ms() / 1000),
            |text| {
                text.split('.')
                    .next()
                    .map_or_else(String::new, |whole| format!("{}Z", whole.trim_end_matches('Z')))
            },
        )
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let mut line = format!("{} {:<5} {text}", self.time(), record.level());
        let mut fields = Fields { text: &text, said: String::new() };
        // Collecting into a String cannot fail.
        let _ = record.key_values().visit(&mut fields);
        if !fields.said.is_empty() {
            line.push_str(&format!(" ({})", fields.said.trim_start()));
        }
        line.push('\n');
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// The fields that the text does not say already.
struct Fields<'t> {
    text: &'t str,
    said: String,
}

impl<'kvs> log::kv::VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        let value = value.to_string();
        let value = one_line(&value);
        if !value.is_empty() && !has_word(self.text, &value) {
            self.said.push_str(&format!(" {key}={value}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::events;
    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Log for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }

        fn flush(&self) {}
    }

    fn journal(clock: fn() -> BootNs) -> (Kept, Journal) {
        let kept = Kept::default();
        (kept.clone(), Journal { out: Box::new(kept), clock, limits: Mutex::default() })
    }

    fn say(journal: &Journal, level: Level, uplink: &str, number: u32) {
        let fields = [("uplink", uplink)];
        journal.log(
            &Record::builder()
                .level(level)
                .target("gateway_daemon::app")
                .key_values(&fields)
                .args(format_args!("cannot connect to it: number {number}"))
                .build(),
        );
    }

    #[test]
    fn what_has_several_lines_is_told_on_one_also_in_a_field() {
        let record = Record::builder().args(format_args!("damaged\r\n\u{1b}[1mPage 3: \u{202e}x")).build();
        assert_eq!(sentence(&record), "damaged [1mPage 3: x");
        let mut fields = Fields { text: "damaged", said: String::new() };
        let pairs = [("why", "*** in database main ***\nPage 3: never used\n")];
        log::kv::Source::visit(&pairs[..], &mut fields).unwrap();
        assert_eq!(fields.said, " why=*** in database main *** Page 3: never used");
    }

    #[test]
    fn a_line_carries_the_fields_that_its_text_does_not_say() {
        let mut fields = Fields { text: "13 rows of \"b\" are lost", said: String::new() };
        let pairs = [("path", "/a b"), ("rows", "3"), ("lost", "13"), ("queue", "b"), ("why", "")];
        log::kv::Source::visit(&pairs[..], &mut fields).unwrap();
        assert_eq!(fields.said, " path=/a b rows=3");
    }

    #[test]
    fn a_line_outside_the_journal_has_time_and_says_the_bus_first_and_each_fact_once() {
        let said = |text: &str, fields: &[(&str, &str)]| {
            sentence(&Record::builder().args(format_args!("{text}")).key_values(&fields).build())
        };
        assert_eq!(said("up", &[("bus", "rs485-1")]), "bus rs485-1: up");
        assert_eq!(
            said("device m1: does not answer", &[("device", "m1"), ("bus", "a"), ("unit_id", "3")]),
            "bus a: device m1: does not answer"
        );
        assert_eq!(said("uplink a: connected", &[("uplink", "a")]), "uplink a: connected");
        assert_eq!(said("uplink ab: the other", &[("uplink", "a")]), "uplink a: uplink ab: the other");
        assert_eq!(said("nobody in particular", &[]), "nobody in particular");
        let lines = |wall| Lines { clock: || BootNs(75_000_000_000), wall };
        assert_eq!(lines(|| Some(WallMs(1_796_037_938_123))).time(), "2026-11-30T11:25:38Z");
        assert_eq!(lines(|| None).time(), "boot+75s");
    }

    #[test]
    fn the_count_of_lines_that_were_left_out_names_what_was_counted() {
        let (kept, journal) = journal(|| BootNs(1));
        for number in 0..7 {
            say(&journal, Level::Warn, "cloud", number);
        }
        let later = Journal { clock: || BootNs(601_000_000_000), ..journal };
        later.flush();
        let lines = kept.0.lock().unwrap();
        assert_eq!(
            lines.last().unwrap(),
            "WARN 2 more lines within 10 minutes like this one: uplink cloud: cannot connect to it: number 6"
        );
    }

    fn write(journal: &Journal, tag: Option<&str>, number: u32) {
        let mut fields = vec![(EVENT, "write"), ("uid", "1000")];
        fields.extend(tag.map(|tag| ("tag", tag)));
        let fields: &[(&str, &str)] = &fields;
        let name = tag.map_or_else(|| format!("invented-{number}"), str::to_owned);
        journal.log(
            &Record::builder()
                .level(Level::Info)
                .target("gateway_daemon::app")
                .key_values(&fields)
                .args(format_args!("write of {name} = {number}"))
                .build(),
        );
    }

    #[test]
    fn each_deed_of_a_person_leaves_its_line() {
        let (kept, journal) = journal(|| BootNs(1));
        for tag in ["boiler/setpoint", "boiler/pump", "meter/relay"] {
            for number in 0..10 {
                write(&journal, Some(tag), number);
            }
        }
        assert_eq!(kept.0.lock().unwrap().len(), 30);
    }

    #[test]
    fn a_flood_of_deeds_is_told_as_a_count_for_each_tag_with_the_last_value_also_when_the_program_ends() {
        let (kept, journal) = journal(|| BootNs(1));
        for number in 0..3000 {
            write(&journal, Some("boiler/setpoint"), number);
            write(&journal, Some("boiler/pump"), number + 10_000);
            write(&journal, None, number);
        }
        write(&journal, Some("meter/relay"), 7);
        let burst = events::BURST_MAX as usize;
        assert_eq!(kept.0.lock().unwrap().len(), 3 * burst + 1);
        journal.finish();
        let lines = kept.0.lock().unwrap();
        assert_eq!(lines[3 * burst], "INFO write of meter/relay = 7");
        let more = format!("INFO {} more lines within 10 minutes like this one: write of", 3000 - burst);
        assert_eq!(
            lines[3 * burst + 1..],
            [
                format!("{more} boiler/setpoint = 2999"),
                format!("{more} boiler/pump = 12999"),
                format!("{more} invented-2999 = 2999")
            ]
        );
    }

    #[test]
    fn repeats_are_left_out_for_each_uplink_by_itself_and_debug_is_not_limited() {
        let (kept, journal) = journal(|| BootNs(1));
        let before = suppressed_total();
        for number in 0..20 {
            say(&journal, Level::Warn, "cloud", number);
            say(&journal, Level::Warn, "office", number);
            say(&journal, Level::Debug, "cloud", number);
        }
        assert_eq!(suppressed_total() - before, 30);
        let lines = kept.0.lock().unwrap();
        let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("WARN"), count("DEBUG")), (10, 20), "{lines:?}");
    }

    #[test]
    fn libraries_of_the_link_are_heard_only_by_who_looks_for_faults() {
        for (target, level, max, heard) in [
            ("rumqttc::eventloop", Level::Error, LevelFilter::Info, false),
            ("rumqttc", Level::Error, LevelFilter::Info, false),
            ("rumqttc::eventloop", Level::Info, LevelFilter::Debug, true),
            ("rustls::conn", Level::Warn, LevelFilter::Info, false),
            ("rustls_native_certs", Level::Warn, LevelFilter::Info, true),
            ("gateway_daemon::app", Level::Debug, LevelFilter::Debug, true),
            ("drivers::bus", Level::Info, LevelFilter::Info, true),
            ("mio", Level::Info, LevelFilter::Info, false),
            ("mio", Level::Warn, LevelFilter::Info, true),
        ] {
            assert_eq!(is_heard(target, level, max), heard, "{target} {level} {max}");
        }
    }
}
