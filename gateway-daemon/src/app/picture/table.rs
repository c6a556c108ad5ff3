//! Tables of text with aligned columns.
//!
//! On paper that is too narrow, the remark at the end of a row goes below it or is cut, long texts are shortened in their middle, columns that were named as
//! spare are left out, and at last lines are cut. For pipes nothing of that happens.

use super::Mood;
use super::paper::{Paper, cut, shorten, width};
use super::words::count;

/// A column is not shortened below this while there are columns that can be left out instead.
const EASY_COLUMNS: usize = 20;
/// A column is not shortened below this; what does not fit then is cut off.
const SHORT_COLUMNS: usize = 8;
/// A number is never shortened; no count is wider.
const NUMBER_COLUMNS: usize = 16;
/// A remark in less than this goes below its row, or away.
const REMARK_COLUMNS_MIN: usize = 16;
/// Where remarks below their rows begin.
const REMARK_INDENT: usize = 4;
/// Between two columns.
const GAP: usize = 2;

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

/// Rows of `N` columns under their headings. A last column without a heading holds remarks.
#[derive(Debug)]
pub struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    spare: &'static [&'static str],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align); N]) -> Self {
        Self { columns: *columns, spare: &[], rows: Vec::new() }
    }

    /// Names columns that a narrow terminal can do without, the first to go first.
    #[must_use]
    pub fn spare(mut self, headings: &'static [&'static str]) -> Self {
        self.spare = headings;
        self
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

    /// The table as text.
    #[must_use]
    pub fn draw(&self, paper: impl Into<Paper>) -> String {
        self.lines(paper.into()).into_iter().map(|line| line + "\n").collect()
    }

    /// The table as lines, the headings first; columns are as wide as their widest text if there is room.
    #[must_use]
    pub fn lines(&self, paper: Paper) -> Vec<String> {
        let layout = self.layout(paper);
        let headings = self.columns.map(|(heading, _)| Cell::of(Mood::Faint, heading));
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        for row in std::iter::once(&headings).chain(&self.rows) {
            let line = self.line(row, &layout, paper);
            match paper.columns {
                Some(columns) => lines.push(cut(&line, columns)),
                None => lines.push(line),
            }
            if let Some(cell) = row.last().filter(|cell| layout.below && !cell.text.is_empty()) {
                let text = format!("{:REMARK_INDENT$}{}", "", paper.paint(cell.mood, &cell.text));
                lines.extend(paper.wrap(&text).lines().map(str::to_owned));
            }
        }
        lines
    }

    fn line(&self, row: &[Cell; N], layout: &Layout<N>, paper: Paper) -> String {
        let mut line = String::new();
        let mut gap = 0;
        for (index, cell) in row.iter().enumerate() {
            let Some(most) = layout.widths[index] else { continue };
            if cell.text.is_empty() {
                gap += most + GAP;
                continue;
            }
            let text = if self.is_remark(index) { cut(&cell.text, most) } else { shorten(&cell.text, most) };
            let pad = most - width(&text);
            let (before, after) = if self.columns[index].1 == Align::Right { (pad, 0) } else { (0, pad) };
            line.extend(std::iter::repeat_n(' ', gap + before));
            line.push_str(&paper.paint(cell.mood, &text));
            gap = after + GAP;
        }
        line
    }

    fn is_remark(&self, index: usize) -> bool {
        index + 1 == N && self.columns[index].0.is_empty()
    }

    fn layout(&self, paper: Paper) -> Layout<N> {
        let mut widths = self.columns.map(|(heading, _)| width(heading));
        for row in &self.rows {
            for (most, cell) in widths.iter_mut().zip(row) {
                *most = (*most).max(width(&cell.text));
            }
        }
        let mut layout = Layout { widths: widths.map(Some), below: false };
        let Some(columns) = paper.columns else { return layout };
        if layout.total() <= columns {
            return layout;
        }
        let remark = N.checked_sub(1).filter(|last| self.is_remark(*last));
        if let Some(last) = remark {
            layout.widths[last] = None;
            layout.below = !paper.one_line;
        }
        let aligns = self.columns.map(|(_, align)| align);
        for heading in self.spare {
            if layout.shrink(columns, EASY_COLUMNS, aligns) {
                break;
            }
            let found = self.columns.iter().position(|(name, _)| name == heading);
            if let Some(index) = found {
                layout.widths[index] = None;
            }
            for (now, natural) in layout.widths.iter_mut().zip(widths) {
                *now = now.map(|_| natural);
            }
        }
        let _ = layout.shrink(columns, EASY_COLUMNS, aligns) || layout.shrink(columns, SHORT_COLUMNS, aligns);
        let room = columns.saturating_sub(layout.total() + GAP);
        if let Some(last) = remark
            && paper.one_line
            && room >= REMARK_COLUMNS_MIN
        {
            layout.widths[last] = Some(room);
        }
        layout
    }
}

