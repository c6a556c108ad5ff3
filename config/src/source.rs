//! The text of a file: bytes to characters, byte offsets to lines and columns, and a look at its nesting before a parser does.

use std::ops::Range;
use std::sync::Arc;

use gateway_core::text::marked;

use crate::problem::{Problem, Severity};

/// Largest configuration file: 4 MiB hold about 40,000 tags, ten times what a serial bus can poll in an hour.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Deepest brackets, and most dots in one key. The deepest key of the schema needs 5; freeing what a parser builds from
/// deeper ones would end at the end of the stack.
const DEPTH_MAX: usize = 16;

/// A file's text and where its lines begin.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    file: Arc<str>,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &str, text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text); // editors on Windows write one
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text, line_starts }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Line of a byte offset, from 1.
    pub(crate) fn line_number(&self, at: usize) -> u32 {
        u32::try_from(self.line_starts.partition_point(|start| *start <= at)).unwrap_or(u32::MAX)
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub(crate) fn place(&self, at: usize) -> (u32, u32) {
        let at = floor_boundary(self.text, at);
        let line = self.line_starts.partition_point(|start| *start <= at);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text[start..at].chars().count() + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The line that holds a byte offset, without its end, and where it starts.
    pub(crate) fn line_at(&self, at: usize) -> (usize, &'a str) {
        let at = floor_boundary(self.text, at);
        let start = self.text[..at].rfind('\n').map_or(0, |n| n + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |n| at + n);
        (start, self.text[start..end].trim_end_matches('\r'))
    }

    /// The text of a span, empty when it is not one.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or("")
    }

    pub(crate) fn problem(&self, severity: Severity, at: usize, text: String) -> Problem {
        let (line, column) = self.place(at);
        // It may repeat what somebody wrote: a name, a path.
        let text = marked(&text, &[]).into_owned();
        Problem { severity, file: self.file.clone(), line, column, text }
    }

    /// The first place where brackets or dotted keys are nested deeper than any configuration needs.
    pub(crate) fn too_deep(&self) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let (mut at, mut brackets, mut dots) = (0, 0_usize, 0_usize);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' | b'\'' => at = string_end(bytes, at),
                b'#' => at = line_end(bytes, at),
                b'[' | b'{' => (brackets, dots) = (brackets + 1, 0),
                b']' | b'}' => brackets = brackets.saturating_sub(1),
                b'=' | b',' | b'\n' => dots = 0,
                b'.' => dots += 1,
                _ => {}
            }
            if brackets > DEPTH_MAX || dots > DEPTH_MAX {
                return Some(at);
            }
            at += 1;
        }
        None
    }
}

/// Offset of the last byte of the string that opens at `at`, or of the line's end when it does not close.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let triple = [quote; 3];
    if bytes[at..].starts_with(&triple) {
        let mut end = at + 3;
        while end < bytes.len() && !bytes[end..].starts_with(&triple) {
            end += if quote == b'"' && bytes[end] == b'\\' { 2 } else { 1 };
        }
        return end + 2;
    }
    let mut end = at + 1;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'\n' => return end - 1, // the parser gives up here too
            b'\\' if quote == b'"' && bytes.get(end + 1) != Some(&b'\n') => end += 2,
            byte if *byte == quote => return end,
            _ => end += 1,
        }
    }
    end
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n - 1)
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Bytes of a file to text.
///
/// # Errors
/// The file is too large or not UTF-8; says where and how to save it.
pub(crate) fn decode<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    let refuse = |line, column, text: String| Problem {
        severity: Severity::Error,
        file: file.into(),
        line,
        column,
        text,
    };
    if bytes.len() > FILE_BYTES_MAX {
        // No more of it is read.
        let text = format!(
            "the file has more bytes than are read, expected at most {FILE_BYTES_MAX} (4 MiB): is it really a configuration file?"
        );
        return Err(refuse(1, 1, text));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let text = "the file is saved as UTF-16 (\"Unicode\" in Windows editors), expected UTF-8: save it again as UTF-8";
        return Err(refuse(1, 1, text.to_owned()));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or("");
        let (line, column) = Source::new(file, good).place(good.len());
        let bad = bytes.get(error.valid_up_to()).copied().unwrap_or(0);
        let text = format!(
            "byte 0x{bad:02X} is not UTF-8 (often \"°\" or \"ü\" saved in a Windows code page): save the file again as UTF-8"
        );
        refuse(line, column, text)
    })
}
