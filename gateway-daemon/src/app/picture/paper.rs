//! What a picture is drawn on: its colours, its width, and how text is fitted to it.

use super::Mood;

/// Whether text may carry colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// For pipes and files.
    Plain,
    /// ANSI colours, for terminals.
    Ansi,
}

impl Ink {
    /// Text in the colour of its mood.
    #[must_use]
    pub fn paint(self, mood: Mood, text: &str) -> String {
        let code = match mood {
            _ if self == Self::Plain => return text.to_owned(),
            Mood::Calm => return text.to_owned(),
            Mood::Faint => "2",
            Mood::Bold => "1",
            Mood::Good => "32",
            Mood::Warn => "33",
            Mood::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// What a picture is drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paper {
    /// Its colours.
    pub ink: Ink,
    /// Its width in characters; `None` for pipes and files, where nothing is cut or wrapped.
    pub columns: Option<usize>,
    /// Whether a row of a table is one line whatever it takes; else its remark goes on below.
    pub one_line: bool,
}

impl From<Ink> for Paper {
    /// As wide as it needs to be.
    fn from(ink: Ink) -> Self {
        Self { ink, columns: None, one_line: false }
    }
}

impl Paper {
    /// A terminal that text runs through: what is too long goes on in the next line.
    #[must_use]
    pub fn scroll(ink: Ink, columns: usize) -> Self {
        Self { ink, columns: Some(columns), one_line: false }
    }

    /// A terminal that is drawn in place.
    #[must_use]
    pub fn screen(ink: Ink, columns: usize) -> Self {
        Self { ink, columns: Some(columns), one_line: true }
    }

    /// Text in the colour of its mood.
    #[must_use]
    pub fn paint(self, mood: Mood, text: &str) -> String {
        self.ink.paint(mood, text)
    }

    /// Lines that are too long go on in the next one, below their beginning.
    #[must_use]
    pub fn wrap(self, text: &str) -> String {
        match self.columns {
            None => text.to_owned(),
            Some(columns) => text.lines().map(|line| wrap_line(line, columns.max(1)) + "\n").collect(),
        }
    }
}

/// Columns that text takes on a terminal. Colours take none, East Asian letters two.
#[must_use]
pub fn width(text: &str) -> usize {
    pieces(text).map(|piece| piece.width).sum()
}

/// A text cut in its middle to so many columns, with a mark where something is missing; without colours.
#[must_use]
pub fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let begin = first(text.chars(), room.div_ceil(2));
    let end = first(text.chars().rev(), room / 2);
    let mark = if columns > 0 { "…" } else { "" };
    format!("{begin}{mark}{}", end.chars().rev().collect::<String>())
}

fn first(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut left = columns;
    let fits = |c: &char| match left.checked_sub(char_width(*c)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    chars.take_while(fits).collect()
}

/// Cuts a line to so many columns, with a mark where it was cut; its colours are closed.
#[must_use]
pub fn cut(line: &str, columns: usize) -> String {
    let fits = width(line) <= columns;
    let mut left = if fits { columns } else { columns.saturating_sub(1) };
    let mut cut = String::with_capacity(line.len());
    let mut marked = fits || columns == 0;
    for piece in pieces(line) {
        match left.checked_sub(piece.width) {
            Some(rest) if piece.width == 0 || marked == fits => {
                left = rest;
                cut.push_str(piece.text);
            }
            _ => {
                left = 0;
                if !marked {
                    cut.push('…');
                    marked = true;
                }
            }
        }
    }
    cut
}

/// A character, or a command to the terminal, which has no width.
struct Piece<'a> {
    text: &'a str,
    width: usize,
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let char = rest.chars().next()?;
        let (len, width) = match rest.strip_prefix("\x1b[") {
            Some(after) => {
                let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
                (2 + end, 0)
            }
            None => (char.len_utf8(), char_width(char)),
        };
        let (text, after) = rest.split_at(len);
        rest = after;
        Some(Piece { text, width })
    })
}

/// Columns of a character, by the ranges that Unicode calls wide (UAX 11) and those that stand on the letter before.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F | 0x200B..=0x200F | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x2_0000..=0x3_FFFD => 2,
        _ => 1,
    }
}

