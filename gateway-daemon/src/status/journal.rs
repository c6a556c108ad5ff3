//! Where log records go: the systemd journal with structured fields when standard error is the journal, else plain lines on
//! standard error, `LEVEL text (field=value ...)`.

use std::io::Write as _;
use std::os::linux::fs::MetadataExt as _;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Starts logging at INFO, or at the level named by `TIDEGATE_LOG` (error, warn, info, debug, trace). Later calls change nothing.
pub fn init() {
    let level = std::env::var("TIDEGATE_LOG").ok().and_then(|word| word.parse().ok());
    let done = if stderr_is_journal() {
        match systemd_journal_logger::JournalLog::new() {
            Ok(journal) => journal.install(),
            Err(_) => log::set_logger(&Lines),
        }
    } else {
        log::set_logger(&Lines)
    };
    if done.is_ok() {
        log::set_max_level(level.unwrap_or(LevelFilter::Info));
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
        // Libraries speak only when something is wrong: their everyday words are not ours.
        metadata.target().starts_with("gateway")
            || metadata.target().starts_with("drivers")
            || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
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
