//! The network of the configuration in use, as files below /run, and the name of the machine.

use std::fs;
use std::io;
use std::path::Path;

use gateway_core::network::settings::Settings;
use gateway_core::network::{Rendered, rendered};

use super::Places;
use super::disk::{Disk, Mode};
use super::report::Report;

/// Writes what is to be there and removes what is not; faults are reported, and the rest is done all the same.
pub(super) fn render(settings: &Settings, places: &Places, disk: &Disk<'_>, report: &mut Report<'_>) {
    for file in rendered(settings) {
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
        report.note(format!("the machine cannot be named {wanted}: {error}"));
    }
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
