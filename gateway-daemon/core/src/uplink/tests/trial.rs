//! What the cloud and people see while a message is on trial.

use std::cell::{Cell, RefCell};

use super::aside::{Cloud, Sent, bench, line_holds, live, on};
use super::*;

/// A cloud that will not take `hostile`, so many seconds long; gives how many ledger messages came each second, and the reason of each end.
fn ledgers_and_losses(drain: Drain, hostile: &[&str], seconds: u64) -> (Vec<u64>, Vec<&'static str>) {
    let mut bench = bench(drain);
    let ledgers = RefCell::new(Vec::new());
    let second_of = Cell::new(0);
    let poison = |_: usize, sent: &Sent| {
        if sent.topic == "g/ledger" {
            ledgers.borrow_mut().push(second_of.get());
        }
        hostile.contains(&sent.topic.as_str())
    };
    let mut losses = Vec::new();
    let mut lost = 0;
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, seconds, cloud, |bench, second| {
        second_of.set(second);
        if std::mem::replace(&mut lost, bench.uplink.counters().losses_total) < lost {
            losses.extend(bench.uplink.last_loss().map(Loss::word));
        }
        bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        // One after the other, so that the first end of each comes soon after the trial of the one before.
        if let Some(topic) = usize::try_from(second / 40)
            .ok()
            .filter(|_| second % 40 == 2)
            .and_then(|index| hostile.get(index))
        {
            bench.uplink.publish(bench.now, on(topic, 5, Qos::AtLeastOnce, bench.now));
        }
    });
    assert_eq!(story.aside.len(), hostile.len(), "{drain:?}: {story:?}");
    (ledgers.into_inner(), losses)
}

#[test]
fn no_rival_is_named_for_the_ends_that_a_message_causes_and_the_trial_is_named_instead() {
    for drain in [Drain::Fifo, Drain::LiveFirst] {
        let (_, losses) = ledgers_and_losses(drain, &["x/1", "x/2", "x/3", "x/4", "x/5"], 240);
        assert!(!losses.contains(&"taken-over"), "{drain:?}: {losses:?}");
        assert!(losses.contains(&"message-on-trial"), "{drain:?}: {losses:?}");
    }
}

#[test]
fn a_trial_sends_as_many_ledgers_as_its_proof_needs_and_the_next_one_comes_by_the_clock() {
    for drain in [Drain::Fifo, Drain::LiveFirst] {
        let (ledgers, _) = ledgers_and_losses(drain, &["x/1"], 200);
        let trial: Vec<u64> = ledgers.iter().copied().filter(|second| *second < 40).collect();
        assert!(trial.len() <= 80, "{drain:?}: {ledgers:?}");
        let last = trial.last().copied().unwrap_or_default();
        let clock: Vec<u64> = ledgers.into_iter().filter(|second| *second > last).collect();
        assert!((1..=3).contains(&clock.len()), "{drain:?}: {clock:?}");
        assert!(clock[0] >= last + 59, "{drain:?}: {clock:?} after {last}");
    }
}

#[test]
fn the_ledger_comes_by_the_clock_however_often_the_connection_is_made_again() {
    let mut bench = Bench::new(settings(), Stored::default());
    let ledgers = |actions: &[Action]| {
        let is_ledger =
            |action: &&Action| matches!(action, Action::Announce { topic, .. } if &**topic == "g/ledger");
        actions.iter().filter(is_ledger).count()
    };
    let (mut count, mut connects) = (0, 0);
    while bench.now < BootNs(0).plus(Duration::from_secs(300)) {
        count += ledgers(&bench.connect());
        connects += 1;
        bench.link(LinkEvent::Down { loss: Loss::Overrun, up_for: Some(Duration::from_millis(10)) });
    }
    assert!(connects > 100 && (4..=5).contains(&count), "{count} ledgers on {connects} connections");
    // After an outage it comes at once.
    bench.pass(70_000);
    bench.actions();
    bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
    assert_eq!(ledgers(&bench.connect()), 1);
}

/// The cloud will not take a filter: it ends each connection on which that is subscribed, until it is left out.
#[test]
fn no_rival_is_named_for_the_ends_that_a_subscription_causes_and_one_is_afterwards() {
    let mut bench = Bench::new(settings(), Stored::default());
    let mut ends = |excused: bool, times: usize| -> Vec<&'static str> {
        (0..times)
            .map(|_| {
                bench.connect();
                if excused {
                    bench.uplink.excuse();
                }
                let closed = Loss::Closed { stage: None };
                bench.link(LinkEvent::Down { loss: closed, up_for: Some(Duration::from_millis(300)) });
                bench.uplink.last_loss().map_or("none", Loss::word)
            })
            .collect()
    };
    assert_eq!(ends(true, 20), ["closed-by-server"; 20]);
    assert!(ends(false, 12).contains(&"taken-over"));
}
