//! SUBSCRIBE, UNSUBSCRIBE, and the retained messages that follow.
//!
//! A packet may hold sixty thousand filters: they are dealt with some at a time, and the answer leaves when all are done.

use std::collections::{BTreeSet, VecDeque};

use super::conn::{Kind, Owed, Why};
use super::work::{FILTER, PACKET, ROW, RULE, SESSIONS_PER_UNIT};
use super::{Broker, sys};
use crate::broker::front::{Texts, Wishes};
use crate::broker::note::{Attempt, Event, Shown};
use crate::broker::packet::{Code, Delivery, Options, Replay, Subscription, Wish};
use crate::broker::retained::Looked;
use crate::broker::session::{Replaying, Session};
use crate::broker::topic::TopicError;
use crate::broker::tree::{Bounds, Entered, cost_alone};
use crate::broker::{CloseReason, ConnId, SessionId};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// Retained messages given to a session before it is another one's turn; what is left follows when the client has read.
const REPLAY_ROWS_MAX: usize = 64;

/// Retained topics looked at before it is another one's turn.
const REPLAY_LOOKS_MAX: usize = 1024;

/// Looks at a retained topic for one unit of work.
const LOOKS_PER_UNIT: usize = 1;

/// What making the figures of `$SYS` costs, in units.
const FIGURES: usize = 200;

/// Filters of one packet before the budget is asked again.
const FILTERS_AT_ONCE: usize = 8;

/// A session has few subscriptions below this.
const FEW: usize = 16;

/// Of the number that all may have, a holder has few below so large a part of it.
const FEW_PART: usize = 32;

/// Of the number that all may have, so large a part is for those that have few.
const RESERVE_PART: usize = 8;

/// What the sessions of one holder have together: of a user, or of an address those without a user. The sum is made when somebody asks, and only when half
/// of all subscriptions, or of their bytes, are there: no holder has half of them before.
#[derive(Debug, Clone, Copy, Default)]
struct Holding {
    subscriptions: usize,
    /// What they cost by themselves.
    bytes: usize,
}

impl Holding {
    /// Whether a session may have one more besides `own`, while all together have `all` of `max`. Half is the most for a holder, and the last eighth is for
    /// holders and sessions that have few: whoever has none is not refused because somebody else has many.
    fn allows(self, own: usize, all: usize, max: usize) -> bool {
        let few = own < FEW && self.subscriptions < (max / FEW_PART).max(FEW);
        let ordinary = all < max - max / RESERVE_PART && self.subscriptions < max.div_ceil(2);
        all < max && (few || ordinary)
    }

    /// What all may cost, for a session whose subscriptions cost so much: what is beyond for those that have little is for holders that have little.
    fn bounds(self, bounds: Bounds, cost: usize) -> Bounds {
        if self.bytes > bounds.bytes_max / FEW_PART { bounds } else { bounds.for_session(cost) }
    }
}

/// SUBSCRIBE or UNSUBSCRIBE on its way.
#[derive(Debug)]
pub(super) struct Task {
    packet: u16,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    Subscribe {
        identifier: Option<u32>,
        wishes: Wishes,
        granted: Vec<Result<Qos, Code>>,
        replay: BTreeSet<Subscription>,
    },
    Unsubscribe {
        filters: Texts,
        codes: Vec<Code>,
    },
}

impl Task {
    pub(super) fn subscribe(packet: u16, identifier: Option<u32>, wishes: Wishes) -> Self {
        let granted = Vec::with_capacity(wishes.len());
        let replay = BTreeSet::new();
        Self { packet, asked: Asked::Subscribe { identifier, wishes, granted, replay } }
    }

    pub(super) fn unsubscribe(packet: u16, filters: Texts) -> Self {
        let codes = Vec::with_capacity(filters.len());
        Self { packet, asked: Asked::Unsubscribe { filters, codes } }
    }

