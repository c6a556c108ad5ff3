//! What is said on the socket of the update agent: JSON, one line each.
//!
//! ```text
//! --> {"do":"install","source":"https://example.com/update.raucb","reboot":true,"key":"42"}     or     {"do":"status"}
//! <-- {"taken":{}}                                                                               <-- {"status":{..}}, the last line
//! <-- {"progress":{"percent":42,"step":"Copying image to rootfs.1"}}     any number of times
//! <-- {"done":{"version":"1.2","reboot":true}}   or   {"failed":{"reason":"bad-signature","text":"..."}}, the last line
//! ```
//! `taken` comes when the request is on disk: from then on its outcome is not forgotten. A refusal comes without it.
//!
//! Bounds: a line has at most [`LINE_BYTES_MAX`] bytes, a key [`KEY_BYTES_MAX`].

use serde::{Deserialize, Serialize};

use super::reason::{Failure, Reason};
use super::source::SOURCE_BYTES_MAX;

/// Where the agent listens.
pub const SOCKET_PATH: &str = "/run/tidegate-update.sock";

/// Longest line: a source in which each byte is escaped, with room for the rest.
pub const LINE_BYTES_MAX: usize = SOURCE_BYTES_MAX * 6 + 1024;

/// Longest key or id of a command, bytes: an UUID with a word before it.
pub const KEY_BYTES_MAX: usize = 128;

/// What is asked of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Install this.
    Install {
        /// A file's full path, or a URL.
        source: String,
        /// Whether the system is started again afterwards.
        #[serde(default = "yes")]
        reboot: bool,
        /// Names the command: one with the key of the last one that was carried out is not carried out again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Whether it may be older than what ran here: only root may say so.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        downgrade: bool,
    },
    /// How is the last update?
    Status,
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The request is on disk and being carried out.
    Taken {},
    /// So far.
    Progress {
        /// 0 to 100.
        percent: u8,
        /// In the words of the update tool.
        step: String,
    },
    /// It is installed, and starts with the next boot.
    Done {
        /// Version of the bundle, if it has one.
        #[serde(default)]
        version: Option<String>,
        /// Whether the system is going to be started again at once.
        reboot: bool,
    },
    /// It is not installed.
    Failed(Failure),
    /// To [`Request::Status`].
    Status(Status),
}

/// Where an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There was none.
    #[default]
    Idle,
    /// It is fetched and checked.
    Downloading,
    /// It is written into the slot that is not running.
    Installing,
    /// It is installed and starts with the next boot, for which somebody else has to care.
    Installed,
    /// It is installed and the system is going to be started again.
    Rebooting,
    /// It runs and has to show that everything works.
    Testing,
    /// It has passed.
    Good,
    /// It did not pass, and the old system runs.
    RolledBack,
    /// It was not installed; nothing has changed.
    Failed,
}

impl State {
    /// Whether the outcome is open.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Self::Downloading | Self::Installing | Self::Installed | Self::Rebooting | Self::Testing
        )
    }

    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Downloading => "downloading",
            Self::Installing => "installing",
            Self::Installed => "installed",
            Self::Rebooting => "rebooting",
            Self::Testing => "testing",
            Self::Good => "good",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
        }
    }
}

/// How an update is: what the agent says, and with it what the cloud is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Where it is.
    pub state: State,
    /// 0 to 100 while it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Why it failed, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for a person, or the step it is at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Version of the bundle, when it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The id of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Status {
    /// A state without more words.
    #[must_use]
    pub fn of(state: State) -> Self {
        Self { state, ..Self::default() }
    }

    /// What did not work.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self {
            state: State::Failed,
            reason: Some(failure.reason),
            text: Some(failure.text),
            ..Self::default()
        }
    }

    /// How far it is. What comes from a URL is fetched and checked first.
    pub fn advance(&mut self, percent: u8, step: &str) {
        if self.state == State::Downloading
            && ["Copying", "Updating"].iter().any(|word| step.starts_with(word))
        {
            self.state = State::Installing;
        }
        self.percent = Some(percent);
        self.text = Some(step.to_owned());
    }

    /// The same with the id of its command.
    #[must_use]
    pub fn with_id(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }
}

