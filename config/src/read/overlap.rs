//! Two tags of one device at one place.
//!
//! A register word may be read beside its own bits and bytes: status words are used so. Everything else that shares a
//! register is a typing error or a tag too many.

use std::ops::Range;

use gateway_core::poll::request::Table;
use gateway_core::poll::settings::{Kind, Point};
use gateway_core::tag::Name;

use super::Context;

/// A tag with its place in the device and in the file.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) name: Name,
    pub(crate) point: Point,
    pub(crate) span: Range<usize>,
}

impl Placed {
    fn first(&self) -> u32 {
        u32::from(self.point.address)
    }

    /// One behind the last register.
    fn end(&self) -> u32 {
        self.first() + u32::from(self.point.kind.registers())
    }
}

/// Reports tags that share registers without being parts of one word.
/// `base` is the address that the file gives the first register.
pub(crate) fn report(cx: &Context<'_, '_>, placed: &[Placed], base: i64) {
    let mut order: Vec<&Placed> = placed.iter().collect();
    order.sort_by_key(|p| (p.point.table, p.point.address, p.span.start));
    for (at, one) in order.iter().enumerate() {
        let behind = order[at + 1..]
            .iter()
            .take_while(|other| other.point.table == one.point.table && other.first() < one.end());
        // One report for each tag is enough to find all of them.
        for other in behind.filter(|other| !may_share(one.point, other.point)).take(1) {
            let (first, second) =
                if one.span.start <= other.span.start { (one, other) } else { (other, one) };
            cx.found.misfit(&second.span, sentence(cx, first, second, base));
        }
    }
}

/// Whether two points may share a register: bits and bytes with each other and with their word.
fn may_share(one: Point, other: Point) -> bool {
    let is_part = |kind| matches!(kind, Kind::BitOf(_) | Kind::U8 { .. } | Kind::I8 { .. });
    let is_word = |kind| matches!(kind, Kind::U16 { .. } | Kind::I16 { .. });
    let byte = |kind| match kind {
        Kind::U8 { high } | Kind::I8 { high } => Some(high),
        _ => None,
    };
    if let (Some(one), Some(other)) = (byte(one.kind), byte(other.kind)) {
        return one != other;
    }
    one.kind != other.kind
        && (is_part(one.kind) || is_word(one.kind))
        && (is_part(other.kind) || is_word(other.kind))
        && !(is_word(one.kind) && is_word(other.kind))
}

fn sentence(cx: &Context<'_, '_>, first: &Placed, second: &Placed, base: i64) -> String {
    let line = cx.found.line(&first.span);
    let (name, other) = (&second.name, &first.name);
    if first.point == second.point {
        return format!(
            "tag `{name}` reads the same as tag `{other}` in line {line}, expected every point only once: remove one of them"
        );
    }
    format!(
        "tag `{name}` ({}) overlaps tag `{other}` ({}) in line {line}, expected different places: correct an address or a type",
        place(second, base),
        place(first, base)
    )
}

/// "registers 2 to 3", counted as the file counts them.
fn place(placed: &Placed, base: i64) -> String {
    let what = match placed.point.table {
        Table::Coil => "coil",
        Table::Discrete => "discrete input",
        Table::Holding => "holding register",
        Table::Input => "input register",
    };
    let (first, last) = (i64::from(placed.first()) + base, i64::from(placed.end()) - 1 + base);
    if first == last { format!("{what} {first}") } else { format!("{what}s {first} to {last}") }
}
