//! How the gateway is: the verdict, and everything that is not well.

use super::{Ink, Mood};
use crate::app::snapshot::Snapshot;
use crate::app::troubles::{Severity, Trouble, is_well, troubles, verdict};

/// More sentences than this are counted: a plant without power has hundreds.
const SENTENCES_MAX: usize = 12;

/// The verdict, and below it what else is not well.
#[must_use]
pub(super) fn lines(snapshot: &Snapshot, ink: Ink) -> String {
    of(&troubles(snapshot), ink)
}

fn of(found: &[Trouble], ink: Ink) -> String {
    let mut text = line(found, ink);
    // The verdict tells the first.
    for trouble in found.iter().skip(1).take(SENTENCES_MAX) {
        let mood = if trouble.severity == Severity::Wrong { Mood::Bad } else { Mood::Warn };
        text.push_str(&format!("  {}\n", ink.paint(mood, &trouble.to_string())));
    }
    let more = found.len().saturating_sub(SENTENCES_MAX + 1);
    if more > 0 {
        text.push_str(&format!("  and {more} more: `status --json` has all\n"));
    }
    text
}

/// The verdict, and each other thing that is wrong on its line: what a check that failed has to say.
#[must_use]
pub fn wrong(found: &[Trouble], ink: Ink) -> String {
    /// As many as the status message of an uplink names.
    const WRONG_MAX: usize = 16;
    let mut text = line(found, ink);
    let wrong = || found.iter().filter(|trouble| trouble.severity == Severity::Wrong);
    for trouble in wrong().take(WRONG_MAX).skip(1) {
        text.push_str(&format!("  {}\n", ink.paint(Mood::Bad, &trouble.to_string())));
    }
    match wrong().count().saturating_sub(WRONG_MAX) {
        0 => {}
        1 => text.push_str("  and 1 other\n"),
        others => text.push_str(&format!("  and {others} others\n")),
    }
    text
}

/// The verdict alone.
#[must_use]
pub fn line(found: &[Trouble], ink: Ink) -> String {
    let mood = match found.first() {
        None => Mood::Good,
        Some(_) if is_well(found) => Mood::Warn,
        Some(_) => Mood::Bad,
    };
    format!("{}\n", ink.paint(mood, &verdict(found)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{healthy, troubled};
    use super::*;
    use crate::app::snapshot::{Device, Health};

    #[test]
    fn the_verdict_is_first_and_everything_else_that_is_not_well_follows_once() {
        assert_eq!(lines(&healthy(), Ink::Plain), "all is well\n");
        let found = troubles(&troubled());
        let text = lines(&troubled(), Ink::Plain);
        assert!(text.starts_with("not well: "), "{text}");
        assert_eq!(text.lines().count(), found.len(), "{text}");
        for trouble in &found {
            assert_eq!(text.matches(&trouble.to_string()).count(), 1, "{trouble}\n{text}");
        }
    }

    #[test]
    fn a_check_that_fails_names_each_thing_that_is_wrong_and_counts_those_beyond_sixteen() {
        let dead = |count: usize| {
            let mut plant = healthy();
            let device = plant.devices[0].clone();
            let of = |number: usize| Device {
                name: format!("meter{number}"),
                health: if number == 0 { Health::Good } else { Health::Dead },
                ..device.clone()
            };
            plant.devices = (0..=count).map(of).collect();
            wrong(&troubles(&plant), Ink::Plain)
        };
        assert_eq!(dead(0), "all is well\n");
        assert_eq!(dead(1).lines().count(), 1, "{}", dead(1));
        let three = dead(3);
        assert!(three.lines().next().unwrap().ends_with("and 2 other things are wrong"), "{three}");
        for device in ["meter1", "meter2", "meter3"] {
            assert_eq!(three.matches(device).count(), 1, "{three}");
        }
        let many = dead(20);
        assert!(many.lines().count() == 17 && many.ends_with("  and 4 others\n"), "{many}");
    }

    #[test]
    fn a_plant_without_power_is_told_in_some_lines_and_a_count() {
        let mut plant = healthy();
        let device = plant.devices[0].clone();
        let dead = |number: usize| Device {
            name: format!("meter{number}"),
            health: if number == 0 { Health::Good } else { Health::Dead },
            ..device.clone()
        };
        plant.devices = (0..100).map(dead).collect();
        let text = lines(&plant, Ink::Plain);
        assert_eq!(text.lines().count(), SENTENCES_MAX + 2, "{text}");
        assert!(text.ends_with("  and 86 more: `status --json` has all\n"), "{text}");
    }
}
