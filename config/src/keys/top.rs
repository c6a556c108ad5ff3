//! `[gateway]`, `[store]`, `[message]` and the file as a whole.

use super::{
    Kind, MB, MINUTE, Section, TB, board, broker, duration, field, key, network, size, update, uplink, word,
};

/// The whole file.
pub(crate) static FILE: Section = Section {
    title: "the file",
    doc: "One TOML file describes the gateway. Durations are texts such as \"500ms\", \"1s\", \"5m\", \"2h\", \"30d\"; \
          sizes are \"256kB\", \"512MB\" (powers of 1000) or \"512MiB\" (powers of 1024). Files are looked up relative to the \
          folder of the configuration file. Names are made of letters, digits, '_', '-' and '.'.",
    keys: &[
        key("gateway", Kind::Table(&GATEWAY), "The gateway itself.").required(),
        key("store", Kind::Table(&STORE), "The queue on disk.").or("{}"),
        key("message", Kind::Table(&MESSAGE), "How readings become MQTT messages.").or("{}"),
        key("uplink", Kind::Named(&uplink::UPLINK), "Clouds: one table for each broker that messages go to."),
        key("broker", Kind::Table(&broker::BROKER), "The MQTT broker for the machines around the gateway."),
        key("bus", Kind::Named(&field::BUS), "Serial lines and Modbus TCP connections."),
        key("device", Kind::Named(&field::DEVICE), "Devices on the buses."),
        key("board", Kind::Table(&board::BOARD), "What is fitted to the board, such as a hat."),
        key(
            "network",
            Kind::Table(&network::NETWORK),
            "The gateway's own addresses, Wi-Fi and time servers.",
        )
        .or("{}"),
        key("update", Kind::Table(&update::UPDATE), "Which cloud may command updates of the whole system."),
    ],
    aliases: &[
        ("mqtt", "uplink"),
        ("cloud", "uplink"),
        ("server", "uplink"),
        ("modbus", "bus"),
        ("serial", "bus"),
        ("line", "bus"),
        ("slave", "device"),
        ("meter", "device"),
        ("plc", "device"),
        ("database", "store"),
        ("queue", "store"),
        ("payload", "message"),
        ("general", "gateway"),
        ("system", "gateway"),
        ("hardware", "board"),
        ("hat", "board"),
        ("net", "network"),
        ("updates", "update"),
        ("ota", "update"),
        ("firmware", "update"),
    ],
    refused: &[
        ("listen", "doors for local clients are part of the broker: write [broker.listener.NAME]"),
        ("listener", "doors for local clients are part of the broker: write [broker.listener.NAME]"),
        ("user", "users are part of the broker: write [broker.user.NAME]"),
        ("users", "users are part of the broker: write [broker.user.NAME]"),
        ("bridge", "bridges are uplinks here: write [uplink.NAME] with `url` and `forward`"),
        ("wifi", "the radio is part of the network: write [network.wifi]"),
        ("ethernet", "the wired network is part of the network: write [network.ethernet]"),
        ("overlays", "overlays are part of the board: write them below [board]"),
        ("gpio", "GPIO pins are not part of this version"),
        ("web", "the local web page is not part of this version"),
        ("include", "including other files is not part of this version: one file holds everything"),
    ],
};

/// `[gateway]`.
pub(crate) static GATEWAY: Section = Section {
    title: "[gateway]",
    doc: "Who this gateway is.",
    keys: &[
        key("id", Kind::Name, "Name of the gateway: the first level of its topics and its MQTT client id.")
            .required(),
        key(
            "socket",
            Kind::Path,
            "Socket through which `status`, `tags`, `read` and `write` reach the running gateway; at most 107 bytes.",
        )
        .or("\"/run/tidegate/control.sock\""),
        key(
            "memory_max",
            size(32 * MB, TB),
            "Most memory that all limits together may need; a file that needs more is refused. Without it 112 MiB, so that the process stays below 128 MiB, \
             and 8 MiB more for each uplink beyond the second.",
        ),
        key(
            "trust_clock",
            Kind::Choice(CLOCKS, &[]),
            "Which clock readings get their time from while no time server has answered; one that answers later corrects them. See docs/hardware.md.",
        )
        .or("\"ntp\""),
        key(
            "health",
            Kind::Bool,
            "Whether the gateway tells how its buses and devices are, on retained topics below `{gateway}/health`: to local clients, and to each uplink whose `forward` \
             takes them. docs/payload.md says what.",
        )
        .or("true"),
    ],
    aliases: &[("clock", "trust_clock"), ("time_source", "trust_clock"), ("name", "id"), ("gateway_id", "id"), ("client_id", "id"), ("max_memory", "memory_max"), ("memory", "memory_max")],
    refused: &[],
};

const CLOCKS: &[super::Word] = &[
    word("ntp", "none: messages carry only the time since boot before a time server has answered"),
    word(
        "rtc",
        "the clock chip, if it says that its battery never failed and shows a time after the one at which the system was built",
    ),
    word("system", "the clock of the system, whoever has set it; `check` warns of it"),
];

/// `[store]`.
pub(crate) static STORE: Section = Section {
    title: "[store]",
    doc: "The database that keeps messages while a cloud is away. Nothing is written while messages are acknowledged \
          within `commit_interval`.",
    keys: &[
        key("path", Kind::Path, "The database file; created when it does not exist.")
            .or("\"/var/lib/tidegate/queue.db\""),
        key("file_max", size(MB, TB), "Largest size of the database with its log.").or("\"512MB\""),
        key(
            "commit_interval",
            duration(10, MINUTE),
            "Messages that are not acknowledged after this long go to disk: at most this much is lost by a power cut.",
        )
        .or("\"1s\""),
        key("durability", Kind::Choice(DURABILITIES, &[]), "When a message is on disk.").or("\"interval\""),
    ],
    aliases: &[("file", "path"), ("database", "path"), ("size_max", "file_max"), ("max_size", "file_max")],
    refused: &[],
};

const DURABILITIES: &[super::Word] = &[
    word("interval", "after `commit_interval`, unless it was acknowledged before"),
    word("strict", "before it is sent: nothing is lost by a power cut, and every message is a write"),
];

/// `[message]`.
pub(crate) static MESSAGE: Section = Section {
    title: "[message]",
    doc: "How readings become MQTT messages.",
    keys: &[
        key("shape", Kind::Choice(SHAPES, &[]), "What one message holds.").or("\"group\""),
        key(
            "topic",
            Kind::Text { max: 1024 },
            "Topic of a message, with {gateway}, {bus}, {device} and {group}, and {tag} with shape = \"tag\". Every poll group \
             (or tag) needs a topic of its own. Default with shape = \"tag\": \"{gateway}/{device}/{group}/{tag}\".",
        )
        .or("\"{gateway}/{device}/{group}\""),
        key("units", Kind::Bool, "Whether every message repeats the units.").or("false"),
    ],
    aliases: &[("format", "shape"), ("template", "topic")],
    refused: &[],
};

const SHAPES: &[super::Word] = &[word("group", "all tags of one poll group"), word("tag", "one tag each")];
