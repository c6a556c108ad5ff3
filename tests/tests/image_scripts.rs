//! Buildroot's last steps without Buildroot: what its scripts make is what the firmware and RAUC look for.
//!
//! What is looked at is which file is where, and that card, kernel command lines and update agree.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_tests::built::{Built, board};

#[test]
fn a_card_of_raspberry_pi_3_and_4_is_laid_out_as_its_firmware_looks_for_it() {
    let built = Built::new("rpi64", &["bootcode.bin", "start.elf", "start4.elf"]);
    // The boot ROM takes bootcode.bin from the first partition, and a second one elsewhere would be taken for it.
    assert_eq!(built.files(1), ["README.txt", "autoboot.txt", "bootcode.bin", "config.txt"]);
    let boot = [
        "bcm2710-rpi-3-b-plus.dtb",
        "bcm2710-rpi-3-b.dtb",
        "bcm2710-rpi-cm3.dtb",
        "bcm2710-rpi-zero-2-w.dtb",
        "bcm2711-rpi-4-b.dtb",
        "bcm2711-rpi-400.dtb",
        "bcm2711-rpi-cm4.dtb",
        "bcm2711-rpi-cm4s.dtb",
        "cmdline-a.txt",
        "cmdline-b.txt",
        "cmdline.txt",
        "config.txt",
        "kernel8.img",
        "overlays/",
        "start.elf",
        "start4.elf",
        "tryboot.txt",
        "usercfg.txt",
    ];
    assert_eq!(built.files(2), boot);
    assert_eq!(fs::read(built.at("images/boot/usercfg.txt")).unwrap(), b"", "config.txt includes it");
    assert_eq!(built.files(3), [""; 0], "slot B is empty on a fresh card");
    for (slot, number) in [("a", 5), ("b", 6)] {
        let line = fs::read_to_string(built.at(&format!("images/boot/cmdline-{slot}.txt"))).unwrap();
        let (uuid, _) = &built.partitions()[number - 1];
        assert!(line.contains(&format!(" root=PARTUUID={uuid} ")), "{line}");
        assert!(line.contains(&format!(" rauc.slot={}", slot.to_uppercase())), "{line}");
        assert!(!line.contains('@'), "{line}");
    }
    let config = fs::read_to_string(built.at("root/etc/rauc/system.conf")).unwrap();
    for line in [
        "compatible=tidegate-rpi64",
        "bootloader=custom",
        "bootloader-custom-backend=/usr/lib/tidegate/rauc-tryboot",
    ] {
        assert!(config.lines().any(|found| found == line), "{line} is not in {config}");
    }
    for script in ["usr/lib/tidegate/rauc-tryboot", "usr/lib/systemd/system-shutdown/tidegate-tryboot"] {
        assert!(built.at("root").join(script).is_file(), "{script}");
    }
    let fallback = fs::read_to_string(built.at("images/boot/cmdline.txt")).unwrap();
    let of_a = fs::read_to_string(built.at("images/boot/cmdline-a.txt")).unwrap();
    let read = |name: &str| fs::read(built.at("images/boot").join(name)).unwrap();
    assert_eq!(read("tryboot.txt"), read("config.txt"), "a trial has other settings");
    assert_eq!(fallback, format!("{} tidegate.firmware=old\n", of_a.trim_end()));
    assert!(built.at("root/usr/share/licenses/tidegate/crates.txt").is_file(), "the licences of the crates");
    let units = built.at("root/usr/lib/systemd/system");
    let choice = fs::read_to_string(units.join("multi-user.target.wants/tidegate-boot-choice.service"));
    assert!(
        choice.is_ok_and(|unit| unit.contains("\nExecStart=/usr/lib/tidegate/rauc-tryboot look\n")),
        "nobody looks at what the firmware starts"
    );
    let keyring = PathBuf::from(format!("--keyring={}", built.at("keys/keyring.pem").display()));
    let info = built
        .run(Path::new("rauc"), &[&keyring, Path::new("info"), &built.at("images/tidegate-rpi64.raucb")]);
    assert!(info.contains("tidegate-rpi64") && info.contains("verity"), "{info}");
    let manifest = fs::read_to_string(board().join("rauc/manifest.raucm.in")).unwrap();
    assert_eq!(manifest.matches("\nadaptive=block-hash-index\n").count(), 2, "{manifest}");
    assert_eq!(info.matches("block-hash-index").count(), 2, "what the gateway has is loaded again: {info}");
    assert!(built.at("images/tidegate-rpi64.img.xz").is_file());
}

/// Two of them take each other's keys away, every five seconds.
#[test]
fn one_unit_and_no_other_starts_wpa_supplicant() {
    let built = Built::new("rpi64", &[]);
    let mut starters = Vec::new();
    for folder in ["usr/lib/systemd/system", "etc/systemd/system"] {
        let units = walkdir(&built.at("root").join(folder));
        starters.extend(units.into_iter().filter(|unit| {
            unit.is_symlink() && unit.display().to_string().contains("wpa_supplicant")
                || fs::read_to_string(unit).is_ok_and(|text| text.contains("/wpa_supplicant "))
        }));
    }
    let names: Vec<_> = starters.iter().filter_map(|unit| unit.file_name()?.to_str()).collect();
    assert_eq!(names, ["tidegate-wifi.service"], "{starters:?}");
}

