//! Which message the cloud will not take: MQTT 3.1.1 has no word for it, a server just ends the connection.
//!
//! ```text
//!   connection died --> what was in flight gets a strike --> the window shrinks to a quarter with each further strike, down to 1
//!   died with one message alone in flight --> a case against it: others are sent alone and awaited, a drawn number of them, then it again
//!   guilty: died DEATHS_MIN times or more, others acknowledged in between, and the link alone would do that once in 10^9 cases
//! ```
//!
//! A line that drops connections by itself kills the others as well: each alone that dies raises what a case needs, so that bad luck blames nobody.
//! The others are rows of the other lane, else messages of the uplink itself, so that no row overtakes its neighbours of the same lane; only where the
//! server takes no message of the uplink either, the rows behind are tried. How many are sent before it on each connection is drawn: what cuts in a
//! rhythm hits them, too.
//!
//! A message of QoS 0 has no acknowledgement. Its topic gets the strike; when it is sent alone, a message of QoS 1 follows, whose acknowledgement says
//! that the server has read both. An uplink of QoS 0 sends nothing twice, so nothing can stop it, and nothing is suspected there.
//!
//! What a server refused is learned for a while: further messages of the topic that are at least as large, and all that are larger than anything it ever
//! took, are sent alone at once and set aside after two deaths, and without being sent after `ALIKE_MIN` of them. One that arrives ends that.
//!
//! Bounds: strikes by the window, [`CASES_MAX`], [`TOPICS_MAX`], [`UNPROVEN_MAX`], `LEARNED_MAX` for each server.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub(super) use super::learned::Kind;
use super::learned::Server;
use super::mutant::{Faults, Mutant};
use super::row::{Blame, Qos, Row, Seq};
use crate::tag::BootNs;

/// A message is blamed after so many deaths at least.
pub(super) const DEATHS_MIN: u32 = 3;
/// The natural logarithm of 10^9: how unlikely it must be that the link alone killed the connection each time.
const UNLIKELY_LN: f64 = 20.72;
/// Most others sent alone before an attempt; their number is drawn from 0 to this for each connection.
pub(super) const OTHERS_MAX: u32 = 16;
/// A case with more deaths than this is no reason to be back soon: it may be a rival that uses our client id.
const TRIAL_DEATHS_MAX: u32 = 12;
/// Most cases at once: one for each lane, birth, ledger and bulletins, and some of rows that are gone meanwhile.
const CASES_MAX: usize = 16;
/// A case or strike whose message is not seen for so many acknowledgements is forgotten: the message is gone.
const IDLE_ACKS_MAX: u64 = 256;
/// Most topics of QoS 0 with strikes; the one with the fewest goes.
const TOPICS_MAX: usize = 64;
/// Most messages of QoS 0 remembered until something after them is acknowledged.
const UNPROVEN_MAX: usize = 64;
/// A message that is like others that were refused is set aside after so many deaths.
const ALIKE_DEATHS_MIN: u32 = 2;
/// After this time a message of the uplink itself that the server refused is tried again.
pub(super) const SILENT_FOR: Duration = Duration::from_secs(3600);

/// What can be accused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Accused {
    Row(Seq),
    Birth,
    Ledger,
    /// All of them: a server that refuses one refuses all.
    Bulletin,
}

#[derive(Debug, Clone, Copy)]
struct Strike {
    count: u32,
    /// Acknowledgements when it was last in flight.
    seen: u64,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    server: usize,
    topic: Option<u64>,
    deaths: u32,
    /// Others sent alone since the first death: acknowledged, and died. Only those that nothing was said against before, so that
    /// neither many hostile messages nor one unlucky other changes what they say about the link.
    acked: u32,
    died: u32,
    /// Acknowledged since the last death.
    since: u32,
    /// Others to be acknowledged before the next attempt.
    wait: u32,
    seen: u64,
}

/// What is alone in flight.
#[derive(Debug, Clone, Copy)]
struct Alone {
    accused: Accused,
    token: u64,
    kind: Option<Kind>,
    alike: bool,
    /// QoS 0: whether it is written, and the message of QoS 1 that follows it.
    unanswered: Option<Unanswered>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Unanswered {
    written: bool,
    proof: Option<u64>,
}

/// How a row has to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// With others.
    Free,
    /// Alone, and awaited.
    Alone { alike: bool },
    /// Others first, alone.
    Later,
    /// Not at all: it is set aside.
    Not(Blame),
}

/// The end of a connection.
#[derive(Debug)]
pub(super) struct Death<'a> {
    pub(super) now: BootNs,
    pub(super) server: usize,
    /// Whether this connection has acknowledged something.
    pub(super) worked: bool,
    pub(super) in_flight: &'a [Accused],
    pub(super) faults: Faults,
}

