//! `[board]`: what becomes of it on the boot partition of a Raspberry Pi, and when the machine restarts for it.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use gateway_daemon::provision::{BootPartition, Mounts, Outcome, Step};

use super::card::{Card, Plain};

const HAT: &str = "overlays = [\"sc16is752-spi1,int_pin=24\"]\nuart = [5]\n";
const LINES_OF_THE_HAT: &str = "\n[all]\ndtoverlay=\ndtoverlay=uart5\ndtoverlay=sc16is752-spi1,int_pin=24\n";
/// More restarts than anything may need.
const BOOTS_MAX: usize = 4;

/// What is wrong with a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ill {
    /// Nothing.
    Sound,
    /// It takes no write, and says so.
    ReadOnly,
    /// It takes each write and keeps none.
    Deaf,
    /// It keeps what is written until it loses its power.
    Forgetful,
    /// It has no room.
    Full,
}

/// A Raspberry Pi with a card of two boot partitions, which are folders.
struct Pi {
    card: Card,
    ill: Cell<Ill>,
    trial: Cell<bool>,
    /// Device, folder, and whether it may be written.
    mounted: RefCell<Option<(PathBuf, PathBuf, bool)>>,
    mounts: Cell<usize>,
    /// What the partition held when power came.
    at_start: RefCell<Vec<u8>>,
}

