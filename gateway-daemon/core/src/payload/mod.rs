//! Readings to messages: compact records for the queue, JSON for the wire.
//!
//! Owned by the payload work; settings in [`settings`].

pub mod settings;
