//! Down the trees, and over the pages to which no way leads.

use std::cell::Cell as Slot;

use super::bits::Bits;
use super::image::Image;
use super::log::Gap;
use super::node::{Cell, Content, cell, four, node};

/// Longest way down from a root: SQLite makes no longer one.
pub(super) const DEPTH_MAX: usize = 20;
/// Most holes kept apart; further ones are added to the last of their table.
pub(super) const HOLES_MAX: usize = 4096;
/// Reads of overflow pages for each page of the file: rows are read twice, and once more when they are on stray pages.
pub(super) const OVERFLOW_READS: u64 = 8;
/// Longest payload: the largest MQTT packet, and what a row adds to it.
const PAYLOAD_MAX: u64 = (1 << 28) + (1 << 17);

/// Keys of a table of which not all rows can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Hole {
    /// The caller's number of the table.
    pub(in crate::store) table: usize,
    /// Keys in the hole are greater than this; `None`: it is at the start of the table.
    pub(in crate::store) above: Option<i64>,
    /// The highest key in the hole; `None`: it is at the end.
    pub(in crate::store) upto: Option<i64>,
    /// Whether no row outside the hole has its keys, so that they say how many rows are lost at most.
    pub(in crate::store) counted: bool,
}

impl Hole {
    /// All of a table.
    pub(in crate::store) fn whole(table: usize) -> Self {
        Self { table, above: None, upto: None, counted: false }
    }

    /// Whether a row may have been in the hole.
    pub(in crate::store) fn holds(&self, key: i64) -> bool {
        self.above.is_none_or(|above| above < key) && self.upto.is_none_or(|upto| key <= upto)
    }

    /// How many keys there are in it, if that says anything about its rows.
    pub(in crate::store) fn width(&self) -> Option<u64> {
        let width = self.upto?.checked_sub(self.above?)?;
        u64::try_from(width).ok().filter(|_| self.counted)
    }
}

/// What came of a way through a tree.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Walked {
    /// Rows that were not taken.
    pub(in crate::store) refused: u64,
    /// Rows that were taken from pages whose whole range of keys counts as a hole.
    pub(in crate::store) mended: u64,
}

/// A leaf to which no way leads.
pub(in crate::store) struct Stray<'a> {
    reader: &'a Reader<'a>,
    page: &'a [u8],
    cells: &'a [Option<Cell>],
}

impl Stray<'_> {
    /// The keys of its rows.
    pub(in crate::store) fn keys(&self) -> impl Iterator<Item = i64> {
        self.cells.iter().flatten().map(|cell| cell.key)
    }

    /// Gives each of its rows to `take`; a payload that cannot be read is left out.
    pub(in crate::store) fn rows(&self, take: &mut dyn FnMut(i64, &[u8])) {
        let mut payload = Vec::new();
        for cell in self.cells.iter().flatten() {
            if self.reader.payload(self.page, cell, &mut payload) {
                take(cell.key, &payload);
            }
        }
    }
}

/// Reads the tables of an image.
pub(in crate::store) struct Reader<'a> {
    image: &'a Image<'a>,
    /// Pages that a tree leads to.
    seen: Bits,
    /// Pages that two ways lead to: nobody can say to which table they belong.
    contested: Bits,
    /// Pages that were given out again by [`Reader::walk`].
    walked: Bits,
    free: Bits,
    holes: Vec<Hole>,
    overflow_left: Slot<u64>,
}

/// A page with the keys that it may hold.
#[derive(Clone, Copy)]
struct Place {
    page: u32,
    above: Option<i64>,
    upto: Option<i64>,
    depth: usize,
    /// The keys of the page above it.
    around: (Option<i64>, Option<i64>),
}

/// What a way down meets.
enum Met<'p> {
    /// A leaf; `sound` says whether the page is as it was written.
    Leaf { page: &'p [u8], cells: &'p [Option<Cell>], sound: bool },
    /// No page of a tree: its bytes, as far as there are any.
    Broken(&'p [u8]),
    /// An inner page that has lost children, or a page that does not belong here.
    Doubtful,
}

