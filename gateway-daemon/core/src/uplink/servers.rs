//! Which of several servers is next.
//!
//! ```text
//!   attempt fails ---> next server, after a short pause; after the last of a round: a pause that grows with every round
//!   works, is lost --> the same server once more: its session holds what it has for us; then the others in turn
//! ```
//! A server works when it has acknowledged a publish, or held a connection of QoS 0 for as long as an acknowledgement may take: one that accepts a connection and drops
//! it again has failed. There is no way back to the first server while another one works, because each change leaves a session behind.

/// Servers of one uplink, tried in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Servers {
    count: usize,
    current: usize,
    /// Attempts since the last one that worked, or since the last full round.
    tried: usize,
    worked: bool,
}

impl Default for Servers {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Servers {
    pub(super) fn new(count: usize) -> Self {
        Self { count: count.max(1), current: 0, tried: 0, worked: false }
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// An attempt begins.
    pub(super) fn attempt(&mut self) {
        self.tried += 1;
        self.worked = false;
    }

    /// The current connection has proved that it works.
    pub(super) fn worked(&mut self) {
        self.worked = true;
    }

    /// Whether the current connection has proved that it works.
    pub(super) fn has_worked(&self) -> bool {
        self.worked
    }

    /// The attempt failed or the connection is lost. Gives whether the pause that grows is due.
    pub(super) fn lost(&mut self) -> bool {
        if std::mem::take(&mut self.worked) {
            self.tried = 0;
            return true;
        }
        self.current = (self.current + 1) % self.count;
        let round_over = self.tried >= self.count;
        if round_over {
            self.tried = 0;
        }
        round_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts, each of which works or fails: the servers used and whether a growing pause followed.
    fn run(count: usize, works: &[bool]) -> Vec<(usize, bool)> {
        let mut servers = Servers::new(count);
        let mut seen = Vec::new();
        for works in works {
            servers.attempt();
            if *works {
                servers.worked();
            }
            let used = servers.current();
            seen.push((used, servers.lost()));
        }
        seen
    }

    #[test]
    fn a_round_of_failures_tries_each_server_once_before_the_pause_grows() {
        let seen = run(3, &[false; 7]);
        let expected = [(0, false), (1, false), (2, true), (0, false), (1, false), (2, true), (0, false)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_server_that_worked_is_tried_first_when_it_is_lost_and_the_others_after_it() {
        let seen = run(3, &[false, true, true, false, false, false, false]);
        let expected = [(0, false), (1, true), (1, true), (1, false), (2, false), (0, true), (1, false)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_single_server_is_always_the_next_one_and_every_pause_grows() {
        assert_eq!(run(1, &[false, true, false]), [(0, true); 3]);
    }
}
