//! Texts that people read, and files that other programs read, as they are.

use std::fs;
use std::path::{Path, PathBuf};

use super::card::{Card, Pki, TLS};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Compares a file with what it should be, or writes it.
#[track_caller]
fn golden(path: &Path, expected: &str) {
    if std::env::var("TIDEGATE_GOLDEN").is_ok_and(|word| word == "write") {
        fs::write(path, expected).unwrap();
    }
    let is = fs::read_to_string(path).unwrap_or_default();
    assert!(
        is == expected,
        "{} is stale: run `cargo xtask golden` and look at the difference\n{expected}",
        path.display()
    );
}

/// The page with the block after each `<!-- example: NAME -->` replaced.
fn with_example(page: &str, name: &str, text: &str) -> String {
    let mark = format!("<!-- example: {name} -->\n```text\n");
    let (before, after) = page.split_once(&mark).unwrap();
    let (_, after) = after.split_once("```\n").unwrap();
    let text = text.replace("\r\n", "\n");
    let text = text.trim_matches(['\u{feff}', '\n']);
    format!("{before}{mark}{text}\n```\n{after}")
}

#[test]
fn golden_texts_of_the_guide_are_those_on_the_drive() {
    let card = Card::new();
    assert!(card.provision().usable);
    let welcome = fs::read_to_string(card.root("dev/console")).unwrap();
    let pki = Pki::new();
    let wrong = TLS.replace("mqtts://", "https://").replace("plant7-line2", "plant 7");
    card.drop("gateway.toml", wrong.as_bytes());
    pki.drop(&card);
    card.drop("device.key", pki.cert.as_bytes());
    assert!(card.provision().usable);
    let errors = card.read_drop("gateway-errors.txt");
    card.drop("gateway.toml", TLS.as_bytes());
    pki.drop(&card);
    assert!(card.provision().usable);
    let applied = card.read_drop("gateway-applied.txt");
    // Whether the end of the certificate is judged lies with the clock of the machine that tests.
    let judged = applied.lines().filter(|line| !line.contains("is not judged"));
    let applied: String = judged.map(|line| format!("{line}\n")).collect();
    let path = root().join("docs/first-boot.md");
    let page = fs::read_to_string(&path).unwrap();
    let page = with_example(&page, "welcome", &welcome);
    let page = with_example(&page, "errors", &errors);
    golden(&path, &with_example(&page, "applied", &applied));
}

/// Configurations of the network, by the name of their golden file.
const NETWORKS: [(&str, &str); 4] = [
    ("none", ""),
    (
        "dhcp",
        "[network]\nhostname = \"line2\"\nntp = [\"0.pool.ntp.org\", \"192.168.1.1\"]\n[network.ethernet]\ndns = [\"192.168.1.1\"]\n",
    ),
    (
        "fixed",
        "[network.ethernet]\ninterface = \"eth0\"\naddress = \"192.168.1.20/24\"\ngateway = \"192.168.1.1\"\ndns = [\"192.168.1.1\", \"fd00::1\"]\n",
    ),
    (
        "wifi",
        "[network.wifi]\nssid = \"Halle 7 \\\"S\u{fc}d\\\" #1\"\npassword = 'a\"b#c \\d}ef'\ncountry = \"de\"\nhidden = true\naddress = \"fd00::20/64\"\ngateway = \"fd00::1\"\n",
    ),
];

/// What a configuration becomes below /run, as one text.
fn rendered(card: &Card) -> String {
    let mut out = String::new();
    for path in [
        "systemd/network/10-tidegate-ethernet.network",
        "systemd/network/10-tidegate-wifi.network",
        "wpa_supplicant/wpa_supplicant-wlan0.conf",
        "systemd/timesyncd.conf.d/10-tidegate.conf",
    ] {
        if let Ok(text) = fs::read_to_string(card.run(path)) {
            out.push_str(&format!("==> {path}\n{text}\n"));
        }
    }
    out
}

