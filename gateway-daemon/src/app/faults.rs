//! What is wrong with the machine below: scripts of the system leave a file with one sentence for each fault in a folder, and take it away when the fault is gone.
//!
//! A task reads the folder every [`EVERY`], so that nobody waits for it. Bounds: [`FAULTS_MAX`] files, [`BYTES_MAX`] of each. Names and sentences go to
//! journals, terminals and the cloud: a name is `a-z 0-9 -`, a sentence is one line without control characters. Whatever else lies there (a folder, a link, a
//! pipe) is left alone.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::text::is_hidden;
use tokio::sync::watch;

use crate::panics::contain;

/// The sentence of each fault by its name.
pub(super) type Faults = BTreeMap<String, String>;

/// Most faults that are told: more than a machine can have and still run.
const FAULTS_MAX: usize = 32;
/// Most entries of the folder that are looked at.
const ENTRIES_MAX: usize = 256;
/// Longest sentence, bytes: some lines of a terminal.
const BYTES_MAX: usize = 400;
/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 64;
/// How often the folder is read.
const EVERY: Duration = Duration::from_secs(10);

/// The folder of this machine.
pub(super) fn folder() -> PathBuf {
    let named =
        std::env::var_os(super::environment::FAULTS_DIR).filter(|name| !name.is_empty()).map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from("/run/tidegate-faults"))
}

/// Looks at the folder from here on, until nobody wants to know.
pub(super) fn watch(folder: PathBuf) -> watch::Receiver<Arc<Faults>> {
    let (tell, told) = watch::channel(Arc::new(read(&folder)));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tell.closed() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let place = folder.clone();
            let Ok(fresh) =
                tokio::task::spawn_blocking(move || contain("reading the faults", || read(&place))).await
            else {
                continue;
            };
            tell.send_if_modified(|known| {
                let differs = **known != fresh;
                if differs {
                    *known = Arc::new(fresh);
                }
                differs
            });
        }
    });
    told
}

/// Reads the folder. Without one there are no faults.
fn read(folder: &Path) -> Faults {
    let Ok(entries) = std::fs::read_dir(folder) else { return Faults::new() };
    let mut faults = Faults::new();
    for entry in entries.take(ENTRIES_MAX).flatten() {
        let Some(name) = entry.file_name().to_str().filter(|name| is_name(name)).map(str::to_owned) else {
            continue;
        };
        if let Some(bytes) = content(&entry.path()) {
            faults.insert(name, sentence(&bytes));
        }
    }
    while faults.len() > FAULTS_MAX {
        faults.pop_last();
    }
    faults
}

fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(legal)
}

/// The beginning of a regular file. Opening waits for nobody, whatever it turns out to be.
fn content(path: &Path) -> Option<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).ok()?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// One line of text, whatever the bytes are.
fn sentence(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.replace(is_hidden, " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "no details are known".to_owned() } else { text }
}

/// What has come, with its sentence, and what has gone.
pub(super) fn changes<'a>(before: &'a Faults, after: &'a Faults) -> (Vec<(&'a str, &'a str)>, Vec<&'a str>) {
    let come = after.iter().filter(|(name, text)| before.get(*name) != Some(text));
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    (come.map(|(name, text)| (name.as_str(), text.as_str())).collect(), gone.map(String::as_str).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn faults(pairs: &[(&str, &str)]) -> Faults {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn each_file_is_a_fault_with_its_sentence() {
        let folder = folder_with(&[
            ("data-partition", b"the data partition was made anew\n"),
            ("provision", b"line 3: no such key\nline 4: another\n"),
            ("empty", b""),
        ]);
        let expected = faults(&[
            ("data-partition", "the data partition was made anew"),
            ("empty", "no details are known"),
            ("provision", "line 3: no such key line 4: another"),
        ]);
        assert_eq!(read(folder.path()), expected);
    }

    #[test]
    fn without_a_folder_there_are_no_faults() {
        assert_eq!(read(Path::new("/nowhere/at/all")), Faults::new());
        assert_eq!(read(Path::new("/dev/null")), Faults::new());
    }

    #[test]
    fn hostile_content_becomes_one_harmless_line() {
        let folder = folder_with(&[
            ("escape", b"\x1b[31mred\x07\0\r\n\xe2\x80\xaeturned"),
            ("bytes", b"\xff\xfe\x80"),
            ("long", &[b'x'; 100_000]),
            ("UPPER", b"name"),
            (".hidden", b"name"),
            ("with space", b"name"),
        ]);
        let read = read(folder.path());
        assert_eq!(read.keys().map(String::as_str).collect::<Vec<_>>(), ["bytes", "escape", "long"]);
        assert_eq!(read["escape"], "[31mred turned");
        assert_eq!(read["long"].len(), BYTES_MAX);
    }

    #[test]
    fn what_is_no_regular_file_is_left_alone_and_holds_nobody_up() {
        let folder = folder_with(&[("real", b"here")]);
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert_eq!(read(folder.path()), faults(&[("real", "here")]));
        drop(socket);
    }

    #[test]
    fn a_flood_of_files_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..ENTRIES_MAX + 50 {
            std::fs::write(folder.path().join(format!("f{number}")), "x").unwrap();
        }
        assert_eq!(read(folder.path()).len(), FAULTS_MAX);
    }

    #[test]
    fn what_comes_changes_and_goes_is_told_once() {
        let (before, after) =
            (faults(&[("a", "1"), ("b", "2"), ("c", "3")]), faults(&[("b", "2"), ("c", "4"), ("d", "5")]));
        assert_eq!(changes(&before, &after), (vec![("c", "4"), ("d", "5")], vec!["a"]));
        assert_eq!(changes(&after, &after), (vec![], vec![]));
    }
}
