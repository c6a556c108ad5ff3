//! The topics on which this gateway has told how a bus or a device is, in a file beside the database: what a later run does not tell on any more, it clears.
//!
//! One topic per line. The file is replaced when other buses and devices are in force and when what is gone has been cleared at every uplink, so that a
//! card is written at changes of the configuration only. A line that is no such topic of this very gateway is passed over: a card that was copied into
//! another box clears nothing of the first.
//!
//! A file that cannot be written is tried again every [`RETRY`]; the log says so once.
//!
//! Bounds: [`FILE_BYTES_MAX`] are read, [`BULLETINS_MAX`] topics are kept.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::health::is_topic;
use gateway_core::os::{self, Doing};
use gateway_core::tag::BootNs;
use gateway_core::uplink::bulletins::BULLETINS_MAX;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::replace::{Plain, replace};

/// What the name of the file ends with, after that of the database.
const SUFFIX: &str = ".health";
/// Most that is read of it: [`BULLETINS_MAX`] of the longest names.
const FILE_BYTES_MAX: u64 = 2 << 20;
/// Pause after it could not be written.
const RETRY: Duration = Duration::from_secs(60);

/// Topics in order.
pub(super) type Topics = BTreeSet<Arc<str>>;

/// What is to be in the file, and what is in it.
#[derive(Debug, Default)]
pub(super) struct EverTold {
    path: PathBuf,
    topics: Topics,
    /// What the file has; `None` after it could not be written.
    in_file: Option<Topics>,
    /// What is being written, and whether that has worked.
    writing: Option<(Topics, oneshot::Receiver<bool>)>,
    /// It could not be written, and is not tried again before this moment.
    retry_at: Option<BootNs>,
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
        Self { path, in_file: Some(topics.clone()), topics, ..Self::default() }
    }

    /// All that may be retained somewhere.
    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The gateway tells on these from now on. They go before all others where there is no room for all.
    pub(super) fn add(&mut self, present: &Topics) {
        let room = BULLETINS_MAX.saturating_sub(present.len());
        let others = self.topics.difference(present).take(room).cloned();
        self.topics = present.iter().cloned().chain(others).collect();
    }

    /// Nothing is retained there any more.
    pub(super) fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Writes the file if it has something else. Asked once a second: a card may take seconds, and nobody waits for that.
    pub(super) fn keep(&mut self, now: BootNs) {
        if let Some((topics, outcome)) = &mut self.writing {
            match outcome.try_recv() {
                Err(TryRecvError::Empty) => return,
                Ok(true) => (self.in_file, self.retry_at) = (Some(std::mem::take(topics)), None),
                Ok(false) | Err(TryRecvError::Closed) => {
                    (self.in_file, self.retry_at) = (None, Some(now.plus(RETRY)));
                }
            }
            self.writing = None;
        }
        if self.in_file.as_ref() == Some(&self.topics) || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        let text: String = self.topics.iter().flat_map(|topic| [topic, "\n"]).collect();
        let (path, is_told) = (self.path.clone(), self.retry_at.is_some());
        let (report, outcome) = oneshot::channel();
        self.writing = Some((self.topics.clone(), outcome));
        tokio::task::spawn_blocking(move || {
            let written = write(&path, text.as_bytes());
            if let (Err(error), false) = (&written, is_told) {
                let (path, error) = (path.display(), os::sentence(error, Doing::Writing));
                log::warn!(
                    "{path}: {error}; tried again every minute, until then a restart does not clear what it does not tell on"
                );
            }
            // Nobody listens to a gateway that has stopped.
            let _ = report.send(written.is_ok());
        });
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

    const NOW: BootNs = BootNs(1_000_000_000_000);

    /// Looks at `now` until nothing is being written.
    async fn keep(told: &mut EverTold, now: BootNs) {
        told.keep(now);
        while told.writing.is_some() {
            tokio::task::yield_now().await;
            told.keep(now);
        }
    }

    #[tokio::test]
    async fn what_is_gone_stays_in_the_file_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("buffer.db");
        let mut told = EverTold::open(&database, "gw");
        assert_eq!(told.topics(), &Topics::new());
        told.add(&topics(&["a", "b"]));
        keep(&mut told, NOW).await;
        let mut told = EverTold::open(&database, "gw");
        assert_eq!(told.topics(), &topics(&["a", "b"]));
        told.add(&topics(&["b", "c"]));
        keep(&mut told, NOW).await;
        let mut told = EverTold::open(&database, "gw");
        assert_eq!(told.topics(), &topics(&["a", "b", "c"]), "the cloud was away");
        told.forget("gw/health/device/a");
        keep(&mut told, NOW).await;
        assert_eq!(EverTold::open(&database, "gw").topics(), &topics(&["b", "c"]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn nothing_is_written_while_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("buffer.db");
        let mut told = EverTold::open(&database, "gw");
        told.add(&topics(&["a"]));
        keep(&mut told, NOW).await;
        fs::remove_file(dir.path().join("buffer.db.health")).unwrap();
        told.add(&topics(&["a"]));
        keep(&mut told, NOW).await;
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_file_that_could_not_be_written_is_written_a_minute_later() {
        let dir = tempfile::tempdir().unwrap();
        let (database, file) = (dir.path().join("buffer.db"), dir.path().join("buffer.db.health"));
        let mut told = EverTold::open(&database, "gw");
        fs::create_dir_all(file.join("in the way")).unwrap();
        told.add(&topics(&["a"]));
        keep(&mut told, NOW).await;
        fs::remove_dir_all(&file).unwrap();
        keep(&mut told, NOW.plus(RETRY - Duration::from_nanos(1))).await;
        assert!(!file.exists(), "a full card is not asked every second");
        keep(&mut told, NOW.plus(RETRY)).await;
        assert_eq!(EverTold::open(&database, "gw").topics(), &topics(&["a"]));
    }

    #[test]
    fn topics_in_force_go_before_former_ones_where_there_is_no_room_for_all() {
        let mut told = EverTold::default();
        let number = |letter: char| (0..BULLETINS_MAX - 1).map(move |number| format!("{letter}{number}"));
        let of = |letter: char| number(letter).map(Arc::from).collect::<Topics>();
        told.add(&of('a'));
        told.add(&of('z'));
        assert!(told.topics().is_superset(&of('z')));
        assert_eq!(told.topics().len(), BULLETINS_MAX, "and one of the others");
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