impl<'a> Reader<'a> {
    /// A reader that knows no table yet.
    pub(in crate::store) fn new(image: &'a Image<'a>) -> Self {
        let none = Bits::up_to(image.pages);
        let overflow_left = Slot::new(u64::from(image.pages).saturating_mul(OVERFLOW_READS));
        let (seen, contested, walked, free) = (none.clone(), none.clone(), none.clone(), none);
        Self { image, seen, contested, walked, free, holes: Vec::new(), overflow_left }
    }

    /// The holes of all tables.
    pub(in crate::store) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Whether rows of a table may be on stray pages.
    pub(in crate::store) fn has_hole(&self, table: usize) -> bool {
        self.holes.iter().any(|hole| hole.table == table)
    }

    /// Adds a hole, to its left neighbour if they touch.
    pub(in crate::store) fn dig(&mut self, hole: Hole) {
        let full = self.holes.len() >= HOLES_MAX;
        if let Some(last) = self.holes.iter_mut().rev().find(|last| last.table == hole.table)
            && (full || last.upto.is_some() && last.upto == hole.above && last.counted == hole.counted)
        {
            last.above = last.above.min(hole.above);
            last.upto = last.upto.zip(hole.upto).map(|(one, other)| one.max(other));
            last.counted &= hole.counted && !full;
        } else if self.holes.len() < 2 * HOLES_MAX {
            self.holes.push(hole);
        }
    }

    /// First way through a table: finds its pages and holes. For every table before the first [`Reader::walk`].
    pub(in crate::store) fn mark(&mut self, table: usize, root: u32) {
        let (mut seen, contested) = (std::mem::replace(&mut self.seen, Bits::up_to(0)), &mut self.contested);
        let mut enter = |page| {
            seen.put(page) || {
                contested.put(page);
                false
            }
        };
        let mut holes = Vec::new();
        descend(self.image, root, &mut enter, &mut |place, met| match met {
            Met::Leaf { sound: true, .. } => {}
            Met::Leaf { .. } => {
                holes.push(Hole { table, above: place.above, upto: place.upto, counted: false });
            }
            Met::Broken(_) => holes.push(Hole { table, above: place.above, upto: place.upto, counted: true }),
            Met::Doubtful => {
                let (above, upto) = place.around;
                holes.push(Hole { table, above, upto, counted: false });
            }
        });
        self.seen = seen;
        holes.into_iter().for_each(|hole| self.dig(hole));
    }

    /// Second way: gives every row to `take`, which says whether it is whole. Tables in the order in which they were marked.
    pub(in crate::store) fn walk(&mut self, root: u32, take: &mut dyn FnMut(i64, &[u8]) -> bool) -> Walked {
        let mut walked = std::mem::replace(&mut self.walked, Bits::up_to(0));
        let mut done = Walked::default();
        let mut enter = |page| !self.contested.has(page) && walked.put(page);
        descend(self.image, root, &mut enter, &mut |_, met| match met {
            Met::Leaf { page, cells, sound } => self.leaf(page, cells, sound, take, &mut done),
            Met::Broken(page) => self.leaf(page, &[], false, take, &mut done),
            Met::Doubtful => {}
        });
        self.walked = walked;
        done
    }

    /// Rows of a leaf by its pointers, and where those are in doubt, by looking at every place.
    fn leaf(
        &self,
        page: &[u8],
        cells: &[Option<Cell>],
        sound: bool,
        take: &mut dyn FnMut(i64, &[u8]) -> bool,
        done: &mut Walked,
    ) {
        let mut payload = Vec::new();
        let mut taken = Vec::new();
        for cell in cells {
            match cell {
                Some(cell) if self.payload(page, cell, &mut payload) && take(cell.key, &payload) => {
                    taken.push(cell.key);
                }
                _ => done.refused = done.refused.saturating_add(1),
            }
        }
        if sound {
            return;
        }
        for cell in (0..page.len()).filter_map(|at| cell(page, at)).filter(|cell| begins_as_ours(page, cell))
        {
            if !taken.contains(&cell.key)
                && self.payload(page, &cell, &mut payload)
                && take(cell.key, &payload)
            {
                taken.push(cell.key);
                done.mended = done.mended.saturating_add(u64::from(cells.is_empty()));
            }
        }
    }

