//! Word to the service manager: ready, alive, stopping ("sd_notify(3)"). Without `NOTIFY_SOCKET` nothing is said.

use sd_notify::NotifyState;

/// The way to the service manager.
#[derive(Debug)]
pub struct Notify {
    watchdog: bool,
}

impl Notify {
    /// Finds out whether the service manager wants a sign of life.
    #[must_use]
    pub fn from_env() -> Self {
        let mut watchdog_us = 0;
        Self { watchdog: sd_notify::watchdog_enabled(false, &mut watchdog_us) }
    }

    /// The gateway works.
    pub fn ready(&self) {
        say(&NotifyState::Ready);
    }

    /// The core loop has gone round: feeds the watchdog, if there is one. Called only from that loop, so that a stuck one is noticed.
    pub fn progress(&self) {
        if self.watchdog {
            say(&NotifyState::Watchdog);
        }
    }

    /// The gateway begins to stop.
    pub fn stopping(&self) {
        say(&NotifyState::Stopping);
    }
}

fn say(state: &NotifyState<'_>) {
    // A service manager that does not listen is no reason to stop collecting.
    if let Err(fault) = sd_notify::notify(false, std::slice::from_ref(state)) {
        log::debug!("service manager: {fault}");
    }
}
