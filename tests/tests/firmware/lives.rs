//! Lives: updates that are kept, that fail in each way, and a first partition that somebody wrote on.

use tidegate_tests::firmware::{Board, Day, Loader, Model, Outcome, UnknownFilter};

use crate::life::{Life, Until};

/// One model of each loader.
const KINDS: [Model; 3] = [Model::Zero2W, Model::Pi4, Model::Pi5];

#[test]
fn a_flashed_card_starts_slot_a_on_every_model() {
    for model in Model::ALL {
        let mut life = Life::new(Board::new(model));
        let outcome = life.power();
        let start = outcome.start().unwrap_or_else(|| panic!("{model:?}: {outcome:?}")).clone();
        life.runs('A', 1);
        assert_eq!((start.partition, start.tryboot), (2, false), "{model:?}");
        assert_eq!(start.cmdline_file, "cmdline-a.txt", "{model:?}");
        assert!(start.cmdline.contains(" cgroup_enable=memory "), "{model:?}: {}", start.cmdline);
        assert_eq!(start.kernel_watchdog_s, Some(60), "{model:?}");
        assert_eq!(start.config.get("otg_mode"), (model == Model::Cm4).then_some("1"), "{model:?}");
        for fault in ["eeprom-too-old", "boot-choice"] {
            assert_eq!(life.fault(fault), None, "{model:?}");
        }
    }
}

#[test]
fn two_updates_in_a_row_are_tried_kept_and_started_from_then_on() {
    for model in KINDS {
        let mut life = Life::started(Board::new(model));
        life.tries(2);
        life.runs('B', 2);
        life.commits();
        life.reset();
        life.runs('B', 2);
        life.tries(3);
        life.runs('A', 3);
        life.commits();
        life.power();
        life.runs('A', 3);
    }
}

#[test]
fn an_update_that_is_not_marked_good_is_left_by_each_kind_of_restart() {
    for model in KINDS {
        let mut life = Life::started(Board::new(model));
        life.tries(2);
        // The health gate: mark-bad, then a restart.
        life.says("set-state B bad", "");
        life.restart();
        life.runs('A', 1);
        life.tries(3);
        life.reset();
        life.runs('A', 1);
        life.tries(4);
        life.power();
        life.runs('A', 1);
    }
}

#[test]
fn a_kernel_that_panics_or_hangs_is_left_by_itself() {
    for model in KINDS {
        let mut life = Life::started(Board::new(model));
        life.install(2, Until::End).unwrap();
        let outcome = life.restart_in_vain();
        let start = outcome.start().expect("the kernel is loaded");
        assert_eq!((start.partition, start.tryboot), (3, true));
        // A panic resets the board after ten seconds, and the firmware's watchdog one that hangs.
        assert!(start.cmdline.split(' ').any(|word| word == "panic=10"), "{}", start.cmdline);
        assert_eq!(start.kernel_watchdog_s, Some(60));
        life.reset();
        life.runs('A', 1);
    }
}

/// What docs/update.md says of these boards: only power helps.
#[test]
fn a_kernel_that_hangs_keeps_an_older_boot_loader_of_a_pi_5_until_power_is_taken_away() {
    let mut life = Life::started(Board::with_eeprom(Model::Pi5, Day(2025, 3, 10)));
    life.install(2, Until::End).unwrap();
    let outcome = life.restart_in_vain();
    assert_eq!(outcome.start().expect("the kernel is loaded").kernel_watchdog_s, None);
    life.power();
    life.runs('A', 1);
}

