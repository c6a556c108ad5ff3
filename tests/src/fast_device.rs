//! A Modbus TCP device that answers as fast as it is asked: what the gateway can carry shows only beside a device that is no bottleneck.
//!
//! Each answer is different: holding registers 0 and 1 are a u32 (big endian) that counts the answers, the others are its low half
//! plus their position, so every register changes in every poll. Requests that came together are answered in one write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Answers whose moment is remembered: an hour of 20 polls per second.
const MOMENTS_MAX: usize = 72_000;

/// Length of every request that is understood: header, function, address, quantity.
const REQUEST_BYTES: usize = 12;

#[derive(Debug, Default)]
struct Shared {
    answered: AtomicU64,
    // The device appends and the bench looks afterwards; both hold it for a moment only.
    moments: Mutex<Vec<Instant>>,
}

/// A running device with every unit id; its connections break when it is dropped.
#[derive(Debug)]
pub struct FastDevice {
    /// TCP port on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl FastDevice {
    /// Starts a device on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Ok(Self { port, shared, task })
    }

    /// How many requests were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// When the answer with count `n` (1 is the first) was given; `None` if there was none, or it is too long ago.
    #[must_use]
    pub fn moment(&self, n: u64) -> Option<Instant> {
        let at = usize::try_from(n.checked_sub(1)?).ok()?;
        self.shared.moments.lock().unwrap_or_else(PoisonError::into_inner).get(at).copied()
    }
}

impl Drop for FastDevice {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    // Without it the kernel would hold answers back; a device that does so is a slow one.
    let _ = stream.set_nodelay(true);
    let (mut asked, mut answers) = (Vec::with_capacity(4096), Vec::with_capacity(1 << 16));
    while let Ok(1..) = stream.read_buf(&mut asked).await {
        let whole = asked.len() - asked.len() % REQUEST_BYTES;
        for request in asked[..whole].chunks_exact(REQUEST_BYTES) {
            answer(request, &shared, &mut answers);
        }
        asked.drain(..whole);
        if stream.write_all(&answers).await.is_err() {
            return;
        }
        answers.clear();
    }
}

fn answer(request: &[u8], shared: &Shared, answers: &mut Vec<u8>) {
    let registers = u16::from_be_bytes([request[10], request[11]]);
    answers.extend_from_slice(&request[..4]);
    if request[7] != 3 || !(1..=125).contains(&registers) {
        answers.extend_from_slice(&[0, 3, request[6], request[7] | 0x80, 1]);
        return;
    }
    let moment = {
        let mut moments = shared.moments.lock().unwrap_or_else(PoisonError::into_inner);
        if moments.len() < MOMENTS_MAX {
            moments.push(Instant::now());
        }
        shared.answered.fetch_add(1, Ordering::Relaxed) + 1
    };
    let count = u32::try_from(moment & u64::from(u32::MAX)).unwrap_or(0);
    let bytes = u8::try_from(registers * 2).unwrap_or(u8::MAX);
    answers.extend_from_slice(&u16::from(bytes).saturating_add(3).to_be_bytes());
    answers.extend_from_slice(&[request[6], 3, bytes]);
    let [high_1, high_0, low_1, low_0] = count.to_be_bytes();
    let low = u16::from_be_bytes([low_1, low_0]);
    for register in 0..registers {
        let value = match register {
            0 => u16::from_be_bytes([high_1, high_0]),
            1 => low,
            other => low.wrapping_add(other),
        };
        answers.extend_from_slice(&value.to_be_bytes());
    }
}
