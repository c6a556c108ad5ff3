//! A drive that was filled by somebody careless, or by somebody who means harm.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use gateway_daemon::provision::{Mounts, Outcome};

use super::card::{Card, MINIMAL, Pki, TLS};

/// A gateway with a configuration, to be left alone.
fn configured() -> Card {
    let card = Card::new();
    card.drop("gateway.toml", MINIMAL.as_bytes());
    assert!(card.provision().usable);
    fs::remove_file(card.drop.join("gateway-applied.txt")).unwrap();
    card
}

/// Boots, and finds the configuration unchanged and this text on the drive.
#[track_caller]
fn refuses(card: &Card, text: &str) {
    let before = card.config_tree();
    let outcome = card.provision();
    assert!(outcome.usable, "{:?}", outcome.told);
    assert_eq!(card.config_tree(), before);
    let errors = card.read_drop("gateway-errors.txt");
    assert!(errors.contains(text), "expected: {text}\n{errors}");
    assert!(card.fault().is_some());
}

#[test]
fn names_under_which_a_file_is_not_looked_for_are_told() {
    for (name, text) in [
        (
            "gateway.toml.txt",
            "gateway.toml.txt:1:1: gateway.toml.txt ends in more than .toml (Windows hides the last part of a name",
        ),
        ("Gateway.txt", "rename it to gateway.toml"),
        ("gateway (1).toml", "gateway (1).toml is not looked at under this name: rename it to gateway.toml"),
        ("gateway - Copy.toml", "rename it to gateway.toml"),
    ] {
        let card = configured();
        card.drop(name, TLS.as_bytes());
        refuses(&card, text);
    }
    // Capitals are no other name on this drive.
    let card = configured();
    card.drop("GATEWAY.TOML", MINIMAL.replace("before", "after").as_bytes());
    assert!(card.provision().usable);
    assert_eq!((card.judged().id.as_str(), card.fault()), ("after", None));
}

#[test]
fn what_macs_and_windows_leave_behind_is_no_file_of_ours() {
    let card = configured();
    for name in [
        "._gateway.toml",
        "._ca.pem",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "gateway.example.toml",
        "README.txt",
    ] {
        card.drop(name, b"\0\x05\x16\x07");
    }
    fs::create_dir(card.drop.join("System Volume Information")).unwrap();
    let before = card.tree();
    assert_eq!(card.provision(), Outcome { usable: true, ..Outcome::default() });
    assert_eq!(card.tree(), before);
}

#[test]
fn a_folder_a_link_a_pipe_and_a_huge_file_are_no_configuration() {
    let card = configured();
    fs::create_dir(card.drop.join("gateway.toml")).unwrap();
    refuses(&card, "gateway.toml:1:1: the file is a folder, expected a file");
    let card = configured();
    symlink("/etc/shadow", card.drop.join("gateway.toml")).unwrap();
    refuses(&card, "gateway.toml:1:1: the file is no plain file");
    let card = configured();
    let made = std::process::Command::new("mkfifo").arg(card.drop.join("gateway.toml")).status().unwrap();
    assert!(made.success());
    refuses(&card, "gateway.toml:1:1: the file is no plain file");
    let card = configured();
    fs::File::create(card.drop.join("gateway.toml")).unwrap().set_len(3 << 30).unwrap();
    refuses(&card, "gateway.toml:1:1: the file has 3221225472 bytes, expected at most 4194304");
}

#[test]
fn bytes_that_are_no_text_are_refused_with_what_to_do() {
    for (bytes, text) in [
        (&b"\xff\xfeg\0a\0"[..], "the file is saved as UTF-16"),
        (b"\xff\xd8\xff\xe0JFIF", "is not UTF-8"),
        (b"", "`gateway` is missing"),
        (b"PK\x03\x04", "gateway.toml:1:3: an invisible character (U+0003)"),
    ] {
        let card = configured();
        card.drop("gateway.toml", bytes);
        refuses(&card, text);
    }
}

