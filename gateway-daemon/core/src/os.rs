//! What the operating system says when it refuses something, in words for the person at the cabinet: what it means there, and what to do.
//!
//! Pure: an error in, a sentence out. Numbers are those of Linux (`errno(3)`), which the product runs on; an error that was made without a number is known by its
//! kind. What is not in the table keeps the system's own words, without their number.

use std::io::{Error, ErrorKind};

/// What was wanted when the system refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// A connection to another machine.
    Connecting,
    /// A connection to a program of this machine, through the file of a socket.
    Asking,
    /// Listening for connections of others.
    Listening,
    /// Making the file of a socket.
    Binding,
    /// Opening or using a port or device.
    Device,
    /// Reading a file.
    Reading,
    /// Writing a file.
    Writing,
}

/// The errors of which more can be said than their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Refused,
    Missing,
    Forbidden,
    NoWay,
    Silent,
    Full,
    ReadOnly,
    Taken,
    Busy,
    Broken,
    Cut,
    NoAddress,
    Gone,
    Descriptors,
}

fn known(error: &Error) -> Option<Known> {
    let by_number = error.raw_os_error().and_then(|number| {
        Some(match number {
            1 | 13 => Known::Forbidden,
            2 | 20 => Known::Missing,
            5 => Known::Broken,
            6 | 19 => Known::Gone,
            16 => Known::Busy,
            23 | 24 => Known::Descriptors,
            28 | 122 => Known::Full,
            30 => Known::ReadOnly,
            32 | 103 | 104 => Known::Cut,
            98 => Known::Taken,
            99 => Known::NoAddress,
            100 | 101 | 113 => Known::NoWay,
            110 => Known::Silent,
            111 => Known::Refused,
            _ => return None,
        })
    });
    by_number.or(match error.kind() {
        ErrorKind::ConnectionRefused => Some(Known::Refused),
        ErrorKind::NotFound | ErrorKind::NotADirectory => Some(Known::Missing),
        ErrorKind::PermissionDenied => Some(Known::Forbidden),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Some(Known::NoWay)
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(Known::Full),
        ErrorKind::ReadOnlyFilesystem => Some(Known::ReadOnly),
        ErrorKind::AddrInUse => Some(Known::Taken),
        ErrorKind::AddrNotAvailable => Some(Known::NoAddress),
        ErrorKind::ResourceBusy => Some(Known::Busy),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Some(Known::Cut),
        _ => None,
    })
}

/// What an error means for somebody who wanted this, and what to do.
#[must_use]
pub fn sentence(error: &Error, doing: Doing) -> String {
    // What was said by us says already what it means.
    if error.raw_os_error().is_none() && error.get_ref().is_some() {
        return error.to_string();
    }
    match known(error).and_then(|known| words(known, doing)) {
        Some(words) => words.to_owned(),
        None => plain(error),
    }
}

