//! A Modbus TCP gateway with several units on one line behind it: it serves one request after the other, whoever asks. Each register holds its own
//! address unless the test sets it, and each unit does as it is told.
//!
//! Written by hand and not with `drivers`, so that the two can disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Requests of a unit that are remembered.
const REQUESTS_MAX: usize = 100_000;

/// What a unit does with a request.
#[derive(Debug, Clone, Copy, Default)]
pub enum Manner {
    /// Answers it.
    #[default]
    Answers,
    /// Answers with this exception.
    Refuses(u8),
    /// The gateway answers with this exception after so long, as the unit is silent, and serves nobody meanwhile.
    Lost(u8, Duration),
    /// Answers as if it were this unit.
    As(u8),
    /// Answers with so many registers less.
    Cut(u16),
    /// Answers with a transaction id that is so much higher.
    Id(u16),
}

#[derive(Debug, Default)]
struct Unit {
    manner: Manner,
    registers: BTreeMap<u16, u16>,
    illegal: BTreeSet<u16>,
    /// How many registers each request wanted.
    requests: Vec<u16>,
}

type Shared = Arc<Mutex<BTreeMap<u8, Unit>>>;

/// A running gateway; it is gone with the value.
#[derive(Debug)]
pub struct Units {
    /// TCP port on 127.0.0.1.
    pub port: u16,
    // The serving task and the test; both hold it for a moment only.
    units: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Units {
    /// Starts one on a free port. It has every unit.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let units = Shared::default();
        let shared = Arc::clone(&units);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { port, units, task })
    }

    fn unit<T>(&self, unit: u8, look: impl FnOnce(&mut Unit) -> T) -> T {
        look(lock(&self.units).entry(unit).or_default())
    }

    /// What a unit does from here on.
    pub fn set_manner(&self, unit: u8, manner: Manner) {
        self.unit(unit, |unit| unit.manner = manner);
    }

    /// Sets registers of a unit.
    pub fn set(&self, unit: u8, address: u16, values: &[u16]) {
        self.unit(unit, |unit| unit.registers.extend((address..).zip(values.iter().copied())));
    }

    /// Whether a unit answers requests for this register with exception 2 from here on.
    pub fn set_illegal(&self, unit: u8, address: u16, illegal: bool) {
        self.unit(
            unit,
            |unit| if illegal { unit.illegal.insert(address) } else { unit.illegal.remove(&address) },
        );
    }

    /// How many registers each request to a unit wanted, in their order.
    #[must_use]
    pub fn requests(&self, unit: u8) -> Vec<u16> {
        self.unit(unit, |unit| unit.requests.clone())
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(units: &Shared) -> MutexGuard<'_, BTreeMap<u8, Unit>> {
    units.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, units: Shared) {
    let mut frame = [0_u8; 12];
    while stream.read_exact(&mut frame).await.is_ok() {
        let (wait, answer) = answer(frame, &units);
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// How long the line is busy, and the answer.
fn answer(frame: [u8; 12], units: &Shared) -> (Option<Duration>, Vec<u8>) {
    let (asked, function) = (frame[6], frame[7]);
    let first = u16::from_be_bytes([frame[8], frame[9]]);
    let count = u16::from_be_bytes([frame[10], frame[11]]);
    let mut units = lock(units);
    let unit = units.entry(asked).or_default();
    if unit.requests.len() < REQUESTS_MAX {
        unit.requests.push(count);
    }
    let id = u16::from_be_bytes([frame[0], frame[1]]);
    let (mut id, mut as_unit, mut sent, mut wait) = (id, asked, count, None);
    let mut refusal = None;
    match unit.manner {
        Manner::Answers => {}
        Manner::Refuses(code) => refusal = Some(code),
        Manner::Lost(code, after) => (refusal, wait) = (Some(code), Some(after)),
        Manner::As(other) => as_unit = other,
        Manner::Cut(less) => sent = count.saturating_sub(less),
        Manner::Id(more) => id = id.wrapping_add(more),
    }
    let addresses = || (first..).take(usize::from(sent));
    if function != 3 || !(1..=125).contains(&count) {
        refusal.get_or_insert(1);
    } else if (first..).take(usize::from(count)).any(|address| unit.illegal.contains(&address)) {
        refusal.get_or_insert(2);
    }
    let pdu = match refusal {
        Some(code) => vec![function | 0x80, code],
        None => {
            let values =
                addresses().flat_map(|at| unit.registers.get(&at).copied().unwrap_or(at).to_be_bytes());
            let bytes = u8::try_from(sent * 2).unwrap_or(u8::MAX);
            [function, bytes].into_iter().chain(values).collect()
        }
    };
    let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
    (wait, [&id.to_be_bytes()[..], &[0, 0], &length.to_be_bytes(), &[as_unit], &pdu].concat())
}
