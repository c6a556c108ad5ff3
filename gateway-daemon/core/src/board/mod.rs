//! What is fitted to the board, a hat above all: its settings, and the file of the Raspberry Pi's firmware that says so.
//!
//! Invariant: whatever [`settings::Settings`] holds cannot break out of its line: an overlay is a type that admits no character with a meaning there, and a line never
//! has more than [`settings::LINE_MAX`] characters. Bounds: [`settings::OVERLAYS_MAX`]. Never: touches a card.

mod render;
pub mod settings;

pub use render::{FILE, INCLUDE, is_ours, rendered};