/// What the end of a connection says about messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Unclear,
    /// Nothing: it has a reason of its own, a subscription that the server had not answered.
    Excused,
    /// A message that was in flight at an earlier end, too, may be the cause.
    Suspicious,
    /// A message is on trial.
    Trial,
    /// The proof.
    Blamed(Accused, Blame),
}

/// What is suspected, tried and known. See the module.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    servers: Vec<Server>,
    strikes: BTreeMap<Accused, Strike>,
    /// The most strikes of one.
    worst: u32,
    topics: BTreeMap<u64, (u32, u64)>,
    unproven: VecDeque<(u64, Kind)>,
    cases: BTreeMap<Accused, Case>,
    alone: Option<Alone>,
    acks: u64,
}

impl Suspects {
    /// A connection is up. `draw` gives a number from 0 to [`OTHERS_MAX`]: how many others are sent on it before what is on trial. It is drawn for
    /// each connection, so that a line that breaks after so many messages, or after so long, hits the others as well.
    pub(super) fn connected(&mut self, mut draw: impl FnMut() -> u32) {
        for case in self.cases.values_mut() {
            case.wait = draw();
        }
    }

    /// Most rows in flight.
    pub(super) fn window(&self, window: usize) -> usize {
        if !self.cases.is_empty() {
            return 1;
        }
        let shift = self.worst.saturating_sub(1).saturating_mul(2).min(31);
        (window >> shift).max(1)
    }

    /// Whether everything is sent alone.
    pub(super) fn is_careful(&self, window: usize) -> bool {
        !self.cases.is_empty() || (self.worst > 1 && self.window(window) == 1)
    }

    /// Whether something is alone in flight, so that nothing else may be sent but what [`Self::wants_proof`] asks for.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// Whether a message is on trial: its case is young, and others have lived so far. What is alone in flight without a case may become one.
    fn is_trial(&self) -> bool {
        let is_young = |case: &Case| case.died * 2 <= case.deaths && case.deaths <= TRIAL_DEATHS_MAX;
        match self.alone {
            Some(alone) => self.cases.get(&alone.accused).is_none_or(is_young),
            None => self.cases.values().any(is_young),
        }
    }

    /// Whether a message of QoS 0 is written alone and a message of QoS 1 has to follow it.
    pub(super) fn wants_proof(&self) -> bool {
        self.alone
            .and_then(|alone| alone.unanswered)
            .is_some_and(|unanswered| unanswered.written && unanswered.proof.is_none())
    }

    /// How this row has to be sent on this server.
    pub(super) fn way_of(&self, now: BootNs, server: usize, row: &Row, window: usize) -> Way {
        let careful = self.is_careful(window);
        let kind = || Kind::of(row);
        let mut alike = false;
        if let Some(known) = self.servers.get(server).filter(|server| server.knows_any()) {
            match known.is_like(now, kind()) {
                Some(true) => return Way::Not(Blame::Alike),
                like => alike = like.is_some(),
            }
        }
        if let Some(case) = self.cases.get(&Accused::Row(row.seq)) {
            let waits = case.wait > 0 && case.server == server;
            return if waits { Way::Later } else { Way::Alone { alike } };
        }
        let struck = if row.qos == Qos::AtMostOnce && !self.topics.is_empty() {
            let kind = kind();
            self.topics.get(&kind.topic).is_some_and(|(strikes, size)| *strikes > 1 && kind.size >= *size)
        } else {
            false
        };
        if careful || alike || struck { Way::Alone { alike } } else { Way::Free }
    }

    /// How a message of the uplink itself has to be sent; [`Way::Not`] if this server refuses it.
    pub(super) fn way_of_own(&self, now: BootNs, server: usize, own: Accused, window: usize) -> Way {
        if self.is_silent(now, server, own) {
            return Way::Not(Blame::Cut);
        }
        match self.cases.get(&own) {
            Some(case) if case.wait > 0 && case.server == server => Way::Later,
            Some(_) => Way::Alone { alike: false },
            None if self.is_careful(window) => Way::Alone { alike: false },
            None => Way::Free,
        }
    }

    /// The message of the uplink itself that is sent for the sake of others: the one that is suspected least, if the server takes any; and whether
    /// nothing at all is said against it.
    pub(super) fn other(&self, now: BootNs, server: usize) -> Option<(Accused, bool)> {
        let deaths = |own: &Accused| self.cases.get(own).map_or(0, |case| case.deaths);
        let usable = |own: &Accused| !self.is_silent(now, server, *own);
        let least = [Accused::Ledger, Accused::Birth].into_iter().filter(usable).min_by_key(deaths)?;
        Some((least, deaths(&least) == 0))
    }

