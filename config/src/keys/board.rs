//! `[board]`.

use super::{Kind, Section, Word, key, word};

/// `[board]`.
pub(crate) static BOARD: Section = Section {
    title: "[board]",
    doc: "What is fitted to the board, such as a hat: on our image for Raspberry Pi `gateway-daemon provision` writes it for the board's firmware, restarts once so that it counts, and updates \
          keep it. docs/hardware.md says what to write for which hat. Elsewhere it has no effect.",
    keys: &[
        key(
            "overlays",
            Kind::Texts,
            "Overlays with their parameters, as behind `dtoverlay=` in the manual of a hat: [\"sc16is752-spi1,int_pin=24\"]; at most 16.",
        ),
        key(
            "uart",
            Kind::Ints { min: 2, max: 5 },
            "Numbers of further UARTs on the pins, which become /dev/ttyAMA2 to ttyAMA5: on a Pi 4 2 to 5, on a Pi 5 2 to 4; Pi 3 and Zero 2 W have none.",
        ),
        key("i2c", Kind::Bool, "Whether pins 3 and 5 are an I2C bus.").or("true"),
        key("spi", Kind::Bool, "Whether pins 19, 21, 23, 24 and 26 are an SPI bus.").or("true"),
        key("one_wire", Kind::Bool, "Whether pin 7 (GPIO 4) is a 1-Wire bus.").or("false"),
        key(
            "rtc",
            Kind::Choice(CLOCKS, CLOCK_ALIASES),
            "Clock chip on the I2C bus; none without it. Whether it is believed says `trust_clock`.",
        ),
    ],
    aliases: &[
        ("overlay", "overlays"),
        ("dtoverlay", "overlays"),
        ("dtoverlays", "overlays"),
        ("hat", "overlays"),
        ("uarts", "uart"),
        ("serial", "uart"),
        ("i2c_arm", "i2c"),
        ("w1", "one_wire"),
        ("w1_gpio", "one_wire"),
        ("1wire", "one_wire"),
        ("onewire", "one_wire"),
        ("clock", "rtc"),
        ("i2c_rtc", "rtc"),
    ],
    refused: &[(
        "dtparam",
        "parameters of the board are `i2c`, `spi`, `uart`, `one_wire` and `rtc`; those of an overlay stand behind its name in `overlays`",
    )],
};

/// Each also stands in `gateway_core::board::settings::CLOCKS`.
const CLOCKS: &[Word] = &[
    word("ds1307", "DS1307"),
    word("ds3231", "DS3231; cannot say that its battery failed"),
    word("pcf8523", "PCF8523"),
    word("pcf8563", "PCF8563"),
    word("pcf85063a", "PCF85063A"),
    word("rv3028", "RV-3028-C7"),
    word("rv3032", "RV-3032-C7"),
    word("mcp7940x", "MCP7940 to MCP79412"),
];

const CLOCK_ALIASES: &[(&str, &str)] = &[
    ("pcf85063", "pcf85063a"),
    ("rv-3028", "rv3028"),
    ("rv-3032", "rv3032"),
    ("mcp7940", "mcp7940x"),
    ("mcp7940n", "mcp7940x"),
];
