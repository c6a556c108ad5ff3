//! Where log records go: the systemd journal with structured fields when standard error is the journal, else plain lines on
//! standard error, `LEVEL text (field=value ...)`.
//!
//! Repeats are limited and counted (`limiter`); whoever asks for DEBUG by `TIDEGATE_LOG` gets those of DEBUG and below all.
//! Libraries below [`QUIET_LIBRARIES`] are heard only then: what they meet arrives as a structured loss of the link. A record that nobody
//! takes (standard error closed) is lost: logging never stops the gateway.

use std::io::Write as _;
use std::os::linux::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use gateway_core::tag::BootNs;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::limiter::{INTERVAL, Kind, Limiter, Summary};

/// Libraries of the link, whose every situation is a loss with a reason, logged once by the gateway itself.
pub const QUIET_LIBRARIES: [&str; 2] = ["rumqttc", "rustls"];
/// Target of records that are limited and counted where they are made: the limit here does not concern them.
pub const LIMITED: &str = "gateway_daemon::clients";
/// Fields that say whom a record is about.
const ABOUT: [&str; 9] = ["device", "bus", "uplink", "listener", "queue", "path", "fault", "room", "reload"];

/// Lines left out since the start.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Starts logging at INFO, or at the level named by `TIDEGATE_LOG` (error, warn, info, debug, trace). Later calls change nothing.
/// `clock` is the time since boot, for counting repeats.
pub fn init(clock: fn() -> BootNs) {
    let level = std::env::var("TIDEGATE_LOG").ok().and_then(|word| word.parse().ok());
    let out: Box<dyn Log> = match systemd_journal_logger::JournalLog::new() {
        Ok(journal) if stderr_is_journal() => Box::new(journal),
        _ => Box::new(Lines),
    };
    if log::set_boxed_logger(Box::new(Journal { out, clock, limiter: Mutex::new(Limiter::new()) })).is_ok() {
        log::set_max_level(level.unwrap_or(LevelFilter::Info));
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

/// Limits, then hands on. [`Log::flush`] tells the counts that are due; call it from time to time.
struct Journal {
    out: Box<dyn Log>,
    clock: fn() -> BootNs,
    // Every thread that logs, for the time of a comparison; never held while a record is written.
    limiter: Mutex<Limiter>,
}

impl Journal {
    fn limiter<T>(&self, ask: impl FnOnce(&mut Limiter) -> T) -> T {
        ask(&mut self.limiter.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, summaries: Vec<Summary>) {
        for Summary { kind, left_out } in summaries {
            let (target, words) = kind.parts();
            let minutes = INTERVAL.as_secs() / 60;
            self.out.log(
                &Record::builder()
                    .level(kind.level())
                    .target(target)
                    .args(format_args!("{left_out} more within {minutes} minutes like \"{words}\""))
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
        if record.level() <= Level::Info && record.target() != LIMITED {
            let now = (self.clock)();
            let kind = Kind::new(record.level(), record.target(), &about(record), &record.args().to_string());
            let (passes, summaries) =
                self.limiter(|limiter| (limiter.passes(now, kind), limiter.summaries(now)));
            self.tell(summaries);
            if !passes {
                SUPPRESSED.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.out.log(record);
    }

    fn flush(&self) {
        self.tell(self.limiter(|limiter| limiter.summaries((self.clock)())));
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

fn about(record: &Record<'_>) -> String {
    let mut text = String::new();
    for name in ABOUT {
        if let Some(value) = record.key_values().get(name.into()) {
            text.push_str(&format!("{name}={value} "));
        }
    }
    text
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = format!("{:<5} {}", record.level(), record.args());
        let mut fields = Fields(String::new());
        // Collecting into a String cannot fail.
        let _ = record.key_values().visit(&mut fields);
        if !fields.0.is_empty() {
            line.push_str(&format!(" ({})", fields.0.trim_start()));
        }
        line.push('\n');
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

struct Fields(String);

impl<'kvs> log::kv::VisitSource<'kvs> for Fields {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        self.0.push_str(&format!(" {key}={value}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
    fn a_line_carries_its_fields() {
        let mut fields = Fields(String::new());
        let pairs = [("path", "/a b"), ("rows", "3")];
        log::kv::Source::visit(&pairs[..], &mut fields).unwrap();
        assert_eq!(fields.0, " path=/a b rows=3");
    }

    #[test]
    fn repeats_are_left_out_for_each_uplink_by_itself_and_debug_is_not_limited() {
        let kept = Kept::default();
        let journal =
            Journal { out: Box::new(kept.clone()), clock: || BootNs(1), limiter: Mutex::new(Limiter::new()) };
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
