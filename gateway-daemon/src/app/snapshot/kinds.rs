//! Kinds of things, so that nobody has to read them out of a sentence. What another version says and this one does not know is unknown.

use gateway_core::uplink::row::StoreFault;
use serde::{Deserialize, Serialize};

/// What a bus is, in the words of `driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BusKind {
    /// Modbus RTU on a serial line.
    ModbusRtu,
    /// Modbus TCP.
    ModbusTcp,
    /// Frames of RTU through a TCP connection.
    ModbusRtuOverTcp,
    /// A simulated one.
    Sim,
    /// Another version of the gateway does not say, or says something new.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nothing has been asked yet.
    #[default]
    Unknown,
    /// It answers.
    Good,
    /// Its last request failed, it is still polled.
    Failing,
    /// It failed so often that it is only probed.
    Dead,
    /// Its bus is not open, so nobody asks it.
    Down,
}

impl Health {
    /// The word in JSON and on the terminal.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Failing => "failing",
            Self::Dead => "dead",
            Self::Down => "down",
        }
    }
}

/// What kind of thing is wrong with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreFaultKind {
    /// The disk is full, or the file is as large as it may be.
    Full,
    /// The file or its file system can only be read.
    ReadOnly,
    /// The user of the gateway may not write there.
    Forbidden,
    /// Another error of reading or writing.
    Io,
    /// The database is damaged.
    Corrupt,
    /// Another process holds it.
    Locked,
    /// Another version of the gateway says something new.
    #[default]
    #[serde(other)]
    Unknown,
}

impl From<StoreFault> for StoreFaultKind {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Full => Self::Full,
            StoreFault::ReadOnly => Self::ReadOnly,
            StoreFault::Forbidden => Self::Forbidden,
            StoreFault::Io => Self::Io,
            StoreFault::Corrupt => Self::Corrupt,
            StoreFault::Locked => Self::Locked,
        }
    }
}
