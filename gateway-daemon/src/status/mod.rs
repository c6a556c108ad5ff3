//! What the gateway tells about itself to the system it runs on: journal, metrics and service notifications. Written to, never asked.

mod events;
pub mod journal;
mod limiter;
pub mod metrics;
pub mod notify;
