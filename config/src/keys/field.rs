//! `[bus.NAME]`, `[device.NAME]`, `[[device.NAME.poll]]` and the tags.

use super::{DAY, Kind, MINUTE, SECOND, Section, Word, duration, int, key, word};

pub(crate) const RTU: &str = "modbus-rtu";
pub(crate) const TCP: &str = "modbus-tcp";
pub(crate) const RTU_OVER_TCP: &str = "modbus-rtu-over-tcp";
pub(crate) const SIM: &str = "sim";

/// `[bus.NAME]`.
pub(crate) static BUS: Section = Section {
    title: "[bus.NAME]",
    doc: "One serial line or one TCP connection; at most 256 in a file.",
    keys: &[
        key("driver", Kind::Choice(DRIVERS, DRIVER_ALIASES), "How the bytes travel.").required(),
        key(
            "port",
            Kind::Port,
            "Serial: the device, best one below /dev/serial/by-id, which stays the same after an unplug. TCP: the port number, \
             502 without it.",
        )
        .only(&[RTU, TCP, RTU_OVER_TCP]),
        key("baud", int(110, 4_000_000, "bit/s"), "Speed of the line; required.").only(&[RTU]),
        key("parity", Kind::Choice(PARITIES, PARITY_ALIASES), "Parity bit.").or("\"even\"").only(&[RTU]),
        key("stop_bits", int(1, 2, ""), "Stop bits; without it 1 with parity and 2 without.").only(&[RTU]),
        key("rs485", Kind::Table(&RS485), "Direction switching by the kernel, for UARTs whose driver needs to be told.")
            .only(&[RTU]),
        key("host", Kind::Text { max: 253 }, "Host name or address; required.").only(&[TCP, RTU_OVER_TCP]),
        key("pipeline", int(1, 16, "requests"), "Requests on their way at once; 1 unless the device's manual allows more.")
            .or("1")
            .only(&[TCP]),
        key("connect_timeout", duration(100, MINUTE), "Time for DNS and TCP.").or("\"5s\"").only(&[TCP, RTU_OVER_TCP]),
        key(
            "connect_pause",
            duration(0, 10 * SECOND),
            "Pause between a connection's handshake and its first request, for devices that lose what comes sooner.",
        )
        .or("\"0ms\"")
        .only(&[TCP, RTU_OVER_TCP]),
        key("connection", Kind::Choice(CONNECTIONS, CONNECTION_ALIASES), "How long a connection lives.")
            .or("\"keep\"")
            .only(&[TCP, RTU_OVER_TCP]),
        key("frame_silence", duration(1, 10 * SECOND), "Silence that ends a frame.").or("\"50ms\"").only(&[RTU_OVER_TCP]),
        key(
            "pause",
            duration(0, 10 * SECOND),
            "Silence between an answer and the next request for slow devices, on top of the 3.5 characters of a serial line.",
        )
        .or("\"0ms\""),
        key(
            "probe_share",
            Kind::Float { min: 0.0, max: 0.5 },
            "Share of bus time that may be spent on asking devices that do not answer.",
        )
        .or("0.05"),
        key(
            "fences",
            Kind::Bool,
            "After a request without an answer the device is asked to send a number back (function 8), so that its late answer is never taken for \
             the next one. false only for devices that function 8 harms; late answers are then kept apart by time alone.",
        )
        .or("true")
        .only(&[RTU, RTU_OVER_TCP]),
    ],
    aliases: &[
        ("type", "driver"),
        ("protocol", "driver"),
        ("baudrate", "baud"),
        ("baud_rate", "baud"),
        ("speed", "baud"),
        ("bitrate", "baud"),
        ("stopbits", "stop_bits"),
        ("stop_bit", "stop_bits"),
        ("stop", "stop_bits"),
        ("device", "port"),
        ("tty", "port"),
        ("path", "port"),
        ("ip", "host"),
        ("address", "host"),
        ("ip_address", "host"),
        ("server", "host"),
        ("timeout", "connect_timeout"),
        ("pause_after_connect", "connect_pause"),
        ("connect_delay", "connect_pause"),
        ("delay_after_connect", "connect_pause"),
        ("connection_mode", "connection"),
    ],
    refused: &[
        ("close_connection_after_gather", "write connection = \"per-cycle\" to close it after each poll cycle"),
        ("persistent", "write connection = \"keep\" or \"per-cycle\""),
        ("keep_alive", "write connection = \"keep\" or \"per-cycle\"; a dead connection is always noticed"),
        ("data_bits", "Modbus RTU always has 8 data bits: remove this key"),
        ("databits", "Modbus RTU always has 8 data bits: remove this key"),
        ("bytesize", "Modbus RTU always has 8 data bits: remove this key"),
        ("tls", "Modbus over TLS is not part of this version"),
    ],
};

