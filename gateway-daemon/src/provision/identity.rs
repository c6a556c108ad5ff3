//! A name for a gateway that nobody has named: from its hardware, so that two of them never have the same and one always has its own.

use std::fs;
use std::path::Path;

/// Longest part that is taken: the serial number of a Raspberry Pi has 16 digits, an UUID 32.
const SERIAL_CHARS_MAX: usize = 32;

/// Fewest characters that can tell machines apart.
const SERIAL_CHARS_MIN: usize = 4;

/// What boards say that have no number.
const NONSENSE: [&str; 8] = ["none", "default", "serial", "filled", "oem", "unknown", "system", "specified"];

/// `tidegate-` and, below `root`, the first of these that says something:
/// the serial number in the device tree (every Raspberry Pi), that of the board's firmware (PCs, virtual machines), its UUID, the permanent
/// address of the first network card by name, and the machine id of the operating system.
pub(super) fn unique_id(root: &Path) -> Option<String> {
    let text = |path: &str| fs::read_to_string(root.join(path)).ok();
    let serial = || text("proc/device-tree/serial-number").and_then(|t| serial(&t));
    let board = || text("sys/class/dmi/id/product_serial").and_then(|t| serial_of_board(&t));
    let uuid = || text("sys/class/dmi/id/product_uuid").and_then(|t| serial_of_board(&t));
    let machine = || text("etc/machine-id").and_then(|t| machine(&t));
    let found = serial().or_else(board).or_else(uuid).or_else(|| card(root)).or_else(machine)?;
    Some(format!("tidegate-{found}"))
}

/// Letters and digits of a number, in small letters; `None` when they cannot tell machines apart.
fn serial(text: &str) -> Option<String> {
    let plain: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .take(SERIAL_CHARS_MAX)
        .collect();
    let first = plain.chars().next()?;
    let varied = plain.chars().any(|c| c != first);
    (varied && plain.len() >= SERIAL_CHARS_MIN).then_some(plain)
}

fn serial_of_board(text: &str) -> Option<String> {
    let small = text.to_lowercase();
    if NONSENSE.iter().any(|word| small.contains(word)) {
        return None;
    }
    serial(text)
}

/// The address that a wired or wireless card was made with.
fn card(root: &Path) -> Option<String> {
    let folder = root.join("sys/class/net");
    let mut cards: Vec<_> = fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.path()).collect();
    cards.sort();
    cards.iter().find_map(|card| {
        let says =
            |file: &str, word: &str| fs::read_to_string(card.join(file)).is_ok_and(|t| t.trim() == word);
        // ARPHRD_ETHER, and NET_ADDR_PERM: not one that was drawn or set.
        if !(says("type", "1") && says("addr_assign_type", "0")) {
            return None;
        }
        serial(&fs::read_to_string(card.join("address")).ok()?)
    })
}

/// Twelve digits of the id: it is not meant to be told whole (machine-id(5)).
fn machine(text: &str) -> Option<String> {
    serial(text).filter(|id| id.len() == SERIAL_CHARS_MAX).map(|id| id.chars().take(12).collect())
}

/// A name for a machine without any number: as good as one while its configuration stays.
pub(super) fn drawn_id() -> Option<String> {
    let mut bytes = [0_u8; 6];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (got == bytes.len()).then(|| format!("tidegate-{hex}"))
}
