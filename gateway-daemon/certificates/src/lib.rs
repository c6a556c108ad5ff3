//! Certificates and keys in PEM files: the one room that reads them. What `check` says of a file is what `run` makes of it, because both ask here.
//!
//! ```text
//! config  --bytes--> chain, key, pair, authorities, lists --Fault: a sentence behind the name of the file-->  a problem with its line
//! link    --bytes-->  the same                                                                        -->  a loss, at each connect
//! listen  --bytes-->  the same                                                                        -->  a fault of the listener
//! ```
//! Invariants: no text holds bytes of a file, which may be those of a key. Bound: [`FILE_BYTES_MAX`]. Never: asks a clock, or verifies a signature; when a
//! certificate ends is judged by whoever knows a clock that can be believed (`gateway_core::settings::certificate`).

mod fault;
mod shape;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use gateway_core::settings::certificate::Certificate;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

pub use fault::{Fault, Misfit, Side};
use shape::Want;

/// Largest file that is read, bytes: the system's whole list of authorities has 220 kB.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads a regular file of reasonable size. Blocks on the file system, and on nothing else: a pipe is refused before it is opened.
///
/// # Errors
/// [`Fault::Unreadable`] or [`Fault::Forbidden`].
pub fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    use std::io::ErrorKind;
    let why = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Fault::Unreadable("does not exist"),
        ErrorKind::PermissionDenied => Fault::Forbidden,
        _ => Fault::Unreadable("cannot be read"),
    };
    let metadata = path.metadata().map_err(why)?;
    if metadata.is_dir() {
        return Err(Fault::Unreadable("is a folder"));
    }
    if !metadata.is_file() {
        return Err(Fault::Unreadable("is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(why)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(why)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::Unreadable("has more than 4 MiB"));
    }
    Ok(bytes)
}

/// The certificates of a file, in its order; at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    sections(pem, Want::Certificate, Fault::NoCertificate)
}

/// Lists of certificates that were called back; at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    sections(pem, Want::List, Fault::NoList)
}

/// The private key of a file.
///
/// # Errors
/// There is none, it is protected by a passphrase, or damaged.
pub fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    shape::look(pem, Want::Key)?;
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| fault(&error, Fault::NoKey))
}

/// Authorities that the other side's certificates are held against.
#[derive(Debug)]
pub struct Authorities {
    /// As TLS takes them; at least one.
    pub roots: RootCertStore,
    /// How many certificates of the file cannot be understood.
    pub ignored: usize,
    /// The certificates of the file.
    pub list: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Whether any certificate can come from one of them. If not, every other side is refused.
    #[must_use]
    pub fn vouch(&self) -> bool {
        let mut list = self.list.iter();
        list.any(|der| Certificate::read(der).is_none_or(|certificate| certificate.vouches()))
    }
}

/// The authorities of a file.
///
/// # Errors
/// There is none that can be understood.
pub fn authorities(pem: &[u8]) -> Result<Authorities, Fault> {
    let list = chain(pem)?;
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(list.iter().cloned());
    if added == 0 {
        return Err(Fault::Certificate);
    }
    Ok(Authorities { roots, ignored, list })
}

/// A certificate with the key that it was made for, ready for a handshake.
///
/// # Errors
/// Which of the files is not right, and why; or they were not made for each other.
pub fn pair(cert: &[u8], key: &[u8]) -> Result<CertifiedKey, Misfit> {
    let chain = chain(cert).map_err(|fault| fault.of(Side::Certificate))?;
    let der = self::key(key).map_err(|fault| fault.of(Side::Key))?;
    let provider: CryptoProvider = rustls::crypto::ring::default_provider();
    let signing = provider.key_provider.load_private_key(der).map_err(|_| Fault::KeyKind.of(Side::Key))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(mismatch(&certified)),
        Err(Error::InvalidCertificate(_)) => Err(not_understood(&certified).of(Side::Certificate)),
        // Some keys cannot tell; the handshake will.
        _ => Ok(certified),
    }
}

/// Perhaps the key is that of another certificate of the file.
fn mismatch(certified: &CertifiedKey) -> Misfit {
    let is_own = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], certified.key.clone()).keys_match().is_ok()
    };
    match certified.cert.iter().position(is_own) {
        Some(place) => Fault::NotFirst(place + 1).of(Side::Certificate),
        None => Fault::Mismatch.of(Side::Key),
    }
}

fn not_understood(certified: &CertifiedKey) -> Fault {
    let own = certified.cert.first().and_then(|der| Certificate::read(der));
    if own.is_some_and(|own| own.is_version_1) { Fault::Version1 } else { Fault::Certificate }
}

fn sections<T: PemObject>(pem: &[u8], want: Want, none: Fault) -> Result<Vec<T>, Fault> {
    shape::look(pem, want)?;
    let found: Vec<T> =
        T::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| fault(&error, none))?;
    if found.is_empty() { Err(none) } else { Ok(found) }
}

/// What a PEM error means, without the bytes of the file.
fn fault(error: &PemError, none: Fault) -> Fault {
    match error {
        PemError::NoItemsFound => none,
        PemError::MissingSectionEnd { .. } => Fault::Cut,
        PemError::IllegalSectionStart { .. } => Fault::Damaged("a BEGIN line is wrong"),
        PemError::Base64Decode(_) => Fault::Damaged("its base64 text is wrong"),
        PemError::SectionTooLarge => Fault::Damaged("a section is too large"),
        _ => Fault::Damaged("it is not readable"),
    }
}