#[test]
fn certificates_that_are_none_are_told_apart() {
    let pki = Pki::new();
    let passphrase = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (name, bytes, text) in [
        ("device.key", passphrase.as_bytes(), "`client_key` = device.key holds a key with a passphrase"),
        (
            "device.key",
            pki.cert.as_bytes(),
            "holds a certificate, expected a private key: are the two files exchanged?",
        ),
        (
            "device.pem",
            pki.key.as_bytes(),
            "holds a private key, expected a certificate: are the two files exchanged?",
        ),
        ("device.pem", &[0x30, 0x82][..], "is binary (DER or PKCS#12)"),
        (
            "device.pem",
            Pki::new().cert.as_bytes(),
            "`client_key` = device.key does not belong to the certificate beside it",
        ),
        (
            "ca.pem",
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "`ca` = ca.pem holds a certificate that cannot be understood",
        ),
        ("password.txt", b"", "the file is empty or has several lines"),
    ] {
        let card = configured();
        card.drop("gateway.toml", TLS.as_bytes());
        pki.drop(&card);
        card.drop(name, bytes);
        refuses(&card, text);
        assert!(!card.read_drop("gateway-errors.txt").contains("hunter2"));
    }
    let card = configured();
    card.drop("gateway.toml", TLS.as_bytes());
    pki.drop(&card);
    fs::remove_file(card.drop.join("device.key")).unwrap();
    fs::create_dir(card.drop.join("device.key")).unwrap();
    refuses(&card, "device.key:1:1: the file is a folder");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let pki = Pki::new();
    let card = configured();
    let config = card.config.display().to_string();
    for (name, text) in [
        (
            "../ca.pem",
            "`../ca.pem` lies in a folder, expected all files directly beside gateway.toml: write \"ca.pem\"",
        ),
        ("certs/ca.pem", "gateway.toml:5:6: `certs/ca.pem` lies in a folder"),
        ("keys/ca.pem", "`keys/ca.pem` lies in a folder"),
        ("-rf", "`-rf` is no name for a file here"),
        ("version.7", "`version.7` is no name for a file here"),
        ("current", "`current` is no name for a file here"),
        ("gateway.toml", "`gateway.toml` is no name for a file here"),
        ("device.key", "gateway.toml:5:6: `device.key` is named as a certificate and as a key"),
        (&format!("{config}/ca.pem"), "lies in a folder"),
    ] {
        let card = configured();
        card.drop(
            "gateway.toml",
            TLS.replace(
                "ca = \"ca.pem\"",
                &format!("ca = \"{}\"", name.replace(&config, &card.config.display().to_string())),
            )
            .as_bytes(),
        );
        pki.drop(&card);
        refuses(&card, text);
    }
}

#[test]
fn a_drive_with_thousands_of_files_is_refused_without_reading_them() {
    let card = configured();
    for n in 0..2100 {
        card.drop(&format!("{n}.pem"), b"");
    }
    let outcome = card.provision();
    assert!(outcome.usable);
    assert!(card.fault().unwrap().contains("holds more than 2048 files"));
}

#[test]
fn control_characters_of_names_reach_no_terminal() {
    let card = configured();
    card.drop("\u{1b}[2Jevil.pem", b"");
    assert!(card.provision().usable);
    let console = fs::read_to_string(card.root("dev/console")).unwrap();
    let issue = fs::read_to_string(card.run("issue.d/tidegate.issue")).unwrap();
    assert!(issue.contains("[2Jevil.pem"), "{issue}");
    assert!(!console.contains('\u{1b}') && !issue.contains('\u{1b}'));
}

#[test]
fn a_drive_that_is_not_there_is_told_and_the_gateway_runs() {
    let card = configured();
    fs::remove_dir_all(&card.drop).unwrap();
    let outcome = card.provision();
    assert!(outcome.usable);
    assert!(card.fault().unwrap().contains("the drive TIDEGATE"), "{:?}", card.fault());
}

/// Partitions as mount(8) would have them, counted.
struct Counted {
    /// The folder that is read-only, and whether it stays so.
    locked: std::path::PathBuf,
    stuck: bool,
    open: Cell<bool>,
    calls: RefCell<Vec<bool>>,
}

impl Counted {
    fn new(folder: &Path, stuck: bool) -> Self {
        Self { locked: folder.to_owned(), stuck, open: Cell::new(false), calls: RefCell::default() }
    }
}

impl Mounts for Counted {
    fn is_read_only(&self, folder: &Path) -> io::Result<bool> {
        Ok(folder == self.locked && !self.open.get())
    }

    fn remount(&self, folder: &Path, writable: bool) -> io::Result<()> {
        assert_eq!(folder, self.locked);
        if self.stuck {
            return Err(io::Error::other("write-protected"));
        }
        self.calls.borrow_mut().push(writable);
        self.open.set(writable);
        Ok(())
    }
}

#[test]
fn a_partition_is_writable_only_while_it_is_changed() {
    let card = Card::new();
    let mounts = Counted::new(&card.config, false);
    assert!(card.provision_with(&mounts, &|_| Ok(())).usable);
    assert_eq!(*mounts.calls.borrow(), [true, false]);
    // A boot with nothing to do leaves it alone, and a refused drop too, in the end.
    assert!(card.provision_with(&mounts, &|_| Ok(())).usable);
    assert_eq!(*mounts.calls.borrow(), [true, false]);
    card.drop("gateway.toml", b"[gateway]\n");
    assert!(card.provision_with(&mounts, &|_| Ok(())).usable);
    assert_eq!(mounts.calls.borrow().last(), Some(&false));
    card.drop("gateway.toml", MINIMAL.as_bytes());
    assert!(card.provision_with(&mounts, &|_| Ok(())).usable);
    assert_eq!((mounts.calls.borrow().last(), card.judged().id.as_str()), (Some(&false), "before"));
}

