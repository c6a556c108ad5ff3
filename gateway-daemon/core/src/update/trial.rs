//! What is seen of a running gateway, and what of it has to work again after an update.
//!
//! Only what worked before the update is asked of the updated system: a bus that was silent may stay silent, and a cloud that could not be
//! reached may stay unreachable. One device that is switched off at the same moment is no reason to go back, so of the devices of a bus that
//! answered before at least half have to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most things of one kind that a [`Before`] can name; a configuration has far fewer.
pub const NAMES_MAX: usize = 4096;

/// A gateway at one moment, as its control socket tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// The run of the daemon; it changes when the daemon was started again.
    pub run: String,
    /// Every bus: its name, and how many requests were answered in this run.
    pub buses: BTreeMap<String, u64>,
    /// Every device: its bus, its name, and whether it answers.
    pub devices: Vec<Device>,
    /// Every uplink: its name, and how many messages the cloud has acknowledged in this run.
    pub uplinks: BTreeMap<String, u64>,
    /// What is wrong with the store.
    pub store_fault: Option<String>,
    /// Databases that could not be used and were moved aside in this run.
    pub stores_lost: u64,
}

/// What a look at the running gateway gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sight {
    /// Its state.
    State(Observation),
    /// It answers, and has no place for one more client.
    Busy,
    /// It does not answer.
    #[default]
    Silent,
}

/// One device at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Name of its bus.
    pub bus: String,
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub answers: bool,
}

/// What worked before an update.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    /// The buses that polled, each with its devices that answered.
    pub buses: BTreeMap<String, Vec<String>>,
    /// Uplinks whose cloud acknowledged messages.
    pub uplinks: Vec<String>,
    /// Whether the store had a fault already.
    pub store_faulty: bool,
}

impl Before {
    /// What works at this moment. Nothing is asked for that is beyond [`NAMES_MAX`].
    #[must_use]
    pub fn of(seen: &Observation) -> Self {
        let mut buses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for device in seen.devices.iter().filter(|device| device.answers).take(NAMES_MAX) {
            if seen.buses.get(&device.bus).is_some_and(|answers| *answers > 0) {
                buses.entry(device.bus.clone()).or_default().push(device.name.clone());
            }
        }
        let uplinks = seen.uplinks.iter().filter(|(_, acks)| **acks > 0).take(NAMES_MAX);
        Self {
            buses,
            uplinks: uplinks.map(|(name, _)| name.clone()).collect(),
            store_faulty: seen.store_fault.is_some(),
        }
    }

    /// What of it does not work, in words; `None` when all is well.
    #[must_use]
    pub fn missing(&self, seen: &Observation) -> Option<String> {
        if let Some(fault) = seen.store_fault.as_ref().filter(|_| !self.store_faulty) {
            return Some(format!("the store has a fault that it did not have before: {fault}"));
        }
        if seen.stores_lost > 0 {
            return Some("the store could not be used by this version and was moved aside".to_owned());
        }
        self.buses.iter().find_map(|(bus, devices)| missing_on(bus, devices, seen)).or_else(|| {
            let silent =
                self.uplinks.iter().find(|name| seen.uplinks.get(*name).is_none_or(|acks| *acks == 0));
            silent.map(|name| {
                format!(
                    "uplink {name}: the cloud has acknowledged nothing since the update, and before it did"
                )
            })
        })
    }
}

fn missing_on(bus: &str, devices: &[String], seen: &Observation) -> Option<String> {
    let Some(answers) = seen.buses.get(bus) else {
        return Some(format!("bus {bus} polled before the update and is gone"));
    };
    let answering = |name: &&String| {
        seen.devices.iter().any(|device| device.bus == bus && device.name == **name && device.answers)
    };
    let (before, present) = (devices.len(), devices.iter().filter(answering).count());
    let enough = *answers > 0 && present >= before.div_ceil(2);
    (!enough).then(|| format!("bus {bus}: {present} of the {before} devices that answered before do so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(bus: &str, name: &str, answers: bool) -> Device {
        Device { bus: bus.into(), name: name.into(), answers }
    }

    fn seen() -> Observation {
        Observation {
            run: "a-1".into(),
            buses: [("line".to_owned(), 10), ("dead".to_owned(), 0)].into(),
            devices: vec![
                device("line", "m1", true),
                device("line", "m2", true),
                device("line", "m3", true),
                device("line", "off", false),
                device("dead", "x", false),
            ],
            uplinks: [("cloud".to_owned(), 3), ("away".to_owned(), 0)].into(),
            store_fault: None,
            stores_lost: 0,
        }
    }

    #[test]
    fn what_did_not_work_before_is_not_asked_for() {
        let before = Before::of(&seen());
        assert_eq!(before.buses.keys().collect::<Vec<_>>(), ["line"]);
        assert_eq!(before.buses["line"], ["m1", "m2", "m3"]);
        assert_eq!(before.uplinks, ["cloud"]);
        assert_eq!(before.missing(&seen()), None);
        assert_eq!(Before::default().missing(&Observation::default()), None);
    }

    #[test]
    fn everything_that_worked_before_and_does_not_after_is_named() {
        let before = Before::of(&seen());
        let missing = |change: fn(&mut Observation)| {
            let mut after = seen();
            change(&mut after);
            before.missing(&after)
        };
        for (change, words) in [
            ((|after| after.buses.clear()) as fn(&mut Observation), "bus line polled before"),
            (|after| after.devices.clear(), "0 of the 3 devices"),
            (|after| after.devices.truncate(1), "1 of the 3 devices"),
            (|after| _ = after.buses.insert("line".into(), 0), "3 of the 3 devices"),
            (|after| after.uplinks.clear(), "uplink cloud"),
            (|after| _ = after.uplinks.insert("cloud".into(), 0), "uplink cloud"),
            (|after| after.store_fault = Some("full".into()), "full"),
            (|after| after.stores_lost = 1, "moved aside"),
        ] {
            let found = missing(change);
            assert!(found.as_ref().is_some_and(|found| found.contains(words)), "{words}: {found:?}");
        }
        // One of three may be switched off.
        assert_eq!(missing(|after| after.devices[0].answers = false), None);
        assert_eq!(missing(|after| after.devices.push(device("line", "more", false))), None);
    }

    #[test]
    fn a_store_that_was_faulty_before_may_stay_so() {
        let faulty = Observation { store_fault: Some("read-only".into()), ..seen() };
        assert_eq!(Before::of(&faulty).missing(&faulty), None);
    }

    #[test]
    fn what_was_true_before_survives_the_file() {
        let before = Before::of(&seen());
        let json = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<Before>(&json).unwrap(), before);
        assert_eq!(serde_json::from_str::<Before>("{}").unwrap(), Before::default());
    }
}
