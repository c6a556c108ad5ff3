//! Lines of somebody else, with a limit.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// The next line without its end; what is beyond `bytes_max` is left out. `None` at the end, which a torn line is, too.
pub(super) async fn next(reader: &mut (impl AsyncBufRead + Unpin), bytes_max: usize) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        // A reader that fails has ended.
        let part = reader.fill_buf().await.ok()?;
        if part.is_empty() {
            return (!line.is_empty()).then_some(line);
        }
        let (taken, whole) = match part.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end, true),
            None => (part.len(), false),
        };
        let room = bytes_max.saturating_sub(line.len());
        line.extend_from_slice(&part[..taken.min(room)]);
        reader.consume(taken + usize::from(whole));
        if whole {
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_at_their_limit_and_the_next_one_is_whole() {
        let mut reader = &b"short\n\nmuch too long\nlast"[..];
        let mut lines = Vec::new();
        while let Some(line) = next(&mut reader, 6).await {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["short", "", "much t", "last"]);
    }
}
