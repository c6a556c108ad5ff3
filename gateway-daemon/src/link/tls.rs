//! Certificate and key files to a rustls configuration, and rustls errors to [`Loss`].
//!
//! Files are read at every connect, so a renewed certificate works without a restart. The provider is ring (no C toolchain when cross
//! compiling); TLS 1.2 and 1.3 are spoken.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_certificates::{self as certificates, Fault, Misfit, Side};
use gateway_core::settings::TlsSettings;
use gateway_core::uplink::loss::{FileRole, Loss, UnixSecs};
use rumqttc::tokio_rustls::TlsConnector;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, SignatureScheme};

/// Everything that a TLS handshake needs.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
    pub(super) identity: Arc<Identity>,
}

/// Our certificate, if any, and whether the server asked for one: MQTT brokers that want a certificate and get none answer with
/// alerts that do not say so.
#[derive(Debug)]
pub(super) struct Identity {
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// Reads the files. Blocks on the file system.
///
/// # Errors
/// [`Loss::File`] or [`Loss::Settings`].
pub(super) fn load(settings: &TlsSettings, host: &str) -> Result<Tls, Loss> {
    let wanted = settings.server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(wanted.to_owned()).map_err(|_| Loss::Settings {
        detail: format!("{wanted:?} is no name that a certificate can have; set `server_name`").into(),
    })?;
    let roots = match &settings.ca {
        Some(path) => own_roots(path)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = match &settings.client {
        Some((cert, key)) => Some(Arc::new(identity(cert, key)?)),
        None => None,
    };
    let identity = Arc::new(Identity { key, asked: AtomicBool::new(false) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Loss::Tls { detail: e.to_string().into() })?
        .with_root_certificates(roots)
        .with_client_cert_resolver(identity.clone());
    config.alpn_protocols = settings.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(Tls { connector: TlsConnector::from(Arc::new(config)), name, identity })
}

fn fault(role: FileRole, path: &Path, detail: impl ToString) -> Loss {
    Loss::File { role, path: path.to_owned(), detail: detail.to_string().into() }
}

/// The sentence of a file's fault, behind the name of the file.
fn file_fault(role: FileRole, path: &Path, what: Fault) -> Loss {
    fault(role, path, format!("it {what}"))
}

fn own_roots(path: &Path) -> Result<RootCertStore, Loss> {
    let found = certificates::read(path).and_then(|pem| certificates::authorities(&pem));
    let found = found.map_err(|what| file_fault(FileRole::Ca, path, what))?;
    if found.ignored > 0 {
        log::warn!(
            "{}: {} certificates of authorities cannot be understood and are ignored",
            path.display(),
            found.ignored
        );
    }
    Ok(found.roots)
}

fn system_roots() -> Result<RootCertStore, Loss> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let _ = roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let why = loaded.errors.first().map_or_else(|| "it is empty".to_owned(), ToString::to_string);
        return Err(fault(FileRole::Ca, Path::new(""), why));
    }
    Ok(roots)
}

fn identity(cert: &Path, key: &Path) -> Result<CertifiedKey, Loss> {
    let read = |role, path| certificates::read(path).map_err(|what| file_fault(role, path, what));
    let (chain, secret) = (read(FileRole::ClientCert, cert)?, read(FileRole::ClientKey, key)?);
    certificates::pair(&chain, &secret).map_err(|Misfit { side, fault }| match side {
        Side::Certificate => file_fault(FileRole::ClientCert, cert, fault),
        Side::Key => file_fault(FileRole::ClientKey, key, fault),
    })
}

/// What a TLS error means for a person.
pub(super) fn loss_of(error: &rustls::Error, identity: Option<&Identity>) -> Loss {
    match error {
        rustls::Error::InvalidCertificate(why) => certificate_loss(why),
        rustls::Error::AlertReceived(alert) => alert_loss(*alert, identity),
        rustls::Error::NoApplicationProtocol => no_alpn(),
        other => Loss::Tls { detail: other.to_string().into() },
    }
}

fn certificate_loss(why: &CertificateError) -> Loss {
    let secs = |time: &UnixTime| UnixSecs(time.as_secs());
    let clock = || secs(&UnixTime::now());
    match why {
        CertificateError::UnknownIssuer => Loss::CertificateUnknownAuthority,
        CertificateError::Expired => Loss::CertificateExpired { clock: clock(), not_after: None },
        CertificateError::ExpiredContext { time, not_after } => {
            Loss::CertificateExpired { clock: secs(time), not_after: Some(secs(not_after)) }
        }
        CertificateError::NotValidYet => Loss::CertificateNotYetValid { clock: clock(), not_before: None },
        CertificateError::NotValidYetContext { time, not_before } => {
            Loss::CertificateNotYetValid { clock: secs(time), not_before: Some(secs(not_before)) }
        }
        CertificateError::NotValidForName => {
            Loss::CertificateWrongName { expected: "this host".into(), presented: Vec::new() }
        }
        CertificateError::NotValidForNameContext { expected, presented } => Loss::CertificateWrongName {
            expected: expected.to_str().into(),
            presented: presented.iter().map(|name| bare(name)).collect(),
        },
        other => Loss::CertificateInvalid { detail: other.to_string().into() },
    }
}

/// `DnsName("a.b")` and `IpAddress(::1)` without their wrapping.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    inner.trim_matches('"').to_owned()
}

fn no_alpn() -> Loss {
    Loss::Tls { detail: "the server knows none of the protocols in `alpn`".into() }
}

fn alert_loss(alert: AlertDescription, identity: Option<&Identity>) -> Loss {
    use AlertDescription as A;
    let sent = identity.is_some_and(|id| id.key.is_some());
    let asked = identity.is_some_and(|id| id.asked.load(Ordering::Relaxed));
    match alert {
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied
        | A::CertificateRequired => Loss::OwnCertificateRejected { alert: format!("{alert:?}").into(), sent },
        // TLS 1.2 has no alert for "a certificate is required".
        A::HandshakeFailure if asked && !sent => {
            Loss::OwnCertificateRejected { alert: format!("{alert:?}").into(), sent }
        }
        A::NoApplicationProtocol => no_alpn(),
        other => Loss::Tls { detail: format!("the server says {other:?}").into() },
    }
}
