//! From SQLite's and the system's errors to the situations of [`StoreFault`].

use gateway_core::os::{self, Doing};
use gateway_core::text::one_line;
use gateway_core::uplink::row::StoreFault;
use rusqlite::ErrorCode;

/// Why an op, or opening, did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The disk or the database; the text is for the log.
    #[error("{0}: {1}")]
    Disk(StoreFault, String),
    /// The op itself cannot be carried out; no disk is at fault.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// A stored row does not decode.
    #[error("row {0} is damaged")]
    Rotten(i64),
}

impl Trouble {
    /// What the queue is told.
    pub(super) fn fault(&self) -> StoreFault {
        match self {
            Self::Disk(fault, _) => *fault,
            Self::Refused(_) => StoreFault::Io,
            Self::Rotten(_) => StoreFault::Corrupt,
        }
    }

    /// Whether other ops of the same transaction must fail with it. A full disk still takes deletions.
    pub(super) fn fails_all(&self) -> bool {
        matches!(self, Self::Disk(fault, _) if *fault != StoreFault::Full)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        // SQLite's sentences about damage have several lines.
        Self::Disk(fault_of(&error), one_line(&error.to_string()).into_owned())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        let fault = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreFault::Full,
            std::io::ErrorKind::ReadOnlyFilesystem => StoreFault::ReadOnly,
            std::io::ErrorKind::PermissionDenied => StoreFault::Forbidden,
            std::io::ErrorKind::WouldBlock => StoreFault::Locked,
            _ => StoreFault::Io,
        };
        Self::Disk(fault, os::sentence(&error, Doing::Writing))
    }
}

/// The situation behind an error of SQLite. SQL that does not fit the tables means that the tables are damaged: the SQL is ours.
fn fault_of(error: &rusqlite::Error) -> StoreFault {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => StoreFault::Full,
            ErrorCode::ReadOnly => StoreFault::ReadOnly,
            ErrorCode::PermissionDenied => StoreFault::Forbidden,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreFault::Locked,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreFault::Corrupt,
            ErrorCode::Unknown | ErrorCode::SchemaChanged | ErrorCode::TypeMismatch => StoreFault::Corrupt,
            _ => StoreFault::Io,
        },
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::QueryReturnedNoRows => StoreFault::Corrupt,
        _ => StoreFault::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_the_user_may_not_write_is_no_disk_that_can_only_be_read() {
        let trouble = |errno| Trouble::from(std::io::Error::from_raw_os_error(errno));
        let (forbidden, read_only) = (trouble(13), trouble(30));
        assert_eq!((forbidden.fault(), read_only.fault()), (StoreFault::Forbidden, StoreFault::ReadOnly));
        let text = forbidden.to_string();
        assert!(text.starts_with("not allowed: ") && text.contains("check owner and mode"), "{text}");
        assert!(read_only.to_string().contains("can only be read"), "{read_only}");
    }
}