    /// Bytes of memory that a packet takes until it is answered, with its answer.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.asked {
                Asked::Subscribe { wishes, granted, .. } => {
                    wishes.bytes() + granted.capacity() * size_of::<Result<Qos, Code>>()
                }
                Asked::Unsubscribe { filters, codes } => filters.bytes() + codes.capacity(),
            }
    }

    /// Filters that are left.
    pub(super) fn len(&self) -> usize {
        match &self.asked {
            Asked::Subscribe { wishes, .. } => wishes.len(),
            Asked::Unsubscribe { filters, .. } => filters.len(),
        }
    }
}

impl Broker {
    /// Subscriptions that have gone since the start, of whichever session.
    #[must_use]
    pub fn subscriptions_gone(&self) -> u64 {
        self.tree.removed()
    }

    /// Takes a SUBSCRIBE or UNSUBSCRIBE; [`Broker::go_on_with_filters`] does what it says.
    pub(super) fn begin_filters(&mut self, conn: ConnId, task: Task) {
        if let Some(open) = self.conns.get_mut(&conn) {
            self.work.filters_bytes += task.bytes();
            open.task = Some(Box::new(task));
        }
    }

    /// Does some of what a connection asked for: each filter has its own answer, in order.
    pub(super) fn go_on_with_filters(&mut self, now: BootNs, conn: ConnId) -> Result<(), CloseReason> {
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        let (Some(mut task), Some(id)) = (open.task.take(), open.session) else { return Ok(()) };
        let mut holding = self.holding(id);
        for _ in 0..FILTERS_AT_ONCE {
            if task.len() == 0 {
                self.work.filters_bytes -= task.bytes();
                self.answer_filters(now, (conn, id), *task);
                return Ok(());
            }
            let outcome = match &mut task.asked {
                Asked::Subscribe { identifier, wishes, granted, replay } => match wishes.next() {
                    Some(wish) => self
                        .subscribe_one(now, (conn, id, &mut holding), wish, *identifier, replay)
                        .map(|code| granted.push(code)),
                    None => Ok(()),
                },
                Asked::Unsubscribe { filters, codes } => match filters.next() {
                    Some(filter) => self.unsubscribe_one(now, id, &filter).map(|code| codes.push(code)),
                    None => Ok(()),
                },
            };
            if outcome.is_err() {
                self.forget_task(Some(task));
                return outcome;
            }
        }
        if let Some(open) = self.conns.get_mut(&conn) {
            open.task = Some(task);
        }
        Ok(())
    }

    fn answer_filters(&mut self, now: BootNs, (conn, id): (ConnId, SessionId), task: Task) {
        let packet = task.packet;
        match task.asked {
            Asked::Subscribe { granted, replay, .. } => {
                self.counters.subscriptions_refused_total +=
                    granted.iter().filter(|code| code.is_err()).count() as u64;
                let replay = replay.into_iter().collect();
                let owed = Owed::Subscribed { id: packet, granted, replay };
                self.owe_after(conn, id, Kind::Subscribe, owed);
                self.watch_figures(now);
            }
            Asked::Unsubscribe { codes, .. } => {
                self.owe_after(conn, id, Kind::Subscribe, Owed::Unsubscribed { id: packet, codes });
            }
        }
    }

    fn subscribe_one(
        &mut self,
        now: BootNs,
        (conn, id, holding): (ConnId, SessionId, &mut Holding),
        Wish { filter, options }: Wish,
        identifier: Option<u32>,
        replay: &mut BTreeSet<Subscription>,
    ) -> Result<Result<Qos, Code>, CloseReason> {
        self.work.charge(FILTER);
        let subscription = match Subscription::parse(&filter) {
            Ok(subscription) => subscription,
            Err(TopicError::TooDeep(_)) => return Ok(Err(Code::FilterInvalid)),
            Err(error) => return Err(CloseReason::Topic(error, Shown::new(&filter))),
        };
        if subscription.share.is_some() && options.no_local {
            return Err(CloseReason::Protocol("no local on a shared subscription"));
        }
        let options = Options { identifier, ..options };
        let entered = self.enter(now, (conn, id, *holding), &subscription, options);
        holding.subscriptions += usize::from(entered == Ok(true));
        let wanted = match (entered, options.replay) {
            (Err(_), _) | (_, Replay::Never) => false,
            (_, Replay::Always) => true,
            (Ok(another), Replay::IfNew) => another,
        };
        if wanted && subscription.share.is_none() {
            replay.insert(subscription);
        }
        Ok(entered.map(|_| options.qos))
    }