    /// Whether this server refuses a message of the uplink itself.
    pub(super) fn is_silent(&self, now: BootNs, server: usize, own: Accused) -> bool {
        let silent = self.servers.get(server).and_then(|server| server.silent.get(&own));
        silent.is_some_and(|until| now < *until)
    }

    /// Something is sent with nothing else in flight, and nothing else is sent until it is answered.
    pub(super) fn sent_alone(
        &mut self,
        accused: Accused,
        token: u64,
        kind: Option<Kind>,
        alike: bool,
        qos: Qos,
    ) {
        let unanswered = (qos == Qos::AtMostOnce).then(Unanswered::default);
        self.alone = Some(Alone { accused, token, kind, alike, unanswered });
    }

    /// The message of QoS 1 after one of QoS 0.
    pub(super) fn sent_proof(&mut self, token: u64) {
        if let Some(unanswered) = self.alone.as_mut().and_then(|alone| alone.unanswered.as_mut()) {
            unanswered.proof = Some(token);
        }
    }

    /// A message of QoS 0 is written. Whether it has to wait for its proof.
    pub(super) fn written(&mut self, token: u64) -> bool {
        let alone = self.alone.as_mut().filter(|alone| alone.token == token);
        let Some(unanswered) = alone.and_then(|alone| alone.unanswered.as_mut()) else { return false };
        unanswered.written = true;
        true
    }

    /// A message of QoS 0 is written among others: the next acknowledgement of something sent after it proves it.
    pub(super) fn unproven(&mut self, token: u64, row: &Row) {
        if self.unproven.len() >= UNPROVEN_MAX {
            self.unproven.pop_front();
        }
        self.unproven.push_back((token, Kind::of(row)));
    }

    /// The server has acknowledged a message of QoS 1. Gives the token of the message of QoS 0 that this proves.
    pub(super) fn acked(
        &mut self,
        server: usize,
        token: u64,
        accused: Option<Accused>,
        row: Option<&Row>,
    ) -> Option<u64> {
        self.acks += 1;
        while self.unproven.front().is_some_and(|(before, _)| *before < token) {
            self.unproven.pop_front();
        }
        if let Some(row) = row {
            self.server(server).takes(row);
        }
        let alone = self.alone.take_if(|alone| {
            alone.token == token || alone.unanswered.is_some_and(|unanswered| unanswered.proof == Some(token))
        });
        let proved = alone.filter(|alone| alone.token != token);
        if let Some(alone) = alone {
            self.survived(server, alone);
        }
        if let Some(accused) = accused {
            self.clear(accused);
        }
        if self.acks.is_multiple_of(32) {
            self.forget_idle();
        }
        proved.map(|alone| alone.token)
    }

    /// The link will never send it, or it has left the queue.
    pub(super) fn gone(&mut self, token: u64, accused: Accused) {
        self.alone.take_if(|alone| alone.token == token);
        self.clear(accused);
    }

    /// A person wants this to be tried again: what was learned about its kind is forgotten.
    pub(super) fn forgive(&mut self, row: Seq) {
        self.clear(Accused::Row(row));
        self.topics.clear();
        for server in &mut self.servers {
            server.forgive();
        }
    }

    /// Everything that was learned about servers is forgotten: they are others.
    pub(super) fn other_servers(&mut self) {
        *self = Self { acks: self.acks, ..Self::default() };
    }

    /// Whether this says something about the link: nothing was said before against it, and nothing against others of its topic.
    fn is_unsuspected(&self, alone: &Alone) -> bool {
        let topic = alone.kind.map(|kind| kind.topic);
        let like = |case: &Case| topic.is_some() && case.topic == topic;
        !(alone.alike || self.cases.contains_key(&alone.accused) || self.cases.values().any(like))
    }

    fn survived(&mut self, server: usize, alone: Alone) {
        let says = u32::from(self.is_unsuspected(&alone));
        self.clear(alone.accused);
        if alone.unanswered.is_some()
            && let Some(kind) = alone.kind
        {
            if let Some((_, size)) = self.topics.get_mut(&kind.topic) {
                *size = kind.size.saturating_add(1);
            }
            self.server(server).unlearn(kind);
        }
        for case in self.cases.values_mut().filter(|case| case.server == server) {
            case.acked = case.acked.saturating_add(says);
            case.since = case.since.saturating_add(1);
            case.wait = case.wait.saturating_sub(1);
        }
    }

    fn server(&mut self, index: usize) -> &mut Server {
        if self.servers.len() <= index {
            self.servers.resize(index + 1, Server::default());
        }
        &mut self.servers[index]
    }

    fn clear(&mut self, accused: Accused) {
        self.cases.remove(&accused);
        if self.strikes.remove(&accused).is_some_and(|strike| strike.count == self.worst) {
            self.find_worst();
        }
    }

