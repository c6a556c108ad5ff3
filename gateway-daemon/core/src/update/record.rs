//! What of an update survives reboots and power cuts, and what it means after one.
//!
//! ```text
//!  before.json  written and synced before anything is installed; gone when the outcome is known
//!  last.json    the last outcome, and the key of its command
//!  history.json the version of the last system that passed its test, and the keys of the last commands that changed something
//!  rolled-back  why the last updated system had to go, as a text; gone when a later update is installed
//! ```
//! While `before.json` is there:
//!
//! | booted since it was written | slot that runs | it means |
//! | --- | --- | --- |
//! | no | the same | it is being installed, was cut off, or waits for the reboot |
//! | yes | another | the updated system is on trial |
//! | yes | the same, installed | the updated system did not start, or had to go |
//! | yes | the same, not installed | the installation was cut off |

use serde::{Deserialize, Serialize};

use super::order::id_of;
use super::reason::{Failure, Reason};
use super::slots::Slots;
use super::trial::Before;
use super::wire::{State, Status};

/// Largest of these files, bytes: some thousand names.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// `before.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The boot in which it was written, as the kernel names it.
    pub boot: String,
    /// The slot that ran then; empty where the update tool knows of none.
    pub slot: String,
    /// What worked then.
    pub before: Before,
    /// Whether the installation was complete.
    #[serde(default)]
    pub installed: bool,
    /// Whether the system is started again by the one who installed.
    #[serde(default)]
    pub reboot: bool,
    /// Version of the bundle, when it is known.
    #[serde(default)]
    pub version: Option<String>,
    /// Key of the command.
    #[serde(default)]
    pub key: Option<String>,
    /// Whether it may be older than what ran here.
    #[serde(default)]
    pub downgrade: bool,
}

/// Most commands that are remembered: a cloud that sends its last ones again sends a few.
pub const KEYS_MAX: usize = 16;

/// `history.json`. A file of its own, which earlier versions of this program leave alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// Version of the last system that passed its test. A file that does not say it, not even as `null`, is none of ours.
    #[serde(deserialize_with = "Option::deserialize")]
    pub version: Option<String>,
    /// Keys of commands that changed something, the newest first.
    pub keys: Vec<String>,
}

impl History {
    /// Remembers the command of an outcome, if there is one to remember.
    pub fn add(&mut self, last: &Last) -> bool {
        let Some(key) = last.key.as_ref().filter(|_| last.changed_something()) else { return false };
        self.remember(key);
        true
    }

    /// Remembers a command that has changed something.
    pub fn remember(&mut self, key: &str) {
        self.keys.retain(|known| known != key);
        self.keys.insert(0, key.to_owned());
        self.keys.truncate(KEYS_MAX);
    }
}

/// `last.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Last {
    /// The outcome.
    pub status: Status,
    /// Key of the command.
    pub key: Option<String>,
}

impl Last {
    /// Whether another system was started: what failed has changed nothing, and may be tried again.
    fn changed_something(&self) -> bool {
        matches!(self.status.state, State::Good | State::RolledBack)
    }
}

/// What a boot finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Case {
    /// The running system is not on trial.
    Trusted,
    /// It is on trial, and this has to work.
    Trial(Before),
    /// It is on trial, and what worked before it is not known: the gateway has to run with a whole store.
    Unknown,
    /// The old system runs again, or still: the outcome is known.
    Back(Status),
}

/// What is known of a boot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Boot<'a> {
    /// As the kernel names it.
    pub id: &'a str,
    /// The slots; `None` when the update tool does not say.
    pub slots: Option<&'a Slots>,
    /// The boot loader has started this system as a try.
    pub tried: bool,
    /// What `rolled-back` says.
    pub why_back: Option<&'a str>,
}

/// What a boot finds.
#[must_use]
pub fn case(trial: Option<&Trial>, boot: Boot<'_>) -> Case {
    let booted = boot.slots.and_then(Slots::booted);
    let Some(trial) = trial else {
        // The data partition with the record may have been lost: then the boot loader's word counts.
        let bad = booted.is_some_and(|(_, slot)| slot.boot_status.as_deref() == Some("bad"));
        return if bad || boot.tried { Case::Unknown } else { Case::Trusted };
    };
    if trial.boot == boot.id {
        return Case::Trusted;
    }
    if booted.is_some_and(|(name, _)| name == trial.slot) {
        return Case::Back(came_back(trial, boot.why_back));
    }
    Case::Trial(trial.before.clone())
}

