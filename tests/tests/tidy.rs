//! The rules of the house that no compiler knows, checked over the sources and `cargo metadata`.
//!
//! Each rule is a function from something to a list of complaints; the tests here run it on the real tree, and beside each rule are
//! tests that feed it a bad sample, because a check that cannot fail is no check.

#[path = "tidy/edges.rs"]
mod edges;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/packages.rs"]
mod packages;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use source::{Source, Tree};

/// Runs a rule over all Rust sources and fails with every complaint.
#[track_caller]
fn check(rule: impl Fn(&Source) -> Vec<String>) {
    let tree = Tree::read();
    assert!(tree.sources.len() > 20, "the tree was not found: only {} sources", tree.sources.len());
    none(tree.sources.iter().flat_map(rule));
}

/// Fails with every complaint.
#[track_caller]
fn none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Asserts that a rule finds exactly so many faults in a sample.
#[cfg(test)]
#[track_caller]
fn finds(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str, faults: usize) {
    let found = rule(&Source::new(path, text));
    assert_eq!(found.len(), faults, "{path}: {found:?}\n{text}");
}
