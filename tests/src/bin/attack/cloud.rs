//! A pretend cloud: acknowledges and counts readings, and can be as particular as real ones are.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

use super::client::publish_parts;
use tidegate_tests::packets::{Publish, answer, head};

/// Messages of local clients whose payload is remembered, in the order of their arrival.
const KEPT_MAX: usize = 10_000;
const READ_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
struct Shared {
    /// Readings acknowledged.
    readings: AtomicU64,
    connections: AtomicU64,
    /// Cuts a client that publishes control characters in a topic, as mosquitto does.
    strict: AtomicBool,
    /// Cuts a client whose packet is larger; 0: none.
    packet_max: AtomicUsize,
    /// Acknowledges nothing.
    silent: AtomicBool,
    // The connections write, the attack reads; both hold them for a moment only.
    kept: Mutex<Vec<(String, Vec<u8>)>>,
    open: Mutex<Vec<TcpStream>>,
}

/// A listening cloud; its thread ends with the program.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Cloud {
    /// Listens on a free port.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("the pretend cloud cannot listen")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = Arc::clone(&serving);
                thread::spawn(move || {
                    // A connection ends as it likes; the gateway comes back.
                    let _ = serve(stream, &shared);
                });
            }
        });
        Ok(Self { port, shared })
    }

    /// Readings acknowledged so far.
    pub(crate) fn readings(&self) -> u64 {
        self.shared.readings.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Cuts who publishes control characters in a topic.
    pub(crate) fn be_strict(&self) {
        self.shared.strict.store(true, Ordering::Relaxed);
    }

    /// Cuts whose packet is larger.
    pub(crate) fn take_at_most(&self, bytes: usize) {
        self.shared.packet_max.store(bytes, Ordering::Relaxed);
    }

    /// Acknowledges nothing, or does again.
    pub(crate) fn be_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }

    /// Topics and payloads that are not readings of the device, in the order of their arrival.
    pub(crate) fn kept(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a message down, with QoS 1.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8]) {
        let bytes = Publish::new(topic, payload, 7).bytes();
        for mut stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // A connection that is gone hears nothing.
            let _ = stream.write_all(&bytes);
        }
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    shared.connections.fetch_add(1, Ordering::Relaxed);
    shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(stream.try_clone()?);
    let (mut input, mut buffer) = (Vec::new(), vec![0; READ_BYTES_MAX]);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..read]);
        let (mut used, mut answers) = (0, Vec::new());
        while let Some((first, body, length)) = head(&input[used..]) {
            let too_large = shared.packet_max.load(Ordering::Relaxed);
            let refused = too_large > 0 && length > too_large || !take(first, body, shared, &mut answers);
            if refused {
                return stream.shutdown(std::net::Shutdown::Both);
            }
            used += length;
        }
        input.drain(..used);
        stream.write_all(&answers)?;
    }
}

/// Answers one packet; `false`: it is one for which this cloud cuts its client.
fn take(first: u8, body: &[u8], shared: &Shared, answers: &mut Vec<u8>) -> bool {
    match first >> 4 {
        1 => answers.extend_from_slice(&[0x20, 2, 0, 0]),
        8 => {
            // One code per filter; what matters is only that there is an answer.
            let filters = filters(body);
            let mut suback = vec![0x90, u8::try_from(2 + filters).unwrap_or(127)];
            suback.extend_from_slice(&body[..2]);
            suback.resize(suback.len() + filters, 1);
            answers.extend(suback);
        }
        3 => {
            let Some((topic, payload)) = publish_parts(first, body) else { return false };
            let control = topic.chars().any(|c| c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c));
            if control && shared.strict.load(Ordering::Relaxed) {
                return false;
            }
            if shared.silent.load(Ordering::Relaxed) {
                return true;
            }
            if topic.starts_with("gw/meter/") {
                shared.readings.fetch_add(1, Ordering::Relaxed);
            } else {
                let mut kept = shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < KEPT_MAX {
                    kept.push((topic, payload));
                }
            }
            if first >> 1 & 3 > 0 {
                answers.extend(answer(0x40, super::client::publish_id(body)));
            }
        }
        12 => answers.extend_from_slice(&[0xd0, 0]),
        _ => {}
    }
    true
}

fn filters(body: &[u8]) -> usize {
    let (mut at, mut count) = (2, 0);
    while let Some([high, low]) = body.get(at..at + 2) {
        at += 3 + usize::from(u16::from_be_bytes([*high, *low]));
        count += 1;
    }
    count
}
