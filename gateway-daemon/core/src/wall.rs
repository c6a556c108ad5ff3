//! Which clock gives wall time. Pure: what the clocks say in; a wall time out, or why none of them is believed.
//!
//! ```text
//! a time server has answered -----------------------------------------------> its time, whatever else there is, and nothing else in this run any more
//! trust_clock = "rtc":    battery never failed, and not before the system was built --> the chip's time, to half a second
//! trust_clock = "system": not before the system was built ------------------------> the system's time
//! ```
//! A wall time is never guessed: where no clock is believed there is none, and what was read meanwhile gets its time when one is. A time server that answers
//! later corrects what the chip said, back to the beginning of the boot. A chip that jumps is believed when it says the same at the next look: a single odd
//! answer changes nothing.

use std::fmt;

use crate::settings::TrustClock;
use crate::tag::{BootNs, WallMs};

/// What the chip may differ from what it said before: it counts whole seconds, and is looked at between two of them.
const RTC_STEP_MS: i64 = 2000;
/// Half of the second that the chip does not show.
const RTC_HALF_MS: i64 = 500;

/// What a clock chip says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rtc {
    /// There is none.
    Absent,
    /// It cannot be read, by this user or at all; a chip whose oscillator stopped refuses to be read.
    Unreadable,
    /// Its driver cannot say whether the battery failed.
    Mute,
    /// Its battery failed, or is about to.
    Low,
    /// Its time, of a battery that never failed since it was set.
    Reads(WallMs),
}

/// What all clocks say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The moment.
    pub now: BootNs,
    /// The system's time, if a time server or the like has set it in this boot.
    pub synchronised: Option<WallMs>,
    /// The system's time, whoever has set it.
    pub system: Option<WallMs>,
    /// The chip, and when it was read; `None` before it was.
    pub rtc: Option<(BootNs, Rtc)>,
}

/// The clock that gave wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A time server, or the like.
    Ntp,
    /// The clock chip.
    Rtc,
    /// The system's clock, as somebody has set it.
    System,
}

impl Source {
    /// The word in `status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ntp => "ntp",
            Self::Rtc => "rtc",
            Self::System => "system",
        }
    }
}

/// Why no clock is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// No time server has answered, and nothing else is to be believed.
    NoServer,
    /// The chip was not read yet.
    RtcUnread,
    /// There is no chip.
    RtcAbsent,
    /// It cannot be read.
    RtcUnreadable,
    /// Its driver cannot say whether the battery failed.
    RtcMute,
    /// Its battery failed.
    RtcLow,
    /// Its time is before the one at which the system was built.
    RtcBefore,
    /// The system's time is.
    SystemBefore,
}

impl Doubt {
    /// What a person can do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoServer => {
                "give it a time server that it can reach (`network.ntp`); in a plant without one a clock chip with trust_clock = \"rtc\" below [gateway], \
                 or trust_clock = \"system\" where somebody sets the clock"
            }
            Self::RtcUnread => "it is read within a minute",
            Self::RtcAbsent => {
                "fit one and name it (`board.rtc`, docs/hardware.md), or give the gateway a time server (`network.ntp`)"
            }
            Self::RtcUnreadable => {
                "if it lost its power set it: date -u -s \"2026-11-30 12:00:00\" and hwclock -w; else the user of the gateway must be allowed to read /dev/rtc0"
            }
            Self::RtcMute => {
                "fit one whose driver can (RV3028, PCF8523, PCF85063; docs/hardware.md), give the gateway a time server, or write trust_clock = \"system\""
            }
            Self::RtcLow | Self::RtcBefore => {
                "change its battery, then set it: date -u -s \"2026-11-30 12:00:00\" and hwclock -w"
            }
            Self::SystemBefore => {
                "set it: date -u -s \"2026-11-30 12:00:00\", or give the gateway a time server (`network.ntp`)"
            }
        }
    }
}

/// The fact alone; what to do is [`Doubt::remedy`].
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServer => "no time server has answered",
            Self::RtcUnread => "no time server has answered, and the clock chip was not read yet",
            Self::RtcAbsent => "no time server has answered, and there is no clock chip (/dev/rtc0)",
            Self::RtcUnreadable => "no time server has answered, and the clock chip cannot be read",
            Self::RtcMute => {
                "no time server has answered, and the driver of the clock chip cannot say whether its battery failed"
            }
            Self::RtcLow => "no time server has answered, and the battery of the clock chip failed or is low",
            Self::RtcBefore => {
                "no time server has answered, and the clock chip shows a time before this system was built"
            }
            Self::SystemBefore => {
                "no time server has answered, and the system's clock shows a time before this system was built"
            }
        })
    }
}

/// Decides which clock is believed, look by look.
#[derive(Debug, Clone)]
pub struct Trust {
    clock: TrustClock,
    built: WallMs,
    source: Option<Source>,
    /// When this boot began by the chip, ms since 1970.
    began_ms: Option<i64>,
    /// The same by its last reading, which disagrees; and when that was.
    jumped: Option<(BootNs, i64)>,
}

