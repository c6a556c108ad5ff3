//! A database as it would be if the committed frames of its log were copied into it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::log::{Gap, Log};
use super::node::node;
use crate::store::layout;

/// Bytes of a piece of the file in which the size of its pages is looked for; a multiple of every size.
const PIECE_BYTES: usize = 65_536;
/// Most pages that are read: 8 GiB in pages of 512, four bits of memory each.
const PAGES_MAX: u32 = 1 << 24;
/// Pieces that are looked at, evenly spread over the file.
const PIECES_MAX: u64 = 64;

/// Somewhere bytes can be read from at any place.
pub(in crate::store) trait Bytes {
    /// How many there are.
    fn length(&self) -> u64;
    /// Fills `into` with the bytes from a place on; false if it cannot be filled.
    fn read(&self, at: u64, into: &mut [u8]) -> bool;
}

impl Bytes for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let found = self.get(from..).and_then(|rest| rest.get(..into.len()));
        found.is_some_and(|found| {
            into.copy_from_slice(found);
            true
        })
    }
}

/// A file, as long as it was at first; none is as good as an empty one.
#[derive(Debug)]
pub(in crate::store) struct Disk<'a> {
    file: Option<&'a File>,
    length: u64,
}

impl<'a> Disk<'a> {
    /// Reads from this file. It is lent: closing any descriptor of a file that SQLite has open would end SQLite's locks on it.
    pub(in crate::store) fn of(file: Option<&'a File>) -> Self {
        let length = file.and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        Self { file, length }
    }
}

impl Bytes for Disk<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        self.file.is_some_and(|file| file.read_exact_at(into, at).is_ok())
    }
}

/// The pages of a database.
pub(in crate::store) struct Image<'a> {
    database: &'a dyn Bytes,
    log_bytes: &'a dyn Bytes,
    pub(in crate::store) log: Log,
    pub(super) page_bytes: usize,
    /// The highest page number there may be.
    pub(super) pages: u32,
    /// Whether the file is longer than what is read of it.
    cut: bool,
}

impl<'a> Image<'a> {
    /// The database with its log; either may be empty.
    pub(in crate::store) fn new(database: &'a dyn Bytes, log_bytes: &'a dyn Bytes) -> Self {
        let guess = page_bytes(database);
        let log = Log::read(log_bytes, guess);
        let page_bytes = log.page_bytes.unwrap_or(guess);
        let pages = u32::try_from(database.length().div_ceil(page_bytes as u64)).unwrap_or(u32::MAX);
        let (pages, cut) = (pages.min(PAGES_MAX), pages > PAGES_MAX);
        let mut image = Self { database, log_bytes, log, page_bytes, pages, cut };
        // A page number far beyond the file is damage, and would cost memory for each page below it.
        let reach = image.pages.saturating_add(u32::try_from(image.log.pages.len()).unwrap_or(u32::MAX));
        let reach = reach.saturating_mul(2).saturating_add(1024).min(PAGES_MAX);
        image.log.pages.retain(|page, _| *page <= reach);
        image.pages =
            image.log.pages.last_key_value().map_or(image.pages, |(last, _)| image.pages.max(*last));
        image
    }

    /// Whether something was stored that the pages do not show: the log is damaged, or the file is too long.
    pub(in crate::store) fn hides_something(&self) -> bool {
        self.log.torn || self.cut
    }

    /// Reads a page; false if there is none, or its place cannot be read. What a cut file has lost of its last page is zero.
    pub(super) fn page(&self, number: u32, into: &mut Vec<u8>) -> bool {
        into.clear();
        into.resize(self.page_bytes, 0);
        if let Some(at) = self.log.pages.get(&number) {
            return self.log_bytes.read(*at, into);
        }
        let Some(index) = number.checked_sub(1) else { return false };
        let at = u64::from(index) * self.page_bytes as u64;
        let rest = self.database.length().saturating_sub(at).min(self.page_bytes as u64);
        let rest = usize::try_from(rest).unwrap_or(0);
        rest > 0 && self.database.read(at, &mut into[..rest])
    }

    /// Gives the pages that were committed behind a damaged frame of the log.
    pub(in crate::store) fn of_gap(&mut self) -> Gap {
        std::mem::take(&mut self.log.gap)
    }

    /// Reads a page of a gap.
    pub(super) fn gap_page(&self, at: u64, into: &mut Vec<u8>) -> bool {
        into.clear();
        into.resize(self.page_bytes, 0);
        self.log_bytes.read(at, into)
    }
}

/// The size of page for which most places look like pages, whatever the header says.
fn page_bytes(database: &dyn Bytes) -> usize {
    let ours = usize::try_from(layout::PAGE_BYTES).unwrap_or(512);
    let mut found = [0_u32; 8];
    let pieces = database.length().div_ceil(PIECE_BYTES as u64);
    let step = pieces.div_ceil(PIECES_MAX).max(1);
    let mut piece = Vec::new();
    for index in (0..pieces).step_by(usize::try_from(step).unwrap_or(1)) {
        let at = index * PIECE_BYTES as u64;
        let length = usize::try_from((database.length() - at).min(PIECE_BYTES as u64)).unwrap_or(0);
        piece.clear();
        piece.resize(length, 0);
        if !database.read(at, &mut piece) {
            continue;
        }
        for (power, found) in found.iter_mut().enumerate() {
            let pages = piece.chunks_exact(512 << power).enumerate();
            let is_page = |(place, page): (usize, &[u8])| {
                let first = if index == 0 && place == 0 { 1 } else { 2 };
                node(page, first).is_some_and(|node| node.sound)
            };
            *found =
                found.saturating_add(u32::try_from(pages.filter(|page| is_page(*page)).count()).unwrap_or(0));
        }
    }
    let best = (0..found.len()).rev().max_by_key(|power| found[*power]).filter(|power| found[*power] > 0);
    best.map_or(ours, |power| 512 << power)
}
