//! Where log records go: the systemd journal with structured fields when standard error is the journal, else plain lines on
//! standard error, `LEVEL text (field=value ...)`. Repeats are limited (`repeats`): a trouble that lasts must not fill the journal, and with it
//! the card. DEBUG and TRACE are for a person who looks on, and are not limited.

use std::io::Write as _;
use std::os::linux::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::repeats::{INTERVAL, Kind, Repeats, Verdict};

/// Lines left out since the start.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Starts logging at INFO, or at the level named by `TIDEGATE_LOG` (error, warn, info, debug, trace). Later calls change nothing.
pub fn init() {
    let level = std::env::var("TIDEGATE_LOG").ok().and_then(|word| word.parse().ok());
    let done = if stderr_is_journal() {
        match systemd_journal_logger::JournalLog::new() {
            Ok(journal) => log::set_boxed_logger(Box::new(Limited::new(journal))),
            Err(_) => log::set_boxed_logger(Box::new(Limited::new(Lines))),
        }
    } else {
        log::set_boxed_logger(Box::new(Limited::new(Lines)))
    };
    if done.is_ok() {
        log::set_max_level(level.unwrap_or(LevelFilter::Info));
    }
}

/// Lines that were left out because they repeated.
#[must_use]
pub fn suppressed_total() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// Whether a record is for this log at all. Libraries speak only when something is wrong: their everyday words are not ours.
fn concerns_us(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("gateway")
        || metadata.target().starts_with("drivers")
        || metadata.level() <= Level::Warn
}

/// A log that leaves out repeats.
struct Limited<L> {
    inner: L,
    started: Instant,
    /// Held for one look-up by whichever task logs.
    repeats: Mutex<Repeats>,
}

impl<L: Log> Limited<L> {
    fn new(inner: L) -> Self {
        Self { inner, started: Instant::now(), repeats: Mutex::default() }
    }

    fn tell(&self, told: Vec<(Kind, u64)>) {
        for ((file, line), count) in told {
            let seconds = INTERVAL.as_secs();
            self.inner.log(
                &Record::builder()
                    .level(Level::Warn)
                    .target(module_path!())
                    .file(Some(&file))
                    .line(Some(line))
                    .args(format_args!("{count} more lines like one above, from {file}:{line}, were left out within {seconds} s"))
                    .build(),
            );
        }
    }
}

impl<L: Log> Log for Limited<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        concerns_us(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if record.level() <= Level::Info {
            let place = (record.file().unwrap_or(record.target()).to_owned(), record.line().unwrap_or(0));
            let verdict = self
                .repeats
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .judge(self.started.elapsed(), place);
            match verdict {
                Verdict::Pass(told) => self.tell(told),
                Verdict::Suppress => {
                    SUPPRESSED.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
        self.inner.log(record);
    }

    fn flush(&self) {
        let told =
            self.repeats.lock().unwrap_or_else(PoisonError::into_inner).ended(std::time::Duration::MAX);
        self.tell(told);
        self.inner.flush();
    }
}

/// systemd says in `JOURNAL_STREAM` which device and inode its journal socket has ("systemd.exec(5)").
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino())
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        concerns_us(metadata)
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

    #[derive(Default, Clone)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl Log for Heard {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &Record<'_>) {
            self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }
        fn flush(&self) {}
    }

    fn say(log: &dyn Log, level: Level, target: &str, text: &str) {
        let mut record = Record::builder();
        record.level(level).target(target).file(Some("a.rs")).line(Some(7));
        log.log(&record.args(format_args!("{text}")).build());
    }

    #[test]
    fn repeats_are_left_out_counted_and_told_at_the_end() {
        let heard = Heard::default();
        let log = Limited::new(heard.clone());
        let before = suppressed_total();
        for index in 0..25 {
            say(&log, Level::Error, "gateway_daemon", &format!("{index}"));
            say(&log, Level::Debug, "gateway_daemon", "looked at");
            say(&log, Level::Info, "rustls", "chatter");
        }
        log.flush();
        let heard = heard.0.lock().unwrap();
        assert_eq!(heard.iter().filter(|line| line.starts_with("ERROR")).count(), 10);
        assert_eq!(heard.iter().filter(|line| line.starts_with("DEBUG")).count(), 25);
        assert!(!heard.iter().any(|line| line.contains("chatter")));
        assert_eq!(
            heard.last().unwrap(),
            "WARN 15 more lines like one above, from a.rs:7, were left out within 60 s"
        );
        assert_eq!(suppressed_total() - before, 15);
    }

    #[test]
    fn a_line_carries_its_fields() {
        let mut fields = Fields(String::new());
        let pairs = [("path", "/a b"), ("rows", "3")];
        log::kv::Source::visit(&pairs[..], &mut fields).unwrap();
        assert_eq!(fields.0, " path=/a b rows=3");
    }
}