fn yes() -> bool {
    true
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, for the one who sent it.
    pub fn parse(line: &[u8]) -> Result<Self, Failure> {
        let wrong = |words: &str| Failure::with(Reason::BadCommand, words);
        if line.len() > LINE_BYTES_MAX {
            return Err(wrong(&format!("the line has more than {LINE_BYTES_MAX} bytes")));
        }
        let request: Self = serde_json::from_slice(line).map_err(|fault| wrong(&fault.to_string()))?;
        match &request {
            Self::Install { key: Some(key), .. } if !is_key(key) => {
                Err(wrong(&format!("an id has 1 to {KEY_BYTES_MAX} bytes and no control characters")))
            }
            _ => Ok(request),
        }
    }
}

/// Whether a text can name a command.
#[must_use]
pub fn is_key(text: &str) -> bool {
    !text.is_empty() && text.len() <= KEY_BYTES_MAX && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    fn install(source: &str, reboot: bool, key: Option<&str>) -> Request {
        Request::Install { source: source.into(), reboot, key: key.map(str::to_owned), downgrade: false }
    }

    #[test]
    fn requests_are_the_lines_of_the_page() {
        for (line, request) in [
            (r#"{"do":"status"}"#, Request::Status),
            (r#"{"do":"install","source":"/a"}"#, install("/a", true, None)),
            (r#"{"do":"install","source":"/a","reboot":false,"key":"42"}"#, install("/a", false, Some("42"))),
        ] {
            assert_eq!(Request::parse(line.as_bytes()), Ok(request), "{line}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_words() {
        let long = format!("{{\"do\":\"install\",\"source\":\"{}\"}}", "a".repeat(LINE_BYTES_MAX));
        let key =
            format!("{{\"do\":\"install\",\"source\":\"/a\",\"key\":\"{}\"}}", "k".repeat(KEY_BYTES_MAX + 1));
        for line in [
            "",
            "null",
            "{}",
            "\u{0}",
            "install /a",
            r#"{"do":"reboot"}"#,
            r#"{"do":"install"}"#,
            r#"{"do":"install","source":7}"#,
            r#"{"do":"install","source":"/a","key":""}"#,
            r#"{"do":"install","source":"/a","rauc":"--ignore-compatible"}"#,
            &long,
            &key,
        ] {
            let failure = Request::parse(line.as_bytes()).unwrap_err();
            assert_eq!(failure.reason, Reason::BadCommand, "{line}");
        }
        assert!(Request::parse(b"\xff\xfe{").is_err());
    }

    #[test]
    fn replies_are_the_lines_of_the_page() {
        for (reply, line) in [
            (Reply::Taken {}, r#"{"taken":{}}"#),
            (Reply::Progress { percent: 42, step: "x".into() }, r#"{"progress":{"percent":42,"step":"x"}}"#),
            (Reply::Done { version: None, reboot: true }, r#"{"done":{"version":null,"reboot":true}}"#),
            (Reply::Status(Status::of(State::RolledBack)), r#"{"status":{"state":"rolled-back"}}"#),
        ] {
            assert_eq!(serde_json::to_string(&reply).unwrap(), line);
            assert_eq!(serde_json::from_str::<Reply>(line).unwrap(), reply);
        }
        let failed = serde_json::to_string(&Reply::Failed(Failure::plain(Reason::Busy))).unwrap();
        assert!(failed.starts_with(r#"{"failed":{"reason":"busy","text":""#), "{failed}");
    }

    #[test]
    fn the_longest_source_fits_into_a_line_however_it_is_escaped() {
        let source = format!("/{}", "\u{1}".repeat(SOURCE_BYTES_MAX - 1));
        let line = serde_json::to_vec(&install(&source, true, Some(&"\u{2}".repeat(KEY_BYTES_MAX)))).unwrap();
        assert!(line.len() <= LINE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_reading_of_it(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(request) = Request::parse(&line) {
                let again = serde_json::to_vec(&request).unwrap();
                prop_assert_eq!(Request::parse(&again), Ok(request));
            }
        }
    }
}