const DRIVERS: &[Word] = &[
    word(RTU, "Modbus RTU on a serial line"),
    word(TCP, "Modbus TCP"),
    word(RTU_OVER_TCP, "RTU frames through a TCP connection (serial servers)"),
    word(SIM, "a simulated bus inside the gateway, for trying things out"),
];
const DRIVER_ALIASES: &[(&str, &str)] = &[
    ("rtu", RTU),
    ("modbus", RTU),
    ("modbusrtu", RTU),
    ("serial", RTU),
    ("rs485", RTU),
    ("tcp", TCP),
    ("modbustcp", TCP),
    ("rtuovertcp", RTU_OVER_TCP),
    ("simulator", SIM),
    ("simulation", SIM),
];
const CONNECTIONS: &[Word] = &[
    word(
        "keep",
        "as long as the device keeps it; one that the device has closed is opened again when it is needed",
    ),
    word(
        "per-cycle",
        "closed after each poll cycle and opened for the next, for devices that others have to reach in between",
    ),
];
const CONNECTION_ALIASES: &[(&str, &str)] = &[
    ("persistent", "keep"),
    ("permanent", "keep"),
    ("keep-alive", "keep"),
    ("per-poll", "per-cycle"),
    ("per-request", "per-cycle"),
    ("cycle", "per-cycle"),
    ("close", "per-cycle"),
];
const PARITIES: &[Word] =
    &[word("none", "no parity bit"), word("even", "the default of Modbus"), word("odd", "odd parity")];
const PARITY_ALIASES: &[(&str, &str)] = &[
    ("n", "none"),
    ("no", "none"),
    ("off", "none"),
    ("8n1", "none"),
    ("8n2", "none"),
    ("keine", "none"),
    ("e", "even"),
    ("8e1", "even"),
    ("gerade", "even"),
    ("o", "odd"),
    ("8o1", "odd"),
    ("ungerade", "odd"),
];

/// `rs485` of a bus.
pub(crate) static RS485: Section = Section {
    title: "rs485",
    doc: "RS485 direction control by the kernel driver (TIOCSRS485).",
    keys: &[
        key("rts_on_send", Kind::Bool, "RTS is high while sending.").or("true"),
        key("delay_before", duration(0, 100), "Pause between RTS and the first bit.").or("\"0ms\""),
        key("delay_after", duration(0, 100), "Pause between the last bit and RTS.").or("\"0ms\""),
        key("rx_during_tx", Kind::Bool, "The receiver hears what is sent.").or("false"),
    ],
    aliases: &[],
    refused: &[],
};

/// `[device.NAME]`.
pub(crate) static DEVICE: Section = Section {
    title: "[device.NAME]",
    doc: "One device on a bus; at most 2000 in a file, with at most 50000 tags together.",
    keys: &[
        key("bus", Kind::Name, "Its bus: the NAME of a [bus.NAME].").required(),
        key("unit", int(0, 255, ""), "Its Modbus address: 1 to 247 on a serial line, 0 to 255 behind TCP.").required(),
        key("timeout", duration(10, MINUTE), "Time from the end of a request to the first byte of its answer.").or("\"500ms\""),
        key("retries", int(0, 10, ""), "Further tries after a failed request.").or("1"),
        key("delay_before", duration(0, 10 * SECOND), "Silence before each request to this device.").or("\"0ms\""),
        key("turnaround", duration(0, 10 * SECOND), "Time that units need to act on a broadcast.").or("\"100ms\""),
        key(
            "dead_after",
            int(1, 1000, "requests"),
            "Failed requests in a row after which the device counts as dead and is only asked now and then.",
        )
        .or("3"),
        key("probe_max", duration(SECOND, DAY), "Longest pause between two questions to a dead device.").or("\"1m\""),
        key("registers_max", int(1, 125, "registers"), "Most registers that the device allows in one request.").or("125"),
        key("bits_max", int(1, 2000, "bits"), "Most coils or discrete inputs that the device allows in one request.").or("2000"),
        key(
            "gap_max",
            int(0, 124, "registers"),
            "Most unwanted registers (or 16 times as many bits) that are read along to join two tags into one request.",
        )
        .or("8"),
        key("one_by_one", Kind::Bool, "Every tag gets a request of its own, for devices that refuse joined ones.").or("false"),
        key(
            "base",
            int(0, 1, ""),
            "0: addresses in this file count from zero, as on the wire. 1: from one, as many manuals do.",
        )
        .or("0"),
        key("poll", Kind::List(&POLL), "Groups of tags that are read together."),
    ],
    aliases: &[
        ("slave", "unit"),
        ("slave_id", "unit"),
        ("slaveid", "unit"),
        ("unit_id", "unit"),
        ("id", "unit"),
        ("address", "unit"),
        ("addr", "unit"),
        ("station", "unit"),
        ("node", "unit"),
        ("retry", "retries"),
        ("interface", "bus"),
        ("line", "bus"),
        ("port", "bus"),
        ("driver", "bus"),
        ("polls", "poll"),
        ("group", "poll"),
        ("groups", "poll"),
    ],
    refused: &[
        ("map", "registers stand in poll groups: write each as tags.NAME = { holding = 0, type = \"u16\" } below a [[device.NAME.poll]]"),
        ("registers", "registers stand in poll groups: write each as tags.NAME = { holding = 0, type = \"u16\" } below a [[device.NAME.poll]]"),
        ("interval", "each poll group has its own: write `every` below a [[device.NAME.poll]]"),
    ],
};

