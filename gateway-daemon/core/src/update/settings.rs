//! Plain settings of updates by command of the cloud: `[update]`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::tag::Name;

/// Last levels of the topic on which commands come: below the gateway's id.
pub const INSTALL_LEVELS: &str = "update/install";

/// Last level of the retained topic that says how the update is.
pub const STATE_LEVELS: &str = "update";

/// Who may command updates, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The uplink from which commands are taken; from no other.
    pub uplink: Name,
    /// Topic of the cloud on which commands come.
    pub install_topic: Arc<str>,
    /// Retained topic of the cloud that says how the update is.
    pub state_topic: Arc<str>,
    /// Whether sources may be `http://`, too. Bundles are signed, but who listens sees which version is installed.
    pub allow_http: bool,
    /// Socket of the update agent.
    pub socket: PathBuf,
}

impl Settings {
    /// The settings of a gateway: its topics begin with its id.
    #[must_use]
    pub fn of(gateway: &str, uplink: Name, allow_http: bool, socket: PathBuf) -> Self {
        Self {
            uplink,
            socket,
            install_topic: format!("{gateway}/{INSTALL_LEVELS}").into(),
            state_topic: format!("{gateway}/{STATE_LEVELS}").into(),
            allow_http,
        }
    }
}
