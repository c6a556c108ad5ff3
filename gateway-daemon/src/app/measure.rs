//! The gateway's counters as metrics: every room's counters into one page. Changes nothing.

mod local;

use drivers::bus::{LineState, Report, WireCounters};
use drivers::clock;
use gateway_core::poll::Settings as Field;
use gateway_core::tag::WallClock as _;
use gateway_core::uplink::machine::State;
use gateway_core::uplink::queue::DropReason;

use super::certificates;
use super::gateway::Gateway;
use super::upstream::Upstream;
use crate::status::journal;
use crate::status::metrics::{self as m, Page};

/// Everything as Prometheus text.
pub(super) fn text(gateway: &Gateway) -> String {
    let mut page = Page::default();
    about(&mut page, gateway);
    for line in gateway.lines.iter() {
        let report = line.report();
        page.count(&m::BUS_RESTARTS, &[report.name.as_str()], line.restarts);
        bus(&mut page, &report);
        poll(&mut page, &line.part().field, &report);
    }
    readings(&mut page, gateway);
    for (upstream, (settings, _)) in gateway.upstreams.iter().zip(&gateway.config.uplinks) {
        uplink(&mut page, settings.name.as_str(), upstream);
        down(&mut page, settings.name.as_str(), upstream);
        ledger(&mut page, settings.name.as_str(), upstream);
    }
    update(&mut page, gateway);
    local::broker(&mut page, gateway);
    store(&mut page, gateway);
    page.count(&m::LOG_SUPPRESSED, &[], journal::suppressed_total());
    page.text()
}

fn about(page: &mut Page, gateway: &Gateway) {
    let (id, run) = (gateway.config.gateway.id.as_str(), gateway.run.to_string());
    page.count(&m::INFO, &[id, env!("CARGO_PKG_VERSION"), &run], 1);
    page.put(&m::UPTIME, &[], clock::now().since(gateway.started).as_secs_f64());
    let trusted = gateway.walls.boot_wall(gateway.run.boot).is_some();
    page.count(&m::CLOCK_TRUSTED, &[], u64::from(trusted));
    if let Some(now_s) = gateway.wall_s(clock::now()) {
        for shown in gateway.certificates.shown() {
            let labels = &[shown.place.room, shown.place.name.as_str()];
            // A double holds the seconds of some million years.
            page.put(&m::CERTIFICATE_LEFT, labels, certificates::left_s(shown, now_s) as f64);
        }
    }
    page.count(&m::RELOADS, &["applied"], gateway.reload.applied_total);
    page.count(&m::RELOADS, &["refused"], gateway.reload.refused_total);
    for fault in gateway.known_faults.keys() {
        page.count(&m::FAULT, &[fault], 1);
    }
    page.count(&m::STUCK, &[], u64::from(gateway.stuck.is_some()));
    page.put(&m::TURN_CPU_MAX, &[], gateway.turns.longest().as_secs_f64());
    page.put(&m::TURN_CPU_MAX_LATELY, &[], gateway.turns.longest_lately().as_secs_f64());
    page.count(&m::CONFIG_REFUSED, &[], u64::from(gateway.reload.refused.is_some()));
}

fn bus(page: &mut Page, report: &Report) {
    let labels = &[report.name.as_str()];
    page.count(&m::BUS_UP, labels, u64::from(matches!(report.line, LineState::Up { .. })));
    page.count(&m::BUS_CYCLES, labels, report.task.cycles);
    page.count(&m::BUS_CYCLES_DROPPED, labels, report.task.cycles_dropped);
    page.count(&m::BUS_OPENS, labels, report.task.opens);
    page.count(&m::BUS_OPEN_FAILURES, labels, report.task.open_failures);
    page.count(&m::BUS_CLOSES, labels, report.task.closes);
    page.count(&m::BUS_LOSSES, labels, report.task.losses);
    page.count(&m::BUS_COMMANDS, labels, report.task.commands);
    let (sent, received, late) = match &report.wire {
        WireCounters::Rtu(wire) => (wire.sent_bytes, wire.received_bytes, wire.late_answers),
        WireCounters::Tcp(wire) => (wire.sent_bytes, wire.received_bytes, wire.late_answers),
    };
    page.count(&m::BUS_SENT, labels, sent);
    page.count(&m::BUS_RECEIVED, labels, received);
    page.count(&m::BUS_LATE, labels, late);
    if let WireCounters::Rtu(wire) = &report.wire {
        page.count(&m::BUS_ECHOES, labels, wire.echoes);
    }
    let busy = std::time::Duration::from_nanos(report.schedule.counters.busy_ns);
    page.put(&m::POLL_BUSY, labels, busy.as_secs_f64());
}

