//! Certificates, keys and lists that the configuration names: what the handshake would say of them, and what the other side may refuse.

use std::ops::Range;
use std::path::PathBuf;

use gateway_certificates::{self as certificates, Fault, Misfit, Side};
use gateway_core::settings::certificate::{Certificate, Purpose, remarks};

use super::{Context, files};
use crate::reader::Reader;

/// What a PEM file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pem {
    /// The gateway's own certificate, and the chain behind it.
    Own(Purpose),
    /// Its key.
    Key,
    /// Authorities that the other side's certificates are held against.
    Authorities,
    /// Certificates that were called back.
    RevocationList,
}

/// A file that can be read and looks right.
pub(crate) struct PemFile {
    pub(crate) path: PathBuf,
    /// The key that names it.
    key: String,
    span: Range<usize>,
    bytes: Vec<u8>,
}

/// A PEM file that holds what it should. One that only looks so is reported, and comes back: a gateway that ran with it goes on.
pub(crate) fn pem(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, key: &str, want: Pem) -> Option<PemFile> {
    let (key, path) = files::path(cx, reader, key, &format!("{key}_credential"))?;
    let span = reader.at(&key);
    let bytes = certificates::read(&path);
    let file = PemFile { path, key, span, bytes: bytes.as_ref().cloned().unwrap_or_default() };
    let checked = bytes.and_then(|bytes| match want {
        Pem::Own(_) => certificates::chain(&bytes).map(|_| ()),
        Pem::Key => certificates::key(&bytes).map(|_| ()),
        Pem::RevocationList => certificates::lists(&bytes).map(|_| ()),
        Pem::Authorities => authorities(cx, &file, &bytes),
    });
    if let Err(fault) = checked {
        file.report(cx, fault);
        if !fault.is_deep() {
            return None;
        }
    }
    if want == Pem::Key {
        files::warn_open(cx, reader, &file.key, &file.path);
    }
    Some(file)
}

fn authorities(cx: &Context<'_, '_>, file: &PemFile, bytes: &[u8]) -> Result<(), Fault> {
    let found = certificates::authorities(bytes)?;
    if !found.vouch() {
        return Err(Fault::NoAuthority);
    }
    if found.ignored > 0 {
        let (count, all) = (found.ignored, found.list.len());
        file.warn(
            cx,
            &format!("holds {count} of {all} certificates that cannot be understood and are left out"),
        );
    }
    Ok(())
}

/// A certificate and its key: whether they belong together, and whether others will take them.
pub(crate) fn pair(cx: &Context<'_, '_>, cert: &PemFile, key: &PemFile, purpose: Purpose) {
    match certificates::pair(&cert.bytes, &key.bytes) {
        // What is wrong with one of them alone was said when it was read.
        Err(Misfit { side: Side::Certificate, fault }) if certificates::chain(&cert.bytes).is_ok() => {
            cert.report(cx, fault);
        }
        Err(Misfit { side: Side::Key, fault }) if certificates::key(&key.bytes).is_ok() => {
            key.report(cx, fault);
        }
        Err(_) => {}
        Ok(certified) => {
            let chain: Option<Vec<_>> = certified.cert.iter().map(|der| Certificate::read(der)).collect();
            for remark in remarks(&chain.unwrap_or_default(), purpose) {
                cert.warn(cx, &remark.to_string());
            }
        }
    }
}

impl PemFile {
    fn report(&self, cx: &Context<'_, '_>, fault: Fault) {
        let text = format!("`{}` = {} {fault}", self.key, self.path.display());
        if fault.is_deep() { cx.found.unfit(&self.span, text) } else { cx.found.misfit(&self.span, text) }
    }

    fn warn(&self, cx: &Context<'_, '_>, text: &str) {
        cx.found.warn(&self.span, format!("`{}` = {} {text}", self.key, self.path.display()));
    }
}
