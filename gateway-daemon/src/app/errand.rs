//! One-off requests of the control socket: what to ask a device for a `read` or `write`, and what its answer means.
//!
//! Pure: makes a [`Request`] and interprets the [`Answer`]; the core loop sends it through the bus task, between two polls.
//!
//! A part of a register (one bit, one byte) is written with function 22. A device that does not know it answers with exception 1; then the
//! register is read and written back whole ([`Errand::read_whole`], [`Errand::write_whole`]). That is two requests: what the
//! device or another master changes in the same register between them is overwritten. Never sends a request beyond the limits of the standard.

use drivers::bus::CommandError;
use gateway_core::poll::request::{Answer, LineFault, Query, Request, Table, UnitId};
use gateway_core::poll::settings::{Kind, Medium, Settings, Tag};
use gateway_core::poll::{decode, encode};
use gateway_core::process::{self, Scaler};
use gateway_core::tag::{Reason, Sample, TagId, Value};

use super::control::{Ask, RawAt, Reply, Written};
use super::picture::words;
use super::{near, snapshot};

/// "Illegal function" ("MODBUS Application Protocol V1.1b3", 7).
const ILLEGAL_FUNCTION: u8 = 1;
/// Most registers and bits of one read (ibid., 6.1 and 6.3).
const READ_REGISTERS_MAX: u16 = 125;
const READ_BITS_MAX: u16 = 2000;
/// Most registers and coils of one write (ibid., 6.11 and 6.12).
const WRITE_REGISTERS_MAX: usize = 123;
const WRITE_COILS_MAX: usize = 1968;
/// What to do when nobody knows whether a value was written.
pub(super) const OPEN: &str = "nobody knows whether it was written; read it before you write again";

/// A request on its way to a bus, and how to read its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Errand {
    /// Index of the bus.
    pub bus: usize,
    /// Index of the device, when one is configured for the unit: its timeout is used.
    pub device: Option<usize>,
    /// What to send.
    pub request: Request,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Read(TagId),
    /// The value that was asked for, and the one that the registers hold.
    Wrote(TagId, Value, Sample),
    Raw,
}

impl Errand {
    /// Plans the request for what a client asked.
    ///
    /// # Errors
    /// The sentence for the client: no such tag, not writable, out of range...
    pub(super) fn new(field: &Settings, ask: &Ask) -> Result<Self, String> {
        match ask {
            Ask::Read { device, tag } => {
                let (id, tag) = find(field, device, tag)?;
                Ok(Self::of_tag(field, tag, read_query(tag), What::Read(id)))
            }
            Ask::Write { device, tag: name, value } => {
                let (id, tag) = find(field, device, name)?;
                if !tag.writable {
                    return Err(format!(
                        "{device}/{name} is read-only; set `writable = true` at this tag to allow it"
                    ));
                }
                let value = parse_value(tag.point.kind, value)
                    .map_err(|sentence| format!("{device}/{name}: {sentence}"))?;
                let raw =
                    process::unscale(tag, &value).map_err(|fault| format!("{device}/{name}: {fault}"))?;
                let query =
                    encode::write(&tag.point, &raw).map_err(|fault| format!("{device}/{name}: {fault}"))?;
                let held = held(tag, &query);
                Ok(Self::of_tag(field, tag, query, What::Wrote(id, value, held)))
            }
            Ask::ReadRaw { at, count } => {
                Self::raw(field, at, |table, address| raw_read(table, address, *count))
            }
            Ask::WriteRaw { at, values } => {
                Self::raw(field, at, |table, address| raw_write(table, address, values))
            }
            Ask::Status
            | Ask::Metrics
            | Ask::Queue { .. }
            | Ask::Sessions { .. }
            | Ask::DropSession { .. } => Err("not a request to a device".into()),
        }
    }

