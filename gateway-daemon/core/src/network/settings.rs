//! Plain settings of the network: no TOML, no defaults, every value checked.

use std::net::IpAddr;

use crate::settings::Secret;
use crate::tag::Name;

/// Most time servers: systemd-timesyncd asks them one after the other, and a fourth has never helped.
pub const NTP_MAX: usize = 8;

/// Most name servers: resolvers take three seriously.
pub const DNS_MAX: usize = 8;

/// Longest label of a host name (RFC 1035, 2.3.4), and what Linux takes as the name of a machine.
pub const LABEL_BYTES_MAX: usize = 63;

/// Longest name of a server (RFC 1035, 2.3.4, as text).
pub const SERVER_BYTES_MAX: usize = 253;

/// Longest name of a radio network, bytes (IEEE 802.11-2020, 9.4.2.2).
pub const SSID_BYTES_MAX: usize = 32;

/// Bounds of a password of a radio network, characters (IEEE 802.11-2020, J.4.1).
pub const WIFI_PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=63;

/// Longest name of a network card (`IFNAMSIZ` without its NUL).
pub const CARD_BYTES_MAX: usize = 15;

/// The network of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the machine.
    pub hostname: Host,
    /// Whether DHCP servers are told the name: a router's table is no place for the name of a plant unless somebody wants it there.
    pub announced: bool,
    /// Time servers, at most [`NTP_MAX`]; empty leaves it to DHCP and the system.
    pub ntp: Vec<Server>,
    /// The wired card or cards.
    pub ethernet: Ethernet,
    /// The radio; `None` leaves it off.
    pub wifi: Option<Wifi>,
}

/// The wired network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ethernet {
    /// Only this card; `None` is every wired card.
    pub card: Option<Card>,
    /// Where its address comes from.
    pub addressing: Addressing,
}

/// A radio network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wifi {
    /// Its name.
    pub ssid: Ssid,
    /// Its password.
    pub password: WifiPassword,
    /// Where the gateway is: which channels and powers are allowed.
    pub country: Country,
    /// Whether the network does not tell its name, so that it has to be called.
    pub hidden: bool,
    /// Where its address comes from.
    pub addressing: Addressing,
}

/// Where an address comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressing {
    /// From the network, by DHCP or router advertisements.
    Automatic {
        /// Name servers instead of those that the network names, at most [`DNS_MAX`]; empty takes the network's.
        dns: Vec<IpAddr>,
    },
    /// Written down.
    Fixed {
        /// The address.
        address: IpAddr,
        /// How many bits of it are the subnet's, 1 to 32, or to 128 with IPv6.
        prefix: u8,
        /// The way out, in the same subnet; `None` stays inside.
        gateway: Option<IpAddr>,
        /// Name servers, at most [`DNS_MAX`].
        dns: Vec<IpAddr>,
    },
}

/// Name of a machine: letters a to z, digits and inner '-', at most [`LABEL_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// Takes a name; capitals become small letters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_label(text).then(|| Self(text.to_ascii_lowercase()))
    }

    /// The name of a gateway that has no other: its id, with '-' for what host names do not have.
    #[must_use]
    pub fn of_gateway(id: &Name) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let text: String = id.as_str().chars().map(plain).take(LABEL_BYTES_MAX).collect();
        let text = text.trim_matches('-');
        Self(if text.is_empty() { "tidegate".to_owned() } else { text.to_owned() })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A server by name or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server(String);

impl Server {
    /// Takes labels with dots between them, or an address.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let name = text.len() <= SERVER_BYTES_MAX && text.split('.').all(is_label);
        (name || text.parse::<IpAddr>().is_ok()).then(|| Self(text.to_owned()))
    }

    /// The name or address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Name of a network card, such as `eth0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card(String);

impl Card {
    /// Takes letters, digits, '.', '_' and '-': none of the characters with which a match begins or is widened.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let good = (1..=CARD_BYTES_MAX).contains(&text.len())
            && text.chars().all(plain)
            && text != "."
            && text != "..";
        good.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Name of a radio network: any 1 to [`SSID_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssid(String);

impl Ssid {
    /// Takes a name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (1..=SSID_BYTES_MAX).contains(&text.len()).then(|| Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Password of a radio network: 8 to 63 printable ASCII characters (WPA2-Personal).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WifiPassword(Secret);

impl WifiPassword {
    /// Takes a password.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        (WIFI_PASSWORD_BYTES.contains(&text.len()) && printable).then(|| Self(Secret::new(text)))
    }

    /// The password itself, for the one file that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

/// A country of ISO 3166-1, two capitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country([char; 2]);

impl Country {
    /// Takes two letters; small ones become capitals.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut letters = text.chars().map(|c| c.to_ascii_uppercase());
        match (letters.next(), letters.next(), letters.next()) {
            (Some(a), Some(b), None) if a.is_ascii_uppercase() && b.is_ascii_uppercase() => {
                Some(Self([a, b]))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self([a, b]) = self;
        write!(f, "{a}{b}")
    }
}
