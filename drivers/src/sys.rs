//! The kernel calls that no safe crate offers: RS485 direction control, low latency of USB serial adapters, how much output
//! a port still holds, the state of the kernel clock, whether the battery of a clock chip failed, the socket that systemd hands over, what the kernel keeps for a socket, which threads run
//! first, what the allocator keeps of freed memory, and ignoring a signal.
//!
//! The only module of the workspace with `unsafe`. Each block passes the kernel a pointer to a whole, initialised,
//! correctly laid out structure that outlives the call, or takes over a descriptor that nobody else owns, and nothing else.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};

use gateway_core::poll::settings::Rs485;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `struct serial_rs485` of linux/serial.h: flags, two delays in ms, five words of padding and addresses.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct SerialRs485 {
    flags: u32,
    delay_rts_before_send: u32,
    delay_rts_after_send: u32,
    padding: [u32; 5],
}

/// linux/serial.h.
const SER_RS485_ENABLED: u32 = 1 << 0;
const SER_RS485_RTS_ON_SEND: u32 = 1 << 1;
const SER_RS485_RTS_AFTER_SEND: u32 = 1 << 2;
const SER_RS485_RX_DURING_TX: u32 = 1 << 4;
/// linux/tty_flags.h: the driver hands bytes over at once instead of collecting them (FTDI: 16 ms).
const ASYNC_LOW_LATENCY: i32 = 1 << 13;

/// `struct serial_struct` of linux/serial.h, as the kernel ABI fixes it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct SerialStruct {
    kind: i32,
    line: i32,
    port: u32,
    irq: i32,
    flags: i32,
    xmit_fifo_size: i32,
    custom_divisor: i32,
    baud_base: i32,
    close_delay: u16,
    io_type: u8,
    reserved_char: u8,
    hub6: i32,
    closing_wait: u16,
    closing_wait2: u16,
    iomem_base: *mut u8,
    iomem_reg_shift: u16,
    port_high: u32,
    iomap_base: libc::c_ulong,
}

/// `RTC_VL_READ` of linux/rtc.h: `_IOR('p', 0x13, unsigned int)`.
const RTC_VL_READ: libc::Ioctl = 0x8004_7013;

/// `SD_LISTEN_FDS_START` of sd_listen_fds(3).
const FIRST_PASSED: RawFd = 3;

/// Asks the driver to switch the RS485 direction by itself, and checks that it took the settings over.
///
/// # Errors
/// `ENOTTY` and `EINVAL`: this driver does not know RS485. `Unsupported`: the driver keeps other settings than asked for.
pub(crate) fn set_rs485(port: &impl AsRawFd, rs485: &Rs485) -> io::Result<()> {
    let mut asked = SerialRs485 {
        flags: SER_RS485_ENABLED,
        delay_rts_before_send: rs485.delay_before_ms,
        delay_rts_after_send: rs485.delay_after_ms,
        padding: [0; 5],
    };
    asked.flags |= if rs485.rts_on_send { SER_RS485_RTS_ON_SEND } else { SER_RS485_RTS_AFTER_SEND };
    if rs485.rx_during_tx {
        asked.flags |= SER_RS485_RX_DURING_TX;
    }
    // SAFETY: TIOCSRS485 reads and writes one `struct serial_rs485`; `asked` has its layout and lives through the call.
    check(unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSRS485, &raw mut asked) })?;
    let mut actual = SerialRs485::default();
    // SAFETY: TIOCGRS485 writes one `struct serial_rs485`; `actual` has its layout and lives through the call.
    check(unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCGRS485, &raw mut actual) })?;
    let level = SER_RS485_ENABLED | SER_RS485_RTS_ON_SEND | SER_RS485_RTS_AFTER_SEND;
    if actual.flags & level != asked.flags & level {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the driver keeps other RS485 settings than asked for",
        ));
    }
    Ok(())
}

/// Asks the driver to hand bytes over at once. Without it an FTDI adapter keeps them for up to 16 ms.
///
/// # Errors
/// `ENOTTY`: the driver has no such setting (pseudo terminals, some adapters); nothing is lost but speed.
pub(crate) fn set_low_latency(port: &impl AsRawFd) -> io::Result<()> {
    let mut serial = std::mem::MaybeUninit::<SerialStruct>::zeroed();
    // SAFETY: TIOCGSERIAL writes one `struct serial_struct`; `serial` has its layout and lives through the call.
    check(unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCGSERIAL, serial.as_mut_ptr()) })?;
    // SAFETY: all bytes were zeroed above and every field is an integer or a raw pointer, for which zero is valid.
    let mut serial = unsafe { serial.assume_init() };
    if serial.flags & ASYNC_LOW_LATENCY != 0 {
        return Ok(());
    }
    serial.flags |= ASYNC_LOW_LATENCY;
    // SAFETY: TIOCSSERIAL reads one `struct serial_struct` that the driver itself filled a moment ago.
    check(unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSSERIAL, &raw const serial) })
}