    fn of_tag(field: &Settings, tag: &Tag, query: Query, what: What) -> Self {
        let device = field.groups[tag.group].device;
        let Settings { devices, .. } = field;
        let request = Request { unit: devices[device].unit, query };
        Self { bus: devices[device].bus, device: Some(device), request, what }
    }

    fn raw(
        field: &Settings,
        at: &RawAt,
        query: impl FnOnce(Table, u16) -> Result<Query, String>,
    ) -> Result<Self, String> {
        let bus = field.buses.iter().position(|bus| bus.name.as_str() == at.bus).ok_or_else(|| {
            let known = near::instead(&at.bus, field.buses.iter().map(|bus| bus.name.as_str()), "there are");
            format!("no bus {:?}; {known}", at.bus)
        })?;
        let unit = match field.buses[bus].medium {
            Medium::Tcp { .. } => UnitId::tcp(at.unit),
            _ => UnitId::serial(at.unit).ok_or_else(|| match at.unit {
                0 => "unit 0 is a broadcast, which no unit answers; name one of 1 to 247".to_owned(),
                unit => format!("unit {unit} is not 1 to 247"),
            })?,
        };
        let table = match at.table.as_str() {
            "coil" => Table::Coil,
            "discrete" => Table::Discrete,
            "holding" => Table::Holding,
            "input" => Table::Input,
            other => return Err(format!("no table {other:?}; there are coil, discrete, holding and input")),
        };
        let query = query(table, at.address)?;
        let device = field.devices.iter().position(|device| device.bus == bus && device.unit == unit);
        Ok(Self { bus, device, request: Request { unit, query }, what: What::Raw })
    }

    /// After the answer to the first request: the whole register, if the device cannot write a part of one.
    #[must_use]
    pub(super) fn read_whole(&self, answer: &Answer) -> Option<Request> {
        match (&self.request.query, answer) {
            (Query::MaskWrite { address, .. }, Answer::Exception(ILLEGAL_FUNCTION)) => {
                Some(self.again(Query::Read { table: Table::Holding, address: *address, count: 1 }))
            }
            _ => None,
        }
    }

    /// After the answer to [`Errand::read_whole`]: the register with the part changed.
    #[must_use]
    pub(super) fn write_whole(&self, answer: &Answer) -> Option<Request> {
        match (&self.request.query, answer) {
            (Query::MaskWrite { address, and, or }, Answer::Registers(registers)) => {
                let value = registers.first().map(|register| (register & and) | (or & !and))?;
                Some(self.again(Query::WriteRegister { address: *address, value }))
            }
            _ => None,
        }
    }

    fn again(&self, query: Query) -> Request {
        Request { unit: self.request.unit, query }
    }

    /// The tag that is written.
    #[must_use]
    pub(super) fn written(&self) -> Option<TagId> {
        match &self.what {
            What::Wrote(id, ..) => Some(*id),
            What::Read(_) | What::Raw => None,
        }
    }

    /// The tag that is written, with the value that its registers hold then.
    #[must_use]
    pub(super) fn held(&self) -> Option<(TagId, &Sample)> {
        match &self.what {
            What::Wrote(id, _, held) => Some((*id, held)),
            What::Read(_) | What::Raw => None,
        }
    }

    /// The tags whose registers or coils are written, as a whole or in part.
    pub(super) fn reached<'a>(&'a self, field: &'a Settings) -> impl Iterator<Item = TagId> + 'a {
        let (table, first, count) = match &self.request.query {
            Query::WriteCoil { address, .. } => (Table::Coil, *address, 1),
            Query::WriteCoils { address, on } => (Table::Coil, *address, on.len()),
            Query::WriteRegister { address, .. } | Query::MaskWrite { address, .. } => {
                (Table::Holding, *address, 1)
            }
            Query::WriteRegisters { address, values } => (Table::Holding, *address, values.len()),
            Query::ReadWrite { write_address, values, .. } => (Table::Holding, *write_address, values.len()),
            Query::Read { .. } | Query::Identify { .. } => (Table::Input, 0, 0),
        };
        let written = usize::from(first)..usize::from(first) + count;
        (0_u32..).zip(&field.tags).filter_map(move |(id, tag)| {
            let device = &field.devices[field.groups[tag.group].device];
            let start = usize::from(tag.point.address);
            let end = start + usize::from(width(tag));
            let reached = device.bus == self.bus
                && device.unit == self.request.unit
                && tag.point.table == table
                && start < written.end
                && written.start < end;
            reached.then_some(TagId(id))
        })
    }

