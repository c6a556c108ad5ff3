//! `[network]` and what is below it.

use super::{Key, Kind, Section, key};

/// `[network]`.
pub(crate) static NETWORK: Section = Section {
    title: "[network]",
    doc: "How the gateway itself is on the network. `gateway-daemon provision` makes it so at every start; on a computer with a network \
          configuration of its own nothing of this table is used. Without it every wired card asks by DHCP and there is no Wi-Fi.",
    keys: &[
        key(
            "hostname",
            Kind::Text { max: 63 },
            "Name of the gateway on its network: letters, digits and '-'; DHCP servers are told it. Without it, the `id` of the gateway with '-' for \
             everything else, and nobody is told.",
        ),
        key(
            "ntp",
            Kind::Texts,
            "Time servers by name or address, at most 8; without them those that DHCP names, or the system's.",
        ),
        key("ethernet", Kind::Table(&ETHERNET), "The wired network.").or("{}"),
        key("wifi", Kind::Table(&WIFI), "A wireless network; none without this table."),
    ],
    aliases: &[
        ("host", "hostname"),
        ("host_name", "hostname"),
        ("name", "hostname"),
        ("ntp_servers", "ntp"),
        ("time", "ntp"),
        ("timeservers", "ntp"),
        ("lan", "ethernet"),
        ("wired", "ethernet"),
        ("eth0", "ethernet"),
        ("wlan", "wifi"),
        ("wlan0", "wifi"),
        ("wireless", "wifi"),
    ],
    refused: &[
        ("address", "each card has its own: write it below [network.ethernet] or [network.wifi]"),
        ("dhcp", "each card has its own: write it below [network.ethernet] or [network.wifi]"),
        ("gateway", "each card has its own: write it below [network.ethernet] or [network.wifi]"),
        ("dns", "each card has its own: write it below [network.ethernet] or [network.wifi]"),
        ("proxy", "each uplink has its own: write `proxy` below [uplink.NAME]"),
    ],
};

const DHCP: Key =
    key("dhcp", Kind::Bool, "Whether the address comes from the network; true unless there is an `address`.");
const ADDRESS: Key = key(
    "address",
    Kind::Text { max: 64 },
    "Fixed address with the length of its subnet, such as \"192.168.1.20/24\"; IPv6 as well.",
);
const GATEWAY: Key = key(
    "gateway",
    Kind::Text { max: 64 },
    "Router of the subnet, only with `address`; without it nothing outside of the subnet is reached.",
);
const DNS: Key = key(
    "dns",
    Kind::Texts,
    "Addresses of name servers, at most 8. With DHCP, these instead of those that the network names.",
);

const MASK: &str = "the length of the subnet is part of the address: write address = \"192.168.1.20/24\", where /24 is 255.255.255.0";

/// `[network.ethernet]`.
pub(crate) static ETHERNET: Section = Section {
    title: "[network.ethernet]",
    doc: "The wired network. With a fixed `address`, nothing is taken from the network: no further address, route or name server.",
    keys: &[
        key(
            "interface",
            Kind::Text { max: 15 },
            "Only this network card, such as \"eth0\"; every wired card without it.",
        ),
        DHCP,
        ADDRESS,
        GATEWAY,
        DNS,
    ],
    aliases: ADDRESS_ALIASES,
    refused: MASKS,
};

/// `[network.wifi]`.
pub(crate) static WIFI: Section = Section {
    title: "[network.wifi]",
    doc: "A wireless network with a password (WPA2-Personal, or WPA3 in its mixed mode), on the built-in radio. The wired network is preferred where \
          both reach the same place.",
    keys: &[
        key("ssid", Kind::Text { max: 32 }, "Name of the wireless network, as it shows itself.").required(),
        key(
            "password",
            Kind::Text { max: 63 },
            "Its password, 8 to 63 characters without umlauts. Or `password_file`, which keeps it out of this file.",
        ),
        key("password_file", Kind::File, "File with its password; the end of its line is not part of it."),
        key("password_credential", Kind::Name, "The same as a systemd credential."),
        key(
            "country",
            Kind::Text { max: 2 },
            "Where the gateway is, as two letters (ISO 3166-1) such as \"DE\": which channels are allowed. The radio stays off without it.",
        )
        .required(),
        key("hidden", Kind::Bool, "Whether the network hides its name.").or("false"),
        DHCP,
        ADDRESS,
        GATEWAY,
        DNS,
    ],
    aliases: WIFI_ALIASES,
    refused: MASKS,
};

const ADDRESS_ALIASES: &[(&str, &str)] = &[
    ("ip", "address"),
    ("ip_address", "address"),
    ("static", "address"),
    ("router", "gateway"),
    ("gw", "gateway"),
    ("default_gateway", "gateway"),
    ("nameserver", "dns"),
    ("nameservers", "dns"),
    ("dns_servers", "dns"),
    ("card", "interface"),
    ("device", "interface"),
];

const WIFI_ALIASES: &[(&str, &str)] = &[
    ("ip", "address"),
    ("ip_address", "address"),
    ("static", "address"),
    ("router", "gateway"),
    ("gw", "gateway"),
    ("default_gateway", "gateway"),
    ("nameserver", "dns"),
    ("nameservers", "dns"),
    ("dns_servers", "dns"),
    ("name", "ssid"),
    ("network", "ssid"),
    ("psk", "password"),
    ("key", "password"),
    ("passphrase", "password"),
    ("region", "country"),
    ("country_code", "country"),
    ("regdomain", "country"),
];

const MASKS: &[(&str, &str)] = &[("netmask", MASK), ("mask", MASK), ("prefix", MASK), ("subnet", MASK)];
