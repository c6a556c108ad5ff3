//! Return codes of CONNACK ("MQTT Version 3.1.1", table 3.1).

use std::fmt;

/// Why a server refused CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectRefusal {
    /// 1: unacceptable protocol version.
    ProtocolVersion,
    /// 2: identifier rejected.
    ClientId,
    /// 3: server unavailable.
    ServerUnavailable,
    /// 4: bad user name or password.
    Login,
    /// 5: not authorised.
    NotAuthorised,
    /// 6 to 255: reserved by the standard.
    Other(u8),
}

impl ConnectRefusal {
    /// The refusal of a return code; 0 is no refusal.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::ProtocolVersion),
            2 => Some(Self::ClientId),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::Login),
            5 => Some(Self::NotAuthorised),
            other => Some(Self::Other(other)),
        }
    }

    /// The return code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::ProtocolVersion => 1,
            Self::ClientId => 2,
            Self::ServerUnavailable => 3,
            Self::Login => 4,
            Self::NotAuthorised => 5,
            Self::Other(code) => code,
        }
    }

    /// The short name in payloads, metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ProtocolVersion => "refused-protocol",
            Self::ClientId => "refused-client-id",
            Self::ServerUnavailable => "refused-unavailable",
            Self::Login => "refused-login",
            Self::NotAuthorised => "refused-not-authorised",
            Self::Other(_) => "refused",
        }
    }
}

impl fmt::Display for ConnectRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the broker refused the connection with code {}: ", self.code())?;
        f.write_str(match self {
            Self::ProtocolVersion => "it does not speak MQTT 3.1.1; enable 3.1.1 on the broker",
            Self::ClientId => "it does not accept this client id; use the one the broker has registered as `client_id`",
            Self::ServerUnavailable => "it is not available right now; the gateway keeps trying, nothing to do here",
            Self::Login => "wrong user name or password; check `username`, the password in `password_file`, and whether the broker knows this user",
            Self::NotAuthorised => {
                "this device is not allowed in; register its client id, user name or certificate on the broker"
            }
            Self::Other(_) => "the standard gives this code no meaning; look into the broker's log",
        })
    }
}
