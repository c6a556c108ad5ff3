//! A broker that only acknowledges and counts: the cloud of a bench that asks what the gateway can do, not what a broker can.
//!
//! It counts messages of readings by their number, so that a repetition is seen as one, and the readings in them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Highest message number that is told apart; a bench has fewer messages.
const SEQ_MAX: usize = 1 << 26;

/// Messages of the live topic whose arrival is remembered.
const ARRIVALS_MAX: usize = 1 << 17;

/// What arrived.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Messages of readings, each number once.
    pub messages: u64,
    /// Messages of readings whose number had been seen before.
    pub repeated: u64,
    /// Good readings in messages that were not repetitions.
    pub good: u64,
    /// Bad readings in them.
    pub bad: u64,
    /// Bytes of payload, all messages.
    pub payload_bytes: u64,
    /// Messages that are not of readings: birth, ledger.
    pub others: u64,
    /// Messages of the live topic among `messages`.
    pub live_messages: u64,
    /// Value of the tag `count` and its arrival, for each of them that has a good one.
    pub live: Vec<(u64, Instant)>,
    seen: Vec<u64>,
}

impl Counted {
    /// Readings of any quality.
    #[must_use]
    pub fn readings(&self) -> u64 {
        self.good + self.bad
    }

    fn message(&mut self, topic: &[u8], payload: &[u8]) {
        self.payload_bytes += payload.len() as u64;
        let Some(seq) = number(payload, b"\"seq\":").filter(|_| is_readings(payload)) else {
            self.others += 1;
            return;
        };
        if !self.first(seq) {
            self.repeated += 1;
            return;
        }
        self.messages += 1;
        self.good += members(payload, b"\"values\":{") + u64::from(find(payload, b"\"value\":").is_some());
        self.bad += members(payload, b"\"bad\":{") + u64::from(find(payload, b"\"bad\":\"").is_some());
        let live = topic.ends_with(b"/live");
        self.live_messages += u64::from(live);
        if live
            && self.live.len() < ARRIVALS_MAX
            && let Some(count) = number(payload, b"\"count\":")
        {
            self.live.push((count, Instant::now()));
        }
    }

    fn first(&mut self, seq: u64) -> bool {
        let Some(seq) = usize::try_from(seq).ok().filter(|seq| *seq < SEQ_MAX) else { return true };
        if self.seen.len() <= seq / 64 {
            self.seen.resize(seq / 64 + 1, 0);
        }
        let mask = 1 << (seq % 64);
        let first = self.seen[seq / 64] & mask == 0;
        self.seen[seq / 64] |= mask;
        first
    }
}

/// A running sink; its connections break when it is dropped.
#[derive(Debug)]
pub struct Sink {
    /// TCP port on 127.0.0.1.
    pub port: u16,
    // Connections count and the bench looks; all hold it for a moment only.
    counted: Arc<Mutex<Counted>>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Starts a sink on `port`, 0 for a free one.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        let counted = Arc::new(Mutex::new(Counted::default()));
        let counting = Arc::clone(&counted);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&counting)));
            }
        });
        Ok(Self { port, counted, task })
    }

    /// Everything so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages of readings so far that are not of the live topic.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.messages - counted.live_messages
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, counted: Arc<Mutex<Counted>>) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut answers) = (Vec::with_capacity(1 << 18), Vec::new());
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        let mut used = 0;
        {
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(length) = take(&buffer[used..], &mut counted, &mut answers) {
                used += length;
            }
        }
        buffer.drain(..used);
        if stream.write_all(&answers).await.is_err() {
            return;
        }
        answers.clear();
    }
}

/// Answers the packet at the head of `bytes` and gives its length; `None` when it is not complete.
fn take(bytes: &[u8], counted: &mut Counted, answers: &mut Vec<u8>) -> Option<usize> {
    let first = *bytes.first()?;
    let (mut remaining, mut header) = (0, 1);
    loop {
        let byte = *bytes.get(header)?;
        remaining |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = bytes.get(header..header + remaining)?;
    match first >> 4 {
        1 => answers.extend_from_slice(&[0x20, 2, 0, 0]),
        3 => {
            let (length, rest) = body.split_first_chunk::<2>()?;
            let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            let payload = if first & 0x06 > 0 {
                let (id, payload) = rest.split_first_chunk::<2>()?;
                answers.extend_from_slice(&[0x40, 2, id[0], id[1]]);
                payload
            } else {
                rest
            };
            counted.message(topic, payload);
        }
        12 => answers.extend_from_slice(&[0xd0, 0]),
        _ => {}
    }
    Some(header + remaining)
}

fn is_readings(payload: &[u8]) -> bool {
    [&b"\"values\":"[..], b"\"value\":", b"\"bad\":"].iter().any(|member| find(payload, member).is_some())
}

/// Members of the flat object that follows `opening`.
fn members(payload: &[u8], opening: &[u8]) -> u64 {
    let Some(at) = find(payload, opening) else { return 0 };
    payload[at + opening.len()..]
        .iter()
        .take_while(|byte| **byte != b'}')
        .filter(|byte| **byte == b':')
        .count() as u64
}

fn number(payload: &[u8], member: &[u8]) -> Option<u64> {
    let digits = &payload[find(payload, member)? + member.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::Counted;

    #[test]
    fn readings_are_counted_once_and_by_quality() {
        let mut counted = Counted::default();
        let group = br#"{"v":1,"boot":"a-1","seq":42,"t_boot_ms":1,"values":{"count":7,"b":230.1},"bad":{"c":"timeout"}}"#;
        counted.message(b"gw/meter/live", group);
        counted.message(b"gw/meter/live", group);
        counted.message(b"gw/meter/1", br#"{"v":1,"boot":"a-1","seq":43,"t_boot_ms":1,"tag":"x","value":1}"#);
        counted.message(
            b"gw/meter/1",
            br#"{"v":1,"boot":"a-1","seq":44,"t_boot_ms":1,"tag":"x","bad":"stale"}"#,
        );
        counted.message(b"gw/status", br#"{"v":1,"state":"online"}"#);
        assert_eq!((counted.messages, counted.repeated, counted.others), (3, 1, 1));
        assert_eq!((counted.good, counted.bad, counted.readings()), (3, 2, 5));
        assert_eq!(counted.live.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [7]);
    }
}