/// The system's own words, without their number: where the caller says what to do.
#[must_use]
pub fn plain(error: &Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn words(known: Known, doing: Doing) -> Option<&'static str> {
    use Doing::{Asking, Binding, Connecting, Device, Listening, Reading, Writing};
    Some(match (known, doing) {
        (Known::Refused, Asking) => {
            "nobody listens on it any more: it was left behind by a program that has ended"
        }
        (Known::Refused, _) => {
            "refused: nothing listens there; check address and port, and whether the other side runs and takes one more connection"
        }
        (Known::Missing, Asking) => "there is no such socket: the program is not running, or has another one",
        (Known::Missing, Binding) => "its folder does not exist and cannot be made by this user",
        (Known::Missing, Writing) => "its folder does not exist; make it first",
        (Known::Missing | Known::Gone, Device) => "it is not there any more; check whether it is plugged in",
        (Known::Gone, _) => "it is not there any more",
        (Known::Missing, _) => "it does not exist; check the path",
        (Known::Forbidden, Listening) => {
            "not allowed: ports below 1024 are for root; take a higher one, or run as the service does"
        }
        (Known::Forbidden, Reading) => {
            "this user may not read it; check owner and mode of the file and its folders"
        }
        (Known::Forbidden, Writing | Binding) => {
            "this user may not write there; check owner and mode of the folder, or take another place"
        }
        (Known::Forbidden, Connecting) => "not allowed; a firewall of this machine or its sandbox forbids it",
        (Known::Forbidden, _) => "this user may not open it; check its owner, group and mode",
        (Known::NoWay, _) => {
            "there is no way to it; check the cable, the address, and the routes of this machine"
        }
        (Known::Silent, Device) => "no answer in time; check the cable",
        (Known::Silent, _) => {
            "no answer; check the address, whether the other side is on, and firewalls on the way"
        }
        (Known::Full, _) => "the disk is full; free some space",
        (Known::ReadOnly, _) => {
            "the file system can only be read: it was mounted so, or the card is damaged; see the kernel's log (dmesg)"
        }
        (Known::Taken, Binding) => "it is in use by another program",
        (Known::Taken, _) => {
            "the port is in use by another program; stop that one (`ss -ltnp` shows it), or take another port"
        }
        (Known::NoAddress, _) => {
            "this machine does not have the address (yet); check it, `ip address` shows those there are"
        }
        (Known::Busy, _) => "it is in use by another program; stop that one",
        (Known::Broken, Device) => "the adapter or its driver failed; unplug it and plug it in again",
        (Known::Broken, _) => {
            "the medium failed: the card or disk is worn or damaged; see the kernel's log (dmesg), and replace it"
        }
        (Known::Cut, Connecting | Asking | Listening) => "cut by the other side or something in between",
        (Known::Descriptors, _) => {
            "this program has too many files and connections open; raise LimitNOFILE of the service"
        }
        (Known::Cut, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Doing; 7] = [
        Doing::Connecting,
        Doing::Asking,
        Doing::Listening,
        Doing::Binding,
        Doing::Device,
        Doing::Reading,
        Doing::Writing,
    ];

    #[test]
    fn no_sentence_for_a_person_ends_in_the_number_of_an_error() {
        for number in 1..134 {
            for doing in ALL {
                let said = sentence(&Error::from_raw_os_error(number), doing);
                assert!(!said.contains("os error") && !said.is_empty(), "{number} {doing:?}: {said}");
                assert!(said.starts_with(|c: char| !c.is_uppercase()), "{number} {doing:?}: {said}");
                assert!(!said.ends_with('.'), "{number} {doing:?}: {said}");
            }
        }
    }

    #[test]
    fn the_common_errors_say_what_to_do_where_they_happen() {
        let said = |number, doing| sentence(&Error::from_raw_os_error(number), doing);
        for (number, doing, part) in [
            (111, Doing::Connecting, "check address and port"),
            (111, Doing::Asking, "left behind"),
            (2, Doing::Binding, "its folder does not exist"),
            (2, Doing::Device, "plugged in"),
            (13, Doing::Listening, "below 1024"),
            (13, Doing::Reading, "owner and mode"),
            (113, Doing::Connecting, "check the cable"),
            (101, Doing::Connecting, "check the cable"),
            (110, Doing::Connecting, "firewalls"),
            (28, Doing::Writing, "free some space"),
            (30, Doing::Writing, "dmesg"),
            (98, Doing::Listening, "ss -ltnp"),
            (16, Doing::Device, "stop that one"),
            (5, Doing::Device, "plug it in again"),
            (5, Doing::Writing, "replace it"),
        ] {
            assert!(said(number, doing).contains(part), "{number} {doing:?}: {}", said(number, doing));
        }
    }

    #[test]
    fn an_error_without_a_number_is_known_by_its_kind_and_our_own_words_stay() {
        let refused = sentence(&ErrorKind::ConnectionRefused.into(), Doing::Connecting);
        assert_eq!(refused, sentence(&Error::from_raw_os_error(111), Doing::Connecting));
        assert_eq!(
            sentence(&Error::other("the port sends no bytes"), Doing::Device),
            "the port sends no bytes"
        );
    }
}
