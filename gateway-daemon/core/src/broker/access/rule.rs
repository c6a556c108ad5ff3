//! One access rule as text: `publish sensor/%c/#`.

use std::sync::Arc;

use super::Identity;
use crate::broker::topic::{TopicError, TopicFilter};

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Publishing.
    Publish,
    /// Subscribing, and being given messages.
    Subscribe,
    /// Both.
    Any,
}

/// One access rule, such as `allow publish "sensor/%c/#"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Allowed or refused.
    pub allow: bool,
    /// What.
    pub deed: Deed,
    /// A topic filter in which `%c` stands for the client id, `%u` for the user and `%%` for a `%`, each as a whole level or part of
    /// one. Checked by [`Rule::parse`].
    pub filter: Arc<str>,
}

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// There is no filter after the deed.
    #[error("no topic filter follows the deed")]
    Alone,
    /// The first word is not a deed.
    #[error("{0:?} is no deed")]
    Deed(String),
    /// `%` is followed by something that stands for nothing.
    #[error("{0:?} stands for nothing")]
    Placeholder(String),
    /// What follows is not a topic filter.
    #[error(transparent)]
    Filter(#[from] TopicError),
}

impl Rule {
    /// Reads `DEED FILTER`, where the deed is `publish`, `subscribe` or `any`.
    ///
    /// # Errors
    /// Says which part of the text is wrong.
    pub fn parse(allow: bool, text: &str) -> Result<Self, RuleError> {
        let text = text.trim();
        let (word, filter) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let deed = match word {
            "publish" => Deed::Publish,
            "subscribe" => Deed::Subscribe,
            "any" => Deed::Any,
            word => return Err(RuleError::Deed(word.to_owned())),
        };
        let filter = filter.trim_start();
        if filter.is_empty() {
            return Err(RuleError::Alone);
        }
        check(filter)?;
        Ok(Self { allow, deed, filter: filter.into() })
    }

    /// Whether it names one topic: no wildcard, and no placeholder that a client chooses.
    pub(super) fn names_a_topic(&self) -> bool {
        !self.filter.contains(['+', '#', '%'])
    }

    /// The filter for one connection; the `bool` says whether its names fit. A name that does not fit makes an allowing rule vanish and a
    /// denying one cover everything below the level before the name, so that nobody gains anything by a strange name.
    pub(super) fn filled(&self, who: &Identity) -> (Option<TopicFilter>, bool) {
        if !self.filter.contains('%') {
            return (TopicFilter::new(self.filter.clone()).ok(), true);
        }
        match fill(&self.filter, Some(&who.client), who.user.as_deref()) {
            Some(text) => (TopicFilter::new(text).ok(), true),
            None if self.allow => (None, false),
            None => (TopicFilter::new(widened(&self.filter)).ok(), false),
        }
    }
}

/// Whether a template is a filter whatever stands in its placeholders.
fn check(template: &str) -> Result<(), RuleError> {
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        let after = &rest[at + 1..];
        let Some(word) = after.chars().next().filter(|c| matches!(c, 'c' | 'u' | '%')) else {
            let shown: String = rest[at..].chars().take(2).collect();
            return Err(RuleError::Placeholder(shown));
        };
        rest = &after[word.len_utf8()..];
    }
    let filled = fill(template, Some("x"), Some("x")).unwrap_or_default();
    TopicFilter::new(filled)?;
    Ok(())
}

/// Whether a name can stand in a level without becoming a wildcard, more levels, or none.
fn fits(name: &str, begins_topic: bool) -> bool {
    let becomes_reserved = begins_topic && name.starts_with('$');
    !name.is_empty() && !name.contains(['+', '#', '/', '\0']) && !becomes_reserved
}

