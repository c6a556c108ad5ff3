//! Lists of certificates that their authorities have called back ("RFC 5280", 5), as far as a person has to be told of them: whose they are, and until when
//! they are good. Nothing is verified here; rustls does that in the handshake.
//!
//! ```text
//! PEM --pem::sections--> DER --List::read--> issuer, due, serial numbers --remarks--> sentences
//! ```

use std::collections::BTreeSet;
use std::fmt;

use super::der::Der;
use super::serials::{Serial, plain};

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// Parts of a name that are shown, of "X.520": the last byte below 2.5.4.
const PARTS: [(u8, &str); 4] = [(3, "CN"), (11, "OU"), (10, "O"), (6, "C")];

/// Most names in a remark.
const NAMES_MAX: usize = 4;

/// What is shown of a name, characters.
const NAME_CHARS_MAX: usize = 128;

/// A moment of a list or of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: u64,
    /// Year, month and day.
    pub day: (u64, u64, u64),
}

impl Moment {
    /// The day as a text: `2026-11-30`.
    #[must_use]
    pub fn date(&self) -> String {
        let (year, month, day) = self.day;
        format!("{year}-{month:02}-{day:02}")
    }
}

/// One list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<'a> {
    /// Who issued it: a name, in DER.
    pub issuer: &'a [u8],
    /// When the next one is due, if it says so.
    pub due: Option<Moment>,
    /// The certificates that it calls back.
    pub serials: BTreeSet<Serial>,
}

impl<'a> List<'a> {
    /// Reads a list in DER; `None` is one that cannot be understood.
    #[must_use]
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut fields = Der::of(der).enter(SEQUENCE)?.enter(SEQUENCE)?;
        // Version 2 of lists says so; version 1 does not.
        if fields.peek() == Some(INTEGER) {
            fields.next()?;
        }
        fields.next()?;
        let (_, issuer) = fields.next()?;
        fields.next()?;
        let due = match fields.peek() {
            Some(UTC_TIME | GENERALIZED_TIME) => moment(fields.next()?),
            _ => None,
        };
        let mut serials = BTreeSet::new();
        if fields.peek() == Some(SEQUENCE) {
            let mut entries = fields.enter(SEQUENCE)?;
            while let Some(mut entry) = entries.enter(SEQUENCE) {
                serials.insert(plain(entry.enter(INTEGER)?.rest()));
            }
        }
        Some(Self { issuer, due, serials })
    }
}

/// The subject of a certificate in DER: a name, in DER.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let mut fields = Der::of(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
    if fields.peek() == Some(VERSION) {
        fields.next()?;
    }
    // Behind serial number, signature, issuer and validity.
    fields.nth(4).map(|(_, subject)| subject)
}

/// What is odd about lists beside the authorities whose clients they are held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Lists of others: they call nobody back here.
    Foreign {
        /// Who issued them.
        issuers: Vec<String>,
        /// Whose clients come here.
        authorities: Vec<String>,
    },
    /// A list that its authority should have renewed.
    Late {
        /// Who.
        issuer: String,
        /// By when.
        due: String,
    },
}

/// Looks at lists. Without `authorities` nobody knows whose they should be; `now_s` is the wall time, seconds since 1970.
#[must_use]
pub fn remarks(lists: &[List<'_>], authorities: &[&[u8]], now_s: u64) -> Vec<Remark> {
    let foreign = lists.iter().filter(|list| !authorities.is_empty() && !authorities.contains(&list.issuer));
    let issuers: BTreeSet<&[u8]> = foreign.map(|list| list.issuer).collect();
    let mut remarks = Vec::new();
    if !issuers.is_empty() {
        let names = |ders: &mut dyn Iterator<Item = &[u8]>| ders.take(NAMES_MAX).map(name).collect();
        remarks.push(Remark::Foreign {
            issuers: names(&mut issuers.into_iter()),
            authorities: names(&mut authorities.iter().copied()),
        });
    }
    for list in lists {
        if let Some(due) = list.due.as_ref().filter(|due| due.seconds < now_s) {
            remarks.push(Remark::Late { issuer: name(list.issuer), due: due.date() });
        }
    }
    remarks
}

/// Behind the name of the file.
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { issuers, authorities } => write!(
                f,
                "has a list that was issued by {}, and `client_ca` holds {}: it calls nobody back, unless its authority stands between these and the \
                 clients; take the list of the authority in `client_ca`",
                issuers.join(" and by "),
                authorities.join(" and ")
            ),
            Self::Late { issuer, due } => write!(
                f,
                "has a list of {issuer} that should have been renewed by {due}, or the clock of this gateway is wrong: what it says still counts; ask the \
                 authority for the next one"
            ),
        }
    }
}

