//! One cloud connection and its durable queue, as sans-IO machines.
//!
//! [`queue`] keeps messages until they are acknowledged, [`bulletins`] only the newest of a topic, [`machine`] drives one connection and takes rows from the queue. The contract
//! with the store is in [`row`], with the connection in [`link`] and [`loss`], the settings in [`settings`].

mod action;
mod backoff;
pub mod bulletins;
mod change;
mod flights;
mod learned;
pub mod link;
pub mod loss;
pub mod machine;
mod mutant;
pub mod pace;
pub mod queue;
pub mod row;
mod sending;
mod servers;
pub mod settings;
mod share;
mod status;
mod suspects;
#[cfg(test)]
mod tests;
mod topic;
mod trial;
mod view;

pub use machine::{Action, Uplink};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use status::Identity;
