//! Certificate and key files of a listener to a rustls configuration, read again when they change.
//!
//! The provider is ring (no C toolchain when cross compiling); TLS 1.2 and 1.3 are spoken. Sessions are not resumed: a client's certificate
//! is checked at every connect, and tickets would cost more memory than handshakes cost time on a local network.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_certificates::{self as certificates, Fault, Misfit, Side};
use gateway_core::settings::crl::{self, List};
use gateway_core::settings::{CertificateIdentity, ListenerTls, serials};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::revoked::{Revoked, Strict};
use crate::panics::contain;

/// How often files are looked at, at most; only when clients come.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file that TLS cannot be spoken with.
#[derive(Debug, thiserror::Error)]
#[error("{role} {}: {detail}", path.display())]
pub struct TlsFault {
    /// What the file is for, as the configuration calls it.
    role: &'static str,
    path: PathBuf,
    /// What is wrong and what to do.
    detail: String,
}

impl TlsFault {
    fn new(role: &'static str, path: &Path, detail: impl ToString) -> Self {
        Self { role, path: path.to_owned(), detail: detail.to_string() }
    }

    fn of(role: &'static str, path: &Path, fault: Fault) -> Self {
        Self::new(role, path, format!("it {fault}"))
    }
}

/// What a file looked like from outside: a different stamp is a different file.
type Stamp = Option<(i64, i64, u64, u64)>;

/// Files of one listener.
const FILES: usize = 5;

/// The keys of one listener.
pub(super) struct Keys {
    settings: Arc<ListenerTls>,
    current: Arc<ServerConfig>,
    revoked: Arc<Revoked>,
    stamps: [Stamp; FILES],
    /// When the next of the lists should have been renewed, seconds since 1970.
    pub(super) renew_by: Option<u64>,
    looked: Instant,
}

impl Keys {
    /// Reads the files. Blocks on the file system.
    ///
    /// # Errors
    /// Which file is not right, and what to do.
    pub(super) fn read(settings: &ListenerTls) -> Result<Self, TlsFault> {
        let stamps = stamps(settings);
        let loaded = load(settings)?;
        loaded.warn();
        let Loaded { config, revoked, renew_by, .. } = loaded;
        let settings = Arc::new(settings.clone());
        Ok(Self { settings, current: config, revoked, stamps, renew_by, looked: Instant::now() })
    }

    /// Which name of a certificate is a user.
    pub(super) fn identity(&self) -> CertificateIdentity {
        self.settings.identity
    }

    /// Whether certificates can be called back here.
    pub(super) fn can_revoke(&self) -> bool {
        self.settings.crl.is_some() || self.settings.revoked.is_some()
    }

    /// The configuration for the next client: of the files as they were while they were good.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current)
    }

    /// Looks at the files, once in a while. What they call back comes back when it has changed.
    pub(super) async fn look(&mut self, listener: &str) -> Option<Arc<Revoked>> {
        let mut fresh_revoked = None;
        if self.looked.elapsed() >= LOOK_INTERVAL {
            self.looked = Instant::now();
            let (settings, before) = (Arc::clone(&self.settings), self.stamps);
            let late = self.renew_by.is_some_and(|due| due < now_s());
            let look = move || {
                let stamps = stamps(&settings);
                (stamps != before || late).then(|| (stamps, load(&settings)))
            };
            // A panic while reading is as good as no change.
            if let Ok(Some((stamps, loaded))) =
                spawn_blocking(|| contain("reading certificate files", look)).await
            {
                let changed = std::mem::replace(&mut self.stamps, stamps) != stamps;
                match loaded {
                    Ok(fresh) => {
                        let entries = fresh.revoked.len();
                        if changed {
                            let called = match entries {
                                1 => "1 certificate is".to_owned(),
                                many => format!("{many} certificates are"),
                            };
                            log::info!(event = "certificates", listener, revoked = entries; "listener {listener}: the changed certificate files are in use; {called} called back");
                        }
                        fresh.warn();
                        (self.current, self.renew_by) = (fresh.config, fresh.renew_by);
                        if fresh.revoked != self.revoked {
                            self.revoked = fresh.revoked;
                            fresh_revoked = Some(Arc::clone(&self.revoked));
                        }
                    }
                    Err(fault) => {
                        // A list that is late is told once.
                        self.renew_by = None;
                        log::error!(event = "certificates", listener, reason:% = fault; "listener {listener}: the changed files are not used, the ones before still are: {fault}");
                    }
                }
            }
        }
        fresh_revoked
    }
}

fn stamps(settings: &ListenerTls) -> [Stamp; FILES] {
    let stamp = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.len()))
    };
    let optional = |path: &Option<PathBuf>| path.as_deref().and_then(stamp);
    let [ca, crl, revoked] = [&settings.client_ca, &settings.crl, &settings.revoked].map(optional);
    [stamp(&settings.cert), stamp(&settings.key), ca, crl, revoked]
}

/// What was made of the files.
struct Loaded {
    config: Arc<ServerConfig>,
    revoked: Arc<Revoked>,
    /// What is odd about the lists of certificates that were called back.
    remarks: Vec<String>,
    renew_by: Option<u64>,
}

impl Loaded {
    /// A list that was not renewed still counts: turning everybody away because an authority is late would be worse. One of somebody else does no harm, and
    /// may be that of an authority between those in `client_ca` and their clients.
    fn warn(&self) {
        for remark in &self.remarks {
            log::warn!(reason = "crl"; "{remark}");
        }
    }
}

