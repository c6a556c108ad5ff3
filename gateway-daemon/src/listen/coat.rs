//! What a connection wears over its bytes of MQTT: TLS, WebSocket, both, or nothing. No sockets: bytes in, bytes out.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::frames::{FrameFault, Frames};

/// Why a connection in a coat is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum CoatFault {
    #[error("{}", super::tls::meaning(.0))]
    Tls(rustls::Error),
    #[error(transparent)]
    Frame(#[from] FrameFault),
    #[error("the client closed the connection")]
    Closed,
}

/// TLS and WebSocket of one connection; with neither, bytes pass as they are.
#[derive(Default)]
pub(super) struct Coat {
    tls: Option<Box<ServerConnection>>,
    frames: Option<Box<Frames>>,
}

impl Coat {
    /// TLS that begins with the next bytes.
    ///
    /// # Errors
    /// The configuration cannot serve.
    pub(super) fn tls(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let tls = ServerConnection::new(config)?;
        Ok(Self { tls: Some(Box::new(tls)), frames: None })
    }

    /// WebSocket frames from the next bytes on.
    pub(super) fn put_on(&mut self, frames: Frames) {
        self.frames = Some(Box::new(frames));
    }

    /// Whether bytes pass as they are.
    pub(super) fn is_bare(&self) -> bool {
        self.tls.is_none() && self.frames.is_none()
    }

    /// Whether the TLS handshake is still going on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// The certificate that the client showed, verified.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        let chain = self.tls.as_ref()?.peer_certificates()?;
        chain.first().map(AsRef::as_ref)
    }

    /// Takes what the socket gave and adds the bytes of MQTT in it to `plain`, which is empty once frames are on, and what is to be answered to `wire`.
    ///
    /// # Errors
    /// The connection is over; what is in `plain` came before and is good.
    pub(super) fn take_off(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), CoatFault> {
        let outcome = match &mut self.tls {
            None => {
                plain.extend_from_slice(bytes);
                Ok(())
            }
            Some(tls) => decrypt(tls, bytes, plain, wire),
        };
        outcome.and(self.unframe(plain, wire))
    }

    /// Leaves of frames in `plain` what they hold. For bytes that came with the request for the WebSocket; [`Coat::take_off`] does it with
    /// all others.
    ///
    /// # Errors
    /// As [`Coat::take_off`].
    pub(super) fn unframe(&mut self, plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<(), CoatFault> {
        let Some(frames) = &mut self.frames else { return Ok(()) };
        let mut answers = Vec::new();
        let outcome = frames.take(plain, &mut answers);
        self.encrypt(&answers, wire);
        Ok(outcome?)
    }

    /// Dresses bytes of MQTT for the socket.
    pub(super) fn dress(&mut self, bytes: Vec<u8>, wire: &mut Vec<u8>) {
        if self.frames.is_none() {
            return self.encrypt(&bytes, wire);
        }
        let mut framed = Vec::with_capacity(bytes.len() + 10);
        Frames::put(&bytes, &mut framed);
        match self.tls {
            None if wire.is_empty() => *wire = framed,
            _ => self.encrypt(&framed, wire),
        }
    }

    /// Bytes that are no MQTT, for the handshake of the WebSocket.
    pub(super) fn encrypt(&mut self, bytes: &[u8], wire: &mut Vec<u8>) {
        let Some(tls) = &mut self.tls else {
            wire.extend_from_slice(bytes);
            return;
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match tls.writer().write(rest) {
                // Its buffer is emptied each time, so it always takes something.
                Ok(taken @ 1..) => rest = &rest[taken..],
                _ => break,
            }
            drain(tls, wire);
        }
        drain(tls, wire);
    }

    /// The goodbyes of WebSocket and TLS.
    pub(super) fn farewell(&mut self, wire: &mut Vec<u8>) {
        if let Some(frames) = &mut self.frames {
            let mut close = Vec::new();
            frames.close(FrameFault::Closed as u16, &mut close);
            self.encrypt(&close, wire);
        }
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            drain(tls, wire);
        }
    }
}

fn decrypt(
    tls: &mut ServerConnection,
    mut bytes: &[u8],
    plain: &mut Vec<u8>,
    wire: &mut Vec<u8>,
) -> Result<(), CoatFault> {
    while !bytes.is_empty() {
        // Reading from a slice fails only when its buffers are full, which they are not after the last turn.
        let taken = tls.read_tls(&mut bytes).unwrap_or(0);
        let processed = tls.process_new_packets();
        // Alerts and answers of the handshake, also when it has failed.
        drain(tls, wire);
        let state = processed.map_err(CoatFault::Tls)?;
        if state.plaintext_bytes_to_read() > 0 {
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            let read = tls.reader().read(&mut plain[start..]).unwrap_or(0);
            plain.truncate(start + read);
        }
        if state.peer_has_closed() || taken == 0 {
            return Err(CoatFault::Closed);
        }
    }
    Ok(())
}

/// Moves what TLS wants to send.
fn drain(tls: &mut ServerConnection, wire: &mut Vec<u8>) {
    while tls.wants_write() {
        let written: io::Result<usize> = tls.write_tls(wire);
        if !matches!(written, Ok(1..)) {
            break;
        }
    }
}
