//! What `rauc status --detailed --output-format=json` says of the two systems on the card (RAUC, `src/main.c`,
//! `r_status_formatter_json`).
//!
//! ```json
//! {"compatible":"tidegate-rpi64","booted":"A","boot_primary":"rootfs.1","slots":[
//!  {"rootfs.0":{"class":"rootfs","bootname":"A","state":"booted","boot_status":"good",
//!               "slot_status":{"bundle":{"version":"1.2"}}}}, ..]}
//! ```
//! `boot_status` says whether the boot loader would start the slot. With U-Boot that is so while it has tries left, also for a system
//! that has never been tested: whether a system is on trial is known from [`super::record`], not from here.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The slots of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slots {
    /// The slot that the boot loader starts next.
    pub primary: Option<String>,
    /// All of them, by name.
    pub all: BTreeMap<String, Slot>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Slot {
    /// Name at the boot loader; slots that belong to another one have none.
    pub bootname: Option<String>,
    /// `booted`, `active` or `inactive`.
    pub state: Option<String>,
    /// `good` or `bad`: see the module.
    pub boot_status: Option<String>,
    /// What was written into it.
    pub slot_status: Option<Written>,
}

/// What was written into a slot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Written {
    /// From which bundle.
    pub bundle: Option<Bundle>,
}

/// A bundle, as `rauc info --output-format=json` prints it, too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Bundle {
    /// Its version.
    pub version: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    boot_primary: Option<String>,
    slots: Vec<BTreeMap<String, Slot>>,
}

impl Slots {
    /// Reads the answer of `rauc status`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let status: Status = serde_json::from_str(json.trim())
            .map_err(|fault| format!("the answer of `rauc status` is not understood: {fault}"))?;
        Ok(Self { primary: status.boot_primary, all: status.slots.into_iter().flatten().collect() })
    }

    /// The running one, with its name.
    #[must_use]
    pub fn booted(&self) -> Option<(&str, &Slot)> {
        let booted = |slot: &Slot| slot.state.as_deref() == Some("booted");
        self.all.iter().find(|(_, slot)| booted(slot)).map(|(name, slot)| (name.as_str(), slot))
    }

    /// Version of the bundle in the slot that is started next, if it says one.
    #[must_use]
    pub fn primary_version(&self) -> Option<&str> {
        self.version(self.primary.as_deref()?)
    }

    /// Version of the bundle in a slot, if it says one.
    #[must_use]
    pub fn version(&self, slot: &str) -> Option<&str> {
        self.all.get(slot)?.slot_status.as_ref()?.bundle.as_ref()?.version.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RAUC 1.13 prints it, shortened.
    const TWO: &str = r#"{"compatible":"tidegate-qemu-arm64","variant":"","booted":"A","boot_primary":"rootfs.1","slots":[
        {"rootfs.1":{"class":"rootfs","device":"/dev/disk/by-partuuid/x-06","type":"raw","bootname":"B","state":"inactive",
          "parent":null,"mountpoint":null,"boot_status":"good","slot_status":{"bundle":{"compatible":"tidegate-qemu-arm64",
          "version":"1.2"},"status":"ok"}}},
        {"boot.0":{"class":"boot","device":"/dev/x2","type":"raw","bootname":null,"state":"active","parent":"rootfs.0",
          "mountpoint":null,"boot_status":null}},
        {"rootfs.0":{"class":"rootfs","device":"/dev/x5","type":"raw","bootname":"A","state":"booted","parent":null,
          "mountpoint":"/","boot_status":"good"}}]}"#;

    #[test]
    fn the_running_slot_and_the_next_one_are_found() {
        let slots = Slots::parse(TWO).unwrap();
        assert_eq!(slots.booted().map(|(name, _)| name), Some("rootfs.0"));
        assert_eq!(slots.primary.as_deref(), Some("rootfs.1"));
        assert_eq!(slots.primary_version(), Some("1.2"));
        assert_eq!(slots.version("rootfs.0"), None);
    }

    #[test]
    fn what_is_no_status_is_refused_with_words() {
        for text in ["", "{}", "[]", "null", "{\"slots\":3}", "Error: no such service"] {
            assert!(Slots::parse(text).is_err_and(|words| words.contains("rauc status")), "{text}");
        }
        assert_eq!(Slots::parse("{\"slots\":[]}").unwrap().booted(), None);
    }
}