impl Pi {
    fn new(board: Option<&str>) -> Self {
        let card = Card::new();
        fs::create_dir_all(card.root("usr/lib/tidegate")).unwrap();
        fs::write(card.root("usr/lib/tidegate/rauc-tryboot"), "").unwrap();
        fs::create_dir_all(card.root("proc/self")).unwrap();
        fs::create_dir_all(card.root("sys/dev/block")).unwrap();
        for (number, minor) in [(2, 2), (3, 3), (5, 5), (6, 6)] {
            let place = card.root(&format!("sys/devices/block/mmcblk0/mmcblk0p{number}"));
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("partition"), format!("{number}\n")).unwrap();
            symlink(&place, card.root(&format!("sys/dev/block/179:{minor}"))).unwrap();
        }
        let pi = Self {
            card,
            ill: Cell::new(Ill::Sound),
            trial: Cell::new(false),
            mounted: RefCell::default(),
            mounts: Cell::new(0),
            at_start: RefCell::default(),
        };
        for number in [2, 3] {
            let folder = pi.partition(number);
            fs::create_dir_all(folder.join("overlays")).unwrap();
            fs::write(folder.join("config.txt"), "[all]\r\ninclude usercfg.txt\r\n").unwrap();
            fs::write(folder.join("usercfg.txt"), "").unwrap();
            fs::write(folder.join("overlays/uart5.dtbo"), "").unwrap();
            // Of names that overlays had, the firmware knows by a device tree.
            fs::write(folder.join("overlays/overlay_map.dtb"), b"\0\0\0\x01sc16is752-spi1\0\0").unwrap();
        }
        pi.runs(5);
        pi.writes(board);
        pi
    }

    fn partition(&self, number: u8) -> PathBuf {
        self.card.root(&format!("dev/mmcblk0p{number}"))
    }

    /// Which root is the running one.
    fn runs(&self, root: u8) {
        let table = format!(
            "22 1 0:5 / /dev rw - devtmpfs devtmpfs rw\n21 1 179:{root} / / ro,relatime - squashfs /dev/root ro\n"
        );
        fs::write(self.card.root("proc/self/mountinfo"), table).unwrap();
    }

    fn writes(&self, board: Option<&str>) {
        let board = board.map(|lines| format!("[board]\n{lines}")).unwrap_or_default();
        let text = format!("[gateway]\nid = \"g\"\n[broker]\n{board}");
        fs::write(self.card.config.join("gateway.toml"), text).unwrap();
    }

    fn boots_with(&self, before: &dyn Fn(Step<'_>) -> io::Result<()>) -> Outcome {
        *self.at_start.borrow_mut() = self.content(2);
        let outcome = self.card.provision_on(self, &Plain, before);
        if self.ill.get() == Ill::Forgetful {
            fs::write(self.partition(2).join("usercfg.txt"), &*self.at_start.borrow()).unwrap();
        }
        assert!(outcome.usable, "{:?}", outcome.told);
        assert!(self.mounted.borrow().is_none(), "the partition stays mounted");
        outcome
    }

    fn boots(&self) -> Outcome {
        self.boots_with(&|_| Ok(()))
    }

    fn content(&self, number: u8) -> Vec<u8> {
        fs::read(self.partition(number).join("usercfg.txt")).unwrap_or_default()
    }

    fn text(&self, number: u8) -> String {
        String::from_utf8(self.content(number)).unwrap()
    }

    fn fault(&self) -> Option<String> {
        fs::read_to_string(self.card.run("tidegate-faults/board-settings")).ok()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl BootPartition for Pi {
    fn check(&self, device: &Path) -> io::Result<()> {
        assert!(self.mounted.borrow().is_none() && device.is_dir(), "checked while it is mounted");
        Ok(())
    }

    fn mount(&self, device: &Path, folder: &Path, writable: bool) -> io::Result<()> {
        if writable && self.ill.get() == Ill::ReadOnly {
            return Err(io::Error::other("write-protected"));
        }
        assert!(self.mounted.borrow().is_none(), "mounted twice");
        copy(device, folder);
        if writable && self.ill.get() == Ill::Full {
            // A name that is taken by a folder cannot be written either.
            fs::create_dir_all(folder.join("~usercfg.tmp")).unwrap();
        }
        self.mounts.set(self.mounts.get() + 1);
        *self.mounted.borrow_mut() = Some((device.to_owned(), folder.to_owned(), writable));
        Ok(())
    }

    fn unmount(&self, folder: &Path) -> io::Result<()> {
        let (device, at, writable) = self.mounted.borrow_mut().take().expect("it is mounted");
        assert_eq!(at, folder);
        if writable && self.ill.get() != Ill::Deaf {
            fs::remove_dir_all(&device).unwrap();
            let _ = fs::remove_dir_all(folder.join("~usercfg.tmp"));
            copy(folder, &device);
        }
        fs::remove_dir_all(folder).unwrap();
        Ok(())
    }

    fn stays(&self, _: &Path) -> bool {
        !self.trial.get()
    }
}

#[test]
fn what_is_fitted_to_the_board_is_written_for_its_firmware_and_the_machine_restarts_once() {
    let pi = Pi::new(Some(HAT));
    let outcome = pi.boots();
    assert!(outcome.restart, "{:?}", outcome.told);
    assert!(pi.text(2).ends_with(LINES_OF_THE_HAT), "{}", pi.text(2));
    assert_eq!(pi.text(3), "", "the other system's");
    let after = pi.boots();
    assert_eq!((after.restart, pi.fault()), (false, None), "{:?}", after.told);
    assert_eq!(after.told, [] as [&str; 0]);
    // Another hat, and none.
    pi.writes(Some("rtc = \"rv3028\"\n"));
    assert!(pi.boots().restart);
    assert!(pi.text(2).ends_with("\ndtoverlay=i2c-rtc,rv3028\n"), "{}", pi.text(2));
    assert!(!pi.boots().restart);
    pi.writes(None);
    assert!(pi.boots().restart);
    assert_eq!(pi.text(2), "");
    assert!(!pi.boots().restart);
    // And what a person writes there afterwards is his own.
    fs::write(pi.partition(2).join("usercfg.txt"), "gpu_mem=32\n").unwrap();
    assert!(!pi.boots().restart);
    assert_eq!(pi.text(2), "gpu_mem=32\n");
}

#[test]
fn without_a_word_about_the_board_its_boot_partition_is_not_touched() {
    let pi = Pi::new(None);
    fs::write(pi.partition(2).join("usercfg.txt"), "dtoverlay=uart3\n").unwrap();
    assert_eq!(pi.boots(), pi.boots());
    assert_eq!((pi.mounts.get(), pi.text(2).as_str()), (0, "dtoverlay=uart3\n"));
    assert!(!pi.card.config.join("board.tried").exists());
}

#[test]
fn elsewhere_it_has_no_effect_and_that_is_told() {
    let pi = Pi::new(Some(HAT));
    fs::remove_file(pi.card.root("usr/lib/tidegate/rauc-tryboot")).unwrap();
    let outcome = pi.boots();
    assert_eq!(outcome.told, ["[board] has no effect on this system"]);
    assert_eq!((outcome.restart, pi.mounts.get()), (false, 0));
}

#[test]
fn what_a_person_wrote_there_is_kept_beside_it() {
    let garbage: Vec<u8> = (0..200_000_u32).map(|at| (at * 7919 % 251) as u8).collect();
    let pi = Pi::new(Some(HAT));
    fs::write(pi.partition(2).join("usercfg.txt"), &garbage).unwrap();
    assert!(pi.boots().restart);
    assert!(pi.text(2).ends_with(LINES_OF_THE_HAT));
    assert_eq!(fs::read(pi.partition(2).join("usercfg.old")).unwrap(), garbage);
    assert!(!pi.boots().restart);
}

/// As an editor of Windows saves it: another text, which is written again and never restarted for.
#[test]
fn a_file_that_somebody_changed_is_written_again_without_a_restart() {
    let pi = Pi::new(Some(HAT));
    assert!(pi.boots().restart);
    let windows = pi.text(2).replace('\n', "\r\n");
    fs::write(pi.partition(2).join("usercfg.txt"), windows).unwrap();
    let outcome = pi.boots();
    assert!(!outcome.restart);
    assert!(pi.fault().unwrap().contains("written again and takes effect at the next restart"));
    assert!(pi.text(2).ends_with(LINES_OF_THE_HAT));
    assert!(!pi.boots().restart);
    assert_eq!(pi.fault(), None);
}

#[test]
fn a_card_that_forgets_restarts_the_machine_once_and_never_again() {
    let pi = Pi::new(Some(HAT));
    pi.ill.set(Ill::Forgetful);
    assert!(pi.boots().restart);
    for _ in 0..BOOTS_MAX {
        assert!(!pi.boots().restart);
        assert!(pi.fault().unwrap().contains("the card forgets"), "{:?}", pi.fault());
    }
}

#[test]
fn a_card_that_takes_nothing_is_told_and_the_gateway_runs() {
    for (ill, said) in [
        (Ill::ReadOnly, "the settings before it stay: "),
        (Ill::Full, "the settings before it stay: "),
        (Ill::Deaf, "does not keep what is written to it"),
    ] {
        let pi = Pi::new(Some(HAT));
        pi.ill.set(ill);
        for _ in 0..2 {
            assert!(!pi.boots().restart, "{ill:?}");
            assert!(pi.fault().unwrap().contains(said), "{ill:?}: {:?}", pi.fault());
            assert_eq!(pi.text(2), "", "{ill:?}");
        }
        pi.ill.set(Ill::Sound);
        assert!(pi.boots().restart, "{ill:?}");
        assert!(!pi.boots().restart, "{ill:?}");
        assert_eq!(pi.fault(), None, "{ill:?}");
    }
}

/// What tells a restart from the next one could not be kept.
#[test]
fn without_a_place_for_its_note_nothing_restarts() {
    struct Locked;
    impl Mounts for Locked {
        fn is_read_only(&self, _: &Path) -> io::Result<bool> {
            Ok(true)
        }
        fn remount(&self, _: &Path, _: bool) -> io::Result<()> {
            Err(io::Error::other("write-protected"))
        }
    }
    let pi = Pi::new(Some(HAT));
    let outcome = pi.card.provision_on(&pi, &Locked, &|_| Ok(()));
    assert_eq!((outcome.usable, outcome.restart), (true, false));
    assert!(pi.fault().unwrap().contains("cannot be written: write-protected"), "{:?}", pi.fault());
    // Somebody restarts it.
    let outcome = pi.card.provision_on(&pi, &Locked, &|_| Ok(()));
    assert_eq!((outcome.restart, pi.fault()), (false, None), "{:?}", outcome.told);
}

#[test]
fn a_system_on_trial_is_never_restarted_for_it() {
    let pi = Pi::new(Some(HAT));
    pi.runs(6);
    pi.trial.set(true);
    let outcome = pi.boots();
    assert!(!outcome.restart);
    assert!(outcome.told.iter().any(|told| told.contains("an update is on trial")), "{:?}", outcome.told);
    assert_eq!((pi.text(2).as_str(), pi.fault()), ("", None));
    assert!(pi.text(3).ends_with(LINES_OF_THE_HAT));
    // It is given up: the system before has a partition of its own, and a restart of its own.
    pi.runs(5);
    pi.trial.set(false);
    assert!(pi.boots().restart);
    assert!(pi.text(2).ends_with(LINES_OF_THE_HAT));
    assert!(!pi.boots().restart);
}

/// Two drives that were written from one image have partitions of the same names and numbers; and the root may lie below dm-verity.
#[test]
fn the_boot_partition_is_that_of_the_drive_from_which_the_root_came() {
    let pi = Pi::new(Some(HAT));
    for number in [2, 3, 5, 6] {
        let place = pi.card.root(&format!("sys/devices/usb/block/sda/sda{number}"));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("partition"), format!("{number}\n")).unwrap();
    }
    let verity = pi.card.root("sys/devices/virtual/block/dm-0/slaves");
    fs::create_dir_all(&verity).unwrap();
    symlink(pi.card.root("sys/devices/usb/block/sda/sda6"), verity.join("sda6")).unwrap();
    symlink(verity.parent().unwrap(), pi.card.root("sys/dev/block/254:0")).unwrap();
    fs::write(pi.card.root("proc/self/mountinfo"), "21 1 254:0 / / ro - squashfs /dev/dm-0 ro\n").unwrap();
    let drive = pi.card.root("dev/sda3");
    copy(&pi.partition(3), &drive);
    assert!(pi.boots().restart);
    assert!(fs::read_to_string(drive.join("usercfg.txt")).unwrap().ends_with(LINES_OF_THE_HAT));
    assert_eq!((pi.text(2).as_str(), pi.text(3).as_str()), ("", ""));
    // A root that is none of a card of ours.
    fs::write(pi.card.root("proc/self/mountinfo"), "21 1 0:42 / / rw - nfs 10.0.2.2:/ rw\n").unwrap();
    assert!(!pi.boots().restart);
    assert!(pi.fault().unwrap().contains("is not found"), "{:?}", pi.fault());
}

#[test]
fn what_the_firmware_would_pass_over_in_silence_is_told() {
    let pi = Pi::new(Some("overlays = [\"sc16is752-spi1\", \"sc16is752-spi\"]\n"));
    assert!(pi.boots().restart);
    for _ in 0..2 {
        assert!(
            pi.fault().unwrap().ends_with("passes over it: sc16is752-spi; correct its name\n"),
            "{:?}",
            pi.fault()
        );
        assert!(!pi.boots().restart);
    }
    fs::write(pi.partition(2).join("config.txt"), "# include usercfg.txt\n").unwrap();
    assert!(!pi.boots().restart);
    assert!(pi.fault().unwrap().contains("has no line `include usercfg.txt`"), "{:?}", pi.fault());
}

#[test]
fn a_power_cut_at_any_step_ends_with_the_settings_in_force_and_one_restart_at_most() {
    for at in 0.. {
        let pi = Pi::new(Some(HAT));
        // What is older than [board], and settles once.
        pi.writes(None);
        pi.boots();
        pi.writes(Some(HAT));
        let count = Cell::new(0);
        let before = |_: Step<'_>| {
            count.set(count.get() + 1);
            if count.get() > at { Err(io::Error::other("the power is off")) } else { Ok(()) }
        };
        pi.boots_with(&before);
        let whole = count.get() <= at;
        let restarts = (0..BOOTS_MAX).filter(|_| pi.boots().restart).count();
        assert!(restarts <= usize::from(!whole), "cut at {at}: {restarts} restarts");
        assert!(pi.text(2).ends_with(LINES_OF_THE_HAT), "cut at {at}");
        assert_eq!(pi.fault(), None, "cut at {at}");
        if whole {
            assert!(at > 5, "no step was seen");
            return;
        }
    }
}
