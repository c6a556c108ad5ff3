//! The stream between rumqttc and the network: it remembers the first error in full, which the client would flatten to text, and gives
//! up a write that makes no progress, which the client would wait for without end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gateway_core::uplink::loss::{Loss, Spoken, Stage};
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

/// Remembers the first error of the stream below it, and ends a stream whose first bytes prove that it speaks something else.
pub(super) struct Watched<S> {
    inner: S,
    trace: Trace,
    /// A byte came.
    heard: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, trace: Trace) -> Self {
        Self { inner, trace, heard: false }
    }

    /// Looks at the first bytes that come.
    fn listen(&mut self, came: &[u8]) -> io::Result<()> {
        if self.heard || came.is_empty() {
            return Ok(());
        }
        self.heard = true;
        self.trace.with(|facts| match facts.stage {
            // The answer to the upgrade: from here on it is MQTT that may fail.
            Stage::WebSocket(transport) if came.starts_with(b"HTTP/1.1 101") => {
                facts.stage = Stage::Mqtt(transport);
            }
            _ => {}
        });
        match Spoken::by_first_bytes(came, self.trace.with(|facts| facts.stage)) {
            Some(spoken) => Err(io::Error::other(Loss::WrongScheme { spoken })),
            None => Ok(()),
        }
    }
}

impl<S: Wire> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let result = read.and_then(|()| self.listen(buf.filled().get(before..).unwrap_or_default()));
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
            self.trace.note(error);
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        if let Err(error) = &result {
            self.trace.note(error);
        }
        Poll::Ready(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Sits directly on TCP. Gives up when the socket takes no byte for `limit`: here every byte taken is progress.
///
/// Until the link is up, a failed write is left to the reader: a server that rejects us says why and closes, and its reason waits in our
/// socket while our next write already fails. In TLS that is the alert about our certificate.
pub(super) struct Socket<S> {
    inner: S,
    limit: Duration,
    trace: Trace,
    waiting: Option<Pin<Box<Sleep>>>,
    write_failed: bool,
}

impl<S> Socket<S> {
    pub(super) fn new(inner: S, limit: Duration, trace: Trace) -> Self {
        Self { inner, limit, trace, waiting: None, write_failed: false }
    }

    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.limit;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(cx).map(|()| io::Error::other(Loss::WriteTimeout))
    }
}

impl<S: Wire> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // After a failed write the end is on its way, even if the runtime has not seen it yet.
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: Wire> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            Poll::Ready(Err(_)) if !self.trace.with(|facts| facts.up) => {
                self.write_failed = true;
                Poll::Ready(Ok(bytes.len()))
            }
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
        trace.with(|facts| facts.up = true);
        let mut stream =
            Watched::new(Socket::new(ours, Duration::from_secs(10), trace.clone()), trace.clone());
        let begin = Instant::now();
        assert!(stream.write_all(&[0; 100]).await.is_err());
        assert_eq!(begin.elapsed().as_secs(), 10);
        assert_eq!(trace.with(|facts| facts.loss.take()), Some(Loss::WriteTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_that_still_takes_bytes_is_not_given_up() {
        let (ours, mut theirs) = duplex(16);
        let mut stream = Socket::new(ours, Duration::from_secs(10), Trace::new());
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
    async fn a_failed_write_before_connack_leaves_the_word_to_the_reader() {
        let (ours, mut theirs) = duplex(64);
        theirs.write_all(b"why").await.unwrap();
        drop(theirs);
        let trace = Trace::new();
        let mut stream =
            Watched::new(Socket::new(ours, Duration::from_secs(10), trace.clone()), trace.clone());
        stream.write_all(&[0; 10]).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "why");
        assert!(trace.with(|facts| facts.loss.is_none()));
    }

    #[tokio::test]
    async fn a_failed_write_of_a_link_that_is_up_fails() {
        let (ours, theirs) = duplex(64);
        drop(theirs);
        let trace = Trace::new();
        trace.with(|facts| facts.up = true);
        let mut stream =
            Watched::new(Socket::new(ours, Duration::from_secs(10), trace.clone()), trace.clone());
        assert!(stream.write_all(&[0; 10]).await.is_err());
        assert!(trace.with(|facts| facts.loss.is_some()));
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
