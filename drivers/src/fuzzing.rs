//! Entry points of the fuzz targets, replayed over the committed corpora by every test run. Not part of the public interface.

use std::time::Duration;

use gateway_core::poll::request::{Query, Request, Table, UnitId};
use gateway_core::tag::BootNs;

use crate::modbus::mbap::{self, Client};
use crate::modbus::pdu;
use crate::modbus::rtu::{Ask, Master, Step, Timing};
use crate::sim::model::Model;
use crate::sim::slave::answer;

/// Chosen by the first byte of an input.
fn query(pick: u8) -> Query {
    match pick % 11 {
        0 => Query::Read { table: Table::Coil, address: 3, count: 19 },
        1 => Query::Read { table: Table::Discrete, address: 3, count: 2000 },
        2 => Query::Read { table: Table::Holding, address: 3, count: 2 },
        3 => Query::Read { table: Table::Input, address: 3, count: 125 },
        4 => Query::WriteCoil { address: 3, on: true },
        5 => Query::WriteRegister { address: 3, value: 4 },
        6 => Query::WriteCoils { address: 3, on: vec![true; 9] },
        7 => Query::WriteRegisters { address: 3, values: vec![1, 2] },
        8 => Query::MaskWrite { address: 3, and: 1, or: 2 },
        9 => Query::ReadWrite { read_address: 3, read_count: 2, write_address: 9, values: vec![7] },
        _ => Query::Identify { code: 1 + pick / 11 % 4, object: 0 },
    }
}

/// Drives an RTU master with `data`: a query, then alternately how much time passes and how many bytes come. It must neither panic
/// nor stay in one exchange for ever.
///
/// # Panics
/// When the master breaks its word; that is what fuzzing looks for.
#[allow(clippy::panic, reason = "the way a fuzz target reports")]
pub fn fuzz_rtu(data: &[u8]) {
    let Some((&pick, mut rest)) = data.split_first() else { return };
    let timing = Timing {
        character: Duration::from_micros(573),
        silence: Duration::from_micros(2005),
        gap: Duration::from_millis(22),
        fences: pick & 0x80 == 0,
    };
    let mut now = BootNs(1_000_000_000);
    let mut master = Master::new(timing, now);
    let unit = UnitId::serial(rest.first().copied().unwrap_or(1)).unwrap_or(UnitId::tcp(1));
    for round in 0..4u8 {
        let request = Request { unit, query: query(pick.wrapping_add(round)) };
        let (timeout, delay_before) = (Duration::from_millis(100), Duration::ZERO);
        if master.start(now, Ask { request, timeout, delay_before, turnaround: timeout }).is_err() {
            return;
        }
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 10_000, "an exchange does not end");
            match master.poll(now) {
                Step::Done(_) | Step::Idle => break,
                Step::Send => {
                    assert!(pdu::PDU_BYTES_MAX + 3 >= master.frame().len());
                    master.sent(now, now);
                }
                Step::Wait(until) => {
                    assert!(until > now, "a wait into the past");
                    let [wait, bytes, tail @ ..] = rest else {
                        now = until;
                        continue;
                    };
                    let (chunk, tail) = tail.split_at(usize::from(*bytes % 64).min(tail.len()));
                    now = until.min(now.plus(Duration::from_micros(u64::from(*wait) * 100)));
                    master.received(now, chunk);
                    rest = tail;
                }
            }
        }
    }
}

/// Feeds `data` to a Modbus TCP client with requests in flight, and to a Modbus server.
///
/// # Panics
/// When a request ends twice or not at all.
#[allow(clippy::panic, reason = "the way a fuzz target reports")]
pub fn fuzz_mbap(data: &[u8]) {
    let Some((&pick, rest)) = data.split_first() else { return };
    let mut client = Client::new();
    let mut out = Vec::new();
    for key in 0..4u8 {
        let request = Request { unit: UnitId::tcp(1), query: query(pick.wrapping_add(key)) };
        let timeout = Duration::from_nanos(1);
        if client.send(BootNs(0), u64::from(key), &request, timeout, &mut out).is_err() {
            return;
        }
    }
    for chunk in rest.chunks(usize::from(pick).max(1)) {
        if client.received(BootNs(0), chunk).is_err() {
            client.abandon();
        }
    }
    let mut ended = 0;
    while client.poll(BootNs(1)).is_some() {
        ended += 1;
    }
    assert_eq!(ended, 4, "every request ends once");
    if let mbap::Head::Frame(frame, _) = mbap::head(rest) {
        assert!(answer(&mut Model::power_meter(), frame.pdu).len() <= pdu::PDU_BYTES_MAX);
    }
    assert!(answer(&mut Model::io_module(), rest).len() <= pdu::PDU_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use super::{fuzz_mbap, fuzz_rtu};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn fuzz_targets_hold_on_random_input(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_rtu(&data);
            fuzz_mbap(&data);
        }
    }
}
