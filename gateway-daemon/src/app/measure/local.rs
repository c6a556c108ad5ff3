//! The counters of the local broker as metrics. Without `[broker]` there are none.

use super::super::gateway::Gateway;
use crate::status::metrics::{self as m, Page};

/// Everything that the broker counts.
pub(super) fn broker(page: &mut Page, gateway: &Gateway) {
    let Some(settings) = &gateway.config.broker else { return };
    for (index, door) in settings.listeners.iter().enumerate() {
        page.count(&m::LISTEN_CONNECTIONS, &[door.name.as_str()], gateway.local.connections(index));
    }
    if let Some(doors) = &gateway.local.doors {
        let counts = doors.counts();
        page.count(&m::LISTEN_SOCKET_BYTES, &[], doors.socket_bytes());
        page.count(&m::LISTEN_ACCEPTED, &[], counts.accepted_total);
        page.count(&m::LISTEN_ACCEPT_FAILED, &[], counts.accept_failed_total);
        page.count(&m::LISTEN_HANDSHAKES_FAILED, &[], counts.handshakes_failed_total);
        page.count(&m::LISTEN_HANDSHAKES_CUT, &[], counts.handshakes_cut_total);
        page.count(&m::LISTEN_PAUSED, &[], counts.paused_total);
        page.count(&m::LISTEN_PAGES_REFUSED, &[], counts.pages_refused_total);
        page.count(&m::LISTEN_REAPED, &[], counts.reaped_total);
        page.count(&m::LISTEN_REVOKED, &[], counts.revoked_total);
        page.count(&m::LISTEN_RELIEVED, &[], counts.relieved_total);
    }
    gauges(page, gateway);
    counters(page, gateway);
    let counters = gateway.local.broker.counters();
    for (reason, count) in [
        ("away", counters.dropped_away_messages_total),
        ("slow", counters.dropped_slow_messages_total),
        ("full", counters.dropped_full_messages_total),
        ("session", counters.dropped_session_messages_total),
        ("session-expired", counters.dropped_session_expired_messages_total),
        ("unrendered", counters.unrendered_messages_total),
        ("expired", counters.dropped_expired_messages_total),
        ("unreadable", counters.dropped_unreadable_messages_total),
        ("lost", counters.dropped_lost_messages_total),
        ("refused", counters.dropped_refused_messages_total),
        ("large", counters.dropped_large_messages_total),
        ("forbidden", counters.dropped_forbidden_messages_total),
        ("disk", counters.dropped_local_messages_total),
        ("topic", counters.dropped_topic_messages_total),
        ("left-out", counters.dropped_left_out_messages_total),
    ] {
        page.count(&m::BROKER_DROPPED, &[reason], count);
    }
}

fn gauges(page: &mut Page, gateway: &Gateway) {
    let gauges = gateway.local.broker.gauges();
    page.count(&m::BROKER_CONNECTIONS, &[], gauges.connections as u64);
    page.count(&m::BROKER_HELLO_BYTES, &[], gauges.hello_bytes as u64);
    page.count(&m::BROKER_LOGINS_WAITING, &[], gauges.logins_waiting as u64);
    page.count(&m::BROKER_LOCKED_OUT, &[], gauges.locked_out as u64);
    page.count(&m::BROKER_SESSIONS, &[], gauges.sessions as u64);
    page.count(&m::BROKER_SUBSCRIPTIONS, &[], gauges.subscriptions as u64);
    page.count(&m::BROKER_SHARED_SUBSCRIPTIONS, &[], gauges.shared_subscriptions as u64);
    page.count(&m::BROKER_RETAINED_MESSAGES, &[], gauges.retained_messages as u64);
    page.count(&m::BROKER_RETAINED_BYTES, &[], gauges.retained_bytes);
    page.count(&m::BROKER_WILLS_BYTES, &[], gauges.wills_bytes);
    page.count(&m::BROKER_RECEIVED_BYTES, &[], gauges.received_bytes);
    page.count(&m::BROKER_HELD_MESSAGES, &[], gauges.held_messages);
    page.count(&m::BROKER_HELD_BYTES, &[], gauges.held_bytes);
    page.count(&m::BROKER_STORED_MESSAGES, &[], gauges.stored_messages);
    page.count(&m::BROKER_STORED_BYTES, &[], gauges.stored_bytes);
    page.count(&m::BROKER_LOADED_BYTES, &[], gauges.loaded_bytes);
    page.count(&m::BROKER_UNSENT_BYTES, &[], gauges.unsent_bytes as u64);
    page.count(&m::BROKER_UNREAD_BYTES, &[], gauges.unread_bytes as u64);
    page.count(&m::BROKER_DIRTY_BYTES, &[], gauges.dirty_bytes);
    page.count(&m::BROKER_WAITING_ACKNOWLEDGEMENTS, &[], gauges.waiting_acknowledgements as u64);
    page.count(&m::BROKER_TURN_WORK_MAX, &[], gateway.local.broker.longest_turn_units());
}

