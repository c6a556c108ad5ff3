//! A small public key infrastructure for tests: authorities, servers and devices, good ones and every kind of bad one.
//!
//! Keys are ECDSA P-256 made by rcgen; RSA keys and other containers (PKCS#1, SEC1, encrypted) are made by the `openssl` program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate and its key, in PEM files.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The certificate.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// 2020 to 2100.
    Good,
    /// 2001 to 2002.
    Expired,
    /// 2090 to 2100.
    NotYet,
}

/// Container of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// `BEGIN PRIVATE KEY`, ECDSA.
    Pkcs8,
    /// `BEGIN RSA PRIVATE KEY`.
    Pkcs1,
    /// `BEGIN EC PRIVATE KEY`.
    Sec1,
    /// `BEGIN ENCRYPTED PRIVATE KEY`: not supported, on purpose.
    Encrypted,
}

/// A certificate authority and the files it made.
pub struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
}

impl Authority {
    /// Makes an authority named `name`.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn new(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidegate-pki-").tempdir()?;
        // mosquitto gives up root and must still read the files.
        open_to_all(dir.path(), 0o755)?;
        let key = KeyPair::generate()?;
        let mut params = params(name, Validity::Good)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key)?.pem())?;
        Ok(Self { dir, issuer: Issuer::new(params, key), ca })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Where all files lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A server certificate for `names` (DNS names and addresses).
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn server(&self, names: &[&str], validity: Validity) -> Result<Leaf> {
        let key = KeyPair::generate()?;
        let mut params = params("server", validity)?;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("server", &params, &key, &key.serialize_pem())
    }

    /// A device certificate with common name `name` and its key in `format`.
    ///
    /// # Errors
    /// When files cannot be written or `openssl` fails.
    pub fn device(&self, name: &str, validity: Validity, format: KeyFormat) -> Result<Leaf> {
        let pkcs8 = match format {
            KeyFormat::Pkcs1 => {
                openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "")?
            }
            _ => KeyPair::generate()?.serialize_pem(),
        };
        let key = KeyPair::from_pem(&pkcs8)?;
        let text = match format {
            KeyFormat::Pkcs8 => pkcs8,
            KeyFormat::Pkcs1 | KeyFormat::Sec1 => openssl(&["pkey", "-traditional"], &pkcs8)?,
            KeyFormat::Encrypted => openssl(&["pkcs8", "-topk8", "-passout", "pass:secret"], &pkcs8)?,
        };
        let mut params = params(name, validity)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, &params, &key, &text)
    }

    fn issue(&self, name: &str, params: &CertificateParams, key: &KeyPair, key_text: &str) -> Result<Leaf> {
        // A fresh name each time: tests replace files by renaming.
        let base = tempfile::Builder::new().prefix(name).tempdir_in(self.dir.path())?.keep();
        open_to_all(&base, 0o755)?;
        let leaf = Leaf { cert: base.join("cert.pem"), key: base.join("key.pem") };
        std::fs::write(&leaf.cert, params.signed_by(key, &self.issuer)?.pem())?;
        std::fs::write(&leaf.key, key_text)?;
        open_to_all(&leaf.key, 0o644)?;
        Ok(leaf)
    }
}

fn params(name: &str, validity: Validity) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = match validity {
        Validity::Good => (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1)),
        Validity::Expired => (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1)),
        Validity::NotYet => (date_time_ymd(2090, 1, 1), date_time_ymd(2100, 1, 1)),
    };
    Ok(params)
}

fn open_to_all(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

fn openssl(arguments: &[&str], input: &str) -> Result<String> {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .context("openssl is missing; install it: apt-get install -y openssl")?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
