//! The stream between rumqttc and the network: it remembers the first error in full, which the client would flatten to text, and gives
//! up a write that makes no progress, which the client would wait for without end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gateway_core::uplink::loss::{Loss, Stage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::classify;
use super::tls::Identity;

/// Any stream that rumqttc can use.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What is known about the connection in the making. The task of the epoch is the only one that locks it; it is shared because rumqttc
/// owns the stream.
#[derive(Clone)]
pub(super) struct Trace(Arc<Mutex<Facts>>);

pub(super) struct Facts {
    /// The stage reached.
    pub(super) stage: Stage,
    /// CONNACK came.
    pub(super) up: bool,
    /// The peer of the TCP connection.
    pub(super) peer: Option<SocketAddr>,
    /// The first error of the stream.
    pub(super) loss: Option<Loss>,
    /// Our certificate, for alerts that come after the handshake.
    pub(super) identity: Option<Arc<Identity>>,
    /// A second handle on the socket for the goodbye.
    pub(super) twin: Option<OwnedFd>,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Facts {
            stage: Stage::Files,
            up: false,
            peer: None,
            loss: None,
            identity: None,
            twin: None,
        })))
    }

    /// Looks at or changes the facts.
    pub(super) fn with<R>(&self, use_facts: impl FnOnce(&mut Facts) -> R) -> R {
        use_facts(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, error: &io::Error) {
        self.with(|facts| {
            let loss = classify::of_io(error, facts);
            facts.loss.get_or_insert(loss);
        });
    }
}

/// Remembers the first error of the stream below it.
pub(super) struct Watched<S> {
    inner: S,
    trace: Trace,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, trace: Trace) -> Self {
        Self { inner, trace }
    }
}

impl<S: Wire> Watched<S> {
    /// A server that rejects our certificate in TLS 1.3 sends its alert after our handshake is done and closes, so that the first write
    /// fails before the alert is read. Then the alert, if it is there, is the reason.
    fn note_write(&mut self, cx: &mut Context<'_>, error: &io::Error) {
        if self.trace.with(|facts| facts.identity.is_some() && !facts.up) {
            let mut scratch = [0; 16];
            let mut buf = ReadBuf::new(&mut scratch);
            if let Poll::Ready(Err(alert)) = Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                self.trace.note(&alert);
            }
        }
        self.trace.note(error);
    }
}

impl<S: Wire> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if let Err(error) = &result {
            self.trace.note(error);
        }
        Poll::Ready(result)
    }
}

impl<S: Wire> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes));
        if let Err(error) = &result {
            self.note_write(cx, error);
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        if let Err(error) = &result {
            self.note_write(cx, error);
        }
        Poll::Ready(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Gives up when the socket takes no byte for `limit`. Sits directly on TCP, where every byte taken is progress.
pub(super) struct Impatient<S> {
    inner: S,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit, waiting: None }
    }

    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.limit;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(cx).map(|()| io::Error::other(Loss::WriteTimeout))
    }
}

impl<S: Wire> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: Wire> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            Poll::Ready(result) => {
                self.waiting = None;
                Poll::Ready(result)
            }
            Poll::Pending => self.stalled(cx).map(Err),
        }
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
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_is_given_up_after_the_limit_and_named() {
        let (ours, _theirs) = duplex(16);
        let trace = Trace::new();
        let mut stream = Watched::new(Impatient::new(ours, Duration::from_secs(10)), trace.clone());
        let begin = Instant::now();
        assert!(stream.write_all(&[0; 100]).await.is_err());
        assert_eq!(begin.elapsed().as_secs(), 10);
        assert_eq!(trace.with(|facts| facts.loss.take()), Some(Loss::WriteTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_that_still_takes_bytes_is_not_given_up() {
        let (ours, mut theirs) = duplex(16);
        let mut stream = Impatient::new(ours, Duration::from_secs(10));
        let slow_peer = tokio::spawn(async move {
            let mut taken = Vec::new();
            while taken.len() < 160 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                let mut piece = [0; 16];
                theirs.read_exact(&mut piece).await.unwrap();
                taken.extend_from_slice(&piece);
            }
        });
        stream.write_all(&[0; 160]).await.unwrap();
        slow_peer.await.unwrap();
    }

    #[tokio::test]
    async fn the_first_error_is_kept() {
        let trace = Trace::new();
        trace.note(&io::Error::from(io::ErrorKind::ConnectionReset));
        trace.note(&io::Error::from(io::ErrorKind::BrokenPipe));
        let loss = trace.with(|facts| facts.loss.take());
        assert!(matches!(loss, Some(Loss::Tcp { .. })), "{loss:?}");
        trace.note(&io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(trace.with(|facts| facts.loss.take()), Some(Loss::Closed { stage: Some(Stage::Files) }));
    }
}
