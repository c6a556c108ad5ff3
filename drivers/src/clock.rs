//! The clocks of the machine: time since boot, which boot, which run, and whether wall time can be believed.
//!
//! Invariant: wall time is called trusted only when the kernel or systemd says that the clock was set from outside in this boot.
//! A date that looks right is no proof. What else may be believed is decided in [`gateway_core::wall`].

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_core::tag::{BootId, BootNs, RunId, WallMs};

use crate::sys;

/// Touched by systemd-timesyncd when it has set the clock in this boot (systemd-timesyncd.service(8)).
const TIMESYNC_FILE: &str = "/run/systemd/timesync/synchronized";
/// There from the start of systemd-timesyncd on.
const TIMESYNC_FOLDER: &str = "/run/systemd/timesync";
/// Its time of modification is the last time that systemd-timesyncd knew. At its start it raises a clock that shows less (systemd-timesyncd.service(8)).
const KEPT_FILE: &str = "/var/lib/systemd/timesync/clock";
/// Names another file that appears when the clock has been set. Then that file alone decides: for a clock that is set by something of which
/// kernel and systemd know nothing (GPS, a script, the host of a container).
pub const TIMESYNC_FILE_VARIABLE: &str = "TIDEGATE_TIMESYNC_FILE";
/// Its time of modification is when the system was built (systemd(1)); `systemd/install.sh` makes it.
const BUILT_FILE: &str = "/usr/lib/clock-epoch";
/// 2026-01-01: no system with this program is older.
const BUILT_MIN: WallMs = WallMs(1_767_225_600_000);
/// A random number of this boot (random(4)).
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Time since boot, suspend included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn now() -> BootNs {
    #[cfg(test)]
    if let Some(now) = crate::virtual_time::now() {
        return now;
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    BootNs(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// This boot: the first 64 bits of the kernel's boot id.
///
/// # Errors
/// /proc is not mounted or holds something else.
pub fn boot_id() -> std::io::Result<BootId> {
    parse_boot_id(&std::fs::read_to_string(BOOT_ID_FILE)?).ok_or_else(|| {
        let message = format!("{BOOT_ID_FILE} does not hold a UUID");
        std::io::Error::new(std::io::ErrorKind::InvalidData, message)
    })
}

/// The identity of a run that starts at this moment.
///
/// # Errors
/// As [`boot_id`].
pub fn run_id() -> std::io::Result<RunId> {
    Ok(RunId { boot: boot_id()?, start_ms: now().ms() })
}

/// Wall time, if it is known to be right: the kernel says the clock is synchronised (`adjtimex`: neither `TIME_ERROR` nor
/// `STA_UNSYNC`), or systemd-timesyncd says that it has set it in this boot; or what [`TIMESYNC_FILE_VARIABLE`] names is there.
#[must_use]
pub fn wall_trusted() -> Option<WallMs> {
    static NAMED: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        std::env::var_os(TIMESYNC_FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
    });
    is_trusted(NAMED.as_deref(), sys::kernel_clock_synchronised).then(wall).flatten()
}

fn is_trusted(named: Option<&Path>, kernel: impl FnOnce() -> bool) -> bool {
    match named {
        Some(file) => file.exists(),
        None => kernel() || Path::new(TIMESYNC_FILE).exists(),
    }
}

/// The time of the system's clock, whoever has set it.
#[must_use]
pub fn wall() -> Option<WallMs> {
    wall_of(SystemTime::now())
}

/// The time of the system's clock, unless systemd-timesyncd is still to start and to raise it: the gateway may be the first of the two.
#[must_use]
pub fn wall_raised() -> Option<WallMs> {
    raised(wall()?, Path::new(TIMESYNC_FOLDER), Path::new(KEPT_FILE))
}

fn raised(wall: WallMs, folder: &Path, kept: &Path) -> Option<WallMs> {
    if folder.exists() {
        return Some(wall);
    }
    let kept = std::fs::metadata(kept).and_then(|file| file.modified()).ok().and_then(wall_of);
    kept.is_none_or(|kept| wall >= kept).then_some(wall)
}

/// When this system was built, as far as it can be told: no clock shows an earlier time and is right.
#[must_use]
pub fn built() -> WallMs {
    built_of(Path::new(BUILT_FILE))
}

fn built_of(file: &Path) -> WallMs {
    let stamp = std::fs::metadata(file).and_then(|file| file.modified()).ok().and_then(wall_of);
    stamp.map_or(BUILT_MIN, |stamp| WallMs(stamp.0.max(BUILT_MIN.0)))
}

fn wall_of(time: SystemTime) -> Option<WallMs> {
    let since_1970 = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since_1970.as_millis()).ok().map(WallMs)
}

fn parse_boot_id(text: &str) -> Option<BootId> {
    let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
    (hex.len() == 32).then_some(())?;
    u64::from_str_radix(hex.get(..16)?, 16).ok().map(BootId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_id_is_the_first_half_of_the_uuid() {
        let id = parse_boot_id("0123abcd-4567-89ab-cdef-0123456789ab\n");
        assert_eq!(id, Some(BootId(0x0123_abcd_4567_89ab)));
        for wrong in ["", "0123", "zz23abcd-4567-89ab-cdef-0123456789ab"] {
            assert_eq!(parse_boot_id(wrong), None);
        }
    }

    #[test]
    fn a_named_file_alone_decides_whether_the_clock_is_trusted() {
        let (there, missing) = (Path::new("/proc/self/stat"), Path::new("/proc/self/no-such-file"));
        assert!(is_trusted(Some(there), || false));
        assert!(!is_trusted(Some(missing), || true));
        assert!(is_trusted(None, || true));
    }

    #[test]
    fn a_system_was_built_when_its_stamp_says_and_never_before_the_program() {
        let stamp = tempfile::NamedTempFile::new().unwrap();
        let dated = |seconds| {
            let time = UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            stamp.as_file().set_modified(time).unwrap();
            built_of(stamp.path())
        };
        assert_eq!(dated(1_796_083_200), WallMs(1_796_083_200_000));
        assert_eq!(dated(0), BUILT_MIN);
        assert_eq!(built_of(Path::new("/nowhere/at/all")), BUILT_MIN);
    }

    /// The gateway starts before systemd-timesyncd has set the clock to the last time that was known: until then it shows when the system was built.
    #[test]
    fn a_clock_that_is_still_to_be_raised_is_not_told() {
        let kept = tempfile::NamedTempFile::new().unwrap();
        kept.as_file().set_modified(UNIX_EPOCH + std::time::Duration::from_secs(1_796_083_200)).unwrap();
        let (before, after) = (WallMs(1_796_083_199_000), WallMs(1_796_083_201_000));
        let (started, not_yet) = (Path::new("/proc/self"), Path::new("/proc/self/no-such-folder"));
        assert_eq!(raised(before, not_yet, kept.path()), None);
        assert_eq!(raised(after, not_yet, kept.path()), Some(after));
        // Whoever sets the clock back then is a person.
        assert_eq!(raised(before, started, kept.path()), Some(before));
        assert_eq!(raised(before, not_yet, Path::new("/proc/self/no-such-file")), Some(before));
    }

    #[test]
    fn time_since_boot_only_grows_and_the_boot_stays_the_same() {
        let (before, id) = (now(), boot_id().unwrap());
        assert!(now() >= before);
        assert_eq!(boot_id().unwrap(), id);
        assert_eq!(run_id().unwrap().boot, id);
    }
}
