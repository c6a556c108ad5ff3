//! The rules of the player itself: a board and a card, and what starts.

use tidegate_tests::firmware::{
    Board, Cause, Config, Day, LongLine, Model, Outcome, Step, UnknownFilter, Unproven, play,
};

use crate::life::Life;

/// The partition that starts with this text in `autoboot.txt`.
#[track_caller]
fn check(board: &Board, autoboot: &str, argument: &str, expected: Option<u8>) {
    let life = Life::new(board.clone());
    life.put(3, "config.txt", b"cmdline=cmdline-b.txt\nkernel=kernel8.img\narm_64bit=1\n");
    life.put(3, "kernel8.img", b"kernel 9");
    for name in ["start.elf", "start4.elf"] {
        life.put(3, name, b"\x7fELF");
    }
    for name in board.model.device_trees() {
        life.put(3, name, b"tree");
    }
    life.put(1, "autoboot.txt", autoboot.as_bytes());
    let outcome = play(&life.card, board, Cause::restart(argument));
    assert_eq!(
        outcome.start().map(|start| start.partition),
        expected,
        "{autoboot:?} {argument:?}: {outcome:?}"
    );
}

#[test]
fn autoboot_txt_is_read_by_its_sections_and_up_to_512_bytes() {
    let board = Board::new(Model::Pi4);
    let ours = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
    check(&board, ours, "", Some(2));
    check(&board, ours, "0 tryboot", Some(3));
    check(&board, ours, "3", Some(3));
    check(&board, "", "0 tryboot", Some(2));
    check(&board, "\0\u{1}garbage\n=\n[", "", Some(2));
    check(&board, "boot_partition=2\n[none]\nboot_partition=3\n", "", Some(2));
    check(&board, &format!("#{}\nboot_partition=3\n", "x".repeat(490)), "", Some(3));
    check(&board, &format!("#{}\nboot_partition=3\n", "x".repeat(512)), "", Some(2));
}

#[test]
fn a_boot_loader_before_october_2022_takes_the_last_number() {
    let ours = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
    let board = Board::with_eeprom(Model::Pi4, Day(2021, 4, 29));
    check(&board, ours, "", Some(3));
    check(&board, &ours.replace('2', "4").replace('3', "2"), "", Some(2));
}

#[test]
fn a_partition_that_is_not_bootable_is_passed_over_from_august_2025_on() {
    let asks = |number: u8| format!("boot_partition={number}\n");
    for (eeprom, expected) in
        [(Day(2025, 8, 20), Some(2)), (Day(2025, 8, 13), None), (Day(2021, 4, 29), None)]
    {
        check(&Board::with_eeprom(Model::Pi4, eeprom), &asks(4), "", expected);
    }
    let mut board = Board::with_eeprom(Model::Pi5, Day(2025, 3, 10));
    check(&board, &asks(4), "", None);
    board.partition_walk = Some(true);
    check(&board, &asks(4), "", Some(2));
    board.unproven.walk_from_a_choice = false;
    check(&board, &asks(4), "", None);
    check(&Board::new(Model::Zero2W), &asks(4), "", None);
}

/// What a text is for a board: the value of the property `found`.
#[track_caller]
fn finds(board: &Board, text: &str, expected: Option<&str>) {
    let life = Life::new(board.clone());
    life.put(2, "config.txt", text.as_bytes());
    life.put(2, "more.txt", b"found=more\n");
    let config = Config::read(&life.card, board, 2, "config.txt", false).expect("it is there");
    assert_eq!(config.get("found"), expected, "{text:?}: {config:?}");
}

