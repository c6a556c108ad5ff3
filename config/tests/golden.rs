//! Files that an electrician would write: `wrong/*.toml` beside the exact message each gives, `right/*.toml` beside the settings
//! each becomes. `TIDEGATE_GOLDEN=write` (or `cargo xtask golden`) writes them anew; read them aloud before committing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use gateway_config::{Environment, Problems, parse};

/// Must not appear in any message.
const PASSWORD: &str = "hunter2";

/// The files that configurations in the folders name, with their modes.
const FILES: &[(&str, &[u8], u32)] = &[
    ("ca.pem", include_bytes!("files/ca.pem"), 0o644),
    ("device.pem", include_bytes!("files/device.pem"), 0o644),
    ("device.key", include_bytes!("files/device.key"), 0o600),
    ("open.key", include_bytes!("files/device.key"), 0o644),
    ("other.key", include_bytes!("files/other.key"), 0o600),
    ("version-1.pem", include_bytes!("files/version-1.pem"), 0o644),
    ("client.pem", include_bytes!("files/client.pem"), 0o644),
    ("server.pem", include_bytes!("files/server.pem"), 0o644),
    ("self-signed.pem", include_bytes!("files/self-signed.pem"), 0o644),
    ("turned-chain.pem", include_bytes!("files/turned-chain.pem"), 0o644),
    ("mixed-chain.pem", include_bytes!("files/mixed-chain.pem"), 0o644),
    ("damaged.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", 0o644),
    ("damaged.key", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", 0o600),
    (
        "passphrase.key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
        0o600,
    ),
    ("request.csr", b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n", 0o644),
    ("device.der", b"\x30\x82\x01\x02binary", 0o644),
    ("cut.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n", 0o644),
    ("empty.pem", b"", 0o644),
    ("damaged.crl", b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n", 0o644),
    ("plant.pem", include_bytes!("files/plant.pem"), 0o644),
    ("plant.crl", include_bytes!("files/plant.crl"), 0o644),
    ("other.crl", include_bytes!("files/other.crl"), 0o644),
    ("late.crl", include_bytes!("files/late.crl"), 0o644),
    ("revoked.txt", b"# stolen\n3A:5F:00:91\n", 0o644),
    ("readme.txt", b"put the certificate here\n", 0o644),
    ("password.txt", b"hunter2\n", 0o600),
    ("wifi-password.txt", b"hunter2hunter2\r\n", 0o600),
    ("open-password.txt", b"hunter2\r\n", 0o644),
    ("two-lines.txt", b"hunter2\nhunter2\n", 0o600),
];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, mode) in FILES {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    fs::create_dir(folder.path().join("certs")).unwrap();
    folder
}

fn toml_files(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(kind);
    let mut list: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    list.sort();
    list
}

/// Compares with the file beside it, or writes it.
fn check(path: &Path, actual: &str, stale: &mut Vec<String>) {
    if std::env::var_os("TIDEGATE_GOLDEN").is_some_and(|word| word == "write") {
        fs::write(path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected != actual {
        stale.push(format!("{}:\nexpected:\n{expected}\nactual:\n{actual}", path.display()));
    }
}

fn read(path: &Path, base: &Path) -> Result<String, Problems> {
    let bytes = fs::read(path).unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let (config, warnings) = parse(text, name, base, &Environment::default())?;
    let mut out: String = warnings.iter().map(|w| format!("{w}\n")).collect();
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&format!("{config:#?}\n"));
    Ok(out)
}

#[test]
fn every_wrong_file_gives_exactly_the_message_beside_it() {
    let folder = folder();
    let mut stale = Vec::new();
    let files = toml_files("wrong");
    assert!(files.len() >= 50, "{} files", files.len());
    for path in files {
        let problems = read(&path, folder.path()).expect_err(&path.display().to_string());
        let text = format!("{problems}\n").replace(&folder.path().display().to_string(), "FOLDER");
        assert!(!text.contains(PASSWORD), "a password in a message: {text}");
        check(&path.with_extension("txt"), &text, &mut stale);
    }
    assert!(stale.is_empty(), "{}\nrefresh with `cargo xtask golden`", stale.join("\n"));
}

#[test]
fn every_right_file_becomes_exactly_the_settings_beside_it() {
    let folder = folder();
    let mut stale = Vec::new();
    for path in toml_files("right") {
        let text = read(&path, folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
        let text = text.replace(&folder.path().display().to_string(), "FOLDER");
        assert!(!text.contains(PASSWORD), "a password in the settings: {text}");
        check(&path.with_extension("txt"), &text, &mut stale);
    }
    assert!(stale.is_empty(), "{}\nrefresh with `cargo xtask golden`", stale.join("\n"));
}

#[test]
fn reference_in_docs_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
    let mut stale = Vec::new();
    check(&path, &gateway_config::reference(), &mut stale);
    assert!(stale.is_empty(), "docs/config.md is stale, refresh with `cargo xtask golden`");
}

#[test]
fn shipped_files_are_read_without_a_warning() {
    let folder = folder();
    for name in ["gateway.example.toml", "minimal.toml", "demo.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = fs::read_to_string(&path).unwrap();
        let (_, warnings) =
            parse(&text, name, folder.path(), &Environment::default()).unwrap_or_else(|p| panic!("{p}"));
        assert_eq!(warnings, [], "{name}");
    }
}

/// Whoever copies an example and starts it has opened nothing to strangers, and no password that others know.
#[test]
fn examples_are_safe_to_start_as_they_are() {
    let folder = folder();
    for name in ["gateway.example.toml", "minimal.toml", "demo.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = fs::read_to_string(&path).unwrap();
        let (config, _) = parse(&text, name, folder.path(), &Environment::default()).unwrap();
        let listeners = config.broker.iter().flat_map(|broker| &broker.listeners);
        for listener in listeners {
            assert!(listener.address.ip().is_loopback(), "{name}: {} is open to strangers", listener.name);
        }
        assert!(!text.to_lowercase().contains("password is"), "{name} tells a password");
    }
}