fn poll(page: &mut Page, field: &Field, report: &Report) {
    let bus = report.name.as_str();
    for seen in &report.schedule.devices {
        let Some(device) = field.devices.get(seen.device) else { continue };
        let labels = &[bus, device.name.as_str()];
        let counters = &seen.counters;
        page.count(&m::POLL_REQUESTS, labels, counters.requests);
        page.count(&m::POLL_ANSWERS, labels, counters.answers);
        page.count(&m::POLL_RETRIES, labels, counters.retries);
        page.count(&m::POLL_CYCLES, labels, counters.cycles);
        page.count(&m::POLL_OVERRUNS, labels, counters.overruns);
        page.count(&m::POLL_SPLITS, labels, counters.splits);
        page.count(&m::POLL_PROBES, labels, counters.probes);
        page.count(&m::POLL_DEATHS, labels, counters.deaths);
        page.count(&m::POLL_RECOVERIES, labels, counters.recoveries);
        let faults = counters.faults;
        for (word, count) in [
            ("timeout", faults.silence),
            ("short", faults.short),
            ("long", faults.long),
            ("checksum", faults.checksum),
            ("garbage", faults.garbage),
            ("foreign-unit", faults.foreign_unit),
            ("function", faults.function),
            ("transaction", faults.transaction),
            ("mismatch", faults.mismatch),
            ("bus-down", faults.down),
        ] {
            page.count(&m::POLL_FAULTS, &[labels[0], labels[1], word], count);
        }
        for (code, count) in counters.exceptions.by_code.iter().enumerate().filter(|(_, count)| **count > 0) {
            page.count(&m::POLL_EXCEPTIONS, &[labels[0], labels[1], &code.to_string()], *count);
        }
    }
}

fn readings(page: &mut Page, gateway: &Gateway) {
    let process = gateway.processor.counters();
    page.count(&m::PROCESS_IN, &[], process.in_total);
    page.count(&m::PROCESS_REPORTED, &[], process.reported_total);
    page.count(&m::PROCESS_SUPPRESSED, &[], process.suppressed_total);
    page.count(&m::PROCESS_CLAMPED, &[], process.clamped_total);
    page.count(&m::PROCESS_OUT_OF_RANGE, &[], process.out_of_range_total);
    page.count(&m::PROCESS_STALE, &[], process.stale_total);
    let payload = gateway.encoder.counters();
    page.count(&m::PAYLOAD_MESSAGES, &[], payload.messages_total);
    page.count(&m::PAYLOAD_RECORD_BYTES, &[], payload.record_bytes_total);
}

fn uplink(page: &mut Page, name: &str, upstream: &Upstream) {
    let (labels, machine) = (&[name], &upstream.uplink);
    let counters = machine.counters();
    page.count(&m::UPLINK_UP, labels, u64::from(matches!(machine.state(), State::Up { .. })));
    page.count(&m::UPLINK_IN_FLIGHT, labels, machine.in_flight() as u64);
    page.count(&m::UPLINK_CONNECTS, labels, counters.connects_total);
    page.count(&m::UPLINK_UPS, labels, counters.ups_total);
    page.count(&m::UPLINK_LOSSES, labels, counters.losses_total);
    page.count(&m::UPLINK_SESSIONS_LOST, labels, counters.sessions_lost_total);
    page.count(&m::UPLINK_ACK_TIMEOUTS, labels, counters.ack_timeouts_total);
    page.count(&m::UPLINK_LIVE, labels, counters.live_rows_total);
    page.count(&m::UPLINK_BACKLOG, labels, counters.backlog_rows_total);
    page.count(&m::UPLINK_RESENT, labels, machine.queue().counters().resent_rows_total);
    page.count(&m::UPLINK_ACKS, labels, counters.acks_total);
    page.count(&m::UPLINK_STALE_ACKS, labels, counters.stale_acks_total);
    page.count(&m::UPLINK_REFUSED, labels, counters.refused_total);
    page.count(&m::UPLINK_FORGED, labels, upstream.forged);
    page.count(&m::UPLINK_SENT_ALONE, labels, counters.sent_alone_total);
    page.count(&m::UPLINK_SILENCED, labels, counters.silenced_total);
    page.count(&m::UPLINK_UNMAPPED, labels, upstream.unmapped);
    page.count(&m::UPLINK_SERVER, labels, machine.server() as u64);
}

