//! An honest client beside the attack: publishes with QoS 1 to a topic of its own, and measures until it has its PUBACK and its message back.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, Heard};
use tidegate_tests::packets::{Hello, Publish, answer};

/// Pause between two messages.
const EVERY: Duration = Duration::from_millis(20);
/// After this long without an answer it connects anew.
const PATIENCE: Duration = Duration::from_secs(40);
const TOPIC: &str = "by/stander";

/// What it has seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Time of each message from its sending to both answers.
    pub times: Vec<Duration>,
    /// Times its connection was lost or not let in.
    pub cuts: u64,
}

impl Seen {
    /// The time that 99 of 100 messages do not exceed.
    pub(crate) fn p99(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }

    /// The longest.
    pub(crate) fn longest(&self) -> Duration {
        self.times.iter().max().copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    // The thread writes and the harness takes, for a moment each.
    seen: Mutex<(Seen, Option<Instant>)>,
}

/// A running one.
#[derive(Debug)]
pub(crate) struct Bystander {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Begins; `user` is its name and password, if the gateway asks for them.
    pub(crate) fn start(from: Ipv4Addr, port: u16, user: Option<(&'static str, &'static str)>) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !own.stop.load(Ordering::Relaxed) {
                if live(from, port, user, &own).is_err() {
                    own.seen.lock().unwrap_or_else(PoisonError::into_inner).0.cuts += 1;
                }
                thread::park_timeout(EVERY);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// What it has seen since the last call; a message that still waits counts with the time it has waited.
    pub(crate) fn take(&self) -> Seen {
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = seen.1.map(|since| since.elapsed());
        let mut taken = std::mem::take(&mut seen.0);
        taken.times.extend(waits);
        taken
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn live(from: Ipv4Addr, port: u16, user: Option<(&str, &str)>, shared: &Shared) -> std::io::Result<()> {
    let set = |since: Option<Instant>| shared.seen.lock().unwrap_or_else(PoisonError::into_inner).1 = since;
    // The way in counts: a message that could not be sent because nobody was let in has waited, too.
    {
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.1.get_or_insert_with(Instant::now);
    }
    let mut hello = Hello::v3("bystander");
    hello.user = user;
    let mut client = Client::connect(from, port, &hello)?;
    client.subscribe(false, &[TOPIC.to_owned()], 1)?;
    let mut id = 0_u16;
    while !shared.stop.load(Ordering::Relaxed) {
        id = id % 60_000 + 1;
        let sent = shared.seen.lock().unwrap_or_else(PoisonError::into_inner).1.unwrap_or_else(Instant::now);
        set(Some(sent));
        client.send(&Publish::new(TOPIC, &id.to_be_bytes(), id).bytes())?;
        let (mut acknowledged, mut back) = (false, false);
        while !(acknowledged && back) {
            match client.next(Instant::now() + Duration::from_millis(200))? {
                Heard::Packet(0x40, body) => acknowledged |= body.get(..2) == Some(&id.to_be_bytes()),
                Heard::Packet(first, body) if first >> 4 == 3 => {
                    client.send(&answer(0x40, super::client::publish_id(&body)))?;
                    back |= body.ends_with(&id.to_be_bytes());
                }
                Heard::Packet(..) => {}
                Heard::Closed => return Err(std::io::Error::other("closed")),
                Heard::Silence if shared.stop.load(Ordering::Relaxed) => return Ok(()),
                Heard::Silence if sent.elapsed() > PATIENCE => return Err(std::io::Error::other("silence")),
                Heard::Silence => {}
            }
        }
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0.times.push(sent.elapsed());
        seen.1 = None;
        drop(seen);
        thread::park_timeout(EVERY);
    }
    Ok(())
}
