use std::path::Path;

use gateway_config::{Environment, parse};

use super::*;

const CONFIG: &str = r#"
[gateway]
id = "gw"
[store]
[bus.line]
driver = "sim"
[bus.plc]
driver = "modbus-tcp"
host = "127.0.0.1"
[device.meter]
bus = "line"
unit = 17
timeout = "250ms"
[[device.meter.poll]]
every = "1s"
tags.coil = { coil = 3, writable = true }
tags.door = { discrete = 4 }
tags.u8 = { holding = 10, type = "u8", byte = "high", writable = true }
tags.i8 = { holding = 11, type = "i8", writable = true }
tags.u16 = { holding = 12, type = "u16", writable = true }
tags.swapped = { holding = 13, type = "u16", swap = true, writable = true }
tags.i16 = { holding = 14, type = "i16", scale = 0.1, offset = -40, unit = "°C", min = -40, max = 125, writable = true }
tags.u32 = { holding = 16, type = "u32", order = "cdab", writable = true }
tags.i32 = { holding = 18, type = "i32", writable = true }
tags.f32 = { holding = 20, type = "f32", writable = true }
tags.u64 = { holding = 24, type = "u64", writable = true }
tags.i64 = { holding = 28, type = "i64", writable = true }
tags.f64 = { holding = 32, type = "f64", writable = true }
tags.bcd = { holding = 36, type = "bcd16", writable = true }
tags.bcd32 = { holding = 38, type = "bcd32", writable = true }
tags.bit = { holding = 40, type = "bit", bit = 4, writable = true }
tags.text = { holding = 50, type = "text", registers = 3, writable = true }
tags.fixed = { holding = 60, type = "u16" }
tags.input = { input = 61, type = "u16" }
[device.plc]
bus = "plc"
unit = 0
[[device.plc.poll]]
every = "1s"
tags.speed = { holding = 0, type = "u16" }
"#;

pub(in super::super) fn field() -> Settings {
    match parse(CONFIG, "gateway.toml", Path::new("/"), &Environment::default()) {
        Ok((config, _)) => config.field,
        Err(problems) => panic!("{problems}"),
    }
}

pub(in super::super) fn write(tag: &str, value: &str) -> Result<Errand, String> {
    Errand::new(&field(), &Ask::Write { device: "meter".into(), tag: tag.into(), value: value.into() })
}

fn read(tag: &str) -> Errand {
    Errand::new(&field(), &Ask::Read { device: "meter".into(), tag: tag.into() }).unwrap()
}

pub(in super::super) fn at(bus: &str, unit: u8, table: &str, address: u16) -> RawAt {
    RawAt { bus: bus.into(), unit, table: table.into(), address }
}

fn read_raw(at: RawAt, count: u16) -> Result<Errand, String> {
    Errand::new(&field(), &Ask::ReadRaw { at, count })
}

pub(in super::super) fn write_raw(at: RawAt, values: Vec<u16>) -> Result<Errand, String> {
    Errand::new(&field(), &Ask::WriteRaw { at, values })
}