#[test]
fn a_configuration_partition_that_cannot_be_written_keeps_what_it_has() {
    let card = configured();
    card.drop("gateway.toml", TLS.as_bytes());
    Pki::new().drop(&card);
    let before = card.config_tree();
    let outcome = card.provision_with(&Counted::new(&card.config, true), &|_| Ok(()));
    assert!(outcome.usable);
    assert_eq!(card.config_tree(), before);
    let text = card.read_drop("gateway-errors.txt");
    assert!(
        text.contains(
            "cannot write to its configuration partition (write-protected), so this is no fault of the file"
        ),
        "{text}"
    );
    // Without any configuration there is none to start with.
    let empty = Card::new();
    let outcome = empty.provision_with(&Counted::new(&empty.config, true), &|_| Ok(()));
    assert!(!outcome.usable);
    assert!(empty.fault().unwrap().contains("the configuration partition cannot be written"));
}

#[test]
fn a_drive_that_cannot_be_written_is_taken_over_all_the_same_and_told() {
    let card = configured();
    card.drop("gateway.toml", TLS.as_bytes());
    Pki::new().drop(&card);
    let drive = card.on_drive();
    for _ in 0..2 {
        let outcome = card.provision_with(&Counted::new(&card.drop, true), &|_| Ok(()));
        assert!(outcome.usable);
        assert_eq!((card.judged().id.as_str(), card.on_drive()), ("plant7-line2", drive.clone()));
        let fault = card.fault().unwrap();
        assert!(
            fault.contains("are in use but cannot be removed from it, private keys as well: write-protected"),
            "{fault}"
        );
    }
    assert!(card.provision().usable);
    assert_eq!((card.on_drive(), card.fault()), (vec!["gateway-applied.txt".to_owned()], None));
}

#[test]
fn a_full_drive_loses_its_files_to_the_gateway_and_says_so_when_there_is_room() {
    let full = |step: gateway_daemon::provision::Step<'_>| match step {
        gateway_daemon::provision::Step::Write(path) if path.to_string_lossy().contains("~gateway") => {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        _ => Ok(()),
    };
    let card = configured();
    card.drop("gateway.toml", b"[gateway]\nid = 7\n");
    let outcome = card.provision_with(&super::card::Plain, &full);
    assert!(outcome.usable);
    assert_eq!(card.on_drive(), ["gateway.toml"]);
    let fault = card.fault().unwrap();
    assert!(fault.starts_with("the files on the drive TIDEGATE were refused: gateway.toml:2:6"), "{fault}");
    assert!(!fault.contains("gateway-errors.txt"), "what is not there is not referred to: {fault}");
    card.drop("gateway.toml", MINIMAL.replace("before", "after").as_bytes());
    let outcome = card.provision_with(&super::card::Plain, &full);
    assert!(outcome.usable);
    assert_eq!((card.judged().id.as_str(), card.on_drive()), ("after", Vec::new()));
}

/// A card that was written by another software, or was damaged.
#[test]
fn a_damaged_configuration_is_replaced_by_the_one_before_and_comes_back_when_it_can_be_read() {
    let card = configured();
    card.drop("gateway.toml", MINIMAL.replace("before", "after").as_bytes());
    assert!(card.provision().usable);
    let newest = card.config.join("version.2/gateway.toml");
    let good = fs::read(&newest).unwrap();
    fs::write(&newest, "[gateway]\nid = \"after\"\nfuture = true\n").unwrap();
    for _ in 0..2 {
        assert!(card.provision().usable);
        assert_eq!(card.judged().id, "before");
        let fault = card.fault().unwrap();
        assert!(fault.contains("the newest configuration (version 2) cannot be used, so the one before it is: gateway.toml:3:1"), "{fault}");
    }
    fs::write(&newest, good).unwrap();
    assert!(card.provision().usable);
    assert_eq!((card.judged().id.as_str(), card.fault()), ("after", None));
}

#[test]
fn damage_without_anything_before_ends_in_the_gateways_own_configuration() {
    let card = configured();
    fs::write(card.config.join("version.1/gateway.toml"), [0xff; 100]).unwrap();
    for _ in 0..2 {
        assert!(card.provision().usable);
        assert_eq!(card.judged().id, "tidegate-10000000d8a1b2c3");
        assert!(card.fault().unwrap().contains("version 1"));
    }
    card.drop("gateway.toml", MINIMAL.as_bytes());
    assert!(card.provision().usable);
    assert_eq!((card.judged().id.as_str(), card.fault()), ("before", None));
}

