//! `[broker]` and what is below it.

use super::{
    DAY, HOUR, KB, Kind, MB, MINUTE, SECOND, Section, TB, Word, duration, endless, int, key, size, word,
};

/// Longest user name and client id in the file, bytes. MQTT allows 65,535, and nobody has typed one.
const NAME_BYTES_MAX: usize = 256;

/// Longest filter in the file, bytes.
const FILTER_BYTES_MAX: usize = 1024;

/// `[broker]`.
pub(crate) static BROKER: Section = Section {
    title: "[broker]",
    doc: "The MQTT broker for the machines around the gateway; none without this table. docs/broker.md is its guide. Rules of a client id come before \
          those of its user and those here, and in each of them `deny` before `allow`; the first that fits decides. As soon as one of the rules \
          that a client has allows something, what none allows is refused.",
    keys: &[
        key(
            "listener",
            Kind::Named(&LISTENER),
            "Doors for clients; without any, 127.0.0.1:1883 for programs on this gateway.",
        ),
        key("user", Kind::Quoted(&USER, NAME_BYTES_MAX), "Who can log in."),
        key("client", Kind::Quoted(&CLIENT, NAME_BYTES_MAX), "Rules of client ids."),
        key(
            "allow",
            Kind::Texts,
            "What everybody may do: \"publish FILTER\", \"subscribe FILTER\" or \"any FILTER\", where %c stands for \
             the client id and %u for the user. Without any rule, everything.",
        ),
        key(
            "deny",
            Kind::Texts,
            "What nobody may do whom no rule of its own allows it, written like `allow`.",
        ),
        key(
            "retained",
            Kind::Quoted(&RETAINED, FILTER_BYTES_MAX),
            "How long retained messages are kept, by topic filter. The most specific filter that fits decides: level by level from the left, a name before +, + before #.",
        ),
        key("limits", Kind::Table(&LIMITS), "Bounds of what clients can make the broker keep.").or("{}"),
    ],
    aliases: &[
        ("listen", "listener"),
        ("listeners", "listener"),
        ("users", "user"),
        ("clients", "client"),
        ("acl", "allow"),
        ("limit", "limits"),
        ("retain", "retained"),
    ],
    refused: &[
        ("address", "doors have names: write it below [broker.listener.local]"),
        ("port", "doors have names: write address = \"0.0.0.0:1883\" below [broker.listener.local]"),
        ("anonymous", "each door says for itself who comes in: write it below [broker.listener.NAME]"),
        (
            "allow_anonymous",
            "each door says for itself who comes in: write anonymous = true below [broker.listener.NAME]",
        ),
        (
            "password_file",
            "users stand in this file: write [broker.user.NAME] with the line that `gateway-daemon passwd NAME` prints",
        ),
        ("acl_file", "rules stand in this file: write `allow` and `deny` below [broker.user.NAME] or here"),
        ("persistence", "what was acknowledged is always kept, in the database of [store]"),
    ],
};

