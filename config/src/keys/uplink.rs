//! `[uplink.NAME]` and its `queue`.

use super::{DAY, HOUR, KB, Kind, MB, MINUTE, SECOND, Section, TB, Word, duration, int, key, size, word};

/// `[uplink.NAME]`.
pub(crate) static UPLINK: Section = Section {
    title: "[uplink.NAME]",
    doc: "One connection to an MQTT broker. Every file has a twin with `_credential` in place of `_file`, or added to its name, \
          that takes the name of a systemd credential (LoadCredential= in the unit) instead of a path.",
    keys: &[
        key(
            "url",
            Kind::Text { max: 1024 },
            "mqtt://HOST, mqtts://HOST (TLS), ws://HOST/PATH or wss://HOST/PATH (WebSocket), with :PORT when it is not 1883, 8883, \
             80 or 443. The path of a WebSocket is /mqtt unless given.",
        )
        .required(),
        key("ca", Kind::File, "PEM certificates of the authorities to trust; the system's without it."),
        key("ca_credential", Kind::Name, "The same as a systemd credential."),
        key("client_cert", Kind::File, "PEM certificate of this gateway, and the chain up to the authority."),
        key("client_cert_credential", Kind::Name, "The same as a systemd credential."),
        key("client_key", Kind::File, "PEM private key of `client_cert`: PKCS#8, PKCS#1 or SEC1, without a passphrase."),
        key("client_key_credential", Kind::Name, "The same as a systemd credential."),
        key(
            "server_name",
            Kind::Text { max: 253 },
            "Name that the server's certificate must carry; the host of `url` without it.",
        ),
        key("alpn", Kind::Texts, "Protocols offered by ALPN, such as [\"mqtt\"]; none without it."),
        key("username", Kind::Text { max: 65_535 }, "User name of the MQTT login."),
        key("password_file", Kind::File, "File with the password of the MQTT login; the end of its line is not part of it."),
        key("password_credential", Kind::Name, "The same as a systemd credential."),
        key("proxy", Kind::Text { max: 1024 }, "HTTP proxy that is asked to CONNECT: http://HOST:PORT or http://USER@HOST:PORT."),
        key("proxy_password_file", Kind::File, "File with the password of the proxy."),
        key("proxy_password_credential", Kind::Name, "The same as a systemd credential."),
        key(
            "client_id",
            Kind::Text { max: 128 },
            "MQTT client id, unique at its broker; the gateway's id without it (with several uplinks: id-uplink).",
        ),
        key(
            "clean_session",
            Kind::Bool,
            "Whether the broker forgets the session at a disconnect; nothing is lost either way.",
        )
        .or("false"),
        key("keep_alive", duration(5 * SECOND, 18 * HOUR), "Pause after which a silent connection is probed.").or("\"30s\""),
        key(
            "connect_timeout",
            duration(SECOND, 10 * MINUTE),
            "Time for DNS, TCP, TLS and login together; hardware keys need up to 30 s.",
        )
        .or("\"30s\""),
        key("packet_max", size(KB, 268 * MB), "Largest MQTT packet that is sent or accepted.").or("\"256kB\""),
        key("forward", Kind::Texts, "Topic filters of what goes up.").or("[\"#\"]"),
        key("qos", int(0, 1, ""), "1: at least once. 0: at most once, only for clouds that never acknowledge.").or("1"),
        key("window", int(1, 1000, "messages"), "Unacknowledged messages at once.").or("100"),
        key("drain", Kind::Choice(DRAINS, &[]), "What leaves first after an outage.").or("\"live-first\""),
        key(
            "ack_timeout",
            duration(SECOND, 10 * MINUTE),
            "A connection without an acknowledgement for this long after a message is cut and built again.",
        )
        .or("\"10s\""),
        key("backoff_min", duration(100, HOUR), "Longest pause before the first new attempt to connect.").or("\"1s\""),
        key(
            "backoff_max",
            duration(SECOND, DAY),
            "Longest pause before any new attempt; pauses double up to it and are drawn at random.",
        )
        .or("\"2m\""),
        key(
            "status_topic",
            Kind::Text { max: 1024 },
            "Retained topic that says online or offline, with {gateway} and {uplink}.",
        )
        .or("\"{gateway}/status\""),
        key(
            "ledger_topic",
            Kind::Text { max: 1024 },
            "Topic of the counts of produced, acknowledged, stored and dropped messages.",
        )
        .or("\"{gateway}/ledger\""),
        key("ledger_every", duration(10 * SECOND, DAY), "How often the ledger is sent.").or("\"1m\""),
        key("queue", Kind::Table(&QUEUE), "Limits of what waits for this uplink, in memory and on disk.").or("{}"),
    ],
    aliases: &[
        ("host", "url"),
        ("server", "url"),
        ("broker", "url"),
        ("address", "url"),
        ("uri", "url"),
        ("port", "url"),
        ("user", "username"),
        ("login", "username"),
        ("ca_file", "ca"),
        ("cafile", "ca"),
        ("ca_cert", "ca"),
        ("cert", "client_cert"),
        ("certificate", "client_cert"),
        ("certfile", "client_cert"),
        ("cert_file", "client_cert"),
        ("client_cert_file", "client_cert"),
        ("key", "client_key"),
        ("keyfile", "client_key"),
        ("key_file", "client_key"),
        ("client_key_file", "client_key"),
        ("sni", "server_name"),
        ("clientid", "client_id"),
        ("keepalive", "keep_alive"),
        ("topics", "forward"),
        ("topic", "forward"),
        ("publish", "forward"),
        ("timeout", "connect_timeout"),
        ("inflight", "window"),
        ("max_inflight", "window"),
        ("will_topic", "status_topic"),
    ],
    refused: &[
        ("accept", "messages from the cloud down to the field are not part of this version: the local broker comes first"),
        ("subscribe", "messages from the cloud down to the field are not part of this version: the local broker comes first"),
        ("password", "a password does not stand in this file: write it into a file of its own and name that with `password_file`"),
        (
            "proxy_password",
            "a password does not stand in this file: write it into a file of its own and name that with `proxy_password_file`",
        ),
        ("insecure", "the server's certificate is always checked: name its authority with `ca`"),
        ("verify", "the server's certificate is always checked: name its authority with `ca`"),
        ("prefix", "a prefix for this uplink's topics is not part of this version: `topic` in [message] says all levels"),
        ("retain", "readings are sent without retain in this version: the status topic alone is retained"),
        ("version", "MQTT 3.1.1 is spoken with every cloud in this version: remove it"),
    ],
};

