//! One bit for each page of a file.

/// A set of page numbers.
#[derive(Debug, Clone)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// An empty set that can hold pages up to this number.
    pub(super) fn up_to(pages: u32) -> Self {
        Self(vec![0; (pages / 64) as usize + 1])
    }

    /// Puts a page in; false if it was there, or cannot be.
    pub(super) fn put(&mut self, page: u32) -> bool {
        let Some(word) = self.0.get_mut((page / 64) as usize) else { return false };
        let bit = 1 << (page % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Whether a page is in.
    pub(super) fn has(&self, page: u32) -> bool {
        self.0.get((page / 64) as usize).is_some_and(|word| word & (1 << (page % 64)) != 0)
    }
}
