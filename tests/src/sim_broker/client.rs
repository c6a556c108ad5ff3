//! A client that keeps every promise of MQTT: it remembers its session for ever and sends again what was not answered, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::oracle::{Name, Oracle, Verdict};
use super::shared::SHARED;
use super::wire::{self, Heard};

/// Most messages of a publisher without an answer.
const WINDOW: usize = 6;
/// The filter that every subscriber uses: everybody's ordinary messages.
pub const EVERYTHING: &str = "m/+/+";
/// The password of everybody.
pub const PASSWORD: &str = "secret";
/// Retained messages.
const RETAINED: &str = "r/+";
/// Last wills.
const WILLS: &str = "w/+";
/// A retained message of QoS 1, where a QoS is named.
pub const KEPT: u8 = 3;
/// A message of the shared subscription with QoS 1, where a QoS is named; one more is QoS 2.
pub const GROUP: u8 = 4;

/// QoS on the wire.
fn on_wire(kind: u8) -> u8 {
    match kind {
        KEPT | GROUP => 1,
        5 => 2,
        qos => qos,
    }
}

/// A subscription that a durable client makes once and keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// A member of the group that shares messages.
    Group,
    /// Hears last wills.
    Wills,
}

/// How far a message of a publisher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Publish,
    Release,
}

#[derive(Debug, Clone)]
struct Pending {
    id: u16,
    /// Its QoS may be [`KEPT`] or above [`GROUP`].
    name: Name,
    stage: Stage,
    /// Sent on some connection.
    again: bool,
}

/// What is asked and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Subscribe,
    Unsubscribe,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number, which is its place.
    pub me: usize,
    /// Speaks 5.0.
    pub v5: bool,
    /// Its session never ends.
    pub durable: bool,
    /// Publishes.
    pub publishes: bool,
    /// Subscribes with this QoS.
    pub wants: Option<u8>,
    /// Number of its connection.
    pub conn: Option<u64>,
    /// CONNACK came.
    pub up: bool,
    /// Thinks about messages of QoS 1 for a while before it acknowledges them; those of QoS 2 it answers at once.
    pub slow: bool,
    /// Acknowledges nothing for a while.
    pub silent: bool,
    /// PUBACKs that it has yet to send.
    late: Vec<u8>,
    /// What it wants to send now.
    pub out: Vec<u8>,
    buffer: Vec<u8>,
    pending: VecDeque<Pending>,
    last: BTreeMap<u8, u64>,
    unreleased: BTreeSet<u16>,
    /// Rows of its queue were lost with a database: nobody knows to release what it has of them.
    pub robbed: bool,
    asked: Asked,
    subscribed: bool,
    /// What retained messages there must be, at least, after a SUBSCRIBE for them.
    retained: Option<BTreeMap<usize, u64>>,
    receive_max: u16,
    /// A subscription for good, and whether its SUBACK came.
    extra: Option<(Extra, bool)>,
    /// Delay of the will of its connection, ns.
    pub will: Option<u64>,
    /// Has said goodbye and waits for the end.
    pub leaving: bool,
}

impl Client {
    /// A client that was never connected.
    #[must_use]
    pub fn new(me: usize, v5: bool, durable: bool, publishes: bool, wants: Option<u8>) -> Self {
        Self {
            me,
            v5,
            durable,
            publishes,
            wants,
            conn: None,
            up: false,
            slow: false,
            silent: false,
            late: Vec::new(),
            out: Vec::new(),
            buffer: Vec::new(),
            pending: VecDeque::new(),
            last: BTreeMap::new(),
            unreleased: BTreeSet::new(),
            robbed: false,
            asked: Asked::Nothing,
            subscribed: false,
            retained: None,
            receive_max: if me.is_multiple_of(2) { 4 } else { 65_535 },
            extra: None,
            will: None,
            leaving: false,
        }
    }

    /// With a subscription for good.
    #[must_use]
    pub fn with(self, extra: Extra) -> Self {
        Self { extra: Some((extra, false)), ..self }
    }

    /// A connection is there; its will, if it has one, speaks after a delay, s.
    pub fn open(&mut self, conn: u64, will: Option<u32>, oracle: &mut Oracle) {
        (self.conn, self.leaving) = (Some(conn), false);
        let (name, topic, body) = (format!("client-{}", self.me), format!("w/{}", self.me), conn.to_string());
        let will = will.map(|delay_s| wire::Will { topic: &topic, body: &body, delay_s });
        self.will = will.map(|will| u64::from(will.delay_s) * 1000 * super::world::MS);
        if will.is_some() {
            oracle.wills.sent(self.me, conn);
        }
        let user = format!("user-{}", self.me);
        self.out = wire::connect(&wire::Hello {
            v5: self.v5,
            id: &name,
            durable: self.durable,
            receive_max: self.receive_max,
            will,
            user: Some((&user, PASSWORD)),
        });
    }

