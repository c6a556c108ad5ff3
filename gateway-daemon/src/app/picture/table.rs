//! Tables of text with aligned columns.

use super::words::count;
use super::{Ink, Mood};

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// One piece of text and its mood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    mood: Mood,
}

impl Cell {
    /// Calm text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), mood: Mood::Calm }
    }

    /// Text in a mood.
    #[must_use]
    pub fn of(mood: Mood, text: &str) -> Self {
        Self { text: text.to_owned(), mood }
    }

    /// A count of things that should not happen.
    #[must_use]
    pub fn alarm(number: u64) -> Self {
        Self { text: count(number), mood: if number > 0 { Mood::Warn } else { Mood::Calm } }
    }
}

/// Rows of `N` columns under their headings.
#[derive(Debug)]
pub struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align); N]) -> Self {
        Self { columns: *columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, columns as wide as their widest text.
    #[must_use]
    pub fn draw(&self, ink: Ink) -> String {
        let mut widths = self.columns.map(|(heading, _)| width(heading));
        for row in &self.rows {
            for (most, cell) in widths.iter_mut().zip(row) {
                *most = (*most).max(width(&cell.text));
            }
        }
        let mut lines = String::new();
        let headings = self.columns.map(|(heading, _)| Cell::of(Mood::Faint, heading));
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            let mut gap = 0;
            for ((cell, width_max), (_, align)) in row.iter().zip(widths).zip(self.columns) {
                if cell.text.is_empty() {
                    gap += width_max + 2;
                    continue;
                }
                let pad = width_max - width(&cell.text);
                let (before, after) = if align == Align::Right { (pad, 0) } else { (0, pad) };
                line.extend(std::iter::repeat_n(' ', gap + before));
                line.push_str(&ink.paint(cell.mood, &cell.text));
                gap = after + 2;
            }
            lines.push_str(&line);
            lines.push('\n');
        }
        lines
    }
}

/// Columns on a terminal: characters, which is right for everything that units and names are written in.
fn width(text: &str) -> usize {
    text.chars().count()
}
