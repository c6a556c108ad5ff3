//! Files that the configuration names: certificates, keys and passwords. Looked at when the configuration is read, so that
//! a wrong one is a message and not a link that never comes up. Contents of keys and passwords never reach a message.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gateway_core::settings::Secret;

use super::Context;
use crate::reader::Reader;

/// Largest file that is looked at: the system's whole list of authorities has 220 kB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest password ("MQTT Version 3.1.1", 3.1.3.5: two bytes of length).
const PASSWORD_BYTES_MAX: usize = 65_535;

/// What a PEM file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pem {
    Certificate,
    Key,
    RevocationList,
}

/// Path of the file behind `key` or of the credential behind its twin; reports what is wrong with either.
pub(crate) fn path(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    key: &str,
    twin: &str,
) -> Option<(String, PathBuf)> {
    if reader.has(key) && reader.has(twin) {
        let text = format!("`{twin}` and `{key}` are both given, expected one of them: remove one");
        cx.found.wrong(&reader.key_at(twin), text);
        return None;
    }
    if reader.has(twin) {
        let name = reader.name(twin)?;
        let Some(folder) = &cx.env.credentials_dir else {
            let text = format!(
                "`{twin}` names a systemd credential and $CREDENTIALS_DIRECTORY is not set, expected to run as a systemd service with \
                 LoadCredential={name}:/PATH in its unit: run it there, or name a file with `{key}`"
            );
            cx.found.misfit(&reader.at(twin), text);
            return None;
        };
        // A folder loaded as the credential `keys` lays its files down as keys_FILE; whoever writes that name means FILE, as provisioning sees it.
        let bare = name.as_str().strip_prefix("keys_").unwrap_or(name.as_str());
        let places = [folder.join(name.as_str()), folder.join(format!("keys_{name}")), folder.join(bare)];
        return Some((twin.to_owned(), readable_of(places)));
    }
    let text = reader.text(key)?;
    if text.contains('\\') {
        let text = format!("`{key}` holds a backslash, expected a Linux path: write / instead");
        cx.found.wrong(&reader.at(key), text);
        return None;
    }
    let beside = cx.base.join(&text);
    let secret = key == "key" || key.ends_with("_key") || key.contains("password");
    if !secret || text.contains('/') {
        return Some((key.to_owned(), beside));
    }
    let kept = cx.base.join("keys").join(&text);
    let credentials = cx.env.credentials_dir.iter();
    let credentials =
        credentials.flat_map(|folder| [folder.join(&text), folder.join(format!("keys_{text}"))]);
    let places = [beside, kept].into_iter().chain(credentials);
    Some((key.to_owned(), readable_of(places)))
}

/// The first of some places that holds a file we may read, or else the first: keys are kept beside the configuration, below it in `keys`, and
/// where systemd's `LoadCredential=keys:/etc/tidegate/keys` lays copies for a daemon that may not read those.
fn readable_of(places: impl IntoIterator<Item = PathBuf>) -> PathBuf {
    let mut first = None;
    for place in places {
        // Opening a pipe would wait for who writes to it.
        if place.is_file() && File::open(&place).is_ok() {
            return place;
        }
        first.get_or_insert(place);
    }
    first.unwrap_or_default()
}

/// A PEM file that holds what it should.
pub(crate) fn pem(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, key: &str, want: Pem) -> Option<PathBuf> {
    let (key, path) = path(cx, reader, key, &format!("{key}_credential"))?;
    let span = reader.at(&key);
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(what) => {
            cx.found.misfit(
                &span,
                format!("`{key}` = {} {what}, expected a PEM file: check the path", path.display()),
            );
            return None;
        }
    };
    if let Some(what) = pem_problem(&bytes, want) {
        cx.found.misfit(&span, format!("`{key}` = {} {what}", path.display()));
        return None;
    }
    if want == Pem::Key {
        warn_open(cx, reader, &key, &path);
    }
    Some(path)
}

