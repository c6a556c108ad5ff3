//! What happened around clients that a person may want to read in the log: who, what, with which result.
//!
//! ```text
//! the machine --Event, Who--> Notes --Note--> Broker::poll_note --> one line of the log
//! ```
//! The first of a kind about somebody is told at once. What repeats it within [`INTERVAL`] is counted, and the count is told at its end: "and N more like
//! it". Names come from strangers: they are cut to [`SHOWN_BYTES_MAX`] bytes, and what is no printable character is escaped.
//!
//! Bounds: [`LINES_MAX`] first lines and as many counts of a kind in an interval, [`SUBJECTS_MAX`] subjects are told apart, `WAITING_MAX` notes wait to be
//! taken. What is beyond is in the count of [`Event::More`]. Never: a password.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::CloseReason;
use crate::tag::{BootNs, Name};

/// How long notes of a kind about somebody are counted together.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Most lines of a kind in an interval: a shift of machines that all come back at once is seen, and a flood fills no journal.
pub const LINES_MAX: u32 = 30;

/// Most subjects that are told apart in an interval, some hundred bytes each.
pub const SUBJECTS_MAX: usize = 256;

/// Most notes that wait to be taken; they are taken in every round of the loop.
const WAITING_MAX: usize = 256;

/// What is shown of a name, bytes: it may be 65,535 long.
pub const SHOWN_BYTES_MAX: usize = 128;

/// Text of a stranger, fit to be read: cut, and without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Shown(Box<str>);

/// Whom a note is about; what is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Who {
    /// The user; `None` is anonymous, or not known.
    pub user: Option<Shown>,
    /// The client id.
    pub client: Option<Shown>,
    /// The address.
    pub peer: Option<Shown>,
    /// Name of the listener.
    pub listener: Option<Name>,
}

/// What somebody tried that a rule refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    /// To publish.
    Publish,
    /// To subscribe.
    Subscribe,
    /// To leave a last will, or the will itself when its time came.
    Will,
}

