//! How each bus and each device is, for the topics of health: pure, from the same snapshot and the same list of troubles as everything else that is said.
//!
//! A bus is `up`, `down` or `unknown`; a device is `good`, `partial` (it answers and does not give everything), `failing`, `dead`, `down` with its bus, or
//! `unknown`. Nothing is said of what is not known yet for [`PATIENCE_MS`]: at a start and after a change of the configuration it soon will be.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::health::{bus_topic, device_topic};
use gateway_core::tag::BootNs;
use serde::Serialize;

use super::snapshot::{Bus, Device, Health, Snapshot};
use super::troubles::{FAILING_MS, Severity, Subject, Trouble, silent_device};

/// So long a state may be unknown before that is said.
pub(super) const PATIENCE_MS: u64 = 30_000;

/// Longest sentence and reason, bytes: a list of ports is the longest there is.
const TEXT_BYTES_MAX: usize = 1000;

/// How one bus or device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// Where it is told.
    pub topic: Arc<str>,
    /// What is told; `None` says nothing yet.
    pub said: Option<Said>,
    /// Since when it is so.
    pub since: BootNs,
}

/// What is told of it, without the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// A word.
    pub state: &'static str,
    /// Why, in the words of the bus or as the word of a bad reading.
    pub reason: Option<String>,
    /// A sentence, with what to do.
    pub text: Option<String>,
}

#[derive(Serialize)]
struct Message<'a> {
    v: u8,
    boot: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_boot_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl Condition {
    /// The message; `wall` is the moment of [`Self::since`] as RFC 3339, if it is known.
    pub(super) fn message(&self, boot: &str, wall: Option<String>) -> Option<Vec<u8>> {
        let Said { state, reason, text } = self.said.as_ref()?;
        let since_boot_ms = wall.is_none().then(|| self.since.ms());
        let (reason, text) = (reason.as_deref(), text.as_deref());
        serde_json::to_vec(&Message { v: 1, boot, state, since: wall, since_boot_ms, reason, text }).ok()
    }
}

