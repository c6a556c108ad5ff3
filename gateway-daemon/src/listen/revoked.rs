//! Client certificates that were called back: lists of their authorities ("RFC 5280", 5), and a file of serial numbers.
//!
//! rustls holds a client against the lists during its handshake. Those who are connected already are held against what is read here: issuer and serial
//! number of every entry.

use std::collections::BTreeSet;

use gateway_core::settings::crl::List;
use gateway_core::settings::serials::{Serial, plain};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use std::sync::Arc;

use super::identity::issuer_and_serial;

/// What was called back at one listener.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Revoked {
    /// Issuer and serial number, as lists of the authorities say.
    listed: BTreeSet<(Vec<u8>, Serial)>,
    /// Serial numbers, whoever the issuer is.
    serials: BTreeSet<Serial>,
}

impl Revoked {
    pub(super) fn of_serials(serials: BTreeSet<Serial>) -> Self {
        Self { listed: BTreeSet::new(), serials }
    }

    /// Adds the entries of a list.
    pub(super) fn add(&mut self, list: &List<'_>) {
        self.listed.extend(list.serials.iter().map(|serial| (list.issuer.to_vec(), serial.clone())));
    }

    /// Whether a certificate was called back.
    pub(super) fn holds(&self, certificate: &[u8]) -> bool {
        let Some((issuer, serial)) = issuer_and_serial(certificate) else { return false };
        let serial = plain(serial);
        self.serials.contains(&serial) || self.listed.contains(&(issuer.to_vec(), serial))
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.listed.len() + self.serials.len()
    }
}

/// Holds clients against serial numbers as well.
#[derive(Debug)]
pub(super) struct Strict {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) revoked: Arc<Revoked>,
}

impl ClientCertVerifier for Strict {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if self.revoked.holds(end_entity) {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_not_called_back_and_never_stops_us() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x02\x30\x00", b"\x30\x84\xff\xff\xff\xff"] {
            assert!(!Revoked::default().holds(bytes));
        }
    }
}
