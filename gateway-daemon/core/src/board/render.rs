//! The file that `config.txt` includes.

use std::fmt::Write as _;

use super::settings::Settings;

/// Its name on the boot partition of a system.
pub const FILE: &str = "usercfg.txt";

/// The line of `config.txt` by which the firmware reads it.
pub const INCLUDE: &str = "include usercfg.txt";

/// What it begins with.
const HEAD: &str =
    "# Made by `gateway-daemon provision` from [board] of gateway.toml:\n# changes here are lost.\n";

/// The text of the file.
#[must_use]
pub fn rendered(settings: &Settings) -> String {
    let mut out = String::from(HEAD);
    // An overlay before it has parameters of its own, which would be meant by the lines that follow: "Overlay parameters are only in scope until the next overlay is
    // loaded"; "end the current overlay scope using: `dtoverlay=`" (`device-tree.adoc`).
    out.push_str("[all]\ndtoverlay=\n");
    for (off, line) in [(settings.i2c_off, "dtparam=i2c_arm=off\n"), (settings.spi_off, "dtparam=spi=off\n")]
    {
        if off {
            out.push_str(line);
        }
    }
    if settings.one_wire {
        out.push_str("dtoverlay=w1-gpio\n");
    }
    if let Some(clock) = settings.clock {
        let _ = writeln!(out, "dtoverlay=i2c-rtc,{}", clock.as_str());
    }
    for number in &settings.uarts {
        let _ = writeln!(out, "dtoverlay=uart{number}");
    }
    for overlay in &settings.overlays {
        let _ = writeln!(out, "dtoverlay={}", overlay.as_str());
    }
    out
}

/// Whether a text was made here, whatever it said.
#[must_use]
pub fn is_ours(text: &[u8]) -> bool {
    text.starts_with(HEAD.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::settings::{BadOverlay, CLOCKS, Clock, LINE_MAX, OVERLAY_BYTES_MAX, Overlay};
    use super::*;

    fn overlay(text: &str) -> Overlay {
        Overlay::new(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
    }

    #[test]
    fn parameters_of_the_board_come_before_overlays_and_belong_to_none() {
        let settings = Settings {
            overlays: vec![overlay("sc16is752-spi1,int_pin=24")],
            uarts: vec![3, 5],
            i2c_off: true,
            spi_off: true,
            one_wire: true,
            clock: Clock::new("rv3028"),
        };
        let lines = "[all]\ndtoverlay=\ndtparam=i2c_arm=off\ndtparam=spi=off\ndtoverlay=w1-gpio\ndtoverlay=i2c-rtc,rv3028\ndtoverlay=uart3\n\
                     dtoverlay=uart5\ndtoverlay=sc16is752-spi1,int_pin=24\n";
        assert_eq!(rendered(&settings), format!("{HEAD}{lines}"));
        assert_eq!(rendered(&Settings::default()), format!("{HEAD}[all]\ndtoverlay=\n"));
    }

    #[test]
    fn no_line_is_longer_than_the_firmware_reads() {
        let longest = format!("a,{}=1", "b".repeat(OVERLAY_BYTES_MAX - 4));
        let settings = Settings {
            overlays: vec![overlay(&longest)],
            uarts: vec![2],
            clock: CLOCKS.into_iter().max_by_key(|name| name.len()).and_then(Clock::new),
            ..Settings::default()
        };
        let text = rendered(&settings);
        assert_eq!(text.lines().map(str::len).max(), Some(LINE_MAX));
        assert!(text.is_ascii() && is_ours(text.as_bytes()));
        assert_eq!(Overlay::new(&format!("{longest}2")), Err(BadOverlay::Long(OVERLAY_BYTES_MAX + 1)));
    }

    #[test]
    fn nothing_but_one_overlay_is_an_overlay() {
        for text in [
            "uart3",
            "sc16is75x-spi,sc16is752,spi1-1cs,spi1-0,int_pin=24",
            "i2c-rtc,ds3231,addr=0x68",
            "a,p=/soc/i2c@7e804000",
        ] {
            assert_eq!(overlay(text).as_str(), text);
        }
        for (text, bad) in [
            ("", BadOverlay::Name),
            (",int_pin=24", BadOverlay::Name),
            ("dtoverlay=uart3", BadOverlay::Name),
            ("../kernel8", BadOverlay::Name),
            ("-uart3", BadOverlay::Name),
            ("uart3,", BadOverlay::Parameter),
            ("uart3,,ctsrts", BadOverlay::Parameter),
            ("uart3,=1", BadOverlay::Parameter),
            ("uart3,a=b=c", BadOverlay::Character('=')),
            ("uart3, ctsrts", BadOverlay::Character(' ')),
            ("uart3:ctsrts", BadOverlay::Character(':')),
            ("uart3\ndtoverlay=uart4", BadOverlay::Character('\n')),
            ("uart3\r", BadOverlay::Character('\r')),
            ("uart3#", BadOverlay::Character('#')),
            ("[pi4]", BadOverlay::Character('[')),
            ("uart３", BadOverlay::Character('３')),
        ] {
            assert_eq!(Overlay::new(text), Err(bad), "{text:?}");
        }
    }
}
