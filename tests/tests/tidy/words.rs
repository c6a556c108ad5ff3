//! Words: in identifiers, in attributes, and the ones that have a single home.

use crate::source::Source;
use crate::{check, finds};

/// Words that say nothing (design, "Words").
const EMPTY_WORDS: [&str; 8] = ["manager", "handler", "helper", "helpers", "util", "utils", "data", "info"];

/// What defines a name of ours; fields and variables may have to speak the words of others (`data_bits`).
const DEFINING: [&str; 8] =
    ["fn ", "struct ", "enum ", "trait ", "mod ", "type ", "static ", "macro_rules! "];

/// The only file with unsafe code.
const UNSAFE_HOME: &str = "drivers/src/sys.rs";

fn empty_words(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for keyword in DEFINING {
        for (at, _) in source.code.match_indices(keyword) {
            let inside_word = source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let rest = &source.code[at + keyword.len()..];
            let name = &rest[..rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())];
            if let Some(word) = (!inside_word).then(|| empty_word(name)).flatten() {
                complaints.push(source.at(&source.code, at, &format!("`{name}`: {word} says nothing")));
            }
        }
    }
    let stem = source.path.rsplit('/').next().and_then(|file| file.strip_suffix(".rs")).unwrap_or_default();
    complaints.extend(empty_word(stem).map(|word| format!("{}: {word} says nothing", source.path)));
    complaints
}

/// The empty word in a name in snake_case or CamelCase.
fn empty_word(name: &str) -> Option<&'static str> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().expect("there is always a part").extend(c.to_lowercase());
        }
    }
    // An all-capital name is one letter per part: take it as one word per underscore.
    let lower = name.to_lowercase();
    let words = parts.iter().map(String::as_str).chain(lower.split('_'));
    let mut found = words.filter_map(|part| EMPTY_WORDS.into_iter().find(|word| *word == part));
    found.next()
}

/// Tests that do not run, or pass on any panic.
fn hollow_tests(source: &Source) -> Vec<String> {
    let found = ["#[ignore", "#[should_panic", "ignore)]"]
        .into_iter()
        .flat_map(|attribute| source.code.match_indices(attribute).map(move |(at, _)| (at, attribute)));
    found
        .map(|(at, attribute)| source.at(&source.code, at, &format!("{attribute} hides a failure")))
        .collect()
}

fn unsafe_places(source: &Source) -> Vec<String> {
    if source.path == UNSAFE_HOME || source.path.starts_with("tests/fuzz/") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (at, _) in source.code.match_indices("unsafe") {
        let rest = &source.code[at + "unsafe".len()..];
        let whole = !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let before = source.code[..at].trim_end();
        let allows = rest.starts_with("_code") && (before.ends_with("allow(") || before.ends_with("expect("));
        if whole && (allows || !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')) {
            complaints.push(source.at(&source.code, at, &format!("unsafe code lives only in {UNSAFE_HOME}")));
        }
    }
    complaints
}

/// What a pure room must not touch: time, randomness, the world. Its tests must not either.
const IMPURE: [&str; 15] = [
    "Instant",
    "SystemTime",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::thread",
    "std::process",
    "std::env",
    "RandomState",
    "HashMap",
    "HashSet",
    "println!",
    "eprintln!",
];

fn impure_core(source: &Source) -> Vec<String> {
    if !source.path.starts_with("gateway-daemon/core/src/") {
        return Vec::new();
    }
    // Tests may look things up by hash; their outcome does not depend on the order.
    let hashes = |word: &str| matches!(word, "HashMap" | "HashSet" | "RandomState");
    let mut complaints = Vec::new();
    for word in IMPURE {
        let code = if hashes(word) { &source.product } else { &source.code };
        for (at, _) in code.match_indices(word) {
            complaints.push(source.at(code, at, &format!("{word} has no place in the pure core")));
        }
    }
    complaints
}

/// Names of tests are sentences: three words at least. A golden test is named after its file.
fn short_test_names(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for mark in ["#[test]", "#[tokio::test"] {
        for (at, _) in source.code.match_indices(mark) {
            let Some(start) = source.code[at..].find("fn ").map(|len| at + len + 3) else { continue };
            let name = source.code[start..].split(['(', '<']).next().unwrap_or_default();
            if name.split('_').count() < 3 && !name.starts_with("golden_") {
                complaints.push(source.at(&source.code, start, &format!("`{name}` is no sentence")));
            }
        }
    }
    complaints
}

#[test]
fn no_name_of_ours_has_an_empty_word() {
    check(empty_words);
}

#[test]
fn empty_words_are_found_in_every_kind_of_name() {
    finds(empty_words, "a/src/x.rs", "fn handle_data() {}", 1);
    finds(empty_words, "a/src/x.rs", "pub struct SessionManager;", 1);
    finds(empty_words, "a/src/x.rs", "mod util {}", 1);
    finds(empty_words, "a/src/x.rs", "static INFO_MAX: u8 = 0;", 1);
    finds(empty_words, "a/src/helpers.rs", "", 1);
    finds(empty_words, "a/src/x.rs", "fn database() {} struct Information; // fn data()", 0);
}

#[test]
fn every_test_runs_and_asserts() {
    check(hollow_tests);
}

#[test]
fn tests_that_hide_failures_are_found() {
    finds(hollow_tests, "a/src/x.rs", "#[ignore]\nfn a() {}", 1);
    finds(hollow_tests, "a/src/x.rs", "#[ignore = \"slow\"]\nfn a() {}", 1);
    finds(hollow_tests, "a/src/x.rs", "#[should_panic(expected = \"x\")]\nfn a() {}", 1);
    finds(hollow_tests, "a/src/x.rs", "#[cfg_attr(slow, ignore)]\nfn a() {}", 1);
    finds(hollow_tests, "a/src/x.rs", "// #[ignore]\nlet x = \"#[ignore]\";", 0);
}

#[test]
fn unsafe_code_is_in_one_file() {
    check(unsafe_places);
}

#[test]
fn unsafe_code_elsewhere_is_found() {
    finds(unsafe_places, "drivers/src/port.rs", "unsafe { x() }", 1);
    finds(unsafe_places, "drivers/src/port.rs", "#![allow(unsafe_code)]", 1);
    finds(unsafe_places, "drivers/src/sys.rs", "unsafe { x() }", 0);
    finds(unsafe_places, "drivers/src/port.rs", "fn not_unsafe_at_all() {} // unsafe", 0);
}

#[test]
fn the_core_is_pure() {
    check(impure_core);
}

#[test]
fn an_impure_core_is_found() {
    let core = "gateway-daemon/core/src/poll/plan.rs";
    finds(impure_core, core, "let now = std::time::Instant::now();", 1);
    finds(impure_core, core, "use std::time::SystemTime;", 1);
    finds(impure_core, core, "use std::fs;", 1);
    finds(impure_core, core, "use std::collections::HashMap;", 1);
    finds(impure_core, core, "#[cfg(test)]\nmod tests { use std::collections::HashMap; }", 0);
    finds(impure_core, "drivers/src/clock.rs", "let now = std::time::Instant::now();", 0);
}

#[test]
fn names_of_tests_are_sentences() {
    check(short_test_names);
}

#[test]
fn a_test_without_a_sentence_is_found() {
    finds(short_test_names, "a/src/x.rs", "#[test]\nfn works() {}", 1);
    finds(short_test_names, "a/src/x.rs", "#[tokio::test(start_paused = true)]\nasync fn it_works() {}", 1);
    finds(short_test_names, "a/src/x.rs", "#[test]\nfn a_torn_record_is_skipped() {}", 0);
}
