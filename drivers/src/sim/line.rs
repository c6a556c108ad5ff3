//! An emulated serial line. One end is a pseudo terminal for the gateway, the other a pseudo terminal for a real program or a
//! slave inside. Every byte takes its true time at the baud rate, silences are watched, and faults are drawn from a seed.
//!
//! ```text
//!   gateway --- port (link to a pty) === line: a thread === far port (link to a pty) --- any Modbus program
//!                                                     \== or a slave function, which answers without delay of its own
//! ```
//!
//! Bounds: one thread per line; at most [`QUEUE_BYTES_MAX`] bytes on the way in each direction, more are lost like on a real wire.

mod far;
mod pty;
mod pump;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use far::Slave;

/// Bytes on the way in one direction.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024;
/// Orders to the line's thread that wait; a test gives one at a time.
const ORDERS_MAX: usize = 4;

/// Speed and faults of a line. Each fault is "once in so many frames of the far end", 0 is never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bits per second.
    pub baud: u32,
    /// Bits of a character: 11 with parity, 10 without.
    pub bits: u32,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Whether the gateway hears what it sends.
    pub echo: bool,
    /// The adapter of the gateway hands over what it has received every so often only, as USB adapters do; zero is at once.
    pub burst: Duration,
    /// Frames that come up to `late_max` late.
    pub late: u64,
    /// How late at most.
    pub late_max: Duration,
    /// Frames that are lost.
    pub lost: u64,
    /// Frames that end early.
    pub short: u64,
    /// Frames with a wrong bit.
    pub damaged: u64,
    /// Frames with 1 to 30 bytes of noise some time before or after.
    pub noise: u64,
    /// Frames with a frame of unit 77 some time before or after.
    pub foreign: u64,
}

impl Settings {
    /// A line without faults: 8 data bits and parity.
    #[must_use]
    pub fn clean(baud: u32) -> Self {
        Self {
            baud,
            bits: 11,
            seed: 0,
            echo: false,
            burst: Duration::ZERO,
            late: 0,
            late_max: Duration::ZERO,
            lost: 0,
            short: 0,
            damaged: 0,
            noise: 0,
            foreign: 0,
        }
    }

    /// Time of one character.
    #[must_use]
    pub fn character(&self) -> Duration {
        Duration::from_nanos(u64::from(self.bits) * 1_000_000_000 / u64::from(self.baud.max(1)))
    }

    /// The silence between frames: 3.5 characters, 1.75 ms above 19200 baud.
    #[must_use]
    pub fn frame_silence(&self) -> Duration {
        if self.baud > 19_200 { Duration::from_micros(1750) } else { self.character() * 7 / 2 }
    }
}

/// What was seen on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Frames of the gateway.
    pub frames: u64,
    /// Of these: frames that began less than 3.5 characters after the last byte of either side.
    pub early_frames: u64,
    /// The shortest silence before a frame of the gateway, ns.
    pub silence_min_ns: u64,
    /// Frames of the far end.
    pub answers: u64,
    /// Faults that were made.
    pub faults: u64,
    /// Times the thread of the line was late by more than [`LATE_MIN`] in handing bytes to the gateway: a busy machine holds it up.
    pub late_turns: u64,
    /// The longest that it was late since [`Line::take_late_max`], ns.
    pub late_max_ns: u64,
}

/// A thread of a line that is late by less is on time.
pub const LATE_MIN: Duration = Duration::from_millis(2);

/// The other end of a line.
pub enum FarEnd {
    /// A pseudo terminal for a program.
    Port,
    /// A slave that answers each request with a good checksum 3.5 characters after its last byte.
    Slave(Slave),
}

/// Orders to the thread of a line.
enum Order {
    HangUp,
    PlugIn,
    Stop,
}

/// An emulated line; it ends when it is dropped.
pub struct Line {
    port: PathBuf,
    far_port: Option<PathBuf>,
    orders: SyncSender<Order>,
    wake: std::os::fd::OwnedFd,
    /// The thread writes and the owner reads; each holds the lock for a copy.
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// Makes a line whose ports are links in `folder`, which must exist.
    ///
    /// # Errors
    /// There are no pseudo terminals, or the folder cannot be written.
    pub fn open(folder: &Path, settings: Settings, far_end: FarEnd) -> io::Result<Self> {
        let port = folder.join("port");
        let near = pty::Pty::open(&port)?;
        let (far, far_port) = match far_end {
            FarEnd::Port => {
                let path = folder.join("far-port");
                (far::Far::Port(pty::Pty::open(&path)?), Some(path))
            }
            FarEnd::Slave(slave) => (far::Far::Slave(slave), None),
        };
        let (orders, taken) = sync_channel(ORDERS_MAX);
        let (wake, woken) = pty::waker()?;
        let seen = Arc::new(Mutex::new(Seen { silence_min_ns: u64::MAX, ..Seen::default() }));
        let pump = pump::Pump::new(settings, near, far, Arc::clone(&seen));
        let thread = std::thread::Builder::new().name("emulated-line".into()).spawn(move || {
            if let Err(error) = pump.run(&taken, &woken) {
                log::error!("emulated line broke: {error}");
            }
        })?;
        Ok(Self { port, far_port, orders, wake, seen, thread: Some(thread) })
    }

    /// The stable path of the gateway's port: a link that survives [`Self::hang_up`].
    #[must_use]
    pub fn port(&self) -> &Path {
        &self.port
    }

    /// The path of the far port, if there is one.
    #[must_use]
    pub fn far_port(&self) -> Option<&Path> {
        self.far_port.as_deref()
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest that the line's own thread was late since this was asked last.
    #[must_use]
    pub fn take_late_max(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_nanos(std::mem::take(&mut seen.late_max_ns))
    }

    /// Unplugs the gateway's adapter: its port hangs up and the path is gone.
    pub fn hang_up(&self) {
        self.order(Order::HangUp);
    }

    /// Plugs it in again: the path is there again, and leads to another terminal.
    pub fn plug_in(&self) {
        self.order(Order::PlugIn);
    }

    fn order(&self, order: Order) {
        // A line whose thread has ended obeys nothing any more; its log says why.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
