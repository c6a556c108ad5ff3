//! The topics on which this gateway has told how a bus or a device is, in a file beside the database: what a later run does not tell on any more, it clears.
//!
//! One topic per line. The file is replaced when other buses and devices are in force and when what is gone has been cleared at every uplink, so that a
//! card is written at changes of the configuration only. A line that is no such topic of this very gateway is passed over: a card that was copied into
//! another box clears nothing of the first.
//!
//! Bounds: [`FILE_BYTES_MAX`] are read, [`BULLETINS_MAX`] topics are kept.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_core::health::is_topic;
use gateway_core::os::{self, Doing};
use gateway_core::uplink::bulletins::BULLETINS_MAX;
use tokio::task::JoinHandle;

use crate::replace::{Plain, replace};

/// What the name of the file ends with, after that of the database.
const SUFFIX: &str = ".health";
/// Most that is read of it: [`BULLETINS_MAX`] of the longest names.
const FILE_BYTES_MAX: u64 = 2 << 20;
/// Topics in order.
pub(super) type Topics = BTreeSet<Arc<str>>;

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct EverTold {
    path: PathBuf,
    topics: Topics,
    writing: Option<JoinHandle<()>>,
}

impl EverTold {
    /// Reads what former runs of the gateway `id` have left beside the database. A file that cannot be read is told in the log and means nothing.
    pub(super) fn open(database: &Path, id: &str) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push(SUFFIX);
        let path = PathBuf::from(path);
        let topics = match read(&path) {
            Ok(text) => {
                text.lines().filter(|line| is_topic(id, line)).take(BULLETINS_MAX).map(Arc::from).collect()
            }
            Err(error) => {
                log::warn!("{}: {}", path.display(), os::sentence(&error, Doing::Reading));
                Topics::new()
            }
        };
        Self { path, topics, writing: None }
    }

    /// All of them.
    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The topics on which the gateway tells now are `present`. The others are forgotten once nothing `is_cleared` any more. `false` if this has to be
    /// said again, because a former list is still being written or something is still to be cleared.
    pub(super) fn keep(&mut self, present: &Topics, is_cleared: bool) -> bool {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return false;
        }
        let mut wanted = present.clone();
        if !is_cleared {
            wanted.extend(self.topics.iter().cloned());
            wanted = wanted.into_iter().take(BULLETINS_MAX).collect();
        }
        if wanted != self.topics {
            let text: String = wanted.iter().flat_map(|topic| [topic, "\n"]).collect();
            let path = self.path.clone();
            // A card may take seconds, and nobody waits for this.
            self.writing = Some(tokio::task::spawn_blocking(move || {
                if let Err(error) = write(&path, text.as_bytes()) {
                    log::warn!(
                        "{}: {}; what the next run does not tell on is not cleared",
                        path.display(),
                        os::sentence(&error, Doing::Writing)
                    );
                }
            }));
            self.topics = wanted;
        }
        is_cleared
    }
}

/// The whole file; nothing where there is none, and of what is no file.
fn read(path: &Path) -> io::Result<String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is not a file")),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Replaces the file as a whole: after a power cut it is the former one or this one.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    replace(&Plain, path, Path::new(&beside), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str]) -> Topics {
        names.iter().map(|name| Arc::from(format!("gw/health/device/{name}"))).collect()
    }

    async fn keep(told: &mut EverTold, present: &Topics, is_cleared: bool) {
        told.keep(present, is_cleared);
        if let Some(writing) = told.writing.take() {
            writing.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_gone_stays_in_the_file_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("buffer.db");
        let mut told = EverTold::open(&database, "gw");
        assert_eq!(told.topics(), &Topics::new());
        keep(&mut told, &topics(&["a", "b"]), true).await;
        let mut told = EverTold::open(&database, "gw");
        assert_eq!(told.topics(), &topics(&["a", "b"]));
        keep(&mut told, &topics(&["b", "c"]), false).await;
        let mut told = EverTold::open(&database, "gw");
        assert_eq!(told.topics(), &topics(&["a", "b", "c"]), "the cloud was away");
        keep(&mut told, &topics(&["b", "c"]), true).await;
        assert_eq!(EverTold::open(&database, "gw").topics(), &topics(&["b", "c"]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn nothing_is_written_while_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("buffer.db");
        let mut told = EverTold::open(&database, "gw");
        keep(&mut told, &topics(&["a"]), true).await;
        fs::remove_file(dir.path().join("buffer.db.health")).unwrap();
        keep(&mut told, &topics(&["a"]), true).await;
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn topics_of_another_gateway_and_what_is_no_topic_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("buffer.db");
        let text = b"gw/health/device/a\nother/health/device/b\ngw/health/device/#\ngw/health/device/\ngw/health/bus/c/d\n\xff\ngw/status\n";
        fs::write(dir.path().join("buffer.db.health"), text).unwrap();
        assert_eq!(EverTold::open(&database, "gw").topics(), &topics(&["a"]));
        fs::remove_file(dir.path().join("buffer.db.health")).unwrap();
        fs::create_dir(dir.path().join("buffer.db.health")).unwrap();
        assert_eq!(EverTold::open(&database, "gw").topics(), &Topics::new());
    }
}