#[test]
fn boot_files_that_cannot_be_read_are_left_by_power_or_by_a_newer_boot_loader() {
    let kernel_of_5 = "kernel_2712.img";
    let with_watchdog = Board { boot_watchdog_s: 60, ..Board::with_eeprom(Model::Pi4, Day(2025, 7, 3)) };
    for (board, name, by_itself) in [
        (Board::with_eeprom(Model::Pi5, Day(2025, 12, 8)), kernel_of_5, false),
        (Board::with_eeprom(Model::Pi5, Day(2026, 4, 14)), kernel_of_5, true),
        (Board::new(Model::Pi4), "start4.elf", false),
        (with_watchdog.clone(), "start4.elf", true),
        (with_watchdog, "kernel8.img", true),
        (Board::new(Model::Pi3), "start.elf", false),
    ] {
        let what = format!("{:?} of {} with {name}", board.model, board.eeprom);
        let mut life = Life::started(board);
        life.install(2, Until::End).unwrap();
        life.card.spoil(3, name);
        let outcome = life.restart();
        if by_itself {
            life.runs('A', 1);
        } else {
            assert!(matches!(outcome, Outcome::Waits { .. }), "{what}: {outcome:?}");
        }
        life.power();
        life.runs('A', 1);
    }
}

/// A file that says nothing, and one that is not there.
fn lose(life: &Life, how: usize) {
    match how {
        0 => life.delete_choice(),
        1 => life.put(1, "autoboot.txt", b""),
        _ => life.put(1, "autoboot.txt", &[0; 64]),
    }
}

#[test]
fn a_lost_autoboot_file_costs_one_start_of_the_other_system() {
    for model in KINDS {
        for how in 0..3 {
            let mut life = Life::started(Board::new(model));
            life.tries(2);
            life.commits();
            lose(&life, how);
            life.power();
            life.runs('A', 1);
            assert_eq!(life.fault("boot-choice"), None);
            life.restart();
            life.runs('B', 2);
        }
    }
}

/// The flag is set, and nothing says which partition it is for: the firmware reads `tryboot.txt` there.
#[test]
fn an_autoboot_file_that_is_lost_before_a_trial_leaves_the_old_system_as_it_was() {
    for model in KINDS {
        let mut life = Life::started(Board::new(model));
        life.install(2, Until::End).unwrap();
        life.delete_choice();
        life.restart();
        life.runs('A', 1);
        assert_eq!(life.fault("eeprom-too-old"), None, "{model:?}");
        life.tries(3);
        life.commits();
        life.reset();
        life.runs('B', 3);
    }
}

/// rpi-eeprom 504, seen on two Pi 4.
#[test]
fn a_firmware_that_reads_tryboot_txt_all_the_same_finds_the_same_settings() {
    for model in KINDS {
        let mut board = Board::new(model);
        board.unproven.tryboot_file_always = true;
        let mut life = Life::started(board);
        life.tries(2);
        life.runs('B', 2);
        life.commits();
        life.reset();
        life.runs('B', 2);
    }
}

#[test]
fn line_ends_of_windows_change_nothing_or_cost_one_start() {
    for taken in [true, false] {
        for unknown in [UnknownFilter::Ignored, UnknownFilter::Skipped] {
            let mut board = Board::new(Model::Pi4);
            board.unproven.windows_line_ends = taken;
            board.unproven.unknown_filter = unknown;
            let mut life = Life::started(board);
            life.tries(2);
            life.commits();
            life.crlf();
            life.power();
            assert!(life.running().is_some(), "nothing starts: {taken} {unknown:?}");
            if taken {
                life.runs('B', 2);
            }
            life.restart();
            life.runs('B', 2);
            life.tries(3);
            life.runs('A', 3);
        }
    }
}

#[test]
fn a_slot_whose_root_is_half_written_is_not_what_a_lost_autoboot_file_leads_to() {
    for model in KINDS {
        for until in [Until::Marked, Until::Root] {
            let mut life = Life::started(Board::new(model));
            life.tries(2);
            life.commits();
            life.install(3, until).unwrap();
            life.delete_choice();
            life.power();
            life.runs('B', 2);
            life.tries(4);
            life.runs('A', 4);
        }
    }
}

