//! How the gateway itself is on the network: its settings, and the files of systemd-networkd, wpa_supplicant and
//! systemd-timesyncd that say so.
//!
//! Invariant: whatever [`settings::Settings`] holds cannot break out of its line in a file: names, addresses and cards are types that admit no
//! character with a meaning there, the name of a radio network and its key are written in hexadecimal.
//! Bounds: [`settings::NTP_MAX`], [`settings::DNS_MAX`]. Never: touches a file or asks a network card.

mod render;
pub mod settings;

#[cfg(test)]
mod tests;

pub use render::{Rendered, WIFI_KEY_BYTES, rendered};
