//! `[board]`: overlays and pins.

use std::ops::Range;

use gateway_core::board::settings::{BadOverlay, Clock, OVERLAY_BYTES_MAX, OVERLAYS_MAX, Overlay, Settings};

use super::Context;
use crate::keys::board::BOARD;
use crate::reader::Reader;
use crate::words;

/// What is fitted, if the file says something of it; `None` inside when something of it is wrong.
pub(crate) fn board<'a, 't>(cx: &Context<'a, 't>, file: &Reader<'a, 't>) -> Option<Option<Settings>> {
    if file.lacks("board") {
        return Some(None);
    }
    let reader = cx.table_or_empty(file, "board", &BOARD);
    let overlays = overlays(cx, &reader);
    let uarts = uarts(cx, &reader);
    let (i2c, spi, one_wire) = (reader.bool("i2c"), reader.bool("spi"), reader.bool("one_wire"));
    let clock = match reader.has("rtc") {
        true => reader.choice("rtc").and_then(Clock::new).map(Some),
        false => Some(None),
    };
    if i2c == Some(false) && matches!(clock, Some(Some(_))) {
        let text = "`rtc` is a chip on the I2C bus, which `i2c` = false switches off, expected one of them: remove `i2c` = false, or `rtc`";
        cx.found.wrong(&reader.at("rtc"), text);
    }
    if let (Some(uarts), Some(spi), Some(one_wire)) = (&uarts, spi, one_wire) {
        warn_of_pins(cx, &reader.at("uart"), uarts, (spi, one_wire));
    }
    let settings = Settings {
        overlays: overlays?,
        uarts: uarts?,
        i2c_off: !i2c?,
        spi_off: !spi?,
        one_wire: one_wire?,
        clock: clock?,
    };
    Some(Some(settings))
}

fn overlays(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Vec<Overlay>> {
    if !reader.has("overlays") {
        return reader.lacks("overlays").then(Vec::new);
    }
    let written = reader.written("overlays");
    if written > OVERLAYS_MAX {
        let text = format!("`overlays` has {written} overlays, expected at most {OVERLAYS_MAX}");
        cx.found.wrong(&reader.at("overlays"), text);
        return None;
    }
    let mut list = Vec::new();
    for (text, span) in reader.texts("overlays")? {
        match Overlay::new(&text) {
            Ok(overlay) => list.push(overlay),
            Err(bad) => cx.found.wrong(&span, refusal(&text, bad)),
        }
    }
    (list.len() == written).then_some(list)
}

/// Why an overlay is none, and what to write.
fn refusal(text: &str, bad: BadOverlay) -> String {
    let shown = words::shown(text);
    if let Some(rest) =
        ["dtoverlay=", "device_tree_overlay="].iter().find_map(|head| text.trim().strip_prefix(head))
    {
        let rest = words::shown(rest);
        return format!(
            "`overlays` holds \"{shown}\", expected what stands behind `dtoverlay=`: write \"{rest}\""
        );
    }
    if text.trim().starts_with("dtparam=") {
        return format!(
            "`overlays` holds \"{shown}\", expected an overlay: parameters of the board are `i2c`, `spi`, `uart`, `one_wire` and `rtc`, those of an overlay stand behind its name"
        );
    }
    let why = match bad {
        BadOverlay::Name => "does not begin with the name of an overlay".to_owned(),
        BadOverlay::Parameter => "has a parameter without a name".to_owned(),
        BadOverlay::Character(' ' | '\t') => "has a blank".to_owned(),
        BadOverlay::Character(other) => {
            let other = words::shown(&other.to_string());
            format!("has the character '{other}'")
        }
        BadOverlay::Long(length) => {
            format!("has {length} characters, more than the {OVERLAY_BYTES_MAX} that the firmware reads")
        }
    };
    format!(
        "`overlays` holds \"{shown}\", which {why}, expected a name and parameters with commas between them, such as \"sc16is752-spi1,int_pin=24\""
    )
}

fn uarts(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Vec<u8>> {
    if !reader.has("uart") {
        return reader.lacks("uart").then(Vec::new);
    }
    let mut list = Vec::new();
    let mut whole = true;
    for (number, span) in reader.ints("uart")? {
        let number = u8::try_from(number).ok()?;
        if list.contains(&number) {
            cx.found.wrong(&span, format!("`uart` holds {number} twice, expected each once: remove one"));
            whole = false;
        }
        list.push(number);
    }
    list.sort_unstable();
    whole.then_some(list)
}

/// Which board it will be is not known here. Pins of UARTs: Pi 4 2: 0, 1; 3: 4, 5; 4: 8, 9; 5: 12, 13; Pi 5 2: 4, 5; 3: 8, 9; 4: 12, 13 (README of the overlays).
fn warn_of_pins(cx: &Context<'_, '_>, at: &Range<usize>, uarts: &[u8], (spi, one_wire): (bool, bool)) {
    let has = |number: u8| uarts.contains(&number);
    let warn = |text: String| cx.found.warn(at, text);
    if has(5) {
        warn("`uart` holds 5, which only a Raspberry Pi 4, 400 or Compute Module 4 has: on others nothing becomes of it".to_owned());
    }
    for (number, board) in [(3, "5"), (4, "4")] {
        if has(number) && spi {
            warn(format!(
                "on a Raspberry Pi {board}, UART {number} is on pins 24 and 21, which belong to the SPI bus: write spi = false below [board], unless this is another model"
            ));
        }
    }
    for (number, board) in [(2, "5"), (3, "4")] {
        if has(number) && one_wire {
            warn(format!(
                "on a Raspberry Pi {board}, UART {number} is on pins 7 and 29, and `one_wire` on pin 7 as well: take another UART, unless this is another model"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::board::settings::{CLOCKS, UARTS};

    use super::*;
    use crate::keys::Kind;

    #[test]
    fn the_file_and_the_settings_know_the_same_chips_and_numbers() {
        let kind = |name: &str| &BOARD.key(name).unwrap().kind;
        let Kind::Choice(words, _) = kind("rtc") else { unreachable!("it is one of some words") };
        assert_eq!(words.iter().map(|word| word.word).collect::<Vec<_>>(), CLOCKS);
        let Kind::Ints { min, max } = kind("uart") else { unreachable!("it is a list of numbers") };
        assert_eq!((*min, *max), (i64::from(*UARTS.start()), i64::from(*UARTS.end())));
        let overlays = BOARD.key("overlays").unwrap();
        assert!(overlays.doc.ends_with(&format!("at most {OVERLAYS_MAX}.")));
    }
}
