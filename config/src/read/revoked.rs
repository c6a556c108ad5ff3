//! Client certificates that do not count any more: lists of the authorities, and serial numbers.

use std::path::PathBuf;

use gateway_core::settings::serials;

use super::Context;
use super::files::{self, Pem};
use crate::reader::Reader;

/// `crl`; the outer `None` means that something was reported.
pub(crate) fn crl(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Option<PathBuf>> {
    if reader.lacks("crl") && reader.lacks("crl_credential") {
        return Some(None);
    }
    files::pem(cx, reader, "crl", Pem::RevocationList).map(Some)
}

/// `revoked_file`; the outer `None` means that something was reported.
pub(crate) fn serials(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Option<PathBuf>> {
    if reader.lacks("revoked_file") {
        return Some(None);
    }
    let path = cx.base.join(reader.text("revoked_file")?);
    let refuse = |what: String| {
        cx.found.misfit(&reader.at("revoked_file"), format!("`revoked_file` = {} {what}", path.display()));
    };
    match files::read(&path) {
        Err(what) => {
            refuse(format!("{what}, expected a file with a serial number in each line: check the path"));
            None
        }
        Ok(bytes) => match serials::parse(&bytes) {
            Ok(_) => Some(Some(path)),
            Err(fault) => {
                refuse(fault.to_string());
                None
            }
        },
    }
}
