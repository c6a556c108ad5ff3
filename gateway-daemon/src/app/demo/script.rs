//! What happens when in a demo: pure, by time since its start and by what is seen.

use std::time::Duration;

/// Longest wait for the first connection and the first reading.
const START_MAX: Duration = Duration::from_secs(30);

/// How long all is well before the link is cut.
const WARM: Duration = Duration::from_secs(5);

/// How long all is well after everything caught up.
const AFTER: Duration = Duration::from_secs(3);

/// Longest wait for the queue to drain after an outage, beyond the length of the outage.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// Longest wait for the last messages after the devices are silent.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// Where a demo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the first readings to arrive.
    Starting,
    /// All is well.
    Steady,
    /// The link is cut.
    Cut,
    /// The link may return and the queue drains.
    Returning,
    /// The devices are silent, the last readings travel.
    Quiet,
    /// Over.
    Done,
}

/// What the demo has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Take the pretend cloud away.
    CutLink,
    /// Bring it back.
    RestoreLink,
    /// Stop polling; the uplink goes on.
    StopField,
    /// Count and end.
    Finish,
}

/// What the script wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// The link is up.
    pub link_up: bool,
    /// Messages that have arrived.
    pub arrived: u64,
    /// Messages in the queue, in flight or not.
    pub queued: u64,
    /// Messages in flight.
    pub in_flight: u64,
    /// How often a person asked to stop.
    pub stops: u32,
}

/// The script of one demo.
#[derive(Debug)]
pub struct Script {
    outage: Option<Duration>,
    length: Option<Duration>,
    phase: Phase,
    since: Duration,
    /// The outage is over, if there is one.
    after: bool,
}

impl Script {
    /// A demo that cuts the link for `outage`, and ends after `length`, or by itself after an outage, or when it is told to.
    #[must_use]
    pub fn new(outage: Option<Duration>, length: Option<Duration>) -> Self {
        Self { outage, length, phase: Phase::Starting, since: Duration::ZERO, after: outage.is_none() }
    }

    /// Where the demo is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The next thing to do at `now` after the start; call again until there is nothing.
    pub fn step(&mut self, now: Duration, facts: Facts) -> Option<Order> {
        let here = now.saturating_sub(self.since);
        let stop = facts.stops > 0;
        if facts.stops > 1 && self.phase != Phase::Done {
            return self.go(Phase::Done, now, Order::Finish);
        }
        match self.phase {
            Phase::Starting if stop || here >= START_MAX => self.go(Phase::Quiet, now, Order::StopField),
            Phase::Starting if facts.link_up && facts.arrived > 0 => self.enter(Phase::Steady, now),
            Phase::Steady if stop => self.go(Phase::Quiet, now, Order::StopField),
            Phase::Steady if !self.after && here >= WARM => self.go(Phase::Cut, now, Order::CutLink),
            Phase::Steady if self.after && self.is_long_enough(now, here) => {
                self.go(Phase::Quiet, now, Order::StopField)
            }
            Phase::Cut if stop || here >= self.outage.unwrap_or_default() => {
                self.after = true;
                self.go(Phase::Returning, now, Order::RestoreLink)
            }
            Phase::Returning if stop || here >= DRAIN_MAX + self.outage.unwrap_or_default() => {
                self.go(Phase::Quiet, now, Order::StopField)
            }
            // Nothing waits that is not on its way.
            Phase::Returning if facts.link_up && facts.queued <= facts.in_flight => {
                self.enter(Phase::Steady, now)
            }
            Phase::Quiet if facts.queued == 0 || here >= QUIET_MAX => {
                self.go(Phase::Done, now, Order::Finish)
            }
            _ => None,
        }
    }

    /// What a person should know about the moment; `well` is whether the gateway finds nothing wrong.
    #[must_use]
    pub fn caption(&self, now: Duration, well: bool) -> String {
        let here = now.saturating_sub(self.since);
        let left = |length: Duration| length.saturating_sub(here).as_secs() + 1;
        match self.phase {
            Phase::Starting => "Starting: devices, gateway and a pretend cloud, all in this process.".into(),
            Phase::Steady if !self.after => {
                format!("{} In {} s the link to the cloud will be cut.", verdict(well), left(WARM))
            }
            Phase::Steady if self.outage.is_some() => "The cloud is back and has everything.".into(),
            Phase::Steady => {
                format!("{} q ends the demo with a count of every reading.", verdict(well))
            }
            Phase::Cut => format!(
                "The link is cut for another {} s. Polling goes on; readings are kept on disk.",
                left(self.outage.unwrap_or_default())
            ),
            Phase::Returning => {
                "The cloud is reachable again. Fresh readings go at once, the backlog follows.".into()
            }
            Phase::Quiet => {
                "The devices are silent; the last readings are on their way. q ends at once.".into()
            }
            Phase::Done => "Done.".into(),
        }
    }

    fn is_long_enough(&self, now: Duration, here: Duration) -> bool {
        match self.length {
            Some(length) => now >= length,
            None => self.outage.is_some() && here >= AFTER,
        }
    }

