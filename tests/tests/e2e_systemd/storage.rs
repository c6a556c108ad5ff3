//! What `tidegate-storage.service` makes of cards in every state.

use std::path::Path;

use tidegate_tests::card::{Boot, Card};
use tidegate_tests::container::{Container, Setting};

use super::able;

const MIB: u64 = 1 << 20;
const CARD_MIB: u64 = 1536;
/// Growing stops this far below the end of the card at most: grain of the table, last group of the file system and its own tables.
const LOST_MIB_MAX: u64 = 80;

/// A kernel that grows a mounted file system asks for `CAP_SYS_RESOURCE` (bit 24), which not every root has.
fn can_grow_mounted() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & (1 << 24) != 0
}

/// Everything is mounted as it should be, whatever happened before.
fn check_mounted(boot: &Boot) {
    assert_eq!(boot.line("code "), Some("0"), "{boot:#?}");
    let var = boot.line("mount /var ext4 ").unwrap_or_else(|| panic!("{boot:#?}"));
    for option in ["rw", "noatime", "nodev", "nosuid", "commit=60", "errors=remount-ro"] {
        assert!(var.split(',').any(|found| found == option), "{option} is not in {var}");
    }
    let config = boot.line("mount /etc/tidegate ext4 ").unwrap_or_else(|| panic!("{boot:#?}"));
    assert!(config.starts_with("ro,"), "{config}");
}

fn fault<'boot>(boot: &'boot Boot, name: &str) -> Option<&'boot str> {
    boot.line(&format!("fault {name}: "))
}

