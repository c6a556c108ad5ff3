//! Client certificates that were called back: lists of their authorities ("RFC 5280", 5), and a file of serial numbers.
//!
//! rustls holds a client against the lists during its handshake. Those who are connected already are held against what is read here: issuer and serial
//! number of every entry.

use std::collections::BTreeSet;

use gateway_core::settings::serials::{Serial, plain};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use std::sync::Arc;

use super::identity::{Der, issuer_and_serial};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

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

    /// Adds the entries of a list in DER, and says when the next one was due, seconds since 1970; `None` is a list that cannot be understood.
    pub(super) fn add(&mut self, list: &[u8]) -> Option<Option<u64>> {
        let mut fields = Der::of(list).enter(SEQUENCE)?.enter(SEQUENCE)?;
        // Version 2 of lists says so; version 1 does not.
        if fields.peek() == Some(INTEGER) {
            fields.next()?;
        }
        fields.next()?;
        let (_, issuer) = fields.next()?;
        fields.next()?;
        let due = match fields.peek() {
            Some(UTC_TIME | GENERALIZED_TIME) => seconds(fields.next()?),
            _ => None,
        };
        if fields.peek() == Some(SEQUENCE) {
            let mut entries = fields.enter(SEQUENCE)?;
            while let Some(mut entry) = entries.enter(SEQUENCE) {
                let serial = entry.enter(INTEGER)?;
                self.listed.insert((issuer.to_vec(), plain(serial.rest())));
            }
        }
        Some(due)
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

/// A time of ASN.1 in seconds since 1970. Only times in UTC with seconds are in lists (RFC 5280, 5.1.2.4).
fn seconds((tag, text): (u8, &[u8])) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let year_digits = if tag == UTC_TIME { 2 } else { 4 };
    if text.len() != year_digits + 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at(year_digits);
    let year: u64 = year.parse().ok()?;
    let year = match year_digits {
        2 if year >= 50 => 1900 + year,
        2 => 2000 + year,
        _ => year,
    };
    let two = |at: usize| rest[2 * at..2 * at + 2].parse::<u64>().ok();
    let (month, day) = (two(0)?, two(1)?);
    let (hour, minute, second) = (two(2)?, two(3)?, two(4)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of the civil calendar; March begins the year, so that the leap day is its last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    Some(((days - 719_468) * 24 + hour) * 3600 + minute * 60 + second)
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
    fn times_of_lists_are_understood() {
        assert_eq!(seconds((UTC_TIME, b"700101000000Z")), Some(0));
        assert_eq!(seconds((UTC_TIME, b"260301000000Z")), Some(1_772_323_200));
        assert_eq!(seconds((GENERALIZED_TIME, b"20991231235959Z")), Some(4_102_444_799));
        for text in [&b"2603010000Z"[..], b"260301000000", b"269901000000Z", b"26030100000xZ", b"", b"\xff"] {
            assert_eq!(seconds((UTC_TIME, text)), None);
        }
    }

    #[test]
    fn what_is_no_list_is_not_understood_and_never_stops_us() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x02\x30\x00", b"\x30\x84\xff\xff\xff\xff"] {
            assert_eq!(Revoked::default().add(bytes), None);
            assert!(!Revoked::default().holds(bytes));
        }
    }
}