/// `[broker.listener.NAME]`.
pub(crate) static LISTENER: Section = Section {
    title: "[broker.listener.NAME]",
    doc: "One door; at most 16 in a file. MQTT 3.1, 3.1.1 and 5.0 are spoken at each. A door that is not on 127.0.0.1 or [::1] needs TLS or `allow_plain`, and users, \
          client certificates or `anonymous`.",
    keys: &[
        key(
            "address",
            Kind::Text { max: 64 },
            "Address and port: \"127.0.0.1:1883\" for programs on this gateway, \"0.0.0.0:8883\" for every network, \"[::]:8883\" for IPv6 as \
             well. Usual ports: 1883, with TLS 8883.",
        )
        .required(),
        key("websocket", Kind::Flagged { max: 256 }, "MQTT over WebSocket: true for the path /mqtt, or another path.").or("false"),
        key(
            "origins",
            Kind::Texts,
            "Web pages that may connect, such as [\"https://panel.example\"]; a request with another `Origin`, or without one, is refused. Without it nobody \
             is asked. Only with `websocket`.",
        ),
        key(
            "hosts",
            Kind::Texts,
            "Names and ports by which clients may call this listener, such as [\"gateway.local:8443\"]; a request with another `Host` is refused. Without it \
             nobody is asked. Only with `websocket`.",
        ),
        key("cert", Kind::File, "PEM certificate of this gateway, and the chain up to the authority; makes it TLS."),
        key("cert_credential", Kind::Name, "The same as a systemd credential."),
        key("key", Kind::File, "PEM private key of `cert`: PKCS#8, PKCS#1 or SEC1, without a passphrase."),
        key("key_credential", Kind::Name, "The same as a systemd credential."),
        key("client_ca", Kind::File, "PEM certificates of the authorities whose client certificates are trusted."),
        key("client_ca_credential", Kind::Name, "The same as a systemd credential."),
        key(
            "crl",
            Kind::File,
            "PEM lists of certificates that the authorities of `client_ca` have called back, one or more in one file; read again when it changes. One \
             that is past its time still counts, and one that none of those authorities has issued calls nobody back: `check` and the log say so.",
        ),
        key("crl_credential", Kind::Name, "The same as a systemd credential."),
        key(
            "revoked_file",
            Kind::File,
            "File with serial numbers of client certificates that do not count any more, in hex, one a line; read again when it changes.",
        ),
        key("client_certificates", Kind::Choice(CLIENT_CERTIFICATES, &[]), "Whether clients need one; only with `client_ca`.")
            .or("\"required\""),
        key(
            "identity",
            Kind::Choice(IDENTITIES, &[("cn", "common-name"), ("san", "alternative-name"), ("subject", "common-name")]),
            "Which name of a client's certificate is its user; only with `client_ca`.",
        )
        .or("\"common-name\""),
        key(
            "anonymous",
            Kind::Bool,
            "Whether clients without a user name come in. Without it: yes on 127.0.0.1 and [::1] as long as the file has no user, and no elsewhere.",
        ),
        key(
            "allow_plain",
            Kind::Bool,
            "Without TLS on a network: passwords and messages can be read by others on it. Needed to say so.",
        )
        .or("false"),
    ],
    aliases: &[
        ("listen", "address"),
        ("bind", "address"),
        ("host", "address"),
        ("port", "address"),
        ("bind_address", "address"),
        ("ws", "websocket"),
        ("path", "websocket"),
        ("certfile", "cert"),
        ("cert_file", "cert"),
        ("certificate", "cert"),
        ("server_cert", "cert"),
        ("keyfile", "key"),
        ("key_file", "key"),
        ("server_key", "key"),
        ("ca", "client_ca"),
        ("cafile", "client_ca"),
        ("ca_file", "client_ca"),
        ("crlfile", "crl"),
        ("crl_file", "crl"),
        ("revoked", "revoked_file"),
        ("websockets_origin", "origins"),
        ("origin", "origins"),
        ("host_names", "hosts"),
        ("require_certificate", "client_certificates"),
        ("use_identity_as_username", "identity"),
        ("allow_anonymous", "anonymous"),
        ("plain", "allow_plain"),
        ("insecure", "allow_plain"),
    ],
    refused: &[
        ("protocol", "MQTT 3.1, 3.1.1 and 5.0 are spoken at every door: for WebSocket write websocket = true"),
        ("tls", "a door has TLS when it has `cert` and `key`: write those"),
    ],
};

const CLIENT_CERTIFICATES: &[Word] = &[
    word("required", "a client without one is turned away"),
    word("optional", "a client without one needs a user name and password"),
];

const IDENTITIES: &[Word] = &[
    word("common-name", "the common name of its subject"),
    word("alternative-name", "the first DNS name, address or mail address among its alternative names"),
    word("none", "none: a user name and password are needed as well"),
];

/// `[broker.user.NAME]`.
pub(crate) static USER: Section = Section {
    title: "[broker.user.NAME]",
    doc: "A user. Names with other characters than letters, digits, '_' and '-' stand in quotes. Who comes with a certificate needs no table; one \
          without `password_hash` gives its name rules.",
    keys: &[
        key(
            "password_hash",
            Kind::Text { max: 256 },
            "Made by `gateway-daemon passwd NAME`: Argon2id in PHC format, of at most 64 MiB. Without it the user comes in by certificate only.",
        ),
        key("allow", Kind::Texts, "What it may do, written as in [broker]."),
        key("deny", Kind::Texts, "What it may not do."),
    ],
    aliases: &[
        ("hash", "password_hash"),
        ("passwordhash", "password_hash"),
        ("acl", "allow"),
        ("topics", "allow"),
    ],
    refused: &[
        (
            "password",
            "passwords do not stand in this file: write the line that `gateway-daemon passwd NAME` prints",
        ),
        (
            "password_file",
            "write the line that `gateway-daemon passwd NAME` prints; the hash needs no file of its own",
        ),
    ],
};