/// An update of slot A that failed its test lies there, and what would start without `autoboot.txt` might not even reach a program that mends it.
#[test]
fn a_system_that_was_marked_bad_is_not_what_a_lost_autoboot_file_leads_to_but_can_be_tried_again() {
    for model in KINDS {
        let mut life = Life::started(Board::new(model));
        life.tries(2);
        life.commits();
        life.tries(3);
        life.says("set-state A bad", "");
        life.restart();
        life.runs('B', 2);
        life.delete_choice();
        life.power();
        life.runs('B', 2);
        // `rauc status mark-active`.
        life.says("set-primary A", "");
        life.restart();
        life.runs('A', 3);
        life.reset();
        life.runs('B', 2);
    }
}

/// Found by steps in any order: it started and would never have started again on a board that looks for no other partition.
#[test]
fn a_running_system_that_is_marked_bad_and_then_good_starts_again() {
    for model in KINDS {
        let mut life = Life::started(Board::new(model));
        life.tries(2);
        life.commits();
        life.tries(3);
        life.says("set-state A bad", "");
        life.commits();
        life.power();
        life.runs('A', 3);
    }
}

/// The limit that docs/decisions/0061 names: RAUC writes a boot partition from its beginning on.
#[test]
fn a_boot_partition_of_a_that_is_half_written_needs_the_choice_to_be_written_again() {
    let mut life = Life::started(Board::new(Model::Pi4));
    life.tries(2);
    life.commits();
    let choice = life.choice().expect("it is there");
    life.install(3, Until::Boot(6)).unwrap();
    life.delete_choice();
    life.power();
    assert_eq!(life.running(), None);
    life.put(1, "autoboot.txt", choice.as_bytes());
    life.power();
    life.runs('B', 2);
    life.tries(4);
    life.runs('A', 4);
}

/// Both have worked once; while the one is tried again the other is the way back all the same.
#[test]
fn a_good_system_that_is_tried_again_does_not_let_the_choice_be_written_over() {
    let mut life = Life::started(Board::new(Model::Pi4));
    life.tries(2);
    life.commits();
    life.tries(3);
    life.commits();
    life.says("set-primary B", "");
    life.restart();
    life.runs('B', 2);
    assert!(life.install(4, Until::Root).unwrap_err().contains("is on trial"));
    life.reset();
    life.runs('A', 3);
}

#[test]
fn a_boot_loader_that_is_too_old_does_not_start_the_card_or_takes_no_update() {
    let mut life = Life::new(Board::with_eeprom(Model::Pi4, Day(2021, 4, 29)));
    assert!(matches!(life.power(), Outcome::Waits { .. }), "the last number wins, and B is empty");
    let mut old = Board::with_eeprom(Model::Pi5, Day(2025, 3, 9));
    old.unproven.unknown_filter = UnknownFilter::Skipped;
    let mut life = Life::started(old.clone());
    life.runs('A', 1);
    assert!(life.fault("eeprom-too-old").is_some());
    assert!(life.install(2, Until::End).unwrap_err().contains("too old for updates"));
    // Where unknown filters are ignored A wins in both partitions: an update is tried with the wrong root, and left.
    old.unproven.unknown_filter = UnknownFilter::Ignored;
    let mut life = Life::started(old);
    life.install(2, Until::End).unwrap();
    let outcome = life.restart_in_vain();
    assert_eq!(outcome.start().map(|start| start.cmdline_file.as_str()), Some("cmdline-a.txt"));
    life.reset();
    life.runs('A', 1);
    assert_eq!(Model::Pi5.loader(), Loader::Eeprom2712);
}

/// The walk leads to the old system with the flag set; there is no trial to end there.
#[test]
fn a_slot_that_lost_its_boot_files_is_passed_over_and_the_old_system_stays_the_choice() {
    for model in [Model::Pi4, Model::Pi5] {
        let mut life = Life::started(Board::new(model));
        life.install(2, Until::End).unwrap();
        life.card.overwrite(3, 0, &[0; 512]).unwrap();
        let choice = life.choice();
        life.restart();
        life.runs('A', 1);
        life.delete_choice();
        life.says("look", "");
        assert_eq!(life.choice(), choice, "{model:?}");
    }
}
