//! What a round does, and what is written down about it.

use std::fmt;

use tidegate_tests::sim::chance::Chance;

/// What the gateway does when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Anything between power and the first connection to the cloud.
    Booting,
    /// It polls, and its cloud acknowledges; local clients publish.
    Polling,
    /// An outage has ended and the queue flows.
    Draining,
    /// An update is being installed, or has just been.
    Updating,
    /// The round did not come to it.
    Unknown,
}

impl Kind {
    pub(crate) fn by_lot(chance: &mut Chance) -> Self {
        chance.pick(&[
            Self::Booting,
            Self::Polling,
            Self::Polling,
            Self::Polling,
            Self::Draining,
            Self::Draining,
            Self::Draining,
            Self::Updating,
        ])
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Polling => "polling",
            Self::Draining => "draining",
            Self::Updating => "updating",
            Self::Unknown => "unknown",
        }
    }
}

/// One round, written down.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    /// From power to a running gateway.
    pub(crate) boot_s: Option<u64>,
    /// Sectors written and not flushed when the power went.
    pub(crate) sectors: Option<u64>,
    /// Polls that the cut before this round has cost.
    pub(crate) lost: Option<u64>,
    /// Local messages acknowledged so far, all of which arrived.
    pub(crate) acknowledged: u64,
    /// More about it.
    pub(crate) remark: String,
    pub(crate) failure: Option<String>,
}

impl Row {
    pub(crate) fn new(seed: u64, kind: Kind) -> Self {
        let (boot_s, sectors, lost) = (None, None, None);
        Self { seed, kind, boot_s, sectors, lost, acknowledged: 0, remark: String::new(), failure: None }
    }

    pub(crate) fn failed(seed: u64, why: String) -> Self {
        Self { failure: Some(why), ..Self::new(seed, Kind::Unknown) }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        write!(
            out,
            "{}, seed {}, boot {} s, {} sectors not flushed, {} polls lost before, {} acknowledged{}",
            self.kind.word(),
            self.seed,
            number(self.boot_s),
            number(self.sectors),
            number(self.lost),
            self.acknowledged,
            self.remark
        )?;
        match &self.failure {
            None => Ok(()),
            Some(why) => write!(out, ": FAILED: {why}"),
        }
    }
}