/// Whose topic it is on which only the gateway sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeper {
    /// A topic of this gateway's readings, status or updates ([`super::Own`]): a rule that names it lets others publish there.
    Gateway,
    /// Figures of the broker, `$SYS/...`: no rule lets others publish there.
    Figures,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client was let in.
    LoggedIn,
    /// A client was not let in, and why.
    LoginRefused(&'static str),
    /// An address, or a user at an address if the note names one, is refused without a comparison for so long.
    LockedOut {
        /// How long.
        time: Duration,
        /// Failed log-ins that led to it.
        failures: u32,
    },
    /// That is over.
    LockOver,
    /// Connections that an address or a user may not have.
    ConnectionRefused(&'static str),
    /// A rule refused something.
    RuleRefused {
        /// What was tried.
        attempt: Attempt,
        /// The topic or filter.
        topic: Shown,
    },
    /// Somebody tried to publish on a topic of the gateway itself, whatever the rules say.
    OwnTopic {
        /// What was tried.
        attempt: Attempt,
        /// The topic.
        topic: Shown,
        /// Whose it is.
        keeper: Keeper,
    },
    /// A connection was closed, for a reason of [`CloseReason::is_told`].
    Closed(CloseReason),
    /// A session ended because its client stayed away.
    SessionExpired {
        /// Messages that waited in it.
        messages: u64,
    },
    /// A client was refused because there are too many sessions: of all, of its user, or from its address.
    SessionRefused(&'static str),
    /// A person dropped a session.
    SessionDropped {
        /// Messages that waited in it.
        messages: u64,
    },
    /// Nobody who wanted a message of QoS 1 or 2 could keep it.
    MessageUnkept {
        /// Its topic, if it is known yet.
        topic: Option<Shown>,
    },
    /// A retained message reached those who wanted it, and there was no room to keep it.
    MessageUnretained {
        /// Its topic.
        topic: Shown,
    },
    /// Events of one kind that no other line tells.
    More(&'static str),
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What happened.
    pub event: Event,
    /// To whom.
    pub who: Who,
    /// How many more like it there were since the last line; with [`Event::More`], how many there were.
    pub more: u64,
}

impl Shown {
    /// Cuts and escapes a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let cut = &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)];
        let mut shown: String = cut.escape_debug().collect();
        if cut.len() < text.len() {
            shown.push_str("...");
        }
        Self(shown.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Event {
    /// Events with the same word are counted together; the word is the REASON of the log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LoggedIn => "log-in",
            Self::LoginRefused(_) => "log-in-refused",
            Self::LockedOut { .. } => "locked-out",
            Self::LockOver => "lock-out-over",
            Self::ConnectionRefused(_) => "connection-refused",
            Self::RuleRefused { attempt: Attempt::Publish, .. } => "publish-refused",
            Self::RuleRefused { attempt: Attempt::Subscribe, .. } => "subscribe-refused",
            Self::RuleRefused { attempt: Attempt::Will, .. } => "will-refused",
            Self::OwnTopic { attempt: Attempt::Will, .. } => "own-topic-will-refused",
            Self::OwnTopic { .. } => "own-topic-refused",
            Self::Closed(CloseReason::Topic(..)) => "bad-topic",
            Self::Closed(CloseReason::KeepAlive) => "client-silent",
            Self::Closed(CloseReason::TakenOver) => "taken-over",
            Self::Closed(_) => "connection-closed",
            Self::SessionExpired { .. } => "session-expired",
            Self::SessionRefused(_) => "session-refused",
            Self::SessionDropped { .. } => "session-dropped",
            Self::MessageUnkept { .. } => "message-unkept",
            Self::MessageUnretained { .. } => "message-unretained",
            Self::More(kind) => kind,
        }
    }

    /// Whether it is a state that changed as it should, and nothing to look after.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        matches!(
            self,
            Self::LoggedIn
                | Self::LockOver
                | Self::SessionExpired { messages: 0 }
                | Self::Closed(CloseReason::KeepAlive | CloseReason::TakenOver)
                | Self::More("log-in" | "lock-out-over" | "client-silent" | "taken-over")
        )
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish to",
            Self::Subscribe => "subscribe to",
            Self::Will => "leave a will for",
        })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "user {user}")?,
            None => f.write_str("nobody in particular")?,
        }
        if let Some(client) = &self.client {
            write!(f, " as client {client}")?;
        }
        if let Some(peer) = &self.peer {
            write!(f, " from {peer}")?;
        }
        Ok(())
    }
}

/// `1 message`, `2 messages`.
struct Messages(u64);