fn tag_of(reply: Reply) -> (Option<serde_json::Value>, String) {
    match reply {
        Reply::Tag(tag) => (tag.value, tag.quality),
        Reply::Written(written) => (written.tag.value, written.tag.quality),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_of_point_is_written_as_its_registers_and_read_back_as_it_was_given() {
    let registers = |address, values: &[u16]| match values {
        [value] => Query::WriteRegister { address, value: *value },
        _ => Query::WriteRegisters { address, values: values.to_vec() },
    };
    let double = 2.5_f64.to_bits().to_be_bytes();
    let double: Vec<u16> = double.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let check = |tag: &str, value: &str, query: Query, shown: serde_json::Value| {
        let errand = write(tag, value).unwrap();
        assert_eq!(errand.request.query, query, "{tag} = {value}");
        assert_eq!((errand.bus, errand.device, errand.request.unit.get()), (0, Some(0), 17));
        assert_eq!(tag_of(errand.reply(&field(), Ok(Answer::Done))), (Some(shown.clone()), "good".into()));
        let back = match query {
            Query::WriteRegister { value, .. } => Answer::Registers(vec![value]),
            Query::WriteRegisters { values, .. } => Answer::Registers(values),
            Query::WriteCoil { on, .. } => Answer::Bits(vec![on]),
            Query::MaskWrite { and, or, .. } => Answer::Registers(vec![or & !and]),
            other => panic!("{other:?}"),
        };
        assert_eq!(tag_of(read(tag).reply(&field(), Ok(back))), (Some(shown), "good".into()), "{tag}");
    };
    check("coil", "on", Query::WriteCoil { address: 3, on: true }, true.into());
    check("coil", "FALSE", Query::WriteCoil { address: 3, on: false }, false.into());
    check("u8", "255", Query::MaskWrite { address: 10, and: 0x00FF, or: 0xFF00 }, 255.into());
    check("i8", "-1", Query::MaskWrite { address: 11, and: 0xFF00, or: 0x00FF }, (-1).into());
    check("u16", "65535", registers(12, &[65535]), 65535.into());
    check("swapped", "1", registers(13, &[0x0100]), 1.into());
    check("i16", "21.5", registers(14, &[615]), 21.5.into());
    check("i16", "-39.5", registers(14, &[5]), serde_json::json!(-39.5));
    check("u32", "65538", registers(16, &[2, 1]), 65538.into());
    check("i32", "-2", registers(18, &[0xFFFF, 0xFFFE]), (-2).into());
    check("f32", "1.5", registers(20, &[0x3FC0, 0]), 1.5.into());
    check("u64", "18446744073709551615", registers(24, &[0xFFFF; 4]), u64::MAX.into());
    check("i64", "-9223372036854775808", registers(28, &[0x8000, 0, 0, 0]), i64::MIN.into());
    check("f64", "2.5", registers(32, &double), 2.5.into());
    check("bcd", "1234", registers(36, &[0x1234]), 1234.into());
    check("bcd32", "12345678", registers(38, &[0x1234, 0x5678]), 12345678.into());
    check("bit", "1", Query::MaskWrite { address: 40, and: 0xFFEF, or: 0x0010 }, true.into());
    check("text", "pump1", registers(50, &[0x7075, 0x6D70, 0x3100]), "pump1".into());
}

#[test]
fn what_is_read_asks_for_all_registers_of_the_point() {
    let count = |tag| match read(tag).request.query {
        Query::Read { table, address, count } => (table, address, count),
        other => panic!("{other:?}"),
    };
    assert_eq!(count("coil"), (Table::Coil, 3, 1));
    assert_eq!(count("door"), (Table::Discrete, 4, 1));
    assert_eq!(count("u64"), (Table::Holding, 24, 4));
    assert_eq!(count("text"), (Table::Holding, 50, 3));
    assert_eq!(count("input"), (Table::Input, 61, 1));
}

#[test]
fn a_value_that_cannot_be_is_refused_in_words_that_help() {
    for (tag, value, words) in [
        ("fixed", "1", "meter/fixed is read-only; set `writable = true` at this tag to allow it"),
        ("i16", "125.1", "meter/i16: outside the configured range -40 to 125"),
        ("i16", "21,5", "meter/i16: \"21,5\" is not a number; write the decimal point as '.', not ','"),
        ("u16", "65536", "meter/u16: 65536 does not fit the point, it holds 0 to 65535"),
        ("u16", "-1", "meter/u16: -1 does not fit the point, it holds 0 to 65535"),
        ("u16", "many", "meter/u16: \"many\" is not a number"),
        ("u16", "", "meter/u16: \"\" is not a number"),
        ("f32", "nan", "meter/f32: \"nan\" is not a number"),
        ("f32", "inf", "meter/f32: \"inf\" is not a number"),
        ("f64", "1e999", "meter/f64: \"1e999\" is not a number"),
        ("bcd", "10000", "meter/bcd: 10000 does not fit the point, it holds 0 to 9999"),
        ("bit", "2", "meter/bit: \"2\" is not on or off"),
        ("coil", "open", "meter/coil: \"open\" is not on or off"),
        ("text", "pump number 1", "meter/text: the point holds 6 characters of ASCII"),
    ] {
        assert_eq!(write(tag, value).unwrap_err(), words, "{tag} = {value}");
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_names_there_are() {
    let ask = |device: &str, tag: &str| {
        Errand::new(&field(), &Ask::Read { device: device.into(), tag: tag.into() }).unwrap_err()
    };
    assert_eq!(ask("metre", "u16"), "no device \"metre\"; did you mean meter?");
    assert_eq!(ask("plc", "sped"), "plc has no tag \"sped\"; did you mean speed?");
    assert_eq!(
        ask("meter", "volt"),
        "meter has no tag \"volt\"; it has: coil, door, u8, i8, u16, swapped, i16, u32, i32, f32, u64, i64 and 7 more"
    );
    let no_bus = read_raw(at("lin", 17, "holding", 0), 1).unwrap_err();
    assert_eq!(no_bus, "no bus \"lin\"; did you mean line?");
    let no_table = read_raw(at("line", 17, "registers", 0), 1).unwrap_err();
    assert_eq!(no_table, "no table \"registers\"; there are coil, discrete, holding and input");
}

#[test]
fn a_raw_request_keeps_the_limits_of_the_standard_whoever_asks() {
    let line = |table, address| at("line", 17, table, address);
    for (table, most) in [("holding", 125), ("input", 125), ("coil", 2000), ("discrete", 2000)] {
        assert!(read_raw(line(table, 0), most).is_ok());
        for wrong in [0, most + 1, u16::MAX] {
            assert!(
                read_raw(line(table, 0), wrong).unwrap_err().contains(&most.to_string()),
                "{table} {wrong}"
            );
        }
    }
    assert!(read_raw(line("holding", 65535), 1).is_ok());
    assert_eq!(
        read_raw(line("holding", 65535), 2).unwrap_err(),
        "2 from address 65535 on go beyond address 65535"
    );
    for (table, most) in [("holding", 123), ("coil", 1968)] {
        assert!(write_raw(line(table, 0), vec![1; most]).is_ok());
        for wrong in [0, most + 1, 4000] {
            assert!(
                write_raw(line(table, 0), vec![1; wrong]).unwrap_err().contains(&most.to_string()),
                "{wrong}"
            );
        }
        assert!(write_raw(line(table, 65535), vec![1, 1]).is_err());
    }
    assert_eq!(write_raw(line("coil", 0), vec![1, 2]).unwrap_err(), "a coil is 0 or 1");
    assert_eq!(write_raw(line("input", 0), vec![1]).unwrap_err(), "this table can only be read");
}

#[test]
fn a_broadcast_is_refused_on_a_line_and_unit_0_is_a_unit_behind_tcp() {
    let refused = read_raw(at("line", 0, "holding", 0), 1).unwrap_err();
    assert_eq!(refused, "unit 0 is a broadcast, which no unit answers; name one of 1 to 247");
    assert_eq!(read_raw(at("line", 248, "holding", 0), 1).unwrap_err(), "unit 248 is not 1 to 247");
    let errand = read_raw(at("plc", 0, "holding", 0), 1).unwrap();
    assert_eq!((errand.bus, errand.device), (1, Some(1)));
    let stranger = read_raw(at("line", 18, "holding", 0), 1).unwrap();
    assert_eq!(stranger.device, None, "a unit that nobody configured has no times of its own");
}

#[test]
fn a_device_without_function_22_gets_the_whole_register() {
    let errand = write("bit", "on").unwrap();
    let read = errand.read_whole(&Answer::Exception(1)).unwrap();
    assert_eq!(read.query, Query::Read { table: Table::Holding, address: 40, count: 1 });
    let write = errand.write_whole(&Answer::Registers(vec![0x0F0F])).unwrap();
    assert_eq!(write.query, Query::WriteRegister { address: 40, value: 0x0F1F });
    assert_eq!((read.unit, write.unit), (errand.request.unit, errand.request.unit));
    let off = self::write("bit", "off").unwrap().write_whole(&Answer::Registers(vec![0xFFFF])).unwrap();
    assert_eq!(off.query, Query::WriteRegister { address: 40, value: 0xFFEF });
}

#[test]
fn nothing_else_is_ever_read_and_written_back() {
    let errand = write("bit", "on").unwrap();
    for answer in [Answer::Done, Answer::Exception(2), Answer::Registers(vec![1])] {
        assert_eq!(errand.read_whole(&answer), None, "{answer:?}");
    }
    for answer in [Answer::Done, Answer::Exception(1), Answer::Registers(vec![]), Answer::Bits(vec![true])] {
        assert_eq!(errand.write_whole(&answer), None, "{answer:?}");
    }
    let plain = write("u16", "1").unwrap();
    assert_eq!(plain.read_whole(&Answer::Exception(1)), None);
    assert_eq!(plain.write_whole(&Answer::Registers(vec![1])), None);
}

#[test]
fn what_the_device_refuses_or_garbles_is_said_and_is_no_value() {
    let field = field();
    let refused = |answer| match read("u16").reply(&field, answer) {
        Reply::Refused(words) => words,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Ok(Answer::Exception(2))), "the device refused (exception 2): it has no such address");
    let place = "device meter (unit 17 on bus line): ";
    let silent = refused(Err(LineFault::Silence.into()));
    assert!(
        silent.starts_with(&format!("{place}no answer; check its power, its wires and its unit")),
        "{silent}"
    );
    assert!(silent.contains("`gateway-daemon status`"), "{silent}");
    assert_eq!(tag_of(read("u16").reply(&field, Ok(Answer::Done))), (None, "bad-answer".into()));
    assert_eq!(tag_of(read("u16").reply(&field, Ok(Answer::Registers(vec![])))), (None, "bad-answer".into()));
    assert_eq!(
        tag_of(read("bcd").reply(&field, Ok(Answer::Registers(vec![0xAAAA])))),
        (None, "not-a-number".into())
    );
}

#[test]
fn a_write_is_refused_only_where_it_surely_was_not_done_and_for_the_rest_nobody_knows() {
    let field = field();
    let words = |errand: Errand, answer| match errand.reply(&field, answer) {
        Reply::Refused(words) => (false, words),
        Reply::Unknown(words) => (true, words),
        other => panic!("{other:?}"),
    };
    let raw = || {
        let at = RawAt { bus: "line".into(), unit: 17, table: "holding".into(), address: 5 };
        Errand::new(&field, &Ask::WriteRaw { at, values: vec![7, 8] }).unwrap()
    };
    for errand in [write("u16", "1").unwrap(), write("bit", "on").unwrap(), raw()] {
        let of = |answer| words(errand.clone(), answer);
        for code in [1, 2, 3, 4, 6, 10] {
            let (unknown, words) = of(Ok(Answer::Exception(code)));
            assert!(!unknown && words.starts_with("the device refused"), "{words}");
        }
        for fault in [LineFault::Down, LineFault::Long] {
            let (unknown, words) = of(Err(CommandError::NotSent(fault)));
            assert!(!unknown && words.ends_with("was not sent, so nothing was written"), "{words}");
        }
        let open = [
            Ok(Answer::Exception(5)),
            Ok(Answer::Exception(11)),
            Ok(Answer::Registers(vec![1])),
            Err(CommandError::Unanswered),
            Err(CommandError::StoppedMidway),
            Err(CommandError::Doubtful(LineFault::Silence)),
            Err(CommandError::Doubtful(LineFault::Mismatch)),
        ];
        for answer in open {
            let (unknown, words) = of(answer);
            assert!(unknown && words.contains("nobody knows whether it was written"), "{words}");
            assert!(!words.contains("refused"), "{words}");
        }
    }
    let (unknown, words) = words(read("u16"), Ok(Answer::Exception(11)));
    assert_eq!((unknown, &*words), (false, "exception 11: it does not answer the gateway in between"));
}

#[test]
fn a_write_is_answered_with_the_value_that_the_register_holds_and_why_it_is_another() {
    let check = |tag: &str, asked: &str, held: serde_json::Value, why: Option<&str>| match write(tag, asked)
        .unwrap()
        .reply(&field(), Ok(Answer::Done))
    {
        Reply::Written(written) => {
            assert_eq!(written.tag.value, Some(held), "{tag} = {asked}");
            assert_eq!(written.rounded().as_deref(), why, "{tag} = {asked}");
        }
        other => panic!("{other:?}"),
    };
    check("i16", "33.57", 33.6.into(), Some("33.57 asked; the register holds steps of 0.1"));
    check("i16", "33.6", 33.6.into(), None);
    check("u16", "7", 7.into(), None);
    check("f32", "33.57", 33.57.into(), None);
    check("coil", "1", true.into(), None);
}
