//! What is wrong with a file.

/// Why a file cannot be used. Printed behind its name: what is wrong, what was expected, what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("{0}, expected a PEM file: check the path")]
    Unreadable(&'static str),
    /// The user of the program may not read it.
    #[error(
        "cannot be read by this user, expected a PEM file that it may read: check owner and mode of the file and of its folders"
    )]
    Forbidden,
    /// Nothing is in it.
    #[error("is empty, expected PEM text")]
    Empty,
    /// DER or PKCS#12.
    #[error(
        "is binary (DER or PKCS#12), expected PEM text: convert it with openssl (x509 or pkey -inform der, or pkcs12 -nodes)"
    )]
    Binary,
    /// A key that somebody has to unlock.
    #[error("holds a key with a passphrase, expected one without: run openssl pkey -in FILE -out NEW")]
    PassPhrase,
    /// An END line is missing.
    #[error("ends in the middle, expected a line -----END: copy it again")]
    Cut,
    /// A key where a certificate should be.
    #[error("holds a private key, expected a certificate: are the two files exchanged?")]
    KeyForCertificate,
    /// What an authority makes a certificate of.
    #[error("holds a certificate request, expected the certificate that the authority made of it")]
    Request,
    /// The form that only OpenSSL knows.
    #[error("holds a TRUSTED CERTIFICATE, expected a CERTIFICATE: run openssl x509 -in FILE -out NEW")]
    Trusted,
    /// A certificate where a key should be.
    #[error("holds a certificate, expected a private key: are the two files exchanged?")]
    CertificateForKey,
    /// A public key.
    #[error("holds a public key, expected a certificate or a private key")]
    PublicKey,
    /// No certificate.
    #[error("is not PEM, expected a line -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// No key.
    #[error("is not PEM, expected a line -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// No list.
    #[error(
        "holds no list of revoked certificates, expected a line -----BEGIN X509 CRL-----: write one by openssl ca -gencrl, or openssl crl -inform der"
    )]
    NoList,
    /// What stands between the lines is not right.
    #[error("is damaged ({0}), expected PEM text: copy it again")]
    Damaged(&'static str),
    /// A certificate that TLS cannot read.
    #[error(
        "holds a certificate that cannot be understood, expected one by RFC 5280: copy it again, or ask the authority for another"
    )]
    Certificate,
    /// A certificate of version 1.
    #[error(
        "holds a certificate of version 1, which TLS does not take, expected version 3: ask the authority for one with extensions (openssl x509 -req with -extfile)"
    )]
    Version1,
    /// A key that TLS does not take.
    #[error(
        "holds a key that is damaged or of a kind that is not supported, expected ECDSA P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 8192 bits: copy it again, or make another"
    )]
    KeyKind,
    /// The key is another's.
    #[error(
        "does not belong to the certificate beside it, expected the key that this certificate was made for: exchange both together"
    )]
    Mismatch,
    /// The key is that of another certificate of the file.
    #[error(
        "has the certificate of this key in place {0}, expected it first and behind each the one that made it: sort them"
    )]
    NotFirst(usize),
    /// Nothing can come from these authorities.
    #[error(
        "holds no certificate of an authority, so that nobody's certificate is accepted by it: take the one of the authority that made those of the other side"
    )]
    NoAuthority,
}

impl Fault {
    /// The same, with the file that it is about.
    #[must_use]
    pub fn of(self, side: Side) -> Misfit {
        Misfit { side, fault: self }
    }

    /// Whether a gateway that ran before goes on without what the file is for: it can be seen only by whoever looks into the certificate itself, and an
    /// exchange that is half done must not keep the field from being read.
    #[must_use]
    pub fn is_deep(self) -> bool {
        matches!(
            self,
            Self::Trusted
                | Self::Damaged(_)
                | Self::Certificate
                | Self::Version1
                | Self::KeyKind
                | Self::Mismatch
                | Self::NotFirst(_)
                | Self::NoAuthority
        )
    }
}

/// One of two files that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The certificate with its chain.
    Certificate,
    /// Its private key.
    Key,
}

/// What is wrong with a certificate and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Misfit {
    /// The file to look at.
    pub side: Side,
    /// What is wrong with it.
    pub fault: Fault,
}
