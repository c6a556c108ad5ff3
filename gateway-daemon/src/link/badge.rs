//! Says in CONNECT that we are a bridge.
//!
//! mosquitto marks its bridges by the highest bit of the protocol level (0x84 instead of 4), and brokers that know the mark do not send a bridge its own
//! messages and leave retain flags as they were published. rumqttc has no word for it, so the byte is changed on its way out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watched::Wire;

/// The mark.
const BRIDGE: u8 = 0x80;

/// Bytes between the remaining length and the protocol level: the length of the name and "MQTT" ("MQTT Version 3.1.1", 3.1.2).
const NAME_BYTES: usize = 6;

/// The stream with a badge, if it wears one.
pub(super) struct Badge<S> {
    inner: S,
    /// The place of the byte in what is still to be written; `None` once it is out, or without a badge.
    place: Option<usize>,
    begun: bool,
}

impl<S> Badge<S> {
    pub(super) fn new(inner: S, worn: bool) -> Self {
        Self { inner, place: None, begun: !worn }
    }
}

/// Where the protocol level of a CONNECT stands.
fn level_at(connect: &[u8]) -> usize {
    let length_bytes = connect.iter().skip(1).take(4).take_while(|byte| **byte & 0x80 > 0).count() + 1;
    1 + length_bytes + NAME_BYTES
}

impl<S: Wire> AsyncRead for Badge<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: Wire> AsyncWrite for Badge<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // rumqttc hands the whole CONNECT out at once, so its length is in the first bytes.
        if !self.begun && !bytes.is_empty() {
            self.begun = true;
            self.place = Some(level_at(bytes));
        }
        let Some(place) = self.place else { return Pin::new(&mut self.inner).poll_write(cx, bytes) };
        let mut marked = bytes.to_vec();
        if let Some(level) = marked.get_mut(place) {
            *level |= BRIDGE;
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &marked))?;
        self.place = place.checked_sub(written);
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

    use super::*;

    /// What arrives of a CONNECT with a client id of so many bytes, through a pipe that takes so many at a time.
    async fn through(pipe: usize, id_bytes: usize, worn: bool) -> (Vec<u8>, Vec<u8>) {
        let mut connect = vec![0x10];
        let mut length = 10 + 2 + id_bytes;
        while length > 0 {
            connect.push(u8::try_from(length & 0x7f).unwrap() | if length > 0x7f { 0x80 } else { 0 });
            length >>= 7;
        }
        connect.extend(b"\0\x04MQTT\x04\x02\0\x3c");
        connect.extend(u16::try_from(id_bytes).unwrap().to_be_bytes());
        connect.extend(vec![4; id_bytes]);
        connect.extend([0xc0, 0]);
        let (ours, mut theirs) = duplex(pipe);
        let mut stream = Badge::new(ours, worn);
        let mut arrived = vec![0; connect.len()];
        let (sent, read) = tokio::join!(stream.write_all(&connect), theirs.read_exact(&mut arrived));
        sent.unwrap();
        read.unwrap();
        (connect, arrived)
    }

    #[tokio::test]
    async fn only_the_protocol_level_changes_however_the_bytes_leave() {
        for pipe in [1, 3, 9, 10, 64, 10_000] {
            for id_bytes in [1, 115, 116, 300] {
                let (mut expected, arrived) = through(pipe, id_bytes, true).await;
                let place = level_at(&expected);
                assert_eq!(expected[place], 4);
                expected[place] = 0x84;
                assert_eq!(arrived, expected, "{pipe} {id_bytes}");
            }
        }
    }

    #[tokio::test]
    async fn without_a_badge_nothing_changes() {
        let (expected, arrived) = through(64, 20, false).await;
        assert_eq!(arrived, expected);
    }
}
