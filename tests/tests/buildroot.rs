//! What can be said of the Buildroot tree without Buildroot: its files agree with one another and with `image.env`.
//!
//! What only Buildroot can say (no option is lost, the package files are in order) `cargo xtask test` asks when BUILDROOT_DIR is set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const BOARDS: [(&str, &str); 3] =
    [("tidegate_rpi64", "rpi64"), ("tidegate_rpi5", "rpi5"), ("tidegate_qemu_aarch64", "qemu")];

/// Options that say what the board is; everything else is the gateway and the same on all of them.
const OF_THE_BOARD: [&str; 9] = [
    "BR2_aarch64",
    "BR2_cortex_",
    "BR2_ARM_FPU_",
    "BR2_GLOBAL_PATCH_DIR",
    "BR2_ROOTFS_POST_SCRIPT_ARGS",
    "BR2_LINUX_KERNEL",
    "BR2_PACKAGE_RPI_FIRMWARE",
    "BR2_PACKAGE_BRCMFMAC_",
    "BR2_PACKAGE_UBOOT_TOOLS",
];

fn tree() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../buildroot")
}

fn read(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(&path);
    assert!(text.is_ok(), "{}: {text:?}", path.as_ref().display());
    text.unwrap_or_default()
}

fn defconfig(board: &str) -> String {
    read(tree().join(format!("configs/{board}_defconfig")))
}

/// The name of the option that a line sets or unsets.
fn option(line: &str) -> &str {
    let line = line.strip_prefix("# ").unwrap_or(line);
    line.split(['=', ' ']).next().unwrap_or(line)
}

fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    assert!(value.is_some(), "{name} is not set");
    value.unwrap_or_default().trim_matches('"')
}

/// `image.env` of the boards.
fn image(name: &str) -> String {
    value(&read(tree().join("board/tidegate/image.env")), name).to_owned()
}

/// The files of this tree that a text names.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(['"', ' ', '\n']);
    words.filter_map(|word| word.strip_prefix("$(BR2_EXTERNAL_TIDEGATE_PATH)/"))
}

#[test]
fn every_file_that_a_defconfig_names_is_there() {
    for (board, _) in BOARDS {
        let text = defconfig(board);
        assert!(named(&text).count() > 5, "{board} names next to nothing");
        for file in named(&text) {
            assert!(tree().join(file).is_file(), "{board} names {file}, which is not there");
        }
    }
}

#[test]
fn all_boards_have_the_same_userland() {
    let userland = |board| -> BTreeSet<String> {
        let text = defconfig(board);
        let shared =
            text.lines().filter(|line| !OF_THE_BOARD.iter().any(|part| option(line).starts_with(part)));
        shared.filter(|line| option(line) != "BR2_PACKAGE_HOST_UBOOT_TOOLS").map(str::to_owned).collect()
    };
    let first = userland(BOARDS[0].0);
    assert!(first.len() > 30, "{first:?}");
    for (board, _) in BOARDS {
        let differences: Vec<_> = first.symmetric_difference(&userland(board)).cloned().collect();
        assert!(differences.is_empty(), "{board} differs from {}: {differences:#?}", BOARDS[0].0);
    }
}

/// systemd that was built without libseccomp leaves half of a sandbox out without a word.
#[test]
fn units_that_filter_system_calls_find_a_systemd_and_a_kernel_that_can() {
    assert!(read(tree().join("../systemd/system/tidegate.service")).contains("\nSystemCallFilter="));
    assert!(read(tree().join("board/tidegate/kernel/system.config")).contains("\nCONFIG_SECCOMP=y\n"));
    for (board, _) in BOARDS {
        assert!(defconfig(board).contains("\nBR2_PACKAGE_LIBSECCOMP=y\n"), "{board} has no libseccomp");
    }
}

#[test]
fn no_option_is_set_twice() {
    for (board, _) in BOARDS {
        let text = defconfig(board);
        let mut seen = BTreeSet::new();
        let twice: Vec<_> = text.lines().filter(|line| !seen.insert(option(line))).collect();
        assert!(twice.is_empty(), "{board}: {twice:?}");
    }
}

#[test]
fn every_board_is_known_to_the_scripts_by_its_name() {
    for (board, machine) in BOARDS {
        assert_eq!(value(&defconfig(board), "BR2_ROOTFS_POST_SCRIPT_ARGS"), machine);
        let script = read(tree().join("board/tidegate/boot.sh"));
        assert!(script.contains(&format!("\n{machine})")), "boot.sh does not know {machine}");
    }
}

