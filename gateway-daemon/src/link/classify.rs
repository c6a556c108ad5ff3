//! Errors of rumqttc, sockets and TLS to [`Loss`].

use std::io::{Error as IoError, ErrorKind};

use gateway_core::settings::LinkSettings;
use gateway_core::uplink::loss::{ConnectRefusal, Login, Loss, Spoken, Stage, TcpFault};
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, mqttbytes};

use super::tls;
use super::watched::{Facts, Trace};

/// Why the event loop ended.
pub(super) fn of_client(error: ConnectionError, trace: &Trace, settings: &LinkSettings) -> Loss {
    // What the socket said first is the cause, what rumqttc makes of it the consequence.
    if let Some(loss) = trace.with(|facts| facts.loss.take()) {
        return loss;
    }
    match error {
        ConnectionError::Io(e) => trace.with(|facts| of_io(&e, facts)),
        ConnectionError::ConnectionRefused(code) => refused(refusal(code), settings),
        ConnectionError::NotConnAck(packet) => {
            protocol(format!("the server sent {:?} instead of CONNACK", packet.packet_type()))
        }
        ConnectionError::SessionStateMismatch { .. } => {
            protocol("the server kept a session although a clean one was asked for")
        }
        ConnectionError::MqttState(e) => of_state(e, trace, settings),
        ConnectionError::Websocket(e) => of_websocket(e, trace),
        ConnectionError::ResponseValidation(e) => Loss::WebSocket { detail: e.to_string().into() },
        ConnectionError::FlushTimeout => Loss::WriteTimeout,
        ConnectionError::NetworkTimeout => {
            Loss::ConnectTimeout { stage: trace.with(|facts| facts.stage), after: settings.connect_timeout }
        }
        ConnectionError::RequestsDone => Loss::Stopped,
        other => Loss::Settings { detail: other.to_string().into() },
    }
}

fn protocol(detail: impl Into<String>) -> Loss {
    Loss::Protocol { detail: detail.into().into() }
}

fn refused(refusal: ConnectRefusal, settings: &LinkSettings) -> Loss {
    let login = match &settings.login {
        None => Login::Nothing,
        Some((_, None)) => Login::UserName,
        Some((_, Some(_))) => Login::Password,
    };
    Loss::Refused { refusal, login }
}

fn refusal(code: ConnectReturnCode) -> ConnectRefusal {
    match code {
        ConnectReturnCode::RefusedProtocolVersion => ConnectRefusal::ProtocolVersion,
        ConnectReturnCode::BadClientId => ConnectRefusal::ClientId,
        ConnectReturnCode::ServiceUnavailable => ConnectRefusal::ServerUnavailable,
        ConnectReturnCode::BadUserNamePassword => ConnectRefusal::Login,
        ConnectReturnCode::NotAuthorized => ConnectRefusal::NotAuthorised,
        ConnectReturnCode::Success => ConnectRefusal::Other(0),
    }
}

fn of_state(error: StateError, trace: &Trace, settings: &LinkSettings) -> Loss {
    match error {
        StateError::ConnectionAborted => trace.with(|facts| closed(facts)),
        StateError::AwaitPingResp | StateError::CollisionTimeout => {
            Loss::KeepAlive { after: settings.keep_alive }
        }
        StateError::Io(e) | StateError::Deserialization(mqttbytes::Error::Io(e)) => {
            trace.with(|facts| of_io(&e, facts))
        }
        StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded(_)) => {
            Loss::IncomingOversize { limit: settings.packet_bytes_max }
        }
        StateError::Deserialization(mqttbytes::Error::OutgoingPacketTooLarge { pkt_size, max }) => {
            Loss::Settings {
                detail: format!("CONNECT has {pkt_size} bytes and `packet_max` allows {max}").into(),
            }
        }
        StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code)) => {
            refused(ConnectRefusal::Other(code), settings)
        }
        StateError::Deserialization(e) => protocol(format!("a packet that cannot be read, {e}")),
        StateError::ProtocolViolation(violation) => protocol(violation.to_string()),
        StateError::Unsolicited(id) => {
            protocol(format!("an acknowledgement of packet {id}, which was not sent"))
        }
        other => protocol(other.to_string()),
    }
}

