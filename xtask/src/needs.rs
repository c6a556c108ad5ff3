//! What everything here needs from the system, by Debian package: the tests, the program for the boards, the QEMU test machine.

use std::path::Path;

use crate::steps::{command, succeeds};

/// What something here needs from the system: how it is recognised, and its Debian package.
struct Need {
    package: &'static str,
    present: Present,
    by: By,
}

/// How a need is recognised.
enum Present {
    /// By these programs, which administrators may have outside of the path of users.
    Programs(&'static [&'static str]),
    /// In another way.
    Other(fn() -> bool),
}

/// Who has a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The tests that run on this machine.
    Tests,
    /// The QEMU test machine.
    Qemu,
    /// Either.
    Both,
}

use Present::{Other, Programs};

const NEEDS: [Need; 28] = [
    Need { package: "mosquitto", present: Programs(&["mosquitto"]), by: By::Both },
    Need {
        package: "mosquitto-clients",
        present: Programs(&["mosquitto_pub", "mosquitto_sub"]),
        by: By::Both,
    },
    Need { package: "pkg-config", present: Programs(&["pkg-config"]), by: By::Tests },
    Need {
        package: "libmodbus-dev",
        present: Other(|| succeeds(command("pkg-config", &["--exists", "libmodbus"]))),
        by: By::Tests,
    },
    Need { package: "strace", present: Programs(&["strace"]), by: By::Tests },
    Need { package: "gcc", present: Programs(&["cc"]), by: By::Tests },
    Need { package: "shellcheck", present: Programs(&["shellcheck"]), by: By::Tests },
    Need {
        package: "python3-venv",
        present: Other(|| succeeds(command("python3", &["-c", "import venv, ensurepip"]))),
        by: By::Both,
    },
    Need { package: "nodejs", present: Programs(&["node"]), by: By::Tests },
    Need { package: "npm", present: Programs(&["npm"]), by: By::Tests },
    // A Debian with systemd, in a container and in QEMU, and cards on loop devices.
    Need { package: "mmdebstrap", present: Programs(&["mmdebstrap"]), by: By::Both },
    Need { package: "systemd-container", present: Programs(&["systemd-nspawn"]), by: By::Tests },
    Need { package: "mount", present: Programs(&["losetup"]), by: By::Tests },
    Need { package: "fdisk", present: Programs(&["sfdisk"]), by: By::Both },
    Need { package: "e2fsprogs", present: Programs(&["mkfs.ext4", "debugfs"]), by: By::Both },
    Need { package: "dosfstools", present: Programs(&["mkfs.vfat"]), by: By::Both },
    Need { package: "mtools", present: Programs(&["mcopy"]), by: By::Both },
    // Card images and updates as Buildroot's last steps make them.
    Need { package: "openssl", present: Programs(&["openssl"]), by: By::Both },
    Need { package: "rauc", present: Programs(&["rauc"]), by: By::Both },
    Need { package: "erofs-utils", present: Programs(&["mkfs.erofs", "fsck.erofs"]), by: By::Both },
    Need { package: "squashfs-tools", present: Programs(&["mksquashfs"]), by: By::Both },
    Need { package: "xz-utils", present: Programs(&["xz"]), by: By::Tests },
    Need { package: QEMU, present: Programs(&["qemu-system-aarch64"]), by: By::Qemu },
    Need { package: "u-boot-qemu", present: Other(|| Path::new(U_BOOT).is_file()), by: By::Qemu },
    Need { package: "u-boot-tools", present: Programs(&["mkimage"]), by: By::Qemu },
    Need { package: "device-tree-compiler", present: Programs(&["fdtput", "fdtget"]), by: By::Qemu },
    Need { package: "kmod", present: Programs(&["depmod", "modprobe"]), by: By::Qemu },
    Need { package: "systemd", present: Programs(&["systemd-sysusers"]), by: By::Qemu },
];

/// The emulator of whole machines.
pub(crate) const QEMU: &str = "qemu-system-arm";

/// U-Boot as Debian builds it for QEMU.
pub(crate) const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// The packages that are not there.
pub(crate) fn missing(by: By) -> Vec<&'static str> {
    let needed = NEEDS.iter().filter(|need| need.by == by || need.by == By::Both);
    needed.filter(|need| !need.present.check()).map(|need| need.package).collect()
}

impl Present {
    fn check(&self) -> bool {
        let beside =
            |program: &str| ["/sbin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(program).is_file());
        match self {
            Programs(programs) => programs.iter().all(|program| on_path(program) || beside(program)),
            Other(check) => check(),
        }
    }
}

/// Whether this user is root.
pub(crate) fn is_root() -> bool {
    let user = std::process::Command::new("id").arg("-u").output();
    user.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// Whether a program would be found.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::{NEEDS, on_path};
    use crate::cross::{Target, packages};
    use crate::steps::root;

    #[test]
    fn a_program_is_found_on_the_path_or_not() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-here"));
    }

    #[test]
    fn every_need_names_one_package() {
        assert!(NEEDS.iter().all(|need| !need.package.contains(' ')));
    }

    /// `--install` installs what README.md lists and nothing else.
    #[test]
    fn readme_lists_every_package_that_is_installed() {
        let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
        let line = readme.lines().find_map(|line| line.strip_prefix("Debian packages: ")).unwrap();
        let mut listed: Vec<&str> =
            line.trim_end_matches('.').split(", ").map(|name| name.trim_matches('`')).collect();
        let boards = packages(Target::Aarch64);
        let mut installed: Vec<&str> = NEEDS.iter().map(|need| need.package).collect();
        installed.extend(boards.iter().map(String::as_str));
        listed.sort_unstable();
        installed.sort_unstable();
        assert_eq!(listed, installed);
    }
}
