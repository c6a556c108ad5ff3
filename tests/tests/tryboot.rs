//! The boot loader backend of the Raspberry Pi, run on folders: which slot is taken at the next restart, whatever happened before.
//!
//! The firmware is played by `Pi::restart`: it does what the Raspberry Pi documentation says of `autoboot.txt` and "tryboot".

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;
use tidegate_tests::built::board;
use tidegate_tests::tryboot::backend;

/// A card, the folders of a running system, and the firmware's memory of one restart.
struct Pi {
    dir: TempDir,
}

impl Pi {
    /// Freshly flashed: slot A runs, nothing was ever recorded.
    fn flashed() -> Self {
        let pi = Self { dir: tempfile::tempdir().expect("a folder") };
        fs::create_dir(pi.at("firmware")).expect("a folder");
        // The boot partitions are empty here; tests/tests/firmware has whole ones.
        fs::create_dir(pi.at("tools")).expect("a folder");
        for program in ["mount", "umount", "fsck.vfat"] {
            std::os::unix::fs::symlink("/bin/true", pi.at("tools").join(program))
                .expect("the folder is there");
        }
        fs::copy(board().join("rpi/autoboot.txt"), pi.at("autoboot.txt")).expect("the file of a fresh card");
        pi.boots(2, false);
        pi
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The firmware starts a partition, with the command line that its config.txt chooses.
    fn boots(&self, partition: u8, tryboot: bool) {
        fs::write(self.at("firmware/partition"), [0, 0, 0, partition]).expect("the folder is there");
        fs::write(self.at("firmware/tryboot"), [0, 0, 0, u8::from(tryboot)]).expect("the folder is there");
        let slot = if partition == 3 { 'B' } else { 'A' };
        fs::write(self.at("cmdline"), format!("ro panic=10 rauc.slot={slot}\n"))
            .expect("the folder is there");
    }

    /// Runs the backend: its output, or what it complains of.
    fn run(&self, args: &str) -> Result<String, String> {
        let output = backend(self.dir.path(), args).output().expect("the backend starts");
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
        let _ = fs::remove_dir_all(self.at("faults"));
        self.boots(self.partition(if tryboot { "[tryboot]" } else { "[all]" }), tryboot);
        self.says("look", "");
    }

    /// The partition that the firmware takes: the first one that boots where `autoboot.txt` says nothing, as was seen on a Pi 4 without the file, with an empty
    /// one and with garbage.
    fn partition(&self, section: &str) -> u8 {
        let text = fs::read_to_string(self.at("autoboot.txt")).unwrap_or_default();
        let Some((_, rest)) = text.split_once(section) else { return 2 };
        let number = rest.lines().find_map(|line| line.strip_prefix("boot_partition="));
        number.and_then(|number| number.parse().ok()).expect("a section names a partition")
    }

    /// The sentence of a fault that `look` has found.
    fn fault(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.at("faults").join(name)).ok()
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        fs::write(self.at("autoboot.txt"), text).expect("the folder is there");
    }