impl fmt::Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} message{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, more) = (&self.who, self.more);
        match &self.event {
            Event::LoggedIn => write!(f, "log-in: {who} is let in")?,
            Event::LoginRefused(why) => write!(f, "log-in: {who} is refused: {why}")?,
            Event::LockedOut { time, failures } => write!(
                f,
                "log-in: {} is locked out for {} s after {failures} failed log-ins",
                Locked(who),
                time.as_secs()
            )?,
            Event::LockOver => write!(f, "log-in: {} is not locked out any more", Locked(who))?,
            Event::ConnectionRefused(why) => write!(f, "connection of {who} is refused: {why}")?,
            Event::RuleRefused { attempt, topic } => {
                write!(f, "rules: {who} may not {attempt} {topic}")?;
            }
            Event::OwnTopic { attempt, topic, keeper: Keeper::Gateway } => write!(
                f,
                "own topics: {who} may not {attempt} {topic}, on which this gateway itself sends: only a rule that names the topic lets others publish \
                 there, allow = [\"publish {topic}\"] beside the rules for everything else"
            )?,
            Event::OwnTopic { attempt, topic, keeper: Keeper::Figures } => write!(
                f,
                "own topics: {who} may not {attempt} {topic}: figures below $SYS come from the broker alone, and no rule lets others publish there"
            )?,
            Event::Closed(reason) => write!(f, "connection of {who} is closed: {reason}")?,
            Event::SessionExpired { messages } => {
                write!(f, "session of {who} has expired with {} that waited in it", Messages(*messages))?;
            }
            Event::SessionRefused(why) => write!(
                f,
                "session of {who} is refused: {why}, and all of them hold something; `gateway-daemon sessions list` shows them, `sessions drop` \
                 ends one, and `sessions_max` and its neighbours in [broker.limits] are the limits"
            )?,
            Event::SessionDropped { messages } => {
                write!(
                    f,
                    "session of {who} was dropped by command with {} that waited in it",
                    Messages(*messages)
                )?;
            }
            Event::MessageUnkept { topic } => {
                let topic = topic.as_ref().map_or("a topic of an uplink", Shown::as_str);
                write!(
                    f,
                    "message of {who} to {topic} is lost: every queue that wants it is full, or smaller than the message, or there is no room to retain it; `gateway-daemon status` and `sessions list` show whose, and \
                     `stored_bytes_max` and its neighbours in [broker.limits] are the limits"
                )?;
            }
            Event::MessageUnretained { topic } => {
                f.write_str("retained message")?;
                if *who != Who::default() {
                    write!(f, " of {who}")?;
                }
                write!(
                    f,
                    " on {topic} reached its subscribers and is not kept: there is no room; `retained_max` and `retained_bytes_max` in [broker.limits] are the \
                     limits, and an empty retained message frees the place of its topic"
                )?;
            }
            Event::More(kind) => return write!(f, "{more} more of {kind} within a minute"),
        }
        if more > 0 { write!(f, ", and {more} more like it within a minute") } else { Ok(()) }
    }
}

/// Whom a lock-out is about: an address as a whole, or one user there.
struct Locked<'a>(&'a Who);

impl fmt::Display for Locked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.0.peer.as_ref().map_or("an unknown address", Shown::as_str);
        match &self.0.user {
            Some(user) => write!(f, "user {user} at {peer}"),
            None => f.write_str(peer),
        }
    }
}

/// Limits and counts notes.
#[derive(Debug, Default)]
pub(super) struct Notes {
    waiting: VecDeque<Note>,
    /// What was told in this interval, and how often it repeated.
    told: BTreeMap<(&'static str, Who), (Event, u64)>,
    /// First lines of each kind in this interval, and events that no line tells.
    kinds: BTreeMap<&'static str, (u32, u64)>,
    since: Option<BootNs>,
    /// Something is to be told when the interval is over.
    counts: bool,
}

impl Notes {
    /// Something happened.
    pub(super) fn add(&mut self, now: BootNs, event: Event, who: Who) {
        self.expire(now);
        self.since.get_or_insert(now);
        let kind = event.kind();
        if let Some((last, more)) = self.told.get_mut(&(kind, who.clone())) {
            (*last, *more) = (event, more.saturating_add(1));
            self.counts = true;
            return;
        }
        let (lines, untold) = self.kinds.entry(kind).or_default();
        if *lines >= LINES_MAX || self.told.len() >= SUBJECTS_MAX || self.waiting.len() >= WAITING_MAX {
            *untold = untold.saturating_add(1);
            self.counts = true;
            return;
        }
        *lines += 1;
        self.told.insert((kind, who.clone()), (event.clone(), 0));
        self.waiting.push_back(Note { event, who, more: 0 });
    }

    /// The next line.
    pub(super) fn take(&mut self) -> Option<Note> {
        let note = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        note
    }

    /// When counts are to be told.
    pub(super) fn timeout(&self) -> Option<BootNs> {
        self.since.filter(|_| self.counts).map(|since| since.plus(INTERVAL))
    }

