//! `autoboot.txt` on the first FAT partition: which partition is meant to start.
//!
//! "`autoboot.txt` is limited to 512 bytes and supports the `[all]`, `[none]` and `[tryboot]` conditional filters" (`autoboot.adoc`).

use super::board::{Board, UnknownFilter, Unproven};
use super::lines::{Facts, in_force, number};

/// Bytes that are read.
const BYTES_MAX: usize = 512;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Autoboot {
    /// The partition; `None` is the default one.
    pub boot_partition: Option<u8>,
    /// Whether `config.txt` is read although the flag was set.
    pub tryboot_a_b: bool,
}

/// Reads the file.
#[must_use]
pub fn read(bytes: &[u8], board: &Board, tryboot: bool) -> Autoboot {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let mut found = Autoboot::default();
    for line in lines(bytes, board, tryboot) {
        let Some((name, value)) = line.split_once('=') else { continue };
        match name {
            // "Specifying partition `0` means boot from the `default` partition".
            "boot_partition" => {
                found.boot_partition = number(value).and_then(|n| u8::try_from(n).ok()).filter(|n| *n != 0);
            }
            "tryboot_a_b" if board.knows_sections() => found.tryboot_a_b = number(value) == Some(1),
            _ => {}
        }
    }
    found
}

fn lines(bytes: &[u8], board: &Board, tryboot: bool) -> Vec<String> {
    let facts = Facts { model: None, tryboot, partition: None, unproven: board.unproven };
    if board.knows_sections() {
        return in_force(bytes, &facts);
    }
    // Measured with an EEPROM of 2021-04-29: "reads `autoboot.txt` but not its sections, so the last `boot_partition=` (3) wins" (TriMixxx, T0).
    let unproven = Unproven { unknown_filter: UnknownFilter::Ignored, ..board.unproven };
    let without = String::from_utf8_lossy(bytes).replace("[none]", "[]").replace("[tryboot]", "[]");
    in_force(without.as_bytes(), &Facts { unproven, ..facts })
}