    /// What to tell the client.
    #[must_use]
    pub(super) fn reply(&self, field: &Settings, answer: Result<Answer, CommandError>) -> Reply {
        let answer = match answer {
            Ok(Answer::Exception(code)) if self.writes() && leaves_open(code) => {
                return Reply::Unknown(format!("{}; {OPEN}", refusal(code)));
            }
            Ok(Answer::Exception(code)) => return Reply::Refused(refusal(code)),
            Ok(answer) => answer,
            Err(fault) => {
                let sentence = self.unanswered(field, &fault);
                let may_be_done = self.writes() && fault.may_be_done();
                return if may_be_done { Reply::Unknown(sentence) } else { Reply::Refused(sentence) };
            }
        };
        match (&self.what, answer) {
            (What::Read(id), answer) => {
                let sample = tag_sample(&field.tags[id.0 as usize], answer);
                Reply::Tag(Box::new(tag_snapshot(field, *id, &sample, Some(0))))
            }
            (What::Wrote(id, asked, held), Answer::Done) => {
                Reply::Written(Box::new(written(field, *id, asked, held)))
            }
            (What::Raw, Answer::Registers(values)) if !self.writes() => Reply::Values(values),
            (What::Raw, Answer::Bits(bits)) if !self.writes() => {
                Reply::Values(bits.into_iter().map(u16::from).collect())
            }
            (What::Raw, Answer::Done) => Reply::Values(Vec::new()),
            _ if self.writes() => {
                Reply::Unknown(format!("the device gave an answer to another request; {OPEN}"))
            }
            _ => Reply::Refused("the device gave an answer to another request".into()),
        }
    }

    fn writes(&self) -> bool {
        !matches!(self.request.query, Query::Read { .. } | Query::Identify { .. })
    }

    /// Why there is no answer, with the place and with what to do.
    fn unanswered(&self, field: &Settings, fault: &CommandError) -> String {
        let bus = &field.buses[self.bus];
        let place = match self.device {
            Some(device) => {
                format!(
                    "device {} (unit {} on bus {})",
                    field.devices[device].name, self.request.unit, bus.name
                )
            }
            None => format!("unit {} on bus {}", self.request.unit, bus.name),
        };
        let look = "`gateway-daemon status` says how its bus and the other devices are";
        let remedy = match (fault, &bus.medium) {
            (CommandError::Line(LineFault::Silence) | CommandError::Doubtful(LineFault::Silence), _) => {
                format!("; check its power, its wires and its unit: {look}")
            }
            (CommandError::Line(LineFault::Down) | CommandError::Down(_), _) => format!("; {look}"),
            (
                CommandError::Line(_) | CommandError::Doubtful(_),
                Medium::Serial(_) | Medium::RtuOverTcp { .. },
            ) => {
                format!(
                    "; check the wires, the baud rate and parity, and whether two devices have this unit: {look}"
                )
            }
            (CommandError::Line(_) | CommandError::Doubtful(_), _) => format!("; {look}"),
            _ => String::new(),
        };
        format!("{place}: {fault}{remedy}")
    }
}

