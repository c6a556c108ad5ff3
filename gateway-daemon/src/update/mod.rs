//! The update agent: installs updates of the whole system as root, for clients on a unix socket that need not be.
//!
//! ```text
//! gateway-daemon update --.                    .--> before.json, last.json (files)
//! the daemon, for the  ---+--socket--> agent --+--> rauc install SOURCE --> slot that is not running
//!   cloud                 '                    '--> systemctl reboot
//! ```
//! Who may ask is decided by the mode of the socket. What may be installed is decided by RAUC, which checks the signature and the board before it
//! writes, marks the other slot bad while it writes, and lets the boot loader start it only when it is whole: a power cut or a kill at any moment
//! leaves the running system in charge. The agent adds the order of things around it: one installation at a time, what worked before is
//! on disk before anything is written, an updated system that has not passed its test is never overwritten the only good one for, and what is older than a
//! system that passed is installed only where root itself asks for it. A file that others can change is copied first (`staging`), and `http://` needs the
//! word of a file of root.
//!
//! Bounds: `CLIENTS_MAX` clients, one request each, lines of [`gateway_core::update::wire::LINE_BYTES_MAX`], one installation of at
//! most `INSTALL_MAX`. A client that does not read loses progress, never the outcome. Never: hands a text to a shell, or an option to RAUC.

mod agent;
mod client;
mod files;
mod job;
mod lines;
mod rauc;
mod staging;

use std::future::Future;
use std::pin::Pin;

use gateway_core::update::trial::Sight;

pub use agent::{Settings, serve};
pub use client::{Client, ClientError};
pub use files::{FOLDER_PATH, Folder, FolderError, boot_id, is_try, system_version};
pub use rauc::{Rauc, RaucError};
pub(crate) use staging::is_ours_alone;

/// A look at the running gateway that is under way.
pub type Looking = Pin<Box<dyn Future<Output = Sight> + Send>>;

/// Whether sources may be `http://`: asked for each, because root's file may change meanwhile.
pub type AllowHttp = Box<dyn Fn() -> bool + Send + Sync>;

/// How the agent looks at the running gateway: it does not know how to ask it.
pub type Look = Box<dyn Fn() -> Looking + Send + Sync>;
