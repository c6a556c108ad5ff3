//! The frame: wires the rooms together and carries out the commands.

pub mod demo;
pub mod picture;
pub mod snapshot;