    /// What the holder of a session has, as far as it matters.
    fn holding(&mut self, id: SessionId) -> Holding {
        let Some(own) = self.sessions.get(&id) else { return Holding::default() };
        let limits = &self.settings.limits;
        if self.tree.len() + FILTERS_AT_ONCE <= limits.subscriptions_max / 2
            && self.tree.bytes() <= Bounds::of(limits).bytes_max / 2
        {
            return Holding::default();
        }
        let of_holder = |session: &&Session| {
            session.user == own.user && (own.user.is_some() || session.address == own.address)
        };
        let mut holding = Holding::default();
        for session in self.sessions.values().filter(of_holder) {
            holding.subscriptions += session.filters.len();
            holding.bytes += session.filters.cost();
        }
        self.work.charge(self.sessions.len() / SESSIONS_PER_UNIT);
        holding
    }

    /// Makes a subscription if it may be; says whether it is another one.
    fn enter(
        &mut self,
        now: BootNs,
        (conn, id, holding): (ConnId, SessionId, Holding),
        subscription: &Subscription,
        options: Options,
    ) -> Result<bool, Code> {
        let filter = &subscription.filter;
        self.work.charge(2 * filter.levels().count());
        if let Some(grants) = self.conns.get(&conn).and_then(|open| open.grants.as_ref()) {
            let (may, steps) = grants.subscribe_steps(filter);
            self.work.charge(grants.rules() * RULE + steps / 4);
            if !may {
                let topic = Shown::new(&subscription.text());
                self.note(Event::RuleRefused { attempt: Attempt::Subscribe, topic }, self.who(conn));
                return Err(Code::NotAuthorized);
            }
        }
        let limits = &self.settings.limits;
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Code::Unspecified) };
        // Those of sessions that have ended do not count, unless they are as many as there may be.
        let living = self.tree.len().saturating_sub(self.work.dying);
        let cost = session.filters.cost() + cost_alone(subscription);
        let full = session.filters.len() >= limits.subscriptions_per_session_max
            || cost > Bounds::session_bytes_max(limits)
            || self.work.dying >= limits.subscriptions_max
            || !holding.allows(session.filters.len(), living, limits.subscriptions_max);
        if full && !session.filters.contains(subscription) {
            return Err(Code::QuotaExceeded);
        }
        let bounds = holding.bounds(Bounds::of(limits), cost);
        if let Entered::Refused(looked) = self.tree.insert(subscription, id, options, bounds) {
            self.work.charge(FILTER + looked);
            return Err(Code::QuotaExceeded);
        }
        let another = session.filters.insert(subscription);
        self.work.charge(if session.outbound.is_durable() { ROW } else { 0 });
        self.write_subscription(now, id, subscription, options);
        Ok(another)
    }

    fn unsubscribe_one(&mut self, now: BootNs, id: SessionId, filter: &str) -> Result<Code, CloseReason> {
        self.work.charge(FILTER);
        let subscription = match Subscription::parse(filter) {
            Ok(subscription) => subscription,
            // Nobody has subscribed to it.
            Err(TopicError::TooDeep(_)) => return Ok(Code::NoSubscriptionExisted),
            Err(error) => return Err(CloseReason::Topic(error, Shown::new(filter))),
        };
        self.work.charge(2 * subscription.filter.levels().count());
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(Code::Unspecified) };
        if !session.filters.remove(&subscription) {
            return Ok(Code::NoSubscriptionExisted);
        }
        self.work.charge(session.replays.len() / 4);
        session.replays.retain(|replaying| replaying.subscription != subscription);
        let (_, looked) = self.tree.remove(&subscription, id);
        self.work.charge(looked);
        self.remove_subscription(now, id, &subscription);
        Ok(Code::Success)
    }

    /// Retained messages go to whoever subscribes, also again (3.8.4), as fast as it reads.
    pub(super) fn begin_replay(&mut self, conn: ConnId, subscriptions: Vec<Subscription>) {
        let Some(id) = self.conns.get(&conn).and_then(|open| open.session) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.work.charge(session.replays.len() + subscriptions.len());
        // Asked for again before it was done: from the start. They come in order.
        session.replays.retain(|replaying| subscriptions.binary_search(&replaying.subscription).is_err());
        session.replays.extend(subscriptions.into_iter().map(|subscription| Replaying {
            subscription,
            figured: false,
            after: None,
        }));
        self.list_replay(id);
    }

    /// A session may be given more of what is retained.
    pub(super) fn list_replay(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.replays.is_empty()
            && !std::mem::replace(&mut session.replay_listed, true)
        {
            self.replaying.push_back(id);
        }
    }

    /// Gives the next session more of what is retained; `false` if none waits for it.
    pub(super) fn replay(&mut self, now: BootNs) -> bool {
        let Some(id) = self.replaying.pop_front() else { return false };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.replay_listed = false;
        }
        if self.replay_some(now, id) {
            self.list_replay(id);
        }
        // A session at rest keeps no room for what it once asked for.
        if let Some(session) = self.sessions.get_mut(&id)
            && session.replays.is_empty()
        {
            session.replays = VecDeque::new();
        }
        true
    }

    /// Gives some retained messages to a session; `false` when there are none or the client has to read first.
    fn replay_some(&mut self, now: BootNs, id: SessionId) -> bool {
        self.work.charge(PACKET);
        let limits = self.settings.limits;
        let room = self.has_room(id);
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if !room || session.outbound.held().rows >= limits.inflight_max as u64 {
            return false;
        }
        let Some(mut replaying) = session.replays.pop_front() else { return false };
        let filter = replaying.subscription.filter.clone();
        let Some(options) = self.tree.options(&replaying.subscription, id) else { return true };
        let mut messages = Vec::new();
        if !std::mem::replace(&mut replaying.figured, true) && filter.levels().next() == Some(sys::ROOT) {
            self.work.charge(FIGURES);
            messages = self.figures(now);
            messages.retain(|message| filter.matches(&message.topic));
        }
        let Looked { found, looks, last } =
            self.retained.look(now, &filter, replaying.after.as_ref(), REPLAY_LOOKS_MAX, REPLAY_ROWS_MAX);
        self.work.charge(looks / LOOKS_PER_UNIT);
        messages.extend(found);
        let mut again = last.map(Some);
        for message in messages {
            if !self.has_room(id) {
                again = Some(replaying.after.clone());
                break;
            }
            if self.retained.contains(&message.topic) {
                replaying.after = Some(message.topic.clone());
            }
            if message.is_expired(now) || !self.may_receive(id, &message.topic) {
                continue;
            }
            let qos = message.qos.min(options.qos);
            let identifiers = options.identifier.into_iter().collect();
            self.deliver(now, id, Delivery { message, qos, retain: true, identifiers }, None);
        }
        if let (Some(after), Some(session)) = (again, self.sessions.get_mut(&id)) {
            session.replays.push_front(Replaying { after, ..replaying });
        }
        true
    }

    /// Whether a session's client reads fast enough for more that can wait.
    fn has_room(&mut self, id: SessionId) -> bool {
        let Some(conn) = self.sessions.get(&id).and_then(|session| session.conn) else { return false };
        self.make_room_to(conn);
        let outbox_bytes_max = self.settings.limits.outbox_bytes_max / 2;
        let open = self.conns.get_mut(&conn).filter(|open| !open.is_held_for(Why::Rules));
        open.is_some_and(|open| open.may_get(outbox_bytes_max, &self.unwritten))
    }
}
