//! The committed frames of a write-ahead log.
//!
//! The checksum of a frame goes on from that of the frame before, which is written down: a damaged frame hides nothing behind it, where SQLite stops reading. It stands
//! for its page itself when it was committed: the rows on it have checksums of their own, and the page in the database is an older one. Frames that were there
//! before the log was written from its start again have other salts.

use std::collections::BTreeMap;

use super::image::Bytes;
use super::node::four;

const MAGIC: u32 = 0x377F_0682;
const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// Most frames that are looked at: a log of 512 MB in pages of 512.
const FRAMES_MAX: u64 = 1 << 20;

/// What a log holds.
#[derive(Debug, Default)]
pub(in crate::store) struct Log {
    /// Bytes of a page; `None` if the log does not say.
    pub(super) page_bytes: Option<usize>,
    /// Where the last committed version of a page begins.
    pub(super) pages: BTreeMap<u32, u64>,
    /// What of it SQLite would not have read.
    pub(in crate::store) gap: Gap,
    /// Whether frames are damaged, or the last transaction is not whole: a power cut, or a log cut short.
    pub(in crate::store) torn: bool,
}

/// Pages that were committed behind a damaged frame.
#[derive(Debug, Default)]
pub(in crate::store) struct Gap {
    /// Their numbers and where they begin.
    pub(super) pages: BTreeMap<u32, u64>,
}

impl Gap {
    /// Whether there are any.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}

#[derive(Clone, Copy)]
struct Header {
    big_endian: bool,
    page_bytes: usize,
    salts: [u8; 8],
    /// The checksum that the first frame goes on from, if it is known.
    sum: Option<(u32, u32)>,
}

impl Log {
    /// Whether any page was committed.
    pub(in crate::store) fn holds_pages(&self) -> bool {
        !self.pages.is_empty()
    }

    /// Reads a log. `page_bytes` is the size of its pages where its own header is damaged.
    pub(in crate::store) fn read(bytes: &dyn Bytes, page_bytes: usize) -> Self {
        let mut start = [0; HEADER_BYTES + FRAME_HEADER_BYTES];
        let length = bytes.length();
        if length == 0 {
            return Self::default();
        }
        if !bytes.read(0, &mut start) {
            return Self { torn: true, ..Self::default() };
        }
        if let Some(header) = header(&start) {
            return frames(bytes, length, header);
        }
        // The salts of the first frame are those of the log.
        let mut salts = [0; 8];
        salts.copy_from_slice(&start[40..48]);
        let guess = |big_endian| frames(bytes, length, Header { big_endian, page_bytes, salts, sum: None });
        let (little, big) = (guess(false), guess(true));
        let mut best = if big.pages.len() > little.pages.len() { big } else { little };
        // Nobody knows what the first frame held.
        best.torn = true;
        best.gap.pages.clone_from(&best.pages);
        best.page_bytes = best.page_bytes.filter(|_| !best.pages.is_empty());
        best
    }
}

fn header(start: &[u8]) -> Option<Header> {
    let magic = four(start, 0)?;
    let page_bytes = usize::try_from(four(start, 8)?).ok()?;
    let big_endian = magic & 1 == 1;
    let salts = *start.get(16..)?.first_chunk()?;
    let stored = (four(start, 24)?, four(start, 28)?);
    let fits = magic & !1 == MAGIC
        && page_bytes.is_power_of_two()
        && (512..=65_536).contains(&page_bytes)
        && sum(start.get(..24)?, (0, 0), big_endian) == stored;
    fits.then_some(Header { big_endian, page_bytes, salts, sum: Some(stored) })
}

fn frames(bytes: &dyn Bytes, length: u64, header: Header) -> Log {
    let mut log = Log { page_bytes: Some(header.page_bytes), ..Log::default() };
    let frame_bytes = (FRAME_HEADER_BYTES + header.page_bytes) as u64;
    let count = (length.saturating_sub(HEADER_BYTES as u64) / frame_bytes).min(FRAMES_MAX);
    let mut frame = vec![0; FRAME_HEADER_BYTES + header.page_bytes];
    let (mut before, mut open, mut stopped, mut ours) = (header.sum, Vec::new(), false, true);
    for index in 0..count {
        let at = HEADER_BYTES as u64 + index * frame_bytes;
        let (head, page) = frame.split_at_mut(FRAME_HEADER_BYTES);
        if !bytes.read(at, head) {
            (before, stopped) = (None, true);
            continue;
        }
        let stored = (four(head, 16).unwrap_or(0), four(head, 20).unwrap_or(0));
        let number = four(head, 0).unwrap_or(0);
        ours = head[8..16] == header.salts;
        let fits = ours
            && number != 0
            && bytes.read(at + FRAME_HEADER_BYTES as u64, page)
            && before.is_some_and(|before| {
                sum(page, sum(&head[..8], before, header.big_endian), header.big_endian) == stored
            });
        before = Some(stored);
        if !fits {
            log.torn |= ours;
            stopped = true;
            if ours && number != 0 {
                open.push((number, at + FRAME_HEADER_BYTES as u64));
            }
            continue;
        }
        open.push((number, at + FRAME_HEADER_BYTES as u64));
        // Later frames are only written behind a commit: what is before this one is committed, too.
        if four(head, 4) != Some(0) {
            if stopped {
                log.gap.pages.extend(open.iter().copied());
            }
            log.pages.extend(open.drain(..));
        }
    }
    let rest = length.saturating_sub(HEADER_BYTES as u64) % frame_bytes;
    // What is left over was not committed, or cannot be known to be.
    log.torn |= !open.is_empty() || (rest > 0 && ours);
    log
}

/// Goes on with a checksum over a whole number of pairs of words.
fn sum(bytes: &[u8], (mut first, mut second): (u32, u32), big_endian: bool) -> (u32, u32) {
    let word = |at: usize| {
        let word = four(bytes, at).unwrap_or(0);
        if big_endian { word } else { word.swap_bytes() }
    };
    for at in (0..bytes.len()).step_by(8) {
        first = first.wrapping_add(word(at)).wrapping_add(second);
        second = second.wrapping_add(word(at + 4)).wrapping_add(first);
    }
    (first, second)
}
