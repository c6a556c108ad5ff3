//! The socket that systemd has opened for this process (sd_listen_fds(3)).

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys;

/// Taken once; a second caller would own the same descriptor.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The socket, if systemd has passed exactly one to this very process. Only the first call gets it.
#[must_use]
pub fn socket() -> Option<OwnedFd> {
    let is = |name: &str, expected: u32| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()) == Some(expected)
    };
    let passed = is("LISTEN_PID", std::process::id()) && is("LISTEN_FDS", 1);
    (passed && !TAKEN.swap(true, Ordering::Relaxed)).then(sys::first_passed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_was_started_otherwise_gets_nothing() {
        assert!(super::socket().is_none());
    }
}
