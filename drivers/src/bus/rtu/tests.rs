//! The reader of an RTU line in virtual time, with a thread that runs late.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use gateway_core::poll::request::{Answer, Query, Request, Table, UnitId};
use gateway_core::poll::settings::{Parity, Serial};
use gateway_core::tag::BootNs;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::exchange;
use crate::alarm::Alarm;
use crate::bus::Wire;
use crate::clock;
use crate::modbus::rtu::{Ask, Counters, Master, Timing};
use crate::sim::Dice;
use crate::sim::model::Model;
use crate::sim::serve::{Units, answer_frame, take_frame};
use crate::virtual_time::VirtualTime;

/// A line without faults behind an adapter. Its bytes come on time; what the runtime knows of them is as old as the runtime's last look.
struct Adapter {
    arriving: VecDeque<(BootNs, u8)>,
    units: Units,
    heard: Vec<u8>,
    character: Duration,
    silence: Duration,
    /// What has come is handed over every so often only.
    burst: Duration,
    /// The runtime learns of the next byte with it.
    news: Option<Pin<Box<Sleep>>>,
    /// Reads that do not wait find nothing, as if only the runtime could be asked.
    blind: bool,
}

impl Adapter {
    fn take_arrived(&mut self, room: usize) -> Vec<u8> {
        let now = clock::now();
        let count = self.arriving.iter().take_while(|(at, _)| *at <= now).count().min(room);
        self.arriving.drain(..count).map(|(_, byte)| byte).collect()
    }
}

impl AsyncRead for Adapter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(&(at, _)) = self.arriving.front() else { return Poll::Pending };
        let after = at.since(clock::now()).max(Duration::from_millis(1));
        let news = self.news.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        if news.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.news = None;
        let bytes = self.take_arrived(buffer.remaining());
        if bytes.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Adapter {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.heard.extend_from_slice(bytes);
        let sent = clock::now().plus(self.character * u32::try_from(bytes.len()).unwrap());
        let this = &mut *self;
        while let Some(request) = take_frame(&mut this.heard) {
            let Some(answer) = answer_frame(&mut this.units, &request) else { continue };
            let mut at = sent.plus(this.silence);
            for byte in answer {
                at = at.plus(this.character);
                let burst = u64::try_from(this.burst.as_nanos()).unwrap();
                this.arriving.push_back((BootNs(at.0.checked_next_multiple_of(burst).unwrap_or(at.0)), byte));
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Wire for Adapter {
    fn read_waiting(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let bytes = if self.blind { Vec::new() } else { self.take_arrived(buffer.len()) };
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok((!bytes.is_empty()).then_some(bytes.len()))
    }

    fn is_line(&self) -> bool {
        true
    }
}

/// Reads `requests` times while the thread wakes up late: every third time by up to `late_max`.
async fn polled(baud: u32, burst: Duration, late_max: Duration, requests: u64, blind: bool) -> Counters {
    let time = VirtualTime::begin();
    let mut dice = Dice::new(u64::from(baud) ^ u64::try_from(burst.as_nanos()).unwrap());
    let late_max_ns = u64::try_from(late_max.as_nanos()).unwrap();
    time.wake_late(move || {
        Duration::from_nanos(if dice.once_in(3) { dice.below(late_max_ns) } else { dice.below(60_000) })
    });
    let serial =
        Serial { port: "none".into(), baud, parity: Parity::Even, data_bits: 8, stop_bits: 1, rs485: None };
    let mut wire = Adapter {
        arriving: VecDeque::new(),
        units: [(1, Box::new(Model::power_meter()) as _)].into(),
        heard: Vec::new(),
        character: serial.chars(1),
        silence: serial.frame_silence(),
        burst,
        news: None,
        blind,
    };
    let mut master = Master::new(Timing::serial(&serial), clock::now());
    let mut alarm = Alarm::new().unwrap();
    for number in 0..requests {
        let count = [1, 2, 4, 6][usize::try_from(number % 4).unwrap()];
        let query = Query::Read { table: Table::Holding, address: 0, count };
        let request = Request { unit: UnitId::serial(1).unwrap(), query };
        let timeout = Duration::from_millis(300);
        let ask = Ask { request, timeout, delay_before: Duration::ZERO, turnaround: Duration::ZERO };
        master.start(clock::now(), ask).unwrap();
        let outcome = exchange(&mut wire, &mut master, &mut alarm).await.unwrap();
        if !blind {
            assert!(
                matches!(outcome, Ok(Answer::Registers(_))),
                "request {number} at {baud}, {burst:?}: {outcome:?}"
            );
        }
    }
    *master.counters()
}

#[tokio::test(start_paused = true)]
async fn a_late_thread_loses_no_answer_on_a_line_without_errors() {
    for baud in [9600, 19_200, 115_200] {
        for burst in [0, 4, 16].map(Duration::from_millis) {
            for late_max in [25, 60, 900].map(Duration::from_millis) {
                let counters = polled(baud, burst, late_max, 300, false).await;
                assert_eq!((counters.answers, counters.fences, counters.strays), (300, 0, 0), "{counters:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_asks_only_the_runtime_would_lose_answers_so_the_test_above_can_fail() {
    let counters = polled(115_200, Duration::from_millis(16), Duration::from_millis(60), 300, true).await;
    assert!(counters.short + counters.checksum + counters.silent > 0, "{counters:?}");
}
