//! Raw readings to readings worth a message: scale, range, report by exception, staleness.
//!
//! [`Processor::cycle`] takes what one cycle of a poll group yielded and leaves in it what has to be published. In this order:
//! raw value to engineering value ([`Scaler`]), range (clamp or [`Reason::OutOfRange`]), filter (deadband). [`Processor::timeout`] speaks for tags
//! whose polls stopped: [`Reason::Stale`], [`Reason::NotPolled`], and the heartbeat of `silence_max`.
//!
//! # When a reading is reported
//! 1. the first one of a tag, good or bad;
//! 2. every change of quality: good to bad, bad to good, one reason to another;
//! 3. a good value whose distance from the last *reported* value is above the deadband, so that slow drift adds up and is seen;
//! 4. any reading when the last report is `silence_max` ago, to within half a scan interval;
//! 5. with [`Deadband::Off`] every reading.
//!
//! # Invariants
//! - A consumer's view (the last report) is never further than the deadband from the last value read, while the value is good.
//! - An integer is never turned into a float unless its scale has a fraction; u64 counters keep all their digits.
//! - `in = reported + suppressed + foreign` ([`Counters`]).
//! - Time comes from the readings and the caller; deadlines are compared, never counted down.
//!
//! Bounds: state of fixed size per configured tag; a cycle is filtered in place, without allocation. This room never averages, never
//! interpolates, never invents a value: what is reported was read, or is bad with a reason.
//!
//! [`Reason::OutOfRange`]: crate::tag::Reason::OutOfRange
//! [`Reason::Stale`]: crate::tag::Reason::Stale
//! [`Reason::NotPolled`]: crate::tag::Reason::NotPolled
//! [`Deadband::Off`]: settings::Deadband::Off

mod decimal;
mod filter;
mod limits;
mod number;
mod processor;
mod scale;
pub mod settings;
#[cfg(test)]
mod tests;
mod unscale;

pub use processor::{Counters, Processor, Report};
pub use scale::{Scaler, widen_f32};
pub use unscale::{UnscaleError, unscale};
