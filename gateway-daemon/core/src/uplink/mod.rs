//! One cloud connection and its durable queue, as sans-IO machines.
//!
//! Owned by the uplink work; the contract with the store is in [`row`], with the connection in [`link`] and [`loss`], the settings in [`settings`].

pub mod link;
pub mod loss;
pub mod row;
pub mod settings;