/// A name as a person reads it: `CN=plant authority, O=Plant 7`, cut and escaped.
fn name(der: &[u8]) -> String {
    let mut parts: Vec<(usize, String)> = Vec::new();
    for (_, set) in Der::of(der).filter(|(tag, _)| *tag == SET) {
        let mut attributes = Der::of(set);
        while let Some(mut attribute) = attributes.enter(SEQUENCE) {
            let kind = attribute.enter(OID).map(|kind| kind.rest());
            let place = PARTS.iter().position(|(last, _)| kind == Some(&[0x55, 0x04, *last]));
            if let (Some(place), Some((_, value))) = (place, attribute.next()) {
                parts.push((place, format!("{}={}", PARTS[place].1, String::from_utf8_lossy(value))));
            }
        }
    }
    parts.sort();
    let text = parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(", ");
    let text = if text.is_empty() { "somebody without a name" } else { &text };
    let cut: String = text.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
    format!("\"{cut}\"")
}

/// A time of ASN.1. Only times in UTC with seconds are in lists and certificates (RFC 5280, 4.1.2.5 and 5.1.2.4).
pub(super) fn moment((tag, text): (u8, &[u8])) -> Option<Moment> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let year_digits = if tag == UTC_TIME { 2 } else { 4 };
    if text.len() != year_digits + 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at(year_digits);
    let year: u64 = year.parse().ok()?;
    let year = match year_digits {
        2 if year >= 50 => 1900 + year,
        2 => 2000 + year,
        _ => year,
    };
    let two = |at: usize| rest[2 * at..2 * at + 2].parse::<u64>().ok();
    let (month, day) = (two(0)?, two(1)?);
    let (hour, minute, second) = (two(2)?, two(3)?, two(4)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of the civil calendar; March begins the year, so that the leap day is its last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    let seconds = ((days - 719_468) * 24 + hour) * 3600 + minute * 60 + second;
    Some(Moment { seconds, day: (year, month, day) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_lists_are_understood() {
        let seconds = |time| moment(time).map(|moment| moment.seconds);
        assert_eq!(seconds((UTC_TIME, b"700101000000Z")), Some(0));
        assert_eq!(seconds((UTC_TIME, b"260301000000Z")), Some(1_772_323_200));
        assert_eq!(seconds((GENERALIZED_TIME, b"20991231235959Z")), Some(4_102_444_799));
        for text in [&b"2603010000Z"[..], b"260301000000", b"269901000000Z", b"26030100000xZ", b"", b"\xff"] {
            assert_eq!(seconds((UTC_TIME, text)), None);
        }
    }

    #[test]
    fn what_is_no_list_is_not_understood_and_never_stops_us() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x02\x30\x00", b"\x30\x84\xff\xff\xff\xff"] {
            assert_eq!(List::read(bytes), None);
            assert_eq!(subject(bytes), None);
        }
        assert_eq!(name(b"\x31\x04\x30\x02"), "\"somebody without a name\"");
    }

    /// A name with this common name, without its own header.
    fn named(text: &str) -> Vec<u8> {
        let element =
            |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let attribute = [element(OID, &[0x55, 0x04, 3]), element(0x0c, text.as_bytes())].concat();
        element(SET, &element(SEQUENCE, &attribute))
    }

    #[test]
    fn a_list_of_somebody_else_and_a_late_one_are_named_and_right_ones_are_not() {
        let (plant, other) = (named("plant"), named("other\n\u{1b}[2J"));
        let due = |text| moment((UTC_TIME, text));
        let list = |issuer, text| List { issuer, due: due(text), serials: BTreeSet::new() };
        let check = |lists: &[List<'_>], authorities: &[&[u8]], expected: &[&str]| {
            let found: Vec<_> =
                remarks(lists, authorities, 1_000_000_000).iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found}");
            }
        };
        let (late, good): (&[u8], &[u8]) = (b"010908000000Z", b"330518000000Z");
        check(&[list(&plant, good)], &[&plant], &[]);
        check(&[list(&plant, good)], &[&other, &plant], &[]);
        check(&[list(&plant, good)], &[], &[]);
        check(
            &[list(&plant, good), list(&other, good)],
            &[&plant],
            &[
                "has a list that was issued by \"CN=other\\n\\u{1b}[2J\", and `client_ca` holds \"CN=plant\": it calls nobody back",
            ],
        );
        check(
            &[list(&plant, late)],
            &[&plant],
            &["has a list of \"CN=plant\" that should have been renewed by 2001-09-08, or the clock"],
        );
    }
}
