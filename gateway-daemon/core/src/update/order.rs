//! Commands of the cloud: `{"url":"https://example.com/update.raucb","id":"42"}` on `{gateway}/update/install`.
//!
//! A retained command would come again after each restart and is never carried out. The same command may come twice, because QoS 1 says at least
//! once: it is known by its id, and without one by its text.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;

use super::reason::{Failure, Reason};
use super::source::Source;
use super::wire;

/// Largest command, bytes: a URL and an id in JSON.
pub const ORDER_BYTES_MAX: usize = wire::LINE_BYTES_MAX;

/// How the key of a command without an id begins.
const UNNAMED: &str = "hash:";

/// The id in a key, if it is one.
#[must_use]
pub fn id_of(key: Option<&String>) -> Option<String> {
    key.filter(|key| !key.starts_with(UNNAMED)).cloned()
}

/// A command that may be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What to install.
    pub source: Source,
    /// What the sender calls it.
    pub id: Option<String>,
    /// Names the command: its id, or the hash of its text.
    pub key: String,
}

/// What a message on the topic of commands is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// To be carried out.
    Order(Order),
    /// To be refused.
    Refused(Option<String>, Failure),
    /// Nothing: a retained command was taken back.
    Nothing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    url: String,
    #[serde(default)]
    id: Option<String>,
}

impl Heard {
    /// Understands a message.
    #[must_use]
    pub fn of(payload: &[u8], retained: bool, allow_http: bool) -> Self {
        if payload.is_empty() {
            return Self::Nothing;
        }
        match order(payload, allow_http) {
            _ if retained => {
                let id = serde_json::from_slice::<Command>(payload).ok().and_then(|command| command.id);
                Self::Refused(id.filter(|id| wire::is_key(id)), Failure::plain(Reason::Retained))
            }
            Ok(order) => Self::Order(order),
            Err((id, failure)) => Self::Refused(id, failure),
        }
    }
}

fn order(payload: &[u8], allow_http: bool) -> Result<Order, (Option<String>, Failure)> {
    let wrong = |words: String| (None, Failure::with(Reason::BadCommand, &words));
    if payload.len() > ORDER_BYTES_MAX {
        let bytes = payload.len();
        return Err(wrong(format!("it has {bytes} bytes, expected at most {ORDER_BYTES_MAX}")));
    }
    let Command { url, id } = serde_json::from_slice(payload).map_err(|fault| wrong(fault.to_string()))?;
    if id.as_ref().is_some_and(|id| !wire::is_key(id)) {
        let max = wire::KEY_BYTES_MAX;
        return Err(wrong(format!("an id has 1 to {max} bytes and no control characters")));
    }
    match Source::of_cloud(&url, allow_http) {
        Ok(source) => {
            let key = id.clone().unwrap_or_else(|| print(payload));
            Ok(Order { source, id, key })
        }
        Err(fault) => Err((id, Failure::with(Reason::BadSource, &fault.to_string()))),
    }
}

/// The name of a command without an id. Two texts with one print would have to be made on purpose, by one who may command anyway.
fn print(payload: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    format!("{UNNAMED}{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    fn heard(text: &str) -> Heard {
        Heard::of(text.as_bytes(), false, false)
    }

    #[test]
    fn a_command_is_known_by_its_id_and_without_one_by_its_text() {
        let Heard::Order(named) = heard(r#"{"url":"https://h/a.raucb","id":"42"}"#) else { unreachable!() };
        assert_eq!(
            (named.source.as_str(), named.id.as_deref(), &*named.key),
            ("https://h/a.raucb", Some("42"), "42")
        );
        let key = |text| match heard(text) {
            Heard::Order(order) => order.key,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(key(r#"{"url":"https://h/a"}"#), key(r#"{"url":"https://h/a"}"#));
        assert_ne!(key(r#"{"url":"https://h/a"}"#), key(r#"{"url":"https://h/b"}"#));
        assert_eq!(id_of(Some(&named.key)), named.id);
        assert_eq!((id_of(Some(&key(r#"{"url":"https://h/a"}"#))), id_of(None)), (None, None));
    }

    #[test]
    fn what_is_no_command_is_refused_with_its_reason() {
        let long = format!("{{\"url\":\"https://h/{}\"}}", "a".repeat(ORDER_BYTES_MAX));
        for (text, reason) in [
            ("update now", Reason::BadCommand),
            ("{}", Reason::BadCommand),
            ("[]", Reason::BadCommand),
            ("{\"url\":7}", Reason::BadCommand),
            ("{\"url\":\"https://h/a\",\"force\":true}", Reason::BadCommand),
            ("{\"url\":\"https://h/a\",\"id\":\"\"}", Reason::BadCommand),
            ("\u{0}", Reason::BadCommand),
            (&long, Reason::BadCommand),
            ("{\"url\":\"/etc/passwd\",\"id\":\"7\"}", Reason::BadSource),
            ("{\"url\":\"--ignore-compatible\"}", Reason::BadSource),
            ("{\"url\":\"http://h/a\"}", Reason::BadSource),
        ] {
            let Heard::Refused(_, failure) = heard(text) else { unreachable!("{text}") };
            assert_eq!(failure.reason, reason, "{text}");
        }
        assert!(matches!(Heard::of(b"{\"url\":\"http://h/a\"}", false, true), Heard::Order(_)));
    }

    #[test]
    fn a_retained_command_is_never_carried_out_and_taking_it_back_is_no_command() {
        let text = br#"{"url":"https://h/a","id":"42"}"#;
        let refused = Heard::Refused(Some("42".into()), Failure::plain(Reason::Retained));
        assert_eq!(Heard::of(text, true, true), refused);
        assert_eq!(Heard::of(b"", true, true), Heard::Nothing);
        assert_eq!(Heard::of(b"", false, true), Heard::Nothing);
    }

    proptest! {
        #[test]
        fn whatever_comes_down_is_a_url_or_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..200), retained in any::<bool>()) {
            if let Heard::Order(order) = Heard::of(&payload, retained, true) {
                prop_assert!(!retained && order.source.as_str().starts_with("http"));
            }
        }
    }
}
