//! A Modbus server without I/O: functions 1 to 6, 8/0, 15, 16, 22, 23 and 43/14 over the four tables of a device.
//!
//! A whole device with one register and its test:
//! ```
//! use drivers::sim::slave::{Tables, answer, exception};
//! use gateway_core::poll::request::Table;
//!
//! struct One(u16);
//! impl Tables for One {
//!     fn register(&mut self, table: Table, address: u16) -> Result<u16, u8> {
//!         if table == Table::Holding && address == 0 { Ok(self.0) } else { Err(exception::ADDRESS) }
//!     }
//! }
//! assert_eq!(answer(&mut One(258), &[3, 0, 0, 0, 1]), [3, 2, 1, 2]);
//! assert_eq!(answer(&mut One(258), &[3, 0, 1, 0, 1]), [0x83, exception::ADDRESS]);
//! ```

use gateway_core::poll::request::Table;
use gateway_core::tag::BootNs;

use crate::modbus::pdu::{
    EXCEPTION_BIT, MEI_IDENTIFY, READ_BITS_MAX, READ_REGISTERS_MAX, READ_WRITE_REGISTERS_MAX, WRITE_BITS_MAX,
    WRITE_REGISTERS_MAX, pack_bits, to_words, unpack_bits, words,
};

/// Exception codes ("MODBUS Application Protocol V1.1b3", 7).
pub mod exception {
    /// The device does not know the function.
    pub const FUNCTION: u8 = 1;
    /// No such address.
    pub const ADDRESS: u8 = 2;
    /// The request itself is malformed.
    pub const VALUE: u8 = 3;
    /// The device failed.
    pub const FAILURE: u8 = 4;
    /// The device is busy.
    pub const BUSY: u8 = 6;
}

/// The data of a device. Errors are exception codes; what is not implemented does not exist.
pub trait Tables {
    /// Tells the time before each request.
    fn at(&mut self, now: BootNs) {
        let _ = now;
    }

    /// Whether it answers nothing, as a device without power.
    fn is_silent(&self) -> bool {
        false
    }

    /// A holding or input register.
    ///
    /// # Errors
    /// An exception code.
    fn register(&mut self, table: Table, address: u16) -> Result<u16, u8> {
        let _ = (table, address);
        Err(exception::ADDRESS)
    }

    /// A coil or discrete input.
    ///
    /// # Errors
    /// An exception code.
    fn bit(&mut self, table: Table, address: u16) -> Result<bool, u8> {
        let _ = (table, address);
        Err(exception::ADDRESS)
    }

    /// Sets a holding register.
    ///
    /// # Errors
    /// An exception code.
    fn set_register(&mut self, address: u16, value: u16) -> Result<(), u8> {
        let _ = (address, value);
        Err(exception::ADDRESS)
    }

    /// Sets a coil.
    ///
    /// # Errors
    /// An exception code.
    fn set_coil(&mut self, address: u16, on: bool) -> Result<(), u8> {
        let _ = (address, on);
        Err(exception::ADDRESS)
    }

    /// An object of the device identification: 0 vendor, 1 product, 2 revision.
    fn identity(&self, object: u8) -> Option<&str> {
        let _ = object;
        None
    }
}

/// The answer PDU to a request PDU; an exception when it is malformed.
pub fn answer(tables: &mut dyn Tables, pdu: &[u8]) -> Vec<u8> {
    let Some((&function, body)) = pdu.split_first() else { return vec![EXCEPTION_BIT, exception::FUNCTION] };
    match serve(tables, function, body) {
        Ok(body) => [&[function], body.as_slice()].concat(),
        Err(code) => vec![function | EXCEPTION_BIT, code],
    }
}

fn serve(tables: &mut dyn Tables, function: u8, body: &[u8]) -> Result<Vec<u8>, u8> {
    match function {
        1 => read_bits(tables, Table::Coil, body),
        2 => read_bits(tables, Table::Discrete, body),
        3 => read_registers(tables, Table::Holding, body),
        4 => read_registers(tables, Table::Input, body),
        5 => write_coil(tables, body),
        6 => write_register(tables, body),
        8 if body.len() == 4 && body[..2] == [0, 0] => Ok(body.to_vec()),
        15 => write_coils(tables, body),
        16 => write_registers(tables, body),
        22 => mask_write(tables, body),
        23 => read_write(tables, body),
        43 if body.first() == Some(&MEI_IDENTIFY) => identify(tables, body),
        _ => Err(exception::FUNCTION),
    }
}

/// The fixed 16-bit fields at the head of a request and what follows them.
fn fields<const N: usize>(body: &[u8]) -> Result<([u16; N], &[u8]), u8> {
    let (head, rest) = body.split_at_checked(2 * N).ok_or(exception::VALUE)?;
    let mut fields = [0; N];
    for (field, word) in fields.iter_mut().zip(to_words(head)) {
        *field = word;
    }
    Ok((fields, rest))
}

/// Addresses of a span that is within `1..=max` long and ends by 65535.
fn span(address: u16, count: u16, max: usize) -> Result<impl Iterator<Item = u16>, u8> {
    if count == 0 || usize::from(count) > max {
        return Err(exception::VALUE);
    }
    let last = address.checked_add(count - 1).ok_or(exception::ADDRESS)?;
    Ok(address..=last)
}

fn nothing_left(rest: &[u8]) -> Result<(), u8> {
    if rest.is_empty() { Ok(()) } else { Err(exception::VALUE) }
}

/// Bytes after a byte count that must be `expected` and reach to the end.
fn counted(rest: &[u8], expected: usize) -> Result<&[u8], u8> {
    match rest.split_first() {
        Some((&count, bytes)) if usize::from(count) == expected && bytes.len() == expected => Ok(bytes),
        _ => Err(exception::VALUE),
    }
}

