//! The lines of `config.txt` and `autoboot.txt`, and the filters between them.

use std::collections::BTreeMap;

use super::board::{LongLine, Model, UnknownFilter, Unproven};

/// Characters of a line that are documented to be read.
const CUT: usize = 98;
/// Where a longer line was seen to break.
const BREAK: usize = 99;

/// What the filters are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The model; `None` where the reader knows no filter of models (`autoboot.txt`).
    pub model: Option<Model>,
    /// Whether the flag was set.
    pub tryboot: bool,
    /// The partition that `config.txt` was read from; `None` where `[boot_partition=N]` is unknown.
    pub partition: Option<u8>,
    /// What is not proven.
    pub unproven: Unproven,
}

/// Kinds of filters. "Filters of the same type replace each other"; "Filters of different types can be combined simply by listing them one after the other"
/// (`conditional.adoc`). That `[tryboot]` and `[boot_partition=N]` are kinds of their own is taken from the names in the release notes, not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    None,
    Model,
    Tryboot,
    Expression,
    Hardware,
    Unknown,
}

/// All model filters that are documented.
const MODELS: [&str; 16] = [
    "pi1", "pi2", "pi3", "pi3+", "pi4", "pi400", "cm4", "cm4s", "pi0", "pi0w", "pi02", "pi5", "pi500", "cm5",
    "cm1", "cm0",
];

/// Which filters are in force.
#[derive(Debug, Default)]
struct Filters(BTreeMap<Kind, bool>);

impl Filters {
    fn pass(&self) -> bool {
        self.0.values().all(|passes| *passes)
    }

    fn section(&mut self, name: &str, facts: &Facts) {
        let (kind, passes) = match name {
            // "It resets all previously set filters".
            "all" => return self.0.clear(),
            // "prevents any settings that follow from being applied to any hardware".
            "none" => (Kind::None, false),
            // "This filter succeeds if the `tryboot` reboot flag was set."
            "tryboot" => (Kind::Tryboot, facts.tryboot),
            _ => match Self::of_hardware(name, facts) {
                Some(known) => known,
                None if facts.unproven.unknown_filter == UnknownFilter::Ignored => return,
                None => (Kind::Unknown, false),
            },
        };
        self.0.insert(kind, passes);
    }

    fn of_hardware(name: &str, facts: &Facts) -> Option<(Kind, bool)> {
        let model = facts.model?;
        if MODELS.contains(&name) {
            return Some((Kind::Model, model.filters().contains(&name)));
        }
        if let Some(number) = name.strip_prefix("boot_partition=") {
            // "tests whether the partition number N matches the number that the system is booting from" (firmware-2712, 2025-03-10).
            return Some((Kind::Expression, number.parse::<u8>().ok()? == facts.partition?));
        }
        // A screen, a serial number, the level of a pin: never those of the board that is played.
        let hardware = ["EDID=", "0x", "gpio", "HDMI:", "board-type="];
        hardware.iter().any(|begin| name.starts_with(begin)).then_some((Kind::Hardware, false))
    }
}

/// The lines of a file that count, in order, without comments.
#[must_use]
pub fn in_force(bytes: &[u8], facts: &Facts) -> Vec<String> {
    let mut filters = Filters::default();
    let mut found = Vec::new();
    for line in split(bytes, facts.unproven) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            // Without its bracket at the end it is none that is known.
            filters.section(section.strip_suffix(']').unwrap_or(""), facts);
        } else if filters.pass() {
            found.push(line);
        }
    }
    found
}

/// The lines of a file as the parser sees them.
fn split(bytes: &[u8], unproven: Unproven) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let line = if unproven.windows_line_ends { line.strip_suffix('\r').unwrap_or(line) } else { line };
        let mut rest: Vec<char> = line.chars().collect();
        match unproven.long_line {
            LongLine::Cut => rest.truncate(CUT),
            LongLine::Breaks => {
                while rest.len() > BREAK {
                    let next = rest.split_off(BREAK);
                    lines.push(rest.into_iter().collect());
                    rest = next;
                }
            }
        }
        lines.push(rest.into_iter().collect());
    }
    lines
}

/// A number as the firmware's C reads one: the digits at the beginning.
#[must_use]
pub fn number(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).map_or(text, |end| &text[..end]);
    digits.parse().ok()
}
