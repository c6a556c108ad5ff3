//! The conversation between a schedule (pure) and a line (hand): one [`Request`] out, one [`Answer`] or [`LineFault`] back.

use std::fmt;

/// Address of a device on its bus.
///
/// Serial lines know 1 to 247 ("MODBUS over Serial Line V1.02", 2.2); Modbus TCP also uses 0 and 255 for "the device
/// itself" ("MODBUS Messaging on TCP/IP V1.0b", 4.4.2.2), hence two constructors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(u8);

impl UnitId {
    /// Unit 0 on a serial line: heard by all, answered by none.
    pub const BROADCAST: Self = Self(0);

    /// A unit on a serial line, 1 to 247.
    #[must_use]
    pub fn serial(id: u8) -> Option<Self> {
        (1..=247).contains(&id).then_some(Self(id))
    }

    /// A unit behind a TCP connection, 0 to 255.
    #[must_use]
    pub fn tcp(id: u8) -> Self {
        Self(id)
    }

    /// The number on the wire.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The four tables of the Modbus data model ("MODBUS Application Protocol V1.1b3", 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Read-write bits, function 1.
    Coil,
    /// Read-only bits, function 2.
    Discrete,
    /// Read-write registers, function 3.
    Holding,
    /// Read-only registers, function 4.
    Input,
}

/// A request in terms of the data model; the drivers turn it into a PDU. Limits are those of "MODBUS Application Protocol
/// V1.1b3", 6: 2000 bits or 125 registers read, 1968 bits or 123 registers written, 125/121 for function 23.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Functions 1 to 4.
    Read {
        /// Which table.
        table: Table,
        /// Zero-based address of the first bit or register.
        address: u16,
        /// How many.
        count: u16,
    },
    /// Function 5.
    WriteCoil {
        /// Zero-based address.
        address: u16,
        /// On or off.
        on: bool,
    },
    /// Function 6.
    WriteRegister {
        /// Zero-based address.
        address: u16,
        /// New value.
        value: u16,
    },
    /// Function 15.
    WriteCoils {
        /// Zero-based address of the first.
        address: u16,
        /// New values.
        on: Vec<bool>,
    },
    /// Function 16.
    WriteRegisters {
        /// Zero-based address of the first.
        address: u16,
        /// New values.
        values: Vec<u16>,
    },
    /// Function 22: register = (register AND `and`) OR (`or` AND NOT `and`).
    MaskWrite {
        /// Zero-based address.
        address: u16,
        /// AND mask.
        and: u16,
        /// OR mask.
        or: u16,
    },
    /// Function 23: writes first, then reads.
    ReadWrite {
        /// First register read.
        read_address: u16,
        /// How many are read.
        read_count: u16,
        /// First register written.
        write_address: u16,
        /// New values.
        values: Vec<u16>,
    },
    /// Function 43 / 14, one object stream request (6.21).
    Identify {
        /// 1 basic, 2 regular, 3 extended, 4 one object.
        code: u8,
        /// First object asked for.
        object: u8,
    },
}

/// A query for one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which unit; [`UnitId::BROADCAST`] on a serial line has no answer.
    pub unit: UnitId,
    /// What is asked.
    pub query: Query,
}

/// What a device said to a [`Query`], already matched against its unit, function and length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Functions 1 and 2: exactly the asked count.
    Bits(Vec<bool>),
    /// Functions 3, 4 and 23: exactly the asked count.
    Registers(Vec<u16>),
    /// Functions 5, 6, 15, 16, 22: the echo matched. Also the end of a broadcast.
    Done,
    /// Function 43/14: objects of this answer, and the next object id when more follow.
    Identity {
        /// Object id and its bytes.
        objects: Vec<(u8, Vec<u8>)>,
        /// Next object to ask for, if more follow.
        more: Option<u8>,
    },
    /// The device refused, with an exception code (7).
    Exception(u8),
}

/// Why a request has no answer. Facts about the wire for counters and logs; [`crate::tag::Reason`] is what tags carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LineFault {
    /// Nothing at all came within the timeout.
    #[error("no answer")]
    Silence,
    /// Fewer bytes came than the answer needs.
    #[error("answer too short")]
    Short,
    /// More bytes came than a frame can have, or than this answer has.
    #[error("answer too long")]
    Long,
    /// The checksum does not match.
    #[error("checksum wrong")]
    Checksum,
    /// Bytes that are no frame of Modbus.
    #[error("bytes that are no Modbus frame")]
    Garbage,
    /// A well-formed frame of this unit, which is another than the one that was asked.
    #[error("answer of unit {0}, which was not asked")]
    ForeignUnit(u8),
    /// A well-formed frame with this function, which is another than the one that was asked for.
    #[error("answer of function {0}, which was not asked for")]
    Function(u8),
    /// Modbus TCP: a well-formed frame with this transaction id, which no request had.
    #[error("answer with transaction id {0}, which no request had")]
    Transaction(u16),
    /// A well-formed frame whose echo of the request differs from it.
    #[error("answer to another request")]
    Mismatch,
    /// The port or connection is not open, or broke.
    #[error("bus down")]
    Down,
}
