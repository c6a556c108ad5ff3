//! The list, in the order of docs/attacks.md.

mod access;
mod buffers;
mod crowds;
mod memory;
mod neighbours;
mod pace;
mod shares;
mod totals;
mod work;

use super::judge::Attack;
use super::stage::{Needs, Stage};

/// Every attack.
pub(crate) fn all() -> Vec<Attack> {
    let lists = [
        memory::list(),
        buffers::list(),
        work::list(),
        crowds::list(),
        shares::list(),
        neighbours::list(),
        access::list(),
        pace::list(),
        totals::list(),
    ];
    let mut all: Vec<Attack> = lists.into_iter().flatten().collect();
    all.sort_by_key(|attack| {
        let letter = attack.key.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = attack.key.strip_suffix(letter).and_then(|number| number.parse::<u32>().ok());
        (number, letter)
    });
    all
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
