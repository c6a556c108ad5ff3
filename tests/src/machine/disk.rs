//! A disk with a volatile write cache, as cards and SSDs have, served to QEMU over NBD: what the guest has not flushed can be lost when the
//! power goes, sector by sector.
//!
//! Killing QEMU alone would lose only what the guest still had in its own memory: everything it had handed to the disk would survive in the page
//! cache of the host, flushed or not, and a forgotten fsync would never be seen. Here a write is kept in memory until the guest flushes (or
//! asks for it with FUA), and a cut of the power decides by lot which of the sectors that were not flushed are on the disk.
//!
//! One connection at a time, requests in their order; the protocol is the fixed newstyle one of the NBD project's `doc/proto.md`, as far as
//! QEMU speaks it with a server that offers little.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::sim::chance::Chance;

const SECTOR: usize = 512;

/// Longest request that is taken; QEMU's longest is 32 MiB.
const REQUEST_MAX: u32 = 64 << 20;

/// Longest option of the handshake that is taken.
const OPTION_MAX: u32 = 1 << 16;

const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_E889_0455_65A9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Flags are given, flush and FUA are understood.
const EXPORT_FLAGS: u16 = 1 | 4 | 8;

/// What a cut of the power does to sectors that were written and not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// They are all on the disk: only the guest's own memory is lost.
    Nothing,
    /// None of them is.
    All,
    /// Each is or is not, by lot; the seed repeats the lot.
    ByLot(u64),
}

#[derive(Debug)]
struct Platter {
    file: File,
    /// Written and not flushed, by sector.
    cached: BTreeMap<u64, [u8; SECTOR]>,
}

impl Platter {
    fn read(&self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        let first = offset / SECTOR as u64;
        for (sector, cached) in self.cached.range(first..first + (length / SECTOR) as u64) {
            let at = usize::try_from(sector - first).map_or(0, |sectors| sectors * SECTOR);
            bytes[at..at + SECTOR].copy_from_slice(cached);
        }
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (sectors, _) = bytes.as_chunks::<SECTOR>();
        for (sector, bytes) in (offset / SECTOR as u64..).zip(sectors) {
            self.cached.insert(sector, *bytes);
        }
    }

    fn flush(&mut self, keep: impl FnMut() -> bool) -> std::io::Result<()> {
        let mut keep = keep;
        for (sector, bytes) in std::mem::take(&mut self.cached) {
            if keep() {
                self.file.write_all_at(&bytes, sector * SECTOR as u64)?;
            }
        }
        Ok(())
    }
}

/// A running disk.
#[derive(Debug)]
pub struct Disk {
    // The server reads and writes while a machine runs; the test asks only when it does not.
    platter: Arc<Mutex<Platter>>,
    task: JoinHandle<()>,
}

impl Disk {
    /// Serves the card at `card` on the socket `socket` as export "card".
    ///
    /// # Errors
    /// One of the two cannot be opened.
    pub(super) fn serve(card: &Path, socket: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(card).context("the card")?;
        let size = file.metadata()?.len();
        ensure!(size.is_multiple_of(SECTOR as u64), "the card is not a whole number of sectors");
        let platter = Arc::new(Mutex::new(Platter { file, cached: BTreeMap::new() }));
        let listener = UnixListener::bind(socket).context("the socket of the disk")?;
        let served = Arc::clone(&platter);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // It ends with the machine, in the middle of anything.
                let _ = connection(stream, &served, size).await;
            }
        });
        Ok(Self { platter, task })
    }

    /// The power is off: settles what is on the disk. Gives how many sectors were not flushed.
    ///
    /// # Errors
    /// The card cannot be written.
    pub(super) fn power_off(self, loss: Loss) -> Result<usize> {
        self.task.abort();
        let mut platter = self.platter.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = platter.cached.len();
        match loss {
            Loss::Nothing => platter.flush(|| true)?,
            Loss::All => platter.flush(|| false)?,
            Loss::ByLot(seed) => {
                let mut chance = Chance::new(seed);
                platter.flush(|| chance.one_in(2))?;
            }
        }
        Ok(cached)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(stream: UnixStream, platter: &Mutex<Platter>, size: u64) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::with_capacity(1 << 20, read);
    write.write_all(b"NBDMAGICIHAVEOPT").await?;
    // Fixed newstyle, without the zeros of the old one.
    write.write_u16(1 | 2).await?;
    read.read_u32().await?;
    while !option(&mut read, &mut write, size).await? {}
    while request(&mut read, &mut write, platter, size).await? {}
    Ok(())
}

