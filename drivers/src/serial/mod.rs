//! Serial ports: opening them exclusively by a stable path, with errors that say what to do.
//!
//! The port is locked (`TIOCEXCL` and flock), raw, with low latency where the driver knows it, and with RS485 direction
//! control where it is asked for. Pseudo terminals work: their line settings have no effect.

mod error;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use gateway_core::poll::settings::{Parity, Serial};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_serial::{ClearBuffer, DataBits, FlowControl, SerialPort, SerialStream, StopBits};

pub use error::{OpenError, existing_ports};

use crate::bus::{Wire, wire};
use crate::sys;

/// An open serial port.
#[derive(Debug)]
pub struct Port {
    stream: SerialStream,
}

/// A driver divides its clock; more than this much beside the wanted rate cannot be read (V1.02 of the serial line
/// specification, 2.3.1, asks for 1 % of the sender and 2 % of the receiver).
const BAUD_TOLERANCE_PERCENT: u64 = 3;

/// Opens a port with its settings. Must be called inside a tokio runtime.
///
/// # Errors
/// Says what is wrong with the port and what to do.
pub fn open(serial: &Serial) -> Result<Port, OpenError> {
    error::look(serial)?;
    let (data_bits, parity, stop_bits) = characters(serial)?;
    let builder = tokio_serial::new(serial.port.to_string_lossy(), serial.baud)
        .data_bits(data_bits)
        .parity(parity)
        .stop_bits(stop_bits)
        .flow_control(FlowControl::None)
        .exclusive(true);
    let stream = SerialStream::open(&builder).map_err(|error| error::explain(serial, &error))?;
    let wanted = u64::from(serial.baud);
    if stream
        .baud_rate()
        .is_ok_and(|actual| u64::from(actual).abs_diff(wanted) * 100 > wanted * BAUD_TOLERANCE_PERCENT)
    {
        return Err(OpenError::Baud { port: serial.port.clone(), baud: serial.baud });
    }
    if let Some(rs485) = &serial.rs485 {
        sys::set_rs485(&stream, rs485)
            .map_err(|source| OpenError::Rs485 { port: serial.port.clone(), source })?;
    }
    if let Err(error) = sys::set_low_latency(&stream) {
        log::debug!(port = serial.port.to_string_lossy().as_ref(); "the driver has no low latency setting: {error}");
    }
    Ok(Port { stream })
}

fn characters(serial: &Serial) -> Result<(DataBits, tokio_serial::Parity, StopBits), OpenError> {
    let data_bits = match serial.data_bits {
        7 => DataBits::Seven,
        8 => DataBits::Eight,
        bits => {
            return Err(OpenError::Characters {
                port: serial.port.clone(),
                what: format!("{bits} data bits"),
            });
        }
    };
    let parity = match serial.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    };
    let stop_bits = match serial.stop_bits {
        1 => StopBits::One,
        2 => StopBits::Two,
        bits => {
            return Err(OpenError::Characters {
                port: serial.port.clone(),
                what: format!("{bits} stop bits"),
            });
        }
    };
    Ok((data_bits, parity, stop_bits))
}

impl Wire for Port {
    fn read_waiting(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        wire::found(self.stream.try_read(buffer))
    }

    fn flush_input(&mut self) -> io::Result<()> {
        self.stream.clear(ClearBuffer::Input).map_err(io::Error::from)
    }

    fn unsent_bytes(&self) -> u32 {
        sys::output_pending(&self.stream).unwrap_or(0)
    }

    fn is_line(&self) -> bool {
        true
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Closing a terminal waits up to 30 s for output that a dead line will never take.
        let _ = self.stream.clear(ClearBuffer::All);
    }
}

impl AsyncRead for Port {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Port {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // SerialStream's flush is a blocking tcdrain; the RTU master computes the end of a frame instead.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