fn with_count(bytes: Vec<u8>) -> Result<Vec<u8>, u8> {
    let count = u8::try_from(bytes.len()).map_err(|_| exception::FAILURE)?;
    Ok([&[count], bytes.as_slice()].concat())
}

fn read_bits(tables: &mut dyn Tables, table: Table, body: &[u8]) -> Result<Vec<u8>, u8> {
    let ([address, count], rest) = fields(body)?;
    nothing_left(rest)?;
    let bits = span(address, count, usize::from(READ_BITS_MAX))?.map(|a| tables.bit(table, a));
    let bits = bits.collect::<Result<Vec<_>, _>>()?;
    let mut packed = Vec::new();
    pack_bits(&bits, &mut packed);
    with_count(packed)
}

fn read_registers(tables: &mut dyn Tables, table: Table, body: &[u8]) -> Result<Vec<u8>, u8> {
    let ([address, count], rest) = fields(body)?;
    nothing_left(rest)?;
    with_count(register_bytes(tables, table, address, count)?)
}

fn register_bytes(tables: &mut dyn Tables, table: Table, address: u16, count: u16) -> Result<Vec<u8>, u8> {
    let values = span(address, count, usize::from(READ_REGISTERS_MAX))?.map(|a| tables.register(table, a));
    let values = values.collect::<Result<Vec<_>, _>>()?;
    let mut bytes = Vec::new();
    words(&mut bytes, &values);
    Ok(bytes)
}

fn write_coil(tables: &mut dyn Tables, body: &[u8]) -> Result<Vec<u8>, u8> {
    let ([address, value], rest) = fields(body)?;
    nothing_left(rest)?;
    match value {
        0xFF00 => tables.set_coil(address, true)?,
        0 => tables.set_coil(address, false)?,
        _ => return Err(exception::VALUE),
    }
    Ok(body.to_vec())
}

fn write_register(tables: &mut dyn Tables, body: &[u8]) -> Result<Vec<u8>, u8> {
    let ([address, value], rest) = fields(body)?;
    nothing_left(rest)?;
    tables.set_register(address, value)?;
    Ok(body.to_vec())
}

fn write_coils(tables: &mut dyn Tables, body: &[u8]) -> Result<Vec<u8>, u8> {
    let ([address, count], rest) = fields(body)?;
    let addresses = span(address, count, WRITE_BITS_MAX)?;
    let bytes = counted(rest, usize::from(count).div_ceil(8))?;
    for (address, on) in addresses.zip(unpack_bits(bytes, usize::from(count))) {
        tables.set_coil(address, on)?;
    }
    Ok(body[..4].to_vec())
}

fn write_registers(tables: &mut dyn Tables, body: &[u8]) -> Result<Vec<u8>, u8> {
    let ([address, count], rest) = fields(body)?;
    let addresses = span(address, count, WRITE_REGISTERS_MAX)?;
    let bytes = counted(rest, usize::from(count) * 2)?;
    for (address, value) in addresses.zip(to_words(bytes)) {
        tables.set_register(address, value)?;
    }
    Ok(body[..4].to_vec())
}

fn mask_write(tables: &mut dyn Tables, body: &[u8]) -> Result<Vec<u8>, u8> {
    let ([address, and, or], rest) = fields(body)?;
    nothing_left(rest)?;
    let old = tables.register(Table::Holding, address)?;
    tables.set_register(address, (old & and) | (or & !and))?;
    Ok(body.to_vec())
}

fn read_write(tables: &mut dyn Tables, body: &[u8]) -> Result<Vec<u8>, u8> {
    let ([read_address, read_count, write_address, write_count], rest) = fields(body)?;
    let addresses = span(write_address, write_count, READ_WRITE_REGISTERS_MAX)?;
    let bytes = counted(rest, usize::from(write_count) * 2)?;
    for (address, value) in addresses.zip(to_words(bytes)) {
        tables.set_register(address, value)?;
    }
    with_count(register_bytes(tables, Table::Holding, read_address, read_count)?)
}

/// Device identification in one answer; regular and extended requests get the basic objects (6.21, conformity level 0x81).
fn identify(tables: &mut dyn Tables, body: &[u8]) -> Result<Vec<u8>, u8> {
    let [_, code, object] = *body else { return Err(exception::VALUE) };
    let wanted = match code {
        1..=3 => object.min(2)..=2,
        4 => object..=object,
        _ => return Err(exception::VALUE),
    };
    let mut objects = Vec::new();
    let mut count = 0u8;
    for id in wanted {
        let Some(text) = tables.identity(id) else { continue };
        let text = &text.as_bytes()[..text.len().min(60)];
        objects.push(id);
        objects.push(u8::try_from(text.len()).map_err(|_| exception::FAILURE)?);
        objects.extend_from_slice(text);
        count += 1;
    }
    if count == 0 {
        return Err(if code == 4 { exception::ADDRESS } else { exception::FUNCTION });
    }
    Ok([&[MEI_IDENTIFY, code, 0x81, 0, 0, count], objects.as_slice()].concat())
}

/// Bytes of the request PDU that begins with `head`, as far as its function tells; `None` for functions this server does not know
/// and while more bytes are needed.
#[must_use]
pub fn request_len(head: &[u8]) -> Option<usize> {
    match *head.first()? {
        1..=6 | 8 => Some(5),
        15 | 16 => Some(6 + usize::from(*head.get(5)?)),
        22 => Some(7),
        23 => Some(10 + usize::from(*head.get(9)?)),
        43 => Some(4),
        _ => None,
    }
}
