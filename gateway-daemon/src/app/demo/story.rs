//! What a person sees happen to the field: the last write, and the device that loses its power. Pure.

use std::time::Duration;

use crate::app::picture::words::{count, duration, value};
use crate::app::snapshot::{Health, Snapshot};

/// What was done to the field so far.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// The last write.
    pub write: Option<Wrote>,
    /// The device that can lose its power.
    pub weak: Option<String>,
    /// Since when it has none, and how often it had been asked by then.
    pub off: Option<(Duration, u64)>,
    /// Whether it has lost it before.
    pub was_off: bool,
}

/// A write and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrote {
    /// The device.
    pub device: String,
    /// The tag.
    pub tag: String,
    /// The value as it was written.
    pub value: String,
    /// When.
    pub at: Duration,
    /// Why it was refused, if so.
    pub refused: Option<String>,
}

impl Story {
    /// What came of the last write; `None` before there was one.
    #[must_use]
    pub fn write_line(&self, snapshot: &Snapshot, now: Duration) -> Option<String> {
        let Wrote { device, tag, value: wrote, at, refused } = self.write.as_ref()?;
        let ago = ago(now.saturating_sub(*at));
        if let Some(why) = refused {
            // The place stands before it, and what to do is for a real plant.
            let fact = why.split("; ").next().unwrap_or(why);
            let fact = fact.split_once("): ").map_or(fact, |(_, fact)| fact);
            return Some(format!("{device}/{tag} = {wrote} was refused {ago}: {fact}"));
        }
        let seen = snapshot.tags.iter().find(|seen| seen.device == *device && seen.tag == *tag);
        let unit =
            seen.and_then(|seen| seen.unit.as_deref()).map(|unit| format!(" {unit}")).unwrap_or_default();
        let polled = match seen.and_then(|seen| seen.value.as_ref()).map(value) {
            Some(polled) => format!("polled: {polled}{unit}"),
            None => "not polled since".to_owned(),
        };
        Some(format!("{device}/{tag} = {wrote}{unit}, written {ago}; {polled}"))
    }

    /// How the device is that loses its power; `None` without such a device.
    #[must_use]
    pub fn weak_line(&self, snapshot: &Snapshot, now: Duration) -> Option<String> {
        let name = self.weak.as_ref()?;
        let device = snapshot.devices.iter().find(|device| device.name == *name)?;
        Some(match (self.off, device.health) {
            (None, Health::Good | Health::Unknown) if self.was_off => format!("{name} answers again"),
            (None, Health::Good | Health::Unknown) => format!("{name} answers; soon it loses its power"),
            (None, _) => format!("{name} has its power again: the next probe finds it"),
            (Some((since, before)), Health::Dead) => format!(
                "{name} has no power for {}: dead, probed {} times, the others go on",
                duration(ms(now.saturating_sub(since))),
                count(device.requests.saturating_sub(before))
            ),
            (Some((since, _)), _) => format!(
                "{name} has no power for {}: its polls get no answer",
                duration(ms(now.saturating_sub(since)))
            ),
        })
    }
}

fn ago(time: Duration) -> String {
    format!("{} ago", duration(ms(time)))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::app::snapshot::{Device, Tag};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn snapshot(health: Health, requests: u64, setpoint: Option<f64>) -> Snapshot {
        let device = Device { name: "cellar".into(), health, requests, ..Device::default() };
        let tag = Tag {
            device: "oven".into(),
            tag: "setpoint".into(),
            unit: Some("°C".into()),
            value: setpoint.map(|value| json!(value)),
            ..Tag::default()
        };
        Snapshot { devices: vec![device], tags: vec![tag], ..Snapshot::default() }
    }

    #[test]
    fn a_write_is_told_with_what_the_device_says_afterwards() {
        let wrote = Wrote {
            device: "oven".into(),
            tag: "setpoint".into(),
            value: "180".into(),
            at: s(3),
            refused: None,
        };
        let mut story = Story { write: Some(wrote.clone()), ..Story::default() };
        let line = |story: &Story, polled| story.write_line(&snapshot(Health::Good, 0, polled), s(8));
        let wanted = "oven/setpoint = 180 °C, written 5.0 s ago; polled: 180 °C";
        assert_eq!(line(&story, Some(180.0)).as_deref(), Some(wanted));
        let wanted = "oven/setpoint = 180 °C, written 5.0 s ago; not polled since";
        assert_eq!(line(&story, None).as_deref(), Some(wanted));
        story.write = Some(Wrote {
            refused: Some("device oven (unit 2 on bus plant): no answer; check its power".into()),
            ..wrote
        });
        let wanted = "oven/setpoint = 180 was refused 5.0 s ago: no answer";
        assert_eq!(line(&story, None).as_deref(), Some(wanted));
        assert_eq!(line(&Story::default(), None), None);
    }

    #[test]
    fn the_life_of_a_device_that_loses_its_power_is_told() {
        let mut story = Story { weak: Some("cellar".into()), ..Story::default() };
        let line = |story: &Story, health| story.weak_line(&snapshot(health, 12, None), s(20)).unwrap();
        assert_eq!(line(&story, Health::Good), "cellar answers; soon it loses its power");
        story.off = Some((s(7), 9));
        assert_eq!(line(&story, Health::Failing), "cellar has no power for 13 s: its polls get no answer");
        let wanted = "cellar has no power for 13 s: dead, probed 3 times, the others go on";
        assert_eq!(line(&story, Health::Dead), wanted);
        (story.off, story.was_off) = (None, true);
        assert_eq!(line(&story, Health::Dead), "cellar has its power again: the next probe finds it");
        assert_eq!(line(&story, Health::Good), "cellar answers again");
        assert_eq!(Story::default().weak_line(&snapshot(Health::Good, 0, None), s(1)), None);
    }
}