fn down(page: &mut Page, name: &str, upstream: &Upstream) {
    let (labels, counters) = (&[name], upstream.down.counters());
    page.count(&m::DOWN_RECEIVED, labels, counters.received_messages_total);
    page.count(&m::DOWN_ENTERED, labels, counters.entered_messages_total);
    page.count(&m::DOWN_ACKNOWLEDGED, labels, counters.acknowledged_messages_total);
    page.count(&m::DOWN_PENDING, labels, upstream.down.pending() as u64);
    page.count(&m::DOWN_ECHOES, labels, counters.echo_messages_total);
    page.count(&m::DOWN_UNWANTED, labels, counters.unwanted_messages_total);
    page.count(&m::DOWN_FORGED, labels, counters.forged_messages_total);
    page.count(&m::DOWN_UNMAPPED, labels, counters.unmapped_messages_total);
    page.count(&m::DOWN_OVERRUN, labels, counters.overrun_messages_total);
    page.count(&m::DOWN_OVERRUNS, labels, counters.overruns_total);
    page.count(&m::DOWN_LEFT_OUT, labels, upstream.hearing().filters_left_out_total);
    page.count(&m::DOWN_DISCARDED, labels, upstream.hearing().sessions_discarded_total);
    page.count(&m::DOWN_REFUSED, labels, upstream.refused.len() as u64);
}

fn update(page: &mut Page, gateway: &Gateway) {
    if gateway.config.update.is_none() {
        return;
    }
    let counters = gateway.orders.counters();
    page.count(&m::UPDATE_STATE, &[gateway.orders.state().word()], 1);
    page.count(&m::UPDATE_COMMANDS, &[], counters.commands_total);
    page.count(&m::UPDATE_REFUSED, &[], counters.refused_total);
}

fn ledger(page: &mut Page, name: &str, upstream: &Upstream) {
    let labels = &[name];
    let ledger = upstream.uplink.queue().ledger();
    for (rows, readings, tally) in [
        (&m::QUEUE_RESTORED, &m::QUEUE_RESTORED_READINGS, ledger.restored),
        (&m::QUEUE_PRODUCED, &m::QUEUE_PRODUCED_READINGS, ledger.produced),
        (&m::QUEUE_IN_MEMORY, &m::QUEUE_IN_MEMORY_READINGS, ledger.in_memory),
        (&m::QUEUE_STORED, &m::QUEUE_STORED_READINGS, ledger.stored),
        (&m::QUEUE_ACKNOWLEDGED, &m::QUEUE_ACKNOWLEDGED_READINGS, ledger.acknowledged),
    ] {
        page.count(rows, labels, tally.rows);
        page.count(readings, labels, tally.readings);
    }
    for reason in DropReason::ALL {
        let (labels, tally) = (&[name, reason.word()], ledger.dropped(reason));
        page.count(&m::QUEUE_DROPPED, labels, tally.rows);
        page.count(&m::QUEUE_DROPPED_READINGS, labels, tally.readings);
    }
    page.count(&m::QUEUE_STORED_BYTES, labels, ledger.stored.bytes);
    let counters = upstream.uplink.queue().counters();
    let aside = upstream.uplink.queue().aside_total();
    page.count(&m::QUEUE_ASIDE, labels, aside.rows);
    page.count(&m::QUEUE_ASIDE_BYTES, labels, aside.bytes);
    page.count(&m::QUEUE_SET_ASIDE, labels, counters.set_aside_rows_total);
    page.count(&m::QUEUE_PUT_BACK, labels, counters.put_back_rows_total);
    page.count(&m::QUEUE_RESETS, labels, counters.resets_total);
    page.count(&m::QUEUE_ODD_ANSWERS, labels, counters.odd_answers_total);
    page.count(&m::QUEUE_IN_VAIN, labels, counters.fetched_in_vain_rows_total);
    page.count(&m::QUEUE_STORE_FAILURES, labels, counters.store_failures_total);
}

