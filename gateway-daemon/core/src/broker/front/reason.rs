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
            Self::Topic(TopicError::Nul | TopicError::Wildcard(_) | TopicError::Empty) => {
                Code::MalformedPacket
            }
            Self::Topic(TopicError::HashNotLast | TopicError::NotAlone(_)) => Code::FilterInvalid,
            Self::Topic(_) => Code::TopicInvalid,
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
            Self::Topic(TopicError::Forbidden(_)) => "a control character or a non-character in a topic",
            _ => "",
        }
    }

    /// Whether 3.x has a return code of CONNACK for it; a fault of the packet itself just closes there.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Version | Self::ClientId | Self::Full | Self::Shutdown)
    }
}
