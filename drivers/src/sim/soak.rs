//! The RTU master against a hostile line in virtual time: a million polls in seconds, and the same million for the same seed.
//!
//! The line is full duplex, so that a late answer reaches the master undamaged at the worst moment: a collision would protect it.
//! Units keep requests in a queue and answer them in order, each at most once, after a time that has no limit; answers and
//! requests get lost, damaged and cut, noise and frames of strangers come in between, reads are held up and merge what came in
//! the meantime. Every value is a hash of the number of its request, so an answer to any other request, even to the same question
//! asked before, is seen as wrong.

use std::collections::VecDeque;
use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault, Query, Request, Table, UnitId};
use gateway_core::tag::BootNs;

use super::slave::{self, Tables};
use super::{Dice, mix};
use crate::modbus::rtu::{Ask, Counters, Master, Step, Timing, append_crc};

/// What is done to the line. Each number is "once in so many", 0 is never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Requests to make.
    pub polls: u64,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Bits per second at 11 bits a character.
    pub baud: u32,
    /// Answers that are later than the timeout, up to 40 times as late.
    pub late: u64,
    /// Requests or answers that are lost.
    pub lost: u64,
    /// Answers with a wrong bit.
    pub damaged: u64,
    /// Answers that are cut short.
    pub cut: u64,
    /// Polls with up to 30 bytes of noise somewhere.
    pub noise: u64,
    /// Polls with a frame of a stranger somewhere.
    pub foreign: u64,
    /// Whether the line echoes what the master sends.
    pub echo: bool,
    /// Whether the master protects itself from late answers by fences; without them, and with units later than its
    /// guard, the soak must find wrong values, or it would prove nothing.
    pub fences: bool,
    /// So many of the units ignore fences; their answers are never later than the guard of the master, and neither are those of
    /// a unit that has not answered `FENCES_KNOWN` fences yet.
    pub deaf_units: u8,
}

