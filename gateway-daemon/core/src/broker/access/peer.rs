//! Where somebody comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What is kept of a text that is no address, bytes.
const TEXT_BYTES_MAX: usize = 64;

/// An address that counts as one host: one machine owns 64 bits of IPv6 addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// An address of IPv4, or the first half of one of IPv6.
    Ip(IpAddr),
    /// Something else, as a listener of another kind may say it.
    Other(Box<str>),
}

impl Peer {
    /// Reads an address with or without its port.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let ip = text.parse::<SocketAddr>().map(|a| a.ip()).or_else(|_| text.parse::<IpAddr>());
        match ip.map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V6(ip)) => {
                Self::Ip(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))))
            }
            Ok(ip) => Self::Ip(ip),
            Err(_) => Self::Other(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].into()),
        }
    }

    /// As a person reads it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Ip(IpAddr::V6(ip)) => format!("{ip}/64"),
            Self::Ip(ip) => ip.to_string(),
            Self::Other(text) => text.to_string(),
        }
    }
}
