//! The local broker as its users meet it: the real daemon, and clients of others as their manuals say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

#[path = "e2e_broker/bounds.rs"]
mod bounds;
#[path = "e2e_broker/doors.rs"]
mod doors;
#[path = "e2e_broker/limits.rs"]
mod limits;
#[path = "e2e_broker/memory.rs"]
mod memory;
#[path = "e2e_broker/mosquitto.rs"]
mod mosquitto;
#[path = "e2e_broker/paho.rs"]
mod paho;
#[path = "e2e_broker/promises.rs"]
mod promises;
#[path = "e2e_broker/recipes.rs"]
mod recipes;