impl Trust {
    /// Nothing was looked at. `built` is when the system was built: no clock can show an earlier time and be right.
    #[must_use]
    pub fn new(clock: TrustClock, built: WallMs) -> Self {
        Self { clock, built, source: None, began_ms: None, jumped: None }
    }

    /// The clock that wall time was taken from at last.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Takes a look at the clocks: the wall time at that moment.
    ///
    /// # Errors
    /// Why there is none; what was known before still holds.
    pub fn look(&mut self, look: &Look) -> Result<WallMs, Doubt> {
        if let Some(wall) = look.synchronised {
            self.source = Some(Source::Ntp);
            return Ok(wall);
        }
        match self.clock {
            // What a time server has said is better than what any other clock says, even a day later.
            _ if self.source == Some(Source::Ntp) => Err(Doubt::NoServer),
            TrustClock::Ntp => Err(Doubt::NoServer),
            TrustClock::Rtc => self.by_chip(look),
            TrustClock::System => match look.system {
                Some(wall) if wall >= self.built => {
                    self.source = Some(Source::System);
                    Ok(wall)
                }
                _ => Err(Doubt::SystemBefore),
            },
        }
    }

    fn by_chip(&mut self, look: &Look) -> Result<WallMs, Doubt> {
        let (at, rtc) = look.rtc.ok_or(Doubt::RtcUnread)?;
        let wall = match rtc {
            Rtc::Absent => return Err(Doubt::RtcAbsent),
            Rtc::Unreadable => return Err(Doubt::RtcUnreadable),
            Rtc::Mute => return Err(Doubt::RtcMute),
            Rtc::Low => return Err(Doubt::RtcLow),
            Rtc::Reads(wall) if wall < self.built => return Err(Doubt::RtcBefore),
            Rtc::Reads(wall) => wall,
        };
        let read = wall.0.saturating_add(RTC_HALF_MS).saturating_sub(ms(at));
        let agrees = |other: i64| other.saturating_sub(read).saturating_abs() <= RTC_STEP_MS;
        let began = match (self.began_ms, self.jumped) {
            (Some(began), _) if agrees(began) => {
                self.jumped = None;
                began
            }
            // The same reading again says nothing new.
            (Some(began), Some((before, _))) if before == at => began,
            (Some(_), Some((_, other))) if agrees(other) => read,
            (Some(began), _) => {
                self.jumped = Some((at, read));
                began
            }
            (None, _) => read,
        };
        self.began_ms = Some(began);
        self.source = Some(Source::Rtc);
        Ok(WallMs(began.saturating_add(ms(look.now))))
    }
}

