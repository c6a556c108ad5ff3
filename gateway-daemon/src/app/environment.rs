//! The environment variables that the program listens to. A wrong value is refused with the right ones at the start: a variable that is set by hand is set
//! for a reason, and one that is passed over in silence is looked for in the wrong place.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use drivers::clock::TIMESYNC_FILE_VARIABLE;
use gateway_core::text::is_hidden;
use log::LevelFilter;

/// What begins the names of our variables.
const PREFIX: &str = "TIDEGATE_";
/// How much is logged.
const LOG: &str = "TIDEGATE_LOG";
/// Where the faults of the machine are.
pub(super) const FAULTS_DIR: &str = "TIDEGATE_FAULTS_DIR";
/// All that the program reads.
const KNOWN: [&str; 3] = [LOG, TIMESYNC_FILE_VARIABLE, FAULTS_DIR];
/// Levels of the log, least first.
const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

/// From which level on is logged, as the environment of this process says.
///
/// # Errors
/// One sentence for each variable of ours that has a wrong value, or whose name is nearly one of ours.
pub(super) fn log_level() -> Result<LevelFilter, Vec<String>> {
    judge(std::env::vars_os())
}

fn judge(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<LevelFilter, Vec<String>> {
    let mut level = LevelFilter::Info;
    let mut sentences = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        // An empty one is as good as none, in shells and units alike.
        if value.is_empty() {
            continue;
        }
        match name {
            LOG => match level_of(&value) {
                Some(said) => level = said,
                None => {
                    let words = LEVELS.map(|(word, _)| word).join(", ");
                    sentences.push(format!(
                        "{name}={} is no level of the log; the levels are {words}; without the variable it is info",
                        shown(&value)
                    ));
                }
            },
            TIMESYNC_FILE_VARIABLE => {
                let what = "names a file that appears when the clock has been set";
                sentences.extend(path_problem(name, &value, what, |place| !place.is_dir()));
            }
            FAULTS_DIR => {
                let what = "names the folder with the faults of the machine";
                sentences.extend(path_problem(name, &value, what, |place| !place.exists() || place.is_dir()));
            }
            // Of others we know nothing: they may be for another program of the same environment.
            other => {
                let own = KNOWN.map(|known| &known[PREFIX.len()..]);
                if let Some(near) = gateway_config::nearest(&other[PREFIX.len()..], own.into_iter()) {
                    sentences.push(format!("there is no variable {other}, did you mean {PREFIX}{near}?"));
                }
            }
        }
    }
    sentences.sort_unstable();
    if sentences.is_empty() { Ok(level) } else { Err(sentences) }
}

fn level_of(value: &OsStr) -> Option<LevelFilter> {
    let word = value.to_str()?.to_ascii_lowercase();
    LEVELS.into_iter().find(|(known, _)| *known == word).map(|(_, level)| level)
}

fn path_problem(name: &str, value: &OsStr, what: &str, fits: impl FnOnce(&Path) -> bool) -> Option<String> {
    let place = Path::new(value);
    if !place.is_absolute() {
        return Some(format!("{name}={} is no absolute path; it {what}", shown(value)));
    }
    (!fits(place)).then(|| format!("{name}={} is not what is needed: it {what}", shown(value)))
}

fn shown(value: &OsStr) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let text = value.to_string_lossy();
    let text: String = text.chars().filter(|c| !is_hidden(*c)).take(SHOWN_CHARS_MAX).collect();
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)]) -> Result<LevelFilter, Vec<String>> {
        judge(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn a_loud_log_is_refused_with_the_words_that_exist() {
        assert_eq!(
            check(&[("TIDEGATE_LOG", "loud")]).unwrap_err(),
            [
                "TIDEGATE_LOG=\"loud\" is no level of the log; the levels are error, warn, info, debug, trace; without the variable it is info"
            ]
        );
        for (word, level) in LEVELS {
            assert_eq!(check(&[("TIDEGATE_LOG", word)]), Ok(level));
            assert_eq!(check(&[("TIDEGATE_LOG", &word.to_uppercase())]), Ok(level));
        }
        assert_eq!(check(&[]), Ok(LevelFilter::Info));
        assert_eq!(check(&[("TIDEGATE_LOG", "")]), Ok(LevelFilter::Info));
        assert!(check(&[("TIDEGATE_LOG", "off")]).is_err(), "nobody switches the log off by a guess");
    }

    #[test]
    fn every_other_variable_of_ours_with_a_wrong_value_is_refused_with_what_it_is_for() {
        let wrong = check(&[
            ("TIDEGATE_TIMESYNC_FILE", "gps.set"),
            ("TIDEGATE_FAULTS_DIR", "/proc/self/stat"),
            ("TIDEGATE_LOGS", "debug"),
            ("HOME", "relative"),
            ("TIDEGATE_ROUNDS", "7"),
        ]);
        assert_eq!(
            wrong.unwrap_err(),
            [
                "TIDEGATE_FAULTS_DIR=\"/proc/self/stat\" is not what is needed: it names the folder with the faults of the machine",
                "TIDEGATE_TIMESYNC_FILE=\"gps.set\" is no absolute path; it names a file that appears when the clock has been set",
                "there is no variable TIDEGATE_LOGS, did you mean TIDEGATE_LOG?",
            ]
        );
        let right = [("TIDEGATE_TIMESYNC_FILE", "/run/gps/set"), ("TIDEGATE_FAULTS_DIR", "/run/not-yet")];
        assert_eq!(check(&right), Ok(LevelFilter::Info));
    }
}