const DRAINS: &[Word] = &[
    word("live-first", "fresh messages at once, the backlog with at least half of the window"),
    word("fifo", "strictly in order of production"),
];

/// `queue` of an uplink.
pub(crate) static QUEUE: Section = Section {
    title: "queue",
    doc: "Limits of the messages that wait for one uplink. What is dropped is counted; alarms go last.",
    keys: &[
        key("rows_max", int(100, 1_000_000_000, "messages"), "Most messages.").or("1_000_000"),
        key("bytes_max", size(MB, TB), "Most bytes.").or("\"256MB\""),
        key("age_max", duration(MINUTE, 3650 * DAY), "Older messages are dropped; kept for ever without it."),
        key("when_full", Kind::Choice(WHEN_FULL, &[]), "What happens when one of the limits is reached.")
            .or("\"drop-oldest\""),
        key("thin_bucket", duration(SECOND, DAY), "Length of a bucket of thin-out; required with it.")
            .only(&["thin-out"]),
    ],
    aliases: &[
        ("rows", "rows_max"),
        ("max_rows", "rows_max"),
        ("bytes", "bytes_max"),
        ("size", "bytes_max"),
        ("max_bytes", "bytes_max"),
        ("age", "age_max"),
        ("max_age", "age_max"),
        ("bucket", "thin_bucket"),
    ],
    refused: &[],
};

const WHEN_FULL: &[Word] = &[
    word("drop-oldest", "the oldest messages that are not on their way are dropped"),
    word("drop-newest", "the arriving message is dropped"),
    word("thin-out", "minimum, maximum and last value of each tag per `thin_bucket` are kept"),
];