/// Where the lines after the first of a wrapped line begin: behind its label, or two columns further than it.
fn hang(line: &str, columns: usize) -> usize {
    /// A label is no longer than this.
    const LABEL_COLUMNS_MAX: usize = 12;
    let plain: String = pieces(line).filter(|piece| piece.width > 0).map(|piece| piece.text).collect();
    let indent = plain.chars().take_while(|c| *c == ' ').count();
    let rest = &plain[indent..];
    let label = rest.find("  ").map(|at| at + rest[at..].chars().take_while(|c| *c == ' ').count());
    let label = label.filter(|_| indent > 0).filter(|label| *label <= LABEL_COLUMNS_MAX);
    let hang = indent + label.unwrap_or(2);
    if hang > columns / 2 { (columns / 4).min(2) } else { hang }
}

/// A line and its continuations, broken at spaces where there are any.
fn wrap_line(line: &str, columns: usize) -> String {
    if width(line) <= columns {
        return line.to_owned();
    }
    let hang = hang(line, columns);
    let mut wrapped = String::with_capacity(line.len() + hang);
    // The line so far, its width, and the last space in it behind which it can be broken: position, width, colour there.
    let (mut used, mut space, mut colour) = (0, None, "");
    let mut begun = 0;
    for piece in pieces(line) {
        if piece.text.starts_with('\x1b') {
            colour = if piece.text == "\x1b[0m" { "" } else { piece.text };
        }
        if piece.width > 0 && used + piece.width > columns && used > 0 {
            let here = (wrapped.len(), used, colour);
            let (at, before, on) = space.take().filter(|_| piece.text != " ").unwrap_or(here);
            let close = if on.is_empty() { "" } else { "\x1b[0m" };
            let tail = wrapped.split_off(at);
            wrapped.truncate(wrapped.trim_end_matches(' ').len().max(begun));
            wrapped.push_str(close);
            wrapped.push('\n');
            begun = wrapped.len() + hang;
            wrapped.extend(std::iter::repeat_n(' ', hang));
            wrapped.push_str(on);
            wrapped.push_str(&tail);
            used = hang + used - before;
            if piece.text == " " && used == hang {
                continue;
            }
        }
        wrapped.push_str(piece.text);
        used += piece.width;
        if piece.text == " " && used > hang {
            space = Some((wrapped.len(), used, colour));
        }
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, columns: usize, expected: &str) {
        let wrapped = Paper::scroll(Ink::Ansi, columns).wrap(line);
        assert_eq!(wrapped, format!("{expected}\n"), "{columns}");
        assert!(wrapped.lines().all(|line| width(line) <= columns), "{wrapped}");
    }

    #[test]
    fn a_long_line_goes_on_below_its_beginning() {
        check("short", 10, "short");
        check("one two three four", 9, "one two\n  three\n  four");
        check(
            "  link    down for 3 s, next try in 2 s",
            24,
            "  link    down for 3 s,\n          next try in 2\n          s",
        );
        check("    indented words go on", 16, "    indented\n      words go\n      on");
    }

    #[test]
    fn what_has_no_spaces_is_broken_where_the_line_ends() {
        check("mqtts://broker.example.com", 10, "mqtts://br\n  oker.exa\n  mple.com");
        check("abc", 1, "a\nb\nc");
        check("測定器の名前", 6, "測定器\n  の名\n  前");
    }

    #[test]
    fn colours_are_closed_before_a_break_and_go_on_behind_it() {
        check("\x1b[31mone two three\x1b[0m", 9, "\x1b[31mone two\x1b[0m\n  \x1b[31mthree\x1b[0m");
        check("ab \x1b[31mcd\x1b[0m ef", 5, "ab \x1b[31mcd\x1b[0m\n  ef");
    }

    #[test]
    fn nothing_is_wrapped_for_a_pipe() {
        let long = format!("{}\n", "word ".repeat(100));
        assert_eq!(Paper::from(Ink::Plain).wrap(&long), long);
    }

    #[test]
    fn a_cut_shows_that_something_is_missing_and_closes_its_colours() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("\x1b[31mabcdef\x1b[0m", 3), "\x1b[31mab…\x1b[0m");
        assert_eq!(cut("測定器", 4), "測…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(shorten("meter17/active-power-total", 13), "meter1…-total");
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!((shorten("abcdef", 1).as_str(), shorten("abcdef", 0).as_str()), ("…", ""));
    }
}
