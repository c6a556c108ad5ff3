//! The image of a card as the firmware sees it: four primary partitions, those that are FAT with their files.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fatfs::{FileSystem, FsOptions};

/// The firmware reads no partition behind these: "the MBR partitions are 1 to 4" (`autoboot.adoc`).
pub const PARTITIONS_MAX: u8 = 4;

/// A card in its image, and what it does not give back any more.
#[derive(Debug, Clone)]
pub struct Card {
    image: PathBuf,
    spoiled: BTreeSet<(u8, String)>,
}

/// Why a file has no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// There is none of that name.
    Missing,
    /// The card returns an error, or the file system is broken there.
    Unreadable,
}

impl Card {
    /// The card in this image.
    #[must_use]
    pub fn new(image: PathBuf) -> Self {
        Self { image, spoiled: BTreeSet::new() }
    }

    /// Where the image lies.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// From here on the card returns an error where this file lies.
    pub fn spoil(&mut self, partition: u8, name: &str) {
        self.spoiled.insert((partition, name.to_lowercase()));
    }

    /// Whether a partition has a FAT file system.
    #[must_use]
    pub fn is_fat(&self, partition: u8) -> bool {
        self.open(partition, false).is_ok()
    }

    /// The content of a file.
    ///
    /// # Errors
    /// The file is not there or cannot be read.
    pub fn read(&self, partition: u8, name: &str) -> Result<Vec<u8>, Lost> {
        let volume = self.open(partition, false).map_err(|_| Lost::Missing)?;
        let mut file = volume.root_dir().open_file(name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Lost::Missing,
            _ => Lost::Unreadable,
        })?;
        if self.spoiled.contains(&(partition, name.to_lowercase())) {
            return Err(Lost::Unreadable);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|_| Lost::Unreadable)?;
        Ok(bytes)
    }

    /// Whether there is a file of this name, readable or not.
    #[must_use]
    pub fn has(&self, partition: u8, name: &str) -> bool {
        self.open(partition, false).is_ok_and(|volume| volume.root_dir().open_file(name).is_ok())
    }

    /// The names at the top of a partition; none where it has no file system.
    #[must_use]
    pub fn names(&self, partition: u8) -> Vec<String> {
        let Ok(volume) = self.open(partition, false) else { return Vec::new() };
        volume.root_dir().iter().flatten().map(|entry| entry.file_name()).collect()
    }

    /// Writes a file where it lies, or makes it.
    ///
    /// # Errors
    /// There is no such partition, or no room.
    pub fn write(&self, partition: u8, name: &str, bytes: &[u8]) -> Result<()> {
        let volume = self.open(partition, true)?;
        let mut file = volume.root_dir().create_file(name)?;
        file.write_all(bytes)?;
        file.truncate()?;
        file.flush()?;
        Ok(())
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&self, partition: u8, name: &str) -> Result<()> {
        self.open(partition, true)?.root_dir().remove(name).with_context(|| format!("cannot delete {name}"))
    }

    /// Where a partition lies, logical ones too: first byte and length.
    ///
    /// # Errors
    /// The table has no such partition.
    pub fn place(&self, partition: u8) -> Result<(u64, u64)> {
        let mut file = File::open(&self.image).with_context(|| format!("{}", self.image.display()))?;
        if partition <= PARTITIONS_MAX {
            return entry(&mut file, 0, partition - 1);
        }
        let extended = entry(&mut file, 0, 3)?.0;
        let mut record = extended;
        for _ in PARTITIONS_MAX + 1..partition {
            record = extended + entry(&mut file, record, 1)?.0;
        }
        let (start, length) = entry(&mut file, record, 0)?;
        Ok((record + start, length))
    }

    /// The bytes of a partition, from an offset on.
    ///
    /// # Errors
    /// The image is shorter.
    pub fn bytes(&self, partition: u8, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut file = File::open(&self.image)?;
        file.seek(SeekFrom::Start(self.place(partition)?.0 + offset))?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes bytes over a partition, from an offset on.
    ///
    /// # Errors
    /// The image cannot be written.
    pub fn overwrite(&self, partition: u8, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.image)?;
        file.seek(SeekFrom::Start(self.place(partition)?.0 + offset))?;
        Ok(file.write_all(bytes)?)
    }

    fn open(&self, partition: u8, write: bool) -> Result<FileSystem<Window>> {
        let (start, length) = self.place(partition)?;
        let file = OpenOptions::new().read(true).write(write).open(&self.image)?;
        let volume = FileSystem::new(Window { file, start, length, at: 0 }, FsOptions::new())?;
        Ok(volume)
    }
}

/// An entry of a partition table: first byte, from the table's own base, and length.
fn entry(file: &mut File, table: u64, index: u8) -> Result<(u64, u64)> {
    let mut bytes = [0; 16];
    file.seek(SeekFrom::Start(table + 446 + 16 * u64::from(index)))?;
    file.read_exact(&mut bytes)?;
    let number =
        |from: usize| bytes[from..from + 4].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    anyhow::ensure!(bytes[4] != 0, "the table has no entry {}", index + 1);
    Ok((number(8) * 512, number(12) * 512))
}

/// One partition as a disk of its own.
struct Window {
    file: File,
    start: u64,
    length: u64,
    at: u64,
}

impl Window {
    fn within(&mut self, wanted: usize) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let left = self.length.saturating_sub(self.at);
        Ok(usize::try_from(left).unwrap_or(usize::MAX).min(wanted))
    }
}

impl Read for Window {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.within(into.len())?;
        let count = self.file.read(&mut into[..length])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.within(bytes.len())?;
        let count = self.file.write(&bytes[..length])?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
