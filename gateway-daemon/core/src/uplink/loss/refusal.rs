//! Return codes of CONNACK ("MQTT Version 3.1.1", table 3.1), and what they mean for what was sent.

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

/// What we logged in with. Some brokers take a user name alone, for instance where a certificate says who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Login {
    /// Neither user name nor password.
    Nothing,
    /// A user name without a password.
    UserName,
    /// A user name and a password.
    Password,
}

/// The sentence of a refusal.
pub(super) fn sentence(refusal: ConnectRefusal, login: Login, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use ConnectRefusal as R;
    write!(f, "the broker refused the connection with code {}: ", refusal.code())?;
    f.write_str(match (refusal, login) {
            (R::ProtocolVersion, _) => "it does not speak MQTT 3.1.1; enable 3.1.1 on the broker",
            (R::ClientId, _) => "it does not accept this client id; use the one the broker has registered as `client_id`",
            (R::ServerUnavailable, _) => "it is not available right now; the gateway keeps trying, nothing to do here",
            (R::Login, Login::Password) => "wrong user name or password; check `username`, the password in `password_file`, and whether the broker knows this user",
            (R::Login, Login::UserName) => "wrong user name or password; no password was sent: name its file with `password_file`, and check `username`",
            (R::Login, Login::Nothing) => "it wants a user name and a password and none was sent; set `username` and `password_file`",
            (R::NotAuthorised, Login::Password) => {
                "it does not let this device in, most often because user name or password is wrong; check `username` and the password in `password_file`, \
                 then whether the broker allows this user, client id or certificate"
            }
            (R::NotAuthorised, Login::UserName) => {
                "it does not let this device in; no password was sent: if the broker wants one, name its file with `password_file`; else check \
                 `username`, and whether the broker allows this user, client id or certificate"
            }
            (R::NotAuthorised, Login::Nothing) => {
                "it does not let this device in; no user name was sent: if the broker wants a login, set `username` and `password_file`; else register the \
                 client id or the certificate on the broker"
            }
            (R::Other(_), _) => "the standard gives this code no meaning; look into the broker's log",
        })
}
