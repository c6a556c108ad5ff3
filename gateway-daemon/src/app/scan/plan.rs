//! Which settings of a line are tried, in which order.

use std::time::Duration;

use drivers::modbus::rtu::LATE_GUARD;
use gateway_core::poll::request::UnitId;
use gateway_core::poll::settings::{Bus, Connection, Medium, Parity, Serial};
use gateway_core::tag::Name;

use super::ScanError;
use crate::cli;

/// Functions 3, 4 and 43/14.
const QUESTIONS: u32 = 3;

/// A question on a serial line, and the silence before and behind it: 8 and twice 3.5 characters.
const FRAME_CHARS: u32 = 15;

/// What each question takes beside its time-out: the kernel, the adapter and this program.
const SLACK: Duration = Duration::from_millis(10);

/// One setting of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// How it is called: `19200 8E1` or the address.
    pub label: String,
    /// The line.
    pub bus: Bus,
}

impl Attempt {
    pub(super) fn error(&self, why: String) -> ScanError {
        ScanError::Line { label: self.label.clone(), why }
    }

    /// How long a unit that says nothing takes, and so the most that a unit takes on a line that is not disturbed: one that answers takes less. Without
    /// numbers of requests the second question ends with the fence before it, and the third waits for the guard after that (decision 0021).
    pub(super) fn silent_max(&self, timeout: Duration) -> Duration {
        let by_rtu = |frame: Duration| {
            let guard = LATE_GUARD.max(timeout.saturating_mul(2));
            let waits = timeout.saturating_mul(QUESTIONS - 1).saturating_add(guard);
            waits.saturating_add(frame.saturating_mul(QUESTIONS + 1))
        };
        match &self.bus.medium {
            Medium::Serial(serial) => by_rtu(serial.chars(FRAME_CHARS).saturating_add(SLACK)),
            Medium::RtuOverTcp { .. } => by_rtu(SLACK),
            _ => timeout.saturating_add(SLACK).saturating_mul(QUESTIONS),
        }
    }

    /// The unit of this number, where the line can have it.
    pub(super) fn unit(&self, number: u8) -> Option<UnitId> {
        match self.bus.medium {
            Medium::Tcp { .. } => Some(UnitId::tcp(number)),
            _ => UnitId::serial(number),
        }
    }
}

/// Every setting that the command line asks for, baud rates first.
#[must_use]
pub fn attempts(args: &cli::Scan) -> Vec<Attempt> {
    let connect_timeout = Duration::from_secs(5);
    let (connect_pause, connection) = (Duration::ZERO, Connection::Keep);
    let mut attempts = Vec::new();
    if let Some(endpoint) = &args.tcp {
        let (host, port) = (endpoint.host.clone(), endpoint.port.unwrap_or(502));
        let label = format!("{host}:{port}");
        attempts.extend(attempt(
            label,
            Medium::Tcp { host, port, pipeline: 1, connect_timeout, connect_pause, connection },
        ));
    }
    if let Some(endpoint) = &args.rtu_over_tcp {
        let (host, port) = (endpoint.host.clone(), endpoint.port.unwrap_or(502));
        let label = format!("{host}:{port}");
        let frame_silence = Duration::from_millis(50);
        attempts.extend(attempt(
            label,
            Medium::RtuOverTcp { host, port, connect_timeout, connect_pause, connection, frame_silence },
        ));
    }
    if let Some(path) = &args.port {
        for parity in &args.parity {
            for baud in &args.baud {
                // Two stop bits without parity, "MODBUS over Serial Line V1.02", 2.5.1; devices set to one understand it.
                let (letter, parity, stop_bits) = match parity {
                    cli::Parity::Even => ('E', Parity::Even, 1),
                    cli::Parity::Odd => ('O', Parity::Odd, 1),
                    cli::Parity::None => ('N', Parity::None, 2),
                };
                let label = format!("{} 8{letter}{stop_bits}", baud.0);
                let serial =
                    Serial { port: path.clone(), baud: baud.0, parity, data_bits: 8, stop_bits, rs485: None };
                attempts.extend(attempt(label, Medium::Serial(serial)));
            }
        }
    }
    attempts
}

fn attempt(label: String, medium: Medium) -> Option<Attempt> {
    let name = Name::new("scan").ok()?;
    Some(Attempt { label, bus: Bus { name, medium, probe_share: 0.0, fences: true, pause: Duration::ZERO } })
}