    /// Reads the free list; false if it is damaged.
    pub(in crate::store) fn read_free(&mut self) -> bool {
        let mut page = Vec::new();
        if self.image.page(1, &mut page)
            && page.starts_with(b"SQLite format 3\0")
            && let (Some(first), Some(count)) = (four(&page, 32), four(&page, 36))
            && self.follow_trunks(first, count)
        {
            return true;
        }
        self.free = Bits::up_to(self.image.pages);
        false
    }

    /// Finds free pages by what looks like a part of the free list, where its beginning is lost. After the tables were marked.
    pub(in crate::store) fn look_for_free(&mut self) {
        let mut page = Vec::new();
        for number in 2..=self.image.pages {
            if !self.seen.has(number)
                && self.image.page(number, &mut page)
                && let Some((next, leaves)) = trunk(&page)
                && (next == 0 || self.may_be_free(next))
                && leaves.iter().all(|leaf| self.may_be_free(*leaf))
            {
                for page in leaves.into_iter().chain([number]) {
                    self.free.put(page);
                }
            }
        }
    }

    fn may_be_free(&self, page: u32) -> bool {
        (2..=self.image.pages).contains(&page) && !self.seen.has(page)
    }

    fn follow_trunks(&mut self, first: u32, count: u32) -> bool {
        let (mut found, mut next, mut page) = (0_u32, first, Vec::new());
        // Ends: each page is put in once.
        while next != 0 {
            if !self.free.put(next) || !self.image.page(next, &mut page) {
                return false;
            }
            let listed = four(&page, 4).unwrap_or(0) as usize;
            let leaves = (0..listed).map_while(|index| four(&page, 8 + 4 * index));
            found = found.saturating_add(1);
            for leaf in leaves {
                if !self.free.put(leaf) {
                    return false;
                }
                found = found.saturating_add(1);
            }
            next = four(&page, 0).unwrap_or(0);
        }
        found == count
    }

