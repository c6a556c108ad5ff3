//! Reads the pages of an SQLite file without SQLite: what is left of a damaged database, row by row. Pure: bytes in, rows out.
//!
//! SQLite gives up where its first page, or the way down to a page, is damaged. Here every page is looked at by itself. Drawn after
//! <https://sqlite.org/fileformat2.html>, as far as our files use it (tables only, no indexes, no auto-vacuum, UTF-8):
//!
//! ```text
//! file      page 1 | page 2 | ...                 all of one size, 512 to 65536; page 1 begins with 100 bytes of header:
//!                                                 16 page size (2) | 32 first trunk of the free list (4) | 36 free pages (4)
//! inner     05 | free block (2) | cells n (2) | content from (2) | fragments (1) | right child (4) | pointer (2) * n | gap | cells
//!             cell: left child (4) | key v                    rows of the left child have keys up to `key`
//! leaf      0D | free block (2) | cells n (2) | content from (2) | fragments (1) | pointer (2) * n | gap | cells
//!             cell: payload length v | key v | payload | [first overflow page (4)]
//! overflow  next (4) | payload
//! trunk     next trunk (4) | leaves n (4) | free page (4) * n
//! payload   header length v | type v of each column | value of each column
//!             type: 0 null, 1-6 integer of 1, 2, 3, 4, 6, 8 bytes, 8 and 9 the numbers 0 and 1, even from 12 blob, odd from 13 text
//! v         1 to 9 bytes, big endian, 7 bits each and 8 in the ninth
//!
//! log       37 7F 06 82|83 (4) | version (4) | page size (4) | count (4) | salts (8) | checksum (8)    then frames:
//!           page number (4) | pages of the database after a commit, else 0 (4) | salts (8) | checksum (8) | page
//! ```
//!
//! `image` is the file with the committed frames of its log laid over it, `log` finds those, `node` takes a page apart, `record` a payload, `reader`
//! goes down the trees and finds the pages to which no way leads any more.
//!
//! Which rows are alive: those that a tree leads to, and, where a tree has a hole, those on stray pages whose keys fit into the hole and that are
//! not on the free list. A page that is neither in a tree nor fits a hole is a leftover. Whether a row is whole, its own checksum decides, not we.
//!
//! Bounds: four bits of memory for each page, [`reader::HOLES_MAX`] holes, one payload, and 16 bytes for each page in the log. Each page is read a few times
//! at most: ways down are [`reader::DEPTH_MAX`] long, no page is entered twice, and overflow chains share [`reader::OVERFLOW_READS`] reads per
//! page of the file.

mod bits;
mod image;
mod log;
mod node;
mod reader;
mod record;

pub(super) use image::{Bytes, Disk, Image};
pub(super) use log::Log;
pub(super) use reader::{Hole, Reader, Stray};
pub(super) use record::{Value, columns};
