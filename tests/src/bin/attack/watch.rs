//! What a process costs while it is attacked: its memory every few milliseconds, and its end.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Seen {
    peak_kib: AtomicU64,
    last_kib: AtomicU64,
    ended: AtomicBool,
    killed: AtomicBool,
    stop: AtomicBool,
}

/// Samples `RssAnon` of one process until it is dropped, and kills the process above a limit.
#[derive(Debug)]
pub(crate) struct Sampler {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Begins to look at `pid`.
    pub(crate) fn start(pid: u32, limit_mib: u64) -> Self {
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            while !shared.stop.load(Ordering::Relaxed) {
                look(pid, limit_mib << 10, &shared);
                thread::park_timeout(SAMPLE);
            }
        });
        Self { seen, thread: Some(thread) }
    }

    /// The most since the start, MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        self.seen.peak_kib.load(Ordering::Relaxed) >> 10
    }

    /// The last sample, MiB.
    pub(crate) fn last_mib(&self) -> u64 {
        self.seen.last_kib.load(Ordering::Relaxed) >> 10
    }

    /// The process is gone.
    pub(crate) fn ended(&self) -> bool {
        self.seen.ended.load(Ordering::Relaxed)
    }

    /// It was over the limit, and the sampler killed it.
    pub(crate) fn killed(&self) -> bool {
        self.seen.killed.load(Ordering::Relaxed)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn look(pid: u32, limit_kib: u64, seen: &Seen) {
    let Some((state, kib)) = sample(pid) else {
        seen.ended.store(true, Ordering::Relaxed);
        return;
    };
    if matches!(state, 'Z' | 'X') {
        seen.ended.store(true, Ordering::Relaxed);
        return;
    }
    seen.last_kib.store(kib, Ordering::Relaxed);
    seen.peak_kib.fetch_max(kib, Ordering::Relaxed);
    if kib > limit_kib && !seen.killed.swap(true, Ordering::Relaxed) {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself a moment ago.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// State and `RssAnon`, KiB.
fn sample(pid: u32) -> Option<(char, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let state = field("State:")?.chars().next()?;
    let kib = field("RssAnon:").and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    Some((state, kib))
}
