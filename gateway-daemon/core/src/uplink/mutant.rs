//! Named faults that the simulation switches on to prove that its oracle would notice them.
//!
//! Without the cargo feature `mutants` the only question asked here has the constant answer "no", and nothing can be switched on.

/// One deliberate fault. Each breaks one promise; a test names the seed that notices it.
#[cfg_attr(
    not(feature = "mutants"),
    allow(dead_code, unreachable_pub, reason = "the product carries no way to switch one on")
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A stored row is deleted when it is sent instead of when it is acknowledged.
    DeleteOnSend,
    /// Rows in flight when the link drops are never sent again.
    NoResend,
    /// A local publisher is told "safe" when the commit is asked for instead of when it is durable.
    AckBeforeCommit,
    /// With strict durability rows are sent before they are on disk.
    SendBeforeCommit,
    /// A commit that failed is taken for done.
    BelieveFailedCommit,
    /// Acknowledgements of an older connection are accepted.
    StaleAck,
    /// Rows in flight are not spared by a trim.
    TrimInFlight,
    /// The pause is always the ceiling.
    BackoffWithoutJitter,
    /// CONNACK resets the back-off.
    BackoffResetOnConnack,
    /// The ceiling never grows.
    BackoffWithoutGrowth,
    /// The group commit waits three times too long.
    CommitLate,
    /// Every row is written at once although the link is healthy.
    CommitEager,
    /// A row displaced from memory is not counted.
    DropUncounted,
    /// After a loss the newest rows are sent first.
    ReorderResend,
    /// An acknowledgement that arrives while its row is being committed leaves the row on disk for ever.
    ForgetCommittingAck,
    /// The backlog takes the whole window.
    StarveLive,
    /// The backlog gets only what live rows leave.
    StarveBacklog,
    /// A link without acknowledgements is kept for ever.
    NoAckTimeout,
    /// A row the link refuses is sent again.
    ResendRefused,
    /// Memory grows without bound while the store fails.
    HoardMemory,
    /// A publisher that is held up waits for the interval although no acknowledgement can come.
    ReceiptLate,
    /// A publisher that is held up makes its row be written at once although the link is healthy.
    ReceiptEager,
    /// A publisher that is held up waits for the interval although the cloud is slower than usual.
    SlowLate,
    /// No birth message.
    NoBirth,
    /// A message is set aside when its connection died three times, whatever happened to others in between.
    BlameWithoutProof,
    /// The store is never told which rows are set aside.
    ForgetAside,
    /// A row that was set aside is sent again, late, when a new database has lost its mark.
    ForgetLostMarks,
    /// A row is dropped instead of being set aside.
    AsideCountedDropped,
    /// No message is ever blamed.
    NeverBlame,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All of them with their names on the command line.
    pub const ALL: [(&'static str, Self); 29] = [
        ("delete-on-send", Self::DeleteOnSend),
        ("no-resend", Self::NoResend),
        ("ack-before-commit", Self::AckBeforeCommit),
        ("send-before-commit", Self::SendBeforeCommit),
        ("believe-failed-commit", Self::BelieveFailedCommit),
        ("stale-ack", Self::StaleAck),
        ("trim-in-flight", Self::TrimInFlight),
        ("backoff-without-jitter", Self::BackoffWithoutJitter),
        ("backoff-reset-on-connack", Self::BackoffResetOnConnack),
        ("backoff-without-growth", Self::BackoffWithoutGrowth),
        ("commit-late", Self::CommitLate),
        ("commit-eager", Self::CommitEager),
        ("drop-uncounted", Self::DropUncounted),
        ("reorder-resend", Self::ReorderResend),
        ("forget-committing-ack", Self::ForgetCommittingAck),
        ("starve-live", Self::StarveLive),
        ("starve-backlog", Self::StarveBacklog),
        ("no-ack-timeout", Self::NoAckTimeout),
        ("resend-refused", Self::ResendRefused),
        ("hoard-memory", Self::HoardMemory),
        ("receipt-late", Self::ReceiptLate),
        ("receipt-eager", Self::ReceiptEager),
        ("slow-late", Self::SlowLate),
        ("no-birth", Self::NoBirth),
        ("blame-without-proof", Self::BlameWithoutProof),
        ("forget-aside", Self::ForgetAside),
        ("forget-lost-marks", Self::ForgetLostMarks),
        ("aside-counted-dropped", Self::AsideCountedDropped),
        ("never-blame", Self::NeverBlame),
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mutant)| *mutant == self).map_or("?", |(name, _)| name)
    }

    /// The mutant of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, mutant)| *mutant)
    }
}

/// Which fault is switched on, if any can be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl Faults {
    #[cfg(feature = "mutants")]
    pub(super) fn of(mutant: Mutant) -> Self {
        Self { mutant: Some(mutant) }
    }

    #[cfg(feature = "mutants")]
    pub(super) fn has(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(super) const fn any(self) -> bool {
        #[cfg(feature = "mutants")]
        return self.mutant.is_some();
        #[cfg(not(feature = "mutants"))]
        return false;
    }

    #[cfg(not(feature = "mutants"))]
    pub(super) const fn has(self, _: Mutant) -> bool {
        false
    }
}
