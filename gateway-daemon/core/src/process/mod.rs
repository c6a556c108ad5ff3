//! Raw readings to readings worth a message.
//!
//! Owned by the process work; settings in [`settings`].

pub mod settings;