#[test]
fn a_configuration_laid_there_by_hand_is_used_and_a_wrong_one_is_set_aside() {
    let card = Card::new();
    fs::write(card.config.join("gateway.toml"), MINIMAL).unwrap();
    let before = card.config_tree();
    assert!(card.provision().usable);
    assert_eq!((card.config_tree(), card.fault()), (before, None));
    fs::write(card.config.join("gateway.toml"), "id = 1").unwrap();
    for _ in 0..2 {
        assert!(card.provision().usable);
        assert!(card.fault().unwrap().contains("set aside as gateway.toml.wrong"));
        assert_eq!(card.judged().id, "tidegate-10000000d8a1b2c3");
    }
    assert_eq!(card.installed("gateway.toml.wrong"), b"id = 1");
    card.drop("gateway.toml", MINIMAL.as_bytes());
    assert!(card.provision().usable);
    assert_eq!(card.fault(), None);
}

#[test]
fn keys_that_a_unit_hands_over_without_a_word_in_the_file_survive_a_drop_beside_them() {
    let card = Card::new();
    fs::write(card.config.join("gateway.toml"), MINIMAL).unwrap();
    fs::create_dir(card.config.join("keys")).unwrap();
    fs::write(card.config.join("keys/extra"), "secret").unwrap();
    card.drop("gateway.toml", MINIMAL.replace("before", "after").as_bytes());
    assert!(card.provision().usable);
    assert_eq!(card.judged().id, "after");
    // In the version before, which is gone back to when this one cannot be read.
    let kept = card.config.join("version.1/keys/extra");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn only_one_provisions_at_a_time_and_a_missing_folder_is_told() {
    let card = configured();
    let lock = fs::File::open(&card.config).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    card.drop("gateway.toml", TLS.as_bytes());
    let before = card.tree();
    let outcome = card.provision();
    assert_eq!((outcome.usable, card.tree()), (true, before));
    assert!(outcome.told[0].contains("another `gateway-daemon provision` is at work"));
    drop(lock);
    fs::remove_dir_all(&card.config).unwrap();
    assert!(!card.provision().usable);
    assert!(card.fault().unwrap().contains("cannot be opened"));
}

#[test]
fn hardware_without_a_serial_number_has_a_name_all_the_same() {
    let write = |card: &Card, path: &str, text: &str| {
        fs::create_dir_all(card.root(path).parent().unwrap()).unwrap();
        fs::write(card.root(path), text).unwrap();
    };
    let name = |files: &[(&str, &str)]| {
        let card = Card::new();
        fs::remove_file(card.root("proc/device-tree/serial-number")).unwrap();
        for (path, text) in files {
            write(&card, path, text);
        }
        assert!(card.provision().usable);
        card.judged().id
    };
    let board = ("sys/class/dmi/id/product_serial", "PF-3X Y7\n");
    let nothing = ("sys/class/dmi/id/product_serial", "To Be Filled By O.E.M.\n");
    let uuid = ("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8052-B4C04F4A3332\n");
    let wired = [
        ("sys/class/net/eth0/type", "1\n"),
        ("sys/class/net/eth0/addr_assign_type", "0\n"),
        ("sys/class/net/eth0/address", "dc:a6:32:01:02:03\n"),
        ("sys/class/net/lo/type", "772\n"),
        ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
    ];
    let machine = ("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    assert_eq!(name(&[board, uuid, machine]), "tidegate-pf3xy7");
    assert_eq!(name(&[nothing, uuid, machine]), "tidegate-4c4c4544004235108052b4c04f4a3332");
    assert_eq!(name(&[&wired[..], &[nothing, machine]].concat()), "tidegate-dca632010203");
    assert_eq!(name(&[nothing, machine]), "tidegate-0123456789ab");
    let drawn = name(&[
        ("sys/class/net/eth0/address", "dc:a6:32:01:02:03\n"),
        ("sys/class/net/eth0/type", "1\n"),
        ("sys/class/net/eth0/addr_assign_type", "3\n"),
    ]);
    assert_eq!(drawn.len(), "tidegate-".len() + 12);
    assert_ne!(drawn, name(&[]));
}

#[test]
fn a_machine_that_cannot_be_named_says_which_path_is_missing() {
    let card = Card::new();
    fs::remove_dir_all(card.root("proc/sys")).unwrap();
    let told = card.provision().told;
    let path = card.root("proc/sys/kernel/hostname").display().to_string();
    assert!(told.iter().any(|line| line.contains("cannot be named") && line.contains(&path)), "{told:?}");
}
