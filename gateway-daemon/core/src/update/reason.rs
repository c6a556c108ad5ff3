//! Why an update was not installed, in one word for programs and in a sentence for the person who has to do something about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::is_hidden;

/// Longest text of the update tool that is passed on, bytes: its messages are one line, the rest is noise.
pub const WORDS_BYTES_MAX: usize = 300;

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Not signed, or by somebody whom this gateway does not trust.
    BadSignature,
    /// The signature is right and the clock says that it is not valid at this time.
    Clock,
    /// Signed, and then changed or read wrongly.
    Damaged,
    /// For another kind of board.
    WrongBoard,
    /// It does not fit.
    NoSpace,
    /// The file is something else.
    NotABundle,
    /// The server did not give it, or not wholly.
    DownloadFailed,
    /// The source is none that may be installed.
    BadSource,
    /// It is older than a system that ran well here, or nobody can tell.
    Downgrade,
    /// Another installation is running.
    Busy,
    /// The last update has not passed its test: the other slot holds the only system that is known to work.
    Testing,
    /// The board's boot loader knows no second system.
    EepromTooOld,
    /// Which system the boot loader starts cannot be told, or not be changed.
    BootChoice,
    /// The installation ended before it was complete.
    Interrupted,
    /// This very command was carried out before.
    AlreadyDone,
    /// The command is older than this connection.
    Retained,
    /// The command cannot be understood.
    BadCommand,
    /// There is nobody who installs.
    NoAgent,
    /// Anything else.
    Other,
}

impl Reason {
    /// All of them, for tests and documents.
    pub const ALL: [Self; 19] = [
        Self::BadSignature,
        Self::Clock,
        Self::Damaged,
        Self::WrongBoard,
        Self::NoSpace,
        Self::NotABundle,
        Self::DownloadFailed,
        Self::BadSource,
        Self::Downgrade,
        Self::Busy,
        Self::Testing,
        Self::EepromTooOld,
        Self::BootChoice,
        Self::Interrupted,
        Self::AlreadyDone,
        Self::Retained,
        Self::BadCommand,
        Self::NoAgent,
        Self::Other,
    ];

    /// The word in JSON, logs and documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BadSignature => "bad-signature",
            Self::Clock => "clock",
            Self::Damaged => "damaged",
            Self::WrongBoard => "wrong-board",
            Self::NoSpace => "no-space",
            Self::NotABundle => "not-a-bundle",
            Self::DownloadFailed => "download-failed",
            Self::BadSource => "bad-source",
            Self::Downgrade => "downgrade",
            Self::Busy => "busy",
            Self::Testing => "testing",
            Self::EepromTooOld => "eeprom-too-old",
            Self::BootChoice => "boot-choice",
            Self::Interrupted => "interrupted",
            Self::AlreadyDone => "already-done",
            Self::Retained => "retained",
            Self::BadCommand => "bad-command",
            Self::NoAgent => "no-agent",
            Self::Other => "other",
        }
    }

    /// What is wrong and what to do, for a person.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::BadSignature => {
                "the update is not signed by anybody whom this gateway trusts; use a bundle of your supplier, signed with the key that belongs to this gateway"
            }
            Self::Clock => {
                "the certificate of the update is not valid at the time of its signature, or at the time that this gateway's clock shows; wait until the clock is set, or ask for a freshly signed bundle"
            }
            Self::Damaged => {
                "the update was changed after it was signed, or could not be read; copy or download it again"
            }
            Self::WrongBoard => "the update is for another kind of board; use the bundle for this one",
            Self::NoSpace => {
                "the update is larger than the space for it; use a bundle made for this card layout"
            }
            Self::NotABundle => {
                "the file is not an update bundle (or only a part of one); use the .raucb file, copied wholly"
            }
            Self::DownloadFailed => {
                "the update could not be downloaded; check the URL, the server and the network, then try again"
            }
            Self::BadSource => {
                "no update is taken from there; expected a URL that begins with https://, or at the machine a file's full path"
            }
            Self::Downgrade => {
                "an older version is installed only at the machine: run gateway-daemon update --allow-downgrade FILE as root on the gateway"
            }
            Self::Busy => "another update is being installed; wait until it is done, then try again",
            Self::Testing => {
                "the last update is still being tested, and the old system is kept until it has passed; try again when it has"
            }
            Self::EepromTooOld => {
                "the boot loader of this board is too old to try a second system; bring its EEPROM up to date first"
            }
            Self::BootChoice => {
                "autoboot.txt on the drive TIDEGATE was changed, or cannot be written; delete it and start the gateway again, then try again"
            }
            Self::Interrupted => {
                "the installation was cut off before it was complete; nothing has changed, try again"
            }
            Self::AlreadyDone => {
                "this command was carried out before; send it with another id to install the same again"
            }
            Self::Retained => {
                "a retained command is not carried out, because it would come again after each restart; publish it without the retain flag"
            }
            Self::BadCommand => {
                "the command is not understood; expected JSON such as {\"url\":\"https://example.com/update.raucb\",\"id\":\"42\"}"
            }
            Self::NoAgent => {
                "nobody installs updates on this system; on Tidegate's own system start tidegate-update.socket"
            }
            Self::Other => "the update could not be installed; the old system goes on running",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A failure as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind.
    pub reason: Reason,
    /// A sentence, with the words of the update tool in brackets.
    pub text: String,
}

impl Failure {
    /// A failure that needs no more words.
    #[must_use]
    pub fn plain(reason: Reason) -> Self {
        Self { reason, text: reason.sentence().to_owned() }
    }

    /// A failure with what the update tool said.
    #[must_use]
    pub fn with(reason: Reason, words: &str) -> Self {
        let words = clipped(words.trim());
        if words.is_empty() {
            return Self::plain(reason);
        }
        Self { reason, text: format!("{} ({words})", reason.sentence()) }
    }
}

/// The beginning of a text without control characters.
fn clipped(words: &str) -> String {
    let mut text = words.replace(is_hidden, " ");
    if text.len() > WORDS_BYTES_MAX {
        let end = (0..=WORDS_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_reason_is_the_one_on_the_wire() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.word()));
            assert!(!reason.sentence().ends_with('.'), "{reason}");
        }
    }

    #[test]
    fn words_of_others_are_cut_and_have_no_control_characters() {
        let failure = Failure::with(Reason::Other, &format!("a\x1b[2J\n{}", "ü".repeat(WORDS_BYTES_MAX)));
        assert!(failure.text.len() < Reason::Other.sentence().len() + WORDS_BYTES_MAX + 10);
        assert!(!failure.text.contains(char::is_control) && failure.text.ends_with("...)"), "{failure:?}");
        assert_eq!(Failure::with(Reason::Busy, " \n"), Failure::plain(Reason::Busy));
    }
}
