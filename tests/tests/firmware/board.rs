//! The settings of the board, `usercfg.txt`: they come along with each update, or the update is refused, or it is told why they could not.

use gateway_core::board::rendered;
use gateway_core::board::settings::{Overlay, Settings};
use tidegate_tests::firmware::{Board, Model, Unproven};

use crate::life::{Life, Until};

/// One model of each loader.
const KINDS: [Model; 3] = [Model::Zero2W, Model::Pi4, Model::Pi5];
/// More steps than any command has.
const STEPS_MAX: u32 = 30;

/// As `gateway-daemon provision` writes it.
pub(crate) fn hat() -> Vec<u8> {
    let overlay = Overlay::new("sc16is75x-spi,sc16is752,spi1-1cs,spi1-0,int_pin=24").expect("an overlay");
    rendered(&Settings { overlays: vec![overlay], uarts: vec![5], ..Settings::default() }).into_bytes()
}

/// With what the firmware starts then.
pub(crate) const OF_HAT: [&str; 2] = ["uart5", "sc16is75x-spi,sc16is752,spi1-1cs,spi1-0,int_pin=24"];

/// A running system with these settings of the board.
fn with(board: Board, settings: &[u8]) -> Life {
    let mut life = Life::started(board);
    life.put(2, "usercfg.txt", settings);
    life.reset();
    life
}

#[test]
fn an_overlay_is_there_after_an_update_after_a_roll_back_and_after_the_update_after_that() {
    for model in KINDS {
        let mut life = with(Board::new(model), &hat());
        assert_eq!(life.overlays(), OF_HAT, "{model:?}");
        life.tries(2);
        life.runs('B', 2);
        assert_eq!(life.overlays(), OF_HAT, "{model:?}");
        life.says("set-state B bad", "");
        life.restart();
        life.runs('A', 1);
        assert_eq!(life.overlays(), OF_HAT, "{model:?}");
        for version in 3..6 {
            life.tries(version);
            life.commits();
            life.power();
            assert_eq!(life.running().map(|system| system.version), Some(version), "{model:?}");
            assert_eq!(life.overlays(), OF_HAT, "{model:?}, version {version}");
        }
        assert_eq!(life.fault("board-settings"), None);
    }
}

#[test]
fn a_hat_that_was_taken_off_is_not_there_after_the_next_update_either() {
    let mut life = with(Board::new(Model::Pi4), &hat());
    life.tries(2);
    life.commits();
    life.put(3, "usercfg.txt", b"");
    life.reset();
    life.tries(3);
    life.runs('A', 3);
    assert_eq!(life.overlays(), [""; 0]);
}

#[test]
fn cut_while_the_settings_come_along_nothing_is_tried_without_them() {
    let mut of_a = with(Board::new(Model::Pi4), &hat());
    of_a.install(2, Until::Written).unwrap();
    let mut of_b = with(Board::new(Model::Pi4), &hat());
    of_b.tries(2);
    of_b.commits();
    of_b.install(3, Until::Written).unwrap();
    for (before, command, slot) in [(of_a, "set-primary B", 'A'), (of_b, "set-primary A", 'B')] {
        let ended = (1..=STEPS_MAX).find(|at| {
            let mut life = before.copy();
            life.cut_at(*at);
            let ended = life.run(command).is_ok();
            life.uncut();
            // An orderly restart right after it: what is wanted by then is tried.
            life.restart();
            let running = life.running().expect("a system runs");
            assert!(ended || running.slot == slot, "{command}, cut at {at}: {running:?}");
            assert_eq!(life.overlays(), OF_HAT, "{command}, cut at {at}: {running:?}");
            life.power();
            life.tries(9);
            assert_eq!(life.overlays(), OF_HAT, "{command}, cut at {at}");
            ended
        });
        assert!(ended.is_some_and(|at| at > 5), "{command}: {ended:?}");
    }
}

#[test]
fn an_update_that_cannot_take_the_settings_along_is_refused_and_the_old_system_stays() {
    for (ill, said) in [("refuse", "do not come along"), ("forget", "does not keep usercfg.txt")] {
        let mut life = with(Board::new(Model::Pi4), &hat());
        life.ill(ill);
        let refused = life.install(2, Until::End).expect_err(ill);
        assert!(refused.contains(said), "{refused}");
        life.restart();
        life.runs('A', 1);
        life.ill("-");
        life.tries(3);
        life.commits();
        assert_eq!(life.overlays(), OF_HAT);
        // The other way: what is not to be tried is not what a lost choice leads to.
        life.ill(ill);
        life.install(4, Until::End).expect_err(ill);
        life.delete_choice();
        life.power();
        life.runs('B', 3);
        assert_eq!(life.overlays(), OF_HAT);
    }
}

/// It has started with them, so the next system does.
#[test]
fn whatever_a_person_wrote_there_comes_along_byte_for_byte() {
    let garbage: Vec<u8> = (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let windows = String::from_utf8(hat()).unwrap().replace('\n', "\r\n");
    for text in [garbage.as_slice(), windows.as_bytes(), b"# nothing", b"\0\0\0"] {
        for windows_line_ends in [true, false] {
            let mut board = Board::new(Model::Pi4);
            board.unproven = Unproven { windows_line_ends, ..board.unproven };
            let mut life = with(board, text);
            life.runs('A', 1);
            let before = life.overlays();
            if text == windows.as_bytes() && windows_line_ends {
                assert_eq!(before, OF_HAT);
            }
            life.tries(2);
            life.commits();
            assert_eq!(life.card.read(3, "usercfg.txt").as_deref(), Ok(text));
            assert_eq!(life.overlays(), before);
        }
    }
}

#[test]
fn a_file_that_no_person_wrote_is_no_reason_to_fill_the_card() {
    let mut life = with(Board::new(Model::Pi4), &vec![b'#'; 1_048_577]);
    let refused = life.install(2, Until::End).unwrap_err();
    assert!(
        refused.contains("has 1048577 bytes, expected at most 1048576: empty it, or write [board]"),
        "{refused}"
    );
    life.restart();
    life.runs('A', 1);
}

#[test]
fn a_version_that_knows_no_settings_of_the_board_is_told_before_it_starts() {
    for (settings, told) in [(hat(), true), (Vec::new(), false)] {
        let mut life = with(Board::new(Model::Pi4), &settings);
        life.install(2, Until::Written).unwrap();
        let config = String::from_utf8(life.card.read(3, "config.txt").unwrap()).unwrap();
        life.put(3, "config.txt", config.replace("include usercfg.txt\n", "").as_bytes());
        // The sentence goes to RAUC's journal, and to the cloud until the restart.
        life.says("set-primary B", "");
        assert_eq!(life.fault("board-settings").is_some_and(|text| text.contains("knows no [board]")), told);
        life.restart();
        life.runs('B', 2);
        assert_eq!(life.overlays(), [""; 0]);
    }
}

/// Where the documentation contradicts itself: a Pi 5 whose boot loader includes no file has no hat before an update, and none after it.
#[test]
fn where_the_firmware_includes_nothing_updates_work_all_the_same() {
    let mut board = Board::new(Model::Pi5);
    board.unproven = Unproven { eeprom_includes: false, ..board.unproven };
    let mut life = with(board, &hat());
    assert_eq!(life.overlays(), [""; 0]);
    life.tries(2);
    life.commits();
    life.power();
    life.runs('B', 2);
    assert_eq!(life.card.read(3, "usercfg.txt"), Ok(hat()));
}