/// The template with its names; `None` when one of them is missing or does not fit. A name is never read as a template.
fn fill(template: &str, client: Option<&str>, user: Option<&str>) -> Option<String> {
    let mut out = String::with_capacity(template.len() + 16);
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let name = match chars.next() {
            Some('c') => client?,
            Some('u') => user?,
            _ => {
                out.push('%');
                continue;
            }
        };
        if !fits(name, out.is_empty()) {
            return None;
        }
        out.push_str(name);
    }
    Some(out)
}

/// Everything below the levels before the first name.
fn widened(template: &str) -> String {
    let mut out = String::new();
    for level in template.split('/') {
        if level.replace("%%", "").contains('%') {
            break;
        }
        out.push_str(&level.replace("%%", "%"));
        out.push('/');
    }
    out.push('#');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(client: &str, user: Option<&str>) -> Identity {
        Identity { client: client.into(), user: user.map(Into::into) }
    }

    fn filled(allow: bool, text: &str, client: &str, user: Option<&str>) -> (Option<String>, bool) {
        let rule = Rule::parse(allow, text).unwrap();
        let (filter, fits) = rule.filled(&who(client, user));
        (filter.map(|f| f.as_str().to_owned()), fits)
    }

    #[test]
    fn rules_are_read_with_their_deed_and_filter() {
        let rule = Rule::parse(true, "publish sensor/%c/#").unwrap();
        assert_eq!(rule, Rule { allow: true, deed: Deed::Publish, filter: "sensor/%c/#".into() });
        assert_eq!(Rule::parse(false, " any   a b/+ ").unwrap().filter.as_ref(), "a b/+");
        assert_eq!(Rule::parse(true, "subscribe #").unwrap().deed, Deed::Subscribe);
    }

    #[test]
    fn what_is_no_rule_says_why() {
        let error = |text: &str| Rule::parse(true, text).unwrap_err();
        assert_eq!(error("publish"), RuleError::Alone);
        assert_eq!(error("any "), RuleError::Alone);
        assert_eq!(error("readwrite a/#"), RuleError::Deed("readwrite".into()));
        assert_eq!(error("a/#"), RuleError::Deed("a/#".into()));
        assert_eq!(error("publish a/%x"), RuleError::Placeholder("%x".into()));
        assert_eq!(error("publish a/%"), RuleError::Placeholder("%".into()));
        assert_eq!(error("publish a/%ü"), RuleError::Placeholder("%ü".into()));
        assert!(matches!(error("publish a#"), RuleError::Filter(TopicError::NotAlone(_))));
        assert!(matches!(error("publish %c+"), RuleError::Filter(TopicError::NotAlone(_))));
        assert!(matches!(error("publish #/%c"), RuleError::Filter(TopicError::HashNotLast)));
    }

    #[test]
    fn names_are_filled_in_once_and_literally() {
        assert_eq!(
            filled(true, "publish s/%c/x-%u/#", "plc", Some("me")),
            (Some("s/plc/x-me/#".into()), true)
        );
        assert_eq!(filled(true, "publish s/%c", "%u", Some("me")), (Some("s/%u".into()), true));
        assert_eq!(filled(true, "publish 100%%/%c", "plc", None), (Some("100%/plc".into()), true));
    }

    #[test]
    fn a_name_that_is_more_than_a_level_never_opens_anything() {
        for client in ["+", "#", "a/b", "/", "", "a+", "x#", "a\0"] {
            assert_eq!(filled(true, "publish s/%c/#", client, None), (None, false), "{client:?}");
            assert_eq!(filled(false, "any s/%c/a", client, None), (Some("s/#".into()), false), "{client:?}");
        }
        assert_eq!(filled(true, "subscribe %c/#", "$SYS", None), (None, false));
        assert_eq!(filled(true, "subscribe a/%c", "$SYS", None), (Some("a/$SYS".into()), true));
        assert_eq!(filled(true, "subscribe a/%u", "plc", None), (None, false));
        assert_eq!(filled(false, "subscribe %u/x", "plc", None), (Some("#".into()), false));
    }
}