/// Bytes that were written and are not on the wire yet, as far as the driver knows.
///
/// # Errors
/// The port is gone.
pub(crate) fn output_pending(port: &impl AsRawFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int; `bytes` is one and lives through the call.
    check(unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}

/// Whether the kernel believes that its clock is synchronised: `adjtimex` without `TIME_ERROR` and `STA_UNSYNC`.
pub(crate) fn kernel_clock_synchronised() -> bool {
    let mut timex = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: with `modes` = 0 adjtimex only writes one `struct timex`; `timex` is one and lives through the call.
    let state = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
    // SAFETY: all bytes were zeroed above and every field of `struct timex` is an integer.
    let timex = unsafe { timex.assume_init() };
    state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}

/// What a clock chip says of its supply, as bits `RTC_VL_*`; zero is that nothing ever failed.
///
/// # Errors
/// `ENOTTY` and `EINVAL`: its driver cannot say.
pub(crate) fn rtc_voltage(chip: &impl AsRawFd) -> io::Result<u32> {
    let mut flags: libc::c_uint = 0;
    // SAFETY: RTC_VL_READ writes one unsigned int; `flags` is one and lives through the call.
    check(unsafe { libc::ioctl(chip.as_raw_fd(), RTC_VL_READ, &raw mut flags) })?;
    Ok(flags)
}

/// `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_WMEM_QUEUED` and `SK_MEMINFO_BACKLOG` of linux/sock_diag.h: memory of what was received and is not read, of what is
/// to be sent or not acknowledged, and of what came while the socket was in use.
const MEMORY_RECEIVED: usize = 0;
const MEMORY_TO_SEND: usize = 5;
const MEMORY_BACKLOG: usize = 7;

/// Memory that the kernel has taken for a socket, bytes: for what is received and not read, and for what is not sent or not acknowledged.
///
/// # Errors
/// Linux before 4.12, or no socket.
pub(crate) fn socket_memory(socket: &impl AsRawFd) -> io::Result<(u32, u32)> {
    let mut memory = [0_u32; 9];
    let Ok(mut len) = libc::socklen_t::try_from(size_of_val(&memory)) else { return Ok((0, 0)) };
    // SAFETY: SO_MEMINFO writes at most `len` bytes of numbers; `memory` has that many bytes, and it and `len` live through the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            memory.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok((memory[MEMORY_RECEIVED].saturating_add(memory[MEMORY_BACKLOG]), memory[MEMORY_TO_SEND]))
}

/// Tells glibc's allocator which freed memory it is to give back to the system at once.
#[cfg(target_env = "gnu")]
pub(crate) fn set_allocator(mmap_from: libc::c_int, keep_max: libc::c_int) {
    // SAFETY: mallopt takes two numbers and no pointer; it is safe to call at any time and from any thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, mmap_from);
        libc::mallopt(libc::M_TRIM_THRESHOLD, keep_max);
    }
}

/// Gives pages back to the system that hold nothing but freed memory, of all arenas of glibc's allocator.
#[cfg(target_env = "gnu")]
pub(crate) fn trim_allocator() {
    // SAFETY: malloc_trim takes a number and no pointer, locks each arena while it looks at it, and touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets tokio's reactor watch a descriptor for reading. Must be called inside a tokio runtime with I/O.
///
/// # Errors
/// The reactor refuses the descriptor.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `register_with_interest` asks that the descriptor stays the same and open as long as the `AsyncFd` lives:
    // an `OwnedFd` never changes its descriptor and closes it only when it is dropped, with the `AsyncFd` that owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Takes over the one descriptor that systemd passes to this process. Call it once, before anything is opened.
pub(crate) fn first_passed() -> OwnedFd {
    // SAFETY: systemd has opened descriptor 3 for this process (the caller has read $LISTEN_PID and $LISTEN_FDS), and nobody else here knows of it.
    unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) }
}

/// Asks that the calling thread runs before all that are not real-time threads (`SCHED_FIFO`).
///
/// # Errors
/// `EPERM`: neither root nor a limit of real-time priorities (RLIMIT_RTPRIO) allows it.
pub(crate) fn run_first() -> io::Result<()> {
    let least = libc::sched_param { sched_priority: 1 };
    // SAFETY: sched_setscheduler reads one `struct sched_param`; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const least) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ignores a signal.
pub(crate) fn ignore_signal(number: i32) -> io::Result<()> {
    // SAFETY: signal takes two numbers and no pointer of ours; SIG_IGN installs no code.
    let before = unsafe { libc::signal(number, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