    /// Says goodbye; nothing is said or heard after it.
    pub fn leave(&mut self) {
        if self.up {
            (self.up, self.leaving) = (false, true);
            self.out.extend(wire::GOODBYE);
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self, oracle: &mut Oracle) {
        (self.conn, self.up, self.leaving) = (None, false, false);
        self.out.clear();
        self.late.clear();
        self.buffer.clear();
        self.retained = None;
        if !self.durable {
            self.unreleased.clear();
            (self.subscribed, self.asked) = (false, Asked::Nothing);
            oracle.forgets(self.me);
        }
    }

    /// Whether nothing is left to be answered.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let wants = self.wants.is_none() || self.subscribed;
        self.up
            && wants
            && self.pending.is_empty()
            && self.late.is_empty()
            && (self.unreleased.is_empty() || self.robbed)
            && self.asked == Asked::Nothing
            && self.extra.is_none_or(|(_, granted)| granted)
    }

    /// What it still waits for.
    pub fn noise(&self) -> String {
        format!(
            "{}: up {}, subscribed {}, pending {:?}, late {:?}, unreleased {:?}, asked nothing {}, group or will {:?}",
            self.me,
            self.up,
            self.subscribed,
            self.pending.len(),
            self.late.len(),
            self.unreleased.len(),
            self.asked == Asked::Nothing,
            self.extra.map(|(_, granted)| granted)
        )
    }

    /// Publishes one more message, if the window has room.
    pub fn publish(&mut self, now: u64, qos: u8, oracle: &mut Oracle) {
        if !self.up || self.pending.len() >= WINDOW {
            return;
        }
        let used: BTreeSet<u16> = self.pending.iter().map(|pending| pending.id).collect();
        let Some(id) = (1..).find(|id| !used.contains(id)) else { return };
        let number = self.last.entry(qos).or_default();
        *number += 1;
        let name = (self.me, qos, *number);
        self.pending.push_back(Pending { id, name, stage: Stage::Publish, again: false });
        self.send(now, self.pending.len() - 1, oracle);
    }

    /// Subscribes or unsubscribes.
    pub fn change_mind(&mut self, now: u64, oracle: &mut Oracle) {
        let Some(qos) = self.wants.filter(|_| self.up && self.asked == Asked::Nothing) else { return };
        if self.subscribed {
            self.asked = Asked::Unsubscribe;
            oracle.leaves(self.me);
            self.out.extend(wire::unsubscribe(self.v5, 900, EVERYTHING));
        } else {
            self.asked = Asked::Subscribe;
            oracle.asks(now, self.me);
            self.out.extend(wire::subscribe(self.v5, 901, EVERYTHING, qos));
        }
        self.subscribed = !self.subscribed;
    }

    /// Whether it is subscribed, or has asked for it.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Sends the PUBACKs it has thought about.
    pub fn wake(&mut self) {
        self.out.append(&mut self.late);
    }

    /// Asks for the retained messages.
    pub fn look_at_retained(&mut self, oracle: &Oracle) {
        if self.up && self.retained.is_none() {
            self.retained = Some(oracle.retained_since());
            self.out.extend(wire::subscribe(self.v5, 902, RETAINED, 0));
        }
    }

    /// Bytes of the broker.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn hear(&mut self, now: u64, bytes: &[u8], oracle: &mut Oracle) -> Verdict {
        if self.leaving {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        while let Some(heard) = wire::next(&mut self.buffer, self.v5)? {
            self.heard(now, heard, oracle)?;
        }
        Ok(())
    }

    fn heard(&mut self, now: u64, heard: Heard, oracle: &mut Oracle) -> Verdict {
        match heard {
            Heard::Connected(present, code) => self.connected(now, present, code, oracle)?,
            Heard::Publish { qos, retain, id, topic, body, .. } => {
                self.take(now, (qos, retain, id), &topic, &body, oracle)?;
            }
            Heard::Ack(id) => self.finish(now, id, 1, oracle)?,
            Heard::Rec(id) => {
                let found =
                    self.pending.iter_mut().find(|pending| pending.id == id && on_wire(pending.name.1) == 2);
                if let Some(pending) = found {
                    pending.stage = Stage::Release;
                }
                self.out.extend(wire::answer(0x62, id));
            }
            Heard::Rel(id) => {
                self.unreleased.remove(&id);
                self.out.extend(wire::answer(0x70, id));
            }
            Heard::Comp(id) => self.finish(now, id, 2, oracle)?,
            Heard::Subscribed(901) => {
                self.asked = Asked::Nothing;
                oracle.subscribed(now, self.me);
            }
            Heard::Subscribed(903) => match &mut self.extra {
                Some((Extra::Group, granted)) => {
                    *granted = true;
                    oracle.shared.joined(now);
                }
                Some((Extra::Wills, granted)) => {
                    *granted = true;
                    oracle.wills.watch(now);
                }
                None => {}
            },
            Heard::Unsubscribed(_) => {
                self.asked = Asked::Nothing;
                oracle.left(now, self.me);
            }
            Heard::Subscribed(_) | Heard::Other(_) => {}
        }
        Ok(())
    }

