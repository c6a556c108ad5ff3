//! Freed memory goes back to the system.
//!
//! glibc's allocator moves the size from which it takes memory from the system and gives it back at once up to the largest piece that was ever freed, and
//! keeps what is smaller in an arena for each thread. After some comparisons of passwords (7 MiB and more each, in whichever thread was free) the process
//! kept 149 MB that it did not use. With a size that does not move each of them leaves nothing behind. With another allocator, nothing is done.

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