#[test]
fn the_root_is_what_the_kernels_can_mount_and_packed_as_they_can_read() {
    let storage = read(tree().join("board/tidegate/kernel/storage.config"));
    // LZ4 is what EROFS reads without an option of its own; bundles of updates are squashfs.
    for option in
        ["CONFIG_EROFS_FS=y", "CONFIG_EROFS_FS_ZIP=y", "CONFIG_SQUASHFS=y", "CONFIG_SQUASHFS_ZLIB=y"]
    {
        assert!(storage.lines().any(|line| line == option), "no {option}");
    }
    let by_hand = read(tree().join("board/tidegate/erofs.sh"));
    for (board, _) in BOARDS {
        let text = defconfig(board);
        assert!(named(&text).any(|file| file.ends_with("kernel/storage.config")), "{board}");
        assert_eq!(value(&text, "BR2_TARGET_ROOTFS_EROFS"), "y", "{board}");
        // One name and one time for all of it, or every build would be another root.
        assert_eq!(value(&text, "BR2_REPRODUCIBLE"), "y", "{board}");
        let level = value(&text, "BR2_TARGET_ROOTFS_EROFS_LZ4HC_LEVEL");
        let cluster = value(&text, "BR2_TARGET_ROOTFS_EROFS_PCLUSTERSIZE");
        assert!(by_hand.contains(&format!(" -zlz4hc,{level} -C{cluster} ")), "erofs.sh makes another one");
    }
    for line in ["rpi/cmdline.txt", "uboot/uboot.args"] {
        let text = read(tree().join("board/tidegate").join(line));
        assert!(text.split_whitespace().any(|word| word == "rootfstype=erofs"), "{line}: {text:?}");
    }
}

#[test]
fn kernel_fragments_are_options_and_do_not_contradict_one_another() {
    for (board, _) in BOARDS {
        let text = defconfig(board);
        let mut asked: BTreeMap<String, String> = BTreeMap::new();
        for file in value(&text, "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES").split(' ').flat_map(named) {
            for line in read(tree().join(file)).lines() {
                let name = option(line);
                if !name.starts_with("CONFIG_") {
                    assert!(line.is_empty() || line.starts_with("# "), "{file}: {line:?} is no option");
                    continue;
                }
                let sets = line.ends_with("=y") || line.ends_with("=m");
                assert!(sets || line.ends_with(" is not set"), "{file}: {line:?}");
                let other = asked.insert(name.to_owned(), line.to_owned());
                assert!(other.is_none(), "{board}: asks for {other:?} and for {line:?}");
            }
        }
        assert!(asked.len() > 50, "{board} asks the kernel for {} options", asked.len());
    }
}

#[test]
fn the_firmware_finds_the_slots_where_the_image_has_them() {
    let partition = |name: &str| {
        let uuid = image(name);
        let number = uuid.rsplit('-').next().unwrap();
        u8::from_str_radix(number, 16).unwrap()
    };
    let boot = [partition("TIDEGATE_PARTUUID_BOOT_A"), partition("TIDEGATE_PARTUUID_BOOT_B")];
    let autoboot = read(tree().join("board/tidegate/rpi/autoboot.txt"));
    let expected =
        format!("[all]\ntryboot_a_b=1\nboot_partition={}\n[tryboot]\nboot_partition={}\n", boot[0], boot[1]);
    assert_eq!(autoboot, expected);
    for machine in ["rpi64", "rpi5"] {
        let config = read(tree().join(format!("board/tidegate/{machine}/config.txt")));
        // A after B: firmware that does not know the filter takes the last.
        let [a, b] = boot;
        let lines = format!(
            "\n[boot_partition={b}]\ncmdline=cmdline-b.txt\n[boot_partition={a}]\ncmdline=cmdline-a.txt\n[all]\n"
        );
        assert!(config.contains(&lines), "{machine}/config.txt has not {lines:?}");
        let (ours, included) = config.rsplit_once("\n[all]\n").expect("a last section for all models");
        assert!(!ours.contains("include ") && !included.contains('['), "{machine}: included for one model");
        assert!(included.ends_with("\ninclude usercfg.txt\n"), "{machine}/config.txt: {included:?}");
    }
    let backend = read(tree().join("board/tidegate/rauc/tryboot-backend.sh"));
    for line in [format!("A) echo {} ;;", boot[0]), format!("B) echo {} ;;", boot[1])] {
        assert!(backend.contains(&line), "the backend has not {line:?}");
    }
    let boot_a = format!("${{TIDEGATE_PARTUUID_BOOT_A:-{}}}", image("TIDEGATE_PARTUUID_BOOT_A"));
    assert!(backend.contains(&boot_a), "the backend has not {boot_a:?}");
}

