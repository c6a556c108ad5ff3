//! The way in for the fuzz target and the property tests.

use std::path::Path;

use crate::{Environment, parse, source};

/// Reads any bytes as a configuration. Holds when nothing panics, and when a refusal says at least one thing.
pub fn fuzz_toml(data: &[u8]) {
    let env = Environment::default();
    let problems = match source::decode("fuzz.toml", data) {
        Err(_) => return,
        Ok(text) => parse(text, "fuzz.toml", Path::new("/nonexistent"), &env),
    };
    if let Err(problems) = problems {
        assert!(problems.list.iter().any(|p| p.severity.is_error()), "a refusal without a reason");
        assert!(!problems.to_string().is_empty());
    }
}
