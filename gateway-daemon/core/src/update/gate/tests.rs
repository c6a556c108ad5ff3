//! The gate by example and by chance.

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::update::trial::Device;

const LIMITS: Limits =
    Limits { steady: Duration::from_secs(60), deadline: Duration::from_secs(180), restarts_max: 2 };

fn at(s: u64) -> BootNs {
    BootNs(1_000_000_000_000).plus(Duration::from_secs(s))
}

fn seen(run: &str, answers: bool, acks: u64) -> Observation {
    Observation {
        run: run.into(),
        buses: [("line".to_owned(), u64::from(answers))].into(),
        devices: vec![Device { bus: "line".into(), name: "m1".into(), answers }],
        uplinks: [("cloud".to_owned(), acks)].into(),
        ..Observation::default()
    }
}

fn well() -> Observation {
    seen("a", true, 1)
}

fn gate() -> Gate {
    Gate::new(at(0), LIMITS, Before::of(&well()))
}

/// Looks every second at what `look` shows; the first verdict with its second.
fn run(gate: &mut Gate, look: impl Fn(u64) -> Option<Observation>) -> (u64, Verdict) {
    watch(gate, |second| sight(look(second)))
}

fn sight(seen: Option<Observation>) -> Sight {
    seen.map_or(Sight::Silent, Sight::State)
}

/// The same, with every kind of sight.
fn watch(gate: &mut Gate, look: impl Fn(u64) -> Sight) -> (u64, Verdict) {
    for second in 1..1000 {
        gate.handle(at(second), &look(second));
        let verdict = gate.verdict();
        if !matches!(verdict, Verdict::Pending { .. }) {
            return (second, verdict);
        }
    }
    (1000, gate.verdict())
}

#[test]
fn a_system_that_works_for_the_whole_time_is_good() {
    assert_eq!(run(&mut gate(), |_| Some(well())), (61, Verdict::Good));
}

#[test]
fn a_break_starts_the_count_again() {
    let (second, verdict) = run(&mut gate(), |second| Some(seen("a", second != 40, 1)));
    assert_eq!((second, verdict), (101, Verdict::Good));
}

#[test]
fn a_question_without_an_answer_is_no_break_and_ten_seconds_of_silence_are() {
    let (second, verdict) = run(&mut gate(), |second| (second % 5 == 0).then(well));
    assert_eq!((second, verdict), (65, Verdict::Good));
    let (second, verdict) = run(&mut gate(), |second| (!(30..41).contains(&second)).then(well));
    assert_eq!((second, verdict), (101, Verdict::Good));
}

#[test]
fn a_restart_of_the_daemon_starts_the_count_again_and_too_many_of_them_are_bad() {
    let (second, verdict) =
        run(&mut gate(), |second| Some(seen(if second < 30 { "a" } else { "b" }, true, 1)));
    assert_eq!((second, verdict), (90, Verdict::Good));
    let (second, verdict) = run(&mut gate(), |second| Some(seen(&format!("{}", second / 20), true, 1)));
    assert_eq!((second, verdict), (60, Verdict::Bad { why: "the gateway was started again 3 times".into() }));
}

#[test]
fn a_bus_that_does_not_poll_any_more_is_bad_at_the_deadline_and_says_so() {
    let (second, verdict) = run(&mut gate(), |_| Some(seen("a", false, 1)));
    assert_eq!(second, 180);
    assert_eq!(
        verdict,
        Verdict::Bad { why: "bus line: 0 of the 1 devices that answered before do so".into() }
    );
}

#[test]
fn a_bus_that_was_silent_before_may_stay_silent() {
    let mut gate = Gate::new(at(0), LIMITS, Before::of(&seen("a", false, 1)));
    assert_eq!(run(&mut gate, |_| Some(seen("b", false, 1))), (61, Verdict::Good));
}

#[test]
fn a_cloud_that_was_away_before_may_stay_away_and_one_that_was_there_has_to_acknowledge() {
    let mut away = Gate::new(at(0), LIMITS, Before::of(&seen("a", true, 0)));
    assert_eq!(run(&mut away, |_| Some(seen("b", true, 0))), (61, Verdict::Good));
    let (second, verdict) = run(&mut gate(), |_| Some(seen("b", true, 0)));
    assert_eq!(second, 180);
    assert!(matches!(verdict, Verdict::Bad { why } if why.starts_with("uplink cloud")));
    // One acknowledgement is enough, however late it comes before the deadline.
    assert_eq!(
        run(&mut gate(), |second| Some(seen("b", true, u64::from(second > 170)))),
        (231, Verdict::Good)
    );
}

#[test]
fn a_daemon_that_never_answers_is_bad() {
    let (second, verdict) = run(&mut gate(), |_| None);
    assert_eq!((second, verdict), (180, Verdict::Bad { why: "the gateway does not answer".into() }));
}

