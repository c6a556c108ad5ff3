//! Signals that cannot be heard and must not end the process.

use std::io;

/// From here on a signal of this number does nothing to this process, nor to programs that it starts.
///
/// # Errors
/// There is no such signal, or it cannot be ignored.
pub fn ignore(number: i32) -> io::Result<()> {
    crate::sys::ignore_signal(number)
}

#[cfg(test)]
mod tests {
    use super::ignore;

    #[test]
    fn what_cannot_be_ignored_is_said() {
        assert!(ignore(9).is_err() && ignore(0).is_err() && ignore(1000).is_err());
        assert!(ignore(64).is_ok());
    }
}
