//! The verdict for scripts: what `status --check --json` prints, and what `status --json` has beside the snapshot.

use serde::Serialize;
use serde_json::Value;

use super::snapshot::Snapshot;
use super::troubles::{self, Severity};

/// How the gateway is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing is wrong; something may be worth knowing all the same.
    pub well: bool,
    /// The same for a person, with the worst of it.
    pub verdict: String,
    /// Everything that is not well, the most important first.
    pub troubles: Vec<Trouble>,
}

/// One thing that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What it is about: `bus/rs485-1`, `device/meter1`, `uplink/cloud`, `store`, `clock`, or the name of a fault of the machine.
    pub subject: String,
    /// `wrong`: somebody has to act; `notable`: all may be well.
    pub severity: &'static str,
    /// For how long, ms, where that is known.
    pub since_ms: Option<u64>,
    /// What it is.
    pub sentence: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Report {
    /// Judges a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let found = troubles::troubles(snapshot);
        let (well, verdict) = (troubles::is_well(&found), troubles::verdict(&found));
        let troubles = found.into_iter().map(|trouble| Trouble {
            subject: trouble.subject.to_string(),
            severity: match trouble.severity {
                Severity::Wrong => "wrong",
                Severity::Notable => "notable",
            },
            since_ms: trouble.since_ms,
            sentence: trouble.sentence,
            remedy: trouble.remedy,
        });
        Self { well, verdict, troubles: troubles.collect() }
    }
}

/// A snapshot as `status --json` prints it: with its verdict.
#[must_use]
pub fn status(snapshot: &Snapshot) -> Value {
    let mut all = serde_json::json!(snapshot);
    if let (Value::Object(all), Value::Object(report)) = (&mut all, serde_json::json!(Report::of(snapshot))) {
        all.extend(report);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::picture::tests::{healthy, troubled};

    #[test]
    fn status_as_json_has_the_verdict_beside_everything_that_it_had() {
        let well = status(&healthy());
        assert_eq!((&well["well"], &well["verdict"]), (&true.into(), &"all is well".into()));
        assert_eq!(well["troubles"], serde_json::json!([]));
        let plain = serde_json::json!(healthy());
        for (key, value) in plain.as_object().unwrap() {
            assert_eq!(well[key], *value, "{key}");
        }
        let bad = status(&troubled());
        assert_eq!(bad["well"], false);
        assert!(bad["troubles"].as_array().unwrap().len() > 2, "{bad:#}");
        assert_eq!(bad["troubles"][0]["severity"], "wrong");
    }
}