/// `[[device.NAME.poll]]`.
pub(crate) static POLL: Section = Section {
    title: "[[device.NAME.poll]]",
    doc: "Tags of the device above that are read together.",
    keys: &[
        key("every", duration(10, DAY), "Scan interval.").required(),
        key("name", Kind::Name, "Its name in topics; without it 1, 2, 3 in the order of the file."),
        key("tags", Kind::Named(&TAG), "What is read: `tags.NAME = { ... }`.").required(),
    ],
    aliases: &[
        ("interval", "every"),
        ("period", "every"),
        ("cycle", "every"),
        ("rate", "every"),
        ("scan", "every"),
        ("time", "every"),
        ("tag", "tags"),
        ("points", "tags"),
        ("point", "tags"),
        ("registers", "tags"),
        ("group", "name"),
    ],
    refused: &[],
};

pub(crate) const NUMBERS: &[&str] =
    &["u8", "i8", "u16", "i16", "u32", "i32", "f32", "u64", "i64", "f64", "bcd16", "bcd32"];

/// A tag.
pub(crate) static TAG: Section = Section {
    title: "tags.NAME",
    doc: "One value of a device: exactly one of `holding`, `input`, `coil` and `discrete` with its address, and how it is read.",
    keys: &[
        key("holding", int(0, 65_536, ""), "Address of a holding register (function 3; read and write)."),
        key("input", int(0, 65_536, ""), "Address of an input register (function 4; read only)."),
        key("coil", int(0, 65_536, ""), "Address of a coil (function 1; read and write)."),
        key("discrete", int(0, 65_536, ""), "Address of a discrete input (function 2; read only)."),
        key("type", Kind::Choice(TYPES, TYPE_ALIASES), "How the registers are read; required for registers, bit for coils and discrete inputs."),
        key("order", Kind::Choice(ORDERS, ORDER_ALIASES), "Order of the bytes on the wire, `a` is the most significant: 4 letters for 32 bit, 8 for 64 bit. Without it abcd and abcdefgh.")
            .only(&["u32", "i32", "f32", "bcd32", "u64", "i64", "f64"]),
        key("byte", Kind::Choice(BYTES, &[]), "Which byte of the register.").or("\"low\"").only(&["u8", "i8"]),
        key("bit", int(0, 15, ""), "Which bit of the register, 0 is the least significant; required for a bit of a register.").only(&["bit"]),
        key("swap", Kind::Bool, "The two bytes of each register are exchanged.").or("false").only(&["u16", "i16", "text"]),
        key("registers", int(1, 125, "registers"), "Length of a text, two characters each; required with it.").only(&["text"]),
        key("scale", Kind::Float { min: -1e15, max: 1e15 }, "Factor: value = raw * scale + offset. Not zero.").only(NUMBERS),
        key("offset", Kind::Float { min: -1e15, max: 1e15 }, "Added after scaling.").only(NUMBERS),
        key("min", Kind::Float { min: -1e300, max: 1e300 }, "Lowest good value; below it the quality is out-of-range.").only(NUMBERS),
        key("max", Kind::Float { min: -1e300, max: 1e300 }, "Highest good value.").only(NUMBERS),
        key("clamp", Kind::Bool, "Values beyond `min` or `max` become that limit and stay good.").or("false").only(NUMBERS),
        key("unit", Kind::Text { max: 32 }, "Engineering unit, such as \"V\"; printed, never interpreted."),
        key("deadband", Kind::Deadband, "Only a larger change is reported: a number in the tag's unit, or \"1%\" of the last reported value.").only(NUMBERS),
        key("on_change", Kind::Bool, "Only a different value is reported.").or("false"),
        key("silence_max", duration(100, 30 * DAY), "With `deadband` or `on_change`: reported after this long even if nothing changed.")
            .without("only changes are reported"),
        key("stale_after", int(0, 1000, "scan intervals"), "Missed scan intervals after which a good value turns stale; 0 never.").or("3"),
        key("writable", Kind::Bool, "The `write` command may set it; holding registers and coils only.").or("false"),
        key("priority", Kind::Choice(PRIORITIES, &[]), "What goes last when a queue is full.").or("\"normal\""),
    ],
    aliases: &[
        ("register", "holding"),
        ("address", "holding"),
        ("addr", "holding"),
        ("reg", "holding"),
        ("input_register", "input"),
        ("holding_register", "holding"),
        ("discrete_input", "discrete"),
        ("digital", "discrete"),
        ("datatype", "type"),
        ("data_type", "type"),
        ("format", "type"),
        ("byte_order", "order"),
        ("byteorder", "order"),
        ("word_order", "order"),
        ("endian", "order"),
        ("factor", "scale"),
        ("multiplier", "scale"),
        ("gain", "scale"),
        ("scaling", "scale"),
        ("units", "unit"),
        ("length", "registers"),
        ("len", "registers"),
        ("count", "registers"),
        ("size", "registers"),
        ("minimum", "min"),
        ("maximum", "max"),
        ("hysteresis", "deadband"),
        ("cov", "on_change"),
        ("write", "writable"),
        ("rw", "writable"),
    ],
    refused: &[
        ("map", "numbers are sent as they are: remove it, and give them names where they are shown"),
        ("enum", "numbers are sent as they are: remove it, and give them names where they are shown"),
        ("states", "numbers are sent as they are: remove it, and give them names where they are shown"),
        ("function", "the table says it: `coil` is function 1, `discrete` 2, `holding` 3 and `input` 4: remove this key"),
        ("function_code", "the table says it: `coil` is function 1, `discrete` 2, `holding` 3 and `input` 4: remove this key"),
    ],
};

