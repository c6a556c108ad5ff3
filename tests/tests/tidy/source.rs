//! The sources as the rules see them: without comments and texts, with and without their tests.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the root of the workspace.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Same lines, with comments and the inside of texts blanked.
    pub(crate) code: String,
    /// `code` with the items under `#[cfg(test)]` blanked; all blank in a file of tests.
    pub(crate) product: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let product = if is_test_file(path) { String::new() } else { without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, product }
    }

    /// A complaint about a place in one of the texts above.
    pub(crate) fn at(&self, code: &str, offset: usize, what: &str) -> String {
        let line = code[..offset].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }
}

/// Everything below the root that is not built.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// All files, by their path from the root, sorted.
    pub(crate) files: Vec<String>,
    pub(crate) sources: Vec<Source>,
}

impl Tree {
    pub(crate) fn read() -> Self {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the root").to_owned();
        let mut files = Vec::new();
        walk(&root, "", &mut files);
        files.sort_unstable();
        let read = |path: &String| fs::read_to_string(root.join(path)).expect("a source is UTF-8");
        let rust = files.iter().filter(|path| path.ends_with(".rs"));
        let sources = rust.map(|path| Source::new(path, &read(path))).collect();
        Self { root, files, sources }
    }
}

fn walk(root: &Path, below: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).expect("a directory of the tree can be read") {
        let entry = entry.expect("an entry can be read");
        let name = entry.file_name().into_string().expect("a file name is UTF-8");
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() {
            if !matches!(name.as_str(), "target" | ".git" | "artifacts" | "node_modules") {
                walk(root, &path, files);
            }
        } else if kind.is_file() {
            files.push(path);
        }
    }
}

/// Whether a file holds nothing but tests: the tests package, and `tests.rs` or `tests/` of a room.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path.contains("/benches/")
}

/// Blanks comments and the inside of texts and characters; lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                text[at..].find('\n').map_or(bytes.len(), |len| at + len)
            }
            b'/' if bytes[at..].starts_with(b"/*") => block_comment(bytes, at),
            b'"' => string(bytes, at),
            b'r' if !ident_before(bytes, at) => raw_string(text, at).unwrap_or(at),
            b'\'' => character(text, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("blanks are ASCII and whole characters are blanked")
}

fn ident_before(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    // `br"` and `cr"` are raw strings too.
    before.is_some_and(|byte| byte == b'_' || byte.is_ascii_alphanumeric() && !matches!(byte, b'b' | b'c'))
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string(text: &str, start: usize) -> Option<usize> {
    let hashes = text[start + 1..].bytes().take_while(|byte| *byte == b'#').count();
    let open = start + 1 + hashes;
    text[open..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(text[open + 1..].find(&close).map_or(text.len(), |len| open + 1 + len + close.len()))
}

/// The end of a character literal; `None` for a lifetime.
fn character(text: &str, start: usize) -> Option<usize> {
    let mut chars = text[start + 1..].char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        let (escaped, _) = chars.next()?;
        let close = text[start + 1 + escaped + 1..].find('\'')?;
        return Some(start + 1 + escaped + 1 + close + 1);
    }
    let (second, quote) = chars.next()?;
    (quote == '\'').then_some(start + 1 + second + 1)
}

/// Blanks every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(start) = code[from..].find(MARK).map(|at| from + at) {
        let end = item_end(code, start + MARK.len());
        for byte in &mut out[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8(out).expect("blanks are ASCII and whole items are blanked")
}

/// Where the item that begins here ends: at its `;`, or at the brace that closes its first brace.
pub(crate) fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && byte == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_and_texts_are_blanked_and_code_stays() {
    let check = |text: &str, gone: &[&str], kept: &[&str]| {
        let code = blank(text);
        assert_eq!(code.matches('\n').count(), text.matches('\n').count());
        assert_eq!(code.len(), text.len());
        for word in gone {
            assert!(!code.contains(word), "{word} is still in {code:?}");
        }
        for word in kept {
            assert!(code.contains(word), "{word} is gone from {code:?}");
        }
    };
    check("a // b\nc", &["b"], &["a", "c"]);
    check("a /* b /* c */ d */ e", &["b", "c", "d"], &["a", "e"]);
    check(r#"x("b \" c") y"#, &["b", "c"], &["x(", "y"]);
    check(r###"x(r#"b " c"#) y br"d" z"###, &["b \"", "c", "d"], &["x(", "y", "z"]);
    check(r"f<'a>('b', '\'', '\u{1f}', '\\') g", &["b'", "1f"], &["'a", "g"]);
    check("for r in s { var\"t\" }", &["t\""], &["for r in s", "var"]);
}

#[test]
fn items_under_test_are_not_product() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod t {\n fn b() { c[{ 1 }] }\n}\n#[cfg(test)]\nmod tests;\nfn d() {}\n";
    let source = Source::new("x/src/lib.rs", text);
    assert!(source.product.contains("fn a") && source.product.contains("fn d"));
    assert!(!source.product.contains("fn b") && !source.product.contains("tests"));
    assert!(Source::new("x/src/room/tests.rs", text).product.is_empty());
}