fn ms(at: BootNs) -> i64 {
    i64::try_from(at.ms()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-01.
    const BUILT: WallMs = WallMs(1_793_491_200_000);
    /// A month later.
    const TODAY: i64 = 1_796_083_200_000;
    const SECOND: u64 = 1_000_000_000;

    fn look(second: u64) -> Look {
        let now = BootNs(second * SECOND);
        Look { now, synchronised: None, system: Some(WallMs(0)), rtc: None }
    }

    /// The chip, read at this very moment.
    fn chip(second: u64, rtc: Rtc) -> Look {
        Look { rtc: Some((BootNs(second * SECOND), rtc)), ..look(second) }
    }

    fn reads(second: u64, wall_ms: i64) -> Look {
        chip(second, Rtc::Reads(WallMs(wall_ms)))
    }

    fn synchronised(second: u64, wall_ms: i64) -> Look {
        Look { synchronised: Some(WallMs(wall_ms)), ..look(second) }
    }

    fn system(second: u64, wall_ms: i64) -> Look {
        Look { system: Some(WallMs(wall_ms)), ..look(second) }
    }

    #[test]
    fn by_default_only_a_time_server_is_believed() {
        let mut trust = Trust::new(TrustClock::Ntp, BUILT);
        let all = Look { system: Some(WallMs(TODAY)), ..reads(10, TODAY) };
        assert_eq!(trust.look(&all), Err(Doubt::NoServer));
        assert_eq!(trust.source(), None);
        assert_eq!(trust.look(&synchronised(20, TODAY)), Ok(WallMs(TODAY)));
        assert_eq!(trust.source(), Some(Source::Ntp));
    }

    #[test]
    fn a_plant_without_internet_gets_its_time_from_a_chip_that_kept_it() {
        let mut trust = Trust::new(TrustClock::Rtc, BUILT);
        assert_eq!(trust.look(&look(1)), Err(Doubt::RtcUnread));
        assert_eq!(trust.look(&reads(10, TODAY)), Ok(WallMs(TODAY + 500)));
        assert_eq!(trust.source(), Some(Source::Rtc));
        // The time goes on by the monotonic clock, although the chip was read a minute ago and counts whole seconds.
        let later = Look { now: BootNs(70 * SECOND), ..reads(10, TODAY) };
        assert_eq!(trust.look(&later), Ok(WallMs(TODAY + 60_500)));
        assert_eq!(trust.look(&reads(71, TODAY + 60_000)), Ok(WallMs(TODAY + 61_500)));
    }

    #[test]
    fn a_chip_that_cannot_prove_its_time_is_not_believed() {
        for (rtc, doubt) in [
            (Rtc::Absent, Doubt::RtcAbsent),
            (Rtc::Unreadable, Doubt::RtcUnreadable),
            (Rtc::Mute, Doubt::RtcMute),
            (Rtc::Low, Doubt::RtcLow),
            // 1970, 2000, and a second before the system was built.
            (Rtc::Reads(WallMs(0)), Doubt::RtcBefore),
            (Rtc::Reads(WallMs(946_684_800_000)), Doubt::RtcBefore),
            (Rtc::Reads(WallMs(BUILT.0 - 1000)), Doubt::RtcBefore),
        ] {
            let mut trust = Trust::new(TrustClock::Rtc, BUILT);
            assert_eq!(trust.look(&chip(10, rtc)), Err(doubt));
            assert_eq!(trust.source(), None);
            assert!(!doubt.to_string().is_empty() && !doubt.remedy().is_empty());
        }
    }

    #[test]
    fn a_time_server_that_answers_after_the_chip_corrects_it_and_is_believed_from_then_on() {
        let mut trust = Trust::new(TrustClock::Rtc, BUILT);
        assert!(trust.look(&reads(10, TODAY)).is_ok());
        let server = Look { rtc: reads(60, TODAY + 50_000).rtc, ..synchronised(60, TODAY + 3_000_000) };
        assert_eq!(trust.look(&server), Ok(WallMs(TODAY + 3_000_000)));
        assert_eq!(trust.source(), Some(Source::Ntp));
        // The server is away again: the chip, an hour wrong, does not take the time back.
        assert_eq!(trust.look(&reads(120, TODAY + 110_000)), Err(Doubt::NoServer));
        assert_eq!(trust.source(), Some(Source::Ntp));
    }

    #[test]
    fn a_chip_that_jumps_back_is_believed_when_it_says_so_twice() {
        let mut trust = Trust::new(TrustClock::Rtc, BUILT);
        assert_eq!(trust.look(&reads(10, TODAY)), Ok(WallMs(TODAY + 500)));
        // One odd answer, looked at several times, and the right one again.
        for now in [70, 71, 72] {
            let odd = Look { now: BootNs(now * SECOND), ..reads(70, TODAY - 3_600_000) };
            assert_eq!(trust.look(&odd), Ok(WallMs(TODAY + 500 + (now as i64 - 10) * 1000)));
        }
        assert_eq!(trust.look(&reads(130, TODAY + 120_000)), Ok(WallMs(TODAY + 120_500)));
        // Somebody has set it back an hour.
        assert_eq!(trust.look(&reads(190, TODAY - 3_600_000)), Ok(WallMs(TODAY + 180_500)));
        assert_eq!(trust.look(&reads(250, TODAY - 3_540_000)), Ok(WallMs(TODAY - 3_539_500)));
    }

    #[test]
    fn a_battery_that_fails_while_the_gateway_runs_takes_nothing_back() {
        let mut trust = Trust::new(TrustClock::Rtc, BUILT);
        assert!(trust.look(&reads(10, TODAY)).is_ok());
        assert_eq!(trust.look(&chip(70, Rtc::Low)), Err(Doubt::RtcLow));
        assert_eq!(trust.look(&chip(130, Rtc::Reads(WallMs(0)))), Err(Doubt::RtcBefore));
        assert_eq!(trust.source(), Some(Source::Rtc));
    }

    #[test]
    fn the_clock_of_the_system_is_believed_when_the_file_says_so_and_not_in_1970() {
        let mut trust = Trust::new(TrustClock::System, BUILT);
        assert_eq!(trust.look(&system(5, 5000)), Err(Doubt::SystemBefore));
        assert_eq!(trust.look(&Look { system: None, ..look(5) }), Err(Doubt::SystemBefore));
        assert_eq!(trust.look(&system(6, TODAY)), Ok(WallMs(TODAY)));
        assert_eq!(trust.source(), Some(Source::System));
        // Set back by a person: that is the time now. Back to 1970: that is none.
        assert_eq!(trust.look(&system(7, TODAY - 3_600_000)), Ok(WallMs(TODAY - 3_600_000)));
        assert_eq!(trust.look(&system(8, 8000)), Err(Doubt::SystemBefore));
        assert_eq!(trust.look(&synchronised(9, TODAY)), Ok(WallMs(TODAY)));
        assert_eq!(trust.look(&system(10, TODAY + 3_600_000)), Err(Doubt::NoServer));
    }

    #[test]
    fn clocks_at_the_ends_of_time_stop_nobody() {
        for wall in [i64::MIN, -1, i64::MAX] {
            for clock in [TrustClock::Ntp, TrustClock::Rtc, TrustClock::System] {
                let mut trust = Trust::new(clock, BUILT);
                let all = Look { system: Some(WallMs(wall)), ..reads(u64::from(u32::MAX), wall) };
                let _ = trust.look(&all);
                let _ = trust.look(&Look { now: BootNs(u64::MAX), ..all });
            }
        }
    }
}
