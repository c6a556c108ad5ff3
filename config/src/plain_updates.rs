//! Whether a file allows updates by `http://`, found without its credentials: the update agent has none, and decides by root's file and not by what the
//! gateway tells it.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::read_file;
use crate::source::{FILE_BYTES_MAX, Source};

/// `allow_http = true` in `[update]`. A file that cannot be read or understood allows nothing.
#[must_use]
pub fn allows_http_updates(path: &Path) -> bool {
    let bytes = read_file(path).unwrap_or_default();
    bytes.len() <= FILE_BYTES_MAX && std::str::from_utf8(&bytes).is_ok_and(find)
}

fn find(text: &str) -> bool {
    let source = Source::new("", text);
    if source.too_deep().is_some() {
        return false;
    }
    let Ok(tree) = DeTable::parse(source.text()) else { return false };
    let update = tree.get_ref().get("update").and_then(|value| value.get_ref().as_table());
    let allowed = update.and_then(|update| update.get("allow_http"));
    allowed.is_some_and(|value| matches!(value.get_ref(), DeValue::Boolean(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_true_below_update_allows_http() {
        assert!(find("[gateway]\nid = \"a\"\n[update]\nuplink = \"cloud\"\nallow_http = true\n"));
        assert!(find("update.allow_http = true\n[bus.a]\nwhatever = 3\n"));
        for text in [
            "",
            "[update]\n",
            "[update]\nallow_http = false\n",
            "[update]\nallow_http = \"true\"\n",
            "[update]\nallow_http = 1\n",
            "allow_http = true\n",
            "[[update]]\nallow_http = true\n",
            "[updates]\nallow_http = true\n",
            "[update]\nallow_http = true\nallow_http = true\n",
            "[update]\nallow_http = true\n[broken\n",
            &format!("[update]\nallow_http = true\na = {}\n", "[".repeat(10_000)),
        ] {
            assert!(!find(text), "{text:.60}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_allows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!allows_http_updates(folder.path()));
        assert!(!allows_http_updates(&folder.path().join("none")));
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, "[update]\nallow_http = true\n").unwrap();
        assert!(allows_http_updates(&path));
        std::fs::write(&path, b"# f\xfcr\n[update]\nallow_http = true\n").unwrap();
        assert!(!allows_http_updates(&path));
    }
}