/// Since when each topic has had its state. A state that follows another has not begun before that one, whatever counts the time in its room: a device that
/// answers all the while and gives some of its values again is good since then.
#[derive(Debug, Default)]
pub(super) struct Beginnings(BTreeMap<Arc<str>, (&'static str, BootNs)>);

impl Beginnings {
    /// Takes a look at what is so at `now`, and says since when.
    pub(super) fn of(&mut self, now: BootNs, condition: &Condition) -> BootNs {
        let Some(Said { state, .. }) = &condition.said else { return condition.since };
        let began = match self.0.get(&condition.topic) {
            Some((before, began)) if before == state => *began,
            Some((_, began)) if condition.since <= *began => now,
            _ => condition.since,
        };
        self.0.insert(Arc::clone(&condition.topic), (state, began));
        began
    }

    /// Forgets the topics that are not known any more.
    pub(super) fn keep(&mut self, is_known: impl Fn(&Arc<str>) -> bool) {
        self.0.retain(|topic, _| is_known(topic));
    }
}

/// Every bus and every device at the moment `now` of the snapshot.
pub(super) fn conditions(now: BootNs, snapshot: &Snapshot, troubles: &[Trouble]) -> Vec<Condition> {
    let since = |ms: u64| BootNs(now.0.saturating_sub(ms.saturating_mul(1_000_000)));
    let texts = Texts::of(troubles);
    let down: BTreeMap<&str, &Bus> =
        snapshot.buses.iter().filter(|bus| !bus.up).map(|bus| (bus.name.as_str(), bus)).collect();
    let gateway = &snapshot.gateway;
    let buses = snapshot.buses.iter().map(|bus| Condition {
        topic: bus_topic(gateway, &bus.name).into(),
        said: of_bus(bus, &texts),
        since: since(bus.since_ms),
    });
    let devices = snapshot.devices.iter().map(|device| {
        let bus = down.get(device.bus.as_str()).copied();
        Condition {
            topic: device_topic(gateway, &device.name).into(),
            said: of_device(snapshot, device, bus, &texts),
            since: since(bus.map_or(device.since_ms, |bus| bus.since_ms)),
        }
    });
    buses.chain(devices).collect()
}

fn of_bus(bus: &Bus, texts: &Texts<'_>) -> Option<Said> {
    let subject = Subject::Bus(bus.name.clone());
    let state = match (bus.up, bus.untried) {
        (true, _) => "up",
        (false, false) => "down",
        (false, true) if bus.since_ms >= PATIENCE_MS => "unknown",
        (false, true) => return None,
    };
    let reason = bus.why.as_deref().filter(|_| !bus.up).map(|why| why.split("; ").next().unwrap_or(why));
    Some(Said { state, reason: reason.map(cut), text: texts.of_subject(&subject) })
}

fn of_device(snapshot: &Snapshot, device: &Device, down: Option<&Bus>, texts: &Texts<'_>) -> Option<Said> {
    let subject = Subject::Device(device.name.clone());
    if let Some(bus) = down {
        if bus.untried && bus.since_ms < PATIENCE_MS {
            return None;
        }
        let text = Some(cut(&format!("device {}: its bus {} is not open", device.name, bus.name)));
        return Some(Said { state: "down", reason: Some("bus-down".into()), text });
    }
    let partial = texts.0.get(&subject).is_some_and(|one| one.severity == Severity::Wrong);
    let (state, reason) = match device.health {
        Health::Unknown if device.since_ms < PATIENCE_MS => return None,
        Health::Unknown => ("unknown", None),
        // A lost answer now and then is life on a line.
        Health::Failing if device.since_ms >= FAILING_MS => ("failing", device.why.as_deref().map(cut)),
        // Whether it is there at all is not known yet.
        Health::Failing if !device.answered => return None,
        // It is back, and what it did not answer when it went away is asked in a moment.
        Health::Good | Health::Failing if device.unproven => return None,
        Health::Good | Health::Failing if partial => ("partial", None),
        // A sentence about an answer that was lost is none about a device that is good.
        Health::Good | Health::Failing => return Some(Said { state: "good", reason: None, text: None }),
        Health::Dead => ("dead", device.why.as_deref().map(cut)),
        Health::Down => ("down", device.why.as_deref().map(cut)),
    };
    // Of a whole line that is silent the list has one trouble.
    let alone = || silent_device(snapshot, device).map(|trouble| cut(&trouble.lasting()));
    Some(Said { state, reason, text: texts.of_subject(&subject).or_else(alone) })
}

/// The most important trouble of each subject.
struct Texts<'a>(BTreeMap<&'a Subject, &'a Trouble>);

impl<'a> Texts<'a> {
    fn of(troubles: &'a [Trouble]) -> Self {
        // The last of a key stays.
        Self(troubles.iter().rev().map(|trouble| (&trouble.subject, trouble)).collect())
    }

    fn of_subject(&self, subject: &Subject) -> Option<String> {
        self.0.get(subject).map(|trouble| cut(&trouble.lasting()))
    }
}

/// At most [`TEXT_BYTES_MAX`] bytes of a text.
fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::picture::tests::{check_golden, healthy, troubled};
    use crate::app::troubles::troubles;

    const NOW: BootNs = BootNs(1_000_000_000_000);

    fn of(change: impl Fn(&mut Snapshot)) -> Vec<Condition> {
        let mut snapshot = healthy();
        snapshot.devices.iter_mut().for_each(|device| device.health = Health::Good);
        change(&mut snapshot);
        conditions(NOW, &snapshot, &troubles(&snapshot))
    }

    /// What is said of `meter1` on `rs485-1`.
    fn meter(change: impl Fn(&mut Snapshot)) -> (Option<&'static str>, u64) {
        let all = of(change);
        let one = all.iter().find(|one| &*one.topic == "plant7-line2/health/device/meter1").unwrap();
        (one.said.as_ref().map(|said| said.state), NOW.ms() - one.since.ms())
    }

    fn ill(health: Health, since_ms: u64) -> impl Fn(&mut Snapshot) {
        move |s| (s.devices[0].health, s.devices[0].since_ms) = (health, since_ms)
    }

    #[test]
    fn nothing_is_said_of_a_device_that_has_lost_its_first_requests_before_it_fails_or_is_dead() {
        let mute = |health: Health, since_ms: u64| {
            move |s: &mut Snapshot| {
                ill(health, since_ms)(s);
                // A second try is under way.
                (s.devices[0].answered, s.devices[0].requests, s.devices[0].errors) = (false, 2, 1);
            }
        };
        assert_eq!(meter(mute(Health::Failing, 500)).0, None);
        assert_eq!(meter(mute(Health::Failing, FAILING_MS)).0, Some("failing"));
        assert_eq!(meter(mute(Health::Dead, 2000)).0, Some("dead"));
        assert_eq!(meter(ill(Health::Failing, 500)).0, Some("good"), "it has answered before");
    }

    #[test]
    fn nothing_is_said_of_a_device_that_is_back_before_its_requests_were_asked_again() {
        let back = |wrong: bool, unproven: bool| {
            move |s: &mut Snapshot| {
                ill(Health::Good, 500)(s);
                s.devices[0].unproven = unproven;
                s.devices[0].wrong.extend(wrong.then(|| "gives no answer to 1 of 1 requests".to_owned()));
            }
        };
        for wrong in [false, true] {
            assert_eq!(meter(back(wrong, true)).0, None);
        }
        assert_eq!(meter(back(false, false)).0, Some("good"));
        assert_eq!(meter(back(true, false)).0, Some("partial"));
    }

    #[test]
    fn golden_messages_of_good_and_of_bad_times() {
        let mut text = String::new();
        for snapshot in [healthy(), troubled()] {
            for one in conditions(NOW, &snapshot, &troubles(&snapshot)) {
                for wall in [None, Some("2026-11-21T01:02:03.456Z".to_owned())] {
                    let message =
                        one.message(&snapshot.boot, wall).unwrap_or_else(|| b"nothing yet".to_vec());
                    text.push_str(&format!("{} {}\n", one.topic, String::from_utf8(message).unwrap()));
                }
            }
        }
        check_golden("health.txt", &text);
    }

    #[test]
    fn a_device_is_in_one_of_six_states_and_says_nothing_before_it_was_asked() {
        assert_eq!(meter(|_| ()), (Some("good"), 0));
        assert_eq!(meter(ill(Health::Dead, 5000)), (Some("dead"), 5000));
        assert_eq!(meter(ill(Health::Failing, FAILING_MS)), (Some("failing"), FAILING_MS));
        assert_eq!(meter(ill(Health::Failing, FAILING_MS - 1)).0, Some("good"), "a lost answer");
        assert_eq!(meter(ill(Health::Unknown, PATIENCE_MS - 1)).0, None);
        assert_eq!(meter(ill(Health::Unknown, PATIENCE_MS)).0, Some("unknown"));
        let refuses = |s: &mut Snapshot| {
            (s.tags[0].value, s.tags[0].quality) = (None, "exception-2".into());
        };
        assert_eq!(meter(refuses).0, Some("partial"));
    }

    #[test]
    fn what_is_good_has_no_sentence_about_what_is_wrong_also_when_an_answer_was_lost() {
        let said = |health: Health, since_ms: u64, wrong: &str, quality: &str| {
            let all = of(|s| {
                ill(health, since_ms)(s);
                s.devices[0].wrong =
                    Some(wrong.to_owned()).filter(|wrong| !wrong.is_empty()).into_iter().collect();
                (s.tags[0].value, s.tags[0].quality) = (None, quality.into());
            });
            let one = all.iter().find(|one| one.topic.ends_with("device/meter1")).unwrap();
            one.said.clone().map(|said| (said.state, said.text.is_some()))
        };
        let refuses = "refuses 1 of 12 requests: holding 610 (energy): exception 2 (no such address)";
        for health in [Health::Good, Health::Failing] {
            assert_eq!(said(health, 500, refuses, "exception-2"), Some(("partial", true)), "{health:?}");
            assert_eq!(said(health, 500, "", "exception-2"), Some(("partial", true)), "{health:?}");
            assert_eq!(said(health, 500, "", "timeout"), Some(("good", false)), "{health:?}");
        }
        assert_eq!(said(Health::Failing, FAILING_MS, refuses, "exception-2"), Some(("failing", true)));
    }

    #[test]
    fn a_device_on_a_bus_that_is_not_open_is_down_since_its_bus_is() {
        let down = |s: &mut Snapshot| {
            (s.buses[0].up, s.buses[0].since_ms) = (false, 7000);
            (s.devices[0].health, s.devices[0].since_ms) = (Health::Dead, 3000);
        };
        assert_eq!(meter(down), (Some("down"), 7000));
        let fresh = |s: &mut Snapshot| (s.buses[0].up, s.buses[0].untried) = (false, true);
        assert_eq!(meter(fresh).0, None, "it will be open in a moment");
    }

    #[test]
    fn a_state_that_comes_back_has_begun_when_it_came_back() {
        let mut beginnings = Beginnings::default();
        let mut look = |second: u64, state: &'static str, since: u64| {
            let said = Some(Said { state, reason: None, text: None });
            let topic = "gw/health/device/meter1".into();
            let condition = Condition { topic, said, since: BootNs(since * 1_000_000_000) };
            beginnings.of(BootNs(second * 1_000_000_000), &condition).ms() / 1000
        };
        assert_eq!(look(20, "good", 1), 1);
        assert_eq!(look(30, "good", 25), 1, "an answer that was lost in between is not told");
        assert_eq!(look(40, "down", 39), 39);
        assert_eq!(look(50, "good", 48), 48, "since its bus was open again");
        assert_eq!(look(60, "partial", 48), 60, "it has answered all the while");
        assert_eq!(look(70, "good", 48), 70);
        assert_eq!(look(71, "good", 48), 70);
    }

    #[test]
    fn each_device_of_a_line_that_is_silent_has_its_own_sentence() {
        let all = of(|s| {
            s.devices.push(Device { name: "meter2".into(), ..s.devices[0].clone() });
            for device in [0, 2] {
                ill(Health::Dead, 5000)(s);
                (s.devices[device].health, s.devices[device].why) = (Health::Dead, Some("timeout".into()));
            }
        });
        let text = |topic: &str| {
            let one = all.iter().find(|one| one.topic.ends_with(topic)).unwrap();
            one.said.as_ref().unwrap().text.clone().unwrap()
        };
        assert!(text("bus/rs485-1").contains("none of its 2 devices answers"));
        assert!(text("device/meter2").starts_with("device meter2 (unit 17 on bus rs485-1) does not answer"));
    }

    #[test]
    fn a_long_list_of_ports_is_cut() {
        let all = of(|s| {
            let why = format!("no port a: the ports there are: {}", "é".repeat(2000));
            (s.buses[0].up, s.buses[0].why) = (false, Some(why));
        });
        let said = all[0].said.as_ref().unwrap();
        assert!(said.text.as_ref().unwrap().len() <= TEXT_BYTES_MAX);
        assert!(said.reason.as_ref().unwrap().len() <= TEXT_BYTES_MAX);
    }
}
