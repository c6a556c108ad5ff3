//! Client certificates that do not count any more: lists of the authorities, and serial numbers.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_core::settings::crl::{self, List};
use gateway_core::settings::{pem, serials};

use super::Context;
use super::certificates::{Pem, pem as pem_file};
use super::files;
use crate::reader::Reader;

/// `crl`, beside the authorities of clients; the outer `None` means that something was reported.
pub(crate) fn crl(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    client_ca: Option<&Path>,
) -> Option<Option<PathBuf>> {
    if reader.lacks("crl") && reader.lacks("crl_credential") {
        return Some(None);
    }
    let path = pem_file(cx, reader, "crl", Pem::RevocationList)?.path;
    let at = reader.at(if reader.has("crl") { "crl" } else { "crl_credential" });
    let bytes = files::read(&path).unwrap_or_default();
    let lists = pem::sections(&bytes, "X509 CRL").unwrap_or_default();
    let lists: Option<Vec<_>> = lists.iter().map(|list| List::read(list)).collect();
    let Some(lists) = lists.filter(|lists| !lists.is_empty()) else {
        let text = format!(
            "`crl` = {} has a list that cannot be understood, expected PEM of a list: copy it again",
            path.display()
        );
        cx.found.misfit(&at, text);
        return None;
    };
    // Authorities that cannot be read are reported where they stand.
    let authorities = client_ca.and_then(|ca| files::read(ca).ok()).unwrap_or_default();
    let authorities = pem::sections(&authorities, "CERTIFICATE").unwrap_or_default();
    let authorities: Vec<_> = authorities.iter().filter_map(|authority| crl::subject(authority)).collect();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    for remark in crl::remarks(&lists, &authorities, now_s) {
        cx.found.warn(&at, format!("`crl` = {} {remark}", path.display()));
    }
    Some(Some(path))
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