const TYPES: &[Word] = &[
    word("bit", "a coil, a discrete input, or one `bit` of a register"),
    word("u8", "unsigned, one `byte` of a register"),
    word("i8", "signed, one `byte` of a register"),
    word("u16", "unsigned, 1 register"),
    word("i16", "signed, 1 register"),
    word("u32", "unsigned, 2 registers"),
    word("i32", "signed, 2 registers"),
    word("f32", "floating point, 2 registers"),
    word("u64", "unsigned, 4 registers"),
    word("i64", "signed, 4 registers"),
    word("f64", "floating point, 4 registers"),
    word("bcd16", "4 BCD digits, 1 register"),
    word("bcd32", "8 BCD digits, 2 registers"),
    word("text", "characters in so many `registers`"),
];
const TYPE_ALIASES: &[(&str, &str)] = &[
    ("bool", "bit"),
    ("boolean", "bit"),
    ("byte", "u8"),
    ("uint8", "u8"),
    ("int8", "i8"),
    ("word", "u16"),
    ("uint", "u16"),
    ("uint16", "u16"),
    ("unsigned", "u16"),
    ("int", "i16"),
    ("int16", "i16"),
    ("signed", "i16"),
    ("short", "i16"),
    ("dword", "u32"),
    ("udint", "u32"),
    ("uint32", "u32"),
    ("dint", "i32"),
    ("int32", "i32"),
    ("long", "i32"),
    ("float", "f32"),
    ("float32", "f32"),
    ("real", "f32"),
    ("uint64", "u64"),
    ("lword", "u64"),
    ("int64", "i64"),
    ("float64", "f64"),
    ("double", "f64"),
    ("lreal", "f64"),
    ("bcd", "bcd16"),
    ("string", "text"),
    ("ascii", "text"),
];
const ORDERS: &[Word] = &[
    word("abcd", "big endian, as the standard says"),
    word("cdab", "registers exchanged"),
    word("badc", "bytes exchanged in each register"),
    word("dcba", "little endian"),
    word("abcdefgh", "big endian"),
    word("ghefcdab", "registers reversed"),
    word("badcfehg", "bytes exchanged in each register"),
    word("hgfedcba", "little endian"),
    word("efghabcd", "halves exchanged"),
    word("cdabghef", "registers exchanged in each half"),
];
const ORDER_ALIASES: &[(&str, &str)] = &[
    ("big", "abcd"),
    ("bigendian", "abcd"),
    ("be", "abcd"),
    ("little", "dcba"),
    ("littleendian", "dcba"),
    ("le", "dcba"),
    ("swap", "cdab"),
    ("swapped", "cdab"),
    ("wordswap", "cdab"),
    ("byteswap", "badc"),
];
const BYTES: &[Word] = &[word("low", "the less significant byte"), word("high", "the more significant byte")];
const PRIORITIES: &[Word] = &[word("normal", "readings"), word("high", "events and alarms")];
