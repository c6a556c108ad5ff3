//! Points to the fewest requests.
//!
//! A block is one stretch of one table. It may hold registers nobody wants, but only in runs of at most `gap_max`
//! (16 times as many bits), and never more than the device takes in one request. A point is never cut: one that is
//! longer than the device's limit becomes a block of its own, which `check` refuses.
//!
//! Going from the lowest address up and stretching each block as far as it may go needs the fewest blocks: whatever
//! other block holds the lowest point that is left starts there as well and reaches no further.

use std::cmp::Reverse;

use crate::poll::request::{Query, Request, Table, UnitId};
use crate::poll::settings::{Device, Point};

/// One past the highest address.
const ADDRESS_END: u32 = 0x1_0000;

/// Bits that cost as much on the wire as one register.
const BITS_PER_REGISTER: u32 = 16;

/// Most registers of one read ("MODBUS Application Protocol V1.1b3", 6.3).
pub const REGISTERS_MAX: u16 = 125;

/// Most bits of one read ("MODBUS Application Protocol V1.1b3", 6.1).
pub const BITS_MAX: u16 = 2000;

/// What one request to a device may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most registers, 1 to [`REGISTERS_MAX`].
    pub registers_max: u16,
    /// Most bits, 1 to [`BITS_MAX`].
    pub bits_max: u16,
    /// Longest run of unwanted registers, or 16 times as many bits.
    pub gap_max: u16,
    /// Whether every address gets its own request.
    pub one_by_one: bool,
}

impl Limits {
    /// The limits of a device, cut to those of the standard.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        Self {
            registers_max: device.registers_max.clamp(1, REGISTERS_MAX),
            bits_max: device.bits_max.clamp(1, BITS_MAX),
            gap_max: device.gap_max,
            one_by_one: device.one_by_one,
        }
    }

    /// Most registers or bits of one request to a table.
    #[must_use]
    pub fn length_max(&self, table: Table) -> u32 {
        match table {
            Table::Coil | Table::Discrete => u32::from(self.bits_max),
            Table::Holding | Table::Input => u32::from(self.registers_max),
        }
    }

    /// Longest run of unwanted registers or bits within a request to a table.
    #[must_use]
    pub fn gap_max(&self, table: Table) -> u32 {
        match table {
            Table::Coil | Table::Discrete => u32::from(self.gap_max).saturating_mul(BITS_PER_REGISTER),
            Table::Holding | Table::Input => u32::from(self.gap_max),
        }
    }
}

/// The addresses a point takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which table.
    pub table: Table,
    /// First address.
    pub start: u32,
    /// One past the last address.
    pub end: u32,
    /// Whether the device refuses these addresses: they are asked alone and no other block runs over them.
    pub refused: bool,
}

impl From<&Point> for Span {
    fn from(point: &Point) -> Self {
        let length = match point.table {
            Table::Coil | Table::Discrete => 1,
            Table::Holding | Table::Input => point.kind.registers().max(1),
        };
        let start = u32::from(point.address);
        let end = start.saturating_add(u32::from(length)).min(ADDRESS_END);
        Self { table: point.table, start, end, refused: false }
    }
}

impl Span {
    pub(crate) fn same_addresses(&self, other: &Self) -> bool {
        (self.table, self.start, self.end) == (other.table, other.start, other.end)
    }
}

/// One request and the points it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which table.
    pub table: Table,
    /// First address.
    pub address: u16,
    /// Registers or bits.
    pub count: u16,
    /// Indices of its points in the list the block was made from, in the order of their addresses.
    pub points: Vec<u32>,
}

impl Block {
    /// The shortest block around `points`, which are not empty, all of one table and in the order of their addresses.
    #[must_use]
    pub fn around(spans: &[Span], points: Vec<u32>) -> Option<Self> {
        let of = |point: &u32| spans.get(*point as usize);
        let table = of(points.first()?)?.table;
        let start = points.iter().filter_map(of).map(|span| span.start).min()?;
        let end = points.iter().filter_map(of).map(|span| span.end).max()?;
        let address = u16::try_from(start).ok()?;
        let count = u16::try_from(end.checked_sub(start)?).ok()?;
        Some(Self { table, address, count, points })
    }

