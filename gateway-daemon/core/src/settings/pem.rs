//! PEM ("RFC 7468"), as far as a configuration has to look into files of certificates and of lists: the DER between two lines.

/// The DER of each section with a label, in order; `None` if one of them is damaged.
#[must_use]
pub fn sections(text: &[u8], label: &str) -> Option<Vec<Vec<u8>>> {
    let text = String::from_utf8_lossy(text);
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let sections = text.split(begin.as_str()).skip(1);
    sections.map(|section| decode(section.split_once(end.as_str())?.0)).collect()
}

/// Base64 (RFC 4648, 4) with spaces and line ends in it.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut digits: Vec<u32> = Vec::with_capacity(text.len());
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        digits.push(u32::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }));
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let word = chunk.iter().chain(&[0; 4]).take(4).fold(0, |word, digit| word << 6 | digit);
        let whole = chunk.len().checked_sub(1).filter(|whole| *whole > 0)?;
        bytes.extend_from_slice(&word.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_a_label_are_found_in_order_and_damaged_ones_are_not_taken() {
        let text = b"# of the plant\n-----BEGIN A-----\nTWFu\r\nTWE=\n-----END A-----\n-----BEGIN B-----\nTQ==\n-----END B-----\n-----BEGIN A-----\nTQ\n-----END A-----\n";
        assert_eq!(sections(text, "A"), Some(vec![b"ManMa".to_vec(), b"M".to_vec()]));
        assert_eq!(sections(text, "C"), Some(Vec::new()));
        for text in [
            "-----BEGIN A-----\nTWFu\n",
            "-----BEGIN A-----\nT?Fu\n-----END A-----",
            "-----BEGIN A-----\nTWFuT\n-----END A-----",
        ] {
            assert_eq!(sections(text.as_bytes(), "A"), None, "{text}");
        }
        assert_eq!(sections(b"\xff\xfe", "A"), Some(Vec::new()));
    }
}