/// What a write has left in the device.
fn written(field: &Settings, id: TagId, asked: &Value, held: &Sample) -> Written {
    let tag = tag_snapshot(field, id, held, Some(0));
    let asked = json(asked);
    let differs = tag.value.as_ref().is_some_and(|held| words::value(held) != words::value(&asked));
    let Tag { point, scale, .. } = &field.tags[id.0 as usize];
    let even = !matches!(point.kind, Kind::F32(_) | Kind::F64(_));
    let step = even.then(|| scale.map_or(1.0, |scale| scale.factor.abs()));
    Written { tag, asked: differs.then_some(asked), step: step.filter(|_| differs) }
}

/// The value that is read back after a write: the registers hold steps of the scale.
fn held(tag: &Tag, query: &Query) -> Sample {
    let answer = match query {
        Query::WriteCoil { on, .. } => Answer::Bits(vec![*on]),
        Query::WriteRegister { value, .. } => Answer::Registers(vec![*value]),
        Query::WriteRegisters { values, .. } => Answer::Registers(values.clone()),
        Query::MaskWrite { and, or, .. } => Answer::Registers(vec![or & !and]),
        // No tag is written so.
        Query::WriteCoils { .. } | Query::Read { .. } | Query::ReadWrite { .. } | Query::Identify { .. } => {
            Answer::Done
        }
    };
    tag_sample(tag, answer)
}

/// Registers or bits of a tag.
fn width(tag: &Tag) -> u16 {
    match tag.point.table {
        Table::Coil | Table::Discrete => 1,
        Table::Holding | Table::Input => tag.point.kind.registers(),
    }
}

/// A tag as status and clients show it.
#[must_use]
pub(super) fn tag_snapshot(
    field: &Settings,
    id: TagId,
    sample: &Sample,
    age_ms: Option<u64>,
) -> snapshot::Tag {
    let tag = &field.tags[id.0 as usize];
    let (value, quality) = match sample {
        Sample::Good(value) => (Some(json(value)), "good".to_owned()),
        Sample::Bad(reason) => (None, reason.to_string()),
    };
    snapshot::Tag {
        device: field.devices[field.groups[tag.group].device].name.to_string(),
        tag: tag.name.to_string(),
        value,
        unit: tag.unit.as_deref().map(str::to_owned),
        quality,
        age_ms: age_ms.filter(|_| *sample != Sample::Bad(Reason::NotPolled)),
    }
}

/// A value as JSON.
pub(super) fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(on) => (*on).into(),
        Value::Int(int) => (*int).into(),
        Value::UInt(uint) => (*uint).into(),
        Value::Float(float) => (*float).into(),
        Value::Text(text) => (&**text).into(),
    }
}

fn find<'a>(field: &'a Settings, device: &str, name: &str) -> Result<(TagId, &'a Tag), String> {
    let Some(index) = field.devices.iter().position(|known| known.name.as_str() == device) else {
        let known =
            near::instead(device, field.devices.iter().map(|device| device.name.as_str()), "there are");
        return Err(format!("no device {device:?}; {known}"));
    };
    let own = || (0_u32..).zip(&field.tags).filter(|(_, tag)| field.groups[tag.group].device == index);
    own().find(|(_, tag)| tag.name.as_str() == name).map(|(id, tag)| (TagId(id), tag)).ok_or_else(|| {
        let known = near::instead(name, own().map(|(_, tag)| tag.name.as_str()), "it has");
        format!("{device} has no tag {name:?}; {known}")
    })
}

fn read_query(tag: &Tag) -> Query {
    Query::Read { table: tag.point.table, address: tag.point.address, count: width(tag) }
}

fn raw_read(table: Table, address: u16, count: u16) -> Result<Query, String> {
    let (most, what) = match table {
        Table::Coil | Table::Discrete => (READ_BITS_MAX, "bits"),
        Table::Holding | Table::Input => (READ_REGISTERS_MAX, "registers"),
    };
    if !(1..=most).contains(&count) {
        return Err(format!("{count} {what} in one request; 1 to {most} can be read"));
    }
    within(address, usize::from(count))?;
    Ok(Query::Read { table, address, count })
}

