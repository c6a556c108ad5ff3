//! One cloud connection and its durable queue, as sans-IO machines.
//!
//! Owned by the uplink work; the contract with the store is in [`row`], the settings in [`settings`].

pub mod row;
pub mod settings;
