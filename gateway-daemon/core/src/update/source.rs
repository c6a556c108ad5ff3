//! Where an update may come from. The text reaches a program that runs as root, so nothing but a plain path or URL passes.

use std::fmt;

/// Longest path or URL, bytes: what browsers and servers take, too.
pub const SOURCE_BYTES_MAX: usize = 2048;

/// A source that may be handed to `rauc install`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file's full path.
    File(String),
    /// `https://`, or `http://`.
    Url(String),
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing.
    #[error("there is neither a file nor a URL")]
    Empty,
    /// Too much.
    #[error("it has {0} bytes, expected at most {SOURCE_BYTES_MAX}")]
    Long(usize),
    /// Control characters, or spaces in a URL.
    #[error("it has characters that do not belong there")]
    Characters,
    /// `ftp://` and others.
    #[error("it is neither a file's full path, such as /tmp/update.raucb, nor the URL of a web server")]
    Kind,
    /// A file, and the cloud named it.
    #[error("a command of the cloud names a URL, and no file of the gateway")]
    OfCloud,
    /// `https://` and nothing.
    #[error("the URL names no server")]
    Host,
    /// `https://user:password@host/`.
    #[error(
        "the URL has a user name or password before the server's name, which would be seen by others: leave it out"
    )]
    Login,
    /// `http://` where it is not allowed.
    #[error(
        "http:// is not allowed: use https://, or set allow_http = true below [update] of gateway.toml, a file of root"
    )]
    Plain,
}

impl Source {
    /// Checks a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, SourceError> {
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        if text.len() > SOURCE_BYTES_MAX {
            return Err(SourceError::Long(text.len()));
        }
        if text.contains(char::is_control) {
            return Err(SourceError::Characters);
        }
        // An option of the program would begin with a dash: neither of these can.
        if text.starts_with('/') {
            return Ok(Self::File(text.to_owned()));
        }
        let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or(SourceError::Kind)?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SourceError::Characters);
        }
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.contains('@') {
            return Err(SourceError::Login);
        }
        if host.is_empty() || host.starts_with(['-', ':']) {
            return Err(SourceError::Host);
        }
        Ok(Self::Url(text.to_owned()))
    }

    /// A source that the cloud may name: a URL, and without `http` an encrypted one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_cloud(text: &str, http: bool) -> Result<Self, SourceError> {
        match Self::new(text)? {
            Self::File(_) => Err(SourceError::OfCloud),
            url @ Self::Url(_) => url.encrypted_unless(http),
        }
    }

    /// Refuses what is fetched without encryption, where that is not allowed.
    ///
    /// # Errors
    /// It would be.
    pub fn encrypted_unless(self, http: bool) -> Result<Self, SourceError> {
        match self {
            Self::Url(url) if !http && url.starts_with("http://") => Err(SourceError::Plain),
            source => Ok(source),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::File(text) | Self::Url(text) => text,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    #[test]
    fn paths_and_urls_pass_and_nothing_else_does() {
        for text in [
            "/tmp/a.raucb",
            "/media/stick 1/ü.raucb",
            "https://h/a.raucb",
            "http://h:8080/a?b=c",
            "https://[::1]/a",
        ] {
            assert_eq!(Source::new(text).unwrap().as_str(), text);
        }
        for (text, fault) in [
            ("", SourceError::Empty),
            ("--ignore-compatible", SourceError::Kind),
            ("-", SourceError::Kind),
            ("update.raucb", SourceError::Kind),
            ("../update.raucb", SourceError::Kind),
            ("file:///tmp/a.raucb", SourceError::Kind),
            ("ftp://h/a", SourceError::Kind),
            ("HTTPS://h/a", SourceError::Kind),
            ("https://", SourceError::Host),
            ("https:///a", SourceError::Host),
            ("https://-h/a", SourceError::Host),
            ("https://user:secret@h/a", SourceError::Login),
            ("https://h/a b", SourceError::Characters),
            ("https://h/\u{e4}", SourceError::Characters),
            ("/tmp/a\nb", SourceError::Characters),
            ("/tmp/a\0b", SourceError::Characters),
        ] {
            assert_eq!(Source::new(text), Err(fault), "{text:?}");
        }
        let long = format!("/{}", "a".repeat(SOURCE_BYTES_MAX));
        assert_eq!(Source::new(&long), Err(SourceError::Long(SOURCE_BYTES_MAX + 1)));
    }

    #[test]
    fn the_cloud_may_name_no_file_and_plain_http_only_where_it_is_allowed() {
        assert_eq!(Source::of_cloud("/tmp/a.raucb", true), Err(SourceError::OfCloud));
        assert_eq!(Source::of_cloud("http://h/a", false), Err(SourceError::Plain));
        assert!(Source::of_cloud("http://h/a", true).is_ok());
        assert!(Source::of_cloud("https://h/a", false).is_ok());
    }

    #[test]
    fn what_is_refused_is_not_named_as_what_was_expected() {
        let told = |fault: SourceError| {
            let failure = crate::update::Failure::with(crate::update::Reason::BadSource, &fault.to_string());
            let (expected, why) = failure.text.split_once(" (").unwrap();
            (expected.to_owned(), why.to_owned())
        };
        let (expected, why) = told(Source::of_cloud("http://h/a", false).unwrap_err());
        assert!(!expected.contains("http://") && why.contains("allow_http = true"), "{expected}: {why}");
        let (expected, why) = told(Source::new("ftp://h/a").unwrap_err());
        assert!(expected.contains("https://") && !why.contains("expected"), "{expected}: {why}");
        let (expected, why) = told(Source::of_cloud("/etc/passwd", true).unwrap_err());
        assert!(expected.contains("at the machine a file") && why.contains("no file"), "{expected}: {why}");
    }

    proptest! {
        #[test]
        fn whatever_passes_can_not_be_taken_for_an_option(text in "-?[a-z/:-]{0,4}.*") {
            if let Ok(source) = Source::new(&text) {
                prop_assert!(!source.as_str().starts_with('-'));
                prop_assert!(!source.as_str().contains(char::is_control));
            }
        }
    }
}