    fn enter(&mut self, phase: Phase, now: Duration) -> Option<Order> {
        (self.phase, self.since) = (phase, now);
        None
    }

    fn go(&mut self, phase: Phase, now: Duration, order: Order) -> Option<Order> {
        (self.phase, self.since) = (phase, now);
        Some(order)
    }
}

fn verdict(well: bool) -> &'static str {
    if well { "All is well." } else { "Not all is well, see below." }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What the script says in each of its phases.
    pub(crate) fn captions() -> Vec<String> {
        let (long, none) = (Script::new(Some(s(86_400)), None), Script::new(None, None));
        let after = Script { after: true, ..Script::new(Some(s(20)), None) };
        let phases =
            [Phase::Starting, Phase::Steady, Phase::Cut, Phase::Returning, Phase::Quiet, Phase::Done];
        let mut captions: Vec<String> = phases
            .into_iter()
            .flat_map(|phase| [&long, &none, &after].map(|script| (phase, script)))
            .flat_map(|(phase, script)| {
                [true, false].map(|well| Script { phase, ..*script }.caption(Duration::ZERO, well))
            })
            .collect();
        captions.sort();
        captions.dedup();
        captions
    }

    #[test]
    fn nothing_is_said_to_be_well_while_the_gateway_finds_something_wrong() {
        for outage in [None, Some(s(20))] {
            let steady = Script { phase: Phase::Steady, ..Script::new(outage, None) };
            assert!(steady.caption(s(1), true).starts_with("All is well. "));
            assert!(steady.caption(s(1), false).starts_with("Not all is well, see below. "));
        }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Runs a script second by second; gives the orders with their seconds.
    fn play(mut script: Script, seconds: u64, facts: impl Fn(u64, Phase) -> Facts) -> Vec<(u64, Order)> {
        let mut orders = Vec::new();
        for second in 0..seconds {
            while let Some(order) = script.step(s(second), facts(second, script.phase())) {
                orders.push((second, order));
            }
        }
        orders
    }

    fn well(_: u64, phase: Phase) -> Facts {
        match phase {
            Phase::Cut => Facts { queued: 50, arrived: 9, ..Facts::default() },
            Phase::Quiet => Facts { link_up: true, arrived: 9, ..Facts::default() },
            _ => Facts { link_up: true, arrived: 9, queued: 2, in_flight: 2, stops: 0 },
        }
    }

    #[test]
    fn an_outage_is_cut_restored_drained_and_counted() {
        let orders = play(Script::new(Some(s(20)), None), 100, well);
        let wanted =
            [(5, Order::CutLink), (25, Order::RestoreLink), (28, Order::StopField), (28, Order::Finish)];
        assert_eq!(orders, wanted);
    }

    #[test]
    fn a_queue_that_never_drains_ends_the_demo_all_the_same() {
        let stuck = |_, phase| match phase {
            Phase::Returning | Phase::Quiet => Facts { queued: 5, ..Facts::default() },
            phase => well(0, phase),
        };
        let orders = play(Script::new(Some(s(20)), None), 1000, stuck);
        assert_eq!(orders[2..], [(25 + 80, Order::StopField), (25 + 80 + 30, Order::Finish)]);
    }

    #[test]
    fn a_demo_without_an_outage_runs_until_it_is_told_to_stop() {
        assert_eq!(play(Script::new(None, None), 1000, well), []);
        let stop = |second, phase| Facts { stops: u32::from(second >= 40), ..well(second, phase) };
        assert_eq!(play(Script::new(None, None), 1000, stop), [(40, Order::StopField), (40, Order::Finish)]);
        let orders = play(Script::new(None, Some(s(10))), 1000, well);
        assert_eq!(orders, [(10, Order::StopField), (10, Order::Finish)]);
    }

    #[test]
    fn a_stop_during_the_outage_brings_the_link_back_first() {
        let stop = |second, phase| Facts { stops: u32::from(second >= 7), ..well(second, phase) };
        let orders: Vec<Order> =
            play(Script::new(Some(s(20)), None), 100, stop).into_iter().map(|(_, order)| order).collect();
        assert_eq!(orders, [Order::CutLink, Order::RestoreLink, Order::StopField, Order::Finish]);
    }

    #[test]
    fn a_second_stop_ends_at_once() {
        let stops = |second, phase| match phase {
            Phase::Quiet => Facts { queued: 5, stops: if second >= 9 { 2 } else { 1 }, ..Facts::default() },
            phase => Facts { stops: u32::from(second >= 7), ..well(second, phase) },
        };
        let orders = play(Script::new(None, None), 100, stops);
        assert_eq!(orders, [(7, Order::StopField), (9, Order::Finish)]);
    }

    #[test]
    fn a_link_that_never_comes_up_ends_the_demo() {
        let orders = play(Script::new(None, None), 100, |_, _| Facts { queued: 1, ..Facts::default() });
        assert_eq!(orders, [(30, Order::StopField), (60, Order::Finish)]);
    }
}