/// `[broker.client.NAME]`.
pub(crate) static CLIENT: Section = Section {
    title: "[broker.client.NAME]",
    doc: "Rules of a client id. Ids with other characters than letters, digits, '_' and '-' stand in quotes. A client chooses its id itself: \
          `users` says to whom this one belongs.",
    keys: &[
        key("users", Kind::Texts, "Who may use the id; everybody who is let in without it."),
        key("allow", Kind::Texts, "What it may do, written as in [broker]."),
        key("deny", Kind::Texts, "What it may not do."),
    ],
    aliases: &[("user", "users"), ("acl", "allow"), ("topics", "allow")],
    refused: &[(
        "password_hash",
        "users log in, not client ids: write it below [broker.user.NAME] and name that with `users` here",
    )],
};

/// `[broker.retained.FILTER]`.
pub(crate) static RETAINED: Section = Section {
    title: "[broker.retained.\"FILTER\"]",
    doc: "Retained messages of the topics that the filter asks for. The filter stands in quotes.",
    keys: &[key(
        "expiry",
        duration(SECOND, 3650 * DAY),
        "Time after which the broker drops a retained message; without it never, whatever `retained_expiry` says. A shorter expiry that its publisher \
         gave it (5.0) comes first.",
    )
    .without("these messages are kept for ever")],
    aliases: &[("retained_expiry", "expiry"), ("max_age", "expiry")],
    refused: &[],
};

const WHEN_FULL: &[Word] = &[
    word("drop-newest", "it is dropped: what was accepted first is kept"),
    word("drop-oldest", "the oldest that was never sent makes room"),
];