#[test]
fn the_kernel_does_not_wait_for_a_root_for_ever_and_restarts_after_a_panic() {
    let line = read(tree().join("board/tidegate/rpi/cmdline.txt"));
    let words: Vec<_> = line.split_whitespace().collect();
    for word in ["ro", "rootwait=30", "panic=10", "rauc.slot=@SLOT@", "root=PARTUUID=@ROOT@"] {
        assert!(words.contains(&word), "{line:?} has not {word}");
    }
    assert_eq!(line.lines().count(), 1, "the firmware reads one line");
}

/// The device trees of Raspberry Pi's kernel say `cgroup_disable=memory`, and what stands in the file comes after that.
#[test]
fn limits_of_memory_have_an_effect_on_a_raspberry_pi() {
    let line = read(tree().join("board/tidegate/rpi/cmdline.txt"));
    assert!(line.split_whitespace().any(|word| word == "cgroup_enable=memory"), "{line:?}");
    assert!(read(tree().join("../systemd/system/tidegate.service")).contains("\nMemoryMax="));
}

/// The firmware's documentation: what comes after the 98th character is ignored. What it does: it takes it for the next line, of a comment as well
/// (raspberrypi/firmware issue 1669).
#[test]
fn no_line_that_the_firmware_parses_is_longer_than_it_reads() {
    for file in ["rpi64/config.txt", "rpi5/config.txt", "rpi/autoboot.txt", "rpi/firstpart-config.txt"] {
        let text = read(tree().join("board/tidegate").join(file));
        for line in text.lines() {
            assert!(line.len() <= 98 && line.is_ascii(), "{file}: {line:?}");
            assert!(!line.contains(" = ") && !line.ends_with(' '), "{file}: blanks count: {line:?}");
        }
    }
}

/// kmod that cannot unpack modules writes an empty list of them, and ends well.
#[test]
fn kernel_modules_can_be_loaded() {
    for board in ["tidegate_rpi64", "tidegate_rpi5"] {
        let text = defconfig(board);
        let plain = named(&text)
            .filter(|file| file.ends_with(".config"))
            .any(|file| read(tree().join(file)).contains("\n# CONFIG_MODULE_COMPRESS is not set\n"));
        let unpacks =
            ["BR2_PACKAGE_XZ=y", "BR2_PACKAGE_HOST_KMOD_XZ=y"].iter().all(|option| text.contains(option));
        assert!(plain || unpacks, "{board}: the kernel's defconfig packs modules with xz");
    }
}

/// Each adapter and hat that docs/hardware.md names: the driver, how the kernels get it, and what the unit allows. A name is that of /proc/devices.
#[test]
fn every_serial_adapter_of_the_hardware_guide_has_a_driver_and_may_be_opened() {
    let guide = read(tree().join("../docs/hardware.md"));
    let unit = read(tree().join("../systemd/system/tidegate.service"));
    let modules = read(tree().join("../systemd/modules-load.d/tidegate.conf"));
    for (in_guide, option, device, module) in [
        ("FT232R", "CONFIG_USB_SERIAL_FTDI_SIO=y", "ttyUSB", Some("usbserial")),
        ("CP2102N", "CONFIG_USB_SERIAL_CP210X=y", "ttyUSB", Some("usbserial")),
        ("CH340", "CONFIG_USB_SERIAL_CH341=y", "ttyUSB", Some("usbserial")),
        ("CH343", "CONFIG_USB_ACM=y", "ttyACM", Some("cdc-acm")),
        ("/dev/ttyAMA0", "CONFIG_SERIAL_AMBA_PL011=y", "ttyAMA", None),
        ("SC16IS752", "CONFIG_SERIAL_SC16IS7XX=m", "ttySC", Some("sc16is7xx")),
    ] {
        assert!(guide.contains(in_guide), "the guide does not name {in_guide}");
        for board in ["tidegate_rpi64", "tidegate_rpi5"] {
            let text = defconfig(board);
            let mut fragments = named(&text).filter(|file| file.contains("/kernel/"));
            assert!(
                fragments.any(|file| read(tree().join(file)).lines().any(|line| line == option)),
                "{board}: {in_guide} needs {option}"
            );
        }
        let allowed = format!("DeviceAllow=char-{device} rw");
        assert!(unit.lines().any(|line| line == allowed), "{in_guide} needs {allowed}");
        if let Some(module) = module {
            assert!(
                modules.lines().any(|line| line == module),
                "{in_guide}: {device} has its name in /proc/devices only when {module} is loaded"
            );
        }
    }
}

