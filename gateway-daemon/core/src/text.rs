//! Text of others on its way to a person: what a terminal would obey, and what turns or hides the text around it, is taken out.
//!
//! Pure: text in, text out.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Stands in the place of a character that is not shown.
const MARK: char = '\u{b7}';

/// Whether a character is nothing to be read: a control character (C0 and C1, among them line breaks), or one that is invisible or turns the text around it
/// ("Unicode Bidirectional Algorithm", UAX 9).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// With a mark for each character that is not shown, but for those that are `kept`.
#[must_use]
pub fn marked<'t>(text: &'t str, kept: &[char]) -> Cow<'t, str> {
    let hidden = |c: char| is_hidden(c) && !kept.contains(&c);
    if text.contains(hidden) {
        text.replace(hidden, MARK.encode_utf8(&mut [0; 4])).into()
    } else {
        text.into()
    }
}

/// One line: characters that are not shown, line breaks among them, become spaces, and spaces in a row one.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return text.into();
    }
    text.replace(is_hidden, " ").split_whitespace().collect::<Vec<_>>().join(" ").into()
}

/// JSON whose texts a terminal shows as they are: what is hidden is written `\uXXXX`. The line breaks between its values stay.
#[must_use]
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    let hidden = |c: char| is_hidden(c) && c != '\n';
    if !json.contains(hidden) {
        return json.into();
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[31m\u{9b}2J\r\nb\u{202e}c\u{200b}\u{e0041}\u{7f}";

    #[test]
    fn what_a_terminal_would_obey_is_marked_and_plain_text_of_any_language_stays() {
        assert_eq!(marked(HOSTILE, &['\n']), "a·[31m·2J·\nb·c···");
        for plain in ["21.5 °C", "Zähler 1", "电表", "عداد", "🏭", ""] {
            assert!(matches!(marked(plain, &[]), Cow::Borrowed(_)), "{plain}");
            assert_eq!((&*one_line(plain), &*escaped_json(plain)), (plain, plain));
        }
    }

    #[test]
    fn a_text_of_several_lines_becomes_one() {
        assert_eq!(
            one_line("*** in database main ***\nPage 3:  never used\n"),
            "*** in database main *** Page 3: never used"
        );
        assert_eq!(one_line(HOSTILE), "a [31m 2J b c");
        assert_eq!(one_line("two  spaces"), "two  spaces");
    }

    #[test]
    fn escaped_json_means_the_same_and_has_nothing_hidden() {
        let json = "{\n  \"client\": \"\u{9b}\u{202e}\u{e0041}\u{7f}\u{fffd}é\"\n}";
        let escaped = escaped_json(json);
        assert_eq!(escaped, "{\n  \"client\": \"\\u009b\\u202e\\udb40\\udc41\\u007f\u{fffd}é\"\n}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&escaped), value(json));
    }
}