    fn connected(&mut self, now: u64, present: bool, code: u8, oracle: &mut Oracle) -> Verdict {
        if code != 0 {
            return Err(format!("{} is refused with {code}", self.me));
        }
        self.up = true;
        if !present {
            if self.durable && oracle.is_subscribed(self.me) {
                return Err(format!("the session of {} and its subscription are forgotten", self.me));
            }
            if self.pending.iter().any(|pending| pending.stage == Stage::Release)
                || !self.unreleased.is_empty()
            {
                return Err(format!("the session of {} is forgotten in the middle of an exchange", self.me));
            }
        }
        if let Some(conn) = self.conn {
            oracle.wills.connected(now, self.me, conn);
        }
        for place in 0..self.pending.len() {
            self.send(now, place, oracle);
        }
        match self.extra {
            Some((Extra::Group, false)) => self.out.extend(wire::subscribe(self.v5, 903, SHARED, 2)),
            Some((Extra::Wills, false)) => self.out.extend(wire::subscribe(self.v5, 903, WILLS, 1)),
            _ => {}
        }
        // A SUBSCRIBE without an answer is asked again.
        match self.asked {
            Asked::Nothing => {}
            Asked::Subscribe => {
                let qos = self.wants.unwrap_or(0);
                self.out.extend(wire::subscribe(self.v5, 901, EVERYTHING, qos));
            }
            Asked::Unsubscribe => self.out.extend(wire::unsubscribe(self.v5, 900, EVERYTHING)),
        }
        Ok(())
    }

    fn send(&mut self, now: u64, place: usize, oracle: &mut Oracle) {
        let pending = &mut self.pending[place];
        if pending.stage == Stage::Release {
            self.out.extend(wire::answer(0x62, pending.id));
            return;
        }
        let (me, qos, number) = pending.name;
        let again = if pending.again { 8 } else { 0 };
        pending.again = true;
        let bits = on_wire(qos) << 1;
        let (flags, topic) = match qos {
            KEPT => (bits | 1, format!("r/{me}")),
            0..KEPT => (bits, format!("m/{me}/{qos}")),
            GROUP.. => (bits, format!("s/{me}/{}", on_wire(qos))),
        };
        match qos {
            KEPT => oracle.retained_sent(me, number),
            GROUP.. => oracle.shared.sent(now, pending.name),
            _ => oracle.sent(now, pending.name),
        }
        self.out.extend(wire::publish(self.v5, flags | again, pending.id, &topic, &number.to_string()));
    }

    /// The exchange of a message of this QoS is over.
    fn finish(&mut self, now: u64, id: u16, qos: u8, oracle: &mut Oracle) -> Verdict {
        let fits = |pending: &Pending| pending.id == id && on_wire(pending.name.1) == qos;
        let place = self.pending.iter().position(fits);
        let Some(done) = place.and_then(|place| self.pending.remove(place)) else { return Ok(()) };
        match done.name.1 {
            KEPT => oracle.retained_acknowledged(done.name.0, done.name.2),
            GROUP.. => oracle.shared.acknowledged(done.name),
            _ => oracle.acknowledged(now, done.name)?,
        }
        Ok(())
    }

    /// PUBLISH: its QoS, retain flag and identifier.
    fn take(
        &mut self,
        now: u64,
        (qos, retain, id): (u8, bool, u16),
        topic: &str,
        body: &[u8],
        oracle: &mut Oracle,
    ) -> Verdict {
        let words: Vec<&str> = topic.split('/').collect();
        let number = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
        let publisher = words.get(1).and_then(|word| word.parse().ok());
        let (Some(number), Some(publisher)) = (number, publisher) else {
            return Err(format!("a message that nobody sends: {topic:?} {body:?}"));
        };
        if words[0] == "r" {
            return self.take_retained(publisher, number, retain, oracle);
        }
        match qos {
            1 => {
                let answers = if self.slow || self.silent { &mut self.late } else { &mut self.out };
                answers.extend(wire::answer(0x40, id));
            }
            2 => {
                self.out.extend(wire::answer(0x50, id));
                if !self.unreleased.insert(id) {
                    return Ok(());
                }
            }
            _ => return Err(format!("{topic} comes with QoS {qos}")),
        }
        let published = words.get(2).and_then(|word| word.parse().ok()).unwrap_or(0);
        match words[0] {
            "w" => oracle.wills.taken(now, publisher, number),
            "s" => oracle.shared.taken(self.me, (publisher, GROUP - 1 + published, number), qos),
            _ => oracle.taken(self.me, (publisher, published, number), qos),
        }
    }

    fn take_retained(&mut self, publisher: usize, number: u64, retain: bool, oracle: &Oracle) -> Verdict {
        oracle.retained_taken(publisher, number)?;
        let Some(least) = self.retained.as_mut().filter(|_| retain) else { return Ok(()) };
        match least.remove(&publisher) {
            Some(least) if number < least => {
                Err(format!("retained message {number} of {publisher} although {least} was acknowledged"))
            }
            _ => Ok(()),
        }
    }

    /// After a look at the retained messages and time for the answer: none is missing.
    ///
    /// # Errors
    /// One is.
    pub fn has_retained(&self) -> Verdict {
        let missing = self.retained.iter().flatten().find(|(_, number)| **number > 0);
        missing.map_or(Ok(()), |(publisher, number)| {
            Err(format!("retained message {number} of {publisher} is gone"))
        })
    }
}
