//! The thread of a line: takes bytes at one end, holds each for its time on the wire, hands it over at the other.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::far::{Far, answers};
use super::pty::Pty;
use super::{LATE_MIN, Order, QUEUE_BYTES_MAX, Seen, Settings};
use crate::clock;
use crate::modbus::rtu::append_crc;
use crate::sim::Dice;
use crate::sys;

/// Bytes on the way, each with the moment at which its last bit arrives, ns since boot.
type Way = VecDeque<(u64, u8)>;

pub(super) struct Pump {
    settings: Settings,
    dice: Dice,
    character_ns: u64,
    silence_ns: u64,
    burst_ns: u64,
    near: Pty,
    far: Far,
    to_near: Way,
    to_far: Way,
    /// Until when the last byte of each side occupies the line.
    near_sends_until: u64,
    far_sends_until: u64,
    /// When the last byte arrived at the near end. What is still to come cannot be known there.
    near_heard_at: u64,
    /// What the slave inside has heard of a request, and when its last byte arrived.
    heard: Vec<u8>,
    heard_at: u64,
    /// How much later the rest of a frame that is under way comes.
    late_ns: u64,
    seen: Arc<Mutex<Seen>>,
}

impl Pump {
    pub(super) fn new(settings: Settings, near: Pty, far: Far, seen: Arc<Mutex<Seen>>) -> Self {
        Self {
            dice: Dice::new(settings.seed),
            character_ns: nanos(settings.character()),
            silence_ns: nanos(settings.frame_silence()),
            burst_ns: nanos(settings.burst),
            settings,
            near,
            far,
            to_near: Way::new(),
            to_far: Way::new(),
            near_sends_until: 0,
            far_sends_until: 0,
            near_heard_at: 0,
            heard: Vec::new(),
            heard_at: 0,
            late_ns: 0,
            seen,
        }
    }

    pub(super) fn run(mut self, orders: &Receiver<Order>, woken: &OwnedFd) -> io::Result<()> {
        // The kernel may otherwise delay this thread by 50 us to save power; bytes would be late by half a character.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        // A wire does not wait for a processor. Where this is not allowed, a busy machine makes silences that no wire would; `Seen` tells of them.
        let _ = sys::run_first();
        let mut buffer = [0; 1024];
        loop {
            let now = clock::now().0;
            let far_next = self.deliver(now);
            self.wait(far_next, woken)?;
            let mut wakes = [0; 8];
            let _ = rustix::io::read(woken, &mut wakes);
            while let Ok(order) = orders.try_recv() {
                match order {
                    Order::HangUp => self.near.hang_up(),
                    Order::PlugIn => self.near.plug_in()?,
                    Order::Stop => return Ok(()),
                }
            }
            let now = clock::now().0;
            let read = self.near.read(&mut buffer);
            self.near_sent(now, &buffer[..read]);
            if let Far::Port(port) = &self.far {
                let read = port.read(&mut buffer);
                self.far_sent(now, &buffer[..read]);
            }
        }
    }

