//! A Modbus TCP device whose every answer is different: holding registers 0 and 1 are a u32 (big endian) that counts the
//! requests answered so far (all others are 0x4141), so that one value is one poll and a test can say which poll is missing.
//!
//! Written by hand and not with `drivers`, so that the two can disagree.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::gateway::DEADLINE;

/// A running device; it stops answering when dropped.
#[derive(Debug)]
pub struct CounterDevice {
    /// TCP port on 127.0.0.1.
    pub port: u16,
    count: Arc<AtomicU32>,
    mute: Arc<AtomicBool>,
    accepted: Arc<AtomicU32>,
    connected: Arc<AtomicU32>,
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
        let (accepted, connected) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (seen, open) = (Arc::clone(&accepted), Arc::clone(&connected));
        let shared = (Arc::clone(&count), Arc::clone(&mute));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                open.fetch_add(1, Ordering::SeqCst);
                seen.fetch_add(1, Ordering::SeqCst);
                let (shared, open) = (shared.clone(), Arc::clone(&open));
                tokio::spawn(async move {
                    serve(stream, shared).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self { port, count, mute, accepted, connected, task })
    }

    /// How many requests were answered.
    #[must_use]
    pub fn answered(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// How many connections there were, so far.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits until `goal` requests were answered.
    ///
    /// # Errors
    /// Not within [`DEADLINE`].
    pub async fn wait_for(&self, goal: u32) -> anyhow::Result<()> {
        let end = Instant::now() + DEADLINE;
        while self.answered() < goal {
            let seen = self.answered();
            anyhow::ensure!(Instant::now() < end, "{seen} requests were answered, not {goal}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until nobody is connected, so that the count stands; gives it.
    ///
    /// # Errors
    /// Not within [`DEADLINE`].
    pub async fn quiet(&self) -> anyhow::Result<u32> {
        let end = Instant::now() + DEADLINE;
        // Connections are accepted in their order: after this one, no earlier one is still waiting.
        let before = self.accepted.load(Ordering::SeqCst);
        let own = TcpStream::connect(("127.0.0.1", self.port)).await?;
        while self.accepted.load(Ordering::SeqCst) == before {
            anyhow::ensure!(Instant::now() < end, "connections are not accepted");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(own);
        while self.connected.load(Ordering::SeqCst) > 0 {
            anyhow::ensure!(Instant::now() < end, "somebody is still connected");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(self.answered())
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
            let mut values = vec![0x41_u8; usize::from(registers) * 2];
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