/// The widths of the columns that are shown.
struct Layout<const N: usize> {
    widths: [Option<usize>; N],
    /// Remarks go below their rows.
    below: bool,
}

impl<const N: usize> Layout<N> {
    /// Width of a row.
    fn total(&self) -> usize {
        let shown: Vec<usize> = self.widths.iter().flatten().copied().filter(|width| *width > 0).collect();
        shown.iter().sum::<usize>() + GAP * shown.len().saturating_sub(1)
    }

    /// Shortens the widest columns until a row fits, none below `least`; whether it does.
    fn shrink(&mut self, columns: usize, least: usize, aligns: [Align; N]) -> bool {
        loop {
            if self.total() <= columns {
                return true;
            }
            let floor = |align| if align == Align::Right { least.max(NUMBER_COLUMNS) } else { least };
            let shown = self
                .widths
                .iter_mut()
                .zip(aligns)
                .filter_map(|(width, align)| width.as_mut().filter(|width| **width > floor(align)));
            match shown.max() {
                Some(widest) => *widest -= 1,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ink;
    use super::*;

    fn table() -> Table<5> {
        let mut table = Table::new(&[
            ("TAG", Align::Left),
            ("VALUE", Align::Right),
            ("QUALITY", Align::Left),
            ("AGE", Align::Right),
            ("", Align::Left),
        ])
        .spare(&["AGE", "QUALITY"]);
        let row = |tag: &str, value: &str, why: &str| [tag, value, "good", "350 ms", why].map(Cell::new);
        table.row(row("meter17/active-power-total", "1 234 567", ""));
        table.row(row("io/a", "on", "the port is gone; waiting for it to be plugged in again"));
        table
    }

    fn lines(paper: Paper) -> Vec<String> {
        let lines = table().lines(paper);
        assert!(lines.iter().all(|line| width(line) <= paper.columns.unwrap_or(usize::MAX)), "{lines:#?}");
        lines
    }

    #[test]
    fn a_table_for_a_pipe_is_as_wide_as_its_texts() {
        let lines = lines(Ink::Plain.into());
        assert_eq!(lines[1], "meter17/active-power-total  1 234 567  good     350 ms");
        assert!(lines[2].ends_with("waiting for it to be plugged in again"), "{lines:#?}");
    }

    #[test]
    fn remarks_that_do_not_fit_go_below_their_rows_and_are_whole() {
        let lines = lines(Paper::scroll(Ink::Plain, 60));
        assert_eq!(lines[1], "meter17/active-power-total  1 234 567  good     350 ms");
        assert_eq!(lines[3..], ["    the port is gone; waiting for it to be plugged in again"]);
    }

    #[test]
    fn on_a_screen_a_row_is_one_line() {
        let lines = lines(Paper::screen(Ink::Plain, 76));
        assert_eq!(lines.len(), 3);
        assert!(lines[2].ends_with("350 ms  the port is gone; w…"), "{lines:#?}");
    }

    #[test]
    fn names_are_shortened_and_columns_left_out_before_a_number_is_touched() {
        assert_eq!(
            lines(Paper::screen(Ink::Plain, 50))[1],
            "meter17/act…ower-total  1 234 567  good     350 ms"
        );
        assert_eq!(lines(Paper::screen(Ink::Plain, 40))[1], "meter17/ac…wer-total  1 234 567  good");
        assert_eq!(lines(Paper::screen(Ink::Plain, 24))[1], "meter1…-total  1 234 567");
        assert_eq!(lines(Paper::screen(Ink::Plain, 12))[1], "mete…tal  1…");
    }

    #[test]
    fn a_table_of_any_width_fits() {
        for columns in 1..120 {
            lines(Paper::screen(Ink::Ansi, columns));
            lines(Paper::scroll(Ink::Ansi, columns));
        }
    }
}