fn counters(page: &mut Page, gateway: &Gateway) {
    let counters = gateway.local.broker.counters();
    page.count(&m::BROKER_LOGINS, &[], counters.logins_total);
    page.count(&m::BROKER_LOGINS_BUSY, &[], counters.logins_busy_total);
    page.count(&m::BROKER_LOGINS_LOCKED, &[], counters.logins_locked_total);
    page.count(&m::BROKER_LOCKOUTS, &[], counters.lockouts_total);
    page.count(&m::BROKER_GAVE_WAY, &[], counters.gave_way_total);
    page.count(&m::BROKER_HELLO_HELD, &[], counters.hello_held_total);
    page.count(&m::BROKER_RATE_HELD, &[], counters.rate_held_total);
    page.count(&m::BROKER_CONNECTIONS_TOTAL, &[], counters.connections_total);
    page.count(&m::BROKER_CONNECTIONS_REFUSED_TOTAL, &[], counters.connections_refused_total);
    page.count(&m::BROKER_LOGINS_REFUSED_TOTAL, &[], counters.logins_refused_total);
    page.count(&m::BROKER_TAKEOVERS_TOTAL, &[], counters.takeovers_total);
    page.count(&m::BROKER_MALFORMED_TOTAL, &[], counters.malformed_total);
    page.count(&m::BROKER_SILENT_TOTAL, &[], counters.silent_total);
    page.count(&m::BROKER_STALLED_TOTAL, &[], counters.stalled_total);
    page.count(&m::BROKER_CROWDED_OUT_CONNECTIONS_TOTAL, &[], counters.crowded_out_connections_total);
    page.count(&m::BROKER_UNKEPT_MESSAGES_TOTAL, &[], counters.unkept_messages_total);
    page.count(&m::BROKER_UNRELEASED_REFUSED_TOTAL, &[], counters.unreleased_refused_total);
    page.count(&m::BROKER_SUBSCRIPTIONS_REFUSED_TOTAL, &[], counters.subscriptions_refused_total);
    page.count(&m::BROKER_RECEIVED_MESSAGES_TOTAL, &[], counters.received_messages_total);
    page.count(&m::BROKER_LOCAL_MESSAGES_TOTAL, &[], counters.local_messages_total);
    page.count(&m::BROKER_SENT_MESSAGES_TOTAL, &[], counters.sent_messages_total);
    page.count(&m::BROKER_RESENT_MESSAGES_TOTAL, &[], counters.resent_messages_total);
    page.count(&m::BROKER_ENQUEUED_MESSAGES_TOTAL, &[], counters.enqueued_messages_total);
    page.count(&m::BROKER_WILLS_TOTAL, &[], counters.wills_total);
    page.count(&m::BROKER_UNRETAINED_MESSAGES_TOTAL, &[], counters.unretained_messages_total);
    page.count(&m::BROKER_RECEIVED_PACKETS_TOTAL, &[], counters.received_packets_total);
    page.count(&m::BROKER_RECEIVED_BYTES_TOTAL, &[], counters.received_bytes_total);
    page.count(&m::BROKER_SENT_PACKETS_TOTAL, &[], counters.sent_packets_total);
    page.count(&m::BROKER_SENT_BYTES_TOTAL, &[], counters.sent_bytes_total);
    page.count(&m::BROKER_REPEATED_MESSAGES_TOTAL, &[], counters.repeated_messages_total);
    page.count(&m::BROKER_STRAY_ACKNOWLEDGEMENTS_TOTAL, &[], counters.stray_acknowledgements_total);
    page.count(&m::BROKER_PUBLISH_REFUSED_TOTAL, &[], counters.publish_refused_total);
    page.count(&m::BROKER_UNFIT_RULES_TOTAL, &[], counters.unfit_rules_total);
    page.count(&m::BROKER_HELD_TOTAL, &[], counters.held_total);
    page.count(&m::BROKER_EXPIRED_SESSIONS_TOTAL, &[], counters.expired_sessions_total);
    page.count(&m::BROKER_EVICTED_SESSIONS_TOTAL, &[], counters.evicted_sessions_total);
    page.count(&m::BROKER_REMOVED_SESSIONS_TOTAL, &[], counters.removed_sessions_total);
    page.count(&m::BROKER_SESSIONS_REFUSED_TOTAL, &[], counters.sessions_refused_total);
    page.count(&m::BROKER_FOREIGN_SESSIONS_TOTAL, &[], counters.foreign_sessions_total);
    page.count(&m::BROKER_WILLS_REFUSED_TOTAL, &[], counters.wills_refused_total);
    page.count(&m::BROKER_OWN_REFUSED_TOTAL, &[], counters.own_refused_total);
    page.count(&m::BROKER_EXPIRED_RETAINED_TOTAL, &[], counters.expired_retained_total);
    page.count(&m::BROKER_PASSED_ON_MESSAGES_TOTAL, &[], counters.passed_on_messages_total);
    page.count(&m::BROKER_REFUSED_BY_UPLINKS_TOTAL, &[], counters.refused_by_uplinks_total);
    page.count(&m::BROKER_TURNS_TOTAL, &[], counters.turns_total);
    page.count(&m::BROKER_FAILED_TURNS_TOTAL, &[], counters.failed_turns_total);
    page.count(&m::BROKER_FAILED_READS_TOTAL, &[], counters.failed_reads_total);
    page.count(&m::BROKER_RESETS_TOTAL, &[], counters.resets_total);
    page.count(&m::BROKER_WILLS_FULL_TOTAL, &[], counters.wills_full_total);
    page.count(&m::BROKER_PROPERTIES_REFUSED_TOTAL, &[], counters.properties_refused_total);
    page.count(&m::BROKER_TOPICS_REFUSED_TOTAL, &[], counters.topics_refused_total);
    page.count(&m::BROKER_LEFT_OUT_FACTS_TOTAL, &[], counters.left_out_facts_total);
    page.count(&m::BROKER_DAMAGED_FACTS_TOTAL, &[], counters.damaged_facts_total);
    page.count(&m::BROKER_PUT_DOWN_TOTAL, &[], counters.put_down_total);
    page.count(&m::BROKER_CUT_IDENTIFIERS_TOTAL, &[], counters.cut_identifiers_total);
}