fn raw_write(table: Table, address: u16, values: &[u16]) -> Result<Query, String> {
    let (most, what) = match table {
        Table::Holding => (WRITE_REGISTERS_MAX, "registers"),
        Table::Coil => (WRITE_COILS_MAX, "coils"),
        Table::Discrete | Table::Input => return Err("this table can only be read".into()),
    };
    if !(1..=most).contains(&values.len()) {
        return Err(format!("{} {what} in one request; 1 to {most} can be written", values.len()));
    }
    within(address, values.len())?;
    if table == Table::Coil && values.iter().any(|value| *value > 1) {
        return Err("a coil is 0 or 1".into());
    }
    Ok(match (table, values) {
        (Table::Coil, [value]) => Query::WriteCoil { address, on: *value != 0 },
        (Table::Coil, values) => {
            Query::WriteCoils { address, on: values.iter().map(|value| *value != 0).collect() }
        }
        (_, [value]) => Query::WriteRegister { address, value: *value },
        (_, values) => Query::WriteRegisters { address, values: values.to_vec() },
    })
}

/// No request may reach beyond the last address.
fn within(address: u16, count: usize) -> Result<(), String> {
    if usize::from(address) + count > usize::from(u16::MAX) + 1 {
        return Err(format!("{count} from address {address} on go beyond address 65535"));
    }
    Ok(())
}

fn tag_sample(tag: &Tag, answer: Answer) -> Sample {
    let raw = match answer {
        Answer::Bits(bits) => match bits.first() {
            Some(on) => decode::bit(*on),
            None => Sample::Bad(Reason::BadAnswer),
        },
        Answer::Registers(registers) => decode::registers(tag.point.kind, &registers),
        _ => Sample::Bad(Reason::BadAnswer),
    };
    match raw {
        Sample::Good(value) => Scaler::new(tag).apply(value),
        bad @ Sample::Bad(_) => bad,
    }
}

fn parse_value(kind: Kind, text: &str) -> Result<Value, String> {
    let word = text.trim();
    match (kind, word.to_ascii_lowercase().as_str()) {
        (Kind::Text { .. }, _) => Ok(Value::Text(text.into())),
        (Kind::Bit | Kind::BitOf(_), "on" | "true" | "1") => Ok(Value::Bool(true)),
        (Kind::Bit | Kind::BitOf(_), "off" | "false" | "0") => Ok(Value::Bool(false)),
        (Kind::Bit | Kind::BitOf(_), _) => Err(format!("{word:?} is not on or off")),
        _ => number(word).ok_or_else(|| {
            if word.contains(',') {
                format!("{word:?} is not a number; write the decimal point as '.', not ','")
            } else {
                format!("{word:?} is not a number")
            }
        }),
    }
}

fn number(word: &str) -> Option<Value> {
    if let Ok(int) = word.parse() {
        return Some(Value::Int(int));
    }
    if let Ok(uint) = word.parse() {
        return Some(Value::UInt(uint));
    }
    word.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::Float)
}

/// Exceptions that are no refusal: the device has accepted the request and is not done (5), or did not answer the gateway in between (11). The same
/// standard, 7.
pub(super) fn leaves_open(code: u8) -> bool {
    matches!(code, 5 | 11)
}

/// What an exception means for the person who wrote ("MODBUS Application Protocol V1.1b3", 7).
fn refusal(code: u8) -> String {
    let why = match code {
        1 => "it does not know this function",
        2 => "it has no such address",
        3 => "it does not accept this value or count",
        4 => "it failed while doing it",
        5 => "it needs more time; read again later",
        6 => "it is busy; try again later",
        8 => "its memory has a parity error",
        10 => "the gateway in between has no path to it",
        11 => "it does not answer the gateway in between",
        _ => "the standard does not say what this code means; see the device's manual",
    };
    if leaves_open(code) {
        return format!("exception {code}: {why}");
    }
    format!("the device refused (exception {code}): {why}")
}

#[cfg(test)]
pub(super) mod tests;
