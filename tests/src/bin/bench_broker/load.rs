//! Clients that cost little: blocking sockets, MQTT 3.1.1 by hand, one thread each.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Longest wait for a byte; only a broken broker lets it pass.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Bytes read at once.
const READ_BYTES_MAX: usize = 64 << 10;

/// Bytes of every message.
pub(crate) const PAYLOAD_BYTES: usize = 128;

/// Where everything is published.
pub(crate) const TOPIC: &str = "plant/line/speed";

/// Connects, and waits for the CONNACK.
pub(crate) fn connect(port: u16, id: &str, clean: bool) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut packet = vec![0x10, u8::try_from(12 + id.len())?];
    packet.extend_from_slice(b"\0\x04MQTT\x04");
    // No keep-alive: nothing but what is measured crosses the line.
    packet.extend_from_slice(&[if clean { 2 } else { 0 }, 0, 0, 0, u8::try_from(id.len())?]);
    packet.extend_from_slice(id.as_bytes());
    stream.write_all(&packet)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).context("no CONNACK")?;
    ensure!(answer[0] == 0x20 && answer[3] == 0, "{id} was refused: {answer:?}");
    Ok(stream)
}

/// Subscribes with QoS 1, and waits for the SUBACK.
pub(crate) fn subscribe(stream: &mut TcpStream, filter: &str) -> Result<()> {
    let length = u8::try_from(filter.len())?;
    let mut packet = vec![0x82, length + 5, 0, 1, 0, length];
    packet.extend_from_slice(filter.as_bytes());
    packet.push(1);
    stream.write_all(&packet)?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).context("no SUBACK")?;
    ensure!(answer == [0x90, 3, 0, 1, 1], "not subscribed: {answer:?}");
    Ok(())
}

/// Until when to publish.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// So many messages.
    Count(u64),
    /// This moment.
    Time(Instant),
}

/// Publishes with QoS 1 and at most `window` unacknowledged messages. Gives the number of acknowledged ones.
pub(crate) fn publish(stream: &mut TcpStream, until: Until, window: u16) -> Result<u64> {
    let mut template = vec![0x32];
    let length = 2 + TOPIC.len() + 2 + PAYLOAD_BYTES;
    template.extend_from_slice(&[u8::try_from(length % 128)? | 0x80, u8::try_from(length / 128)?]);
    template.extend_from_slice(&u16::try_from(TOPIC.len())?.to_be_bytes());
    template.extend_from_slice(TOPIC.as_bytes());
    let id_at = template.len();
    template.resize(id_at + 2 + PAYLOAD_BYTES, b'x');
    let (mut sent, mut acknowledged) = (0u64, 0u64);
    let (mut out, mut answers) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; READ_BYTES_MAX];
    loop {
        let more = match until {
            Until::Count(count) => count - sent,
            Until::Time(end) if Instant::now() < end => u64::MAX,
            Until::Time(_) => 0,
        };
        let more = more.min(u64::from(window) - (sent - acknowledged));
        out.clear();
        for _ in 0..more {
            let start = out.len();
            out.extend_from_slice(&template);
            let id = u16::try_from(sent % 65_535)? + 1;
            out[start + id_at..start + id_at + 2].copy_from_slice(&id.to_be_bytes());
            sent += 1;
        }
        stream.write_all(&out)?;
        if acknowledged == sent {
            return Ok(acknowledged);
        }
        let read = stream.read(&mut buffer).context("no PUBACK")?;
        ensure!(read > 0, "the broker hung up after {acknowledged} acknowledgements");
        answers.extend_from_slice(&buffer[..read]);
        let whole = answers.len() / 4;
        ensure!(answers.chunks_exact(4).all(|ack| ack.starts_with(&[0x40, 2])), "not a PUBACK");
        acknowledged += whole as u64;
        answers.drain(..whole * 4);
    }
}

/// Takes `count` messages and acknowledges each; gives the moment of the last.
pub(crate) fn consume(stream: &mut TcpStream, count: u64) -> Result<Instant> {
    let mut buffer = vec![0; READ_BYTES_MAX];
    let (mut bytes, mut acks) = (Vec::new(), Vec::new());
    let mut got = 0;
    while got < count {
        let read = stream.read(&mut buffer).with_context(|| format!("{got} of {count} messages came"))?;
        ensure!(read > 0, "the broker hung up after {got} of {count} messages");
        bytes.extend_from_slice(&buffer[..read]);
        let mut used = 0;
        while let Some((first, body, length)) = packet(&bytes[used..]) {
            if first >> 4 == 3 {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                acks.extend_from_slice(&[0x40, 2, body[2 + topic], body[3 + topic]]);
                got += 1;
            }
            used += length;
        }
        bytes.drain(..used);
        stream.write_all(&acks)?;
        acks.clear();
    }
    Ok(Instant::now())
}

/// First byte, body and whole length of the packet at the head of `bytes`, if it is complete.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let mut length = 0;
    let mut head = 1;
    loop {
        let byte = *bytes.get(head)?;
        length |= usize::from(byte & 0x7f) << (7 * (head - 1));
        head += 1;
        if byte & 0x80 == 0 {
            return Some((bytes[0], bytes.get(head..head + length)?, head + length));
        }
    }
}
