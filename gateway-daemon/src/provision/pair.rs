//! Whether certificates can be used: a renewed one that does not belong to its key would cut off a gateway that nobody can drive to.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Judged;
use super::disk;
use super::drop::FILE_BYTES_MAX;

/// What is wrong with the certificates below a folder, as `file:line:col: text`. Those elsewhere are not ours.
pub(super) fn problems(judged: &Judged, folder: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (cert, key) in judged.identities.iter().filter(|(cert, _)| cert.starts_with(folder)) {
        problems.extend(identity(cert, key).err());
    }
    for path in judged.authorities.iter().filter(|path| path.starts_with(folder)) {
        problems.extend(authorities(path).err());
    }
    problems.sort();
    problems.dedup();
    problems
}

fn at(path: &Path, text: &str) -> String {
    format!("{}:1:1: {text}", name(path))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("the file")
}

fn identity(cert: &Path, key: &Path) -> Result<(), String> {
    let chain = certificates(cert)?;
    let bytes = disk::read(key, FILE_BYTES_MAX).map_err(|error| at(key, &error.to_string()))?;
    let secret = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| at(key, "holds no private key that can be read: copy it again"))?;
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain, secret, &provider) {
        Ok(_) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(at(
            cert,
            &format!(
                "the certificate does not belong to the key {}, expected two files that were made for each other: copy both again",
                name(key)
            ),
        )),
        Err(rustls::Error::InvalidCertificate(_)) => {
            Err(at(cert, "the certificate is damaged or of a kind that is not known: copy it again"))
        }
        Err(_) => Err(at(
            key,
            "the private key is damaged or of a kind that is not known (RSA, ECDSA P-256 or P-384, Ed25519 are): copy it again",
        )),
    }
}

fn authorities(path: &Path) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(at(path, "holds no certificate that can be read: copy it again"));
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = disk::read(path, FILE_BYTES_MAX).map_err(|error| at(path, &error.to_string()))?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(at(path, "holds no certificate that can be read: copy it again")),
    }
}
