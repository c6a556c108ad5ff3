//! What a file is by its look, before its content is understood: most files that are wrong are simply other files.

use crate::Fault;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// One certificate or more.
    Certificate,
    /// A private key.
    Key,
    /// Lists of certificates that were called back.
    List,
}

/// Looks at the lines of a file.
pub(crate) fn look(bytes: &[u8], want: Want) -> Result<(), Fault> {
    let text = String::from_utf8_lossy(bytes);
    let has = |label: &str| text.contains(&format!("-----BEGIN {label}-----"));
    let has_certificate = has("CERTIFICATE");
    let has_key = has("PRIVATE KEY") || has("RSA PRIVATE KEY") || has("EC PRIVATE KEY");
    let is_cut = !text.contains("-----END ");
    let is_whole = match want {
        Want::Certificate => has_certificate,
        Want::Key => has_key,
        Want::List => has("X509 CRL"),
    };
    Err(match want {
        _ if bytes.is_empty() => Fault::Empty,
        _ if bytes.first() == Some(&0x30) => Fault::Binary,
        // "ENCRYPTED" stands in the BEGIN line of PKCS#8 and in a header line of PKCS#1 and SEC1.
        _ if has("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") => Fault::PassPhrase,
        _ if is_whole && !is_cut => return Ok(()),
        _ if is_whole => Fault::Cut,
        Want::List => Fault::NoList,
        _ if (has_certificate || has_key) && is_cut => Fault::Cut,
        Want::Certificate if has("TRUSTED CERTIFICATE") => Fault::Trusted,
        Want::Certificate if has_key => Fault::KeyForCertificate,
        Want::Certificate if has("CERTIFICATE REQUEST") || has("NEW CERTIFICATE REQUEST") => Fault::Request,
        Want::Key if has_certificate => Fault::CertificateForKey,
        _ if has("PUBLIC KEY") => Fault::PublicKey,
        Want::Certificate => Fault::NoCertificate,
        Want::Key => Fault::NoKey,
    })
}
