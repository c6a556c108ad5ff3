use gateway_core::update::record::repeated;
use gateway_core::update::wire::{State, Status};

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A file as root's own programs leave it, whatever the umask of this test is.
fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

fn trial() -> Trial {
    Trial {
        boot: "one".into(),
        slot: "rootfs.0".into(),
        before: Default::default(),
        installed: false,
        reboot: true,
        version: None,
        key: None,
        downgrade: false,
    }
}

#[test]
fn a_record_is_there_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(&dir.path().join("not/yet/there"));
    assert_eq!(folder.trial().unwrap(), None);
    folder.set_trial(&trial()).unwrap();
    assert_eq!(folder.trial().unwrap(), Some(trial()));
    let last = Last { status: Status::of(State::Good), key: Some("42".into()) };
    folder.settle(&last).unwrap();
    assert_eq!((folder.trial().unwrap(), folder.last().unwrap()), (None, Some(last)));
    assert_eq!(folder.history().unwrap().keys, ["42"]);
    folder.set_passed(Some("1.2".into())).unwrap();
    assert_eq!(folder.history().unwrap().version.as_deref(), Some("1.2"));
    // Nothing is left beside them.
    assert_eq!(fs::read_dir(dir.path().join("not/yet/there")).unwrap().count(), 2);
}

#[test]
fn the_version_of_the_running_system_is_that_of_its_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("os-release");
    for (text, version) in [
        ("NAME=Tidegate\nIMAGE_VERSION=1.2\n", Some("1.2")),
        ("ID=tidegate\nIMAGE_VERSION=\"1.2-rc1\"\nVERSION_ID=9\n", Some("1.2-rc1")),
        ("NAME=Tidegate\nIMAGE_VERSION=1.2\nIMAGE_VERSION=1.3\n", Some("1.3")),
        ("NAME=Debian\nVERSION_ID=\"12\"\n", None),
        ("NAME=Tidegate\nIMAGE_VERSION=\n", None),
    ] {
        put(&path, text.as_bytes());
        assert_eq!(system_version(&path).unwrap().as_deref(), version, "{text}");
    }
}

#[test]
fn a_version_file_that_is_missing_empty_foreign_or_no_file_is_an_error_and_not_a_system_without_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("os-release");
    let why = || system_version(&path).unwrap_err().to_string();
    assert!(why().ends_with("it does not exist; check the path"), "{}", why());
    for bytes in [&b""[..], b"\n\n", b"IMAGE_VER", b"NAME=\xff\nIMAGE_VERSION=1.2\n"] {
        put(&path, bytes);
        assert!(system_version(&path).is_err(), "{bytes:?}");
    }
    put(&path, b"NAME=Tidegate\nIMAGE_VERSION=1.2\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(why().contains("others than root can write it"), "{}", why());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert!(why().contains("a link to nothing"), "{}", why());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(why().contains("it is not a file"), "{}", why());
}

#[test]
fn a_pipe_in_the_place_of_a_record_is_an_error_and_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path());
    for name in [BEFORE, LAST, HISTORY] {
        let status = std::process::Command::new("mkfifo").arg(dir.path().join(name)).status();
        assert!(status.unwrap().success());
    }
    assert!(folder.trial().is_err() && folder.last().is_err());
    assert!(folder.history().is_err());
}

#[test]
fn the_command_of_a_system_that_waits_for_its_start_is_remembered_when_another_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path());
    let of = |key: &str, installed| Trial { installed, key: Some(key.into()), ..trial() };
    let put = |trial: &Trial| {
        folder.set_trial(trial).unwrap();
        folder.history().unwrap().keys
    };
    assert_eq!(put(&of("A", false)), Vec::<String>::new());
    assert_eq!(put(&of("A", true)), Vec::<String>::new(), "the same command goes on");
    assert_eq!(put(&of("B", false)), ["A"]);
    assert_eq!(put(&of("C", false)), ["A"], "B has changed nothing");
    let repeated = |key: &str| {
        repeated(
            key,
            folder.trial().unwrap().as_ref(),
            folder.last().unwrap().as_ref(),
            &folder.history().unwrap(),
        )
    };
    assert_eq!([repeated("A"), repeated("B"), repeated("C")], [true, false, true]);
}

