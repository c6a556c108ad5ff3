//! The power fails at each program of the backend that changes something on the card.

use tidegate_tests::firmware::{Board, Model};

use crate::life::{Life, Until};

/// More steps than any command has.
const STEPS_MAX: u32 = 20;

/// Cuts a command at every step: what starts then is one of `allowed`, and an update from there on is taken and kept.
#[track_caller]
fn cuts(before: &Life, command: &str, allowed: &[(char, u8)]) {
    for at in 1..=STEPS_MAX {
        let mut life = before.copy();
        life.cut_at(at);
        let ended = life.run(command).is_ok();
        life.uncut();
        life.reset();
        let system = life.running().map(|system| (system.slot, system.version));
        assert!(system.is_some_and(|it| allowed.contains(&it)), "{command}, cut at {at}: {system:?}");
        // Nothing is stuck: the next update is tried from either of the two.
        life.tries(9);
        if ended {
            life.commits();
            life.reset();
            assert_eq!(life.running().map(|system| system.version), Some(9), "{command}");
            assert!(at > 1, "{command} changed nothing");
            return;
        }
    }
    unreachable!("{command} has more than {STEPS_MAX} steps");
}

fn board() -> Board {
    Board::new(Model::Pi4)
}

#[test]
fn cut_while_an_update_is_installed_the_old_system_starts() {
    let life = Life::started(board());
    cuts(&life, "set-state B bad", &[('A', 1)]);
    let mut life = Life::started(board());
    life.tries(2);
    life.commits();
    cuts(&life, "set-state A bad", &[('B', 2)]);
    life.install(3, Until::Boot(8)).unwrap();
    life.card.overwrite(2, 0, &[0; 512]).unwrap();
    cuts(&life, "set-primary A", &[('B', 2)]);
}

#[test]
fn cut_while_an_update_is_kept_one_of_the_two_starts() {
    let mut life = Life::started(board());
    life.tries(2);
    cuts(&life, "set-state B good", &[('A', 1), ('B', 2)]);
    life.commits();
    life.tries(3);
    cuts(&life, "set-state A good", &[('B', 2), ('A', 3)]);
}

#[test]
fn cut_while_the_running_system_is_given_up_one_of_the_two_starts() {
    let mut life = Life::started(board());
    life.tries(2);
    life.commits();
    cuts(&life, "set-state B bad", &[('A', 1), ('B', 2)]);
    life.tries(3);
    life.commits();
    cuts(&life, "set-state A bad", &[('A', 3), ('B', 2)]);
}
