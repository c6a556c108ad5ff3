//! Anything in any order: whatever is done to a card, some whole system starts.
//!
//! The oracle knows nothing of the backend's records or of its refusals. It keeps what the steps themselves mean: which slot was kept last, and which slot was written
//! how far. What starts is judged by the card's bytes ([`Life::running`]).

use std::env;

use tidegate_tests::firmware::{Board, Model};
use tidegate_tests::sim::chance::Chance;

use crate::board::{OF_HAT, hat};
use crate::life::{Life, System, Until};

/// Steps of one life.
const STEPS: usize = 14;
/// Lives per run of the test; `TIDEGATE_FIRMWARE_LIVES` asks for more.
const LIVES: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Install(Until),
    Restart,
    Reset,
    PowerCut,
    Commit,
    MarkBad,
    /// `rauc status mark-active` of the other slot.
    Activate,
    Delete,
    Crlf,
}

const STEPS_OF_A_LIFE: [Step; 14] = [
    Step::Install(Until::End),
    Step::Install(Until::End),
    Step::Install(Until::Marked),
    Step::Install(Until::Root),
    Step::Install(Until::Boot(5)),
    Step::Install(Until::Written),
    Step::Restart,
    Step::Restart,
    Step::Reset,
    Step::PowerCut,
    Step::Commit,
    Step::MarkBad,
    Step::Activate,
    Step::Crlf,
];

/// What the steps mean.
#[derive(Debug, Clone, Copy)]
struct Expected {
    /// The slot that was kept last.
    kept: char,
    /// Whether `autoboot.txt` was deleted since the last start.
    lost: bool,
    /// The boot partition of A is half written. RAUC writes it from its beginning on; if `autoboot.txt` is lost as well before the next update, only writing the file
    /// by hand helps (docs/decisions/0061).
    torn_boot_of_a: bool,
    /// A was written to its end and never chosen: if `autoboot.txt` is lost then, it starts once without the settings of the board.
    bare_a: bool,
    /// Whether A and B were written to their ends.
    whole: [bool; 2],
}

fn live(seed: u64, board: Board) {
    let mut chance = Chance::new(seed);
    let mut life = Life::started(board);
    // A hat, which is to be there in whatever starts.
    life.put(2, "usercfg.txt", &hat());
    life.reset();
    let mut expected =
        Expected { kept: 'A', lost: false, torn_boot_of_a: false, bare_a: false, whole: [true, false] };
    let mut version = 1;
    if chance.one_in(2) {
        version = 2;
        life.tries(version);
        life.commits();
        expected = Expected { kept: 'B', whole: [true; 2], ..expected };
    }
    let mut done = Vec::new();
    for _ in 0..STEPS {
        let mut step = chance.pick(&STEPS_OF_A_LIFE);
        if chance.one_in(8) && !expected.torn_boot_of_a {
            step = Step::Delete;
        }
        done.push(step);
        let running = life.running().expect("checked after each step");
        take(&mut life, &mut expected, step, running, &mut version);
        let replay = format!(
            "replay: TIDEGATE_FIRMWARE_SEED={seed} cargo test --workspace --test firmware -- any_order"
        );
        let now = life.running();
        assert!(now.is_some(), "nothing starts after {done:?} {expected:?}\n{replay}");
        let Some(now) = now else { return };
        if expected.bare_a && now.slot == 'A' {
            // What provisioning does at that start.
            if matches!(step, Step::Restart | Step::Reset | Step::PowerCut) {
                life.put(2, "usercfg.txt", &hat());
            }
        } else {
            assert_eq!(life.overlays(), OF_HAT, "{now:?} after {done:?} {expected:?}\n{replay}");
        }
        if matches!(step, Step::Reset | Step::PowerCut) {
            let kept = if expected.lost {
                ['A', expected.kept].contains(&now.slot)
            } else {
                now.slot == expected.kept
            };
            assert!(kept, "{now:?} after {done:?} {expected:?}\n{replay}");
            expected.lost = false;
        }
    }
    // Whatever it was: an update can be made.
    life.power();
    life.restart();
    let taken = life.install(200, Until::End);
    assert_eq!(
        taken,
        Ok(()),
        "an update after {done:?} {expected:?}, {:?} {:?}, seed {seed}",
        life.running(),
        life.choice()
    );
    life.restart();
    life.commits();
    life.power();
    assert_eq!(life.running().map(|system| system.version), Some(200), "after {done:?}, seed {seed}");
}

fn take(life: &mut Life, expected: &mut Expected, step: Step, running: System, version: &mut u8) {
    let slot = running.slot;
    let other = if slot == 'A' { 'B' } else { 'A' };
    if slot == 'A' && matches!(step, Step::Restart | Step::Reset | Step::PowerCut) {
        expected.bare_a = false;
    }
    match step {
        Step::Install(until) => {
            *version += 1;
            if life.install(*version, until).is_ok() {
                assert_eq!(expected.kept, slot, "an installation over the system to go back to");
                if until != Until::Marked {
                    expected.whole[usize::from(other == 'B')] = matches!(until, Until::Written | Until::End);
                }
                if other == 'A' && !matches!(until, Until::Marked | Until::Root) {
                    expected.torn_boot_of_a = matches!(until, Until::Boot(_));
                    expected.bare_a = until == Until::Written;
                }
            }
        }
        Step::Restart => {
            life.restart();
            expected.lost = false;
        }
        Step::Reset => drop(life.reset()),
        Step::PowerCut => drop(life.power()),
        Step::Commit => {
            if life.run(&format!("set-state {slot} good")).is_ok() {
                expected.kept = slot;
            }
        }
        Step::MarkBad => {
            // The health gate restarts at once.
            if life.run(&format!("set-state {slot} bad")).is_ok() && expected.kept == slot {
                expected.kept = other;
            }
        }
        Step::Activate => {
            let whole = expected.whole[usize::from(other == 'B')];
            if whole && life.run(&format!("set-primary {other}")).is_ok() && other == 'A' {
                expected.bare_a = false;
            }
        }
        Step::Delete => {
            life.delete_choice();
            expected.lost = true;
        }
        Step::Crlf => life.crlf(),
    }
}

#[test]
fn in_any_order_of_steps_a_whole_system_starts() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, lives) = match number("TIDEGATE_FIRMWARE_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("TIDEGATE_FIRMWARE_LIVES").unwrap_or(LIVES)),
    };
    for seed in first..first + lives {
        let model = [Model::Zero2W, Model::Pi4, Model::Pi5][usize::try_from(seed % 3).unwrap()];
        live(seed, Board::new(model));
    }
}
