//! Files that the configuration names: where they are, and passwords; certificates and keys are in [`super::certificates`]. Looked at when the configuration
//! is read, so that a wrong one is a message and not a link that never comes up. Contents of keys and passwords never reach a message.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gateway_certificates::{self as certificates, Fault};
use gateway_core::settings::Secret;

use super::Context;
use crate::reader::Reader;

/// Longest password ("MQTT Version 3.1.1", 3.1.3.5: two bytes of length).
const PASSWORD_BYTES_MAX: usize = 65_535;

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
pub(crate) fn warn_open(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, key: &str, path: &Path) {
    let open = path.metadata().is_ok_and(|m| m.mode() & 0o007 != 0);
    if open && !key.ends_with("_credential") {
        let text = format!("`{key}`: every user of this machine can read the file: run chmod o= on it");
        cx.found.warn(&reader.at(key), text);
    }
}

/// Reads a regular file of reasonable size.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, &'static str> {
    certificates::read(path).map_err(|fault| match fault {
        Fault::Unreadable(what) => what,
        Fault::Forbidden => {
            "cannot be read by this user (check owner and mode of the file and of its folders)"
        }
        _ => "cannot be read",
    })
}
