//! Several Modbus units behind one line (RTU frames through TCP): holding registers 0 and 1 of each are a u32 that counts the requests
//! answered by it, the others are set by the test. Any unit can be told to stay silent.
//!
//! Written by hand and not with `drivers`, so that the two can disagree.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Registers of a unit.
const REGISTERS: usize = 16;

#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    answered: u32,
    asked: u32,
    mute: bool,
    registers: [u16; REGISTERS],
}

/// A running line; it is gone with the value.
#[derive(Debug)]
pub struct Panel {
    /// TCP port on 127.0.0.1.
    pub port: u16,
    // The serving task and the test; both hold it for a moment only.
    units: Arc<Mutex<BTreeMap<u8, Unit>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Panel {
    /// Starts a line with these units on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(units: &[u8]) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let units: BTreeMap<u8, Unit> = units.iter().map(|unit| (*unit, Unit::default())).collect();
        let units = Arc::new(Mutex::new(units));
        let shared = Arc::clone(&units);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { port, units, task })
    }

    fn unit<T>(&self, unit: u8, look: impl FnOnce(&mut Unit) -> T) -> T {
        look(self.units.lock().expect("no holder panics").entry(unit).or_default())
    }

    /// How many requests a unit has answered.
    #[must_use]
    pub fn answered(&self, unit: u8) -> u32 {
        self.unit(unit, |unit| unit.answered)
    }

    /// How many requests a unit has heard, answered or not.
    #[must_use]
    pub fn asked(&self, unit: u8) -> u32 {
        self.unit(unit, |unit| unit.asked)
    }

    /// Whether a unit stays silent from here on.
    pub fn set_mute(&self, unit: u8, mute: bool) {
        self.unit(unit, |unit| unit.mute = mute);
    }

    /// Sets a register of a unit; 0 and 1 count by themselves.
    pub fn set(&self, unit: u8, address: usize, value: u16) {
        self.unit(unit, |unit| {
            if let Some(register) = unit.registers.get_mut(address) {
                *register = value;
            }
        });
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, units: Arc<Mutex<BTreeMap<u8, Unit>>>) {
    // Function 3 is all that is asked here: eight bytes.
    let mut frame = [0_u8; 8];
    while stream.read_exact(&mut frame).await.is_ok() {
        let Some(answer) = answer(frame, &units) else { continue };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn answer(frame: [u8; 8], units: &Mutex<BTreeMap<u8, Unit>>) -> Option<Vec<u8>> {
    let mut units = units.lock().expect("no holder panics");
    let unit = units.get_mut(&frame[0])?;
    unit.asked += 1;
    if unit.mute || crc(&frame[..6]) != frame[6..] {
        return None;
    }
    unit.answered += 1;
    let count = unit.answered.to_be_bytes();
    unit.registers[0] = u16::from_be_bytes([count[0], count[1]]);
    unit.registers[1] = u16::from_be_bytes([count[2], count[3]]);
    let first = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
    let registers = usize::from(u16::from_be_bytes([frame[4], frame[5]]));
    let mut answer = match unit.registers.get(first..first + registers) {
        Some(found) if frame[1] == 3 && !found.is_empty() => {
            let bytes = u8::try_from(found.len() * 2).expect("at most 32");
            let values = found.iter().flat_map(|value| value.to_be_bytes());
            [frame[0], 3, bytes].into_iter().chain(values).collect::<Vec<u8>>()
        }
        _ => vec![frame[0], frame[1] | 0x80, 2],
    };
    answer.extend(crc(&answer));
    Some(answer)
}

/// "MODBUS over Serial Line V1.02", 6.2.2; low byte first.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1 == 1;
            crc >>= 1;
            if carry {
                crc ^= 0xA001;
            }
        }
    }
    crc.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::crc;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc(&[0x02, 0x07]), [0x41, 0x12]);
    }
}
