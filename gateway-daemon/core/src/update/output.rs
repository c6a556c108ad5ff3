//! What `rauc install` prints while it works and when it fails (RAUC 1.8 to 1.15, `src/main.c`, `install_notify`).
//!
//! ```text
//! stdout:  installing
//!            0% Installing
//!           20% Checking bundle
//!           ...
//!          LastError: Compatible mismatch: Expected 'tidegate-rpi64' but bundle manifest has 'other'
//! stderr:  Installing `/tmp/update.raucb` failed
//! ```
//! The text after the percentage is the step. There is no machine-readable form of the reason: it is found by the words of RAUC's
//! messages, and what is not known is [`Reason::Other`] with those words.
//!
//! Bounds: a line counts up to [`LINE_BYTES_MAX`], and the last [`COMPLAINTS_MAX`] lines of stderr are kept.

use super::reason::{Failure, Reason};

/// Longest line that is looked at; RAUC's are far shorter.
pub const LINE_BYTES_MAX: usize = 4096;

/// Most lines of stderr that are kept: the last ones say what ended it.
pub const COMPLAINTS_MAX: usize = 8;

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// 0 to 100.
    pub percent: u8,
    /// In RAUC's words.
    pub name: String,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// A signal ended it.
    Signal,
}

/// Everything that one run of `rauc install` has said so far.
#[derive(Debug, Default)]
pub struct Output {
    last_error: Option<String>,
    complaints: Vec<String>,
}

impl Output {
    /// A line of stdout: the step, if it is one.
    pub fn said(&mut self, line: &str) -> Option<Step> {
        let line = line.trim();
        if let Some(error) = line.strip_prefix("LastError:") {
            self.last_error = Some(error.trim().to_owned());
            return None;
        }
        let (percent, name) = line.split_once('%')?;
        let percent = percent.trim().parse().ok().filter(|percent| *percent <= 100)?;
        Some(Step { percent, name: name.trim().to_owned() })
    }

    /// A line of stderr.
    pub fn complained(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if self.complaints.len() >= COMPLAINTS_MAX {
            self.complaints.remove(0);
        }
        self.complaints.push(line.to_owned());
    }

    /// What came of it.
    ///
    /// # Errors
    /// Why nothing is installed.
    pub fn end(self, exit: Exit) -> Result<(), Failure> {
        if exit == Exit::Code(0) {
            return Ok(());
        }
        let words = self.last_error.unwrap_or_else(|| self.complaints.join("; "));
        let reason = match reason(&words) {
            Reason::Other if exit == Exit::Signal => Reason::Interrupted,
            reason => reason,
        };
        Err(Failure::with(reason, &words))
    }
}

/// Parts of RAUC's messages in lower case, the more particular ones first.
const WORDS: &[(&str, Reason)] = &[
    ("already processing", Reason::Busy),
    ("compatible mismatch", Reason::WrongBoard),
    ("no space left", Reason::NoSpace),
    ("too small for image", Reason::NoSpace),
    ("larger than size-limit", Reason::NoSpace),
    ("not yet valid", Reason::Clock),
    ("has expired", Reason::Clock),
    ("payload is corrupted", Reason::Damaged),
    // OpenSSL's words for a signature that is of somebody known, and not of this content.
    ("cms routines::verification failure", Reason::Damaged),
    ("cms routines::content verify error", Reason::Damaged),
    ("signature verification failed", Reason::BadSignature),
    ("failed to verify x509", Reason::BadSignature),
    ("no signature cn matching", Reason::BadSignature),
    ("http returned", Reason::DownloadFailed),
    ("transfer failed", Reason::DownloadFailed),
    ("failed to configure streaming", Reason::DownloadFailed),
    ("server did not send bundle size", Reason::DownloadFailed),
    ("failed to read data from remote server", Reason::DownloadFailed),
    ("failed to stream bundle", Reason::DownloadFailed),
    ("failed to download bundle", Reason::DownloadFailed),
    ("no content:", Reason::DownloadFailed),
    ("unauthorized:", Reason::DownloadFailed),
    ("not found: ", Reason::DownloadFailed),
    ("input/output error", Reason::Damaged),
    ("no such file:", Reason::BadSource),
    ("not a regular file", Reason::BadSource),
    ("no valid cms", Reason::NotABundle),
    ("failed to parse signature", Reason::NotABundle),
    ("signature size", Reason::NotABundle),
    ("bundle size", Reason::NotABundle),
    ("payload size", Reason::NotABundle),
    ("bundle format", Reason::NotABundle),
    ("invalid bundle", Reason::NotABundle),
    ("invalid identifier", Reason::NotABundle),
    ("service disappeared", Reason::Interrupted),
    ("d-bus error", Reason::Interrupted),
];