/// All files and links below a folder.
fn walkdir(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() { found.extend(walkdir(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_root_whose_modules_cannot_be_loaded_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["usr/lib/systemd/system", "etc", "var", "lib/modules/6.12.61-v8/kernel/drivers"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(dir.path().join("etc/group"), "root:x:0:\ndialout:x:18:\n").unwrap();
    let run = || {
        let script = board().join("post-build.sh");
        let output = Command::new(script).arg(dir.path()).arg("rpi64").output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let list = dir.path().join("lib/modules/6.12.61-v8/modules.dep");
    for empty in [false, true] {
        if empty {
            fs::write(&list, "").unwrap();
        }
        let (fine, said) = run();
        assert!(!fine && said.contains("modules.dep names none of them"), "{said}");
    }
    fs::write(&list, "kernel/drivers/w1.ko:\n").unwrap();
    let (fine, said) = run();
    assert!(fine, "{said}");
}

/// RAUC looks for blocks of 4 KiB of the new root in those of the old one, and loads the others.
#[test]
fn an_update_of_the_daemon_alone_finds_the_rest_of_the_root_again() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("usr/bin")).unwrap();
    fs::create_dir_all(tree.join("usr/lib/systemd")).unwrap();
    for number in 0..60_u64 {
        let folder = ["usr/bin", "usr/lib", "usr/lib/systemd"][usize::try_from(number % 3).unwrap()];
        fs::write(
            tree.join(folder).join(format!("part{number:03}")),
            text(number, 20_000 + 700 * usize::try_from(number).unwrap()),
        )
        .unwrap();
    }
    let blocks = |seed: u64, length: usize, name: &str| -> Vec<[u8; 4096]> {
        fs::write(tree.join("usr/bin/gateway-daemon"), text(seed, length)).unwrap();
        // A build of another day.
        Command::new("find")
            .arg(&tree)
            .args(["-exec", "touch", "-d", &format!("@{}", 1_800_000_000 + seed), "{}", "+"])
            .status()
            .unwrap();
        let out = dir.path().join(name);
        let made = Command::new(board().join("erofs.sh")).arg(&tree).arg(&out).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let bytes = fs::read(out).unwrap();
        assert_eq!(bytes.len() % 4096, 0, "RAUC takes only whole blocks");
        bytes.as_chunks().0.to_vec()
    };
    let old: HashSet<_> = blocks(1000, 600_000, "old").into_iter().collect();
    let new = blocks(2000, 640_000, "new");
    let daemon = 100 * 640_000 / (640_000 + (0..60).map(|number| 20_000 + 700 * number).sum::<usize>());
    let lacking = 100 * new.iter().filter(|block| !old.contains(*block)).count() / new.len();
    assert!(lacking <= daemon + 4, "{lacking} % are to be loaded, the daemon is {daemon} % of the root");
    assert!(new.len() > 300 && lacking > 0, "{} blocks, {lacking} % new: nothing is shown", new.len());
}

/// The clusters of a FAT32 of this size are 512 bytes: what comes behind a kernel that has grown would lie between the blocks that RAUC looks for.
#[test]
fn an_update_of_the_kernel_alone_finds_firmware_and_overlays_again() {
    let dir = tempfile::tempdir().unwrap();
    let boot = dir.path().join("boot");
    fs::create_dir_all(boot.join("overlays")).unwrap();
    for number in 0..40_u64 {
        fs::write(boot.join(format!("overlays/hat{number:02}.dtbo")), text(number, 3000)).unwrap();
        fs::write(boot.join(format!("start{number:02}.elf")), text(100 + number, 50_000)).unwrap();
    }
    let blocks = |seed: u64, length: usize| -> HashSet<[u8; 4096]> {
        fs::write(boot.join("kernel8.img"), text(seed, length)).unwrap();
        let day = ["-exec", "touch", "-d", "@1800000000", "{}", "+"];
        Command::new("find").arg(&boot).args(day).status().unwrap();
        let out = dir.path().join("boot.img");
        let script = format!(
            ". '{}'; fat '{}' 64 TG-BOOT-A '{}'",
            board().join("fat.sh").display(),
            out.display(),
            boot.display()
        );
        let _ = fs::remove_file(&out);
        assert!(Command::new("sh").args(["-euc", &script]).status().unwrap().success());
        fs::read(out).unwrap().as_chunks().0.iter().copied().collect()
    };
    let (old, new) = (blocks(1000, 700_000), blocks(2000, 745_900));
    let lacking = new.difference(&old).count();
    // The kernel itself, and some blocks of the table and of the list of files.
    assert!(lacking < 745_900 / 4096 + 12, "{lacking} of {} blocks are to be loaded", new.len());
    assert!(lacking > 100, "{lacking} of {} blocks: nothing is shown", new.len());
}

/// Words by lot, which pack about as programs do.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Four bytes of eight are by lot.
        bytes.extend((state & 0xffff_ffff).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn raspberry_pi_5_has_its_own_kernel_and_takes_no_update_of_the_others() {
    let built = Built::new("rpi5", &[]);
    // At the top the boot ROM would write the files of the boot loader over any other; without a config.txt the partition is none to start from.
    assert_eq!(built.files(1), ["README.txt", "autoboot.txt", "eeprom/"]);
    assert!(built.files(2).contains(&"kernel_2712.img".to_owned()));
    let config = fs::read_to_string(built.at("root/etc/rauc/system.conf")).unwrap();
    assert!(config.contains("compatible=tidegate-rpi5\n"), "{config}");
}
