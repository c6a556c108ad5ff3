//! The gateway as a [`Snapshot`]: gathers what the rooms tell of themselves. Changes nothing.

use std::net::SocketAddr;

use drivers::bus::{DeviceView, LineState};
use gateway_core::broker;
use gateway_core::poll::schedule::DeviceState;
use gateway_core::poll::settings::{Medium, Parity};
use gateway_core::poll::words;
use gateway_core::settings::{LinkSettings, ListenerSettings, Transport};
use gateway_core::tag::{BootNs, Reason, Sample, TagId, WallClock as _, WallMs};
use gateway_core::uplink::link::LinkEvent;
use gateway_core::uplink::machine::State;
use gateway_core::uplink::queue::{self, DropReason, Queue};
use gateway_core::uplink::row::Tally;
use gateway_core::uplink::settings::Settings;

use super::aside;
use super::certificates;
use super::condition::PATIENCE_MS;
use super::errand::tag_snapshot;
use super::gateway::Gateway;
use super::lines::Line;
use super::snapshot::{self, BusKind, Count, Health, Ledger, Link, SetAside, Snapshot};
use super::upstream::Upstream;
use crate::listen::Doors;

impl Gateway {
    /// Takes the present counters into the rates.
    pub(super) fn observe_rates(&mut self, now: BootNs) {
        self.local.observe_rates(now);
        for upstream in &mut self.upstreams {
            let acks = upstream.uplink.counters().acks_total;
            upstream.acks.observe(now, acks);
        }
    }

    /// Everything as it is at this moment.
    #[must_use]
    pub(super) fn picture(&self, now: BootNs) -> Snapshot {
        self.picture_with(now, |_| true)
    }

    /// The same without the tags that have a value: enough to say what is wrong.
    #[must_use]
    pub(super) fn outline(&self, now: BootNs) -> Snapshot {
        self.picture_with(now, |sample| !matches!(sample, Sample::Good(_)))
    }

    fn picture_with(&self, now: BootNs, tags: impl Fn(&Sample) -> bool) -> Snapshot {
        Snapshot {
            gateway: self.config.gateway.id.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            boot: self.run.to_string(),
            uptime_ms: now.ms().saturating_sub(self.started.ms()),
            config: self.config.hash.clone(),
            reloads: self.reload.applied_total,
            refusals: self.reload.refused_total,
            refused: self.reload.refused.as_ref().map(|refused| snapshot::Refused {
                since_ms: now.ms().saturating_sub(refused.at.ms()),
                problems: refused.sentences.clone(),
            }),
            faults: (*self.known_faults).clone(),
            clock_trusted: self.walls.boot_wall(self.run.boot).is_some(),
            clock: self.clock(),
            certificates: self.certificates(now),
            buses: self.lines.iter().map(|line| bus(line, now)).collect(),
            devices: self.devices(now),
            tags: self.tags(now, tags),
            uplinks: self.uplinks(now),
            broker: self.config.broker.as_ref().map(|settings| self.broker_picture(settings)),
            store: self.store_picture(),
        }
    }

    fn clock(&self) -> snapshot::Clock {
        let doubt = self.clocks.doubt();
        snapshot::Clock {
            trust: self.config.gateway.trust_clock.word().to_owned(),
            source: self.clocks.source().map(|source| source.word().to_owned()),
            doubt: doubt.map(|doubt| doubt.to_string()),
            remedy: doubt.map(|doubt| doubt.remedy().to_owned()),
        }
    }

    fn certificates(&self, now: BootNs) -> Vec<snapshot::Certificate> {
        let now_s = self.wall_s(now);
        self.certificates.shown().iter().map(|shown| certificates::picture(shown, now_s)).collect()
    }

    fn uplinks(&self, now: BootNs) -> Vec<snapshot::Uplink> {
        let pairs = self.upstreams.iter().zip(&self.config.uplinks);
        pairs.map(|(upstream, (settings, _))| uplink(upstream, settings, now)).collect()
    }