fn of_websocket(error: async_tungstenite::tungstenite::Error, trace: &Trace) -> Loss {
    use async_tungstenite::tungstenite::Error;
    match error {
        Error::Http(response) => Loss::WebSocketRefused { status: response.status().as_u16() },
        other => trace.with(|facts| of_frames(&other, facts)),
    }
}

/// An error of the WebSocket itself, during the upgrade or later.
fn of_frames(error: &async_tungstenite::tungstenite::Error, facts: &Facts) -> Loss {
    use async_tungstenite::tungstenite::{Error, error::ProtocolError};
    match error {
        Error::Io(e) => of_io(e, facts),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete) => {
            closed(facts)
        }
        other => Loss::WebSocket { detail: other.to_string().into() },
    }
}

fn closed(facts: &Facts) -> Loss {
    Loss::Closed { stage: stage(facts) }
}

/// Where we are; `None` when the link is up.
fn stage(facts: &Facts) -> Option<Stage> {
    (!facts.up).then_some(facts.stage)
}

/// What an error of the stream means.
pub(super) fn of_io(error: &IoError, facts: &Facts) -> Loss {
    if let Some(inner) = error.get_ref() {
        if let Some(loss) = inner.downcast_ref::<Loss>() {
            return loss.clone();
        }
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return match (tls, facts.stage) {
                // What is no record of TLS, as the answer to its first one.
                (rustls::Error::InvalidMessage(_), Stage::Tls(transport)) => {
                    Loss::WrongScheme { spoken: Spoken::Plain(transport) }
                }
                _ => tls::loss_of(tls, facts.identity.as_deref()),
            };
        }
        if let Some(frames) = inner.downcast_ref() {
            return of_frames(frames, facts);
        }
    }
    if error.kind() == ErrorKind::UnexpectedEof {
        return closed(facts);
    }
    Loss::Tcp {
        fault: tcp_fault(error),
        stage: stage(facts),
        peer: facts.peer,
        detail: error.to_string().into(),
    }
}

/// The TCP situation behind an errno.
pub(super) fn tcp_fault(error: &IoError) -> TcpFault {
    match error.kind() {
        ErrorKind::ConnectionRefused => TcpFault::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            TcpFault::Unreachable
        }
        ErrorKind::TimedOut => TcpFault::TimedOut,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => TcpFault::Reset,
        _ => TcpFault::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_of_linux_become_situations() {
        for (errno, expected) in [
            (libc_errno::ECONNREFUSED, TcpFault::Refused),
            (libc_errno::EHOSTUNREACH, TcpFault::Unreachable),
            (libc_errno::ENETUNREACH, TcpFault::Unreachable),
            (libc_errno::ENETDOWN, TcpFault::Unreachable),
            (libc_errno::ETIMEDOUT, TcpFault::TimedOut),
            (libc_errno::ECONNRESET, TcpFault::Reset),
            (libc_errno::EPIPE, TcpFault::Reset),
            (libc_errno::EACCES, TcpFault::Other),
        ] {
            assert_eq!(tcp_fault(&IoError::from_raw_os_error(errno)), expected, "{errno}");
        }
    }

    /// include/uapi/asm-generic/errno.h of Linux.
    mod libc_errno {
        pub(super) const EACCES: i32 = 13;
        pub(super) const EPIPE: i32 = 32;
        pub(super) const ENETDOWN: i32 = 100;
        pub(super) const ENETUNREACH: i32 = 101;
        pub(super) const ECONNRESET: i32 = 104;
        pub(super) const ETIMEDOUT: i32 = 110;
        pub(super) const ECONNREFUSED: i32 = 111;
        pub(super) const EHOSTUNREACH: i32 = 113;
    }
}
