//! What a client is told of the end of its connection.

use super::super::CloseReason;
use super::super::packet::Code;
use super::super::topic::TopicError;

impl CloseReason {
    /// The reason code of 5.0 that the client is told, in CONNACK or DISCONNECT. `None`: it said goodbye itself, has been told already, or there is nobody to tell.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        Some(match self {
            Self::Goodbye | Self::Handshake | Self::GaveWay | Self::Refused(_) | Self::Login => return None,
            Self::NotAuthorized => Code::NotAuthorized,
            Self::KeepAlive => Code::KeepAliveTimeout,
            Self::TakenOver => Code::SessionTakenOver,
            Self::Malformed(_) => Code::MalformedPacket,
            Self::Protocol(_) => Code::ProtocolError,
            Self::Topic(TopicError::Nul | TopicError::Wildcard(_) | TopicError::Empty, _) => {
                Code::MalformedPacket
            }
            Self::Topic(TopicError::HashNotLast | TopicError::NotAlone(_), _) => Code::FilterInvalid,
            Self::Topic(..) => Code::TopicInvalid,
            Self::TooLarge | Self::Small => Code::PacketTooLarge,
            Self::Properties(_) => Code::QuotaExceeded,
            Self::Version => Code::UnsupportedVersion,
            Self::ClientId => Code::ClientIdInvalid,
            Self::Alias => Code::TopicAliasInvalid,
            Self::Payload => Code::PayloadFormatInvalid,
            Self::ReceiveMaximum => Code::ReceiveMaximumExceeded,
            Self::Quota(_) | Self::Stalled => Code::QuotaExceeded,
            Self::Full => Code::ServerBusy,
            Self::Administrative => Code::AdministrativeAction,
            Self::Shutdown => Code::ServerShuttingDown,
        })
    }

    /// The same for a person, sent as reason string; empty where the code says it all.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Self::Malformed(words) | Self::Protocol(words) | Self::Quota(words) | Self::Properties(words) => {
                words
            }
            Self::Topic(TopicError::Forbidden(_), _) => "a control character or a non-character in a topic",
            _ => "",
        }
    }

    /// Whether 3.x has a return code of CONNACK for it; a fault of the packet itself just closes there.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Version | Self::ClientId | Self::Full | Self::Shutdown)
    }

    /// Whether a note says whose connection it was ([`super::super::note::Event::Closed`]); what other notes or nobody but a developer tells is not among them.
    #[must_use]
    pub fn is_told(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::Protocol(_)
            | Self::Topic(..)
            | Self::TooLarge
            | Self::Properties(_)
            | Self::Alias
            | Self::Payload
            | Self::ReceiveMaximum
            | Self::Quota(_)
            | Self::ClientId
            | Self::Version
            | Self::Stalled
            | Self::Small
            | Self::KeepAlive
            | Self::TakenOver
            | Self::NotAuthorized => true,
            Self::Goodbye
            | Self::Handshake
            | Self::Refused(_)
            | Self::Full
            | Self::Login
            | Self::GaveWay
            | Self::Administrative
            | Self::Shutdown => false,
        }
    }
}
