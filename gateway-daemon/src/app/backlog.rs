//! The end of a backlog, for the log: what waited on disk while an uplink could not send, and when it was gone.
//!
//! Looks at the uplink once a tick. A backlog begins when messages are on disk although the link is not up, or were found there at the start; it ends when the
//! link is up and nothing is on disk any more, except what was set aside. A slow acknowledgement that puts a row on disk for a moment is none.

use std::time::Duration;

use gateway_core::tag::BootNs;

use super::picture::words;

/// What an uplink shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Since when it is connected, if it is.
    pub up_since: Option<BootNs>,
    /// Messages on disk that are to be sent.
    pub waiting: u64,
    /// Messages acknowledged so far.
    pub acknowledged: u64,
    /// Messages dropped so far.
    pub dropped: u64,
}

/// A backlog that has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    /// Messages that were acknowledged since it began.
    pub acknowledged: u64,
    /// Messages that were dropped since it began.
    pub dropped: u64,
    /// Since it began.
    pub after: Duration,
    /// Since the link came up.
    pub sent_within: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Began {
    at: BootNs,
    before: Seen,
}

/// The backlog of one uplink, as far as it was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backlog {
    began: Option<Began>,
    last: Seen,
}

impl Backlog {
    /// Takes a look.
    pub(super) fn observe(&mut self, now: BootNs, seen: Seen) -> Option<Gone> {
        let last = std::mem::replace(&mut self.last, seen);
        let Some(began) = &self.began else {
            if seen.waiting > 0 && seen.up_since.is_none() {
                // What was acknowledged since the last look was no part of it.
                let before = Seen { acknowledged: seen.acknowledged, dropped: last.dropped, ..seen };
                self.began = Some(Began { at: now, before });
            }
            return None;
        };
        let (Some(up_since), 0) = (seen.up_since, seen.waiting) else { return None };
        let gone = Gone {
            acknowledged: seen.acknowledged.saturating_sub(began.before.acknowledged),
            dropped: seen.dropped.saturating_sub(began.before.dropped),
            after: now.since(began.at),
            sent_within: now.since(up_since),
        };
        self.began = None;
        Some(gone)
    }
}

/// Puts the line into the log.
pub(super) fn log(uplink: &str, gone: Gone) {
    let (messages, dropped) = (gone.acknowledged, gone.dropped);
    let sentence = sentence(gone);
    log::info!(event = "backlog", uplink, messages, dropped; "uplink {uplink}: {sentence}");
}

fn sentence(gone: Gone) -> String {
    let time = |time: Duration| words::duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let sent = format!(
        "the backlog of {} is sent: {}",
        time(gone.after),
        words::counted(gone.acknowledged, "message")
    );
    let dropped = if gone.dropped > 0 {
        format!(", and {} dropped", words::count(gone.dropped))
    } else {
        String::new()
    };
    format!("{sent} acknowledged within {} of the connection{dropped}", time(gone.sent_within))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootNs {
        BootNs(seconds * 1_000_000_000)
    }

    /// A look at a link that is up since the second, or down.
    fn seen(up_since: impl Into<Option<u64>>, waiting: u64, acknowledged: u64) -> Seen {
        Seen { up_since: up_since.into().map(at), waiting, acknowledged, dropped: 0 }
    }

    #[test]
    fn the_end_of_a_backlog_leaves_one_line_with_its_count() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.observe(at(0), seen(0, 0, 100)), None);
        assert_eq!(backlog.observe(at(1), seen(None, 0, 100)), None, "nothing waits on disk yet");
        for second in 2..3600 {
            assert_eq!(backlog.observe(at(second), seen(None, second, 100)), None);
        }
        assert_eq!(backlog.observe(at(3600), seen(3600, 3000, 700)), None);
        let gone = backlog.observe(at(3610), seen(3600, 0, 3800)).unwrap();
        let expected = Gone {
            acknowledged: 3700,
            dropped: 0,
            after: Duration::from_secs(3608),
            sent_within: Duration::from_secs(10),
        };
        assert_eq!(gone, expected);
        assert_eq!(backlog.observe(at(3611), seen(3600, 0, 3801)), None, "told once");
        assert_eq!(
            sentence(gone),
            "the backlog of 1 h 0 min is sent: 3 700 messages acknowledged within 10 s of the connection"
        );
        let dropped = Gone { acknowledged: 1, dropped: 2, ..gone };
        assert!(sentence(dropped).contains("1 message acknowledged"), "{}", sentence(dropped));
        assert!(sentence(dropped).ends_with(", and 2 dropped"), "{}", sentence(dropped));
    }

    #[test]
    fn a_backlog_that_is_gone_at_the_first_look_took_the_time_since_the_connection() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.observe(at(1), seen(None, 590, 0)), None);
        let up = Seen { up_since: Some(BootNs(1_600_000_000)), ..seen(None, 0, 590) };
        let gone = backlog.observe(at(2), up).unwrap();
        assert_eq!(gone.sent_within, Duration::from_millis(400));
    }

    #[test]
    fn what_was_restored_is_a_backlog_and_a_slow_acknowledgement_is_none() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.observe(at(1), seen(None, 387, 0)), None);
        assert_eq!(backlog.observe(at(2), seen(2, 0, 390)).unwrap().acknowledged, 390);
        for second in 3..100 {
            assert_eq!(backlog.observe(at(second), seen(2, second % 2, 390 + second)), None);
        }
    }

    #[test]
    fn a_link_that_comes_and_goes_has_one_backlog_until_it_is_gone() {
        let mut backlog = Backlog::default();
        let mut lines = 0;
        for second in 1..1000 {
            let up = (second % 20 > 10).then(|| second - second % 20 + 11);
            lines += usize::from(backlog.observe(at(second), seen(up, 1000 - second, second)).is_some());
        }
        assert_eq!(lines, 0);
        assert_eq!(
            backlog.observe(at(1000), seen(991, 0, 1000)).unwrap().sent_within,
            Duration::from_secs(9)
        );
    }
}
