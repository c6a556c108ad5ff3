//! `config.txt`: what the firmware lays beside the kernel.

use std::collections::BTreeMap;

use super::board::{Board, Loader};
use super::card::{Card, Lost};
use super::lines::{Facts, in_force};

/// Files that include one another. Nesting is not documented; a circle must end.
const INCLUDES_MAX: u32 = 8;

/// A step of the device tree, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `dtoverlay=NAME,PARAMETER,...`.
    Overlay {
        /// Its name.
        name: String,
        /// Parameters in the same line.
        parameters: Vec<String>,
    },
    /// `dtparam=`: one parameter.
    Parameter {
        /// `name=value`, or a name alone.
        text: String,
        /// The overlay in whose scope it stands: "Overlay parameters are only in scope until the next overlay is loaded [...] the parameter in the overlay takes
        /// precedence" (`device-tree.adoc`).
        scope: Option<String>,
    },
}

/// What the file says for this board and partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Properties; of two with one name the last counts.
    pub settings: BTreeMap<String, String>,
    /// Overlays and parameters.
    pub steps: Vec<Step>,
    /// What was left out, in sentences.
    pub told: Vec<String>,
}

impl Config {
    /// A property.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Reads a file of a partition, with those that it includes and what the EEPROM's settings append.
    ///
    /// # Errors
    /// The file is not there or cannot be read.
    pub fn read(card: &Card, board: &Board, partition: u8, name: &str, tryboot: bool) -> Result<Self, Lost> {
        let mut reader = Reader { card, board, partition, tryboot, config: Self::default(), scope: None };
        reader.file(&card.read(partition, name)?, 0);
        reader.file(board.appended.as_bytes(), 0);
        Ok(reader.config)
    }
}

struct Reader<'a> {
    card: &'a Card,
    board: &'a Board,
    partition: u8,
    tryboot: bool,
    config: Config,
    scope: Option<String>,
}

impl Reader<'_> {
    fn file(&mut self, bytes: &[u8], depth: u32) {
        let facts = Facts {
            model: Some(self.board.model),
            tryboot: self.tryboot,
            partition: self.board.knows_boot_partition().then_some(self.partition),
            unproven: self.board.unproven,
        };
        for line in in_force(bytes, &facts) {
            if let Some(name) = line.strip_prefix("include ") {
                self.include(name.trim(), depth);
            } else if let Some((name, value)) = line.split_once('=') {
                self.property(name, value);
            }
        }
    }

    /// "Causes the content of the specified file to be inserted into the current file" (`what_is_config_txt.adoc`). That a file which is not there is passed over is
    /// not documented.
    fn include(&mut self, name: &str, depth: u32) {
        if self.board.model.loader() == Loader::Eeprom2712 && !self.board.unproven.eeprom_includes {
            self.config.told.push(format!("the boot loader does not include {name}"));
        } else if depth >= INCLUDES_MAX {
            self.config.told.push(format!("{name} is included too deep"));
        } else {
            match self.card.read(self.partition, name) {
                Ok(bytes) => self.file(&bytes, depth + 1),
                Err(lost) => self.config.told.push(format!("{name}, to be included: {lost:?}")),
            }
        }
    }

    fn property(&mut self, name: &str, value: &str) {
        match name {
            "dtoverlay" | "device_tree_overlay" => self.overlay(value),
            "dtparam" | "device_tree_param" => {
                let of = |text: &str| Step::Parameter { text: text.to_owned(), scope: self.scope.clone() };
                let steps: Vec<Step> = value.split(',').map(of).collect();
                self.config.steps.extend(steps);
            }
            _ => {
                self.config.settings.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// "end the current overlay scope using: `dtoverlay=`"; "The loader will skip over missing overlays and bad parameters" (`device-tree.adoc`).
    fn overlay(&mut self, value: &str) {
        let mut words = value.split([',', ':']).map(str::to_owned);
        let name = words.next().unwrap_or_default();
        self.scope = (!name.is_empty()).then(|| name.clone());
        if name.is_empty() {
            return;
        }
        if !self.card.has(self.partition, &format!("overlays/{name}.dtbo")) {
            self.config.told.push(format!("overlays/{name}.dtbo is not there and is left out"));
            return;
        }
        self.config.steps.push(Step::Overlay { name, parameters: words.collect() });
    }
}
