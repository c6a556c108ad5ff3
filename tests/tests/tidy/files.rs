//! Files: their length, their names, their places.

use std::process::Command;

use crate::source::{Source, Tree, item_end};
use crate::{check, finds, none};

/// Most lines of a file without its tests.
const PRODUCT_LINES_MAX: usize = 500;
/// Most lines of a file of tests: above that, nobody finds the test again.
const TEST_LINES_MAX: usize = 1200;
/// `main.rs` only parses, loads, builds, runs and maps to an exit code.
const MAIN_LINES_MAX: usize = 80;
/// Most lines of a function's body outside tests.
const FUNCTION_LINES_MAX: usize = 70;

fn long_files(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let product = source.text.lines().zip(source.product.lines());
    let product_lines = product
        .filter(|(text, product)| text.trim().is_empty() || !product.trim().is_empty() || is_comment(text))
        .count();
    let (found, max) = match () {
        () if source.path.ends_with("/src/main.rs") => (lines, MAIN_LINES_MAX),
        () if source.product.is_empty() => (lines, TEST_LINES_MAX),
        () => (product_lines, PRODUCT_LINES_MAX),
    };
    if found > max { vec![format!("{}: {found} lines, at most {max}", source.path)] } else { Vec::new() }
}

/// Comments are blank in the product, but they are read all the same.
fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn long_functions(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, _) in source.product.match_indices("fn ") {
        let whole = !source.product[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name = source.product[at + 3..].split(['(', '<']).next().unwrap_or_default();
        if !whole || name.is_empty() {
            continue;
        }
        let end = item_end(&source.product, at);
        let open = source.product[at..end].find('{').map_or(end, |len| at + len);
        let lines = source.text[open..end].lines().count().saturating_sub(2);
        if lines > FUNCTION_LINES_MAX {
            let what = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
            complaints.push(source.at(&source.product, at, &what));
        }
    }
    complaints
}

/// A second file of these would silently replace the one at the root for a part of the tree.
fn stray(files: &[String]) -> Vec<String> {
    const ONLY_AT_ROOT: [&str; 7] = [
        "clippy.toml",
        ".clippy.toml",
        "rustfmt.toml",
        ".rustfmt.toml",
        "deny.toml",
        "rust-toolchain.toml",
        "rust-toolchain",
    ];
    let is_stray =
        |path: &&String| path.rsplit_once('/').is_some_and(|(_, name)| ONLY_AT_ROOT.contains(&name));
    files.iter().filter(is_stray).map(|path| format!("{path}: belongs at the root only")).collect()
}

/// Decisions are `docs/decisions/NNNN-title.md`, each number once; they are cited by number for ever, so holes may stay.
fn decisions(files: &[String]) -> Vec<String> {
    let names = files.iter().filter_map(|path| path.strip_prefix("docs/decisions/"));
    let mut complaints = Vec::new();
    let mut before = "";
    for name in names {
        let (number, title) = name.split_once('-').unwrap_or_default();
        let plain = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let named = title.strip_suffix(".md").is_some_and(|title| title.split('-').all(plain));
        if !(number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()) && named) {
            complaints.push(format!("docs/decisions/{name}: expected NNNN-title.md, as words-with-dashes"));
        } else if number == before {
            complaints.push(format!("docs/decisions/{name}: number {number} is taken"));
        }
        before = number;
    }
    complaints
}

/// Files whose first line asks for a shell.
fn is_script(path: &str, first_line: &str) -> bool {
    path.ends_with(".sh") || first_line.starts_with("#!") && first_line.trim_end().ends_with("sh")
}

fn shellcheck(scripts: &[std::path::PathBuf]) -> Vec<String> {
    let output = Command::new("shellcheck")
        .args(["--external-sources", "--format", "gcc"])
        .args(scripts)
        .output()
        .expect(
            "shellcheck is installed; `cargo xtask peers` does it, or: sudo apt-get install --yes shellcheck",
        );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let faults: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(output.status.success(), faults.is_empty(), "shellcheck failed: {output:?}");
    faults
}

#[test]
fn files_are_short_enough_to_read() {
    check(long_files);
}

#[test]
fn a_file_that_is_too_long_is_found() {
    finds(long_files, "a/src/x.rs", &"let a = 1;\n".repeat(501), 1);
    finds(long_files, "a/src/x.rs", &"// words\n".repeat(501), 1);
    finds(long_files, "a/src/x.rs", &"let a = 1;\n".repeat(500), 0);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "let a = 1;\n".repeat(600));
    finds(long_files, "a/src/x.rs", &tests, 0);
    finds(long_files, "a/src/tests.rs", &"let a = 1;\n".repeat(1201), 1);
    finds(long_files, "a/src/main.rs", &"let a = 1;\n".repeat(81), 1);
}

#[test]
fn functions_fit_on_a_screen() {
    check(long_functions);
}

#[test]
fn a_function_that_is_too_long_is_found() {
    let function = |lines: usize| format!("fn f(a: [u8; 4]) {{\n{}}}\n", "    x();\n".repeat(lines));
    finds(long_functions, "a/src/x.rs", &function(71), 1);
    finds(long_functions, "a/src/x.rs", &function(70), 0);
    finds(long_functions, "a/src/tests.rs", &function(100), 0);
}

#[test]
fn files_that_rule_the_tree_are_at_its_root() {
    let tree = Tree::read();
    assert!(tree.files.iter().any(|path| path == "clippy.toml"), "the root was not found");
    none(stray(&tree.files));
}

#[test]
fn a_stray_clippy_toml_is_found() {
    let files = ["clippy.toml", "drivers/clippy.toml", "config/.clippy.toml"].map(str::to_owned);
    assert_eq!(stray(&files).len(), 2);
}

#[test]
fn decisions_are_numbered_and_named() {
    let tree = Tree::read();
    assert!(tree.files.iter().any(|path| path.starts_with("docs/decisions/")), "there are no decisions");
    none(decisions(&tree.files));
}

#[test]
fn a_decision_with_a_wrong_name_is_found() {
    let check = |names: &[&str], faults: usize| {
        let files: Vec<String> = names.iter().map(|name| format!("docs/decisions/{name}")).collect();
        assert_eq!(decisions(&files).len(), faults, "{names:?}");
    };
    check(&["0001-one.md", "0002-two-words.md"], 0);
    check(&["0001-one.md", "0003-three.md"], 0);
    check(&["0001-one.md", "0001-other.md"], 1);
    check(&["0001-One.md", "0002-two.txt", "0003.md"], 3);
}

#[test]
fn scripts_pass_shellcheck() {
    let tree = Tree::read();
    let first_line = |path: &str| {
        let bytes = std::fs::read(tree.root.join(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned()
    };
    let scripts: Vec<_> = tree.files.iter().filter(|path| is_script(path, &first_line(path))).collect();
    assert!(scripts.iter().any(|path| *path == ".ci/run"), "the scripts were not found: {scripts:?}");
    none(shellcheck(&scripts.iter().map(|path| tree.root.join(path)).collect::<Vec<_>>()));
}

#[test]
fn a_careless_script_is_found() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = dir.path().join("careless");
    std::fs::write(&script, "#!/bin/sh\nrm -rf $1/*\n").expect("the script is written");
    assert!(!shellcheck(&[script]).is_empty());
    assert!(
        is_script("x/run", "#!/usr/bin/env bash") && is_script("x.sh", "") && is_script("x", "#!/bin/sh")
    );
    assert!(!is_script("x/run", "#!/usr/bin/env python3"));
}