fn store(page: &mut Page, gateway: &Gateway) {
    let health = gateway.store.health();
    let counters = health.counters;
    page.count(&m::STORE_FAULT, &[], u64::from(health.fault.is_some()));
    page.count(&m::STORE_FILE, &[], health.file_bytes);
    page.count(&m::STORE_COMMITS, &[], counters.commits);
    page.count(&m::STORE_ROWS_WRITTEN, &[], counters.rows_written);
    page.count(&m::STORE_ROWS_REMOVED, &[], counters.rows_removed);
    page.count(&m::STORE_ROW_BYTES, &[], counters.row_bytes);
    page.count(&m::STORE_ASIDE, &[], counters.moved_aside);
    page.count(&m::STORE_SALVAGED, &[], counters.rows_salvaged);
    page.count(&m::STORE_LOST, &[], counters.rows_lost);
    page.count(&m::STORE_LOST_UNKNOWN, &[], counters.losses_unknown);
    page.count(&m::STORE_UNOWNED, &[], counters.rows_unowned);
    page.count(&m::STORE_VANISHED, &[], counters.vanished);
    page.count(&m::STORE_LOST_WORDS, &[], counters.words_lost);
    page.count(&m::STORE_SCHEMAS_REFUSED, &[], counters.schemas_refused);
    page.count(&m::STORE_OPENS_FAILED, &[], counters.opens_failed);
    page.count(&m::STORE_ROWS, &[], health.rows);
    page.count(&m::STORE_ROWS_FETCHED, &[], counters.rows_fetched);
    page.count(&m::STORE_CHECKPOINTS, &[], counters.checkpoints);
    for (word, count) in [
        ("full", counters.faults_full),
        ("read-only", counters.faults_read_only),
        ("not-allowed", counters.faults_forbidden),
        ("io", counters.faults_io),
        ("corrupt", counters.faults_corrupt),
        ("locked", counters.faults_locked),
    ] {
        page.count(&m::STORE_FAULTS, &[word], count);
    }
}

/// How the gateway is, in one line for `systemctl status`.
pub(super) fn sentence(gateway: &Gateway) -> String {
    let open = gateway.lines.iter().filter(|line| matches!(line.report().line, LineState::Up { .. })).count();
    let up = gateway
        .upstreams
        .iter()
        .filter(|upstream| matches!(upstream.uplink.state(), State::Up { .. }))
        .count();
    let waits = gateway.upstreams.iter().any(|upstream| upstream.uplink.queue().ledger().stored.rows > 0);
    let waits = if waits { ", messages wait on disk" } else { "" };
    let fault =
        gateway.store.health().fault.map(|(fault, _)| format!(", store: {fault}")).unwrap_or_default();
    let refused =
        if gateway.reload.refused.is_some() { ", the changed configuration is refused" } else { "" };
    let (buses, uplinks) = (gateway.lines.len(), gateway.upstreams.len());
    format!("{open} of {buses} buses open, {up} of {uplinks} uplinks up{waits}{fault}{refused}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_metric_of_the_table_is_written() {
        let table = include_str!("../status/metrics.rs");
        let here = [include_str!("measure.rs"), include_str!("measure/local.rs")].concat();
        let ids: Vec<&str> = table
            .lines()
            .filter(|line| line.contains(" Counter \"") || line.contains(" Gauge \""))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(ids.len(), crate::status::metrics::ALL.len());
        for id in ids {
            assert!(here.contains(&format!("&m::{id},")), "nobody writes {id}");
        }
    }
}