    /// Sleeps until the next byte is due, a port has bytes, or an order came.
    fn wait(&self, next: Option<u64>, woken: &OwnedFd) -> io::Result<()> {
        let mut fds = vec![PollFd::new(woken, PollFlags::IN)];
        if let Some(fd) = self.near.fd() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Far::Port(port) = &self.far
            && let Some(fd) = port.fd()
        {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let timeout = next.map(|next| {
            let left = next.saturating_sub(clock::now().0);
            Timespec {
                tv_sec: i64::try_from(left / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(left % 1_000_000_000).unwrap_or(0),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands over what has arrived. Returns when the next byte does.
    fn deliver(&mut self, now: u64) -> Option<u64> {
        if let Some((due, _)) = self.to_near.front().filter(|(due, _)| *due <= now) {
            let late = now - due;
            self.count(|seen| {
                seen.late_turns += u64::from(late > nanos(LATE_MIN));
                seen.late_max_ns = seen.late_max_ns.max(late);
            });
        }
        let (near, heard_at) = arrived(&mut self.to_near, now);
        if !near.is_empty() {
            self.near.write(&near);
            self.near_heard_at = heard_at;
        }
        let (far, _) = arrived(&mut self.to_far, now);
        if let Far::Port(port) = &self.far
            && !far.is_empty()
        {
            port.write(&far);
        }
        let heads = [self.to_near.front(), self.to_far.front()];
        heads.into_iter().flatten().map(|(due, _)| *due).min()
    }

    fn near_sent(&mut self, now: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if now > self.near_sends_until {
            self.watch_silence(now);
        }
        let start = self.near_sends_until.max(now);
        for (number, byte) in (1u64..).zip(bytes) {
            let due = start + number * self.character_ns;
            push(&mut self.to_far, due, *byte);
            if self.settings.echo {
                push(&mut self.to_near, handed_over(due, self.burst_ns), *byte);
            }
            self.near_sends_until = due;
        }
        if let Far::Slave(slave) = &mut self.far {
            if start > self.heard_at + self.silence_ns {
                self.heard.clear();
            }
            self.to_far.clear();
            self.heard.extend_from_slice(bytes);
            self.heard_at = self.near_sends_until;
            if self.heard.len() > QUEUE_BYTES_MAX {
                self.heard.clear();
            }
            for answer in answers(slave, &mut self.heard) {
                self.send_from_far(self.heard_at + self.silence_ns, &answer);
            }
        }
    }

    /// Bytes of the far port: a frame begins where the port was silent.
    fn far_sent(&mut self, now: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let goes_on = now < self.far_sends_until.saturating_add(self.silence_ns);
        if goes_on && self.far_sends_until != 0 {
            let start = self.far_sends_until.max(now.saturating_add(self.late_ns));
            self.put_near(start, bytes);
        } else {
            self.send_from_far(now, bytes);
        }
    }

    /// Sends a frame (or its beginning) of the far end, with the faults it draws.
    fn send_from_far(&mut self, at: u64, frame: &[u8]) {
        let mut frame = frame.to_vec();
        let settings = self.settings.clone();
        let mut faults = 0;
        self.late_ns = 0;
        if self.dice.once_in(settings.late) {
            self.late_ns = self.dice.below(nanos(settings.late_max));
            faults += 1;
        }
        if self.dice.once_in(settings.damaged) {
            let place = usize::try_from(self.dice.below(frame.len() as u64)).unwrap_or(0);
            frame[place] ^= 1 << self.dice.below(8);
            faults += 1;
        }
        if self.dice.once_in(settings.short) {
            frame.truncate(usize::try_from(self.dice.below(frame.len() as u64)).unwrap_or(0));
            faults += 1;
        }
        if self.dice.once_in(settings.noise) {
            let noise: Vec<u8> = (0..=self.dice.below(29)).map(|_| self.dice.byte()).collect();
            self.put_sometime(at, &noise);
            faults += 1;
        }
        if self.dice.once_in(settings.foreign) {
            let mut foreign = vec![77, 3, 2, 0, 1];
            append_crc(&mut foreign);
            self.put_sometime(at, &foreign);
            faults += 1;
        }
        let lost = self.dice.once_in(settings.lost);
        if !lost {
            self.put_near(at.saturating_add(self.late_ns), &frame);
        }
        self.count(|seen| {
            seen.answers += 1;
            seen.faults += faults + u64::from(lost);
        });
    }

    /// Strangers talk up to 20 ms after the moment at which an answer is due.
    fn put_sometime(&mut self, at: u64, bytes: &[u8]) {
        let at = at.saturating_add(self.dice.below(20_000_000));
        self.put_near(at, bytes);
    }

    fn put_near(&mut self, at: u64, bytes: &[u8]) {
        let at = at.max(self.far_sends_until);
        for (number, byte) in (1u64..).zip(bytes) {
            let due = at + number * self.character_ns;
            push(&mut self.to_near, handed_over(due, self.burst_ns), *byte);
            self.far_sends_until = due;
        }
    }

    /// The gateway begins a frame: was the line silent for long enough?
    fn watch_silence(&mut self, now: u64) {
        let silence = now.saturating_sub(self.near_sends_until.max(self.near_heard_at));
        let early = silence < self.silence_ns;
        self.count(|seen| {
            seen.frames += 1;
            seen.early_frames += u64::from(early);
            seen.silence_min_ns = seen.silence_min_ns.min(silence);
        });
    }

    fn count(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn push(way: &mut Way, due: u64, byte: u8) {
    if way.len() < QUEUE_BYTES_MAX {
        let place = way.partition_point(|(other, _)| *other <= due);
        way.insert(place, (due, byte));
    }
}

/// When an adapter that looks every `burst` hands over a byte that has arrived at `due`.
fn handed_over(due: u64, burst: u64) -> u64 {
    due.checked_next_multiple_of(burst).unwrap_or(due)
}

/// Takes what has arrived by `now`, and when the last of it did.
fn arrived(way: &mut Way, now: u64) -> (Vec<u8>, u64) {
    let count = way.iter().take_while(|(due, _)| *due <= now).count();
    let last = way.get(count.wrapping_sub(1)).map_or(0, |(due, _)| *due);
    (way.drain(..count).map(|(_, byte)| byte).collect(), last)
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