#[test]
fn a_daemon_without_a_place_for_the_gate_is_asked_again_and_stays_when_it_is_seen_to_work() {
    // From the start until one leaves, with a break in between, and for longer than any silence may last.
    for busy in [1..100, 30..90, 1..179] {
        let look = |second| if busy.contains(&second) { Sight::Busy } else { Sight::State(well()) };
        let (second, verdict) = watch(&mut gate(), look);
        let end = if busy.start == 1 { busy.end + 60 } else { 90 };
        assert_eq!((second, verdict), (end, Verdict::Good), "{busy:?}");
    }
}

#[test]
fn a_daemon_that_is_busy_to_the_end_is_not_said_to_give_no_answer() {
    let (second, verdict) = watch(&mut gate(), |_| Sight::Busy);
    let Verdict::Bad { why } = verdict else { panic!("{verdict:?}") };
    assert_eq!(second, 180);
    assert!(why.starts_with("the gateway runs, but nobody could see how"), "{why}");
    // What was seen once, and not for the whole time, does not count either.
    let look = |second| if second < 50 { Sight::State(well()) } else { Sight::Busy };
    let (second, verdict) = watch(&mut gate(), look);
    assert_eq!((second, verdict), (250, Verdict::Bad { why }));
}

#[test]
fn what_was_busy_and_falls_silent_does_not_answer() {
    let look = |second| if second < 50 { Sight::Busy } else { Sight::Silent };
    let (second, verdict) = watch(&mut gate(), look);
    assert_eq!((second, verdict), (180, Verdict::Bad { why: "the gateway does not answer".into() }));
}

#[test]
fn while_it_is_pending_it_says_what_it_waits_for() {
    let mut gate = gate();
    assert_eq!(gate.verdict(), Verdict::Pending { why: "the gateway does not answer".into() });
    gate.handle(at(1), &Sight::State(well()));
    gate.handle(at(31), &Sight::State(well()));
    assert_eq!(gate.verdict(), Verdict::Pending { why: "everything works, for 30 of 60 s".into() });
}

/// What one look may show: nothing, or a run with a bus and a cloud that work or not.
fn look() -> impl Strategy<Value = Option<(u8, bool, bool)>> {
    prop_oneof![1 => Just(None), 6 => (0..2u8, prop::bool::weighted(0.95), prop::bool::weighted(0.95)).prop_map(Some)]
}

proptest! {
    #[test]
    fn good_is_only_said_after_a_whole_time_without_a_break(looks in prop::collection::vec((1..20u64, look()), 1..200)) {
        let mut gate = gate();
        let mut second = 0;
        // The same, counted by hand: since when every look was well, in one run.
        let mut since: Option<(u64, u8)> = None;
        for (wait, look) in looks {
            second += wait;
            let shown = look.map(|(run, bus, cloud)| seen(&run.to_string(), bus, u64::from(cloud)));
            gate.handle(at(second), &sight(shown));
            if let Some((run, bus, cloud)) = look {
                let kept = since.filter(|(_, known)| *known == run);
                since = (bus && cloud).then(|| kept.unwrap_or((second, run)));
            }
            match gate.verdict() {
                Verdict::Good => {
                    let whole = since.is_some_and(|(since, _)| second - since >= LIMITS.steady.as_secs());
                    prop_assert!(whole, "good at {} s with {:?}", second, since);
                    return Ok(());
                }
                Verdict::Bad { .. } => return Ok(()),
                Verdict::Pending { .. } => {}
            }
        }
    }

    #[test]
    fn a_verdict_falls_in_time_whatever_is_seen_and_stays(looks in prop::collection::vec(look(), 300..400), more in any::<bool>()) {
        let mut gate = gate();
        let end = (LIMITS.deadline + LIMITS.steady + SILENCE_MAX).as_secs();
        let mut first = None;
        for (second, look) in (1..).zip(looks) {
            let shown = look.map(|(run, bus, cloud)| seen(&run.to_string(), bus, u64::from(cloud)));
            gate.handle(at(second), &sight(shown));
            let verdict = gate.verdict();
            if let Some(first) = &first {
                prop_assert_eq!(&verdict, first);
            } else if !matches!(verdict, Verdict::Pending { .. }) {
                prop_assert!(second <= end);
                first = Some(verdict);
            }
        }
        prop_assert!(first.is_some());
        gate.handle(at(2000), &sight(more.then(well)));
        prop_assert_eq!(Some(gate.verdict()), first);
    }

    #[test]
    fn what_did_not_work_before_never_decides(answers in any::<bool>(), acks in 0..2u64, steps in 61..200u64) {
        let mut gate = Gate::new(at(0), LIMITS, Before::of(&seen("a", false, 0)));
        for second in 0..steps {
            gate.handle(at(second), &Sight::State(seen("b", answers, acks)));
        }
        prop_assert_eq!(gate.verdict(), Verdict::Good);
    }
}
