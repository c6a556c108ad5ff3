//! The boot partition of the running system: where it is, and what can be done with it. Nothing else mounts it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What can be asked of the system about its boot partition.
pub trait BootPartition {
    /// Mends the file system on a partition that is not mounted, as far as a power cut has left something to mend.
    ///
    /// # Errors
    /// It is beyond repair, or cannot be written.
    fn check(&self, device: &Path) -> io::Result<()>;

    /// Mounts it at a folder.
    ///
    /// # Errors
    /// The system refuses.
    fn mount(&self, device: &Path, folder: &Path, writable: bool) -> io::Result<()>;

    /// Takes it away from there, with everything written and nothing kept in memory.
    ///
    /// # Errors
    /// The system refuses.
    fn unmount(&self, folder: &Path) -> io::Result<()>;

    /// Whether a restart leads to the running system again: it is not on trial. The boot loader backend lies at this path.
    fn stays(&self, backend: &Path) -> bool;
}

/// The system's own, by programs.
#[derive(Debug, Clone, Copy)]
pub struct SystemBoot;

impl BootPartition for SystemBoot {
    fn check(&self, device: &Path) -> io::Result<()> {
        // fsck.vfat(8): 1 is that something was mended, or is of no matter.
        match run(Command::new("fsck.vfat").arg("-a").arg(device), 1) {
            // Other systems than our image may go without the program.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            ended => ended.map(drop),
        }
    }

    fn mount(&self, device: &Path, folder: &Path, writable: bool) -> io::Result<()> {
        let options = if writable { "rw,nosuid,nodev,noexec" } else { "ro,nosuid,nodev,noexec" };
        run(Command::new("mount").args(["-t", "vfat", "-o", options]).arg(device).arg(folder), 0).map(drop)
    }

    fn unmount(&self, folder: &Path) -> io::Result<()> {
        run(Command::new("umount").arg(folder), 0).map(drop)
    }

    fn stays(&self, backend: &Path) -> bool {
        let slot = |what: &str| run(Command::new(backend).arg(what), 0).ok();
        let primary = slot("get-primary");
        primary.is_some() && primary == slot("get-current")
    }
}

/// What a program writes, or what it complains of. It may end with any code up to `good`.
fn run(command: &mut Command, good: i32) -> io::Result<Vec<u8>> {
    let output = command.output()?;
    if output.status.code().is_some_and(|code| code <= good) {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.trim().to_owned()))
}

/// The boot partition of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) device: PathBuf,
    /// Its number on the card, which tells the system: 2 is A, 3 is B.
    pub(super) number: u8,
}

/// That of the running system: on the disk that the root came from, also below dm-verity. Two cards may have partitions of the same names.
pub(super) fn of_running(root: &Path) -> Option<Place> {
    let table = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    // proc_pid_mountinfo(5): number of the mount, of its parent, of the device, root in it, mount point. What was mounted last is on top.
    let device = table.lines().rev().find_map(|line| {
        let words: Vec<&str> = line.split(' ').take(5).collect();
        (words.get(4) == Some(&"/")).then(|| words[2].to_owned())
    })?;
    let mut place = fs::canonicalize(root.join("sys/dev/block").join(device)).ok()?;
    let below = fs::read_dir(place.join("slaves")).ok().and_then(|mut entries| entries.next()?.ok());
    if let Some(below) = below {
        place = fs::canonicalize(below.path()).ok()?;
    }
    let number = |folder: &Path| -> Option<u8> {
        fs::read_to_string(folder.join("partition")).ok()?.trim().parse().ok()
    };
    // buildroot/board/tidegate/image.env: roots A and B are 5 and 6.
    let wanted = match number(&place)? {
        5 => 2,
        6 => 3,
        _ => return None,
    };
    let found =
        fs::read_dir(place.parent()?).ok()?.flatten().find(|entry| number(&entry.path()) == Some(wanted))?;
    Some(Place { device: root.join("dev").join(found.file_name()), number: wanted })
}
