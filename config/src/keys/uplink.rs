//! `[uplink.NAME]` and its `queue`.

use super::{DAY, HOUR, KB, Kind, MB, MINUTE, SECOND, Section, TB, Word, duration, int, key, size, word};

/// `[uplink.NAME]`.
pub(crate) static UPLINK: Section = Section {
    title: "[uplink.NAME]",
    doc: "One connection to an MQTT broker; at most 8 in a file. Every file has a twin with `_credential` in place of `_file`, or added to its name, \
          that takes the name of a systemd credential (LoadCredential= in the unit) instead of a path.",
    keys: &[
        key(
            "url",
            Kind::Text { max: 1024 },
            "mqtt://HOST, mqtts://HOST (TLS), ws://HOST/PATH or wss://HOST/PATH (WebSocket), with :PORT when it is not 1883, 8883, \
             80 or 443. The path of a WebSocket is /mqtt unless given. Required unless there is `urls`.",
        ),
        key(
            "urls",
            Kind::Texts,
            "Several servers, written like `url`, at most 8: tried in turn. The one that works is kept until it is lost. Each keeps a session \
             of its own; TLS and login are the same for all.",
        ),
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
        key(
            "forward",
            Kind::Rules(&RULE),
            "What goes up: topic filters, or tables that say more. The first that takes a topic decides.",
        )
        .or("[\"#\"]"),
        key(
            "accept",
            Kind::Rules(&RULE),
            "What comes down from the cloud to local clients: topic filters of the cloud, or tables. What came down never goes up to the same \
             cloud again.",
        )
        .or("[]"),
        key(
            "bridge_bit",
            Kind::Bool,
            "Whether CONNECT says that this is a bridge: brokers that know it (mosquitto, EMQX) keep retain flags as they were published; others \
             (AWS IoT) refuse the connection. Not over WebSocket.",
        )
        .or("false"),
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
        ("subscribe", "accept"),
        ("servers", "urls"),
        ("hosts", "urls"),
        ("addresses", "urls"),
        ("try_private", "bridge_bit"),
        ("timeout", "connect_timeout"),
        ("inflight", "window"),
        ("max_inflight", "window"),
        ("will_topic", "status_topic"),
    ],
    refused: &[
        ("password", "a password does not stand in this file: write it into a file of its own and name that with `password_file`"),
        (
            "proxy_password",
            "a password does not stand in this file: write it into a file of its own and name that with `proxy_password_file`",
        ),
        ("insecure", "the server's certificate is always checked: name its authority with `ca`"),
        ("verify", "the server's certificate is always checked: name its authority with `ca`"),
        ("prefix", "each rule has its own: write forward = [{ filter = \"#\", add = \"site/7/\" }]"),
        ("retain", "each rule says it: write forward = [{ filter = \"#\", retain = \"drop\" }]"),
        ("version", "MQTT 3.1.1 is spoken with every cloud in this version: remove it"),
    ],
};

const DRAINS: &[Word] = &[
    word("live-first", "fresh messages at once, the backlog with at least half of the window"),
    word("fifo", "strictly in order of production"),
];

/// An entry of `forward` or `accept`.
pub(crate) static RULE: Section = Section {
    title: "a rule of forward or accept",
    doc: "One entry of `forward` or `accept` that is more than a topic filter: `{ filter = \"line2/#\", strip = \"line2/\", add = \"site/7/\" }` makes \
          `site/7/meter/1` of `line2/meter/1`.",
    keys: &[
        key(
            "filter",
            Kind::Text { max: 65_535 },
            "Topic filter on the side where messages come from: local topics for `forward`, topics of the cloud for `accept`.",
        )
        .required(),
        key("strip", Kind::Text { max: 1024 }, "Whole levels taken off the beginning of each topic; the filter begins with them."),
        key("add", Kind::Text { max: 1024 }, "Levels put before each topic, after `strip` is taken off."),
        key("qos", int(0, 1, ""), "Highest QoS on the other side; that of the uplink without it."),
        key("retain", Kind::Choice(RETAINS, &[]), "What becomes of retained messages.").or("\"keep\""),
        key(
            "priority",
            Kind::Choice(PRIORITIES, &[]),
            "How long messages are kept when the queue is full; as their tags say without it, normal for local clients. Only in `forward`.",
        ),
    ],
    aliases: &[
        ("topic", "filter"),
        ("topics", "filter"),
        ("pattern", "filter"),
        ("remove", "strip"),
        ("prefix", "add"),
        ("local_prefix", "strip"),
        ("remote_prefix", "add"),
        ("qos_max", "qos"),
    ],
    refused: &[("direction", "`forward` goes up and `accept` comes down: write the rule into one of them")],
};

const RETAINS: &[Word] =
    &[word("keep", "they stay retained"), word("drop", "nothing is retained on the other side")];

const PRIORITIES: &[Word] = &[word("high", "these go last"), word("normal", "these go first")];

/// `queue` of an uplink.
pub(crate) static QUEUE: Section = Section {
    title: "queue",
    doc: "Limits of the messages that wait for one uplink. What is dropped is counted; alarms go last.",
    keys: &[
        key("rows_max", int(100, 1_000_000_000, "messages"), "Most messages.").or("1_000_000"),
        key(
            "bytes_max",
            size(MB, TB),
            "Most bytes. Without it 150MB, or less where the other uplinks and local sessions need their part of `file_max` in [store].",
        ),
        key("age_max", duration(MINUTE, 3650 * DAY), "Older messages are dropped; kept for ever without it.")
            .without("messages are kept for ever"),
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