/// `[broker.limits]`.
pub(crate) static LIMITS: Section = Section {
    title: "[broker.limits]",
    doc: "What clients can make the broker keep. What is beyond is refused or dropped, and counted: docs/metrics.md. All limits together have to fit into \
          `memory_max` of [gateway] and `file_max` of [store]; one that is not set is smaller than its default where they do not.",
    keys: &[
        key("connections_max", int(1, 100_000, "connections"), "Most connections at once.").or("1000"),
        key(
            "connections_per_address_max",
            int(1, 100_000, "connections"),
            "Most connections of one address (of 64 bits in IPv6); without it half of `connections_max`, and 100 at least.",
        )
        .without("half of `connections_max` counts (100 at least)"),
        key(
            "connections_per_user_max",
            int(1, 100_000, "connections"),
            "Most connections of one user; without it half of `connections_max`, and 100 at least.",
        )
        .without("half of `connections_max` counts (100 at least)"),
        key(
            "logins_per_minute_max",
            int(0, 1_000_000, "log-ins"),
            "Most log-ins of one address in a minute, refused ones included; 0 is no limit. Whoever is beyond waits.",
        )
        .or("6000"),
        key(
            "bytes_per_second_max",
            int(0, 1_000_000_000, "bytes"),
            "Most bytes in a second of one address, and of one user; 0 is no limit. Whoever sends more is read later.",
        )
        .or("0"),
        key(
            "messages_per_second_max",
            int(0, 1_000_000, "messages"),
            "The same in messages that it publishes.",
        )
        .or("0"),
        key("sessions_max", int(1, 100_000, "sessions"), "Most sessions, connected or not.").or("2000"),
        key(
            "sessions_per_user_max",
            int(1, 100_000, "sessions"),
            "Most sessions of one user among those that outlive their connections; a quarter of `sessions_max` without it.",
        )
        .without("a quarter of `sessions_max` counts"),
        key(
            "sessions_per_address_max",
            int(1, 100_000, "sessions"),
            "Most of them that connections of one address have made in a run of the gateway; a quarter of `sessions_max` without it. An IPv6 \
             address counts with its first 64 bits.",
        )
        .without("a quarter of `sessions_max` counts"),
        key("subscriptions_max", int(1, 1_000_000, ""), "Most subscriptions of all sessions together.").or("20_000"),
        key("subscriptions_per_session_max", int(1, 1_000_000, ""), "Most subscriptions of one session.").or("2000"),
        key("inflight_max", int(1, 1000, "messages"), "Most unacknowledged messages to one client.").or("100"),
        key(
            "receive_max",
            int(1, 65_535, "messages"),
            "Most unacknowledged messages from one client of 5.0, which is told.",
        )
        .or("1000"),
        key("packet_max", size(KB, 268 * MB), "Largest MQTT packet of a client.").or("\"256KiB\""),
        key(
            "unsent_bytes_total_max",
            size(64 * KB, 1000 * MB),
            "Most bytes to all connections together that are not written. Near it, connections that have more than an equal part get no more; at it, the slowest of \
             them is closed.",
        )
        .or("\"16MiB\""),
        key(
            "received_bytes_total_max",
            size(64 * KB, 1000 * MB),
            "Most bytes of packets that are not whole yet, of all connections together. At it, the connection whose packet is unfinished for the longest time is \
             closed.",
        )
        .or("\"16MiB\""),
        key("queued_max", int(1, 1_000_000, "messages"), "Most messages that wait for one session in memory.").or("10_000"),
        key("queued_bytes_max", size(KB, 1000 * MB), "Most bytes that wait for one session in memory.").or("\"4MiB\""),
        key("queued_bytes_total_max", size(KB, 1000 * MB), "Most bytes that wait for all sessions in memory together.")
            .or("\"16MiB\""),
        key(
            "stored_max",
            int(1, 100_000_000, "messages"),
            "Most messages that wait for one session that outlives its connection, on disk or not.",
        )
        .or("100_000"),
        key("stored_bytes_max", size(KB, TB), "Most bytes of them.").or("\"64MiB\""),
        key(
            "stored_total_max",
            int(1, 100_000_000, "messages"),
            "Most messages that wait for all such sessions together.",
        )
        .or("1_000_000"),
        key("stored_bytes_total_max", size(KB, TB), "Most bytes of them.").or("\"64MiB\""),
        key(
            "when_full",
            Kind::Choice(WHEN_FULL, &[]),
            "What happens to a message of QoS 1 or 2 when its session's queue is full.",
        )
        .or("\"drop-newest\""),
        key(
            "session_expiry_max",
            endless(SECOND, 3650 * DAY),
            "Longest time that a session outlives its connection, whatever its client asks for; \"never\": as the client says, for ever with 3.1 \
             and 3.1.1. Time counts while the gateway runs, all runs together.",
        )
        .or("\"7d\""),
        key(
            "keep_alive_max",
            duration(SECOND, 18 * HOUR),
            "Longest keep-alive of clients of 5.0, which are told; as they say without it.",
        )
        .without("clients say it themselves"),
        key("retained_max", int(0, 1_000_000, "messages"), "Most retained messages.").or("10_000"),
        key("retained_bytes_max", size(KB, 1000 * MB), "Most bytes of memory that retained messages cost: topic, properties, body, and some 400 bytes for each.")
            .or("\"8MiB\""),
        key(
            "retained_expiry",
            duration(SECOND, 3650 * DAY),
            "Time after which the broker drops a retained message for which [broker.retained] says nothing else. Without it messages are kept until \
             another takes their place or their publisher's expiry (5.0) comes.",
        )
        .without("messages are kept for ever"),
        key(
            "wills_bytes_max",
            size(KB, 1000 * MB),
            "Most bytes of memory that last wills cost. One user has half of it at most, and so have the clients of one address; the last eighth is for those that have little; who is beyond is refused.",
        )
        .or("\"2MiB\""),
        key(
            "retained_interval",
            duration(SECOND, HOUR),
            "How long retained messages of QoS 0, for which nobody waits, are only in memory: spares the card.",
        )
        .or("\"30s\""),
        key(
            "connect_timeout",
            duration(SECOND, 10 * MINUTE),
            "Longest time from the opening of a connection to its CONNECT.",
        )
        .or("\"10s\""),
    ],
    aliases: &[
        ("max_connections", "connections_max"),
        ("max_inflight_messages", "inflight_max"),
        ("max_queued_messages", "stored_max"),
        ("max_queued_bytes", "stored_bytes_max"),
        ("persistent_client_expiration", "session_expiry_max"),
        ("max_keepalive", "keep_alive_max"),
        ("max_packet_size", "packet_max"),
        ("message_size_limit", "packet_max"),
        ("handshake_timeout", "connect_timeout"),
    ],
    refused: &[],
};
