//! Authorities, certificates and keys in files of one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_core::settings::{CertificateIdentity, ListenerSettings, ListenerTls};
use gateway_core::tag::Name;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rumqttc::tokio_rustls::{TlsConnector, client::TlsStream};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// An authority.
pub(super) struct Authority {
    issuer: Option<Issuer<'static, KeyPair>>,
    pub(super) pem: String,
}

/// A certificate and its key in PEM.
pub(super) struct Leaf {
    pub(super) cert: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Some(Issuer::new(params, key)), pem }
    }

    /// One of another program, which signs nothing here.
    pub(super) fn of_pem(pem: String) -> Self {
        Self { issuer: None, pem }
    }

    fn issuer(&self) -> &Issuer<'static, KeyPair> {
        self.issuer.as_ref().unwrap()
    }

    /// A list that calls certificates back, due for renewal at the end of `year`.
    pub(super) fn crl(&self, serials: &[Vec<u8>], year: i32) -> String {
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2000, 1, 2),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 3),
            next_update: date_time_ymd(year, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(self.issuer()).unwrap().pem().unwrap()
    }

    /// A certificate for `names`, the first of which is its common name too, valid until the end of `year`.
    pub(super) fn leaf(&self, names: &[&str], year: i32) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "plant");
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Leaf { cert: params.signed_by(&key, self.issuer()).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// The files of one listener.
pub(super) struct Files {
    pub(super) dir: TempDir,
}

impl Files {
    pub(super) fn new(server: &Leaf, client_ca: &Authority) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.write("cert.pem", &server.cert);
        files.write("key.pem", &server.key);
        files.write("client_ca.pem", &client_ca.pem);
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces a file as careful programs do.
    pub(super) fn write(&self, name: &str, text: &str) {
        let fresh = self.path("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.path(name)).unwrap();
    }

    /// A listener on any port. `required`: client certificates are; `None` asks for none.
    pub(super) fn listener(&self, required: Option<bool>, identity: CertificateIdentity) -> ListenerSettings {
        ListenerSettings {
            tls: Some(ListenerTls {
                cert: self.path("cert.pem"),
                key: self.path("key.pem"),
                client_ca: required.map(|_| self.path("client_ca.pem")),
                crl: None,
                revoked: None,
                client_required: required == Some(true),
                identity,
            }),
            ..plain(None)
        }
    }
}

/// A listener without TLS on any port.
pub(super) fn plain(websocket: Option<&str>) -> ListenerSettings {
    ListenerSettings {
        name: Name::new("plant").unwrap(),
        address: "127.0.0.1:0".parse().unwrap(),
        websocket: websocket.map(ToOwned::to_owned),
        origins: Vec::new(),
        hosts: Vec::new(),
        tls: None,
        anonymous: true,
    }
}

/// A client that trusts `ca` and shows a certificate.
pub(super) fn client(
    ca: &Authority,
    leaf: Option<&Leaf>,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    TlsConnector::from(Arc::new(config))
}

/// Connects a TLS client to a port of this machine.
pub(super) async fn connect(connector: &TlsConnector, port: u16) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The DER of a PEM certificate.
pub(super) fn der(leaf: &Leaf) -> Vec<u8> {
    CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap().to_vec()
}

/// A path as text.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
