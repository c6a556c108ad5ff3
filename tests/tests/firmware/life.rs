//! A card in a board, from the first start on. What a system is and whether it is whole is told from the card's bytes alone, not from the backend's records.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;
use tidegate_tests::built::Built;
use tidegate_tests::firmware::{Board, Card, Cause, Loader, Model, Outcome, Start, Step, settle};
use tidegate_tests::tryboot::backend;

/// Bytes at the beginning of a root that say which system it is.
const STAMP: usize = 512;
/// Overlays of each system that some hat asks for.
const OVERLAYS: [&str; 2] = ["sc16is75x-spi", "uart5"];
/// Sectors at the beginning of a boot partition that the backend may touch.
const HEAD: usize = 8 * 512;

/// mount, umount and fsck.vfat on the image of a card, by mtools. What a folder is the mount of stands beside it.
const TOOL: &str = r#"#!/bin/sh
set -eu
here=$(dirname "$0")
ill=$(cat "$here/ill" 2>/dev/null || :)
# The first sectors of slot A's partition, which the backend changes by itself.
head() { # TO-CARD|FROM-CARD
    case $1 in
    to) /usr/bin/dd if=@HEAD@ of=@CARD@ bs=512 seek=$((@A@ / 512)) count=@SECTORS@ conv=notrunc 2>/dev/null ;;
    *) /usr/bin/dd if=@CARD@ of=@HEAD@ bs=512 skip=$((@A@ / 512)) count=@SECTORS@ 2>/dev/null ;;
    esac
}
case ${0##*/} in
fsck.vfat) exit 0 ;;
mount)
    shift 3
    options=$1 device=$2 folder=$3
    case $device in *-a) image=@CARD@@@@A@ ;; *) image=@CARD@@@@B@ ;; esac
    case $ill,$options in refuse,rw*) echo "mount: write-protected" >&2; exit 32 ;; esac
    head to
    mdir -b -i "$image" >/dev/null 2>&1 || { echo "mount: no file system on $device" >&2; exit 32; }
    echo "$options $image" >"$folder.mount"
    for file in config.txt usercfg.txt; do
        /usr/bin/rm -f "$folder/$file"
        mcopy -n -i "$image" "::$file" "$folder/$file" 2>/dev/null || :
    done
    ;;