type Reader = BufReader<tokio::net::unix::OwnedReadHalf>;
type Writer = tokio::net::unix::OwnedWriteHalf;

/// Takes one option of the handshake; `true` after the one that begins the transmission.
async fn option(read: &mut Reader, write: &mut Writer, size: u64) -> Result<bool> {
    const GO: u32 = 7;
    const ACK: u32 = 1;
    const INFO: u32 = 3;
    const UNSUPPORTED: u32 = 0x8000_0001;
    ensure!(read.read_u64().await? == OPTION_MAGIC, "no option");
    let (kind, length) = (read.read_u32().await?, read.read_u32().await?);
    ensure!(length <= OPTION_MAX, "an option of {length} bytes");
    let mut body = vec![0; length as usize];
    read.read_exact(&mut body).await?;
    let answer = |reply: u32, body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap_or(0);
        let words = [kind.to_be_bytes(), reply.to_be_bytes(), length.to_be_bytes()].concat();
        [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &words, body].concat()
    };
    if kind != GO {
        write.write_all(&answer(UNSUPPORTED, &[])).await?;
        return Ok(false);
    }
    let export = [&[0, 0][..], &size.to_be_bytes(), &EXPORT_FLAGS.to_be_bytes()].concat();
    write.write_all(&[answer(INFO, &export), answer(ACK, &[])].concat()).await?;
    Ok(true)
}

/// Takes one request; `false` when the client says goodbye.
async fn request(read: &mut Reader, write: &mut Writer, platter: &Mutex<Platter>, size: u64) -> Result<bool> {
    const INVALID: u32 = 22;
    ensure!(read.read_u32().await? == REQUEST_MAGIC, "no request");
    let (flags, kind) = (read.read_u16().await?, read.read_u16().await?);
    let (cookie, offset, length) = (read.read_u64().await?, read.read_u64().await?, read.read_u32().await?);
    ensure!(length <= REQUEST_MAX, "a request of {length} bytes");
    let whole = offset.is_multiple_of(SECTOR as u64) && (length as usize).is_multiple_of(SECTOR);
    let inside = offset.checked_add(length.into()).is_some_and(|end| end <= size);
    let mut body = vec![0; if kind == 1 { length as usize } else { 0 }];
    read.read_exact(&mut body).await?;
    let done = {
        let mut platter = platter.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            _ if !whole || !inside => Err(INVALID),
            0 => platter.read(offset, length as usize).map_err(|_| 5),
            1 => {
                platter.write(offset, &body);
                // FUA: more than it asks for, and never less.
                let flushed = if flags & 1 == 1 { platter.flush(|| true) } else { Ok(()) };
                flushed.map(|()| Vec::new()).map_err(|_| 5)
            }
            2 => return Ok(false),
            3 => platter.flush(|| true).map(|()| Vec::new()).map_err(|_| 5),
            _ => Err(INVALID),
        }
    };
    let (error, bytes) = done.map_or_else(|error| (error, Vec::new()), |bytes| (0, bytes));
    let head = [REPLY_MAGIC.to_be_bytes(), error.to_be_bytes()].concat();
    write.write_all(&[&head[..], &cookie.to_be_bytes(), &bytes].concat()).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::{Platter, SECTOR};
    use std::collections::BTreeMap;

    fn platter() -> Platter {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * SECTOR as u64).unwrap();
        Platter { file, cached: BTreeMap::new() }
    }

    #[test]
    fn what_was_written_is_read_before_it_is_flushed_and_only_flushed_sectors_survive() {
        let mut platter = platter();
        platter.write(512, &[1; 2 * SECTOR]);
        assert_eq!(
            platter.read(0, 4 * SECTOR).unwrap(),
            [[0; SECTOR], [1; SECTOR], [1; SECTOR], [0; SECTOR]].concat()
        );
        platter.flush(|| true).unwrap();
        platter.write(1024, &[2; SECTOR]);
        platter.flush(|| false).unwrap();
        assert_eq!(platter.read(512, 2 * SECTOR).unwrap(), [1; 2 * SECTOR]);
    }
}
