//! The fuzz targets on stable: every committed corpus file, as it is and with a few hundred mutations.
//!
//! `cargo xtask fuzz` does it for real, on nightly. A failure here prints the bytes and the file to keep them in.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A name and the function that it feeds.
type Target = (&'static str, fn(&[u8]));

/// Every target by the name of its file in tests/fuzz/fuzz_targets.
const TARGETS: [Target; 9] = [
    ("broker", gateway_core::fuzzing::fuzz_broker),
    ("mbap", drivers::fuzzing::fuzz_mbap),
    ("pages", gateway_daemon::fuzzing::fuzz_pages),
    ("record", gateway_core::fuzzing::fuzz_record),
    ("row", gateway_daemon::fuzzing::fuzz_row),
    ("rtu", drivers::fuzzing::fuzz_rtu),
    ("toml", gateway_config::fuzzing::fuzz_toml),
    ("update", gateway_core::fuzzing::fuzz_update),
    ("websocket", gateway_daemon::fuzzing::fuzz_websocket),
];

/// Mutations of each corpus file: a moment in debug. TIDEGATE_MUTATIONS sets another number.
const MUTATIONS: u64 = 300;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Files of a directory, sorted, so that every run is the same run.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory of tests/fuzz can be read");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    files.sort_unstable();
    files
}

/// xorshift64*, Vigna: small, good enough to choose bytes, the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let product = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        usize::try_from(product >> 33).expect("31 bits fit a usize") % sides.max(1)
    }
}

fn mutated(bytes: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    /// Bytes on which decoders tend to trip.
    const INTERESTING: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0xfe, 0xff, b'"'];
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        match dice.roll(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, INTERESTING[dice.roll(INTERESTING.len())]),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] = INTERESTING[dice.roll(INTERESTING.len())],
            4 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            _ => {
                let tail = &other[dice.roll(other.len() + 1)..];
                bytes.splice(at.., tail.iter().copied());
            }
        }
    }
    bytes
}

fn feed(name: &str, target: fn(&[u8]), bytes: &[u8]) -> Result<(), String> {
    let hex: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    catch_unwind(AssertUnwindSafe(|| target(bytes))).map_err(|_| {
        format!("{name} panicked; keep the bytes with the fix:\n    printf '{hex}' > tests/fuzz/corpus/{name}/NAME")
    })
}

fn smoke(name: &str, target: fn(&[u8]), mutations: u64) -> Result<u64, String> {
    let corpus: Vec<Vec<u8>> = files(&fuzz_dir().join("corpus").join(name))
        .iter()
        .map(|file| fs::read(file).expect("a corpus file can be read"))
        .collect();
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let mut dice = Dice(0x5eed_0001);
    let mut fed = 0;
    for bytes in &corpus {
        feed(name, target, bytes)?;
        for _ in 0..mutations {
            let other = &corpus[dice.roll(corpus.len())];
            feed(name, target, &mutated(bytes, other, &mut dice))?;
            fed += 1;
        }
    }
    Ok(fed)
}

#[test]
fn every_target_survives_its_corpus_and_its_mutations() {
    let mutations = std::env::var("TIDEGATE_MUTATIONS").ok();
    let mutations = mutations.map_or(MUTATIONS, |text| text.parse().expect("TIDEGATE_MUTATIONS is a number"));
    for (name, target) in TARGETS {
        match smoke(name, target, mutations) {
            Ok(fed) => assert!(fed > 0),
            Err(failure) => panic!("{failure}"),
        }
    }
}

#[test]
fn every_fuzz_target_is_in_the_smoke_test() {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let targets: Vec<String> = files(&fuzz_dir().join("fuzz_targets")).iter().map(stem).collect();
    let mut smoked: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    smoked.sort_unstable();
    assert_eq!(targets, smoked);
}

#[test]
fn a_target_that_panics_is_found_and_its_bytes_are_shown() {
    let fragile: fn(&[u8]) = |bytes| assert!(bytes.len() < 3, "too long for me");
    let failure = smoke("record", fragile, 1).unwrap_err();
    assert!(failure.contains("printf '\\x01"), "{failure}");
}