#[test]
fn filters_of_one_kind_replace_each_other_and_others_come_on_top() {
    let board = Board::new(Model::Cm4);
    finds(&board, "found=1\n[pi3]\nfound=2\n", Some("1"));
    finds(&board, "[pi3]\nfound=1\n[pi4]\nfound=2\n[cm4]\nfound=3\n[pi400]\nfound=4\n", Some("3"));
    finds(&board, "[boot_partition=3]\nfound=b\n[boot_partition=2]\nfound=a\n", Some("a"));
    finds(&board, "[boot_partition=3]\n[pi4]\nfound=1\n", None);
    finds(&board, "[boot_partition=3]\n[all]\n[pi4]\nfound=1\n", Some("1"));
    finds(&board, "[tryboot]\nfound=1\n[none]\n[pi4]\nfound=2\n[all]\n#found=3\n", None);
    finds(&board, "[pi3]\ninclude more.txt\n[all]\n", None);
    finds(&board, "[pi4]\ninclude more.txt\ninclude missing.txt\n", Some("more"));
    finds(&board, "found = 1\nfound=2\n found=3\n", Some("2"));
    finds(&Board::new(Model::Zero2W), "[pi0]\nfound=0\n[pi3]\nfound=3\n", Some("0"));
}

#[test]
fn what_nobody_has_proven_is_a_parameter() {
    let mut board = Board::with_eeprom(Model::Pi5, Day(2025, 3, 9));
    let text = "[boot_partition=3]\nfound=b\n[boot_partition=2]\nfound=a\n[all]\n";
    finds(&board, text, Some("a"));
    board.unproven.unknown_filter = UnknownFilter::Skipped;
    finds(&board, text, None);
    // Column 100 of a comment.
    let long = format!("#{}found=1\n", "x".repeat(98));
    finds(&board, &long, Some("1"));
    board.unproven.long_line = LongLine::Cut;
    finds(&board, &long, None);
    finds(&board, "[pi5]\r\nfound=1\r\n", Some("1"));
    board.unproven.windows_line_ends = false;
    finds(&board, "[pi5]\r\nfound=1\r\n", None);
    board.unproven = Unproven { eeprom_includes: false, ..Unproven::default() };
    finds(&board, "include more.txt\n", None);
}

#[test]
fn overlays_have_a_scope_and_one_that_is_missing_is_left_out() {
    let life = Life::new(Board::new(Model::Pi4));
    let text = b"dtparam=spi=on\ndtoverlay=absent,x=1\ndtparam=y\ndtoverlay=\ndtparam=i2c_arm=on,i2s=on\n";
    life.put(2, "config.txt", text);
    let config = Config::read(&life.card, &life.board, 2, "config.txt", false).unwrap();
    let of = |text: &str, scope: Option<&str>| Step::Parameter {
        text: text.to_owned(),
        scope: scope.map(str::to_owned),
    };
    let expected = [of("spi=on", None), of("y", Some("absent")), of("i2c_arm=on", None), of("i2s=on", None)];
    assert_eq!(config.steps, expected);
    assert!(config.told[0].contains("absent.dtbo"), "{:?}", config.told);
}

#[test]
fn what_cannot_be_read_is_waited_for_or_reset_by_the_day_of_the_boot_loader() {
    let waits = |board: &Board, name: &str| {
        let mut life = Life::new(board.clone());
        life.card.spoil(2, name);
        match play(&life.card, board, Cause::PowerOn) {
            Outcome::Starts(start) => panic!("{start:?}"),
            Outcome::Waits { .. } => true,
            Outcome::Resets { next, .. } => {
                assert_eq!(next, Cause::Reset { partition: board.boot_watchdog_partition });
                false
            }
        }
    };
    assert!(waits(&Board::with_eeprom(Model::Pi5, Day(2026, 4, 13)), "kernel_2712.img"));
    assert!(!waits(&Board::with_eeprom(Model::Pi5, Day(2026, 4, 14)), "kernel_2712.img"));
    let mut board = Board::new(Model::Pi4);
    // start4.elf finds that; whether it resets as the EEPROM does is not known.
    assert!(waits(&board, "kernel8.img"));
    board.unproven.start_elf_resets = true;
    assert!(!waits(&board, "kernel8.img"));
    assert!(waits(&board, "start4.elf"));
    board.boot_watchdog_s = 60;
    board.boot_watchdog_partition = 3;
    assert!(!waits(&board, "start4.elf"));
    board.eeprom = Day(2025, 7, 2);
    assert!(waits(&board, "start4.elf"));
    assert!(waits(&Board { boot_watchdog_s: 60, ..Board::new(Model::Pi3) }, "start.elf"));
}
