//! The boot loader backend of the Raspberry Pi, with the folders of a running system below one of the test's.

use std::path::Path;
use std::process::Command;

use crate::built::board;

/// The backend with a command of words, on what lies in `dir`; what its callers add of the environment comes after.
///
/// `bin` and `tools` in `dir` go before the programs of the machine.
#[must_use]
pub fn backend(dir: &Path, words: &str) -> Command {
    let at = |name: &str| dir.join(name);
    let mut backend = Command::new(board().join("rauc/tryboot-backend.sh"));
    backend
        .args(words.split(' '))
        .env("TIDEGATE_AUTOBOOT", at("autoboot.txt"))
        .env("TIDEGATE_BOOTLOADER_DT", at("firmware"))
        .env("TIDEGATE_REBOOT_PARAM", at("reboot-param"))
        .env("TIDEGATE_TRYBOOT_WANTED", at("wanted"))
        .env("TIDEGATE_SLOT_RECORDS", at("records"))
        .env("TIDEGATE_SLOT_MOUNTS", at("slots"))
        .env("TIDEGATE_CMDLINE", at("cmdline"))
        .env("TIDEGATE_FAULTS_DIR", at("faults"))
        .env(
            "PATH",
            format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", at("bin").display(), at("tools").display()),
        );
    backend
}
