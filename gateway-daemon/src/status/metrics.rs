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
    CLOCK_TRUSTED Gauge "gateway_clock_trusted" [] "1 when wall time is known, 0 while messages carry only time since boot.";

    BUS_UP Gauge "bus_up" ["bus"] "1 while the port or connection is open.";
    BUS_CYCLES Counter "bus_cycles_total" ["bus"] "Poll cycles handed on to processing.";
    BUS_CYCLES_DROPPED Counter "bus_cycles_dropped_total" ["bus"] "Poll cycles dropped because processing had no room for them.";
    BUS_OPENS Counter "bus_opens_total" ["bus"] "Times the port or connection was opened.";
    BUS_OPEN_FAILURES Counter "bus_open_failures_total" ["bus"] "Tries to open it that failed.";
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
    UPLINK_UNMAPPED Counter "uplink_unmapped_messages_total" ["uplink"] "Messages of this gateway dropped because the rule for their topic makes no legal topic of it.";
    UPLINK_SERVER Gauge "uplink_server" ["uplink"] "Which of its servers is in use or tried next: 0 is the first.";

    DOWN_RECEIVED Counter "down_received_messages_total" ["uplink"] "Messages of the cloud that came, repetitions included.";
    DOWN_ENTERED Counter "down_entered_messages_total" ["uplink"] "Messages of the cloud that entered the local broker.";
    DOWN_ACKNOWLEDGED Counter "down_acknowledged_messages_total" ["uplink"] "Messages acknowledged to the cloud, because they were on disk or nobody keeps them.";
    DOWN_PENDING Gauge "down_pending_messages" ["uplink"] "Messages of the cloud that wait for the local broker or its disk.";
    DOWN_ECHOES Counter "down_echo_messages_total" ["uplink"] "Own messages that the cloud sent back, recognised and left out.";
    DOWN_UNWANTED Counter "down_unwanted_messages_total" ["uplink"] "Messages of the cloud that no rule of `accept` takes: subscriptions of an earlier configuration.";
    DOWN_UNMAPPED Counter "down_unmapped_messages_total" ["uplink"] "Messages of the cloud dropped because the rule for their topic makes no legal topic of it.";
    DOWN_OVERRUN Counter "down_overrun_messages_total" ["uplink"] "Messages of QoS 0 of the cloud for which there was no room.";
    DOWN_OVERRUNS Counter "down_overruns_total" ["uplink"] "Connections cut because the cloud sent more than the disk takes.";
    DOWN_REFUSED Gauge "down_refused_filters" ["uplink"] "Filters that the cloud refused on the present connection.";

    QUEUE_RESTORED Counter "queue_restored_messages_total" ["uplink"] "Ledger: messages found in the store at start, or salvaged.";
    QUEUE_PRODUCED Counter "queue_produced_messages_total" ["uplink"] "Ledger: messages given to the queue by this run.";
    QUEUE_IN_MEMORY Gauge "queue_in_memory_messages" ["uplink"] "Ledger: messages only in memory.";
    QUEUE_STORED Gauge "queue_stored_messages" ["uplink"] "Ledger: messages on disk.";
    QUEUE_ACKNOWLEDGED Counter "queue_acknowledged_messages_total" ["uplink"] "Ledger: messages acknowledged by the cloud.";
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
    STORE_LOST_UNKNOWN Counter "store_losses_unknown_total" [] "Damaged or foreign files met at start: more may be lost than was counted.";
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
