//! Topics for which the standard lets a server end the connection.

/// Whether no server has a reason to end the connection for this topic alone: it has no control character (U+0001 to U+001F, U+007F to U+009F) and no
/// non-character of Unicode (MQTT 3.1.1, 1.5.3: a packet with them may be treated as an error, and mosquitto does).
pub(super) fn is_fit(topic: &str) -> bool {
    // Nearly all topics are printable ASCII.
    topic.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || topic.chars().all(is_plain)
}

fn is_plain(char: char) -> bool {
    let code = u32::from(char);
    let non_character = (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE;
    !char.is_control() && !non_character
}

#[cfg(test)]
mod tests {
    use super::is_fit;

    #[test]
    fn topics_with_control_characters_or_non_characters_are_unfit_and_others_are_fit() {
        for fit in ["a/b", "halle/größe", "\u{20ac}/x", "a b", "\u{1F600}", "\u{FFFD}", "\u{E000}"] {
            assert!(is_fit(fit), "{fit:?}");
        }
        for unfit in [
            "x/\u{1}y",
            "\u{1f}",
            "\u{7f}",
            "a\u{9f}",
            "\u{FFFE}",
            "\u{FFFF}",
            "\u{FDD0}",
            "\u{10FFFF}",
            "\0",
        ] {
            assert!(!is_fit(unfit), "{unfit:?}");
        }
    }
}
