//! What a broker has done since it was made.

use super::CloseReason;
use super::topic::TopicError;

/// Counts of a broker; every drop and every refusal has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections opened.
    pub connections_total: u64,
    /// Connections refused because there were too many.
    pub connections_refused_total: u64,
    /// CONNECT packets refused (version, client id, too many sessions).
    pub logins_refused_total: u64,
    /// Clients let in.
    pub logins_total: u64,
    /// Log-ins refused because too many of their address waited, or they waited too long.
    pub logins_busy_total: u64,
    /// Log-ins refused without a comparison, because their address or their user there was locked out.
    pub logins_locked_total: u64,
    /// Times that an address, or a user at an address, was locked out.
    pub lockouts_total: u64,
    /// Connections cut before their CONNECT because others waited for the place.
    pub gave_way_total: u64,
    /// Times that connections were not read for a while before their CONNECT: too many bytes of such, or too many log-ins of their address.
    pub hello_held_total: u64,
    /// Times that a connection was not read for a while because its address or user sent faster than allowed.
    pub rate_held_total: u64,
    /// Connections ended because a newer one had the same client id.
    pub takeovers_total: u64,
    /// Connections ended for malformed packets or packets that were not due.
    pub malformed_total: u64,
    /// Connections ended by silence: no CONNECT in time, or keep-alive.
    pub silent_total: u64,
    /// Connections ended because the client did not read.
    pub stalled_total: u64,
    /// Connections among those closed because all together had too much unread or unwritten, and they had more than their share for the longest time.
    pub crowded_out_connections_total: u64,
    /// Messages of QoS 1 and 2 that nobody who wanted them could keep. Their publishers are told so where their version has a word for it.
    pub unkept_messages_total: u64,
    /// QoS 2 messages refused because too many were not released.
    pub unreleased_refused_total: u64,
    /// Subscriptions refused because there were too many.
    pub subscriptions_refused_total: u64,
    /// Messages published by clients.
    pub received_messages_total: u64,
    /// Messages published inside the process.
    pub local_messages_total: u64,
    /// Messages handed to connections, repetitions not counted.
    pub sent_messages_total: u64,
    /// Messages sent again after a reconnect.
    pub resent_messages_total: u64,
    /// Messages handed to bridge sessions.
    pub enqueued_messages_total: u64,
    /// Last wills published.
    pub wills_total: u64,
    /// QoS 0 messages dropped because their client was away.
    pub dropped_away_messages_total: u64,
    /// QoS 0 messages dropped because their client read too slowly.
    pub dropped_slow_messages_total: u64,
    /// QoS 1 and 2 messages dropped because their session's queue, or all queues together, were full.
    pub dropped_full_messages_total: u64,
    /// Messages dropped with their session: clean sessions that ended, sessions thrown away by a clean reconnect.
    pub dropped_session_messages_total: u64,
    /// Records that a client wanted and nobody could render.
    pub unrendered_messages_total: u64,
    /// Retained messages not kept because there was no room; delivered all the same, apart from those of QoS 2 whose publishers of 5.0 are told.
    pub unretained_messages_total: u64,
    /// Packets of clients.
    pub received_packets_total: u64,
    /// Bytes of clients.
    pub received_bytes_total: u64,
    /// Packets to clients.
    pub sent_packets_total: u64,
    /// Bytes to clients.
    pub sent_bytes_total: u64,
    /// QoS 2 messages that a client sent again, and that were not published again.
    pub repeated_messages_total: u64,
    /// Acknowledgements of clients for nothing that was in flight.
    pub stray_acknowledgements_total: u64,
    /// Messages that a client may not publish; acknowledged, if need be, and dropped.
    pub publish_refused_total: u64,
    /// Access rules that do not fit the client id or user they met.
    pub unfit_rules_total: u64,
    /// Times that nothing more was read from a connection for a while: its password was compared, or its publishes waited for the disk.
    pub held_total: u64,
    /// Sessions that ended because their expiry came.
    pub expired_sessions_total: u64,
    /// Sessions that held nothing and gave way to others.
    pub evicted_sessions_total: u64,
    /// Sessions that a person dropped.
    pub removed_sessions_total: u64,
    /// CONNECT packets refused because their client id belongs to another user.
    pub foreign_sessions_total: u64,
    /// CONNECT packets refused because there were too many sessions: of all, of their user, or from their address.
    pub sessions_refused_total: u64,
    /// Wills that may not be published: their CONNECT was refused, or they were dropped when they were to speak.
    pub wills_refused_total: u64,
    /// Messages of clients on topics of the gateway itself, among those that they may not publish.
    pub own_refused_total: u64,
    /// Messages dropped with sessions that expired.
    pub dropped_session_expired_messages_total: u64,
    /// Retained messages that expired.
    pub expired_retained_total: u64,
    /// Messages of a shared subscription that another member got because the first one's session ended.
    pub passed_on_messages_total: u64,
    /// Messages that expired while they waited for their session.
    pub dropped_expired_messages_total: u64,
    /// Stored messages that could not be read.
    pub dropped_unreadable_messages_total: u64,
    /// Stored messages that were lost with their database.
    pub dropped_lost_messages_total: u64,
    /// Messages that their client refused (5.0).
    pub dropped_refused_messages_total: u64,
    /// Messages larger than their client takes (5.0).
    pub dropped_large_messages_total: u64,
    /// Messages that their client may not read.
    pub dropped_forbidden_messages_total: u64,
    /// Messages of this process not given to a durable session because the disk was too slow for what has to survive.
    pub dropped_local_messages_total: u64,
    /// Messages that an uplink's queue dropped while somebody waited for them.
    pub refused_by_uplinks_total: u64,
    /// Turns that became durable.
    pub turns_total: u64,
    /// Turns that failed; they were asked again.
    pub failed_turns_total: u64,
    /// Reads that failed; they were asked again.
    pub failed_reads_total: u64,
    /// Times the database was replaced.
    pub resets_total: u64,
    /// CONNECT packets refused because wills of others have the room.
    pub wills_full_total: u64,
    /// Connections ended because a packet had too many properties, or too long ones.
    pub properties_refused_total: u64,
    /// Connections ended because a topic or a filter held a control character or a non-character.
    pub topics_refused_total: u64,
    /// Stored messages dropped because their topic holds a character that no topic may hold.
    pub dropped_topic_messages_total: u64,
    /// Stored QoS 2 messages for which there was no room at the start, and that their clients released before there was; and such wills, whose clients
    /// came again or whose sessions ended.
    pub dropped_left_out_messages_total: u64,
    /// Stored facts of which something did not fit into memory; it is still on disk.
    pub left_out_facts_total: u64,
    /// Stored facts that could not be understood.
    pub damaged_facts_total: u64,
    /// Times that work for a connection or a session was put down because the budget of a turn was spent.
    pub put_down_total: u64,
    /// Subscription identifiers left out of a message because it would have had too many.
    pub cut_identifiers_total: u64,
}

