//! A file of serial numbers of certificates: hex, one a line, as `openssl x509 -noout -serial` prints them.
//!
//! ```text
//! # press 3, stolen in March
//! 3A:5F:00:91
//! serial=7c01
//! ```

use std::collections::BTreeSet;

/// Most serial numbers of one file.
pub const SERIALS_MAX: usize = 20_000;

/// Longest serial number, bytes (RFC 5280, 4.1.2.2: 20, and some authorities take more).
const SERIAL_BYTES_MAX: usize = 40;

/// A serial number without zeros at its beginning.
pub type Serial = Vec<u8>;

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerialsError {
    /// A line is no serial number.
    #[error(
        "has no serial number in line {line}, expected hex such as 3A5F0091 (openssl x509 -noout -serial -in CERTIFICATE)"
    )]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// There are too many.
    #[error("has more than {SERIALS_MAX} serial numbers: make a list of the authority with `crl` instead")]
    TooMany,
}

/// Reads such a file. Empty lines and what stands behind `#` do not count.
///
/// # Errors
/// The first line that is no serial number.
pub fn parse(bytes: &[u8]) -> Result<BTreeSet<Serial>, SerialsError> {
    let mut found = BTreeSet::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let fault = SerialsError::Line { line: index + 1 };
        let line = std::str::from_utf8(line).map_err(|_| fault.clone())?;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        found.insert(serial(line).ok_or(fault)?);
        if found.len() > SERIALS_MAX {
            return Err(SerialsError::TooMany);
        }
    }
    Ok(found)
}

/// The serial number that hex digits say, which may have colons between them.
fn serial(text: &str) -> Option<Serial> {
    let text = text.strip_prefix("serial=").unwrap_or(text);
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut digits: Vec<u8> = Vec::with_capacity(text.len());
    for c in text.chars().filter(|c| *c != ':') {
        digits.push(u8::try_from(c.to_digit(16)?).ok()?);
    }
    if digits.is_empty() || digits.len() > 2 * SERIAL_BYTES_MAX {
        return None;
    }
    if digits.len() % 2 == 1 {
        digits.insert(0, 0);
    }
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    Some(plain(&bytes))
}

/// A serial number as DER has it, without zeros at its beginning.
#[must_use]
pub fn plain(bytes: &[u8]) -> Serial {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read_as_programs_print_them() {
        let text = "# stolen\n3A:5F:00:91\r\n\nserial=7c01 # press 3\n0x00ff\nA\n";
        let expected: BTreeSet<Serial> =
            [vec![0x3a, 0x5f, 0, 0x91], vec![0x7c, 1], vec![0xff], vec![0x0a]].into();
        assert_eq!(parse(text.as_bytes()), Ok(expected));
        assert_eq!(parse(b""), Ok(BTreeSet::new()));
    }

    #[test]
    fn a_line_that_is_no_serial_number_is_named() {
        for (text, line) in [("xyz", 1), ("3A\n-----BEGIN", 2), ("3A\n:\n", 2), ("\u{e9}", 1)] {
            assert_eq!(parse(text.as_bytes()), Err(SerialsError::Line { line }), "{text:?}");
        }
        assert_eq!(parse(b"\xff"), Err(SerialsError::Line { line: 1 }));
        assert_eq!(parse("1".repeat(100).as_bytes()), Err(SerialsError::Line { line: 1 }));
        let many: String = (0..=SERIALS_MAX).map(|n| format!("{n:x}\n")).collect();
        assert_eq!(parse(many.as_bytes()), Err(SerialsError::TooMany));
    }
}
