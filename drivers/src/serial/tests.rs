use std::os::fd::OwnedFd;
use std::path::PathBuf;

use gateway_core::poll::settings::{Parity, Serial};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{OpenError, open};

fn serial(port: impl Into<PathBuf>) -> Serial {
    let port = port.into();
    Serial { port, baud: 19_200, parity: Parity::Even, data_bits: 8, stop_bits: 1, rs485: None }
}

fn pseudo_terminal() -> (OwnedFd, PathBuf) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    (master, PathBuf::from(name.to_str().unwrap()))
}

#[tokio::test]
async fn missing_port_is_answered_with_the_ports_there_are() {
    let text = open(&serial("/dev/ttyNONE")).unwrap_err().to_string();
    assert!(text.starts_with("no port /dev/ttyNONE: "), "{text}");
}

#[tokio::test]
async fn file_that_is_no_port_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(open(&serial(file.path())), Err(OpenError::NotAPort { .. })));
    assert!(open(&serial("/dev/null")).is_err());
}

#[tokio::test]
async fn port_in_use_names_the_process_that_has_it() {
    let (_master, path) = pseudo_terminal();
    let first = open(&serial(&path)).unwrap();
    let text = open(&serial(&path)).unwrap_err().to_string();
    assert!(text.contains("in use by this gateway itself"), "{text}");
    drop(first);
    open(&serial(&path)).unwrap();
}

#[tokio::test]
async fn rs485_on_a_driver_without_it_says_so() {
    let (_master, path) = pseudo_terminal();
    let rs485 = gateway_core::poll::settings::Rs485 {
        rts_on_send: true,
        delay_before_ms: 0,
        delay_after_ms: 0,
        rx_during_tx: false,
    };
    let error = open(&Serial { rs485: Some(rs485), ..serial(&path) }).unwrap_err();
    assert!(matches!(error, OpenError::Rs485 { .. }), "{error}");
}

#[test]
fn a_port_of_root_is_not_opened_by_joining_the_group_of_root() {
    let text = |group: &str, mode| {
        OpenError::Permission { port: "/dev/ttyS1".into(), group: group.into(), mode }.to_string()
    };
    for (group, mode) in [("root", 0o600), ("root", 0o660), ("0", 0o660), ("dialout", 0o600), ("tty", 0o620)]
    {
        let said = text(group, mode);
        assert!(!said.contains(&format!("usermod -aG {group}")) && said.contains("udev"), "{said}");
    }
    let usual = text("dialout", 0o660);
    assert!(usual.contains("sudo usermod -aG dialout USER") && !usual.contains("udev"), "{usual}");
}