fn came_back(trial: &Trial, why: Option<&str>) -> Status {
    let status = if trial.installed {
        let unsaid =
            "the updated system did not start, or the power failed before it could, so the old one runs";
        let text = why.map(str::trim).filter(|why| !why.is_empty()).unwrap_or(unsaid).to_owned();
        Status { text: Some(text), ..Status::of(State::RolledBack) }
    } else {
        Status::failed(Failure::with(Reason::Interrupted, "the power went or the system was started again"))
    };
    Status { version: trial.version.clone(), id: id_of(trial.key.as_ref()), ..status }
}

/// How the update is, from the records alone.
#[must_use]
pub fn status(trial: Option<&Trial>, last: Option<&Last>, boot: &str) -> Status {
    let Some(trial) = trial else {
        return last.map(|last| last.status.clone()).unwrap_or_default();
    };
    let state = match (trial.boot == boot, trial.installed, trial.reboot) {
        (false, ..) => State::Testing,
        (true, false, _) => State::Installing,
        (true, true, true) => State::Rebooting,
        (true, true, false) => State::Installed,
    };
    Status { version: trial.version.clone(), id: id_of(trial.key.as_ref()), ..Status::of(state) }
}

/// What became of an installation that nobody watched to its end, in the same boot: `None` while the update tool does not say, `Some(true)`
/// when it has changed which slot starts next.
#[must_use]
pub fn unwatched(trial: &Trial, slots: Option<&Slots>) -> Option<bool> {
    slots?.primary.as_ref().map(|primary| *primary != trial.slot)
}