/// The password in a file.
pub(crate) fn password(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    key: &str,
    twin: &str,
) -> Option<Secret> {
    let (key, path) = path(cx, reader, key, twin)?;
    let span = reader.at(&key);
    // The path is not shown: who writes the password itself here must not find it in a log.
    let refuse = |what: &str| cx.found.misfit(&span, format!("`{key}`: {what}"));
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(what) => {
            refuse(&format!(
                "the file that it names in {} {what}, expected a file that holds nothing but the password",
                path.parent().unwrap_or(cx.base).display()
            ));
            return None;
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        refuse("the file is not text in UTF-8: write the password into it again");
        return None;
    };
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.len() > PASSWORD_BYTES_MAX || text.contains(['\n', '\0']) {
        refuse("the file is empty or has several lines, expected one line with the password");
        return None;
    }
    warn_open(cx, reader, &key, &path);
    Some(Secret::new(text))
}

/// Warns when everybody on this machine can read a secret. Credentials are guarded by systemd.
fn warn_open(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, key: &str, path: &Path) {
    let open = path.metadata().is_ok_and(|m| m.mode() & 0o007 != 0);
    if open && !key.ends_with("_credential") {
        let text = format!("`{key}`: every user of this machine can read the file: run chmod o= on it");
        cx.found.warn(&reader.at(key), text);
    }
}

/// Reads a regular file of reasonable size.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, &'static str> {
    use std::io::ErrorKind;
    let why = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "does not exist",
        ErrorKind::PermissionDenied => "cannot be read by this user",
        ErrorKind::NotADirectory => "does not exist",
        _ => "cannot be read",
    };
    let metadata = path.metadata().map_err(why)?;
    if metadata.is_dir() {
        return Err("is a folder");
    }
    if !metadata.is_file() {
        return Err("is not a regular file");
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err("has more than 4 MiB");
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)).map_err(why)?;
    Ok(bytes)
}

/// Why a file cannot be what it should be, if so.
fn pem_problem(bytes: &[u8], want: Pem) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    let has = |label: &str| text.contains(&format!("-----BEGIN {label}-----"));
    let has_certificate = has("CERTIFICATE") || has("TRUSTED CERTIFICATE");
    let has_key = has("PRIVATE KEY") || has("RSA PRIVATE KEY") || has("EC PRIVATE KEY");
    let cut = || !text.contains("-----END ");
    match want {
        _ if bytes.is_empty() => Some("is empty, expected PEM text"),
        _ if bytes.first() == Some(&0x30) => Some(
            "is binary (DER or PKCS#12), expected PEM text: convert it with openssl (x509 or pkey -inform der, or pkcs12 -nodes)",
        ),
        _ if has("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") => {
            Some("holds a key with a passphrase, expected one without: run openssl pkey -in FILE -out NEW")
        }
        Pem::RevocationList if has("X509 CRL") => {
            cut().then_some("ends in the middle, expected a line -----END: copy it again")
        }
        Pem::RevocationList => Some(
            "holds no list of revoked certificates, expected a line -----BEGIN X509 CRL-----: write one by openssl ca -gencrl, or openssl crl -inform der",
        ),
        Pem::Certificate if has_certificate && !cut() => None,
        Pem::Key if has_key && !cut() => None,
        _ if has_certificate && cut() || has_key && cut() => {
            Some("ends in the middle, expected a line -----END: copy it again")
        }
        Pem::Certificate if has_key => {
            Some("holds a private key, expected a certificate: are the two files exchanged?")
        }
        Pem::Certificate if has("CERTIFICATE REQUEST") => {
            Some("holds a certificate request, expected the certificate that the authority made of it")
        }
        Pem::Key if has_certificate => {
            Some("holds a certificate, expected a private key: are the two files exchanged?")
        }
        _ if has("PUBLIC KEY") => Some("holds a public key, expected a certificate or a private key"),
        Pem::Certificate => Some("is not PEM, expected a line -----BEGIN CERTIFICATE-----"),
        Pem::Key => Some("is not PEM, expected a line -----BEGIN PRIVATE KEY-----"),
    }
}