    fn devices(&self, now: BootNs) -> Vec<snapshot::Device> {
        let mut devices: Vec<snapshot::Device> = (self.field.devices.iter())
            .map(|device| snapshot::Device {
                name: device.name.to_string(),
                bus: self.field.buses[device.bus].name.to_string(),
                unit: device.unit.get(),
                ..snapshot::Device::default()
            })
            .collect();
        for tag in &self.field.tags {
            let device = self.field.groups.get(tag.group).and_then(|group| devices.get_mut(group.device));
            if let Some(device) = device {
                device.tags += 1;
            }
        }
        for line in self.lines.iter() {
            // Before the report is held: it is looked at there, too.
            let bus = bus(line, now);
            let report = line.report();
            for seen in &report.schedule.devices {
                let place = line.part().device(seen.device);
                let Some(device) = place.and_then(|place| devices.get_mut(place)) else { continue };
                (device.health, device.since_ms) = health(seen, &bus, now);
                device.why = match device.health {
                    Health::Down => Some(Reason::BusDown.to_string()),
                    _ => seen.last_failure.map(|cause| cause.reason().to_string()),
                };
                (device.wrong, device.notes) = self.sentences(line, bus.up, seen);
                device.polls_per_s = line.device_answers(seen.device);
                device.requests = seen.counters.requests;
                device.errors = seen.counters.faults.total().saturating_add(seen.counters.exceptions.total());
                device.answered = seen.last_answer.is_some();
                device.unproven = seen.requests.unproven > 0 && device.since_ms < PATIENCE_MS;
            }
        }
        devices
    }

    /// What is wrong with a device, and what else a person should know of it.
    fn sentences(&self, line: &Line, is_up: bool, seen: &DeviceView) -> (Vec<String>, Vec<String>) {
        let (field, own) = (&line.part().field, seen.device);
        let Some(device) = field.devices.get(own) else { return Default::default() };
        match seen.state {
            DeviceState::Dead { .. } if is_up => {
                (vec![words::given_up(device, seen.last_failure)], Vec::new())
            }
            DeviceState::Alive | DeviceState::Failing { .. } if is_up => {
                let mut wrong = words::failing(field, own, &seen.requests);
                wrong.extend(line.bad_values(own, &self.processor));
                (wrong, words::apart(&seen.requests).into_iter().collect())
            }
            DeviceState::Unknown
            | DeviceState::Alive
            | DeviceState::Failing { .. }
            | DeviceState::Dead { .. } => Default::default(),
        }
    }

    fn tags(&self, now: BootNs, wanted: impl Fn(&Sample) -> bool) -> Vec<snapshot::Tag> {
        (0..self.field.tags.len())
            .filter_map(|index| {
                let id = TagId(u32::try_from(index).ok()?);
                let latest = self.processor.latest(id).filter(|latest| wanted(&latest.sample))?;
                let age_ms = now.ms().saturating_sub(latest.at.ms());
                Some(tag_snapshot(&self.field, id, &latest.sample, Some(age_ms)))
            })
            .collect()
    }

    fn broker_picture(&self, settings: &broker::Settings) -> snapshot::Broker {
        let (counters, gauges) = (self.local.broker.counters(), self.local.broker.gauges());
        let addresses = self.local.doors.as_ref().map(Doors::addresses).unwrap_or_default();
        let listener =
            |(index, (door, address)): (usize, (&ListenerSettings, SocketAddr))| snapshot::Listener {
                name: door.name.to_string(),
                url: door_url(door, address),
                address: address.to_string(),
                connections: self.local.connections(index),
            };
        snapshot::Broker {
            listeners: settings.listeners.iter().zip(addresses).enumerate().map(listener).collect(),
            clients: gauges.connections as u64,
            sessions: (gauges.sessions as u64).saturating_sub(self.upstreams.len() as u64),
            subscriptions: gauges.subscriptions as u64,
            retained: gauges.retained_messages as u64,
            waiting: gauges.held_messages,
            stored: gauges.stored_messages,
            received: counters.received_messages_total,
            received_per_s: self.local.received.per_s(),
            sent: counters.sent_messages_total,
            sent_per_s: self.local.sent.per_s(),
            dropped: counters.dropped(),
            logins_refused: counters.logins_refused_total,
        }
    }

    fn store_picture(&self) -> snapshot::Store {
        let health = self.store.health();
        snapshot::Store {
            path: health.path.display().to_string(),
            fault_kind: health.fault.as_ref().map(|(fault, _)| (*fault).into()),
            fault: health.fault.map(|(fault, words)| format!("{fault}: {words}")),
            file_bytes: health.file_bytes,
            file_bytes_max: self.config.store.file_bytes_max,
            written_bytes: health.counters.row_bytes,
            moved_aside: health.counters.moved_aside,
            lost_rows: health.counters.rows_lost,
            notice: health.notice,
        }
    }
}

/// How a device is, and for how long, ms. Nobody asks one whose bus is not open: what it was before says nothing of it.
fn health(seen: &DeviceView, bus: &snapshot::Bus, now: BootNs) -> (Health, u64) {
    if !bus.up && !bus.untried {
        return (Health::Down, bus.since_ms);
    }
    let age_ms = age_ms(now, seen.since);
    match seen.state {
        DeviceState::Unknown => (Health::Unknown, age_ms),
        DeviceState::Alive => (Health::Good, age_ms),
        DeviceState::Failing { .. } => {
            (Health::Failing, self::age_ms(now, seen.last_answer.unwrap_or(seen.since)))
        }
        DeviceState::Dead { .. } => (Health::Dead, age_ms),
    }
}