#[test]
fn golden_files_of_the_network_are_what_is_rendered() {
    let card = Card::new();
    for (name, network) in NETWORKS {
        card.drop("gateway.toml", format!("[gateway]\nid = \"gw\"\n{network}").as_bytes());
        assert!(card.provision().usable);
        assert_eq!(card.fault(), None, "{name}");
        // One configuration after the other: nothing of the former stays.
        golden(&root().join(format!("tests/tests/provision/golden/{name}.txt")), &rendered(&card));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(card.run("wpa_supplicant/wpa_supplicant-wlan0.conf")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o7777, 0o600);
}

/// The real systemd-networkd reads the files in a network of its own; it says what it does not understand, and asks nobody.
#[test]
fn systemd_networkd_understands_every_line() {
    const NETWORKD: &str = "/lib/systemd/systemd-networkd";
    let able = Path::new(NETWORKD).exists()
        && std::process::Command::new("unshare")
            .args(["--net", "--mount", "true"])
            .status()
            .is_ok_and(|s| s.success());
    if !able {
        use std::io::Write as _;
        let line = "NOT RUN: systemd_networkd_understands_every_line: needs systemd-networkd, and root for `unshare --net --mount`";
        let _ = writeln!(std::io::stderr(), "{line}");
        return;
    }
    let card = Card::new();
    for (name, network) in NETWORKS {
        card.drop("gateway.toml", format!("[gateway]\nid = \"gw\"\n{network}").as_bytes());
        assert!(card.provision().usable);
        assert_eq!(networkd(&card), ["Enumeration completed"], "{name}");
    }
    let path = card.run("systemd/network/10-tidegate-wifi.network");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + "Nonsense=yes\n").unwrap();
    assert!(networkd(&card)[0].contains("Unknown key"), "this test sees what networkd complains about");
}

/// What systemd-networkd says until it waits for something to happen.
fn networkd(card: &Card) -> Vec<String> {
    use std::io::BufRead as _;
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/network /run/systemd/netif && chown systemd-network: /run/systemd/netif \
                  && cp \"$1\"/* /run/systemd/network/ && exec /lib/systemd/systemd-networkd 2>&1";
    let mut child = std::process::Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", script, "sh"])
        .arg(card.run("systemd/network"))
        .env("SYSTEMD_LOG_TARGET", "console")
        .env("SYSTEMD_LOG_LEVEL", "info")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in std::io::BufReader::new(child.stdout.take().unwrap()).lines() {
        said.push(line.unwrap());
        if said.last().is_some_and(|line| line.contains("Enumeration completed")) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    said
}

/// A file system of FAT as Windows makes it, through mtools: long names, capitals, Windows line ends, and what comes back.
#[test]
fn a_real_fat_file_system_gives_its_files_and_takes_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("tidegate.img");
    let run = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output();
        let output = output
            .unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask peers` installs mtools and dosfstools"));
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (disk, card, pki) = (image.display().to_string(), Card::new(), Pki::new());
    fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
    run("mkfs.vfat", &["-n", "TIDEGATE", &disk]);
    let lay = |name: &str, bytes: &[u8]| {
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        run("mcopy", &["-o", "-i", &disk, &path.display().to_string(), &format!("::{name}")]);
    };
    lay("Gateway.TOML", format!("\u{feff}{}", TLS.replace('\n', "\r\n")).as_bytes());
    lay("CA.PEM", pki.ca.replace('\n', "\r\n").as_bytes());
    lay("device.pem", pki.cert.as_bytes());
    lay("DEVICE.KEY", pki.key.replace('\n', "\r\n").as_bytes());
    lay("password.txt", b"hunter2\r\n");
    lay("._Gateway.TOML", b"\0\x05\x16\x07");
    // The kernel here has no vfat: what lies on the image is taken off it, and the answer put onto it.
    run("mcopy", &["-s", "-i", &disk, "::", &card.drop.display().to_string()]);
    let outcome = card.provision();
    assert_eq!((outcome.usable, card.fault()), (true, None), "{:?}", outcome.told);
    assert_eq!(card.judged().id, "plant7-line2");
    assert_eq!(card.mode("keys/device.key"), 0o600);
    assert_eq!(card.on_drive(), ["._Gateway.TOML", "gateway-applied.txt"]);
    for name in card.on_drive() {
        lay(&name, &fs::read(card.drop.join(&name)).unwrap());
    }
    assert!(run("mtype", &["-i", &disk, "::GATEWAY-APPLIED.TXT"]).contains("plant7-line2"));
}

#[test]
fn the_beginning_in_the_readme_of_the_drive_reads_a_device_and_can_be_used_as_it_is() {
    let card = Card::new();
    assert!(card.provision().usable);
    let readme = card.read_drop("README.txt").replace("\r\n", "\n");
    let lines = readme.lines().skip_while(|line| *line != "   [gateway]");
    let lines =
        lines.take_while(|line| line.is_empty() || line.starts_with("   ") && !line.contains("Without ["));
    let beginning: String = lines.map(|line| format!("{}\n", line.trim())).collect();
    assert!(beginning.contains("[device.meter1]"), "{beginning}");
    card.drop("gateway.toml", beginning.as_bytes());
    Pki::new().drop(&card);
    assert!(card.provision().usable);
    let applied = card.read_drop("gateway-applied.txt");
    assert!(applied.contains("plant7-line2") && !applied.contains("nothing is read"), "{applied}");
}
