//! Buildroot's last steps without Buildroot: its scripts make a card and an update of a folder that stands for what it built.
//!
//! The kernel and the firmware are no such thing, only files with their names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What is built for one machine.
#[derive(Debug)]
pub struct Built {
    dir: TempDir,
    machine: &'static str,
}

impl Built {
    /// Runs the last steps on a stand-in for the root, with these files of the firmware.
    #[must_use]
    #[track_caller]
    pub fn new(machine: &'static str, firmware: &[&str]) -> Self {
        let built = Self { dir: tempfile::tempdir().expect("a folder"), machine };
        for folder in ["root/usr/lib/systemd/system", "root/etc", "root/var", "images/rpi-firmware/overlays"]
        {
            fs::create_dir_all(built.at(folder)).expect("a folder");
        }
        let files = [
            ("root/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("root/etc/group", "root:x:0:\ndialout:x:18:\n"),
            ("images/Image.gz", "kernel"),
        ];
        for (name, text) in files {
            fs::write(built.at(name), text).expect("the folder is there");
        }
        for name in device_trees(machine) {
            fs::write(built.at("images").join(name), "tree").expect("the folder is there");
        }
        fs::copy(board().join(machine).join("config.txt"), built.at("images/rpi-firmware/config.txt"))
            .expect("the board has its settings");
        // What the package of wpa_supplicant installs.
        for unit in ["wpa_supplicant.service", "wpa_supplicant@.service", "wpa_supplicant-nl80211@.service"] {
            let text =
                "[Service]\nExecStart=/usr/sbin/wpa_supplicant -u\n[Install]\nWantedBy=multi-user.target\n";
            fs::write(built.at("root/usr/lib/systemd/system").join(unit), text).expect("the folder is there");
        }
        for name in ["recovery.bin", "pieeprom.upd", "pieeprom.sig", "LICENSE"] {
            fs::create_dir_all(built.at("eeprom")).expect("a folder");
            fs::write(built.at("eeprom").join(name), "").expect("the folder is there");
        }
        for name in firmware {
            fs::write(built.at("images/rpi-firmware").join(name), "\x7fELF").expect("the folder is there");
        }
        built.run(&board().join("rauc/pki.sh"), &[&built.at("keys")]);
        built.run(&board().join("post-build.sh"), &[&built.at("root"), Path::new(machine)]);
        let words = [&built.at("root"), &built.at("images/rootfs.erofs"), Path::new("--all-root")];
        built.run(&board().join("erofs.sh"), &words);
        built.run(&board().join("post-image.sh"), &[&built.at("images"), Path::new(machine)]);
        built
    }

    /// A file or folder of the build.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The image of the card.
    #[must_use]
    pub fn card(&self) -> PathBuf {
        self.at(&format!("images/tidegate-{}.img", self.machine))
    }

    /// Runs a program that has to end well: what it prints.
    #[track_caller]
    pub fn run(&self, program: &Path, args: &[&Path]) -> String {
        let output = Command::new(program)
            .args(args)
            .env("TIDEGATE_KEYS", self.at("keys"))
            .env("TIDEGATE_KEYRING", self.at("keys/keyring.pem"))
            .env("XZ_DEFAULTS", "-0")
            .env("TIDEGATE_NOTICES", board().join("image.env"))
            .env("TIDEGATE_EEPROM", if self.machine == "rpi5" { self.at("eeprom") } else { PathBuf::new() })
            .output();
        let output = output.unwrap_or_else(|error| unreachable!("{}: {error}", program.display()));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", program.display());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The partitions of the card: PARTUUID and start in bytes.
    #[must_use]
    pub fn partitions(&self) -> Vec<(String, u64)> {
        let table = self.run(Path::new("sfdisk"), &[Path::new("--json"), &self.card()]);
        let table: serde_json::Value = serde_json::from_str(&table).expect("sfdisk writes JSON");
        let signature =
            table["partitiontable"]["id"].as_str().expect("a signature").trim_start_matches("0x").to_owned();
        let all = table["partitiontable"]["partitions"].as_array().expect("partitions");
        let start = |part: &serde_json::Value| part["start"].as_u64().expect("a start") * 512;
        let uuid = |number: usize| format!("{signature}-{number:02x}");
        all.iter().enumerate().map(|(index, part)| (uuid(index + 1), start(part))).collect()
    }

    /// The names in a FAT partition of the card.
    #[must_use]
    pub fn files(&self, number: usize) -> Vec<String> {
        let (_, start) = &self.partitions()[number - 1];
        let image = PathBuf::from(format!("{}@@{start}", self.card().display()));
        let list = self.run(Path::new("mdir"), &[Path::new("-b"), Path::new("-i"), &image]);
        let mut names: Vec<String> =
            list.lines().map(|line| line.trim_start_matches("::/").to_owned()).collect();
        names.sort_unstable();
        names
    }
}

/// The files of the device trees that a board's configuration asks for.
fn device_trees(machine: &str) -> Vec<String> {
    let path = board().join(format!("../../configs/tidegate_{machine}_defconfig"));
    let text = fs::read_to_string(path).expect("the board has a configuration");
    let names = text.lines().find_map(|line| line.strip_prefix("BR2_LINUX_KERNEL_INTREE_DTS_NAME="));
    let names = names.expect("it names its device trees").trim_matches('"').split(' ');
    names.map(|name| format!("{}.dtb", name.trim_start_matches("broadcom/"))).collect()
}

/// The folder of the scripts.
#[must_use]
pub fn board() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../buildroot/board/tidegate")
}
