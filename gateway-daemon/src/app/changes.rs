//! Devices that fall silent and come back, for the log: each change once, with the device, its bus and the reason as fields.
//!
//! Looks at the reports of the buses; a device that changes twice between two looks is not mentioned. Bounded by the devices of the
//! configuration.

use std::time::Duration;

use drivers::bus::DeviceView;
use gateway_core::poll::Settings as Field;
use gateway_core::poll::schedule::DeviceState;
use gateway_core::tag::{BootNs, Reason};

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It answers for the first time.
    Found,
    /// It failed so often that it is only probed.
    Died(Option<Reason>),
    /// It answers again, after so long.
    Recovered(Duration),
}

/// Which devices are dead, as far as was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    seen: Vec<Option<Seen>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Alive,
    Dead { since: BootNs },
}

impl Changes {
    /// Nothing is known about any device.
    #[must_use]
    pub(super) fn new(field: &Field) -> Self {
        Self { seen: vec![None; field.devices.len()] }
    }

    /// Takes a look at a device: what has changed since the last one.
    pub(super) fn observe(&mut self, view: &DeviceView) -> Option<Change> {
        let seen = self.seen.get_mut(view.device)?;
        let before = *seen;
        let present = match view.state {
            DeviceState::Unknown | DeviceState::Failing { .. } => return None,
            DeviceState::Alive => Seen::Alive,
            DeviceState::Dead { .. } => Seen::Dead { since: view.since },
        };
        *seen = Some(present);
        match (before, present) {
            (None, Seen::Alive) => Some(Change::Found),
            (Some(Seen::Dead { since }), Seen::Alive) => Some(Change::Recovered(view.since.since(since))),
            (None | Some(Seen::Alive), Seen::Dead { .. }) => Some(Change::Died(view.last_failure)),
            (Some(Seen::Alive), Seen::Alive) | (Some(Seen::Dead { .. }), Seen::Dead { .. }) => None,
        }
    }
}

/// Puts a change into the log.
pub(super) fn log(field: &Field, index: usize, change: Change) {
    let Some(device) = field.devices.get(index) else { return };
    let name = device.name.as_str();
    let bus = field.buses.get(device.bus).map_or("?", |bus| bus.name.as_str());
    // Not "unit": that field of the journal means units of systemd.
    let unit_id = device.unit.get();
    match change {
        Change::Found => log::info!(device = name, bus, unit_id; "device {name}: answers"),
        Change::Died(reason) => {
            let reason = reason.map_or_else(|| "silent".to_owned(), |reason| reason.to_string());
            log::warn!(
                device = name, bus, unit_id, reason = reason.as_str();
                "device {name}: does not answer ({reason}); its tags are bad and it is only probed until it answers again"
            );
        }
        Change::Recovered(after) => {
            let down_s = after.as_secs();
            log::info!(device = name, bus, unit_id, down_s; "device {name}: answers again after {down_s} s");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn view(state: DeviceState, since_s: u64) -> DeviceView {
        DeviceView {
            device: 0,
            state,
            since: BootNs(since_s * SECOND),
            last_answer: None,
            last_failure: Some(Reason::Timeout),
            counters: Default::default(),
        }
    }

    const DEAD: DeviceState = DeviceState::Dead { next_probe: BootNs(0) };

    #[test]
    fn each_change_of_a_device_is_told_once() {
        let mut changes = Changes { seen: vec![None] };
        for (state, since_s, expected) in [
            (DeviceState::Unknown, 0, None),
            (DeviceState::Alive, 1, Some(Change::Found)),
            (DeviceState::Alive, 1, None),
            (DeviceState::Failing { failures: 1 }, 1, None),
            (DEAD, 5, Some(Change::Died(Some(Reason::Timeout)))),
            (DEAD, 5, None),
            (DeviceState::Alive, 12, Some(Change::Recovered(Duration::from_secs(7)))),
        ] {
            assert_eq!(changes.observe(&view(state, since_s)), expected, "{state:?} since {since_s} s");
        }
    }

    #[test]
    fn a_device_that_never_answered_is_told_once_too() {
        let mut changes = Changes { seen: vec![None] };
        assert_eq!(changes.observe(&view(DEAD, 3)), Some(Change::Died(Some(Reason::Timeout))));
        assert_eq!(
            changes.observe(&view(DeviceState::Alive, 4)),
            Some(Change::Recovered(Duration::from_secs(1)))
        );
    }

    #[test]
    fn a_report_of_an_unknown_device_changes_nothing() {
        assert_eq!(Changes::default().observe(&view(DEAD, 3)), None);
    }
}
