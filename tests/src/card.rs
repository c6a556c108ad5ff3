//! An SD card of the image's layout on a loop device, and the first minutes of a boot from it: `systemd/lib/storage` with the root read-only.
//!
//! Each boot has a mount namespace of its own, so that whatever was mounted goes with it, and runs in the root of [`crate::trixie`] with its
//! tools, not with those of this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::trixie;

/// Mounts what process 1 would have mounted, and goes into the root. The words are: root, loop device, folder of stand-ins, script.
const GO_IN: &str = r#"
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
for folder in dev sys; do mount --rbind "/$folder" "$1/$folder"; done
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/run"
mkdir "$1/run/first"
mount --bind "$3" "$1/run/first"
TIDEGATE_DISK=$2 TIDEGATE_WAIT_S=1 PATH=/run/first:/usr/sbin:/usr/bin exec chroot "$1" sh -c "$4"
"#;

/// Prints what tests look at, after the storage script has run.
const LOOK: &str = r#"
/usr/lib/tidegate/storage
echo "code $?"
for fault in /run/tidegate-faults/*; do
    [ ! -e "$fault" ] || echo "fault ${fault##*/}: $(cat "$fault")"
done
while read -r device point kind options _; do
    case $point in /var | /etc/tidegate | /boot/firmware) echo "mount $point $kind $options" ;; esac
done </proc/mounts
echo "fill $(stat -f -c '%b*%S' /var)"
"#;

/// A card in its loop device.
#[derive(Debug)]
pub struct Card {
    dir: TempDir,
    device: PathBuf,
}

/// What one boot did.
#[derive(Debug)]
pub struct Boot {
    /// Lines of `LOOK` and of the test's own script.
    pub lines: Vec<String>,
    /// What the script and its tools said.
    pub said: String,
}

impl Card {
    /// Writes a card as the image's build does, and puts it into a slot of `size_mib`.
    ///
    /// # Errors
    /// A tool is missing, or there is no free loop device.
    pub fn new(size_mib: u64) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidegate-card-").tempdir()?;
        let (boot, root, file) = (dir.path().join("boot"), dir.path().join("root"), dir.path().join("card"));
        std::fs::create_dir(&boot)?;
        std::fs::create_dir(dir.path().join("first"))?;
        std::fs::write(&root, "no root is needed to test the rest")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../buildroot/board/tidegate/mkimage.sh");
        run(Command::new("sh")
            .arg(script)
            .arg("--boot")
            .arg(&boot)
            .arg("--root")
            .arg(&root)
            .arg("--out")
            .arg(&file))?;
        std::fs::File::options().write(true).open(&file)?.set_len(size_mib << 20)?;
        let device = insert(&file, &[])?;
        Ok(Self { dir, device })
    }

    /// The device of a partition; `None` is the whole card.
    #[must_use]
    pub fn device(&self, partition: Option<u8>) -> PathBuf {
        match partition {
            None => self.device.clone(),
            Some(number) => format!("{}p{number}", self.device.display()).into(),
        }
    }

    /// Writes files onto the drop zone. It becomes ext4 for that: not every kernel that runs tests knows FAT, and the boot must be told.
    ///
    /// # Errors
    /// The device does not take them.
    pub fn drop_files(&self, files: &[(&str, &str)]) -> Result<()> {
        let folder = self.dir.path().join("drop");
        std::fs::create_dir(&folder)?;
        for (name, text) in files {
            std::fs::write(folder.join(name), text)?;
        }
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(folder).arg(self.device(Some(1))))?;
        Ok(())
    }

    /// Puts a script in the place of a tool, until the next call with the same name; `None` brings the tool back.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn stand_in(&self, tool: &str, script: Option<&str>) -> Result<()> {
        use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
        let path = self.dir.path().join("first").join(tool);
        let Some(script) = script else { return Ok(std::fs::remove_file(path)?) };
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        Ok(std::fs::set_permissions(path, Permissions::from_mode(0o755))?)
    }

    /// Boots once, then runs `after` where the system would go on.
    ///
    /// # Errors
    /// There is no root to boot, or no right to.
    pub fn boot(&self, after: &str) -> Result<Boot> {
        self.boot_from(&self.device, after)
    }

    /// As [`Card::boot`], with the card's write protection on.
    ///
    /// # Errors
    /// As [`Card::boot`].
    pub fn boot_protected(&self, after: &str) -> Result<Boot> {
        let device = insert(&self.dir.path().join("card"), &["--read-only"])?;
        let boot = self.boot_from(&device, after);
        remove(&device);
        boot
    }

    /// As [`Card::boot`], from another device.
    ///
    /// # Errors
    /// As [`Card::boot`].
    pub fn boot_from(&self, device: &Path, after: &str) -> Result<Boot> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", GO_IN, "sh"]).arg(trixie::root()?).arg(device);
        command.arg(self.dir.path().join("first")).arg(format!("{LOOK}\n{after}"));
        let output =
            command.output().context("unshare is missing; install it: apt-get install -y util-linux")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lines = text(&output.stdout).lines().map(str::to_owned).collect();
        Ok(Boot { lines, said: text(&output.stderr) })
    }

    /// Writes zeros from a kibibyte of a partition on.
    ///
    /// # Errors
    /// The device does not take them.
    pub fn wipe(&self, partition: u8, from_kib: u64, length_kib: u64) -> Result<()> {
        let to = format!("of={}", self.device(Some(partition)).display());
        let (seek, count) = (format!("seek={from_kib}"), format!("count={length_kib}"));
        run(Command::new("dd")
            .args(["if=/dev/zero", "bs=1K", "conv=notrunc,fsync", "status=none"])
            .args([to, seek, count]))?;
        Ok(())
    }

    /// A number of the partition table, in sectors: `start` or `size`.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn sectors(&self, partition: u8, what: &str) -> Result<u64> {
        let table = run(Command::new("sfdisk").arg("--dump").arg(&self.device))?;
        let name = format!("{} ", self.device(Some(partition)).display());
        let line = table.lines().find(|line| line.starts_with(&name)).context("no such partition")?;
        let field = line.split([':', ',']).find_map(|field| field.trim().strip_prefix(&format!("{what}=")));
        Ok(field.context("no such field")?.trim().parse()?)
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        remove(&self.device);
    }
}

/// Puts the file of a card into a free loop device.
fn insert(file: &Path, how: &[&str]) -> Result<PathBuf> {
    let device = run(Command::new("losetup").args(["--find", "--show"]).args(how).arg(file))?;
    let device = PathBuf::from(device.trim());
    // Not every kernel reads the table by itself.
    run(Command::new("partx").arg("--add").arg(&device))?;
    Ok(device)
}

fn remove(device: &Path) {
    let _ = Command::new("partx").arg("--delete").arg(device).output();
    let _ = Command::new("losetup").arg("--detach").arg(device).output();
}

impl Boot {
    /// The rest of the line that begins with a word.
    #[must_use]
    pub fn line(&self, begin: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(begin))
    }

    /// Bytes of the file system behind `/var`.
    #[must_use]
    pub fn var_bytes(&self) -> u64 {
        let (blocks, size) = self.line("fill ").and_then(|text| text.split_once('*')).unwrap_or(("0", "0"));
        blocks.parse::<u64>().unwrap_or(0).saturating_mul(size.parse().unwrap_or(0))
    }
}

fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
