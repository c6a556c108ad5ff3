//! `tags.NAME = { ... }`: where a tag is, how it is read and when it is worth a message.

use std::time::Duration;

use gateway_core::poll::request::Table;
use gateway_core::poll::settings::{Kind, Order4, Order8, Point, Range, Scale, Tag};
use gateway_core::process::settings::{Deadband, Filter};
use gateway_core::tag::Name;

use super::Context;
use crate::reader::{self, Reader};
use crate::words;

/// How the device's addresses are to be understood.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addressing {
    /// 0 or 1.
    pub(crate) base: i64,
    /// `base = 0` stands in the file: 40001 is meant as it is written.
    pub(crate) literal: bool,
    /// The device's limit, if it could be read.
    pub(crate) registers_max: Option<u16>,
}

const TABLES: &[(&str, Table)] = &[
    ("holding", Table::Holding),
    ("input", Table::Input),
    ("coil", Table::Coil),
    ("discrete", Table::Discrete),
];

/// Reads one tag.
pub(crate) fn tag(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    name: Name,
    group: usize,
    every: Option<Duration>,
    addressing: &Addressing,
) -> Option<Tag> {
    let table = table(cx, reader);
    let kind = kind(cx, reader, table.map(|(_, table)| table));
    let point = table.and_then(|(key, table)| {
        let address = address(cx, reader, key, addressing)?;
        point(cx, reader, key, Point { table, address, kind: kind? }, addressing)
    });
    let is_number = kind.is_some_and(|k| !matches!(k, Kind::Bit | Kind::BitOf(_) | Kind::Text { .. }));
    let scale = if is_number { scale(cx, reader) } else { None };
    let range = if is_number { range(cx, reader) } else { None };
    let unit = reader.text("unit");
    let filter = filter(cx, reader, every);
    let writable = reader.bool("writable");
    if writable == Some(true) && table.is_some_and(|(_, t)| matches!(t, Table::Discrete | Table::Input)) {
        let text = "`writable` = true on a table that can only be read, expected with `holding` or `coil`: remove `writable`";
        cx.found.wrong(&reader.key_at("writable"), text);
    }
    let alarm = reader.choice("priority").map(|word| word == "high");
    Some(Tag {
        name,
        group,
        point: point?,
        unit: unit.map(Into::into),
        scale,
        range,
        filter: filter?,
        writable: writable?,
        alarm: alarm?,
    })
}

/// The one table of the tag.
fn table(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<(&'static str, Table)> {
    let given: Vec<_> = TABLES.iter().filter(|(key, _)| reader.has(key)).collect();
    match given.as_slice() {
        [one] => Some(**one),
        [] if TABLES.iter().any(|(key, _)| !reader.lacks(key)) => None,
        [] => {
            let text = "the tag has no address, expected `holding`, `input`, `coil` or `discrete`: write holding = 0, for example";
            cx.found.misfit(&reader.here(), text);
            None
        }
        [first, second, ..] => {
            let text = format!(
                "`{}` and `{}` in one tag, expected one address: remove one of them",
                first.0, second.0
            );
            cx.found.misfit(&reader.key_at(second.0), text);
            None
        }
    }
}

/// The address on the wire.
fn address(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    key: &'static str,
    addressing: &Addressing,
) -> Option<u16> {
    let span = reader.at(key);
    let written = reader.raw(key).and_then(|(value, _)| value.as_integer().cloned());
    let number = written.and_then(|int| i64::from_str_radix(int.as_str(), int.radix()).ok());
    if let Some(number) = number.filter(|_| !addressing.literal)
        && let Some((meant, offset)) = modicon(number)
    {
        let key_meant = TABLES.iter().find(|(_, t)| *t == meant).map_or("holding", |(key, _)| *key);
        let fix = offset + addressing.base;
        let digit = number.to_string().chars().next().unwrap_or('4');
        let is_bits = |table| matches!(table, Table::Coil | Table::Discrete);
        let written = TABLES.iter().find(|(word, _)| *word == key).map_or(meant, |(_, table)| *table);
        // What is right for one table is refused in the other.
        let beside = match (is_bits(meant), is_bits(written)) {
            (true, false) => {
                let bits = ["type", "bit", "byte", "order", "swap", "registers"];
                let given: Vec<_> = bits.into_iter().filter(|key| reader.has(key)).collect();
                match given.as_slice() {
                    [] => String::new(),
                    keys => {
                        format!(" without {}", words::list(keys.iter().map(|key| format!("`{key}`")), "and"))
                    }
                }
            }
            (false, true) => " with the type that the manual says, such as type = \"u16\"".to_owned(),
            _ => String::new(),
        };
        // No address has more.
        let real = if number > i64::from(u16::MAX) {
            String::new()
        } else {
            format!(", or base = 0 in the device if {number} is its real address")
        };
        let text = format!(
            "`{key}` = {number} looks like a Modicon number ({digit} stands for {}), expected the address alone: \
             write {key_meant} = {fix}{beside}{real}",
            table_words(meant)
        );
        cx.found.misfit(&span, text);
        return None;
    }
    let why = if addressing.base == 1 { "with base = 1" } else { "with base = 0" };
    let number = reader.int_within(key, addressing.base, 65_535 + addressing.base, why)?;
    u16::try_from(number.checked_sub(addressing.base)?).ok()
}

/// The table and the zero-based address of a number such as 40001, 30001, 10001 or 400001.
fn modicon(number: i64) -> Option<(Table, i64)> {
    let (digit, rest) = match number {
        10_001..=49_999 => (number / 10_000, number % 10_000),
        100_001..=465_536 => (number / 100_000, number % 100_000),
        _ => return None,
    };
    let table = match digit {
        1 => Table::Discrete,
        3 => Table::Input,
        4 => Table::Holding,
        _ => return None,
    };
    (1..=65_536).contains(&rest).then_some((table, rest - 1))
}

fn table_words(table: Table) -> &'static str {
    match table {
        Table::Coil => "coil",
        Table::Discrete => "discrete input",
        Table::Holding => "holding register",
        Table::Input => "input register",
    }
}

