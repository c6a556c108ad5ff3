//! Clock chips of the machine, as far as they can prove that their time is right.
//!
//! Each is opened for a moment, read and closed: the kernel gives a chip to one process at a time. Reading takes some milliseconds on an I2C bus, so it
//! is not for the core loop. Bounds: four chips. Never: sets a chip or clears its flags.

use std::fs::File;
use std::io;
use std::path::Path;

use gateway_core::tag::WallMs;
use gateway_core::wall::Rtc;

use crate::sys;

/// Most chips that are asked: the one of a Raspberry Pi 5, and one on I2C beside it.
const CHIPS_MAX: usize = 4;

/// `RTC_VL_DATA_INVALID`, `RTC_VL_BACKUP_LOW`, `RTC_VL_BACKUP_EMPTY` and `RTC_VL_ACCURACY_LOW` of linux/rtc.h. `RTC_VL_BACKUP_SWITCH` beside them only says
/// that the battery was in use.
const LOW: u32 = 1 | 2 | 4 | 8;

/// What the chip says that proves its time best.
#[must_use]
pub fn read() -> Rtc {
    read_below(Path::new("/sys/class/rtc"), Path::new("/dev"), sys::rtc_voltage)
}

fn read_below(class: &Path, devices: &Path, voltage: impl Fn(&File) -> io::Result<u32>) -> Rtc {
    let chips = (0..CHIPS_MAX).map(|number| format!("rtc{number}"));
    let chips = chips.filter(|chip| class.join(chip).exists());
    let said = chips.map(|chip| {
        let flags = File::open(devices.join(&chip)).and_then(|device| voltage(&device));
        let time = || std::fs::read_to_string(class.join(&chip).join("since_epoch"));
        judge(flags, time)
    });
    said.min_by_key(|rtc| match rtc {
        Rtc::Reads(_) => 0,
        Rtc::Low => 1,
        Rtc::Mute => 2,
        Rtc::Unreadable => 3,
        Rtc::Absent => 4,
    })
    .unwrap_or(Rtc::Absent)
}

fn judge(flags: io::Result<u32>, time: impl FnOnce() -> io::Result<String>) -> Rtc {
    match flags {
        // The driver has no such call.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => Rtc::Mute,
        Err(_) => Rtc::Unreadable,
        Ok(flags) if flags & LOW != 0 => Rtc::Low,
        Ok(_) => {
            // A chip whose oscillator stopped refuses to be read.
            let seconds = time().ok().and_then(|text| text.trim().parse::<i64>().ok());
            seconds.map_or(Rtc::Unreadable, |seconds| Rtc::Reads(WallMs(seconds.saturating_mul(1000))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Rtc = Rtc::Reads(WallMs(1_796_083_200_000));

    /// Chips with what each says of its time; `None` has no device file.
    fn machine(chips: &[(&str, Option<&str>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        for (chip, time) in chips {
            std::fs::create_dir_all(root.path().join("class").join(chip)).unwrap();
            let Some(time) = time else { continue };
            std::fs::write(root.path().join("class").join(chip).join("since_epoch"), time).unwrap();
            std::fs::write(root.path().join("dev").join(chip), chip).unwrap();
        }
        root
    }

    fn check(chips: &[(&str, Option<&str>)], voltage: fn(&str) -> io::Result<u32>, expected: Rtc) {
        let root = machine(chips);
        let asked = |device: &File| voltage(&io::read_to_string(device).unwrap());
        let found = read_below(&root.path().join("class"), &root.path().join("dev"), asked);
        assert_eq!(found, expected, "{chips:?}");
    }

    #[test]
    fn a_chip_with_a_clear_flag_is_read_and_every_other_says_why_not() {
        let clear = |_: &str| Ok(0);
        check(&[], clear, Rtc::Absent);
        check(&[("rtc0", Some("1796083200\n"))], clear, GOOD);
        // The battery was in use, which is what it is for.
        check(&[("rtc0", Some("1796083200\n"))], |_| Ok(16), GOOD);
        for flags in [|_: &str| Ok(1), |_: &str| Ok(2), |_: &str| Ok(4 | 16), |_: &str| Ok(8)] {
            check(&[("rtc0", Some("1796083200\n"))], flags, Rtc::Low);
        }
        let no_call = |_: &str| Err(io::Error::from_raw_os_error(libc::ENOTTY));
        check(&[("rtc0", Some("1796083200\n"))], no_call, Rtc::Mute);
        let busy = |_: &str| Err(io::Error::from_raw_os_error(libc::EBUSY));
        check(&[("rtc0", Some("1796083200\n"))], busy, Rtc::Unreadable);
        check(&[("rtc0", None)], clear, Rtc::Unreadable);
        check(&[("rtc0", Some("never set"))], clear, Rtc::Unreadable);
        check(&[("rtc0", Some("0\n"))], clear, Rtc::Reads(WallMs(0)));
    }

    #[test]
    fn beside_a_chip_that_cannot_prove_its_time_another_one_can() {
        let chips = [("rtc0", Some("5\n")), ("rtc1", Some("1796083200\n"))];
        let own_has_no_call = |chip: &str| match chip {
            "rtc0" => Err(io::Error::from_raw_os_error(libc::ENOTTY)),
            _ => Ok(0),
        };
        check(&chips, own_has_no_call, GOOD);
    }

    #[test]
    fn the_chip_of_this_machine_stops_nobody() {
        let _ = read();
    }
}
