//! What a schedule wants from the task that owns the line.

use std::time::Duration;

use crate::poll::request::Request;
use crate::tag::BootNs;

/// Names one [`Order`] until its answer; never repeats within one schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// One request to put on the line. Every order is answered exactly once through `Schedule::answered`, unless the bus
/// goes down first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Hand it back with the answer.
    pub ticket: Ticket,
    /// Index of the device in [`crate::poll::Settings::devices`], for logs.
    pub device: usize,
    /// What to ask.
    pub request: Request,
    /// From the end of the request to the first byte of the answer.
    pub timeout: Duration,
    /// Silence to keep before the request beyond the 3.5 characters of a serial line: the bus's pause and the
    /// device's own delay together.
    pub delay_before: Duration,
    /// How long units need to act on a broadcast; polls are never broadcasts.
    pub turnaround: Duration,
    /// 0 for the first try of a request, 1 for its first retry.
    pub attempt: u8,
    /// Whether this only asks a dead device for a sign of life.
    pub probe: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Put this request on the line. Ask for the next step at once: with pipelining there may be another.
    Ask(Order),
    /// Nothing before this moment, unless an order is answered or the bus changes its state first.
    /// `BootNs(u64::MAX)` when there is nothing at all to wait for but that.
    Wait(BootNs),
}
