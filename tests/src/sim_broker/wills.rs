//! What must be true of last wills: they speak once their connection ended without a word, and not before, and not otherwise.

use std::collections::BTreeMap;

use super::oracle::Verdict;

/// What is known of the will of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its connection lives.
    Armed,
    /// Its connection ended; it speaks from this moment on.
    Due(u64),
    /// It must not speak any more.
    Cancelled,
    /// A crash, or an end before the broker's answer, left it open.
    Open,
}

/// The wills of all connections.
#[derive(Debug, Default)]
pub struct Wills {
    /// By client and connection.
    states: BTreeMap<(usize, u64), (State, u64)>,
    /// The observer's subscription is durable since then.
    watched: Option<u64>,
    /// Wills heard.
    pub heard: u64,
}

impl Wills {
    /// The observer's SUBACK came.
    pub fn watch(&mut self, now: u64) {
        self.watched.get_or_insert(now);
    }

    /// CONNECT with a will leaves.
    pub fn sent(&mut self, client: usize, conn: u64) {
        self.states.insert((client, conn), (State::Open, 0));
    }

    /// CONNACK came: a will that had a delay and was not due is cancelled, the new one is armed.
    pub fn connected(&mut self, now: u64, client: usize, conn: u64) {
        for ((who, number), (state, _)) in &mut self.states {
            if *who == client && *number < conn {
                match *state {
                    State::Due(due) if due > now => *state = State::Cancelled,
                    State::Due(due) if due + super::world::MS > now => *state = State::Open,
                    _ => {}
                }
            }
        }
        if let Some((state, _)) = self.states.get_mut(&(client, conn)) {
            *state = State::Armed;
        }
    }

    /// Its connection ended without a word; it is due after a delay.
    pub fn cut(&mut self, now: u64, client: usize, conn: u64, delay: u64) {
        if let Some((state @ State::Armed, _)) = self.states.get_mut(&(client, conn)) {
            *state = State::Due(now + delay);
        }
    }

    /// Its client said goodbye.
    pub fn goodbye(&mut self, client: usize, conn: u64) {
        self.set(client, conn, State::Cancelled);
    }

    /// Its connection was lost on the way to saying goodbye.
    pub fn lost(&mut self, client: usize, conn: u64) {
        self.set(client, conn, State::Open);
    }

    /// Nobody was promised anything that was not on disk.
    pub fn crash(&mut self) {
        self.states.values_mut().filter(|(_, heard)| *heard == 0).for_each(|(state, _)| *state = State::Open);
    }

    /// The observer hears a will.
    ///
    /// # Errors
    /// It must not be heard.
    pub fn taken(&mut self, now: u64, client: usize, conn: u64) -> Verdict {
        let Some((state, heard)) = self.states.get_mut(&(client, conn)) else {
            return Err(format!("the will of connection {conn} of {client}, which had none, is heard"));
        };
        *heard += 1;
        self.heard += u64::from(*heard == 1);
        match *state {
            State::Armed => Err(format!("the will of connection {conn} of {client} is heard while it lives")),
            State::Cancelled => {
                Err(format!("the will of connection {conn} of {client} is heard and was cancelled"))
            }
            State::Due(due) if now < due => {
                Err(format!("the will of connection {conn} of {client} is heard before its delay is over"))
            }
            State::Due(_) | State::Open => Ok(()),
        }
    }

    /// Wills that had to be heard and were not.
    #[must_use]
    pub fn owed(&self, now: u64) -> Vec<(usize, u64)> {
        let Some(watched) = self.watched else { return Vec::new() };
        let owed = self.states.iter().filter(
            |(_, (state, heard))| matches!(state, State::Due(due) if *due > watched && *due < now && *heard == 0),
        );
        owed.map(|(key, _)| *key).collect()
    }

    /// Wills that are still to speak.
    #[must_use]
    pub fn pending(&self, now: u64) -> Vec<(usize, u64)> {
        let pending =
            self.states.iter().filter(|(_, (state, _))| matches!(state, State::Due(due) if *due >= now));
        pending.map(|(key, _)| *key).collect()
    }

    fn set(&mut self, client: usize, conn: u64, to: State) {
        if let Some((state, 0)) = self.states.get_mut(&(client, conn)) {
            *state = to;
        }
    }
}
