//! A page of a table's tree, taken apart.

use super::record::take_varint;

const INNER: u8 = 0x05;
const LEAF: u8 = 0x0D;
/// Least bytes of a cell or a free block: SQLite gives no less.
const CELL_BYTES_MIN: usize = 4;
/// Bytes of file header in front of the first page's own.
pub(super) const FILE_HEADER_BYTES: usize = 100;

/// A row in a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) key: i64,
    /// Bytes of the whole payload.
    pub(super) length: u64,
    /// Where in the page its beginning is.
    pub(super) local: (usize, usize),
    /// First page with the rest; 0 if there is none.
    pub(super) overflow: u32,
    /// Bytes that it takes in the page.
    bytes: usize,
}

/// What a page holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Children with the highest key that they may hold; the last has none.
    Inner(Vec<(u32, Option<i64>)>),
    /// Rows. `None` is a pointer to something that is no cell.
    Leaf(Vec<Option<Cell>>),
}

/// A page of a tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) content: Content,
    /// Whether each byte of the page is accounted for, as it is in a page that nothing has touched.
    pub(super) sound: bool,
}

/// Takes a page apart; `None` if it is no page of a table's tree.
pub(super) fn node(page: &[u8], number: u32) -> Option<Node> {
    let base = if number == 1 { FILE_HEADER_BYTES } else { 0 };
    let kind = *page.get(base)?;
    let header = match kind {
        LEAF => 8,
        INNER => 12,
        _ => return None,
    };
    let count = usize::from(two(page, base + 3)?);
    let pointers = base + header;
    let pointers_end = pointers + 2 * count;
    let content = match usize::from(two(page, base + 5)?) {
        0 => 65_536,
        from => from,
    };
    if pointers_end > content || content > page.len() {
        return None;
    }
    let mut used = content;
    let mut whole = true;
    let place = |index: usize| two(page, pointers + 2 * index).map(usize::from);
    let content_of = if kind == LEAF {
        let mut cells = Vec::with_capacity(count);
        for index in 0..count {
            let cell = place(index).filter(|at| *at >= content).and_then(|at| cell(page, at));
            used += cell.map_or(0, |cell| cell.bytes);
            whole &= cell.is_some();
            cells.push(cell);
        }
        Content::Leaf(cells)
    } else {
        let mut children = Vec::with_capacity(count + 1);
        for index in 0..count {
            let at = place(index).filter(|at| *at >= content);
            let child = at.and_then(|at| {
                let mut key = page.get(at + 4..)?;
                let before = key.len();
                let highest = take_varint(&mut key)?.cast_signed();
                used += 4 + before - key.len();
                Some((four(page, at)?, Some(highest)))
            });
            whole &= child.is_some();
            children.extend(child);
        }
        children.push((four(page, base + 8)?, None));
        Content::Inner(children)
    };
    let free = free_bytes(page, base, content);
    let sound = whole && free.is_some_and(|free| used + free == page.len());
    Some(Node { content: content_of, sound })
}

/// The cell at a place of a leaf.
pub(super) fn cell(page: &[u8], at: usize) -> Option<Cell> {
    let start = page.get(at..)?;
    let mut rest = start;
    let length = take_varint(&mut rest)?;
    let key = take_varint(&mut rest)?.cast_signed();
    let head = start.len() - rest.len();
    let (local, spills) = local_bytes(length, page.len() as u64)?;
    let from = at + head;
    let end = from.checked_add(local)?;
    let overflow = if spills { four(page, end)? } else { 0 };
    if end > page.len() || (spills && overflow == 0) {
        return None;
    }
    let bytes = (head + local + if spills { 4 } else { 0 }).max(CELL_BYTES_MIN);
    Some(Cell { key, length, local: (from, end), overflow, bytes })
}

/// How many bytes of a payload are in the leaf itself, and whether there are more: "Cell Payload Overflow Pages" of the format.
fn local_bytes(length: u64, page: u64) -> Option<(usize, bool)> {
    let most = page.checked_sub(35)?;
    if length <= most {
        return Some((usize::try_from(length).ok()?, false));
    }
    let least = (page - 12) * 32 / 255 - 23;
    let fitting = least + (length - least) % (page - 4);
    Some((usize::try_from(if fitting <= most { fitting } else { least }).ok()?, true))
}

/// Bytes in free blocks and fragments; `None` if the free blocks are not a chain.
fn free_bytes(page: &[u8], base: usize, content: usize) -> Option<usize> {
    let mut free = usize::from(*page.get(base + 7)?);
    let mut at = usize::from(two(page, base + 1)?);
    let mut behind = content;
    while at != 0 {
        let size = usize::from(two(page, at + 2)?);
        if at < behind || size < CELL_BYTES_MIN || at + size > page.len() {
            return None;
        }
        // Ends: each block lies behind the one before.
        behind = at + size;
        free += size;
        at = usize::from(two(page, at)?);
    }
    Some(free)
}

fn two(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A big endian number of four bytes.
pub(super) fn four(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