/// Whether a command was carried out before.
#[must_use]
pub fn repeated(key: &str, trial: Option<&Trial>, last: Option<&Last>, history: &History) -> bool {
    let is_trial = trial.is_some_and(|trial| trial.key.as_deref() == Some(key));
    let is_last = last.is_some_and(|last| last.key.as_deref() == Some(key) && last.changed_something());
    is_trial || is_last || history.keys.iter().any(|known| known == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(booted: &str, primary: &str, boot_status: &str) -> Slots {
        let slot = |name: &str| {
            let state = if name == booted { "booted" } else { "inactive" };
            format!(r#"{{"{name}":{{"bootname":"X","state":"{state}","boot_status":"{boot_status}"}}}}"#)
        };
        let json =
            format!(r#"{{"boot_primary":"{primary}","slots":[{},{}]}}"#, slot("rootfs.0"), slot("rootfs.1"));
        Slots::parse(&json).unwrap()
    }

    fn trial(installed: bool) -> Trial {
        Trial {
            boot: "one".into(),
            slot: "rootfs.0".into(),
            before: Before { uplinks: vec!["cloud".into()], ..Before::default() },
            installed,
            reboot: true,
            version: Some("2".into()),
            key: Some("42".into()),
            downgrade: false,
        }
    }

    fn state(case: Case) -> State {
        match case {
            Case::Back(status) => status.state,
            other => unreachable!("{other:?}"),
        }
    }

    fn boot<'a>(id: &'a str, slots: &'a Slots) -> Boot<'a> {
        Boot { id, slots: Some(slots), ..Boot::default() }
    }

    #[test]
    fn a_system_without_a_record_is_trusted_unless_the_boot_loader_says_otherwise() {
        let good = slots("rootfs.0", "rootfs.0", "good");
        assert_eq!(case(None, boot("one", &good)), Case::Trusted);
        assert_eq!(case(None, Boot { id: "one", ..Boot::default() }), Case::Trusted);
        assert_eq!(case(None, boot("one", &slots("rootfs.0", "rootfs.0", "bad"))), Case::Unknown);
        assert_eq!(case(None, Boot { tried: true, ..boot("one", &good) }), Case::Unknown);
    }

    #[test]
    fn nothing_is_on_trial_before_the_reboot() {
        let slots = slots("rootfs.0", "rootfs.1", "good");
        for installed in [false, true] {
            assert_eq!(case(Some(&trial(installed)), boot("one", &slots)), Case::Trusted);
        }
    }

    #[test]
    fn the_other_slot_is_on_trial_with_what_worked_before_even_if_the_end_of_the_installation_was_not_seen() {
        let slots = slots("rootfs.1", "rootfs.1", "good");
        for installed in [false, true] {
            let trial = trial(installed);
            assert_eq!(case(Some(&trial), boot("two", &slots)), Case::Trial(trial.before.clone()));
            let unsaid = Boot { id: "two", ..Boot::default() };
            assert_eq!(case(Some(&trial), unsaid), Case::Trial(trial.before.clone()));
        }
    }

    #[test]
    fn the_old_slot_after_a_reboot_is_a_roll_back_with_its_reason() {
        let old = slots("rootfs.0", "rootfs.0", "good");
        let found =
            case(Some(&trial(true)), Boot { why_back: Some("bus line: silent\n"), ..boot("two", &old) });
        let Case::Back(status) = found else { unreachable!("{found:?}") };
        assert_eq!(
            (status.state, status.text.as_deref(), status.id.as_deref()),
            (State::RolledBack, Some("bus line: silent"), Some("42"))
        );
        let Case::Back(status) = case(Some(&trial(true)), boot("two", &old)) else { unreachable!() };
        assert!(status.text.is_some_and(|text| text.contains("did not start")));
    }

    #[test]
    fn a_power_cut_in_the_middle_of_an_installation_is_a_failure_and_the_old_system_runs() {
        let old = slots("rootfs.0", "rootfs.0", "good");
        assert_eq!(state(case(Some(&trial(false)), boot("two", &old))), State::Failed);
    }

    #[test]
    fn the_status_follows_the_records() {
        let last = Last { status: Status::of(State::Good), key: None };
        let told = |trial: Option<&Trial>, boot| status(trial, Some(&last), boot).state;
        assert_eq!(status(None, None, "one"), Status::default());
        assert_eq!(told(None, "one"), State::Good);
        assert_eq!(told(Some(&trial(false)), "one"), State::Installing);
        assert_eq!(told(Some(&trial(true)), "one"), State::Rebooting);
        assert_eq!(told(Some(&Trial { reboot: false, ..trial(true) }), "one"), State::Installed);
        assert_eq!(told(Some(&trial(true)), "two"), State::Testing);
    }

    #[test]
    fn a_command_that_changed_something_is_not_carried_out_twice_and_one_that_failed_may_be_tried_again() {
        let last = |state, key: &str| Last { status: Status::of(state), key: Some(key.to_owned()) };
        let none = History::default();
        assert!(repeated("42", Some(&trial(false)), None, &none));
        assert!(repeated("42", None, Some(&last(State::Good, "42")), &none));
        assert!(repeated("42", None, Some(&last(State::RolledBack, "42")), &none));
        assert!(!repeated("42", None, Some(&last(State::Failed, "42")), &none));
        assert!(!repeated("43", Some(&trial(true)), Some(&last(State::Good, "42")), &none));
    }

    #[test]
    fn a_command_is_known_again_after_others_were_carried_out() {
        let mut history = History::default();
        let last = |state, key: &str| Last { status: Status::of(state), key: Some(key.to_owned()) };
        for key in ["A", "B"] {
            assert!(history.add(&last(State::Good, key)));
        }
        assert!(!history.add(&last(State::Failed, "C")));
        let newest = last(State::Good, "B");
        assert!(repeated("A", None, Some(&newest), &history));
        assert!(!repeated("C", None, Some(&newest), &history));
        for number in 0..KEYS_MAX * 2 {
            assert!(history.add(&last(State::RolledBack, &number.to_string())));
        }
        assert_eq!((history.keys.len(), history.keys[0].as_str()), (KEYS_MAX, "31"));
    }

    #[test]
    fn an_installation_that_nobody_watched_is_judged_by_what_starts_next() {
        let trial = trial(false);
        assert_eq!(unwatched(&trial, None), None);
        assert_eq!(unwatched(&trial, Some(&Slots::default())), None);
        assert_eq!(unwatched(&trial, Some(&slots("rootfs.0", "rootfs.0", "good"))), Some(false));
        assert_eq!(unwatched(&trial, Some(&slots("rootfs.0", "rootfs.1", "good"))), Some(true));
    }
}