    /// Gives every leaf to which no way leads, and which is not free, to `visit`.
    pub(in crate::store) fn strays(&self, visit: &mut dyn FnMut(&Stray<'_>)) {
        let mut page = Vec::new();
        for number in 1..=self.image.pages {
            let reached = self.seen.has(number) && !self.contested.has(number);
            if reached || self.free.has(number) || !self.image.page(number, &mut page) {
                continue;
            }
            if let Some(found) = node(&page, number)
                && let Content::Leaf(cells) = &found.content
                && !cells.is_empty()
            {
                visit(&Stray { reader: self, page: &page, cells });
            }
        }
    }

    /// Gives every leaf that was committed behind a damaged frame of the log to `visit`.
    pub(in crate::store) fn in_gap(&self, gap: &Gap, visit: &mut dyn FnMut(&Stray<'_>)) {
        let mut page = Vec::new();
        for (number, at) in &gap.pages {
            if self.image.gap_page(*at, &mut page)
                && let Some(found) = node(&page, *number)
                && let Content::Leaf(cells) = &found.content
            {
                visit(&Stray { reader: self, page: &page, cells });
            }
        }
    }

    /// Reads a payload with what of it is on other pages. Memory grows with what is there, not with what is claimed.
    fn payload(&self, page: &[u8], cell: &Cell, into: &mut Vec<u8>) -> bool {
        into.clear();
        let Some(local) = page.get(cell.local.0..cell.local.1) else { return false };
        into.extend_from_slice(local);
        let file_bytes = u64::from(self.image.pages).saturating_mul(self.image.page_bytes as u64);
        if cell.length > PAYLOAD_MAX.min(file_bytes) {
            return false;
        }
        let Ok(length) = usize::try_from(cell.length) else { return false };
        let (mut next, mut more) = (cell.overflow, Vec::new());
        // Ends: each round reads a page's worth of a payload that is no longer than the file.
        while into.len() < length {
            if next == 0 || next > self.image.pages {
                return false;
            }
            let Some(left) = self.overflow_left.get().checked_sub(1) else { return false };
            self.overflow_left.set(left);
            if !self.image.page(next, &mut more) {
                return false;
            }
            let wanted = (length - into.len()).min(more.len() - 4);
            into.extend_from_slice(&more[4..4 + wanted]);
            next = four(&more, 0).unwrap_or(0);
        }
        true
    }
}

/// Visits the leaves and the damaged pages of a tree in the order of their keys. `enter` says whether a page may be entered.
fn descend(
    image: &Image<'_>,
    root: u32,
    enter: &mut dyn FnMut(u32) -> bool,
    visit: &mut dyn FnMut(&Place, Met<'_>),
) {
    let mut page = Vec::new();
    let mut ahead = vec![Place { page: root, above: None, upto: None, depth: 0, around: (None, None) }];
    while let Some(place) = ahead.pop() {
        if place.depth >= DEPTH_MAX || !image.page(place.page, &mut page) {
            visit(&place, Met::Broken(&[]));
            continue;
        }
        let found = node(&page, place.page);
        let belongs = match found.as_ref().map(|found| &found.content) {
            Some(Content::Leaf(cells)) => fits(&place, cells),
            _ => true,
        };
        if !belongs || !enter(place.page) {
            visit(&place, Met::Doubtful);
            continue;
        }
        match found {
            None => visit(&place, Met::Broken(&page)),
            Some(found) => match found.content {
                Content::Leaf(cells) => {
                    visit(&place, Met::Leaf { page: &page, cells: &cells, sound: found.sound });
                }
                Content::Inner(children) => {
                    if !found.sound {
                        visit(&Place { around: (place.above, place.upto), ..place }, Met::Doubtful);
                    }
                    ahead.extend(below(&place, &children));
                }
            },
        }
    }
}

/// The children of an inner page with the keys that they may hold, last first.
fn below(place: &Place, children: &[(u32, Option<i64>)]) -> Vec<Place> {
    let mut above = place.above;
    let mut places = Vec::with_capacity(children.len());
    for (page, key) in children {
        let upto = key.or(place.upto);
        let around = (place.above, place.upto);
        places.push(Place { page: *page, above, upto, depth: place.depth + 1, around });
        above = upto;
    }
    places.reverse();
    places
}

/// Whether most rows of a leaf have keys that it may hold.
fn fits(place: &Place, cells: &[Option<Cell>]) -> bool {
    let keys = Hole { table: 0, above: place.above, upto: place.upto, counted: false };
    let fitting = cells.iter().flatten().filter(|cell| keys.holds(cell.key)).count();
    let all = cells.iter().flatten().count();
    all == 0 || all < 2 * fitting
}

/// Whether a payload begins like those of our tables of rows: a short header, and nothing where the key is.
fn begins_as_ours(page: &[u8], cell: &Cell) -> bool {
    page.get(cell.local.0..cell.local.1).is_some_and(|local| matches!(local, [3..=16, 0, ..]))
}

/// The next trunk and the free pages of a part of the free list; `None` if it cannot be one.
fn trunk(page: &[u8]) -> Option<(u32, Vec<u32>)> {
    let (next, count) = (four(page, 0)?, four(page, 4)? as usize);
    let room = (page.len() / 4).checked_sub(2)?;
    if count == 0 || count > room {
        return None;
    }
    let leaves: Vec<u32> = (0..count).map_while(|index| four(page, 8 + 4 * index)).collect();
    Some((next, leaves))
}