umount)
    folder=$1
    read -r options image <"$folder.mount" || exit 32
    /usr/bin/rm -f "$folder.mount"
    case $ill,$options in
    forget,rw*) ;;
    *,rw*)
        mcopy -n -D o -i "$image" "$folder/usercfg.txt" ::
        head from
        ;;
    esac
    /usr/bin/rm -f "$folder"/*
    ;;
esac
"#;

/// A card in a board.
pub(crate) struct Life {
    dir: TempDir,
    pub(crate) card: Card,
    pub(crate) board: Board,
    running: Option<Start>,
    system: Option<System>,
}

/// How far an installation comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The slot is marked, nothing is written.
    Marked,
    /// Half of the root.
    Root,
    /// The root, and eighths of what is in the boot partition.
    Boot(u8),
    /// All is written, and the slot is not yet chosen.
    Written,
    /// All.
    End,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) slot: char,
    pub(crate) version: u8,
}

/// A card as flashed, for a model.
fn flashed_image(model: Model) -> &'static Path {
    static OF_4: OnceLock<(Built, PathBuf)> = OnceLock::new();
    static OF_5: OnceLock<(Built, PathBuf)> = OnceLock::new();
    let (cell, machine, firmware): (_, _, &[&str]) = match model.loader() {
        Loader::Eeprom2712 => (&OF_5, "rpi5", &[]),
        _ => (&OF_4, "rpi64", &["bootcode.bin", "start.elf", "start4.elf"]),
    };
    let (_, image) = cell.get_or_init(|| {
        let built = Built::new(machine, firmware);
        let image = built.card();
        let card = Card::new(image.clone());
        card.overwrite(5, 0, &stamp(1)).expect("the card takes it");
        card.write(2, kernel(model), b"kernel 1").expect("the card takes it");
        for overlay in OVERLAYS {
            card.write(2, &format!("overlays/{overlay}.dtbo"), b"").expect("the card takes it");
        }
        (built, image)
    });
    image
}

/// The first sector of the root of a version.
fn stamp(version: u8) -> Vec<u8> {
    let mut bytes = format!("root {version}").into_bytes();
    bytes.resize(STAMP, 0);
    bytes
}

fn kernel(model: Model) -> &'static str {
    if model.loader() == Loader::Eeprom2712 { "kernel_2712.img" } else { "kernel8.img" }
}

/// The number of a slot's boot partition, and that of its root.
pub(crate) fn partitions(slot: char) -> (u8, u8) {
    if slot == 'A' { (2, 5) } else { (3, 6) }
}

impl Life {
    /// A flashed card that nobody started yet.
    pub(crate) fn new(board: Board) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let image = dir.path().join("card.img");
        let copy = ["--sparse=always", "--reflink=auto"];
        let copied = Command::new("cp").args(copy).arg(flashed_image(board.model)).arg(&image).status();
        assert!(copied.expect("cp starts").success());
        Self { dir, card: Card::new(image), board, running: None, system: None }
    }

    /// A flashed card that has started.
    pub(crate) fn started(board: Board) -> Self {
        let mut life = Self::new(board);
        life.power();
        life
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Power comes: what the board does.
    pub(crate) fn power(&mut self) -> Outcome {
        self.starts(Cause::PowerOn)
    }

    /// A reset: the watchdog, or a panic.
    pub(crate) fn reset(&mut self) -> Outcome {
        self.starts(Cause::RESET)
    }

    /// An orderly restart: systemd-shutdown runs `arm`, then hands the argument to the firmware.
    pub(crate) fn restart(&mut self) -> Outcome {
        self.says("arm", "");
        let argument = fs::read_to_string(self.at("reboot-param")).unwrap_or_default();
        self.starts(Cause::restart(&argument))
    }

    fn starts(&mut self, cause: Cause) -> Outcome {
        let outcome = self.loads(cause);
        if self.running().is_some() {
            self.comes_up();
        }
        outcome
    }

    /// A restart into a kernel that does not come as far as a system.
    pub(crate) fn restart_in_vain(&mut self) -> Outcome {
        self.says("arm", "");
        let argument = fs::read_to_string(self.at("reboot-param")).unwrap_or_default();
        self.loads(Cause::restart(&argument))
    }

    /// What the firmware does.
    fn loads(&mut self, cause: Cause) -> Outcome {
        for gone in ["reboot-param", "wanted"] {
            let _ = fs::remove_file(self.at(gone));
        }
        for gone in ["faults", "slots"] {
            let _ = fs::remove_dir_all(self.at(gone));
        }
        let outcome = settle(&self.card, &self.board, cause);
        self.running = outcome.start().cloned();
        self.system = self.running.as_ref().and_then(|start| self.loaded(start));
        outcome
    }

    /// What the kernel shows of the firmware, and the unit that looks at it.
    fn comes_up(&self) {
        let start = self.running.as_ref().expect("it runs");
        let folder = self.at("firmware");
        fs::create_dir_all(&folder).expect("a folder");
        for (name, value) in start.chosen() {
            fs::write(folder.join(name), value.to_be_bytes()).expect("the folder is there");
        }
        fs::write(self.at("cmdline"), &start.cmdline).expect("the folder is there");
        self.says("look", "");
    }

    /// The system that a start leads to, if the bytes on the card are one: kernel and root of one version.
    fn loaded(&self, start: &Start) -> Option<System> {
        let text = self.card.read(start.partition, &start.kernel).ok()?;
        let version = String::from_utf8(text).ok()?.strip_prefix("kernel ")?.parse().ok()?;
        let word = |name: &str| start.cmdline.split(' ').find_map(|word| word.strip_prefix(name));
        let root = word("root=PARTUUID=74646777-0")?.parse().ok()?;
        let slot = word("rauc.slot=")?.chars().next()?;
        let whole = self.card.bytes(root, 0, STAMP).ok()? == stamp(version);
        (whole && partitions(slot).1 == root).then_some(System { slot, version })
    }

    /// The system that runs.
    pub(crate) fn running(&self) -> Option<System> {
        self.system
    }

    /// The overlays with which the running system has started, with their parameters, but those that every system has.
    pub(crate) fn overlays(&self) -> Vec<String> {
        let steps = self.running.as_ref().map(|start| start.steps.as_slice()).unwrap_or_default();
        let overlay = |step: &Step| match step {
            Step::Overlay { name, parameters } if OVERLAYS.contains(&name.as_str()) => {
                Some([std::slice::from_ref(name), parameters].concat().join(","))
            }
            _ => None,
        };
        steps.iter().filter_map(overlay).collect()
    }

    /// Asserts that a slot with a version runs.
    #[track_caller]
    pub(crate) fn runs(&self, slot: char, version: u8) {
        assert_eq!(self.running(), Some(System { slot, version }), "{:?}", self.running);
    }

    /// What RAUC does while it installs a version into the slot that does not run.
    pub(crate) fn install(&mut self, version: u8, until: Until) -> Result<(), String> {
        let running = self.running().expect("a system runs").slot;
        let slot = if running == 'A' { 'B' } else { 'A' };
        self.run(&format!("set-state {slot} bad"))?;
        if until == Until::Marked {
            return Ok(());
        }
        let (boot, root) = partitions(slot);
        let mut torn = stamp(version);
        torn[..4].copy_from_slice(b"half");
        let bytes = if until == Until::Root { torn } else { stamp(version) };
        self.card.overwrite(root, 0, &bytes).expect("the card takes it");
        if until == Until::Root {
            return Ok(());
        }
        self.write_boot(boot, version, until);
        if until == Until::End {
            self.run(&format!("set-primary {slot}"))?;
        }
        Ok(())
    }

    /// The boot image of a version is the one of the fresh card, with another kernel in it.
    fn write_boot(&self, partition: u8, version: u8, until: Until) {
        let flashed = Card::new(flashed_image(self.board.model).to_owned());
        let used = 4 << 20;
        let before = self.card.bytes(partition, 0, used).expect("it is on the card");
        self.card
            .overwrite(partition, 0, &flashed.bytes(2, 0, used).expect("it is on the card"))
            .expect("the card takes it");
        self.card
            .write(partition, kernel(self.board.model), format!("kernel {version}").as_bytes())
            .expect("the card takes it");
        if let Until::Boot(eighths) = until {
            // Everything that counts lies in front; the cut is somewhere in it.
            let bytes = self.card.bytes(partition, 0, used).expect("it is on the card");
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) / 8 * usize::from(eighths);
            self.card.overwrite(partition, end as u64, &before[end..]).expect("the card takes it");
        }
    }

    /// An update that runs to its end and is tried.
    #[track_caller]
    pub(crate) fn tries(&mut self, version: u8) {
        self.install(version, Until::End).expect("an update is taken");
        self.restart();
        assert_eq!(self.running().map(|system| system.version), Some(version), "{:?}", self.running);
    }

    /// What the health gate does in the end.
    #[track_caller]
    pub(crate) fn commits(&mut self) {
        let slot = self.running().expect("a system runs").slot;
        self.says(&format!("set-state {slot} good"), "");
    }

    /// The programs by which the backend mounts boot partitions: a folder with the files that it may touch, which go back to the card when they are synced or unmounted.
    fn lay_tools(&self) {
        let tools = self.at("tools");
        fs::create_dir_all(&tools).expect("a folder");
        let start = |number| self.card.place(number).expect("it is on the card").0;
        let script = TOOL
            .replace("@CARD@", &self.card.image().display().to_string())
            .replace("@HEAD@", &self.at("boot-a").display().to_string())
            .replace("@SECTORS@", &(HEAD / 512).to_string())
            .replace("@A@", &start(2).to_string())
            .replace("@B@", &start(3).to_string());
        for program in ["mount", "umount", "fsck.vfat"] {
            fs::write(tools.join(program), &script).expect("the folder is there");
            fs::set_permissions(tools.join(program), fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
    }

    /// From here on boot partitions take no writes (`refuse`), or forget them (`forget`); or they are as before (`-`).
    pub(crate) fn ill(&self, how: &str) {
        fs::create_dir_all(self.at("tools")).expect("a folder");
        fs::write(self.at("tools/ill"), how).expect("the folder is there");
    }

    /// Runs the backend on what lies on the card: its output, or what it complains of.
    pub(crate) fn run(&self, args: &str) -> Result<String, String> {
        self.bring("autoboot.txt");
        let head = self.card.bytes(2, 0, HEAD).expect("it is on the card");
        fs::write(self.at("boot-a"), &head).expect("the folder is there");
        self.lay_tools();
        let output = backend(self.dir.path(), args)
            .env("TIDEGATE_AUTOBOOT", self.at("p1/autoboot.txt"))
            .env("TIDEGATE_BOOT_A", self.at("boot-a"))
            .env("TIDEGATE_BOOT_B", self.at("boot-b"))
            .process_group(0)
            .output()
            .expect("the backend starts");
        self.take("autoboot.txt");
        let after = fs::read(self.at("boot-a")).expect("it is there");
        if after != head {
            self.card.overwrite(2, 0, &after).expect("the card takes it");
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Lays a file of the first partition where the backend looks for it.
    fn bring(&self, name: &str) {
        fs::create_dir_all(self.at("p1")).expect("a folder");
        let file = self.at("p1").join(name);
        match self.card.read(1, name) {
            Ok(bytes) => fs::write(file, bytes).expect("the folder is there"),
            Err(_) => drop(fs::remove_file(file)),
        }
    }

    /// Writes it back to the card, in its place.
    fn take(&self, name: &str) {
        let here = fs::read(self.at("p1").join(name)).ok();
        if let Some(bytes) = here.filter(|bytes| Some(bytes) != self.card.read(1, name).ok().as_ref()) {
            self.card.write(1, name, &bytes).expect("the card takes it");
        }
    }

    #[track_caller]
    pub(crate) fn says(&self, args: &str, expected: &str) {
        assert_eq!(self.run(args).as_deref(), Ok(expected), "{args}");
    }

    /// The sentence of a fault that `look` has found.
    pub(crate) fn fault(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.at("faults").join(name)).ok()
    }

    /// Writes a file onto the card.
    #[track_caller]
    pub(crate) fn put(&self, partition: u8, name: &str, bytes: &[u8]) {
        self.card.write(partition, name, bytes).expect("the card takes it");
    }

    /// The text of `autoboot.txt`.
    pub(crate) fn choice(&self) -> Option<String> {
        self.card.read(1, "autoboot.txt").ok().map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    /// Somebody's editor saves `autoboot.txt` with the line ends of Windows.
    pub(crate) fn crlf(&self) {
        if let Some(text) = self.choice() {
            let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
            self.card.write(1, "autoboot.txt", text.as_bytes()).expect("the card takes it");
        }
    }

    /// Somebody deletes it.
    pub(crate) fn delete_choice(&self) {
        if self.choice().is_some() {
            self.card.remove(1, "autoboot.txt").expect("it is there");
        }
    }

    /// The power fails at the call number `at` of a program that changes something on the card.
    pub(crate) fn cut_at(&self, at: u32) {
        fs::create_dir_all(self.at("bin")).expect("a folder");
        let left = self.at("bin/left");
        fs::write(&left, format!("{at}\n")).expect("the folder is there");
        for program in ["dd", "sync", "mv", "rm", "mkdir", "cp", "mount", "umount"] {
            let place = if program.ends_with("mount") { self.at("tools") } else { PathBuf::from("/usr/bin") };
            let fake = self.at("bin").join(program);
            let script = format!(
                "#!/bin/sh\nread -r left <{0}\nleft=$((left - 1))\necho $left >{0}\n[ $left -gt 0 ] || kill -9 0\nexec {1}/{program} \"$@\"\n",
                left.display(),
                place.display()
            );
            fs::write(&fake, script).expect("the folder is there");
            fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
    }

    /// The programs are themselves again.
    pub(crate) fn uncut(&self) {
        fs::remove_dir_all(self.at("bin")).expect("there was a cut");
    }

    /// Another card with the same bytes and records.
    pub(crate) fn copy(&self) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let copied =
            Command::new("cp").args(["-a", "--sparse=always"]).arg(self.at(".")).arg(dir.path()).status();
        assert!(copied.expect("cp starts").success());
        let card = Card::new(dir.path().join("card.img"));
        Self { dir, card, board: self.board.clone(), running: self.running.clone(), system: self.system }
    }
}