impl Settings {
    /// Everything that the master claims to survive.
    #[must_use]
    pub fn hostile(polls: u64, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        Self {
            polls,
            seed,
            baud: [9600, 19_200, 115_200][usize::try_from(dice.below(3)).unwrap_or(0)],
            late: 15,
            lost: 40,
            damaged: 60,
            cut: 60,
            noise: 40,
            foreign: 60,
            echo: dice.once_in(2),
            fences: true,
            deaf_units: 1,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Requests that ended.
    pub polls: u64,
    /// Right values.
    pub right: u64,
    /// Values of another request: must be 0.
    pub wrong: u64,
    /// Requests without a value.
    pub faults: u64,
    /// Answers that began after the timeout of their request.
    pub late: u64,
    /// Requests that went out before their silence was over: must be 0.
    pub early_requests: u64,
    /// Virtual time.
    pub elapsed: Duration,
    /// What the master counted.
    pub counters: Counters,
}

const UNITS: u8 = 4;
/// After so many whole answers to fences the master knows that a unit hears them, even if noise hid some.
const FENCES_KNOWN: u32 = 4;
const TIMEOUT: Duration = Duration::from_millis(100);

/// A byte on its way to the master: when its last bit arrives.
#[derive(Debug, Clone, Copy)]
struct Flying {
    at: u64,
    byte: u8,
}

struct World {
    settings: Settings,
    dice: Dice,
    character_ns: u64,
    to_master: VecDeque<Flying>,
    line_free_at: u64,
    unit_free_at: [u64; UNITS as usize + 1],
    /// Answers to fences, for each unit.
    fences_answered: [u32; UNITS as usize + 1],
    late: u64,
    line_busy_until: u64,
    early_requests: u64,
}

/// A device whose every value tells which request it answers.
struct Marked(u64);

impl Tables for Marked {
    fn register(&mut self, _: Table, address: u16) -> Result<u16, u8> {
        Ok(mark(self.0, address))
    }
    fn bit(&mut self, _: Table, address: u16) -> Result<bool, u8> {
        Ok(mark(self.0, address) & 1 == 1)
    }
    fn set_register(&mut self, _: u16, _: u16) -> Result<(), u8> {
        Ok(())
    }
}

fn mark(request: u64, address: u16) -> u16 {
    let bytes = mix(request.wrapping_mul(65_537) ^ u64::from(address)).to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// Runs a soak to its end. Pure: the same settings give the same report.
#[must_use]
pub fn run(settings: &Settings) -> Report {
    let character = Duration::from_nanos(11_000_000_000 / u64::from(settings.baud.max(1)));
    let silence = if settings.baud > 19_200 { Duration::from_micros(1750) } else { character * 7 / 2 };
    let timing =
        Timing { character, silence, gap: silence + Duration::from_millis(20), fences: settings.fences };
    let mut now = 1_000_000_000;
    let mut master = Master::new(timing, BootNs(now));
    let mut world = World {
        dice: Dice::new(settings.seed ^ 0x50AC),
        settings: settings.clone(),
        character_ns: u64::try_from(character.as_nanos()).unwrap_or(1),
        to_master: VecDeque::new(),
        line_free_at: 0,
        unit_free_at: [0; UNITS as usize + 1],
        fences_answered: [0; UNITS as usize + 1],
        late: 0,
        line_busy_until: 0,
        early_requests: 0,
    };
    let started = now;
    let (mut right, mut wrong, mut faults) = (0, 0, 0);
    for number in 0..settings.polls {
        let request = world.choose(number);
        let query = request.query.clone();
        let ask = Ask {
            request,
            timeout: TIMEOUT,
            delay_before: Duration::ZERO,
            turnaround: Duration::from_millis(5),
        };
        if master.start(BootNs(now), ask).is_err() {
            break;
        }
        let outcome = world.exchange(&mut master, &mut now, number, silence);
        match outcome {
            Ok(answer) if answer == expected(number, &query) => right += 1,
            Ok(_) => wrong += 1,
            Err(_) => faults += 1,
        }
        now += world.dice.below(2_000_000);
    }
    Report {
        polls: right + wrong + faults,
        right,
        wrong,
        faults,
        late: world.late,
        early_requests: world.early_requests,
        elapsed: Duration::from_nanos(now - started),
        counters: *master.counters(),
    }
}

fn expected(number: u64, query: &Query) -> Answer {
    match query {
        Query::Read { table: Table::Coil | Table::Discrete, address, count } => {
            Answer::Bits((*address..address + count).map(|a| mark(number, a) & 1 == 1).collect())
        }
        Query::Read { address, count, .. } => {
            Answer::Registers((*address..address + count).map(|a| mark(number, a)).collect())
        }
        _ => Answer::Done,
    }
}

impl World {
    /// Few shapes, so that a late answer often fits the next request.
    fn choose(&mut self, number: u64) -> Request {
        let unit = 1 + u8::try_from(self.dice.below(u64::from(UNITS))).unwrap_or(0);
        let address = u16::try_from(self.dice.below(8)).unwrap_or(0) * 64;
        let query = match self.dice.below(8) {
            0 => Query::Read { table: Table::Coil, address, count: 64 },
            1 => Query::WriteRegister { address, value: mark(number, 1) },
            2 => Query::Read { table: Table::Input, address, count: 4 },
            _ => Query::Read { table: Table::Holding, address, count: 4 },
        };
        Request { unit: UnitId::serial(unit).unwrap_or(UnitId::BROADCAST), query }
    }

    fn exchange(
        &mut self,
        master: &mut Master,
        now: &mut u64,
        number: u64,
        silence: Duration,
    ) -> Result<Answer, LineFault> {
        loop {
            match master.poll(BootNs(*now)) {
                Step::Done(outcome) => return outcome,
                Step::Idle => return Err(LineFault::Down),
                Step::Wait(until) => self.wait(master, now, until.0),
                Step::Send => {
                    let drained = self.arrived_by(*now);
                    if !drained.is_empty() {
                        master.received(BootNs(*now), &drained);
                        continue;
                    }
                    self.check_silence(*now, silence);
                    let frame = master.frame().to_vec();
                    master.sent(BootNs(*now), BootNs(*now));
                    self.transmit(*now, &frame, number);
                }
            }
        }
    }

    /// Sleeps until bytes can be read or the time has come; both are a little late, sometimes very.
    fn wait(&mut self, master: &mut Master, now: &mut u64, until: u64) {
        let next = self.to_master.front().map_or(u64::MAX, |flying| flying.at);
        *now = (*now).max(next.min(until)) + self.held_up();
        let bytes = self.arrived_by(*now);
        master.received(BootNs(*now), &bytes);
    }

    fn held_up(&mut self) -> u64 {
        match self.dice.below(200) {
            0 => self.dice.below(16_000_000),
            1..=40 => self.dice.below(1_000_000),
            _ => self.dice.below(60_000),
        }
    }

    fn arrived_by(&mut self, now: u64) -> Vec<u8> {
        let count = self.to_master.iter().take_while(|flying| flying.at <= now).count();
        self.to_master.drain(..count).map(|flying| flying.byte).collect()
    }

    /// The silence before a request counts from the last byte that the master can have seen.
    fn check_silence(&mut self, now: u64, silence: Duration) {
        let due = self.line_busy_until.saturating_add(u64::try_from(silence.as_nanos()).unwrap_or(0));
        self.early_requests += u64::from(now < due);
    }

    /// Puts the master's frame on the line: its echo, and the answer of the unit.
    fn transmit(&mut self, begun: u64, frame: &[u8], number: u64) {
        let end = begun + self.character_ns * frame.len() as u64;
        self.line_busy_until = end;
        if self.settings.echo {
            self.send_to_master(begun, frame);
        }
        self.disturb(begun);
        let unit = usize::from(frame[0]);
        let fence = frame[1] == 8;
        let deaf = frame[0] <= self.settings.deaf_units;
        if unit > usize::from(UNITS) || (fence && deaf) || self.dice.once_in(self.settings.lost) {
            return;
        }
        let latency = self.latency(self.settings.fences && self.fences_answered[unit] < FENCES_KNOWN);
        let at = end.max(self.unit_free_at[unit]) + latency;
        let pdu = if fence && unit == 2 {
            vec![0x88, slave::exception::FUNCTION]
        } else {
            slave::answer(&mut Marked(number), &frame[1..frame.len() - 2])
        };
        let mut answer = [&[frame[0]], pdu.as_slice()].concat();
        append_crc(&mut answer);
        self.unit_free_at[unit] = at + self.character_ns * answer.len() as u64;
        if self.dice.once_in(self.settings.lost) {
            return;
        }
        self.late += u64::from(at > end + u64::try_from(TIMEOUT.as_nanos()).unwrap_or(0));
        let damaged = self.dice.once_in(self.settings.damaged);
        if damaged {
            let place = usize::try_from(self.dice.below(answer.len() as u64)).unwrap_or(0);
            answer[place] ^= 1 << self.dice.below(8);
        }
        let cut = self.dice.once_in(self.settings.cut);
        if cut {
            answer.truncate(usize::try_from(self.dice.below(answer.len() as u64)).unwrap_or(0));
        }
        self.fences_answered[unit] += u32::from(fence && !damaged && !cut);
        self.send_to_master(at, &answer);
    }

    /// From one character to 40 timeouts; a guarded unit stays below the guard of 1 s, its queue included.
    fn latency(&mut self, guarded: bool) -> u64 {
        let timeout = u64::try_from(TIMEOUT.as_nanos()).unwrap_or(0);
        if !self.dice.once_in(self.settings.late) {
            return self.character_ns + self.dice.below(timeout / 4);
        }
        let times = if guarded { 3 } else { 1 << self.dice.below(6) };
        timeout / 2 + self.dice.below(times * timeout)
    }

    fn disturb(&mut self, begun: u64) {
        let at = begun + self.dice.below(150_000_000);
        if self.dice.once_in(self.settings.noise) {
            let noise: Vec<u8> = (0..=self.dice.below(30)).map(|_| self.dice.byte()).collect();
            self.send_to_master(at, &noise);
        }
        if self.dice.once_in(self.settings.foreign) {
            let mut frame = vec![77, 3, 8, 1, 2, 3, 4, 5, 6, 7, 8];
            append_crc(&mut frame);
            self.send_to_master(at, &frame);
        }
    }

    /// Puts bytes on the way to the master, after what is there already.
    fn send_to_master(&mut self, at: u64, bytes: &[u8]) {
        let mut at = at;
        let overlaps = |flying: &Flying| flying.at >= at;
        if self.to_master.iter().any(overlaps) && !self.settings.echo {
            at = at.max(self.line_free_at);
        }
        for byte in bytes {
            at += self.character_ns;
            let place = self.to_master.partition_point(|flying| flying.at <= at);
            self.to_master.insert(place, Flying { at, byte: *byte });
        }
        self.line_free_at = self.line_free_at.max(at);
    }
}
