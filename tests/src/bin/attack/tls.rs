//! Clients over TLS.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use super::client::{Wire, dial};
use super::stage::Stage;

/// Longest wait for bytes of a handshake.
const READ_MAX: Duration = Duration::from_secs(5);

/// A connection whose handshake comes with its first byte.
pub(crate) type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

impl Wire for Tls {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// What a client needs that trusts the authority of the stage.
pub(crate) fn config(stage: &Stage) -> Result<Arc<ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(stage.authority.ca())? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Connects; the handshake is yet to come.
pub(crate) fn dial_tls(from: Ipv4Addr, port: u16, config: &Arc<ClientConfig>) -> Result<Tls> {
    let stream = dial(from, port)?;
    stream.set_read_timeout(Some(READ_MAX))?;
    let connection = rustls::ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
    Ok(rustls::StreamOwned::new(connection, stream))
}

/// Connects, and sends `bytes` as soon as the handshake is done.
pub(crate) fn send(from: Ipv4Addr, port: u16, config: &Arc<ClientConfig>, bytes: &[u8]) -> Result<Tls> {
    let mut tls = dial_tls(from, port, config)?;
    tls.write_all(bytes)?;
    tls.flush()?;
    Ok(tls)
}