impl Counters {
    /// Messages dropped for any reason on their way to clients.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        [
            self.dropped_away_messages_total,
            self.dropped_slow_messages_total,
            self.dropped_full_messages_total,
            self.dropped_session_messages_total,
            self.dropped_session_expired_messages_total,
            self.dropped_expired_messages_total,
            self.dropped_unreadable_messages_total,
            self.dropped_lost_messages_total,
            self.dropped_refused_messages_total,
            self.dropped_large_messages_total,
            self.dropped_forbidden_messages_total,
            self.dropped_local_messages_total,
            self.dropped_topic_messages_total,
            self.dropped_left_out_messages_total,
            self.unrendered_messages_total,
        ]
        .iter()
        .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Counts the end of a connection.
    pub(super) fn count_close(&mut self, reason: &CloseReason) {
        self.properties_refused_total += u64::from(matches!(reason, CloseReason::Properties(_)));
        self.topics_refused_total +=
            u64::from(matches!(reason, CloseReason::Topic(TopicError::Forbidden(_), _)));
        match reason {
            CloseReason::Malformed(_)
            | CloseReason::Protocol(_)
            | CloseReason::Topic(..)
            | CloseReason::Properties(_)
            | CloseReason::Alias
            | CloseReason::Payload
            | CloseReason::ReceiveMaximum
            | CloseReason::Quota(_)
            | CloseReason::TooLarge => self.malformed_total += 1,
            CloseReason::Handshake | CloseReason::KeepAlive => self.silent_total += 1,
            CloseReason::Stalled => self.stalled_total += 1,
            CloseReason::TakenOver => self.takeovers_total += 1,
            CloseReason::Version
            | CloseReason::ClientId
            | CloseReason::Login
            | CloseReason::Small
            | CloseReason::Refused(_)
            | CloseReason::NotAuthorized => self.logins_refused_total += 1,
            CloseReason::GaveWay => self.gave_way_total += 1,
            CloseReason::Goodbye
            | CloseReason::Full
            | CloseReason::Administrative
            | CloseReason::Shutdown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::note::Shown;
    use super::*;

    #[test]
    fn each_end_of_a_connection_is_counted_once_where_it_belongs_and_farewells_nowhere() {
        use CloseReason as R;
        let topic = |error| R::Topic(error, Shown::default());
        type Count = fn(&Counters) -> u64;
        let malformed: Count = |counters| counters.malformed_total;
        let kinds: [(&[CloseReason], Count); 6] = [
            (&[R::Malformed("x"), R::Protocol("x"), R::Alias, R::Payload, R::ReceiveMaximum], malformed),
            (&[R::Quota("x"), R::TooLarge, R::Properties("x"), topic(TopicError::Empty)], malformed),
            (&[R::Handshake, R::KeepAlive], |counters| counters.silent_total),
            (&[R::Stalled], |counters| counters.stalled_total),
            (&[R::TakenOver], |counters| counters.takeovers_total),
            (&[R::Version, R::ClientId, R::Login, R::Small, R::Refused("x"), R::NotAuthorized], |counters| {
                counters.logins_refused_total
            }),
        ];
        let mut all = Counters::default();
        for (reasons, count) in kinds {
            for reason in reasons {
                let mut alone = Counters::default();
                (0..2).for_each(|_| alone.count_close(reason));
                assert_eq!(count(&alone), 2, "{reason:?}");
                all.count_close(reason);
            }
        }
        [R::GaveWay, R::Goodbye, R::Full, R::Administrative, R::Shutdown]
            .iter()
            .for_each(|r| all.count_close(r));
        all.count_close(&topic(TopicError::Forbidden('\u{7}')));
        let expected = Counters {
            malformed_total: 10,
            silent_total: 2,
            stalled_total: 1,
            takeovers_total: 1,
            logins_refused_total: 6,
            gave_way_total: 1,
            properties_refused_total: 1,
            topics_refused_total: 1,
            ..Counters::default()
        };
        assert_eq!(all, expected);
    }
}