    /// The read that asks for it.
    #[must_use]
    pub fn request(&self, unit: UnitId) -> Request {
        Request { unit, query: Query::Read { table: self.table, address: self.address, count: self.count } }
    }

    /// Cuts the block in two, at the unwanted registers nearest to its middle if it has any, else at the point nearest
    /// to its middle. `None` if all its points are at the same addresses, so that there is nothing to cut.
    #[must_use]
    pub fn cut(&self, spans: &[Span]) -> Option<(Self, Self)> {
        let middle = self.points.len() / 2;
        let mut best: Option<(bool, usize, usize)> = None;
        let mut reach = 0;
        for (at, pair) in self.points.windows(2).enumerate() {
            let (left, right) = (spans.get(pair[0] as usize)?, spans.get(pair[1] as usize)?);
            reach = reach.max(left.end);
            if left.same_addresses(right) {
                continue;
            }
            let rank = (right.start <= reach, (at + 1).abs_diff(middle), at + 1);
            best = Some(best.map_or(rank, |other| other.min(rank)));
        }
        let (left, right) = self.points.split_at(best?.2);
        Some((Self::around(spans, left.to_vec())?, Self::around(spans, right.to_vec())?))
    }
}

/// The fewest blocks that hold all spans within the limits, in the order of table and address. Every index of `spans` is
/// in exactly one block. Spans at the same addresses always share a block.
#[must_use]
pub fn blocks(spans: &[Span], limits: &Limits) -> Vec<Block> {
    let mut order: Vec<u32> = (0..).zip(spans).map(|(index, _)| index).collect();
    order.sort_by_key(|&index| {
        let span = &spans[index as usize];
        (span.table, span.start, Reverse(span.end), index)
    });
    let mut result = Vec::new();
    let mut taken = vec![false; order.len()];
    for first in 0..order.len() {
        if taken[first] {
            continue;
        }
        let end = stretch(spans, &order, first, limits);
        let points = take(spans, &order, first, end, &mut taken);
        result.extend(Block::around(spans, points));
    }
    result
}

/// How far a block that begins with the span at `first` of `order` may reach.
fn stretch(spans: &[Span], order: &[u32], first: usize, limits: &Limits) -> u32 {
    let head = &spans[order[first] as usize];
    if limits.one_by_one || head.refused {
        return head.end;
    }
    let span_at = |at: usize| &spans[order[at] as usize];
    let furthest = head.start + limits.length_max(head.table);
    let gap_max = limits.gap_max(head.table);
    // Addresses from the head on that somebody wants without a run of more than gap_max unwanted ones.
    let mut reach = head.end;
    // Points that begin before the head and were taken already may still bridge a gap behind it.
    let before = order[..first].iter().map(|&at| &spans[at as usize]);
    for span in before.filter(|span| span.table == head.table && !span.refused) {
        reach = reach.max(span.end);
    }
    let mut end = head.end;
    for at in first + 1..order.len() {
        let span = span_at(at);
        if span.table != head.table || span.start >= furthest || span.start > reach.saturating_add(gap_max) {
            break;
        }
        if span.refused {
            if span.start < end {
                continue;
            }
            break;
        }
        if span.end <= furthest {
            end = end.max(span.end);
        }
        reach = reach.max(span.end);
    }
    end
}

/// Takes all spans that lie within the head's start and `end` out of the list.
fn take(spans: &[Span], order: &[u32], first: usize, end: u32, taken: &mut [bool]) -> Vec<u32> {
    let head = spans[order[first] as usize];
    let mut points = Vec::new();
    for at in first..order.len() {
        let span = &spans[order[at] as usize];
        if span.table != head.table || span.start >= end {
            break;
        }
        let together = span.same_addresses(&head) || !(span.refused || head.refused);
        let fits = span.end <= end && together;
        if !taken[at] && fits {
            taken[at] = true;
            points.push(order[at]);
        }
    }
    points
}
