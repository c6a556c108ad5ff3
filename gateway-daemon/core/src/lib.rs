//! The pure rooms of Tidegate. Nothing here reads a clock, opens a socket or a file, or draws a random number:
//! time and randomness are arguments, effects are returned as actions, and the hands (`gateway-daemon`, `drivers`)
//! carry them out. That is what lets a simulation run days of outages in a second.
//!
//! Who may import whom: every room may import [`tag`]; [`broker`] and [`uplink`] may also import [`payload`].
//! [`fit`] adds up what the limits of rooms cost together. [`settings`] holds the plain `Settings` of the hands, so that `gateway-config` can fill them without depending
//! on the daemon. A tidy test reads the `use` lines.

pub mod board;
pub mod broker;
pub mod fit;
pub mod health;
pub mod network;
pub mod os;
pub mod payload;
pub mod poll;
pub mod process;
pub mod settings;
pub mod tag;
pub mod text;
pub mod update;
pub mod uplink;
pub mod wall;

#[doc(hidden)]
pub mod fuzzing;
