//! What to ask which device next, and what the answer means.
//!
//! Owned by the poll work; the settings are in [`settings`], the conversation with a line in [`request`].

pub mod request;
pub mod settings;