fn age_ms(now: BootNs, since: BootNs) -> u64 {
    now.ms().saturating_sub(since.ms())
}

fn bus(line: &Line, now: BootNs) -> snapshot::Bus {
    let report = line.report();
    let counters = &report.schedule.counters;
    let (up, since, why) = match &report.line {
        LineState::Up { since } => (true, *since, None),
        LineState::Down { since, why } => (false, *since, Some(why.clone())),
    };
    snapshot::Bus {
        name: report.name.to_string(),
        medium: medium(&line.part().bus.medium),
        kind: kind(&line.part().bus.medium),
        place: place(&line.part().bus.medium),
        up,
        untried: !up && report.task.opens == 0 && report.task.open_failures == 0,
        reopening: report.reopening,
        since_ms: age_ms(now, since),
        why,
        polls_per_s: line.answers.per_s(),
        busy: (line.busy.per_s() / 1e9).clamp(0.0, 1.0),
        requests: counters.requests,
        answers: counters.answers,
        errors: counters.faults.total().saturating_add(counters.exceptions.total()),
        overruns: counters.overruns,
    }
}

fn uplink(upstream: &Upstream, settings: &Settings, now: BootNs) -> snapshot::Uplink {
    let machine = &upstream.uplink;
    let counters = machine.counters();
    let (link, retry_in_ms) = match machine.state() {
        State::Idle => (Link::Stopped, None),
        State::BackingOff { until } => (Link::Waiting, Some(until.ms().saturating_sub(now.ms()))),
        State::Connecting { .. } => (Link::Connecting, None),
        State::Up { .. } => (Link::Up, None),
    };
    snapshot::Uplink {
        name: settings.name.to_string(),
        url: url(&upstream.link_settings),
        link,
        since_ms: now.ms().saturating_sub(machine.link_since().ms()),
        retry_in_ms,
        loss: machine.last_loss().map(ToString::to_string),
        reason: machine.last_loss().map(|loss| loss.word().to_owned()),
        connects: counters.ups_total,
        in_flight: machine.in_flight() as u64,
        window: u64::from(settings.window),
        acks: counters.acks_total,
        acks_per_s: upstream.acks.per_s(),
        received: upstream.down.counters().entered_messages_total,
        receiving: upstream.down.pending() as u64,
        echoes: upstream.down.counters().echo_messages_total,
        refused: upstream.refused.iter().map(ToString::to_string).collect(),
        rows_max: settings.limits.rows_max,
        bytes_max: settings.limits.bytes_max,
        dropping: upstream.drops.going_on().map(|(reason, since)| snapshot::Dropping {
            since_ms: age_ms(now, since),
            reason: reason.word().to_owned(),
        }),
        set_aside: set_aside(machine.queue()),
        ledger: ledger(machine.queue().ledger()),
    }
}

fn set_aside(queue: &Queue) -> SetAside {
    let Tally { rows, bytes, .. } = queue.aside_total();
    // The one with the highest number is the one published last; which one was set aside last is in the log.
    let newest =
        queue.aside().last().map(|mark| format!("{} by {}", aside::escaped(&mark.topic), mark.server));
    SetAside {
        messages: rows,
        bytes,
        newest,
        reason: queue.aside().last().map(|mark| mark.blame.word().to_owned()),
    }
}

fn ledger(from: &queue::Ledger) -> Ledger {
    let dropped = DropReason::ALL
        .into_iter()
        .map(|reason| (reason.word().to_owned(), count(from.dropped(reason))))
        .filter(|(_, count)| count.rows > 0)
        .collect();
    Ledger {
        restored: count(from.restored),
        produced: count(from.produced),
        in_memory: count(from.in_memory),
        stored: count(from.stored),
        acknowledged: count(from.acknowledged),
        dropped,
    }
}

pub(super) fn count(tally: Tally) -> Count {
    Count { rows: tally.rows, readings: tally.readings, bytes: tally.bytes }
}

/// Where an uplink goes, without secrets.
fn url(link: &LinkSettings) -> String {
    let (scheme, path) = match link.transport {
        Transport::Tcp => ("mqtt", ""),
        Transport::Tls => ("mqtts", ""),
        Transport::WebSocket => ("ws", link.path.as_str()),
        Transport::WebSocketTls => ("wss", link.path.as_str()),
    };
    format!("{scheme}://{}:{}{path}", link.host, link.port)
}

