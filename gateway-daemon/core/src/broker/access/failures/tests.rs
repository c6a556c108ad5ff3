use std::time::Duration;

use super::super::{Pace, Peer};
use super::*;

fn at(seconds: u64) -> BootNs {
    BootNs(seconds * 1_000_000_000)
}

fn fail(failures: &mut Failures, second: u64, peer: &str, user: &str) -> Penalty {
    failures.failed(at(second), &Peer::of(peer), user)
}

fn locked(failures: &Failures, second: u64, peer: &str, user: &str) -> bool {
    failures.is_locked(at(second), &Peer::of(peer), user)
}

#[test]
fn repeated_failures_are_told_later_and_later_at_their_address_only() {
    let mut failures = Failures::default();
    let waits: Vec<_> =
        (0..9).map(|s| fail(&mut failures, s, "10.0.0.7:1234", "me").wait.as_millis()).collect();
    assert_eq!(waits, [0, 0, 500, 1000, 2000, 4000, 8000, 16_000, 16_000]);
    assert_eq!(
        fail(&mut failures, 20, "10.0.0.9:1", "me").wait,
        Duration::ZERO,
        "the same user from elsewhere"
    );
    assert_eq!(
        fail(&mut failures, 22, "10.0.0.7:99", "x").wait,
        WAIT_MAX,
        "the same address as somebody else"
    );
    assert_eq!(fail(&mut failures, 10_000, "10.0.0.7:1234", "me").wait, Duration::ZERO, "after a long while");
}

#[test]
fn ten_wrong_passwords_lock_an_address_out_for_five_minutes_then_twice_as_long() {
    let mut failures = Failures::default();
    for second in 0..9 {
        assert_eq!(fail(&mut failures, second, "10.0.0.7", &format!("u{second}")).lock, None);
    }
    let lock = fail(&mut failures, 9, "10.0.0.7", "u9").lock.unwrap();
    assert_eq!((lock.user, lock.time, lock.failures), (None, LOCK_MIN, 10));
    assert!(locked(&failures, 10, "10.0.0.7", "anybody") && locked(&failures, 308, "10.0.0.7", "u1"));
    assert!(!locked(&failures, 10, "10.0.0.8", "u1") && !locked(&failures, 309, "10.0.0.7", "u1"));
    assert_eq!(failures.timeout(), Some(at(309)));
    assert_eq!(failures.expire(at(308)), None);
    assert!(failures.expire(at(309)).is_some_and(|over| over.peer == Peer::of("10.0.0.7")));
    assert_eq!((failures.expire(at(309)), failures.timeout(), failures.locked()), (None, None, 0));
    let mut second = 310;
    for minutes in [10, 20, 40, 60, 60] {
        let again = fail(&mut failures, second, "10.0.0.7", "u1").lock.unwrap();
        assert_eq!(again.time, Duration::from_secs(minutes * 60), "one more is enough");
        second += minutes * 60 + 1;
        assert!(failures.expire(at(second)).is_some());
    }
}

#[test]
fn a_user_is_locked_out_where_the_guesses_come_from_and_nowhere_else() {
    let mut failures = Failures::default();
    let router = Peer::of("192.168.1.1");
    failures.succeeded(at(0), &router, "pump");
    let mut locks = Vec::new();
    for second in 0..10 {
        locks.extend(fail(&mut failures, second, "192.168.1.1", "press").lock);
    }
    assert_eq!(locks.len(), 1);
    assert_eq!(locks[0].user.as_deref(), Some("press"));
    assert!(locked(&failures, 10, "192.168.1.1", "press"));
    assert!(!locked(&failures, 10, "192.168.1.1", "pump"), "a neighbour behind the same router");
    assert!(!locked(&failures, 10, "10.0.0.7", "press"), "the same user from elsewhere");
    assert_eq!(
        fail(&mut failures, 10, "192.168.1.1", "pump").wait,
        Duration::ZERO,
        "a neighbour who mistypes"
    );
}