/// `[board]`: what a word of it needs of the kernel, and that the guide names it.
#[test]
fn everything_that_can_be_fitted_to_the_board_has_a_driver_and_stands_in_the_hardware_guide() {
    let guide = read(tree().join("../docs/hardware.md"));
    let driver = |clock: &str| match clock {
        "ds1307" | "ds3231" | "mcp7940x" => "CONFIG_RTC_DRV_DS1307=m".to_owned(),
        "pcf85063a" => "CONFIG_RTC_DRV_PCF85063=m".to_owned(),
        other => format!("CONFIG_RTC_DRV_{}=m", other.to_uppercase()),
    };
    let clocks = gateway_core::board::settings::CLOCKS.map(|clock| (format!("\"{clock}\""), driver(clock)));
    let one_wire = ("one_wire = true".to_owned(), "CONFIG_W1_MASTER_GPIO=m".to_owned());
    for (in_guide, option) in clocks.into_iter().chain([one_wire]) {
        assert!(guide.contains(&in_guide), "the guide does not name {in_guide}");
        for board in ["tidegate_rpi64", "tidegate_rpi5"] {
            let text = defconfig(board);
            let mut fragments = named(&text).filter(|file| file.contains("/kernel/"));
            let asked = fragments.any(|file| read(tree().join(file)).lines().any(|line| line == option));
            assert!(asked, "{board}: {in_guide} needs {option}");
        }
    }
}

/// The source of the package is the folder beside this tree: with builds in it, and the keys that sign updates.
#[test]
fn what_is_given_on_with_a_device_contains_no_key() {
    assert!(read(tree().join("package/tidegate/tidegate.mk")).contains("\nTIDEGATE_REDISTRIBUTE = NO\n"));
}

#[test]
fn every_model_that_an_image_is_for_has_its_device_tree() {
    for (board, models) in [
        (
            "tidegate_rpi64",
            &["rpi-3-b", "rpi-3-b-plus", "rpi-cm3", "rpi-zero-2-w", "rpi-4-b", "rpi-400", "rpi-cm4"][..],
        ),
        (
            "tidegate_rpi5",
            &["rpi-5-b", "rpi-500", "rpi-cm5-cm5io", "rpi-cm5l-cm5io", "rpi-cm5-cm4io", "rpi-cm5l-cm4io"],
        ),
    ] {
        let text = defconfig(board);
        let trees: Vec<_> = value(&text, "BR2_LINUX_KERNEL_INTREE_DTS_NAME").split(' ').collect();
        for model in models {
            let is_it = |tree: &&&str| tree.split_once('-').is_some_and(|(_, name)| name == *model);
            assert!(
                trees.iter().any(|tree| is_it(&tree)),
                "{board} has no device tree of {model}: {trees:?}"
            );
        }
    }
    // Their USB is no host without.
    let config = |machine| read(tree().join(format!("board/tidegate/{machine}/config.txt")));
    assert!(config("rpi64").contains("\n[cm4]\n") && config("rpi64").contains("\notg_mode=1\n"));
    assert!(
        config("rpi5").contains("\n[cm5]\n") && config("rpi5").contains("\ndtoverlay=dwc2,dr_mode=host\n")
    );
}

#[test]
fn sqlite_is_built_for_the_image_as_it_is_tested() {
    let cargo = read(tree().join("../.cargo/config.toml"));
    let package = read(tree().join("package/tidegate/tidegate.mk"));
    let between = |text: &str, start: &str, end: &str| -> Vec<String> {
        let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start:?}"));
        let words = rest.split(end).next().unwrap_or_default().split_whitespace();
        words.filter(|word| *word != "\\").map(str::to_owned).collect()
    };
    let here = between(&cargo, "LIBSQLITE3_FLAGS = \"\"\"", "\"\"\"");
    assert!(here.len() > 1 && here.contains(&"-DHAVE_FDATASYNC=1".to_owned()), "{here:?}");
    assert_eq!(between(&package, "TIDEGATE_SQLITE_FLAGS = ", "TIDEGATE_CARGO_ENV"), here);
    assert!(package.contains("LIBSQLITE3_FLAGS=\"$(strip $(TIDEGATE_SQLITE_FLAGS))\""), "{package}");
}

#[test]
fn nobody_can_log_in() {
    for (board, _) in BOARDS {
        for line in ["# BR2_TARGET_ENABLE_ROOT_LOGIN is not set", "# BR2_TARGET_GENERIC_GETTY is not set"] {
            assert!(defconfig(board).contains(line), "{board} has not {line:?}");
        }
    }
}
