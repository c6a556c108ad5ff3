//! The name in a client's certificate that is its user.
//!
//! The certificate has been verified before: its DER is well-formed, and an authority of the listener answers for it. Only what is needed is
//! read here ("RFC 5280", 4.1); whatever looks odd, two common names included, is no name at all, and such a client has to log in.

use gateway_core::settings::CertificateIdentity;
use gateway_core::settings::der::Der;
use gateway_core::settings::serials::plain;

/// Longest name taken (RFC 5280, ub-common-name is 64; names of devices are longer in the field).
const NAME_BYTES_MAX: usize = 256;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// 2.5.29.17
const ALTERNATIVE_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// The name that a listener takes as the user; `None` is none, or one that cannot be a user's.
pub(super) fn name(certificate: &[u8], wanted: CertificateIdentity) -> Option<String> {
    let name = match wanted {
        CertificateIdentity::None => return None,
        CertificateIdentity::CommonName => common_name(certificate)?,
        CertificateIdentity::AlternativeName => alternative_name(certificate)?,
    };
    let good = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    good.then_some(name)
}

/// A certificate for a person: the name of its owner, and its serial number as `openssl x509 -serial` writes it.
pub(super) fn shown(certificate: &[u8]) -> String {
    /// RFC 5280, 4.1.2.2.
    const SERIAL_BYTES_MAX: usize = 20;
    let serial = issuer_and_serial(certificate).map(|(_, serial)| plain(serial)).unwrap_or_default();
    let serial: String = serial.iter().take(SERIAL_BYTES_MAX).map(|byte| format!("{byte:02X}")).collect();
    match name(certificate, CertificateIdentity::CommonName) {
        Some(name) => format!("the certificate of {name} (serial number {serial})"),
        None => format!("the certificate with the serial number {serial}"),
    }
}

/// Who made a certificate, and under which number: the content of both fields.
pub(super) fn issuer_and_serial(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = from_serial(certificate)?;
    let (_, serial) = fields.next()?;
    fields.next()?;
    let (_, issuer) = fields.next()?;
    Some((issuer, serial))
}

/// The fields of a certificate from its serial number on.
fn from_serial(certificate: &[u8]) -> Option<Der<'_>> {
    let mut fields = Der::of(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
    if fields.peek() == Some(VERSION) {
        fields.next()?;
    }
    Some(fields)
}

/// The fields of a certificate from its subject on.
fn from_subject(certificate: &[u8]) -> Option<Der<'_>> {
    let mut fields = from_serial(certificate)?;
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        fields.next()?;
    }
    Some(fields)
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let mut parts = from_subject(certificate)?.enter(SEQUENCE)?;
    let mut found = None;
    while let Some((SET, part)) = parts.next() {
        let mut attributes = Der::of(part);
        while let Some(mut attribute) = attributes.enter(SEQUENCE) {
            if attribute.enter(OID)?.rest() == COMMON_NAME {
                let (tag, content) = attribute.next()?;
                if found.replace(text(tag, content)?).is_some() {
                    return None;
                }
            }
        }
    }
    found
}

/// A string of a name.
fn text(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        // UTF8String.
        0x0c => String::from_utf8(content.to_vec()).ok(),
        // PrintableString, TeletexString, IA5String: only what is the same in all of them.
        0x13 | 0x14 | 0x16 if content.is_ascii() => String::from_utf8(content.to_vec()).ok(),
        // BMPString.
        0x1e if content.len().is_multiple_of(2) => {
            let units: Vec<u16> =
                content.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn alternative_name(certificate: &[u8]) -> Option<String> {
    let mut fields = from_subject(certificate)?;
    let extensions = loop {
        if let (EXTENSIONS, content) = fields.next()? {
            break content;
        }
    };
    let mut extensions = Der::of(extensions).enter(SEQUENCE)?;
    while let Some(mut extension) = extensions.enter(SEQUENCE) {
        if extension.enter(OID)?.rest() != ALTERNATIVE_NAME {
            continue;
        }
        if extension.peek() == Some(BOOLEAN) {
            extension.next()?;
        }
        for (tag, content) in extension.enter(OCTETS)?.enter(SEQUENCE)? {
            match tag {
                // A mail address or a DNS name.
                0x81 | 0x82 if content.is_ascii() => return String::from_utf8(content.to_vec()).ok(),
                0x87 => return address(content),
                _ => {}
            }
        }
    }
    None
}

fn address(content: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(content) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(content).ok().map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string())
}