#[test]
fn one_machine_with_a_wrong_password_never_locks_its_neighbours_out_and_a_hundred_guesses_do() {
    let mut failures = Failures::default();
    failures.succeeded(at(0), &Peer::of("192.168.1.1"), "pump");
    let mut second = 0;
    for _ in 0..10 {
        fail(&mut failures, 0, "192.168.1.1", "press");
    }
    for _ in 0..1000 {
        second += 3601;
        while failures.expire(at(second)).is_some() {}
        fail(&mut failures, second, "192.168.1.1", "press");
        assert!(!locked(&failures, second, "192.168.1.1", "pump"));
    }
    let mut locks = Vec::new();
    for n in 0..LOCK_TRUSTED_AFTER {
        locks.extend(fail(&mut failures, second + 1, "192.168.1.1", &format!("u{n}")).lock);
    }
    assert!(locks.iter().any(|lock| lock.user.is_none()));
    assert!(locked(&failures, second + 2, "192.168.1.1", "pump"));
}

#[test]
fn a_right_password_makes_its_failures_forgotten_and_nobody_elses() {
    let mut failures = Failures::default();
    for _ in 0..9 {
        fail(&mut failures, 1, "10.0.0.7", "me");
    }
    failures.succeeded(at(2), &Peer::of("10.0.0.7"), "me");
    assert_eq!(fail(&mut failures, 3, "10.0.0.7", "me"), Penalty { wait: Duration::ZERO, lock: None });
    assert!(failures.is_trusted(&Peer::of("10.0.0.7"), "me"));
    assert!(
        !failures.is_trusted(&Peer::of("10.0.0.7"), "you")
            && !failures.is_trusted(&Peer::of("10.0.0.8"), "me")
    );
    for _ in 0..10 {
        fail(&mut failures, 4, "10.0.0.7", "you");
    }
    failures.succeeded(at(5), &Peer::of("10.0.0.7"), "me");
    assert!(locked(&failures, 6, "10.0.0.7", "you"), "who knows one password has not guessed another");
}

#[test]
fn changed_users_end_every_lock_out() {
    let mut failures = Failures::default();
    for _ in 0..10 {
        fail(&mut failures, 1, "10.0.0.7", "me");
    }
    failures.forgive();
    assert!(!locked(&failures, 2, "10.0.0.7", "me"));
    assert!(failures.expire(at(2)).is_some(), "and it is told");
    assert_eq!((failures.expire(at(2)), failures.locked(), failures.len()), (None, 0, 0));
}

#[test]
fn a_flood_from_many_addresses_is_bounded_in_memory() {
    let mut failures = Failures::default();
    for n in 0..10_000_u32 {
        let peer = format!("10.1.{}.{}:1", n / 256, n % 256);
        for _ in 0..10 {
            fail(&mut failures, 1, &peer, &format!("u{n}"));
        }
        failures.succeeded(at(1), &Peer::of(&peer), "ok");
    }
    assert!(failures.len() <= 2 * FAILURES_MAX);
    let over = std::iter::from_fn(|| failures.expire(at(100_000))).count();
    assert_eq!(
        (over, failures.locked(), failures.timeout()),
        (10_000, 0, None),
        "each that began is told to be over"
    );
}

#[test]
fn one_machine_cannot_pose_as_many_by_its_addresses() {
    let mut failures = Failures::default();
    for n in 0..10 {
        fail(&mut failures, 1, &format!("[2001:db8::{n:x}]:1883"), "me");
    }
    assert!(
        locked(&failures, 2, "[2001:db8::ffff]:1", "me")
            && !locked(&failures, 2, "[2001:db8:0:1::1]:1", "me")
    );
    for _ in 0..10 {
        fail(&mut failures, 3, "::ffff:10.0.0.1", "me");
    }
    assert!(locked(&failures, 4, "10.0.0.1:5", "me"));
    fail(&mut failures, 4, &"é".repeat(70_000), &"ü".repeat(65_535));
}

#[test]
fn a_pace_lets_so_much_through_and_then_only_what_has_come_back() {
    let mut pace = Pace::default();
    let limit = (10, Duration::from_secs(60));
    for _ in 0..9 {
        assert_eq!(pace.take(at(100), 1, limit), None);
    }
    assert_eq!(pace.take(at(100), 1, limit), None);
    assert_eq!(pace.take(at(100), 1, limit), Some(at(106)), "a tenth of a minute each");
    assert_eq!(pace.empty_until(at(106), limit.1), None);
    assert!(!pace.is_full(at(160)) && pace.is_full(at(166)));
    assert_eq!(Pace::default().take(at(1), u64::MAX, (0, limit.1)), None, "no limit");
    assert!(Pace::default().take(at(1), u64::MAX, (1, limit.1)).is_some(), "no overflow");
}