    fn find_worst(&mut self) {
        self.worst = self.strikes.values().map(|strike| strike.count).max().unwrap_or(0);
    }

    fn forget_idle(&mut self) {
        let acks = self.acks;
        let is_idle = |seen: u64| acks.saturating_sub(seen) > IDLE_ACKS_MAX;
        self.strikes.retain(|_, strike| !is_idle(strike.seen));
        self.cases.retain(|_, case| !is_idle(case.seen));
        self.find_worst();
    }

    /// A connection that was up has ended.
    pub(super) fn lost(&mut self, death: &Death<'_>) -> End {
        let unproven = std::mem::take(&mut self.unproven);
        let trial = self.is_trial();
        let suspicious = match self.alone.take() {
            Some(alone) => match self.died_alone(death, alone) {
                Some((accused, blame)) => return End::Blamed(accused, blame),
                None => false,
            },
            None => self.strike(death, &unproven),
        };
        match (trial, suspicious) {
            (true, _) => End::Trial,
            (false, true) => End::Suspicious,
            (false, false) => End::Unclear,
        }
    }

    /// The connection was given up for another reason: nobody is suspected.
    pub(super) fn given_up(&mut self) {
        self.unproven.clear();
        self.alone = None;
    }

    /// What was in flight is suspected. Whether some of it was before.
    fn strike(&mut self, death: &Death<'_>, unproven: &VecDeque<(u64, Kind)>) -> bool {
        let mut again = false;
        for accused in death.in_flight {
            let strike = self.strikes.entry(*accused).or_insert(Strike { count: 0, seen: 0 });
            again |= strike.count > 0;
            strike.count += 1;
            strike.seen = self.acks;
            self.worst = self.worst.max(strike.count);
        }
        for (_, kind) in unproven {
            let struck = self.topics.entry(kind.topic).or_insert((0, kind.size));
            again |= struck.0 > 0;
            *struck = (struck.0.saturating_add(1), struck.1.min(kind.size));
        }
        while self.topics.len() > TOPICS_MAX {
            let fewest = self.topics.iter().min_by_key(|(_, (strikes, _))| *strikes).map(|(topic, _)| *topic);
            self.topics.remove(&fewest.unwrap_or_default());
        }
        again
    }

    fn died_alone(&mut self, death: &Death<'_>, alone: Alone) -> Option<(Accused, Blame)> {
        let Death { server, faults, .. } = *death;
        let says = u32::from(self.is_unsuspected(&alone));
        for case in self.cases.values_mut().filter(|case| case.server == server) {
            case.died = case.died.saturating_add(says);
        }
        if self.cases.len() >= CASES_MAX && !self.cases.contains_key(&alone.accused) {
            self.forget_oldest_case();
        }
        let topic = alone.kind.map(|kind| kind.topic);
        let begun = Case { server, topic, deaths: 0, acked: 0, died: 0, since: 0, wait: 0, seen: 0 };
        let case = self.cases.entry(alone.accused).or_insert(begun);
        if case.server != server {
            *case = begun;
        }
        let careless = faults.has(Mutant::BlameWithoutProof);
        if case.deaths == 0 || case.since > 0 || careless {
            case.deaths = case.deaths.saturating_add(1);
        }
        (case.since, case.wait, case.seen) = (0, OTHERS_MAX, self.acks);
        let proved = is_proof(*case) || (careless && case.deaths >= DEATHS_MIN);
        let alike = alone.alike && death.worked && case.deaths >= ALIKE_DEATHS_MIN;
        if !(proved || alike) || faults.has(Mutant::NeverBlame) {
            return None;
        }
        self.clear(alone.accused);
        match (alone.accused, alone.kind) {
            (Accused::Row(_), Some(kind)) => self.server(server).learn(death.now, kind),
            (own, _) => drop(self.server(server).silent.insert(own, death.now.plus(SILENT_FOR))),
        }
        let blame = if proved { Blame::Cut } else { Blame::Alike };
        Some((alone.accused, blame))
    }

    fn forget_oldest_case(&mut self) {
        let oldest = self.cases.iter().min_by_key(|(_, case)| case.seen).map(|(accused, _)| *accused);
        if let Some(oldest) = oldest {
            self.cases.remove(&oldest);
        }
    }
}

/// Whether it must be the message: with `died` of `acked + died` others dying, the link alone does this once in 10^9 cases.
fn is_proof(case: Case) -> bool {
    let chance = f64::from(case.died + 1) / f64::from(case.acked.saturating_add(case.died) + 2);
    case.deaths >= DEATHS_MIN && f64::from(case.deaths) * -chance.ln() >= UNLIKELY_LN
}
