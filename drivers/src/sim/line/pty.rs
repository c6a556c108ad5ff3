//! Pseudo terminals behind stable links.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// The line's side of a pseudo terminal; the other side is a port for a program, at a link.
pub(super) struct Pty {
    link: PathBuf,
    /// `None` while unplugged.
    ends: Option<Ends>,
}

struct Ends {
    line: OwnedFd,
    /// Keeps the terminal alive while no program has it open: without it the line's side reads EIO.
    _program: OwnedFd,
}

impl Pty {
    pub(super) fn open(link: &Path) -> io::Result<Self> {
        let mut pty = Self { link: link.to_owned(), ends: None };
        pty.plug_in()?;
        Ok(pty)
    }

    pub(super) fn plug_in(&mut self) -> io::Result<()> {
        let line = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&line, true)?;
        grantpt(&line)?;
        unlockpt(&line)?;
        let name = ptsname(&line, Vec::new())?;
        let program =
            rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut attributes = tcgetattr(&program)?;
        attributes.make_raw();
        tcsetattr(&program, OptionalActions::Now, &attributes)?;
        self.unlink();
        std::os::unix::fs::symlink(name.to_string_lossy().as_ref(), &self.link)?;
        self.ends = Some(Ends { line, _program: program });
        Ok(())
    }

    pub(super) fn hang_up(&mut self) {
        self.unlink();
        self.ends = None;
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.line.as_fd())
    }

    /// Bytes the program has written, if any.
    pub(super) fn read(&self, buffer: &mut [u8]) -> usize {
        self.fd().and_then(|fd| rustix::io::read(fd, buffer).ok()).unwrap_or(0)
    }

    /// Bytes for the program; what its full buffer does not take is lost, as on a real port.
    pub(super) fn write(&self, bytes: &[u8]) {
        if let Some(fd) = self.fd() {
            let _ = rustix::io::write(fd, bytes);
        }
    }

    fn unlink(&self) {
        // The link is not there the first time.
        let _ = std::fs::remove_file(&self.link);
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.unlink();
    }
}

/// Something to wake the line's thread with: write 8 bytes into the first to make the second readable.
pub(super) fn waker() -> io::Result<(OwnedFd, OwnedFd)> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let woken = wake.try_clone()?;
    Ok((wake, woken))
}