/// Where clients connect to.
fn door_url(door: &ListenerSettings, address: SocketAddr) -> String {
    let scheme = match (&door.websocket, &door.tls) {
        (None, None) => "mqtt",
        (None, Some(_)) => "mqtts",
        (Some(_), None) => "ws",
        (Some(_), Some(_)) => "wss",
    };
    format!("{scheme}://{address}{}", door.websocket.as_deref().unwrap_or_default())
}

fn kind(medium: &Medium) -> BusKind {
    match medium {
        Medium::Serial(_) => BusKind::ModbusRtu,
        Medium::Tcp { .. } => BusKind::ModbusTcp,
        Medium::RtuOverTcp { .. } => BusKind::ModbusRtuOverTcp,
        Medium::Sim => BusKind::Sim,
    }
}

fn place(medium: &Medium) -> String {
    match medium {
        Medium::Serial(serial) => serial.port.display().to_string(),
        Medium::Tcp { host, port, .. } | Medium::RtuOverTcp { host, port, .. } => format!("{host}:{port}"),
        Medium::Sim => String::new(),
    }
}

fn medium(medium: &Medium) -> String {
    let place = place(medium);
    match medium {
        Medium::Serial(serial) => {
            let parity = match serial.parity {
                Parity::None => 'N',
                Parity::Even => 'E',
                Parity::Odd => 'O',
            };
            let (baud, data_bits, stop_bits) = (serial.baud, serial.data_bits, serial.stop_bits);
            format!("modbus-rtu {place} {baud} {data_bits}{parity}{stop_bits}")
        }
        Medium::Tcp { .. } => format!("modbus-tcp {place}"),
        Medium::RtuOverTcp { .. } => format!("modbus-rtu-over-tcp {place}"),
        Medium::Sim => "simulated".into(),
    }
}

/// A moment as text.
pub(super) fn iso(wall: WallMs) -> String {
    gateway_core::payload::iso8601(wall).unwrap_or_else(|| format!("{} ms after 1970", wall.0))
}

/// Puts the changes of a link into the log.
pub(super) fn log_link(uplink: &str, event: &LinkEvent) {
    match event {
        LinkEvent::Up { session_present } => {
            log::info!(uplink = uplink; "uplink {uplink}: connected, session {}", if *session_present { "resumed" } else { "fresh" });
        }
        LinkEvent::Down { loss, up_for: Some(up_for) } => {
            log::warn!(uplink = uplink, reason = loss.word(); "uplink {uplink}: link lost after {} s: {loss}", up_for.as_secs());
        }
        LinkEvent::Down { loss, up_for: None } => {
            log::warn!(uplink = uplink, reason = loss.word(); "uplink {uplink}: cannot connect: {loss}");
        }
        LinkEvent::Refused { why, .. } => {
            log::error!(uplink = uplink, reason = why.to_string().as_str(); "uplink {uplink}: a message cannot be sent and is dropped: {why}");
        }
        LinkEvent::Subscribed { refused } if !refused.is_empty() => {
            let filters = refused.join(", ");
            log::warn!(uplink = uplink, reason = "subscription-refused"; "uplink {uplink}: the cloud refuses to send {filters}; check its access rules; asked again at the next connect");
        }
        LinkEvent::Acked { .. } | LinkEvent::Message { .. } | LinkEvent::Subscribed { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use drivers::bus::DeviceView;

    use super::*;

    const NOW: BootNs = BootNs(1_000_000_000_000);

    fn seen(state: DeviceState) -> DeviceView {
        let (device, last_answer, last_failure) = (0, None, None);
        let (requests, counters) = Default::default();
        let since = BootNs(NOW.0 - 9_000_000_000);
        DeviceView { device, state, since, last_answer, last_failure, requests, counters }
    }

    #[test]
    fn a_device_whose_bus_is_not_open_is_down_as_long_as_its_bus_whatever_it_was_before() {
        let bus = |up, untried| snapshot::Bus { up, untried, since_ms: 4000, ..snapshot::Bus::default() };
        let states = [DeviceState::Alive, DeviceState::Unknown, DeviceState::Dead { next_probe: NOW }];
        for state in states {
            assert_eq!(health(&seen(state), &bus(false, false), NOW), (Health::Down, 4000), "{state:?}");
        }
        assert_eq!(health(&seen(DeviceState::Alive), &bus(true, false), NOW), (Health::Good, 9000));
        let fresh = health(&seen(DeviceState::Unknown), &bus(false, true), NOW);
        assert_eq!(fresh, (Health::Unknown, 9000), "nobody has tried to open it yet");
    }
}
