//! Named faults that the simulation of the broker switches on to prove that its oracle would notice them.
//!
//! Without the cargo feature `mutants` the only question asked here has the constant answer "no", and nothing can be switched on.

/// One deliberate fault. Each breaks one promise; a test names the seeds that notice it.
#[cfg_attr(
    not(feature = "mutants"),
    allow(dead_code, unreachable_pub, reason = "the product carries no way to switch one on")
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// PUBACK is sent before the rows of the message are durable.
    AckBeforeCommit,
    /// PUBACK of a retained message is sent before it is durable.
    RetainBeforeCommit,
    /// PUBREC is sent before rows and received identifier are durable.
    ReceiveBeforeCommit,
    /// PUBREL is sent before the row is gone and the identifier is kept.
    ReleaseBeforeCommit,
    /// PUBCOMP is sent before the received identifier is gone.
    CompleteBeforeCommit,
    /// SUBACK is sent before the subscription is durable.
    SubscribeBeforeCommit,
    /// A received identifier is in another turn than the rows of its message.
    SplitReceived,
    /// A QoS 2 message is sent before its row is durable.
    SendBeforeCommit,
    /// A row that is acknowledged while its turn is under way is taken for one that was never written.
    AnnihilateUnderWay,
    /// A failed turn is not joined with what changed meanwhile.
    ForgetFailed,
    /// A failed turn is taken for done.
    BelieveFailed,
    /// What was in flight is sent again in the wrong order.
    ReorderResend,
    /// Rows that were acknowledged after a read was asked for are sent again.
    StaleRead,
    /// A released identifier is forgotten with the connection.
    ForgetReleased,
    /// Publishers wait for a reader that is slow until the commit interval is over.
    SlowLate,
    /// PUBACK does not wait for the queue of an uplink.
    AckBeforeUplink,
    /// A will speaks although its client said goodbye.
    WillAfterGoodbye,
    /// A will does not wait for its delay.
    WillAtOnce,
    /// Messages of earlier boots that uplinks do not have keep no time that orders them.
    ForgetArrival,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All of them with their names on the command line.
    pub const ALL: [(&'static str, Self); 19] = [
        ("ack-before-commit", Self::AckBeforeCommit),
        ("retain-before-commit", Self::RetainBeforeCommit),
        ("receive-before-commit", Self::ReceiveBeforeCommit),
        ("release-before-commit", Self::ReleaseBeforeCommit),
        ("complete-before-commit", Self::CompleteBeforeCommit),
        ("subscribe-before-commit", Self::SubscribeBeforeCommit),
        ("split-received", Self::SplitReceived),
        ("send-before-commit", Self::SendBeforeCommit),
        ("annihilate-under-way", Self::AnnihilateUnderWay),
        ("forget-failed", Self::ForgetFailed),
        ("believe-failed", Self::BelieveFailed),
        ("reorder-resend", Self::ReorderResend),
        ("stale-read", Self::StaleRead),
        ("forget-released", Self::ForgetReleased),
        ("slow-late", Self::SlowLate),
        ("ack-before-uplink", Self::AckBeforeUplink),
        ("will-after-goodbye", Self::WillAfterGoodbye),
        ("will-at-once", Self::WillAtOnce),
        ("forget-arrival", Self::ForgetArrival),
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mutant)| *mutant == self).map_or("?", |(name, _)| name)
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
    pub(super) fn of(mutant: Option<Mutant>) -> Self {
        Self { mutant }
    }

    #[cfg(feature = "mutants")]
    pub(super) fn has(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    pub(super) const fn has(self, _: Mutant) -> bool {
        false
    }
}