fn reason(words: &str) -> Reason {
    let words = words.to_lowercase();
    WORDS.iter().find(|(part, _)| words.contains(part)).map_or(Reason::Other, |(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    #[test]
    fn progress_lines_become_steps_and_others_do_not() {
        let mut output = Output::default();
        for (line, expected) in [
            ("  0% Installing", Some((0, "Installing"))),
            (" 20% Checking bundle", Some((20, "Checking bundle"))),
            ("100% Installing done.", Some((100, "Installing done."))),
            (" 46% Copying image to rootfs.1", Some((46, "Copying image to rootfs.1"))),
            ("installing", None),
            ("101% too far", None),
            ("-1% too little", None),
            ("% nothing", None),
            ("idle", None),
            ("", None),
        ] {
            let step = output.said(line);
            assert_eq!(step.as_ref().map(|step| (step.percent, step.name.as_str())), expected, "{line:?}");
        }
        assert_eq!(output.end(Exit::Code(0)), Ok(()));
    }

    /// Messages as RAUC 1.8, 1.13 and its sources have them.
    #[test]
    fn each_message_of_rauc_has_its_reason() {
        for (words, reason) in [
            (
                "Compatible mismatch: Expected 'tidegate-rpi64' but bundle manifest has 'other'",
                Reason::WrongBoard,
            ),
            ("signature verification failed: Verify error: self-signed certificate", Reason::BadSignature),
            ("signature verification failed: Verify error: certificate is not yet valid", Reason::Clock),
            ("signature verification failed: Verify error: certificate has expired", Reason::Clock),
            (
                "signature verification failed: error:1700009E:CMS routines::verification failure",
                Reason::Damaged,
            ),
            (
                "Invalid bundle format: Failed to seek to end of bundle: Error seeking in file: Invalid argument",
                Reason::NotABundle,
            ),
            (
                "Failed mounting bundle: Failed to open /dev/mapper/control: No such file or directory",
                Reason::Other,
            ),
            (
                "Installation error: Compatible mismatch: Expected 'a' but bundle manifest has 'b'",
                Reason::WrongBoard,
            ),
            ("No signature CN matching allowed-signer-cns found", Reason::BadSignature),
            ("Signature size (7953764061277971305) exceeds bundle size", Reason::NotABundle),
            ("Bundle size (12) is too small", Reason::NotABundle),
            ("Failed to parse signature", Reason::NotABundle),
            ("Bundle format 'plain' not allowed", Reason::NotABundle),
            ("Failed updating slot rootfs.1: failed to write data: No space left on device", Reason::NoSpace),
            ("Slot (33554432 bytes) is too small for image (67108864 bytes).", Reason::NoSpace),
            ("Failed to check bundle: bundle payload is corrupted", Reason::Damaged),
            ("failed to copy: Input/output error", Reason::Damaged),
            (
                "Failed to stream bundle https://x/y: failed to configure streaming: Timeout was reached",
                Reason::DownloadFailed,
            ),
            ("not found: HTTP response code 404", Reason::DownloadFailed),
            ("Failed to contact rauc service: Already processing a different method", Reason::Busy),
            ("RAUC service disappeared", Reason::Interrupted),
            ("Version mismatch: Expected at least '2' but bundle manifest has '1'", Reason::Other),
            ("", Reason::Other),
        ] {
            let mut output = Output::default();
            output.said(&format!("LastError: {words}"));
            let failure = output.end(Exit::Code(1)).unwrap_err();
            assert_eq!(failure.reason, reason, "{words}");
            assert!(
                failure.text.contains(words) && failure.text.starts_with(reason.sentence()),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn without_a_last_error_the_complaints_say_why() {
        let mut output = Output::default();
        for number in 0..20 {
            output.complained(&format!("noise {number}"));
        }
        output.complained("No such file: /nowhere");
        let failure = output.end(Exit::Code(1)).unwrap_err();
        assert_eq!(failure.reason, Reason::BadSource);
        assert!(!failure.text.contains("noise 0;"), "{failure:?}");
    }

    #[test]
    fn a_killed_installation_was_interrupted() {
        assert_eq!(Output::default().end(Exit::Signal).unwrap_err().reason, Reason::Interrupted);
        let mut output = Output::default();
        output.said("LastError: Compatible mismatch: x");
        assert_eq!(output.end(Exit::Signal).unwrap_err().reason, Reason::WrongBoard);
    }

    proptest! {
        #[test]
        fn no_output_breaks_the_reading_of_it(lines in proptest::collection::vec(".*", 0..30)) {
            let mut output = Output::default();
            for line in &lines {
                if let Some(step) = output.said(line) {
                    prop_assert!(step.percent <= 100);
                }
                output.complained(line);
            }
            prop_assert!(output.end(Exit::Code(2)).is_err());
        }
    }
}