fn load(settings: &ListenerTls) -> Result<Loaded, TlsFault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = own_key(&settings.cert, &settings.key)?;
    let fault = |e: rustls::Error| TlsFault::new("cert", &settings.cert, e);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(fault)?;
    let CalledBack { lists, revoked, remarks, renew_by } = called_back(settings)?;
    let revoked = Arc::new(revoked);
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            // An authority without a list has called nobody back.
            let verifier = verifier.with_crls(lists).allow_unknown_revocation_status();
            let verifier = match settings.client_required {
                true => verifier.build(),
                false => verifier.allow_unauthenticated().build(),
            };
            let inner = verifier.map_err(|e| match (&e, &settings.crl) {
                (VerifierBuilderError::InvalidCrl(_), Some(crl)) => TlsFault::new("crl", crl, e),
                _ => TlsFault::new("client_ca", path, e),
            })?;
            builder.with_client_cert_verifier(Arc::new(Strict { inner, revoked: Arc::clone(&revoked) }))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded { config: Arc::new(config), revoked, remarks, renew_by })
}

/// What says which certificates do not count any more.
pub(super) struct CalledBack {
    /// The lists of the authorities.
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// Every entry of them, and of the file of serial numbers.
    revoked: Revoked,
    /// What is odd about the lists.
    pub(super) remarks: Vec<String>,
    /// When the next of them should have been renewed, seconds since 1970.
    pub(super) renew_by: Option<u64>,
}

/// Reads the lists of the authorities and the file of serial numbers.
pub(super) fn called_back(settings: &ListenerTls) -> Result<CalledBack, TlsFault> {
    let mut revoked = Revoked::default();
    if let Some(path) = &settings.revoked {
        let serials = serials::parse(&read("revoked_file", path)?);
        revoked = Revoked::of_serials(serials.map_err(|e| TlsFault::new("revoked_file", path, e))?);
    }
    let Some(path) = &settings.crl else {
        return Ok(CalledBack { lists: Vec::new(), revoked, remarks: Vec::new(), renew_by: None });
    };
    let pem = read("crl", path)?;
    let lists = certificates::lists(&pem).map_err(|fault| TlsFault::of("crl", path, fault))?;
    let understood: Option<Vec<_>> = lists.iter().map(|list| List::read(list)).collect();
    let understood = understood.ok_or_else(|| {
        TlsFault::new("crl", path, "a list in it cannot be understood; copy the file again")
    })?;
    understood.iter().for_each(|list| revoked.add(list));
    let authorities = match &settings.client_ca {
        Some(ca) => certificates::chain(&read("client_ca", ca)?)
            .map_err(|fault| TlsFault::of("client_ca", ca, fault))?,
        None => Vec::new(),
    };
    let authorities: Vec<_> = authorities.iter().filter_map(|authority| crl::subject(authority)).collect();
    let now_s = now_s();
    let remarks = crl::remarks(&understood, &authorities, now_s);
    let remarks = remarks.iter().map(|remark| format!("crl {} {remark}", path.display())).collect();
    let dues = understood.iter().filter_map(|list| list.due.as_ref().map(|due| due.seconds));
    let renew_by = dues.filter(|due| *due >= now_s).min();
    Ok(CalledBack { lists, revoked, remarks, renew_by })
}

/// The wall time, seconds since 1970.
fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

fn read(role: &'static str, path: &Path) -> Result<Vec<u8>, TlsFault> {
    certificates::read(path).map_err(|fault| TlsFault::of(role, path, fault))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsFault> {
    let found = certificates::authorities(&read("client_ca", path)?);
    Ok(found.map_err(|fault| TlsFault::of("client_ca", path, fault))?.roots)
}

fn own_key(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsFault> {
    let (chain, secret) = (read("cert", cert)?, read("key", key)?);
    certificates::pair(&chain, &secret).map_err(|Misfit { side, fault }| match side {
        Side::Certificate => TlsFault::of("cert", cert, fault),
        Side::Key => TlsFault::of("key", key, fault),
    })
}

/// What a failed handshake means for the person at the client.
pub(super) fn meaning(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    let sentence = match error {
        Error::NoCertificatesPresented => {
            "the client showed no certificate: give it one of an authority in `client_ca`"
        }
        Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the client's certificate comes from an authority that is not in `client_ca`"
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the client's certificate has expired, or the clock of this gateway is wrong"
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the client's certificate is not valid yet, or the clock of this gateway is wrong"
        }
        Error::InvalidCertificate(Bad::Revoked) => {
            "the client's certificate was called back by `crl` or `revoked_file`"
        }
        Error::InvalidCertRevocationList(_) => {
            "the list in `crl` is not signed by the authority of the client's certificate: get it from that authority again"
        }
        Error::InvalidCertificate(Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. }) => {
            "the client's certificate is not made for clients: it needs the extended key usage clientAuth"
        }
        Error::InvalidMessage(_) => {
            "the client does not speak TLS on this port: give it mqtts:// and the authority's certificate, or another listener"
        }
        Error::PeerIncompatible(_) => "the client speaks no TLS that is safe: it needs TLS 1.2 or 1.3",
        Error::AlertReceived(Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown) => {
            "the client does not trust the certificate of this gateway: give it the authority's"
        }
        Error::AlertReceived(Alert::CertificateExpired) => {
            "the client says that the certificate of this gateway has expired: renew it, or set the client's clock"
        }
        other => return other.to_string(),
    };
    sentence.to_owned()
}