#[test]
fn a_torn_or_foreign_record_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path());
    for bytes in [&b"{"[..], b"", b"\xff", b"[]", b"null"] {
        fs::write(dir.path().join(BEFORE), bytes).unwrap();
        assert!(folder.trial().is_err(), "{bytes:?}");
    }
}

#[test]
fn why_an_update_was_undone_is_kept_until_it_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path());
    folder.clear_why_back().unwrap();
    folder.set_why_back("bus line: silent").unwrap();
    assert_eq!(folder.why_back().as_deref(), Some("bus line: silent"));
    folder.clear_why_back().unwrap();
    assert_eq!(folder.why_back(), None);
}

type Break = fn(&Path);

/// Each leaves something in the place of a history that says nothing reliable of what ran here.
const BREAKS: [(&str, Break); 10] = [
    ("empty", |path| put(path, b"")),
    ("cut", |path| put(path, b"{\"version\":\"2.")),
    ("no text", |path| put(path, b"\xff\xfe")),
    ("a list", |path| put(path, b"[]")),
    ("nothing", |path| put(path, b"null")),
    ("without its version", |path| put(path, b"{\"keys\":[]}")),
    ("without its keys", |path| put(path, b"{\"version\":\"0.1\"}")),
    ("a folder", |path| fs::create_dir_all(path.join("in it")).unwrap()),
    ("a link to nothing", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
    ("open to others", |path| {
        put(path, b"{\"version\":\"0.1\",\"keys\":[]}");
        fs::set_permissions(path, fs::Permissions::from_mode(0o664)).unwrap();
    }),
];

#[test]
fn a_history_that_is_not_there_is_none_and_one_that_cannot_be_read_is_an_error() {
    for (what, put_there) in BREAKS {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert_eq!(folder.history().unwrap(), History::default());
        put_there(&dir.path().join(HISTORY));
        let fault = folder.history().expect_err(what).to_string();
        assert!(fault.contains("history.json: "), "{what}: {fault}");
    }
}

#[test]
fn a_history_of_another_owner_is_an_error() {
    if !rustix::process::geteuid().is_root() {
        // Without root no file can be given to somebody else.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(HISTORY);
    put(&path, b"{\"version\":\"0.1\",\"keys\":[]}");
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    let fault = Folder::new(dir.path()).history().unwrap_err().to_string();
    assert!(fault.ends_with("it belongs to user 65534, expected root"), "{fault}");
}

#[test]
fn an_outcome_is_kept_and_a_history_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    for (what, put_there) in BREAKS {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        put_there(&dir.path().join(HISTORY));
        let done = Trial { installed: true, key: Some("A".into()), ..trial() };
        folder.set_trial(&done).unwrap();
        folder.set_trial(&Trial { key: Some("B".into()), ..trial() }).unwrap();
        let last = Last { status: Status::of(State::RolledBack), key: Some("B".into()) };
        folder.settle(&last).unwrap();
        assert_eq!((folder.trial().unwrap(), folder.last().unwrap()), (None, Some(last)), "{what}");
        folder.set_passed(None).unwrap();
        assert!(folder.history().is_err(), "{what}");
    }
}

#[test]
fn a_history_that_cannot_be_read_begins_anew_with_the_next_system_that_passes_and_lies_beside() {
    for (what, put_there) in BREAKS {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        for version in ["2.0", "2.1"] {
            put_there(&dir.path().join(HISTORY));
            folder.set_passed(Some(version.into())).expect(what);
            assert_eq!(folder.history().unwrap().version.as_deref(), Some(version), "{what}");
            assert!(fs::symlink_metadata(dir.path().join(BROKEN)).is_ok(), "{what}");
            fs::remove_file(dir.path().join(HISTORY)).unwrap();
        }
    }
}

#[test]
fn a_system_without_a_version_that_passes_does_not_take_the_known_one_away() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path());
    folder.set_passed(Some("2.0".into())).unwrap();
    folder.set_passed(None).unwrap();
    assert_eq!(folder.history().unwrap().version.as_deref(), Some("2.0"));
}
