//! What a person has laid on the FAT partition, read with suspicion: any computer may have written it, and anybody who holds the card.

use std::fs;
use std::path::Path;

use gateway_core::text::marked;

use super::disk::{self, Unread};

/// Most entries of the folder that are looked at. A Raspberry Pi's has about 30; FAT allows 65,536.
const ENTRIES_MAX: usize = 2048;

/// Largest file that is taken: what the reader of the configuration takes.
pub(super) const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most bytes of a configuration with all its files: three of them fit on the configuration partition of 32 MiB at once.
pub(super) const TOTAL_BYTES_MAX: u64 = 6 * 1024 * 1024;

/// The file that makes it a configuration.
pub(super) const CONFIG: &str = "gateway.toml";

/// Files that are written back.
pub(super) const ERRORS: &str = "gateway-errors.txt";
pub(super) const APPLIED: &str = "gateway-applied.txt";
pub(super) const STATUS: &str = "gateway-status.txt";
pub(super) const README: &str = "README.txt";

/// The names in the drop zone.
#[derive(Debug, Default)]
pub(super) struct Names {
    list: Vec<String>,
    /// Rests of interrupted writes.
    pub(super) parts: Vec<String>,
}

/// Lists the drop zone.
///
/// # Errors
/// The sentence that says why it cannot be used.
pub(super) fn look(folder: &Path) -> Result<Names, String> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("the drive TIDEGATE ({}) cannot be read: {error}", folder.display()))?;
    let mut names = Names::default();
    for (count, entry) in entries.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(format!(
                "the drive TIDEGATE holds more than {ENTRIES_MAX} files, expected a few: remove what does not belong there"
            ));
        }
        let Ok(entry) = entry else { continue };
        // FAT is mounted with names in UTF-8; what is not belongs to nobody who could be told.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if disk::is_part(&name) {
            names.parts.push(name);
        } else if !is_noise(&name) {
            names.list.push(name);
        }
    }
    names.list.sort();
    Ok(names)
}

/// What Macs and Windows leave everywhere.
fn is_noise(name: &str) -> bool {
    name.starts_with('.')
        || ["system volume information", "$recycle.bin", "thumbs.db", "desktop.ini"]
            .contains(&name.to_lowercase().as_str())
}

impl Names {
    /// The name on the drive of a file that a configuration calls so: exactly, or with other capitals.
    pub(super) fn find(&self, wanted: &str) -> Option<&str> {
        let exact = self.list.iter().find(|name| *name == wanted);
        exact.or_else(|| self.list.iter().find(|name| name.eq_ignore_ascii_case(wanted))).map(String::as_str)
    }

    /// A configuration under a name that is not read, with the sentence for it.
    pub(super) fn misnamed(&self) -> Option<(&str, String)> {
        let name = self.list.iter().find(|name| is_trap(name))?;
        let why = if name.to_lowercase().ends_with(".toml") {
            "is not looked at under this name"
        } else {
            "ends in more than .toml (Windows hides the last part of a name: switch on \"File name extensions\" in the Explorer's view)"
        };
        Some((name, format!("{} {why}: rename it to {CONFIG}", shown(name))))
    }

    /// Files that look like certificates and keys.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &str> {
        let kind = |name: &&String| {
            let name = name.to_lowercase();
            [".pem", ".crt", ".cer", ".key", ".der", ".p12", ".pfx"].iter().any(|end| name.ends_with(end))
        };
        self.list.iter().filter(kind).map(String::as_str)
    }
}

/// `gateway.toml.txt`, `gateway.txt`, `gateway (1).toml`, `gateway - Copy.toml`.
fn is_trap(name: &str) -> bool {
    let name = name.to_lowercase();
    let ours = name.contains("example") || name == ERRORS || name == APPLIED || name == CONFIG;
    let toml =
        name.ends_with(".toml") || name.contains(".toml.") || name == "gateway.txt" || name == "gateway";
    !ours && toml && name.starts_with("gateway")
}

/// Reads a file of the drop zone.
pub(super) fn read(folder: &Path, name: &str) -> Result<Vec<u8>, Unread> {
    disk::read(&folder.join(name), FILE_BYTES_MAX)
}

/// A name as it may stand in a text: without control characters, not endless.
pub(super) fn shown(name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    marked(&name, &[]).into_owned()
}

/// Whether a file may be installed under this name: nothing that leads elsewhere, hides, or is an option of a program.
pub(super) fn is_plain(name: &str) -> bool {
    let good =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ' | '(' | ')' | '+' | '@');
    (1..=64).contains(&name.len())
        && name.chars().all(good)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !is_ours(name)
}

/// Names that mean something in the folder of the configuration.
fn is_ours(name: &str) -> bool {
    let name = name.to_lowercase();
    name == CONFIG || name == "keys" || name == "current" || name.starts_with("version.")
}
