//! Answers: how long one must be, and whether it is the answer to its query.

use gateway_core::poll::request::{Answer, LineFault, Query, Table};

use super::{EXCEPTION_BIT, MEI_IDENTIFY, PDU_BYTES_MAX, encode, function, to_words, unpack_bits};

/// How long the answer PDU is, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// An answer to this query that begins like this has exactly so many bytes.
    Exactly(usize),
    /// More bytes are needed to know; the answer has at least so many.
    AtLeast(usize),
    /// No answer to this query begins like this.
    Never,
}

/// Tells the length of the answer to `query` from its first bytes `head` (any number of them, none included).
#[must_use]
pub fn expect(query: &Query, head: &[u8]) -> Expect {
    match head.first() {
        None => Expect::AtLeast(2),
        Some(&code) if code == function(query) | EXCEPTION_BIT => Expect::Exactly(2),
        Some(&code) if code != function(query) => Expect::Never,
        Some(_) => match counted(query) {
            Some(bytes) if head.get(1).is_some_and(|count| usize::from(*count) != bytes) => Expect::Never,
            Some(bytes) => Expect::Exactly(2 + bytes),
            None => expect_uncounted(query, head),
        },
    }
}

/// Length of a normal answer, if the query alone fixes it (all but 43/14).
#[must_use]
pub fn normal_len(query: &Query) -> Option<usize> {
    match counted(query) {
        Some(bytes) => Some(2 + bytes),
        None => match query {
            Query::MaskWrite { .. } => Some(7),
            Query::Identify { .. } => None,
            _ => Some(5),
        },
    }
}

/// Reads `pdu` as the answer to `query`.
///
/// # Errors
/// [`LineFault::Short`] and [`LineFault::Long`] when it begins like the answer and has the wrong length or byte count,
/// [`LineFault::Function`] when the function is another one, [`LineFault::Mismatch`] when echoed fields differ.
pub fn match_answer(query: &Query, pdu: &[u8]) -> Result<Answer, LineFault> {
    match expect(query, pdu) {
        Expect::Never => return Err(unlike(query, pdu)),
        Expect::AtLeast(_) => return Err(LineFault::Short),
        Expect::Exactly(len) if pdu.len() < len => return Err(LineFault::Short),
        Expect::Exactly(len) if pdu.len() > len => return Err(LineFault::Long),
        Expect::Exactly(_) => {}
    }
    if pdu[0] & EXCEPTION_BIT != 0 {
        return Ok(Answer::Exception(pdu[1]));
    }
    match query {
        Query::Read { table: Table::Coil | Table::Discrete, count, .. } => {
            Ok(Answer::Bits(unpack_bits(&pdu[2..], usize::from(*count))))
        }
        Query::Read { .. } | Query::ReadWrite { .. } => Ok(Answer::Registers(to_words(&pdu[2..]))),
        Query::Identify { code, object } => identity(*code, *object, pdu),
        _ => {
            let mut request = Vec::with_capacity(PDU_BYTES_MAX);
            encode(query, &mut request).map_err(|_| LineFault::Mismatch)?;
            // 5, 6 and 22 echo the whole request, 15 and 16 its address and count.
            let same = request.get(..pdu.len()).is_some_and(|echo| echo == pdu);
            if same { Ok(Answer::Done) } else { Err(LineFault::Mismatch) }
        }
    }
}

/// Why no answer to `query` begins like this.
fn unlike(query: &Query, pdu: &[u8]) -> LineFault {
    match (pdu.first(), counted(query), pdu.get(1)) {
        (Some(code), ..) if *code & !EXCEPTION_BIT != function(query) => LineFault::Function(*code),
        (_, Some(bytes), Some(count)) if usize::from(*count) < bytes => LineFault::Short,
        (_, Some(bytes), Some(count)) if usize::from(*count) > bytes => LineFault::Long,
        _ => LineFault::Mismatch,
    }
}

/// Bytes after the byte count, for functions whose answer has one.
fn counted(query: &Query) -> Option<usize> {
    match query {
        Query::Read { table: Table::Coil | Table::Discrete, count, .. } => {
            Some(usize::from(count.div_ceil(8)))
        }
        Query::Read { count, .. } | Query::ReadWrite { read_count: count, .. } => {
            Some(usize::from(*count) * 2)
        }
        _ => None,
    }
}

fn expect_uncounted(query: &Query, head: &[u8]) -> Expect {
    match query {
        Query::MaskWrite { .. } => Expect::Exactly(7),
        Query::Identify { code, .. } => expect_identity(*code, head),
        _ => Expect::Exactly(5),
    }
}

/// Bytes of a 43/14 answer before its objects: function, MEI type, code, conformity, more, next id, number of objects.
const IDENTITY_HEAD: usize = 7;

fn expect_identity(code: u8, head: &[u8]) -> Expect {
    if head.get(1).is_some_and(|mei| *mei != MEI_IDENTIFY) || head.get(2).is_some_and(|c| *c != code) {
        return Expect::Never;
    }
    let Some(&objects) = head.get(IDENTITY_HEAD - 1) else {
        return Expect::AtLeast(IDENTITY_HEAD);
    };
    let mut len = IDENTITY_HEAD;
    for left in (0..usize::from(objects)).rev() {
        let Some(&bytes) = head.get(len + 1) else {
            // Each object still to come has at least its id and length.
            return Expect::AtLeast((len + 2 + 2 * left).min(PDU_BYTES_MAX));
        };
        len += 2 + usize::from(bytes);
        if len > PDU_BYTES_MAX {
            return Expect::Never;
        }
    }
    Expect::Exactly(len)
}

/// Objects of a 43/14 answer whose length [`expect_identity`] has checked.
fn identity(code: u8, object: u8, pdu: &[u8]) -> Result<Answer, LineFault> {
    let more = match (pdu[4], pdu[5]) {
        (0, _) => None,
        // "More follows" that points back would make the reader ask for ever.
        (0xFF, next) if code != 4 && next > object => Some(next),
        _ => return Err(LineFault::Mismatch),
    };
    let mut objects = Vec::with_capacity(usize::from(pdu[6]));
    let mut rest = &pdu[IDENTITY_HEAD..];
    while let [id, len, tail @ ..] = rest {
        let Some((text, after)) = tail.split_at_checked(usize::from(*len)) else {
            return Err(LineFault::Short);
        };
        objects.push((*id, text.to_vec()));
        rest = after;
    }
    if code == 4 && objects.iter().any(|(id, _)| *id != object) {
        return Err(LineFault::Mismatch);
    }
    Ok(Answer::Identity { objects, more })
}