/// A card as it is after its first boot, its file system grown, and a file on it.
fn grown() -> Card {
    let card = Card::new(CARD_MIB).unwrap();
    let boot = card.boot("mkdir -p /var/lib && echo 41 >/var/lib/kept && sync").unwrap();
    check_mounted(&boot);
    if !can_grow_mounted() {
        // The same result by the other way: the file system is not mounted between two boots.
        let device = card.device(Some(8));
        for tool in [&["e2fsck", "-fy"][..], &["resize2fs"]] {
            let done = std::process::Command::new(tool[0]).args(&tool[1..]).arg(&device).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
    }
    card
}

const KEPT: &str = "echo kept $(cat /var/lib/kept)";

#[test]
fn the_first_boot_grows_the_last_partition_and_the_next_has_nothing_to_do() {
    let test = "the_first_boot_grows_the_last_partition_and_the_next_has_nothing_to_do";
    if !able(test) {
        return;
    }
    let card = Card::new(CARD_MIB).unwrap();
    let before = card.sectors(8, "start").unwrap();
    let boot = card.boot("").unwrap();
    check_mounted(&boot);
    assert_eq!(fault(&boot, "data-partition"), None, "{boot:#?}");
    assert_eq!(fault(&boot, "config-partition"), None, "{boot:#?}");
    let (start, size) = (card.sectors(8, "start").unwrap(), card.sectors(8, "size").unwrap());
    assert_eq!(start, before, "the partition stays where it is");
    assert_eq!(start + size, CARD_MIB * 2048, "it ends where the card ends");
    assert_eq!(card.sectors(4, "start").unwrap() + card.sectors(4, "size").unwrap(), CARD_MIB * 2048);
    if can_grow_mounted() {
        let least = (size / 2048 - LOST_MIB_MAX) * MIB;
        assert!(boot.var_bytes() >= least, "{} of {least} bytes: {boot:#?}", boot.var_bytes());
    } else {
        let why = "this root has no CAP_SYS_RESOURCE, so the kernel grows no mounted file system; `cargo xtask qemu` sees it grow";
        super::say(&format!("NOT RUN: a part of {test}: {why}"));
        assert!(boot.said.contains("cannot grow; it stays as it is"), "{boot:#?}");
    }

    let again = card.boot("").unwrap();
    check_mounted(&again);
    assert!(!again.said.contains("grows from"), "{again:#?}");
    assert_eq!(again.var_bytes(), boot.var_bytes());
}

#[test]
fn growing_goes_on_after_a_cut_at_each_step() {
    if !able("growing_goes_on_after_a_cut_at_each_step") {
        return;
    }
    let card = Card::new(CARD_MIB).unwrap();
    let cut = r#"kill -9 "$PPID""#;
    // Before the second write to the table, before the kernel hears of it, and before the file system grows.
    let second = format!("case \"$*\" in *'-N 8'*) {cut} ;; *) exec /usr/sbin/sfdisk \"$@\" ;; esac");
    for (tool, script) in [("sfdisk", second.as_str()), ("partx", cut), ("resize2fs", cut)] {
        card.stand_in(tool, Some(script)).unwrap();
        let boot = card.boot("").unwrap();
        assert_eq!(boot.line("code "), Some("137"), "no cut at {tool}: {boot:#?}");
        card.stand_in(tool, None).unwrap();
    }
    let boot = card.boot("").unwrap();
    check_mounted(&boot);
    assert_eq!(card.sectors(8, "start").unwrap() + card.sectors(8, "size").unwrap(), CARD_MIB * 2048);
    assert_eq!(fault(&boot, "data-partition"), None, "{boot:#?}");
    let grown = boot.said.contains("resize2fs") || boot.var_bytes() > 1000 * MIB;
    assert!(grown, "the file system follows: {boot:#?}");
}

#[test]
fn a_lost_superblock_is_repaired_and_the_files_are_kept() {
    if !able("a_lost_superblock_is_repaired_and_the_files_are_kept") {
        return;
    }
    let card = grown();
    let write = "mount -o remount,rw /etc/tidegate && echo 42 >/etc/tidegate/kept && mount -o remount,ro /etc/tidegate";
    check_mounted(&card.boot(write).unwrap());
    for partition in [8, 7] {
        card.wipe(partition, 0, 4).unwrap();
    }
    let boot = card.boot(&format!("{KEPT} $(cat /etc/tidegate/kept)")).unwrap();
    check_mounted(&boot);
    assert_eq!(boot.line("kept "), Some("41 42"), "{boot:#?}");
    assert_eq!(fault(&boot, "data-partition"), None, "{boot:#?}");
    assert_eq!(fault(&boot, "config-partition"), None, "{boot:#?}");
}

#[test]
fn a_destroyed_partition_is_made_anew_and_the_fault_is_told_once() {
    if !able("a_destroyed_partition_is_made_anew_and_the_fault_is_told_once") {
        return;
    }
    let card = Card::new(CARD_MIB).unwrap();
    check_mounted(&card.boot("").unwrap());
    for (partition, kib, name) in [(8, 64 << 10, "data-partition"), (7, 32 << 10, "config-partition")] {
        card.wipe(partition, 0, kib).unwrap();
        let boot = card.boot("stat -c 'keys %a' /etc/tidegate/keys").unwrap();
        check_mounted(&boot);
        assert_eq!(boot.line("keys "), Some("700"), "{boot:#?}");
        assert!(fault(&boot, name).is_some_and(|text| text.contains("made anew")), "{boot:#?}");
        let again = card.boot("").unwrap();
        check_mounted(&again);
        assert_eq!(fault(&again, name), None, "{again:#?}");
    }
}

#[test]
fn collection_goes_on_in_memory_without_a_card_and_with_one_that_takes_no_writes() {
    if !able("collection_goes_on_in_memory_without_a_card_and_with_one_that_takes_no_writes") {
        return;
    }
    let card = grown();
    let gone = card.boot_from(Path::new("/dev/no-such-card"), "touch /var/x && echo written yes").unwrap();
    let protected = card.boot_protected("touch /var/x && echo written yes").unwrap();
    for boot in [gone, protected] {
        assert_eq!(boot.line("code "), Some("0"), "{boot:#?}");
        assert!(boot.line("mount /var tmpfs ").is_some(), "{boot:#?}");
        assert_eq!(boot.line("written "), Some("yes"), "{boot:#?}");
        assert!(fault(&boot, "data-partition").is_some_and(|text| text.contains("in memory")), "{boot:#?}");
    }
    // Nothing was made anew behind the protection.
    let after = card.boot(KEPT).unwrap();
    check_mounted(&after);
    assert_eq!(after.line("kept "), Some("41"), "{after:#?}");
}

#[test]
fn a_full_partition_is_no_damaged_one() {
    if !able("a_full_partition_is_no_damaged_one") {
        return;
    }
    let card = Card::new(CARD_MIB).unwrap();
    let full = card.boot("dd if=/dev/zero of=/var/full bs=1M 2>&1 | grep -c 'No space'; sync").unwrap();
    assert!(full.lines.iter().any(|line| line == "1"), "{full:#?}");
    let boot = card.boot("").unwrap();
    check_mounted(&boot);
    assert_eq!(fault(&boot, "data-partition"), None, "{boot:#?}");
}

#[tokio::test]
async fn a_whole_boot_from_a_card_with_dropped_files_ends_with_a_gateway_that_keeps_its_queue_on_it() {
    if !able("a_whole_boot_from_a_card_with_dropped_files_ends_with_a_gateway_that_keeps_its_queue_on_it") {
        return;
    }
    let card = Card::new(CARD_MIB).unwrap();
    // A device that grows gets another number, which a container does not see.
    check_mounted(&card.boot("").unwrap());
    card.drop_files(&[("gateway.toml", &super::config(""))]).unwrap();
    let devices = [None, Some(1), Some(5), Some(7), Some(8)].map(|number| card.device(number));
    let disk = format!(
        "[Service]\nEnvironment=TIDEGATE_DROP_TYPE=ext4 TIDEGATE_DISK={}\n",
        card.device(None).display()
    );
    let setting = Setting {
        bare: true,
        devices: devices.map(|device| (device.clone(), device)).into(),
        units: vec![("tidegate-storage.service", disk)],
        ..Setting::default()
    };
    let machine = Container::boot(&setting).await.unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "active").await.unwrap();
    let mounts = machine.read(&["cat", "/proc/mounts"]).await.unwrap();
    let storage = machine
        .read(&["journalctl", "--no-pager", "--output=cat", "--unit=tidegate-storage.service"])
        .await
        .unwrap();
    let on_card = |number, place: &str, how: &str| {
        mounts.contains(&format!("{} {place} ext4 {how},", card.device(Some(number)).display()))
    };
    assert!(on_card(8, "/var", "rw"), "{storage}\n{mounts}");
    // Opened by provisioning for as long as it wrote.
    assert!(on_card(7, "/etc/tidegate", "ro") && on_card(1, "/boot/firmware", "ro"), "{storage}\n{mounts}");
    let config = machine.read(&["cat", "/etc/tidegate/gateway.toml"]).await.unwrap();
    assert!(config.contains("id = \"nest\""), "{config}");
    machine.read(&["test", "!", "-e", "/boot/firmware/gateway.toml"]).await.unwrap();
    machine.read(&["test", "-s", "/boot/firmware/gateway-applied.txt"]).await.unwrap();
    machine.read(&["test", "-s", "/var/lib/tidegate/queue.db"]).await.unwrap();
    // What systemd itself puts on an empty /var came after the mount.
    machine.read(&["test", "-d", "/var/lib/systemd", "-a", "-d", "/var/tmp"]).await.unwrap();
    let journal =
        machine.read(&["journalctl", "--no-pager", "--output=cat", "--priority=warning"]).await.unwrap();
    assert!(!journal.contains("Read-only file system"), "{journal}");
}