    /// Tells the counts of an interval that is over.
    pub(super) fn expire(&mut self, now: BootNs) {
        if self.since.is_none_or(|since| since.plus(INTERVAL) > now) {
            return;
        }
        (self.since, self.counts) = (None, false);
        let mut kinds = std::mem::take(&mut self.kinds);
        // One more than the lines of the event itself: "and N more like it" says the last of them, which is one of the N.
        for ((kind, who), (event, more)) in std::mem::take(&mut self.told) {
            let Some(again) = more.checked_sub(1) else { continue };
            let told = self.waiting.iter().filter(|note| note.event.kind() == kind).count();
            if told >= usize::try_from(LINES_MAX).unwrap_or(usize::MAX) || self.waiting.len() >= WAITING_MAX {
                let (_, untold) = kinds.entry(kind).or_default();
                *untold = untold.saturating_add(more);
            } else {
                self.waiting.push_back(Note { event, who, more: again });
            }
        }
        for (kind, (_, untold)) in kinds {
            if untold > 0 {
                self.waiting.push_back(Note { event: Event::More(kind), who: Who::default(), more: untold });
            }
        }
    }
}

impl Who {
    /// An address alone.
    #[must_use]
    pub fn at(peer: &str) -> Self {
        Self { peer: Some(Shown::new(peer)), ..Self::default() }
    }

    /// Of a session without a connection.
    #[must_use]
    pub fn of_session(client: &Arc<str>, user: Option<&Arc<str>>) -> Self {
        Self { user: user.map(|user| Shown::new(user)), client: Some(Shown::new(client)), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootNs {
        BootNs(seconds * 1_000_000_000)
    }

    fn all(notes: &mut Notes) -> Vec<String> {
        std::iter::from_fn(|| notes.take()).map(|note| note.to_string()).collect()
    }

    fn who(client: &str) -> Who {
        Who { client: Some(Shown::new(client)), ..Who::at("10.0.0.7") }
    }

    #[test]
    fn what_repeats_is_told_once_and_then_counted() {
        let mut notes = Notes::default();
        for second in 0..10 {
            notes.add(at(second), Event::LoginRefused("wrong"), who("press"));
        }
        let first = "log-in: nobody in particular as client press from 10.0.0.7 is refused: wrong";
        assert_eq!(all(&mut notes), [first]);
        notes.expire(at(59));
        assert_eq!(all(&mut notes), [""; 0]);
        notes.expire(at(60));
        assert_eq!(all(&mut notes), [format!("{first}, and 8 more like it within a minute")]);
        assert_eq!(notes.timeout(), None, "nothing is left to tell");
    }

    #[test]
    fn a_flood_of_subjects_is_bounded_and_none_is_forgotten() {
        let mut notes = Notes::default();
        for n in 0..10_000 {
            notes.add(at(1), Event::LoginRefused("wrong"), who(&n.to_string()));
            notes.add(
                at(1),
                Event::RuleRefused { attempt: Attempt::Publish, topic: Shown::new("t") },
                who(&n.to_string()),
            );
        }
        assert_eq!(all(&mut notes).len(), 2 * LINES_MAX as usize);
        assert!(notes.told.len() <= SUBJECTS_MAX);
        notes.expire(at(61));
        let rest = 10_000 - u64::from(LINES_MAX);
        let lines = [
            format!("{rest} more of log-in-refused within a minute"),
            format!("{rest} more of publish-refused within a minute"),
        ];
        assert_eq!(all(&mut notes), lines);
    }

    #[test]
    fn hostile_names_are_cut_and_escaped() {
        let shown = Shown::new("a\nERROR \u{1b}[31m\u{202e}x");
        assert_eq!(shown.as_str(), "a\\nERROR \\u{1b}[31m\\u{202e}x");
        let long = Shown::new(&"\u{1}".repeat(65_535));
        assert!(long.as_str().len() <= SHOWN_BYTES_MAX * 6 + 3 && long.as_str().ends_with("..."));
    }
}
