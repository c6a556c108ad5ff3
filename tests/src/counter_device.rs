//! A Modbus TCP device whose every answer is different: holding registers 0 and 1 are a u32 (big endian) that counts the
//! requests answered so far, so that one value is one poll and a test can say which poll is missing.
//!
//! Written by hand and not with `drivers`, so that the two can disagree.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A running device; it stops answering when dropped.
#[derive(Debug)]
pub struct CounterDevice {
    /// TCP port on 127.0.0.1.
    pub port: u16,
    count: Arc<AtomicU32>,
    mute: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl CounterDevice {
    /// Starts a device on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (count, mute) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let shared = (Arc::clone(&count), Arc::clone(&mute));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Ok(Self { port, count, mute, task })
    }

    /// How many requests were answered.
    #[must_use]
    pub fn answered(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether it stays silent from here on.
    pub fn set_mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::SeqCst);
    }
}

impl Drop for CounterDevice {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, (count, mute): (Arc<AtomicU32>, Arc<AtomicBool>)) {
    let mut frame = [0_u8; 12];
    while stream.read_exact(&mut frame).await.is_ok() {
        if mute.load(Ordering::SeqCst) {
            continue;
        }
        let registers = u16::from_be_bytes([frame[10], frame[11]]);
        let answer = if frame[7] == 3 && (1..=125).contains(&registers) {
            let n = count.fetch_add(1, Ordering::SeqCst) + 1;
            let mut values = vec![0_u8; usize::from(registers) * 2];
            for (slot, byte) in values.iter_mut().zip(n.to_be_bytes()) {
                *slot = byte;
            }
            let bytes = u8::try_from(values.len()).expect("at most 250");
            [&[frame[6], 3, bytes], &values[..]].concat()
        } else {
            vec![frame[6], frame[7] | 0x80, 1]
        };
        let length = u16::try_from(answer.len()).expect("at most 253").to_be_bytes();
        let whole = [&frame[0..4], &length[..], &answer[..]].concat();
        if stream.write_all(&whole).await.is_err() {
            return;
        }
    }
}
