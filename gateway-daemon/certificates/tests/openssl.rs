//! Files as the `openssl` program makes them, which is what people have: what it says of a certificate is what is read here, and each wrong file has its fault.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::process::Command;

use gateway_certificates::{Fault, Misfit, Side, authorities, chain, key, lists, pair, read};
use gateway_core::settings::certificate::{Certificate, Purpose, Remark, Span, remarks};

/// Runs `openssl` in a folder; what it prints.
fn openssl(folder: &Path, arguments: &str) -> String {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split_whitespace()).output();
    let output = output.expect("openssl is missing; install it: apt-get install -y openssl");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with an authority, one below it, and a key `k.pem`.
fn plant() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    for name in ["ca", "mid", "k", "other"] {
        openssl(at, &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out {name}.key"));
    }
    openssl(at, "req -x509 -key ca.key -subj /CN=plant -days 3000 -out ca.pem");
    fs::write(at.join("mid.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n").unwrap();
    openssl(at, "req -new -key mid.key -subj /CN=line -out mid.csr");
    openssl(
        at,
        "x509 -req -in mid.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 2000 -extfile mid.ext -out mid.pem",
    );
    dir
}

/// A certificate for a key with these extensions; nothing is version 1.
fn issue(at: &Path, name: &str, key: &str, extensions: &str) {
    openssl(at, &format!("req -new -key {key} -subj /CN=gateway -out {name}.csr"));
    fs::write(at.join("leaf.ext"), extensions).unwrap();
    let extensions = if extensions.is_empty() { "" } else { "-extfile leaf.ext" };
    let issuer = "-CA mid.pem -CAkey mid.key -set_serial 7 -days 900";
    openssl(at, &format!("x509 -req -in {name}.csr {issuer} {extensions} -out {name}.pem"));
}

fn bytes(at: &Path, name: &str) -> Vec<u8> {
    read(&at.join(name)).unwrap()
}

const BOTH: &str = "subjectAltName=DNS:gateway\nextendedKeyUsage=serverAuth,clientAuth\n";

#[test]
fn what_openssl_says_of_a_certificate_is_what_is_read() {
    let dir = plant();
    let at = dir.path();
    for (name, extensions) in [
        ("both", BOTH),
        ("client", "extendedKeyUsage=clientAuth\n"),
        ("server", "subjectAltName=IP:192.0.2.1\nextendedKeyUsage=serverAuth\n"),
        ("any", "extendedKeyUsage=anyExtendedKeyUsage\n"),
        ("mail", "extendedKeyUsage=emailProtection\n"),
        ("authority", "basicConstraints=critical,CA:TRUE,pathlen:0\n"),
        ("no-authority", "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyAgreement\n"),
        ("mute-authority", "basicConstraints=CA:TRUE\nkeyUsage=digitalSignature\n"),
        ("plain", "subjectKeyIdentifier=hash\n"),
        ("old", ""),
    ] {
        issue(at, name, "k.key", extensions);
        let ders = chain(&bytes(at, &format!("{name}.pem"))).unwrap();
        let found = Certificate::read(&ders[0]).unwrap();
        let text = openssl(at, &format!("x509 -in {name}.pem -noout -text"));
        assert_eq!(found.is_version_1, text.contains("Version: 1 "), "{name}");
        assert_eq!(found.is_named, text.contains("Subject Alternative Name"), "{name}");
        let is_authority = text.contains("CA:TRUE") && name != "mute-authority";
        assert_eq!(found.is_authority, is_authority, "{name}");
        let uses = text.split("X509v3 Extended Key Usage").nth(1).map(|rest| rest.lines().nth(1).unwrap());
        let may = |word: &str| uses.is_none_or(|uses| uses.contains(word) || uses.contains("Any Extended"));
        assert_eq!(found.for_servers, may("Server Authentication"), "{name}");
        assert_eq!(found.for_clients, may("Client Authentication"), "{name}");
        let dates = openssl(at, &format!("x509 -in {name}.pem -noout -dateopt iso_8601 -startdate -enddate"));
        assert!(dates.contains(&format!("notBefore={} ", found.begins.date())), "{name}: {dates}");
        assert!(dates.contains(&format!("notAfter={} ", found.ends.date())), "{name}: {dates}");
        // "openssl x509 -checkend" says whether a certificate ends within so many seconds.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let left = found.ends.seconds - now;
        openssl(at, &format!("x509 -in {name}.pem -noout -checkend {}", left - 60));
    }
}

#[test]
fn keys_of_every_kind_belong_to_their_certificates_and_to_no_other() {
    let dir = plant();
    let at = dir.path();
    openssl(at, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key");
    openssl(at, "pkey -in rsa.key -traditional -out rsa1.key");
    openssl(at, "pkey -in k.key -traditional -out sec1.key");
    openssl(at, "genpkey -algorithm ED25519 -out ed.key");
    openssl(at, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp384r1 -out p384.key");
    for (key, twin) in
        [("k.key", "sec1.key"), ("rsa.key", "rsa1.key"), ("ed.key", "ed.key"), ("p384.key", "p384.key")]
    {
        issue(at, "leaf", key, BOTH);
        let cert = bytes(at, "leaf.pem");
        for key in [key, twin] {
            assert!(pair(&cert, &bytes(at, key)).is_ok(), "{key}");
        }
        let other = pair(&cert, &bytes(at, "other.key")).unwrap_err();
        assert_eq!(other, Misfit { side: Side::Key, fault: Fault::Mismatch }, "{key}");
    }
    openssl(at, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out odd.key");
    issue(at, "odd", "odd.key", BOTH);
    let odd = pair(&bytes(at, "odd.pem"), &bytes(at, "odd.key")).unwrap_err();
    assert_eq!(odd, Misfit { side: Side::Key, fault: Fault::KeyKind });
}

#[test]
fn each_wrong_file_has_its_fault() {
    let dir = plant();
    let at = dir.path();
    issue(at, "leaf", "k.key", BOTH);
    openssl(at, "pkcs8 -topk8 -in k.key -passout pass:secret -out locked.key");
    openssl(at, "ec -in k.key -aes128 -passout pass:secret -out locked1.key");
    openssl(at, "x509 -in leaf.pem -outform der -out leaf.der");
    openssl(at, "x509 -in leaf.pem -trustout -out trusted.pem");
    openssl(at, "pkey -in k.key -pubout -out public.pem");
    let (leaf, secret) = (bytes(at, "leaf.pem"), bytes(at, "k.key"));
    let certificate = |name: &str| chain(&bytes(at, name)).unwrap_err();
    assert_eq!(certificate("k.key"), Fault::KeyForCertificate);
    assert_eq!(certificate("leaf.csr"), Fault::Request);
    assert_eq!(certificate("leaf.der"), Fault::Binary);
    assert_eq!(certificate("trusted.pem"), Fault::Trusted);
    assert_eq!(certificate("public.pem"), Fault::PublicKey);
    assert_eq!(certificate("leaf.ext"), Fault::NoCertificate);
    assert_eq!(chain(b""), Err(Fault::Empty));
    assert_eq!(chain(&leaf[..leaf.len() / 2]), Err(Fault::Cut));
    let mut damaged = leaf.clone();
    damaged[100] = b'!';
    assert!(matches!(chain(&damaged), Err(Fault::Damaged(_))));
    for locked in ["locked.key", "locked1.key"] {
        assert_eq!(key(&bytes(at, locked)).unwrap_err(), Fault::PassPhrase, "{locked}");
    }
    assert_eq!(key(&leaf).unwrap_err(), Fault::CertificateForKey);
    assert_eq!(lists(&leaf), Err(Fault::NoList));
    // Newer versions of openssl make version 3 of the same command.
    let old = include_bytes!("../../../config/tests/files/version-1.pem");
    let old = pair(old, include_bytes!("../../../config/tests/files/device.key")).unwrap_err();
    assert_eq!(old, Misfit { side: Side::Certificate, fault: Fault::Version1 });
    let first = [bytes(at, "mid.pem"), leaf.clone()].concat();
    let turned = pair(&first, &secret).unwrap_err();
    assert_eq!(turned, Misfit { side: Side::Certificate, fault: Fault::NotFirst(2) });
    for (name, what) in [("nothing.pem", "does not exist"), (".", "is a folder")] {
        assert_eq!(read(&at.join(name)), Err(Fault::Unreadable(what)));
    }
    assert_eq!(read(Path::new("/dev/null")), Err(Fault::Unreadable("is not a regular file")));
    let large = fs::File::create(at.join("large.pem")).unwrap();
    large.set_len(gateway_certificates::FILE_BYTES_MAX + 1).unwrap();
    assert_eq!(read(&at.join("large.pem")), Err(Fault::Unreadable("has more than 4 MiB")));
}

#[test]
fn authorities_vouch_and_the_certificate_of_a_device_does_not() {
    let dir = plant();
    let at = dir.path();
    issue(at, "leaf", "k.key", BOTH);
    openssl(
        at,
        "req -x509 -key k.key -subj /CN=alone -days 30 -addext basicConstraints=CA:FALSE -out alone.pem",
    );
    let vouch = |pem: &[u8]| authorities(pem).unwrap().vouch();
    for name in ["ca.pem", "mid.pem", "alone.pem"] {
        assert!(vouch(&bytes(at, name)), "{name}");
    }
    assert!(!vouch(&bytes(at, "leaf.pem")));
    assert!(vouch(&[bytes(at, "leaf.pem"), bytes(at, "ca.pem")].concat()), "one is enough");
    let nonsense = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    assert_eq!(authorities(nonsense).unwrap_err(), Fault::Certificate);
    let mixed = authorities(&[bytes(at, "ca.pem"), nonsense.to_vec()].concat()).unwrap();
    assert_eq!((mixed.roots.len(), mixed.ignored), (1, 1));
}

#[test]
fn a_chain_ends_with_its_first_and_is_in_order_or_remarked() {
    let dir = plant();
    let at = dir.path();
    issue(at, "leaf", "k.key", BOTH);
    let look = |names: &[&str]| {
        let pem: Vec<u8> = names.iter().flat_map(|name| bytes(at, name)).collect();
        let ders = chain(&pem).unwrap();
        let list: Vec<_> = ders.iter().map(|der| Certificate::read(der).unwrap()).collect();
        (remarks(&list, Purpose::Server), Span::of(&list).unwrap().ends.date())
    };
    let enddate = |name: &str| {
        let text = openssl(at, &format!("x509 -in {name} -noout -dateopt iso_8601 -enddate"));
        text.trim().strip_prefix("notAfter=").unwrap()[..10].to_owned()
    };
    assert_eq!(look(&["leaf.pem", "mid.pem", "ca.pem"]), (vec![], enddate("leaf.pem")));
    assert_eq!(look(&["leaf.pem", "ca.pem", "mid.pem"]).0, [Remark::Order]);
    assert_eq!(look(&["mid.pem", "ca.pem"]), (vec![Remark::Authority, Remark::Nameless], enddate("mid.pem")));
}

#[test]
fn a_key_that_this_user_may_not_read_is_told_with_its_owner_and_mode_and_not_with_its_path() {
    use std::os::unix::fs::PermissionsExt as _;
    let said = Fault::Forbidden.to_string();
    assert!(said.contains("check owner and mode") && !said.contains("check the path"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.key");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything.
    if fs::File::open(&path).is_err() {
        assert_eq!(read(&path), Err(Fault::Forbidden));
    }
}
