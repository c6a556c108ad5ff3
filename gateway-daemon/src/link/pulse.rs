//! A ping while we publish.
//!
//! rumqttc starts its keep-alive timer again at every flush, so a link with steady traffic is never pinged. With QoS 1 the missing PUBACK tells;
//! with QoS 0 nothing would, if something on the way (a proxy, a modem) acknowledges TCP for a broker that is gone. So: when we write and
//! have heard nothing for a keep-alive, a PINGREQ goes in between two packets, and when another keep-alive passes unheard, the link
//! is lost. rumqttc takes the PINGRESP without a question.
//!
//! Knows only the frames of outgoing packets ("MQTT Version 3.1.1", 2.2); for plain streams, not inside a WebSocket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gateway_core::uplink::loss::Loss;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::watched::Wire;

/// PINGREQ ("MQTT Version 3.1.1", 3.12).
const PINGREQ: [u8; 2] = [0xc0, 0];

/// Where the outgoing stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between two packets.
    Between,
    /// In the remaining length, whose value so far and next shift these are.
    Length { value: usize, shift: u32 },
    /// So many bytes before the end of a packet.
    Body(usize),
}

impl Place {
    /// The place after these bytes. rumqttc encodes them, so a wrong length cannot happen; it would only delay a ping.
    fn after(mut self, mut bytes: &[u8]) -> Self {
        while let Some((first, rest)) = bytes.split_first() {
            match self {
                Self::Between => self = Self::Length { value: 0, shift: 0 },
                Self::Length { value, shift } => {
                    let value = value | usize::from(first & 0x7f) << shift.min(21);
                    self = match (first & 0x80 > 0, value) {
                        (true, _) => Self::Length { value, shift: shift + 7 },
                        (false, 0) => Self::Between,
                        (false, left) => Self::Body(left),
                    };
                }
                Self::Body(left) => {
                    let taken = left.min(bytes.len());
                    bytes = &bytes[taken..];
                    self = if taken == left { Self::Between } else { Self::Body(left - taken) };
                    continue;
                }
            }
            bytes = rest;
        }
        self
    }
}

/// The stream with a pulse.
pub(super) struct Pulse<S> {
    inner: S,
    keep_alive: Duration,
    place: Place,
    heard: Instant,
    asked: Option<Instant>,
    /// Bytes of a PINGREQ still to be written.
    ping_left: usize,
}

impl<S> Pulse<S> {
    pub(super) fn new(inner: S, keep_alive: Duration) -> Self {
        Self { inner, keep_alive, place: Place::Between, heard: Instant::now(), asked: None, ping_left: 0 }
    }
}

impl<S: Wire> Pulse<S> {
    fn ask(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        match self.asked {
            Some(at) if now.duration_since(at) >= self.keep_alive => {
                return Poll::Ready(Err(io::Error::other(Loss::KeepAlive { after: self.keep_alive })));
            }
            None if self.place == Place::Between && now.duration_since(self.heard) >= self.keep_alive => {
                self.asked = Some(now);
                self.ping_left = PINGREQ.len();
            }
            _ => {}
        }
        while self.ping_left > 0 {
            let rest = &PINGREQ[PINGREQ.len() - self.ping_left..];
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ping_left -= written;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Wire> AsyncRead for Pulse<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.heard = Instant::now();
            self.asked = None;
        }
        Poll::Ready(result)
    }
}

impl<S: Wire> AsyncWrite for Pulse<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.ask(cx))?;
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.place = self.place.after(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    /// QoS 0, topic "t", with a payload that looks like pings.
    const PUBLISH: [u8; 9] = [0x30, 7, 0, 1, b't', 0xc0, 0, 0xc0, 0];

    #[test]
    fn the_place_is_found_however_the_bytes_are_cut() {
        let long = [&[0x30, 0xc8, 0x01][..], &[0x80; 200], &PUBLISH, &[0xe0, 0]].concat();
        for cut in 0..=long.len() {
            let place = Place::Between.after(&long[..cut]).after(&long[cut..]);
            assert_eq!(place, Place::Between, "{cut}");
            let boundary = [0, 203, 212, 214].contains(&cut);
            assert_eq!(Place::Between.after(&long[..cut]) == Place::Between, boundary, "{cut}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn steady_writing_without_a_sound_is_pinged_between_packets_and_then_lost() {
        let (ours, mut theirs) = duplex(1 << 16);
        let keep_alive = Duration::from_secs(5);
        let mut stream = Pulse::new(ours, keep_alive);
        let begin = Instant::now();
        let error = loop {
            // In two pieces, so that a ping could go wrong.
            if let Err(error) = stream.write_all(&PUBLISH[..3]).await {
                break error;
            }
            sleep(Duration::from_millis(500)).await;
            if let Err(error) = stream.write_all(&PUBLISH[3..]).await {
                break error;
            }
        };
        assert_eq!(begin.elapsed(), Duration::from_secs(10));
        let loss = error.get_ref().and_then(|inner| inner.downcast_ref::<Loss>());
        assert_eq!(loss, Some(&Loss::KeepAlive { after: keep_alive }));
        drop(stream);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.unwrap();
        let (mut pings, mut rest) = (0, &sent[..]);
        while rest.len() >= PUBLISH.len() {
            if let Some(after) = rest.strip_prefix(&PINGREQ) {
                (pings, rest) = (pings + 1, after);
            } else {
                rest = rest.strip_prefix(&PUBLISH).unwrap();
            }
        }
        assert_eq!(pings, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn any_answer_keeps_the_link() {
        let (ours, mut theirs) = duplex(1 << 16);
        let mut stream = Pulse::new(ours, Duration::from_secs(5));
        for _ in 0..20 {
            sleep(Duration::from_secs(4)).await;
            stream.write_all(&PUBLISH).await.unwrap();
            theirs.write_all(&[0xd0, 0]).await.unwrap();
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.unwrap();
        }
    }
}
