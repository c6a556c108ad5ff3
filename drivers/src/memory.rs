//! Freed memory goes back to the system, and what the kernel holds for sockets.
//!
//! glibc's allocator moves the size from which it takes memory from the system and gives it back at once up to the largest piece that was ever freed, and
//! keeps what is smaller in an arena for each thread. After some comparisons of passwords (7 MiB and more each, in whichever thread was free) the process
//! kept 149 MB that it did not use. With a size that does not move each of them leaves nothing behind. With another allocator, nothing is done.

use std::os::fd::BorrowedFd;

/// From this size on each piece of memory is the system's again when it is freed, bytes: larger than what comes often (reads, rows, ordinary
/// messages), smaller than what a comparison takes.
pub const MMAP_FROM_BYTES: i32 = 256 << 10;

/// Most freed memory at the end of the heap that is kept for the next one who needs some, bytes.
pub const KEEP_BYTES_MAX: i32 = 1 << 20;

/// To be called once, before threads are started.
pub fn give_back_at_once() {
    #[cfg(target_env = "gnu")]
    crate::sys::set_allocator(MMAP_FROM_BYTES, KEEP_BYTES_MAX);
}

/// Gives back what is free between what is used. Takes some milliseconds for some ten megabytes, and other threads that want memory wait meanwhile: to
/// be called after much was freed, and not often.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    crate::sys::trim_allocator();
}

/// Memory that the kernel has taken for a socket, bytes: for what is received and not read, and for what is not sent or not acknowledged. Nothing where it
/// cannot be asked.
#[must_use]
pub fn of_socket(socket: BorrowedFd<'_>) -> (u64, u64) {
    crate::sys::socket_memory(&socket).map_or((0, 0), |(received, to_send)| (received.into(), to_send.into()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::of_socket;

    #[test]
    fn a_socket_with_unread_bytes_takes_memory_of_the_kernel_and_one_without_takes_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut here, _) = listener.accept().unwrap();
        assert_eq!(of_socket(here.as_fd()), (0, 0));
        client.write_all(&[1; 20_000]).unwrap();
        let mut first = [0];
        here.read_exact(&mut first).unwrap();
        let (received, to_send) = of_socket(here.as_fd());
        assert!(received >= 19_999 && to_send == 0, "{received} {to_send}");
    }
}
