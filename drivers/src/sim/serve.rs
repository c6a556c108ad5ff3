//! Slaves behind a byte stream (RTU), behind a TCP listener (Modbus TCP), and as the whole bus of `driver = "sim"`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway_core::poll::settings::Settings;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::model::Model;
use super::slave::{Tables, answer, request_len};
use crate::alarm::Alarm;
use crate::clock;
use crate::modbus::mbap::{self, Head, append_frame};
use crate::modbus::rtu::{FRAME_BYTES_MAX, append_crc, crc16};

/// Connections served at once; further ones wait.
const CONNECTIONS_MAX: usize = 32;
/// Incomplete requests are forgotten after this much silence.
const FORGET_AFTER: Duration = Duration::from_millis(30);
/// Bytes in a simulated line at most: a few frames.
const LINE_BYTES_MAX: usize = 4096;

/// The devices of a line by their unit. Broadcasts (unit 0) reach all of them.
pub type Units = BTreeMap<u8, Box<dyn Tables + Send>>;

/// The simulated bus of a configuration: one answering unit for each device of bus number `bus`, with every tag that is polled.
/// Must be called inside a tokio runtime; the slaves live as long as the returned end of the line.
#[must_use]
pub fn bus(settings: &Settings, bus: usize) -> DuplexStream {
    let mut units = Units::new();
    for (number, device) in settings.devices.iter().enumerate().filter(|(_, device)| device.bus == bus) {
        units.insert(device.unit.get(), Box::new(Model::of_device(settings, number)));
    }
    let (master, slaves) = tokio::io::duplex(LINE_BYTES_MAX);
    tokio::spawn(async move {
        if let Err(error) = rtu(slaves, units, Duration::from_micros(200)).await {
            log::debug!("simulated line closed: {error}");
        }
    });
    master
}

/// Serves RTU on a byte stream until it is closed; each answer begins `answer_after` after its request.
///
/// # Errors
/// The stream broke.
pub async fn rtu<S>(mut stream: S, mut units: Units, answer_after: Duration) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut alarm = Alarm::new()?;
    let mut input: Vec<u8> = Vec::new();
    let mut buffer = [0; FRAME_BYTES_MAX];
    loop {
        let read = tokio::select! {
            biased;
            read = stream.read(&mut buffer) => read?,
            rung = alarm.until(clock::now().plus(FORGET_AFTER)), if !input.is_empty() => {
                rung?;
                input.clear();
                continue;
            }
        };
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..read]);
        let arrived = clock::now();
        while let Some(frame) = take_frame(&mut input) {
            let Some(answer) = answer_frame(&mut units, &frame) else { continue };
            alarm.until(arrived.plus(answer_after)).await?;
            stream.write_all(&answer).await?;
        }
        if input.len() > FRAME_BYTES_MAX {
            input.clear();
        }
    }
}

/// Takes one whole request with a good checksum off the input.
pub(crate) fn take_frame(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = request_len(input.get(1..)?)? + 3;
    let (body, crc) = input.get(..len)?.split_at(len - 2);
    if crc16(body).to_le_bytes() != crc {
        return None;
    }
    let frame = body.to_vec();
    input.drain(..len);
    Some(frame)
}

/// The answer frame to a request frame without checksum; `None` to broadcasts and to units that are not here.
pub(crate) fn answer_frame(units: &mut Units, frame: &[u8]) -> Option<Vec<u8>> {
    let (&unit, pdu) = frame.split_first()?;
    let now = clock::now();
    if unit == 0 {
        for tables in units.values_mut().filter(|tables| !tables.is_silent()) {
            tables.at(now);
            answer(tables.as_mut(), pdu);
        }
        return None;
    }
    let tables = units.get_mut(&unit).filter(|tables| !tables.is_silent())?;
    tables.at(now);
    let mut frame = vec![unit];
    frame.extend(answer(tables.as_mut(), pdu));
    append_crc(&mut frame);
    Some(frame)
}

/// Serves Modbus TCP on a listener until the future is dropped; bind it to 127.0.0.1:0. Units that are not here do not answer.
///
/// # Errors
/// The listener broke.
pub async fn tcp(listener: TcpListener, units: Units) -> io::Result<()> {
    // The connections contend for the units; each holds the lock for one request and never across an await.
    let units = Arc::new(Mutex::new(units));
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connections.spawn(connection(stream, Arc::clone(&units)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut stream: TcpStream, units: Arc<Mutex<Units>>) -> io::Result<()> {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..read]);
        let mut out = Vec::new();
        loop {
            let taken = match mbap::head(&input) {
                Head::Incomplete => break,
                Head::Garbage => return Ok(()),
                Head::Frame(frame, len) => {
                    let mut units = units.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(tables) = units.get_mut(&frame.unit).filter(|tables| !tables.is_silent()) {
                        tables.at(clock::now());
                        append_frame(frame.id, frame.unit, &answer(tables.as_mut(), frame.pdu), &mut out);
                    }
                    len
                }
            };
            input.drain(..taken);
        }
        stream.write_all(&out).await?;
    }
}
