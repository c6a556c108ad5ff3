//! The way in for the fuzz target and the property tests.

use std::path::Path;

use crate::{Environment, parse, socket, source};

/// Reads any bytes as a configuration. Holds when nothing panics, and when a refusal says at least one thing; the same for its socket alone.
pub fn fuzz_toml(data: &[u8]) {
    let env = Environment::default();
    let socket = socket::find("fuzz.toml", &String::from_utf8_lossy(data));
    assert!(socket.is_ok_and(|path| !path.is_empty()) || !data.is_empty(), "an empty file means the default");
    let problems = match source::decode("fuzz.toml", data) {
        Err(_) => return,
        Ok(text) => parse(text, "fuzz.toml", Path::new("/nonexistent"), &env),
    };
    if let Err(problems) = problems {
        assert!(problems.list.iter().any(|p| p.severity.is_error()), "a refusal without a reason");
        assert!(!problems.to_string().is_empty());
    }
}
