//! Every metric there is, and the text in which they leave (Prometheus exposition format 0.0.4).
//!
//! The table is the one source: a value can only be put under a [`Metric`] of it, and `docs/metrics.md` is generated from it. Names are
//! `<room>_<name>_<unit>[_total]`; counters start at zero with the daemon.

use std::fmt::Write as _;

/// What a number means over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says, for a person.
    pub help: &'static str,
}

macro_rules! table {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// The whole table, in the order in which it is printed.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

table! {
    INFO Gauge "gateway_info" ["gateway", "version", "boot"] "Always 1; the labels say which gateway, version and run this is.";
    UPTIME Gauge "gateway_uptime_seconds" [] "Time since the daemon started.";
    UPDATE_STATE Gauge "update_state" ["state"] "1 for where the last update of the system is: idle, downloading, installing, installed, rebooting, testing, good, rolled-back or failed. Only with `[update]`.";
    UPDATE_COMMANDS Counter "update_commands_total" [] "Commands of the cloud to update the system.";
    UPDATE_REFUSED Counter "update_refused_commands_total" [] "Those that were not carried out.";
    CLOCK_TRUSTED Gauge "gateway_clock_trusted" [] "1 when wall time is known, 0 while messages carry only time since boot.";
    CERTIFICATE_LEFT Gauge "gateway_certificate_left_seconds" ["room", "name"] "Time until the certificate that an uplink or a listener shows ends, or the first of its chain does; negative when it has. Only while wall time is known.";
    RELOADS Counter "gateway_reloads_total" ["outcome"] "Changed configurations that were put in force, or refused.";
    FAULT Gauge "gateway_fault" ["fault"] "1 for each fault of the machine below: its partitions, its provisioning, its last update.";
    STUCK Gauge "gateway_stuck" [] "1 while a room makes no progress, for which the watchdog is not fed.";
    TURN_CPU_MAX Gauge "gateway_turn_cpu_seconds_max" [] "Longest turn of the core loop since the start, in processor time of its thread: everything between two waits. Reloads are left out.";
    TURN_CPU_MAX_LATELY Gauge "gateway_turn_cpu_seconds_max_lately" [] "The same of the last minute, or of the last two.";
    CONFIG_REFUSED Gauge "gateway_config_refused" [] "1 while the file on disk is a changed one that was refused.";

    BUS_UP Gauge "bus_up" ["bus"] "1 while the port or connection is open, or is opened when it is needed.";
    BUS_CYCLES Counter "bus_cycles_total" ["bus"] "Poll cycles handed on to processing.";
    BUS_CYCLES_DROPPED Counter "bus_cycles_dropped_total" ["bus"] "Poll cycles dropped because processing had no room for them.";
    BUS_OPENS Counter "bus_opens_total" ["bus"] "Times the port or connection was opened.";
    BUS_OPEN_FAILURES Counter "bus_open_failures_total" ["bus"] "Tries to open it that failed.";
    BUS_CLOSES Counter "bus_closes_total" ["bus"] "Times the other side closed a connection in order, or nothing came on it any more; it was opened again when it was needed.";
    BUS_LOSSES Counter "bus_losses_total" ["bus"] "Times it was lost while open.";
    BUS_RESTARTS Counter "bus_restarts_total" ["bus"] "Times the task of the bus was started again after a fault of the program.";
    BUS_COMMANDS Counter "bus_commands_total" ["bus"] "One-off requests between polls: read, write.";
    BUS_SENT Counter "bus_sent_bytes_total" ["bus"] "Bytes sent on the line.";
    BUS_RECEIVED Counter "bus_received_bytes_total" ["bus"] "Bytes received from the line, noise included.";
    BUS_LATE Counter "bus_late_answers_total" ["bus"] "Answers that came after their timeout and were discarded.";
    BUS_ECHOES Counter "bus_echoes_total" ["bus"] "Own requests heard back on the line.";

    POLL_REQUESTS Counter "poll_requests_total" ["bus", "device"] "Requests to the device, retries and probes included.";
    POLL_ANSWERS Counter "poll_answers_total" ["bus", "device"] "Requests that were answered, exceptions included.";
    POLL_FAULTS Counter "poll_faults_total" ["bus", "device", "fault"] "Requests without a proper answer, by what went wrong.";
    POLL_EXCEPTIONS Counter "poll_exceptions_total" ["bus", "device", "code"] "Exception answers by code; 0 is a code the standard does not know.";
    POLL_RETRIES Counter "poll_retries_total" ["bus", "device"] "Requests tried again.";
    POLL_CYCLES Counter "poll_cycles_total" ["bus", "device"] "Poll cycles finished, bad ones included.";
    POLL_OVERRUNS Counter "poll_overruns_total" ["bus", "device"] "Poll cycles skipped because the bus was not done with an earlier one.";
    POLL_SPLITS Counter "poll_splits_total" ["bus", "device"] "Requests cut in two after an illegal address.";
    POLL_PROBES Counter "poll_probes_total" ["bus", "device"] "Requests to the dead device for a sign of life.";
    POLL_DEATHS Counter "poll_deaths_total" ["bus", "device"] "Times the device was given up.";
    POLL_RECOVERIES Counter "poll_recoveries_total" ["bus", "device"] "Times the dead device answered again.";
    POLL_BUSY Counter "poll_busy_seconds_total" ["bus"] "Time in which the line was busy with polls.";

    PROCESS_IN Counter "process_in_readings_total" [] "Readings that came from the buses.";
    PROCESS_REPORTED Counter "process_reported_readings_total" [] "Readings that were worth a message.";
    PROCESS_SUPPRESSED Counter "process_suppressed_readings_total" [] "Readings that changed too little to be reported.";
    PROCESS_CLAMPED Counter "process_clamped_readings_total" [] "Readings clamped to their limit.";
    PROCESS_OUT_OF_RANGE Counter "process_out_of_range_readings_total" [] "Readings outside their limits, reported as bad.";
    PROCESS_STALE Counter "process_stale_readings_total" [] "Tags reported as stale because their polls stopped.";

    PAYLOAD_MESSAGES Counter "payload_messages_total" [] "Messages made of readings.";
    PAYLOAD_RECORD_BYTES Counter "payload_record_bytes_total" [] "Bytes of their compact records.";

    UPLINK_UP Gauge "uplink_up" ["uplink"] "1 while connected.";
    UPLINK_IN_FLIGHT Gauge "uplink_in_flight_messages" ["uplink"] "Messages sent and not yet acknowledged.";
    UPLINK_CONNECTS Counter "uplink_connects_total" ["uplink"] "Connection attempts.";
    UPLINK_UPS Counter "uplink_ups_total" ["uplink"] "Connection attempts that came up.";
    UPLINK_LOSSES Counter "uplink_losses_total" ["uplink"] "Failed attempts and lost connections.";
    UPLINK_SESSIONS_LOST Counter "uplink_sessions_lost_total" ["uplink"] "Connections on which the broker had forgotten the session.";
    UPLINK_ACK_TIMEOUTS Counter "uplink_ack_timeouts_total" ["uplink"] "Connections given up because no acknowledgement came.";
    UPLINK_LIVE Counter "uplink_live_messages_total" ["uplink"] "Messages sent straight from memory.";
    UPLINK_BACKLOG Counter "uplink_backlog_messages_total" ["uplink"] "Messages sent from disk.";
    UPLINK_RESENT Counter "uplink_resent_messages_total" ["uplink"] "Messages sent again.";
    UPLINK_ACKS Counter "uplink_acks_total" ["uplink"] "Acknowledgements of the connection on which the message was sent.";
    UPLINK_STALE_ACKS Counter "uplink_stale_acks_total" ["uplink"] "Acknowledgements of an older connection, ignored.";
    UPLINK_REFUSED Counter "uplink_refused_messages_total" ["uplink"] "Messages that can never be sent, dropped and counted.";
    UPLINK_FORGED Counter "uplink_forged_messages_total" ["uplink"] "Messages of clients or of other clouds dropped because a rule would have put them on a topic that only this gateway sends on.";
    UPLINK_SENT_ALONE Counter "uplink_sent_alone_messages_total" ["uplink"] "Messages sent alone and awaited, to find out which one the cloud will not take.";
    UPLINK_SILENCED Counter "uplink_silenced_total" ["uplink"] "Times that the cloud was found to refuse a message of the uplink itself (status or ledger), which is then left out for an hour.";
    UPLINK_UNMAPPED Counter "uplink_unmapped_messages_total" ["uplink"] "Messages of this gateway dropped because the rule for their topic makes no legal topic of it.";
    UPLINK_SERVER Gauge "uplink_server" ["uplink"] "Which of its servers is in use or tried next: 0 is the first.";

    DOWN_RECEIVED Counter "down_received_messages_total" ["uplink"] "Messages of the cloud that came, repetitions included.";
    DOWN_ENTERED Counter "down_entered_messages_total" ["uplink"] "Messages of the cloud that entered the local broker.";
    DOWN_ACKNOWLEDGED Counter "down_acknowledged_messages_total" ["uplink"] "Messages acknowledged to the cloud, because they were on disk or nobody keeps them.";
    DOWN_PENDING Gauge "down_pending_messages" ["uplink"] "Messages of the cloud that wait for the local broker or its disk.";
    DOWN_ECHOES Counter "down_echo_messages_total" ["uplink"] "Own messages that the cloud sent back, recognised and left out.";
    DOWN_UNWANTED Counter "down_unwanted_messages_total" ["uplink"] "Messages of the cloud that no rule of `accept` takes: subscriptions of an earlier configuration.";
    DOWN_FORGED Counter "down_forged_messages_total" ["uplink"] "Messages of the cloud dropped because they came on a topic that only this gateway sends on.";
    DOWN_UNMAPPED Counter "down_unmapped_messages_total" ["uplink"] "Messages of the cloud dropped because the rule for their topic makes no legal topic of it.";
    DOWN_OVERRUN Counter "down_overrun_messages_total" ["uplink"] "Messages of QoS 0 of the cloud for which there was no room.";
    DOWN_OVERRUNS Counter "down_overruns_total" ["uplink"] "Connections cut because the cloud sent more than the disk takes.";
    DOWN_LEFT_OUT Counter "down_filters_left_out_total" ["uplink"] "Filters left out for an hour, because the cloud ends the connection whenever they are subscribed.";
    DOWN_DISCARDED Counter "down_sessions_discarded_total" ["uplink"] "Sessions at the cloud discarded with what waited in them, because a message there is larger than `packet_max` and ended each connection.";
    DOWN_REFUSED Gauge "down_refused_filters" ["uplink"] "Filters that the cloud refused on the present connection.";

    QUEUE_RESTORED Counter "queue_restored_messages_total" ["uplink"] "Ledger: messages found in the store at start, or salvaged.";
    QUEUE_PRODUCED Counter "queue_produced_messages_total" ["uplink"] "Ledger: messages given to the queue by this run.";
    QUEUE_IN_MEMORY Gauge "queue_in_memory_messages" ["uplink"] "Ledger: messages only in memory.";
    QUEUE_STORED Gauge "queue_stored_messages" ["uplink"] "Ledger: messages on disk.";
    QUEUE_ACKNOWLEDGED Counter "queue_acknowledged_messages_total" ["uplink"] "Ledger: messages acknowledged by the cloud.";
    QUEUE_ASIDE Gauge "queue_aside_messages" ["uplink"] "Messages that the cloud will not take: set aside, not sent, part of those stored.";
    QUEUE_ASIDE_BYTES Gauge "queue_aside_bytes" ["uplink"] "Bytes of the messages that are set aside.";
    QUEUE_SET_ASIDE Counter "queue_set_aside_messages_total" ["uplink"] "Messages set aside because the cloud will not take them.";
    QUEUE_PUT_BACK Counter "queue_put_back_messages_total" ["uplink"] "Messages set aside and put back into the queue by hand.";
    QUEUE_DROPPED Counter "queue_dropped_messages_total" ["uplink", "reason"] "Ledger: messages dropped, by reason.";
    QUEUE_RESTORED_READINGS Counter "queue_restored_readings_total" ["uplink"] "Ledger in readings: restored.";
    QUEUE_PRODUCED_READINGS Counter "queue_produced_readings_total" ["uplink"] "Ledger in readings: produced.";
    QUEUE_IN_MEMORY_READINGS Gauge "queue_in_memory_readings" ["uplink"] "Ledger in readings: only in memory.";
    QUEUE_STORED_READINGS Gauge "queue_stored_readings" ["uplink"] "Ledger in readings: on disk.";
    QUEUE_ACKNOWLEDGED_READINGS Counter "queue_acknowledged_readings_total" ["uplink"] "Ledger in readings: acknowledged.";
    QUEUE_DROPPED_READINGS Counter "queue_dropped_readings_total" ["uplink", "reason"] "Ledger in readings: dropped, by reason.";
    QUEUE_STORED_BYTES Gauge "queue_stored_bytes" ["uplink"] "Bytes on disk, as limits count them.";
    QUEUE_RESETS Counter "queue_resets_total" ["uplink"] "Times the database was replaced under the queue.";
    QUEUE_ODD_ANSWERS Counter "queue_odd_answers_total" ["uplink"] "Answers of the store that fit nothing asked; a fault of the gateway.";
    QUEUE_IN_VAIN Counter "queue_fetched_in_vain_messages_total" ["uplink"] "Messages read from disk and thrown away because the link was lost.";
    QUEUE_STORE_FAILURES Counter "queue_store_failures_total" ["uplink"] "Requests that the store could not carry out; tried again.";

    LISTEN_CONNECTIONS Gauge "listen_connections" ["listener"] "Connections through the listener.";
    LISTEN_ACCEPTED Counter "listen_accepted_total" [] "Connections taken from the operating system.";
    LISTEN_ACCEPT_FAILED Counter "listen_accept_failed_total" [] "Failed attempts to take a connection, mostly for want of file descriptors.";
    LISTEN_HANDSHAKES_FAILED Counter "listen_handshakes_failed_total" [] "Clients that failed in the handshake of TLS or WebSocket.";
    LISTEN_HANDSHAKES_CUT Counter "listen_handshakes_cut_total" [] "Handshakes cut because all places were taken and others waited.";
    LISTEN_PAUSED Counter "listen_paused_total" [] "Times that a listener took no connection because all file descriptors for clients were in use.";
    LISTEN_PAGES_REFUSED Counter "listen_pages_refused_total" [] "WebSocket requests refused because their origin or host is not in the list of the listener.";
    LISTEN_REAPED Counter "listen_reaped_total" [] "Connections closed because the client had gone while nothing was read from it; what it had sent and was not acknowledged it sends again.";
    LISTEN_REVOKED Counter "listen_revoked_total" [] "Connections closed because the certificate of the client was called back.";
    LISTEN_RELIEVED Counter "listen_relieved_total" [] "Connections closed because less than half of their bytes in the kernel moved for two seconds and all connections together had too many there.";
    LISTEN_SOCKET_BYTES Gauge "listen_socket_bytes" [] "Memory of the kernel for connections of clients: what is not read, not sent or not acknowledged, as the kernel counts it, once a second.";
    BROKER_CONNECTIONS Gauge "broker_connections" [] "Open connections.";
    BROKER_HELLO_BYTES Gauge "broker_hello_bytes" [] "Bytes of connections that are not let in.";
    BROKER_LOGINS_WAITING Gauge "broker_logins_waiting" [] "Log-ins that wait until their password is compared.";
    BROKER_LOCKED_OUT Gauge "broker_locked_out" [] "Addresses, and users at addresses, that are locked out after failed log-ins.";
    BROKER_LOGINS Counter "broker_logins_total" [] "Clients let in.";
    BROKER_LOGINS_BUSY Counter "broker_logins_busy_total" [] "Log-ins refused because too many of their address waited, or they waited too long.";
    BROKER_LOGINS_LOCKED Counter "broker_logins_locked_total" [] "Log-ins refused without a comparison because of a lock-out.";
    BROKER_LOCKOUTS Counter "broker_lockouts_total" [] "Times that an address, or a user at an address, was locked out.";
    BROKER_GAVE_WAY Counter "broker_gave_way_connections_total" [] "Connections cut before their CONNECT because others waited for the place or the memory.";
    BROKER_HELLO_HELD Counter "broker_hello_held_total" [] "Times that a connection was not read for a while before its CONNECT.";
    BROKER_RATE_HELD Counter "broker_rate_held_total" [] "Times that a connection was not read for a while because its address or user sent too fast.";
    BROKER_SESSIONS Gauge "broker_sessions" [] "Sessions, connected or not, bridges included.";
    BROKER_SUBSCRIPTIONS Gauge "broker_subscriptions" [] "Subscriptions of all sessions, shared ones included.";
    BROKER_SHARED_SUBSCRIPTIONS Gauge "broker_shared_subscriptions" [] "Shared subscriptions of all sessions.";
    BROKER_RETAINED_MESSAGES Gauge "broker_retained_messages" [] "Retained messages.";
    BROKER_RETAINED_BYTES Gauge "broker_retained_bytes" [] "Bytes of memory that retained messages cost, properties included.";
    BROKER_WILLS_BYTES Gauge "broker_wills_bytes" [] "Bytes of memory that last wills cost, of connected clients and delayed ones.";
    BROKER_RECEIVED_BYTES Gauge "broker_received_bytes" [] "Bytes of memory of QoS 2 messages that clients have not released and uplinks have yet to take.";
    BROKER_HELD_MESSAGES Gauge "broker_held_messages" [] "Messages of QoS 1 and 2 that wait for sessions or are in flight.";
    BROKER_HELD_BYTES Gauge "broker_held_bytes" [] "Bytes of messages that are in memory only, because their sessions end with their connections.";
    BROKER_STORED_MESSAGES Gauge "broker_stored_messages" [] "Messages of QoS 1 and 2 that wait for durable sessions.";
    BROKER_STORED_BYTES Gauge "broker_stored_bytes" [] "Bytes of messages that wait for durable sessions.";
    BROKER_LOADED_BYTES Gauge "broker_loaded_bytes" [] "Bytes of messages of durable sessions that are in memory although they are on disk.";
    BROKER_UNSENT_BYTES Gauge "broker_unsent_bytes" [] "Bytes to clients that are not written yet.";
    BROKER_UNREAD_BYTES Gauge "broker_unread_bytes" [] "Bytes of clients that are no whole packet yet, or wait until they are read.";
    BROKER_DIRTY_BYTES Gauge "broker_dirty_bytes" [] "Bytes that are only in memory and have to survive.";
    BROKER_WAITING_ACKNOWLEDGEMENTS Gauge "broker_waiting_acknowledgements" [] "Acknowledgements and callers that wait until a message is safe.";
    BROKER_TURN_WORK_MAX Gauge "broker_turn_work_max" [] "Most units of work, each some 50 ns of a desktop's core, that the broker did in one turn of the core loop.";
    BROKER_CONNECTIONS_TOTAL Counter "broker_connections_total" [] "Connections opened.";
    BROKER_CONNECTIONS_REFUSED_TOTAL Counter "broker_connections_refused_total" [] "Connections refused because there were too many.";
    BROKER_LOGINS_REFUSED_TOTAL Counter "broker_logins_refused_total" [] "CONNECT packets refused (version, client id, too many sessions).";
    BROKER_TAKEOVERS_TOTAL Counter "broker_takeovers_total" [] "Connections ended because a newer one had the same client id.";
    BROKER_MALFORMED_TOTAL Counter "broker_malformed_total" [] "Connections ended for malformed packets or packets that were not due.";
    BROKER_SILENT_TOTAL Counter "broker_silent_total" [] "Connections ended by silence: no CONNECT in time, or keep-alive.";
    BROKER_STALLED_TOTAL Counter "broker_stalled_total" [] "Connections ended because the client did not read.";
    BROKER_CROWDED_OUT_CONNECTIONS_TOTAL Counter "broker_crowded_out_connections_total" [] "Connections ended because all together had too many bytes unwritten or unread, and these more than their share for the longest time.";
    BROKER_UNKEPT_MESSAGES_TOTAL Counter "broker_unkept_messages_total" [] "Messages of QoS 1 and 2 that nobody who wanted them could keep; their publishers are told where MQTT has a word for it.";
    BROKER_UNRELEASED_REFUSED_TOTAL Counter "broker_unreleased_refused_total" [] "QoS 2 messages refused because too many were not released.";
    BROKER_SUBSCRIPTIONS_REFUSED_TOTAL Counter "broker_subscriptions_refused_total" [] "Subscriptions refused because there were too many.";
    BROKER_RECEIVED_MESSAGES_TOTAL Counter "broker_received_messages_total" [] "Messages published by clients.";
    BROKER_LOCAL_MESSAGES_TOTAL Counter "broker_local_messages_total" [] "Messages published inside the process.";
    BROKER_SENT_MESSAGES_TOTAL Counter "broker_sent_messages_total" [] "Messages handed to connections, repetitions not counted.";
    BROKER_RESENT_MESSAGES_TOTAL Counter "broker_resent_messages_total" [] "Messages sent again after a reconnect.";
    BROKER_ENQUEUED_MESSAGES_TOTAL Counter "broker_enqueued_messages_total" [] "Messages handed to bridge sessions.";
    BROKER_WILLS_TOTAL Counter "broker_wills_total" [] "Last wills published.";
    BROKER_UNRETAINED_MESSAGES_TOTAL Counter "broker_unretained_messages_total" [] "Retained messages not kept because there was no room; delivered all the same, apart from those of QoS 2 whose publishers of 5.0 are told.";
    BROKER_RECEIVED_PACKETS_TOTAL Counter "broker_received_packets_total" [] "Packets of clients.";
    BROKER_RECEIVED_BYTES_TOTAL Counter "broker_received_bytes_total" [] "Bytes of clients.";
    BROKER_SENT_PACKETS_TOTAL Counter "broker_sent_packets_total" [] "Packets to clients.";
    BROKER_SENT_BYTES_TOTAL Counter "broker_sent_bytes_total" [] "Bytes to clients.";
    BROKER_REPEATED_MESSAGES_TOTAL Counter "broker_repeated_messages_total" [] "QoS 2 messages that a client sent again, and that were not published again.";
    BROKER_STRAY_ACKNOWLEDGEMENTS_TOTAL Counter "broker_stray_acknowledgements_total" [] "Acknowledgements of clients for nothing that was in flight.";
    BROKER_PUBLISH_REFUSED_TOTAL Counter "broker_publish_refused_total" [] "Messages that a client may not publish; acknowledged, if need be, and dropped.";
    BROKER_UNFIT_RULES_TOTAL Counter "broker_unfit_rules_total" [] "Access rules that do not fit the client id or user they met.";
    BROKER_HELD_TOTAL Counter "broker_held_total" [] "Times that nothing more was read from a connection for a while: its password was compared, its publishes waited for the disk, or the budget of a turn was spent.";
    BROKER_EXPIRED_SESSIONS_TOTAL Counter "broker_expired_sessions_total" [] "Sessions that ended because their expiry came.";
    BROKER_EVICTED_SESSIONS_TOTAL Counter "broker_evicted_sessions_total" [] "Sessions that held nothing and gave way to others because there were too many.";
    BROKER_REMOVED_SESSIONS_TOTAL Counter "broker_removed_sessions_total" [] "Sessions that were dropped by command.";
    BROKER_SESSIONS_REFUSED_TOTAL Counter "broker_sessions_refused_total" [] "Connections refused because there are too many sessions: of all, of their user, or from their address.";
    BROKER_FOREIGN_SESSIONS_TOTAL Counter "broker_foreign_sessions_total" [] "Connections refused because their client id belongs to another user.";
    BROKER_WILLS_REFUSED_TOTAL Counter "broker_wills_refused_total" [] "Wills that their client may not publish: the connection was refused, or the will dropped when its time came.";
    BROKER_OWN_REFUSED_TOTAL Counter "broker_own_topics_refused_total" [] "Messages of clients on topics that the gateway itself sends on, among those that they may not publish.";
    BROKER_EXPIRED_RETAINED_TOTAL Counter "broker_expired_retained_total" [] "Retained messages that expired.";
    BROKER_PASSED_ON_MESSAGES_TOTAL Counter "broker_passed_on_messages_total" [] "Messages of a shared subscription that another member got because the first one's session ended.";
    BROKER_REFUSED_BY_UPLINKS_TOTAL Counter "broker_refused_by_uplinks_total" [] "Messages that an uplink's queue dropped while somebody waited for them.";
    BROKER_TURNS_TOTAL Counter "broker_turns_total" [] "Turns that became durable.";
    BROKER_FAILED_TURNS_TOTAL Counter "broker_failed_turns_total" [] "Turns that failed; they were asked again.";
    BROKER_FAILED_READS_TOTAL Counter "broker_failed_reads_total" [] "Reads that failed; they were asked again.";
    BROKER_RESETS_TOTAL Counter "broker_resets_total" [] "Times the database was replaced.";
    BROKER_WILLS_FULL_TOTAL Counter "broker_wills_full_total" [] "CONNECT packets refused because wills of others have the room.";
    BROKER_PROPERTIES_REFUSED_TOTAL Counter "broker_properties_refused_total" [] "Connections ended because a packet had too many properties, or too long ones.";
    BROKER_TOPICS_REFUSED_TOTAL Counter "broker_topics_refused_total" [] "Connections ended because a topic or a filter held a control character or a non-character.";
    BROKER_LEFT_OUT_FACTS_TOTAL Counter "broker_left_out_facts_total" [] "Stored retained messages, wills, QoS 2 messages and subscriptions that did not fit into memory; they are still on disk.";
    BROKER_DAMAGED_FACTS_TOTAL Counter "broker_damaged_facts_total" [] "Stored facts that could not be understood.";
    BROKER_PUT_DOWN_TOTAL Counter "broker_put_down_total" [] "Times that work for a connection or a session was put down until the next turn of the core loop, because the budget of this one was spent.";
    BROKER_CUT_IDENTIFIERS_TOTAL Counter "broker_cut_identifiers_total" [] "Subscription identifiers left out of messages that would have had more than 64 of them.";
    BROKER_DROPPED Counter "broker_dropped_messages_total" ["reason"] "Messages for clients that were dropped: the client was away (QoS 0), or slow (QoS 0); its queue was full; its session ended, or expired because its client stayed away; the message expired, could not be read from disk, was lost with the database, was refused by its client, is larger than its client takes, may not be read by its client, has a topic with a control character, or was released by its client before there was room for it; the disk was too slow for messages of this process; its record had no JSON.";

    STORE_FAULT Gauge "store_fault" [] "1 while the store cannot write.";
    STORE_FILE Gauge "store_file_bytes" [] "Size of the database with its log.";
    STORE_COMMITS Counter "store_commits_total" [] "Transactions that wrote.";
    STORE_ROWS_WRITTEN Counter "store_written_rows_total" [] "Rows stored.";
    STORE_ROWS_REMOVED Counter "store_removed_rows_total" [] "Rows removed: acknowledged, trimmed or replaced.";
    STORE_ROW_BYTES Counter "store_row_bytes_total" [] "Encoded bytes of the rows stored.";
    STORE_FAULTS Counter "store_faults_total" ["fault"] "Requests that failed, by what stood in the way.";
    STORE_ASIDE Counter "store_moved_aside_total" [] "Database files moved aside because they could not be used.";
    STORE_SALVAGED Counter "store_salvaged_rows_total" [] "Rows copied out of damaged databases.";
    STORE_LOST Counter "store_lost_rows_total" [] "Rows lost with damaged databases, or that did not decode.";
    STORE_LOST_UNKNOWN Counter "store_losses_unknown_total" [] "Times nobody can say how much was lost: a damaged or foreign database, an empty one, one without its log, a log that ends in the middle. More may be lost than was counted.";
    STORE_UNOWNED Counter "store_unowned_rows_total" [] "Rows saved from damaged databases that have lost the name of their queue: they are kept and not sent.";
    STORE_VANISHED Counter "store_vanished_total" [] "Times the database or its log was deleted, replaced or cut short while it was open.";
    STORE_LOST_WORDS Counter "store_lost_words_total" [] "Topics, schemas, runs and clock entries that did not decode.";
    STORE_SCHEMAS_REFUSED Counter "store_refused_schemas_total" [] "Schemas that were not stored because there were too many.";
    STORE_OPENS_FAILED Counter "store_opens_failed_total" [] "Tries to open the database that failed.";
    STORE_ROWS Gauge "store_rows" [] "Rows stored in all queues.";
    STORE_ROWS_FETCHED Counter "store_fetched_rows_total" [] "Rows read for sending.";
    STORE_CHECKPOINTS Counter "store_checkpoints_total" [] "Times the log was copied into the database.";

    LOG_SUPPRESSED Counter "status_suppressed_log_lines_total" [] "Log lines left out because they repeated; each run of them has one line that says how many.";
}

/// A page of values under construction.
#[derive(Debug, Default)]
pub struct Page {
    values: Vec<(&'static str, String)>,
}

impl Page {
    /// Puts one value. `labels` are the values of the metric's labels, in its order.
    pub fn put(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "labels of {}", metric.name);
        let mut line = metric.name.to_owned();
        for (index, (label, text)) in metric.labels.iter().zip(labels).enumerate() {
            line.push(if index == 0 { '{' } else { ',' });
            // Writing into a String cannot fail.
            let _ = write!(line, "{label}=\"{}\"", escaped(text));
        }
        if !metric.labels.is_empty() {
            line.push('}');
        }
        let _ = write!(line, " {value}");
        self.values.push((metric.name, line));
    }

    /// Puts a count.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the format knows only floats; 2^53 events take centuries"
    )]
    pub fn count(&mut self, metric: &Metric, labels: &[&str], value: u64) {
        self.put(metric, labels, value as f64);
    }

    /// The page as text, in the order of the table. Metrics without a value are left out.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for metric in ALL {
            let mut lines = self.values.iter().filter(|(name, _)| *name == metric.name).peekable();
            if lines.peek().is_none() {
                continue;
            }
            let _ = writeln!(text, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(text, "# TYPE {} {}", metric.name, metric.kind.word());
            for (_, line) in lines {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `docs/metrics.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\nGenerated from `gateway-daemon/src/status/metrics.rs` by `cargo xtask golden`; do not edit.\n\n\
         `gateway-daemon status --metrics` prints them as Prometheus text. Counters start at zero with the daemon.\n\n\
         | metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for metric in ALL {
        let (name, kind, help) = (metric.name, metric.kind.word(), metric.help);
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", metric.labels.join(", "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_reference_of_metrics_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        if std::env::var("TIDEGATE_GOLDEN").is_ok_and(|word| word == "write") {
            std::fs::write(&path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == reference(), "docs/metrics.md is stale: run `cargo xtask golden`");
    }

    #[test]
    fn names_are_unique_and_say_their_kind() {
        for (index, metric) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != metric.name), "{} twice", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        }
    }

    #[test]
    fn a_page_groups_values_under_their_help_and_escapes_labels() {
        let mut page = Page::default();
        page.count(&BUS_OPENS, &["b"], 2);
        page.put(&UPTIME, &[], 1.5);
        page.count(&BUS_OPENS, &["a\"\\\n"], 1);
        let expected = "\
# HELP gateway_uptime_seconds Time since the daemon started.
# TYPE gateway_uptime_seconds gauge
gateway_uptime_seconds 1.5
# HELP bus_opens_total Times the port or connection was opened.
# TYPE bus_opens_total counter
bus_opens_total{bus=\"b\"} 2
bus_opens_total{bus=\"a\\\"\\\\\\n\"} 1
";
        assert_eq!(page.text(), expected);
    }
}