/// How the registers are read.
fn kind(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, table: Option<Table>) -> Option<Kind> {
    let is_bits = matches!(table, Some(Table::Coil | Table::Discrete));
    if is_bits && reader.has("bit") {
        let text =
            "`bit` picks a bit of a register, and a coil or discrete input is a single bit: remove `bit`";
        cx.found.wrong(&reader.key_at("bit"), text);
        return None;
    }
    if !reader.has("type") {
        if is_bits {
            reader.only("type", "bit");
            return Some(Kind::Bit);
        }
        if table.is_some() && reader.lacks("type") {
            let text = "`type` is missing, expected for registers because they may hold anything: write type = \"u16\", or what the manual says";
            cx.found.misfit(&reader.here(), text);
        }
        return None;
    }
    let word = reader.choice("type")?;
    if is_bits && word != "bit" {
        let text = format!(
            "`type` = \"{word}\" for a single bit, expected \"bit\": remove `type`, or write `holding` or `input` for registers"
        );
        cx.found.misfit(&reader.at("type"), text);
        return None;
    }
    if is_bits {
        reader.only("type", word);
        return Some(Kind::Bit);
    }
    reader.only("type", word);
    let lacks = |key: &str, example: &str| {
        if !reader.has(key) {
            let text =
                format!("`type` = \"{word}\" lacks `{key}`, expected beside it: write {key} = {example}");
            cx.found.misfit(&reader.at("type"), text);
        }
    };
    Some(match word {
        "bit" => {
            lacks("bit", "0 for the least significant bit");
            Kind::BitOf(reader.uint("bit")?)
        }
        "u8" => Kind::U8 { high: reader.choice("byte")? == "high" },
        "i8" => Kind::I8 { high: reader.choice("byte")? == "high" },
        "u16" => Kind::U16 { swap: reader.bool("swap")? },
        "i16" => Kind::I16 { swap: reader.bool("swap")? },
        "u32" => Kind::U32(order4(cx, reader)?),
        "i32" => Kind::I32(order4(cx, reader)?),
        "f32" => Kind::F32(order4(cx, reader)?),
        "u64" => Kind::U64(order8(cx, reader)?),
        "i64" => Kind::I64(order8(cx, reader)?),
        "f64" => Kind::F64(order8(cx, reader)?),
        "bcd16" => Kind::Bcd16,
        "bcd32" => Kind::Bcd32(order4(cx, reader)?),
        _ => {
            lacks("registers", "8 for 16 characters");
            let (registers, swap) = (reader.uint("registers"), reader.bool("swap"));
            Kind::Text { registers: registers?, swap: swap? }
        }
    })
}