    /// The power fails when a program is called the next time.
    fn fails_at(&self, program: &str) {
        fs::create_dir_all(self.at("bin")).expect("a folder");
        let fake = self.at("bin").join(program);
        fs::write(&fake, "#!/bin/sh\nkill -9 $PPID\n").expect("the folder is there");
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    #[track_caller]
    fn runs(&self, slot: &str) {
        self.says("get-current", slot);
    }
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
    pi.says("get-state A", "good");
    pi.resets();
    pi.runs("B");
}

/// Cut before the mark is complete the old system starts; cut after it, and found wanting at its next test, the new one gives way to the old one.
#[test]
fn a_cut_around_the_commit_of_the_first_update_ends_in_one_of_the_two_systems() {
    for program in ["sync", "mv", "dd"] {
        let pi = Pi::flashed();
        pi.installs("B");
        pi.restarts();
        pi.runs("B");
        pi.fails_at(program);
        assert!(pi.run("set-state B good").is_err(), "{program}");
        fs::remove_dir_all(pi.at("bin")).unwrap();
        pi.resets();
        pi.runs("A");
        pi.says("get-state A", "good");
        pi.installs("B");
        pi.restarts();
        pi.says("set-state B good", "");
        pi.resets();
        pi.runs("B");
        // `health --passed` was not reached, and the second test of B fails.
        pi.says("set-state B bad", "");
        pi.restarts();
        pi.runs("A");
        pi.says("get-state B", "bad");
    }
}

#[test]
fn the_line_ends_of_windows_are_taken_and_the_choice_stays_in_its_sector() {
    let pi = Pi::flashed();
    let text = fs::read_to_string(pi.at("autoboot.txt")).unwrap().replace('\n', "\r\n");
    pi.write(&text);
    pi.resets();
    assert_eq!(pi.fault("boot-choice"), None);
    pi.installs("B");
    pi.restarts();
    pi.runs("B");
    pi.says("set-state B good", "");
    assert_eq!(fs::metadata(pi.at("autoboot.txt")).unwrap().len(), text.len() as u64);
    pi.resets();
    pi.runs("B");
}

#[test]
fn an_autoboot_file_that_is_gone_or_empty_is_made_anew_for_the_system_that_was_the_choice() {
    for lost in [None, Some(&b""[..]), Some(&[0; 64][..]), Some(b"\r\n\r\n")] {
        let lose = |pi: &Pi| match lost {
            Some(bytes) => pi.write(bytes),
            None => fs::remove_file(pi.at("autoboot.txt")).unwrap(),
        };
        let pi = Pi::flashed();
        lose(&pi);
        pi.resets();
        pi.runs("A");
        pi.says("get-primary", "A");
        pi.installs("B");
        pi.restarts();
        pi.says("set-state B good", "");
        lose(&pi);
        pi.resets();
        pi.runs("A");
        pi.says("get-primary", "B");
        assert_eq!(pi.fault("boot-choice"), None);
        pi.resets();
        pi.runs("B");
    }
}

#[test]
fn a_choice_that_was_made_before_there_was_a_record_of_it_is_found_again() {
    let pi = Pi::flashed();
    pi.installs("B");
    pi.restarts();
    pi.says("set-state B good", "");
    fs::remove_file(pi.at("records/primary")).unwrap();
    pi.resets();
    pi.runs("B");
    fs::remove_file(pi.at("autoboot.txt")).unwrap();
    pi.resets();
    pi.runs("A");
    pi.says("get-primary", "B");
}

#[test]
fn an_autoboot_file_that_is_lost_while_a_slot_is_on_trial_keeps_the_old_one() {
    let pi = Pi::flashed();
    pi.installs("B");
    pi.restarts();
    fs::remove_file(pi.at("autoboot.txt")).unwrap();
    pi.says("look", "");
    pi.says("get-primary", "A");
}

/// Measured on a Pi 4 with an EEPROM of 2021: it starts the last partition that autoboot.txt names. Of a Pi 5 before 2025-03 it is known that it has no filter for
/// partitions, so that it takes cmdline.txt.
#[test]
fn a_board_whose_boot_loader_is_too_old_says_so_and_takes_no_update() {
    let tries: [&dyn Fn(&Pi); 4] = [
        &|pi| fs::write(pi.at("cmdline"), "ro rauc.slot=A tidegate.firmware=old\n").unwrap(),
        &|pi| fs::write(pi.at("firmware/partition"), [0, 0, 0, 3]).unwrap(),
        &|pi| fs::write(pi.at("firmware/partition"), [0; 4]).unwrap(),
        &|pi| fs::remove_file(pi.at("firmware/partition")).unwrap(),
    ];
    for (index, is_old) in tries.into_iter().enumerate() {
        let pi = Pi::flashed();
        is_old(&pi);
        pi.says("look", "");
        let fault = pi.fault("eeprom-too-old").unwrap_or_else(|| panic!("{index}: no fault"));
        assert!(fault.contains("EEPROM") && fault.contains("docs/flashing.md"), "{fault}");
        pi.refuses("set-state B bad", "too old for updates");
        pi.refuses("set-primary B", "too old for updates");
        pi.says("get-state A", "good");
        pi.boots(2, false);
        pi.says("look", "");
        assert_eq!(pi.fault("eeprom-too-old"), None);
        pi.says("set-state B bad", "");
    }
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
    pi.says("look", "");
    let fault = pi.fault("boot-choice").unwrap();
    assert!(fault.contains("was changed") && fault.contains("delete it"), "{fault}");
    assert_eq!(fs::read_to_string(pi.at("autoboot.txt")).unwrap(), "[all]\nboot_partition=1\n");
    fs::remove_file(pi.at("autoboot.txt")).unwrap();
    pi.says("look", "");
    assert_eq!(pi.fault("boot-choice"), None);
    pi.says("get-primary", "A");
}

#[test]
fn without_the_firmware_nothing_is_guessed() {
    let pi = Pi::flashed();
    fs::remove_file(pi.at("firmware/partition")).unwrap();
    pi.refuses("get-current", "not started by a Raspberry Pi");
    pi.boots(1, false);
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
