//! The boot loader backend of the Raspberry Pi, run on folders: which slot is taken at the next restart, whatever happened before.
//!
//! The firmware is played by `Pi::restart`: it does what the Raspberry Pi documentation says of `autoboot.txt` and "tryboot".

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A card, the folders of a running system, and the firmware's memory of one restart.
struct Pi {
    dir: TempDir,
}

impl Pi {
    /// Freshly flashed: slot A runs, nothing was ever recorded.
    fn flashed() -> Self {
        let pi = Self { dir: tempfile::tempdir().expect("a folder") };
        fs::create_dir(pi.at("firmware")).expect("a folder");
        fs::copy(board().join("rpi/autoboot.txt"), pi.at("autoboot.txt")).expect("the file of a fresh card");
        pi.boots(2);
        pi
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn boots(&self, partition: u8) {
        fs::write(self.at("firmware/partition"), [0, 0, 0, partition]).expect("the folder is there");
    }

    /// Runs the backend: its output, or what it complains of.
    fn run(&self, args: &str) -> Result<String, String> {
        let output = Command::new(board().join("rauc/tryboot-backend.sh"))
            .args(args.split(' '))
            .env("TIDEGATE_AUTOBOOT", self.at("autoboot.txt"))
            .env("TIDEGATE_BOOTLOADER_DT", self.at("firmware"))
            .env("TIDEGATE_REBOOT_PARAM", self.at("reboot-param"))
            .env("TIDEGATE_TRYBOOT_WANTED", self.at("wanted"))
            .env("TIDEGATE_SLOT_RECORDS", self.at("records"))
            .output()
            .expect("the backend starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    #[track_caller]
    fn says(&self, args: &str, expected: &str) {
        assert_eq!(self.run(args).as_deref(), Ok(expected), "{args}");
    }

    #[track_caller]
    fn refuses(&self, args: &str, because: &str) {
        let complaint = self.run(args).expect_err(args);
        assert!(complaint.contains(because), "{args}: {complaint}");
    }

    /// What RAUC asks of a backend while it installs into the slot that does not run.
    #[track_caller]
    fn installs(&self, slot: &str) {
        self.says(&format!("set-state {slot} bad"), "");
        self.says(&format!("set-primary {slot}"), "");
    }

    /// An orderly restart: systemd-shutdown runs `arm`, then hands the argument to the firmware.
    fn restarts(&self) {
        self.says("arm", "");
        let flag = fs::read_to_string(self.at("reboot-param")).is_ok_and(|text| text == "0 tryboot\n");
        self.firmware(flag);
    }

    /// Power fails, or the watchdog resets: the flag is not set.
    fn resets(&self) {
        self.firmware(false);
    }

    fn firmware(&self, tryboot: bool) {
        for gone in ["reboot-param", "wanted"] {
            let _ = fs::remove_file(self.at(gone));
        }
        self.boots(self.partition(if tryboot { "[tryboot]" } else { "[all]" }));
    }

    fn partition(&self, section: &str) -> u8 {
        let text = fs::read_to_string(self.at("autoboot.txt")).expect("the file is there");
        let (_, rest) = text.split_once(section).expect("the section is there");
        let number = rest.lines().find_map(|line| line.strip_prefix("boot_partition="));
        number.and_then(|number| number.parse().ok()).expect("a section names a partition")
    }

    #[track_caller]
    fn runs(&self, slot: &str) {
        self.says("get-current", slot);
    }
}

fn board() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../buildroot/board/tidegate")
}

#[test]
fn a_fresh_card_runs_a_and_knows_nothing_of_b() {
    let pi = Pi::flashed();
    pi.runs("A");
    pi.says("get-primary", "A");
    pi.says("get-state A", "good");
    pi.says("get-state B", "bad");
    pi.restarts();
    pi.runs("A");
}

#[test]
fn an_update_is_tried_once_and_kept_when_it_is_marked_good() {
    let pi = Pi::flashed();
    pi.installs("B");
    pi.says("get-primary", "B");
    pi.restarts();
    pi.runs("B");
    pi.says("get-primary", "A");
    pi.says("get-state B", "bad");
    pi.says("set-state B good", "");
    pi.says("get-primary", "B");
    pi.says("get-state B", "good");
    pi.says("get-state A", "bad");
    pi.resets();
    pi.runs("B");
}

#[test]
fn any_reset_before_it_is_marked_good_comes_back_to_the_old_slot() {
    let pi = Pi::flashed();
    pi.installs("B");
    pi.restarts();
    pi.runs("B");
    pi.resets();
    pi.runs("A");
    pi.restarts();
    pi.runs("A");
}

#[test]
fn a_trial_that_is_marked_bad_comes_back_to_the_old_slot() {
    let pi = Pi::flashed();
    pi.installs("B");
    pi.restarts();
    pi.says("set-state B bad", "");
    pi.restarts();
    pi.runs("A");
    pi.says("get-state A", "good");
}

#[test]
fn power_that_fails_during_an_installation_leaves_the_old_slot() {
    let pi = Pi::flashed();
    pi.says("set-state B bad", "");
    pi.resets();
    pi.runs("A");
    pi.says("get-primary", "A");
}

#[test]
fn an_installation_takes_back_a_trial_that_was_wanted() {
    let pi = Pi::flashed();
    pi.installs("B");
    pi.says("set-state B bad", "");
    pi.restarts();
    pi.runs("A");
}

#[test]
fn the_second_update_goes_the_other_way() {
    let pi = Pi::flashed();
    pi.says("set-state A good", "");
    pi.installs("B");
    pi.restarts();
    pi.says("set-state B good", "");
    pi.restarts();
    pi.runs("B");
    pi.says("get-state A", "good");
    pi.installs("A");
    pi.restarts();
    pi.runs("A");
    pi.says("set-state A good", "");
    pi.resets();
    pi.runs("A");
}

#[test]
fn while_a_slot_is_on_trial_nothing_is_installed_over_the_one_to_return_to() {
    let pi = Pi::flashed();
    pi.installs("B");
    pi.restarts();
    pi.runs("B");
    pi.refuses("set-state A bad", "on trial");
    pi.resets();
    pi.runs("A");
}

#[test]
fn the_running_good_slot_gives_way_only_to_one_that_is_known_to_work() {
    let pi = Pi::flashed();
    pi.refuses("set-state A bad", "not known to work");
    pi.says("set-state A good", "");
    pi.installs("B");
    pi.restarts();
    pi.says("set-state B good", "");
    pi.says("set-state B bad", "");
    pi.restarts();
    pi.runs("A");
}

#[test]
fn activating_the_slot_that_boots_anyway_takes_a_trial_back() {
    let pi = Pi::flashed();
    pi.installs("B");
    pi.says("set-primary A", "");
    pi.restarts();
    pi.runs("A");
}

#[test]
fn a_slot_that_does_not_run_cannot_be_called_good() {
    let pi = Pi::flashed();
    pi.refuses("set-state B good", "does not run");
    pi.resets();
    pi.runs("A");
}

#[test]
fn committing_changes_digits_within_one_sector_and_nothing_else() {
    let pi = Pi::flashed();
    let before = fs::read(pi.at("autoboot.txt")).unwrap();
    pi.installs("B");
    pi.restarts();
    pi.says("set-state B good", "");
    let after = fs::read(pi.at("autoboot.txt")).unwrap();
    assert_eq!(before.len(), after.len());
    assert!(after.len() <= 512, "the firmware reads 512 bytes");
    assert_eq!(before.iter().zip(&after).filter(|(old, new)| old != new).count(), 2);
}

#[test]
fn an_autoboot_file_that_someone_changed_is_left_alone() {
    let pi = Pi::flashed();
    fs::write(pi.at("autoboot.txt"), "[all]\nboot_partition=1\n").unwrap();
    pi.refuses("get-primary", "was changed by someone");
    pi.refuses("set-state B bad", "was changed by someone");
    assert_eq!(fs::read_to_string(pi.at("autoboot.txt")).unwrap(), "[all]\nboot_partition=1\n");
}

#[test]
fn without_the_firmware_nothing_is_guessed() {
    let pi = Pi::flashed();
    fs::remove_file(pi.at("firmware/partition")).unwrap();
    pi.refuses("get-current", "not started by a Raspberry Pi");
    pi.boots(1);
    pi.refuses("get-current", "which is no slot");
}

#[test]
fn words_that_are_no_command_are_refused() {
    let pi = Pi::flashed();
    for wrong in
        ["", "get-state", "get-state C", "set-state A maybe", "set-primary", "get-primary A", "reboot"]
    {
        assert!(pi.run(wrong).is_err(), "{wrong:?} was taken");
    }
    pi.says("get-primary", "A");
}
