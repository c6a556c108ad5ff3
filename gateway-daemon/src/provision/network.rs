//! The network of the configuration in use, as files below /run, and the name of the machine.

use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;

use gateway_core::network::settings::Settings;
use gateway_core::network::{Rendered, WIFI_KEY_BYTES, rendered};
use gateway_core::os::{self, Doing};
use ring::pbkdf2;

use super::Places;
use super::disk::{Disk, Mode};
use super::report::Report;

/// Writes what is to be there and removes what is not; faults are reported, and the rest is done all the same.
pub(super) fn render(settings: &Settings, places: &Places, disk: &Disk<'_>, report: &mut Report<'_>) {
    for file in rendered(settings, wifi_key) {
        if let Err(error) = put(&file, &places.run, disk) {
            report.fault(format!(
                "the network cannot be set up as configured: {}: {error}",
                places.run.join(file.path).display()
            ));
        }
    }
    // What sethostname(2) sets; the transient name, as systemd-hostnamed calls it.
    let name = places.root.join("proc/sys/kernel/hostname");
    let wanted = settings.hostname.as_str();
    if fs::read_to_string(&name).is_ok_and(|is| is.trim() == wanted) {
        return;
    }
    if let Err(error) = fs::write(&name, wanted) {
        report.note(format!(
            "the machine cannot be named {wanted}: {}: {}",
            name.display(),
            os::sentence(&error, Doing::Writing)
        ));
    }
}

/// The key of a radio network: IEEE 802.11-2020, J.4.1.
fn wifi_key(password: &str, ssid: &str) -> [u8; WIFI_KEY_BYTES] {
    const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not 0");
    let mut key = [0; WIFI_KEY_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, ROUNDS, ssid.as_bytes(), password.as_bytes(), &mut key);
    key
}

fn put(file: &Rendered, run: &Path, disk: &Disk<'_>) -> io::Result<()> {
    let path = run.join(file.path);
    let Some(text) = &file.text else { return disk.remove(&path) };
    if let Some(folder) = path.parent() {
        let mut folders: Vec<_> = folder.ancestors().take_while(|folder| *folder != run).collect();
        folders.reverse();
        folders.into_iter().try_for_each(|folder| disk.folder(folder, Mode::Open))?;
    }
    disk.replace(&path, text.as_bytes(), if file.secret { Mode::Secret } else { Mode::Open })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IEEE 802.11-2020, J.4.2.
    #[test]
    fn keys_of_radio_networks_are_those_of_the_standard() {
        for (ssid, password, key) in [
            ("IEEE", "password", "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"),
            (
                "ThisIsASSID",
                "ThisIsAPassword",
                "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af",
            ),
        ] {
            let hex: String = wifi_key(password, ssid).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, key, "{ssid}");
        }
    }
}