fn order4(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Order4> {
    if !reader.has("order") {
        return Some(Order4::Abcd);
    }
    let fix = match reader.choice("order")? {
        "abcd" => return Some(Order4::Abcd),
        "cdab" => return Some(Order4::Cdab),
        "badc" => return Some(Order4::Badc),
        "dcba" => return Some(Order4::Dcba),
        "ghefcdab" => "cdab",
        "badcfehg" => "badc",
        "hgfedcba" => "dcba",
        _ => "abcd",
    };
    let text = format!(
        "`order` has 8 letters for a type of 32 bit, expected \"abcd\", \"cdab\", \"badc\" or \"dcba\": write order = \"{fix}\""
    );
    cx.found.misfit(&reader.at("order"), text);
    None
}

fn order8(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Order8> {
    if !reader.has("order") {
        return Some(Order8::Abcdefgh);
    }
    let fix = match reader.choice("order")? {
        "abcdefgh" => return Some(Order8::Abcdefgh),
        "ghefcdab" => return Some(Order8::Ghefcdab),
        "badcfehg" => return Some(Order8::Badcfehg),
        "hgfedcba" => return Some(Order8::Hgfedcba),
        "efghabcd" => return Some(Order8::Efghabcd),
        "cdabghef" => return Some(Order8::Cdabghef),
        "cdab" => "ghefcdab",
        "badc" => "badcfehg",
        "dcba" => "hgfedcba",
        _ => "abcdefgh",
    };
    let text = format!(
        "`order` has 4 letters for a type of 64 bit, expected 8 such as \"abcdefgh\" or \"ghefcdab\": write order = \"{fix}\""
    );
    cx.found.misfit(&reader.at("order"), text);
    None
}

/// Checks that the point ends inside its table and fits one request of its device.
fn point(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    key: &str,
    point: Point,
    addressing: &Addressing,
) -> Option<Point> {
    let registers = point.kind.registers();
    let last = u32::from(point.address) + u32::from(registers) - 1;
    if last > u32::from(u16::MAX) {
        let text = format!(
            "the tag's {registers} registers end at {}, expected at most {}: lower the address or take a shorter type",
            i64::from(last) + addressing.base,
            65_535 + addressing.base
        );
        cx.found.misfit(&reader.at(key), text);
        return None;
    }
    if let Some(max) = addressing.registers_max.filter(|max| *max < registers) {
        let text = format!(
            "the tag takes {registers} registers, expected at most {max} because of `registers_max` of its device: raise that or take a shorter type"
        );
        cx.found.misfit(&reader.here(), text);
        return None;
    }
    Some(point)
}

fn scale(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Scale> {
    let (factor, offset) = (reader.float("scale"), reader.float("offset"));
    if factor == Some(0.0) {
        let text =
            "`scale` = 0 makes every value 0, expected another number such as 0.1: correct or remove it";
        cx.found.wrong(&reader.at("scale"), text);
        return None;
    }
    match (factor, offset) {
        (None, None) => None,
        (factor, offset) => Some(Scale { factor: factor.unwrap_or(1.0), offset: offset.unwrap_or(0.0) }),
    }
}

fn range(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Range> {
    let (min, max, clamp) = (reader.limit("min"), reader.limit("max"), reader.bool("clamp")?);
    if min.zip(max).is_some_and(|(min, max)| !min.is_below(max)) {
        let text = "`min` is not below `max`, so no value would be good: exchange or correct them";
        cx.found.misfit(&reader.at("min"), text);
    }
    if min.is_none() && max.is_none() {
        if clamp && reader.lacks("min") && reader.lacks("max") {
            let text = "`clamp` stands without `min` and `max`, expected at least one of them: add it or remove `clamp`";
            cx.found.misfit(&reader.key_at("clamp"), text);
        }
        return None;
    }
    Some(Range { min, max, clamp })
}

fn filter(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, every: Option<Duration>) -> Option<Filter> {
    let on_change = reader.bool("on_change")?;
    let deadband = match deadband(cx, reader) {
        None if !reader.lacks("deadband") => return None,
        None if on_change => Deadband::OnChange,
        None => Deadband::Off,
        Some(_) if on_change => {
            let text = "`on_change` and `deadband` in one tag, expected one of them: remove `on_change`, a deadband reports changes only";
            cx.found.misfit(&reader.key_at("on_change"), text);
            return None;
        }
        Some(deadband) => deadband,
    };
    let silence_max = reader.duration("silence_max");
    if silence_max.is_some() && deadband == Deadband::Off {
        let text = "`silence_max` does nothing here because every reading is sent: add `deadband` or `on_change`, or remove it";
        cx.found.warn(&reader.key_at("silence_max"), text);
    } else if silence_max.zip(every).is_some_and(|(silence, every)| silence < every) {
        let text = "`silence_max` is shorter than `every`, so every reading is sent: make it longer";
        cx.found.warn(&reader.at("silence_max"), text);
    }
    Some(Filter { deadband, silence_max, stale_after: reader.uint("stale_after")? })
}

/// A number, or text such as "1%".
fn deadband(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Deadband> {
    let (value, span) = reader.raw("deadband")?;
    let source = words::shown(cx.found.text(&span));
    if let Some(text) = value.as_str() {
        let Some(percent) = text.trim().strip_suffix('%').map(str::trim) else {
            reader.wrong_type("deadband");
            return None;
        };
        let number = percent.parse::<f64>().ok().filter(|p| *p > 0.0 && *p <= 100.0);
        if number.is_none() {
            let text = format!(
                "`deadband` = {source} is out of range, expected a percentage such as \"1%\" or \"0.5%\", at most \"100%\""
            );
            cx.found.wrong(&span, text);
        }
        return number.map(Deadband::Percent);
    }
    let Some(number) = reader::number(value) else {
        reader.wrong_type("deadband");
        return None;
    };
    match number {
        n if n.is_finite() && n > 0.0 => Some(Deadband::Absolute(n)),
        0.0 => Some(Deadband::OnChange),
        _ => {
            cx.found
                .wrong(&span, format!("`deadband` = {source} is out of range, expected a number above 0"));
            None
        }
    }
}
