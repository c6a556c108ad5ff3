//! Word to the service manager: ready, alive, stopping ("sd_notify(3)"). Without `NOTIFY_SOCKET` nothing is said.

use sd_notify::NotifyState;

/// The way to the service manager.
#[derive(Debug)]
pub struct Notify {
    watchdog: bool,
    said: String,
}

impl Notify {
    /// Finds out whether the service manager wants a sign of life.
    #[must_use]
    pub fn from_env() -> Self {
        let mut watchdog_us = 0;
        Self { watchdog: sd_notify::watchdog_enabled(false, &mut watchdog_us), said: String::new() }
    }

    /// The gateway works.
    pub fn ready(&self) {
        say(&NotifyState::Ready);
    }

    /// A changed configuration is being read, since this moment of the clock that the service manager compares with.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => say_all(&[NotifyState::Reloading, now]),
            // Without the moment the service manager would count the message as malformed, and end us for it.
            Err(fault) => log::warn!("service manager: no monotonic clock: {fault}"),
        }
    }

    /// The reload is over, well or not, as the sentence says.
    pub fn reloaded(&mut self, sentence: String) {
        say_all(&[NotifyState::Ready, NotifyState::Status(&sentence)]);
        self.said = sentence;
    }

    /// The core loop has gone round: feeds the watchdog, if there is one. Called only from that loop, so that a stuck one is noticed.
    pub fn progress(&self) {
        if self.watchdog {
            say(&NotifyState::Watchdog);
        }
    }

    /// One line about how the gateway is, for `systemctl status`; said when it changed.
    pub fn status(&mut self, sentence: String) {
        if sentence != self.said {
            say(&NotifyState::Status(&sentence));
            self.said = sentence;
        }
    }

    /// The gateway begins to stop.
    pub fn stopping(&self) {
        say(&NotifyState::Stopping);
    }
}

fn say(state: &NotifyState<'_>) {
    say_all(std::slice::from_ref(state));
}

fn say_all(states: &[NotifyState<'_>]) {
    // A service manager that does not listen is no reason to stop collecting.
    if let Err(fault) = sd_notify::notify(false, states) {
        log::debug!("service manager: {fault}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// Speaks to whatever `NOTIFY_SOCKET` names, as the child of the test below; does nothing without it.
    #[test]
    fn a_child_says_every_word_when_asked() {
        if std::env::var_os("TIDEGATE_NOTIFY_CHILD").is_none() {
            return;
        }
        let mut notify = Notify::from_env();
        notify.ready();
        notify.status("all well".into());
        notify.status("all well".into());
        notify.progress();
        notify.reloading();
        notify.reloaded("refused".into());
        notify.stopping();
    }

    fn heard(watchdog: bool) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        // systemd names the process whose watchdog it keeps; the shell becomes that process.
        let mut child = Command::new("sh");
        child.args([
            "-c",
            "WATCHDOG_PID=$$ exec \"$0\" --exact status::notify::tests::a_child_says_every_word_when_asked",
        ]);
        child.arg(std::env::current_exe().unwrap()).env("NOTIFY_SOCKET", &path);
        child.env("TIDEGATE_NOTIFY_CHILD", "1").env_remove("WATCHDOG_USEC");
        if watchdog {
            child.env("WATCHDOG_USEC", "10000000");
        }
        assert!(child.output().unwrap().status.success());
        let mut buffer = [0; 256];
        std::iter::from_fn(|| {
            socket.recv(&mut buffer).ok().map(|length| String::from_utf8(buffer[..length].to_vec()).unwrap())
        })
        .map(|text| text.trim().to_owned())
        .collect()
    }

    #[test]
    fn systemd_hears_each_word_once() {
        let said = heard(true);
        let (moment, others): (Vec<String>, Vec<String>) =
            said.into_iter().partition(|said| said.starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(
            others,
            ["READY=1", "STATUS=all well", "WATCHDOG=1", "READY=1\nSTATUS=refused", "STOPPING=1"]
        );
        assert!(moment[0].rsplit('=').next().unwrap().parse::<u64>().unwrap() > 0, "{moment:?}");
        assert!(!heard(false).contains(&"WATCHDOG=1".to_owned()), "no watchdog is fed that nobody keeps");
    }
}
