//! Which requests a poll group takes, what they cost on the wire and whether a bus can carry them.
//!
//! A plan is made from settings alone: the same one is printed by `check`, refused when it cannot fit, and carried out by
//! [`crate::poll::schedule`].

mod advice;
mod blocks;
mod bus_plan;
mod text;
mod wire;

#[cfg(test)]
mod tests;

pub use advice::Advice;
pub use blocks::{BITS_MAX, Block, Limits, REGISTERS_MAX, Span, blocks};
pub use bus_plan::{BusPlan, GroupPlan, Problem, ROUND_TRIPS_PER_S_MAX, Remark, SHARE_COMFORTABLE};
pub use wire::Cost;
