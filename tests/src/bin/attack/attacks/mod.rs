//! The list, in the order of docs/attacks.md.

mod access;
mod crowds;
mod memory;
mod neighbours;
mod pace;
mod work;

use super::judge::Attack;
use super::stage::{Needs, Stage};

/// Every attack.
pub(crate) fn all() -> Vec<Attack> {
    [memory::list(), work::list(), crowds::list(), neighbours::list(), access::list(), pace::list()]
        .into_iter()
        .flatten()
        .collect()
}

/// An attack with one restart and the usual gateway, in the full form only.
fn attack(key: &'static str, name: &'static str, run: fn(&mut Stage) -> anyhow::Result<()>) -> Attack {
    Attack { key, name, short: false, needs: NEEDS, seconds: 30, restarts: 1, run }
}

/// No users, one listener, all limits at their defaults.
const NEEDS: Needs = Needs {
    users: false,
    anonymous: false,
    listeners: false,
    files: None,
    broker: "",
    limits: "",
    alice: "",
    uplink: "",
    store: "",
};
