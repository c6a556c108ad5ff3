//! Why a port does not open, in words that help at the cabinet.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use gateway_core::os::{self, Doing};
use gateway_core::poll::settings::Serial;

/// Most ports listed in an error.
const PORTS_MAX: usize = 32;
/// Most processes and descriptors looked at to find who holds a port.
const PROCESSES_MAX: usize = 4096;

/// Why a port does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing has this path.
    #[error("no port {}: {}", port.display(), list(existing))]
    NoPort {
        /// The path that was asked for.
        port: PathBuf,
        /// Ports that exist.
        existing: Vec<PathBuf>,
    },
    /// Something else has this path.
    #[error("{} is not a serial port: {}", port.display(), list(existing))]
    NotAPort {
        /// The path that was asked for.
        port: PathBuf,
        /// Ports that exist.
        existing: Vec<PathBuf>,
    },
    /// The user may not open it.
    #[error("no permission to open {}: {}", port.display(), permission(group, *mode))]
    Permission {
        /// The path.
        port: PathBuf,
        /// Name or number of its group, usually dialout.
        group: String,
        /// What owner, group and others may do, as of `chmod`.
        mode: u32,
    },
    /// Another program has it open and locked.
    #[error("{} is in use by {who}; a serial port has one master: stop the other program or use another port", port.display())]
    Busy {
        /// The path.
        port: PathBuf,
        /// Process name and id, if it can be seen.
        who: String,
    },
    /// The hardware cannot make this speed.
    #[error("{} cannot do {baud} baud; try a standard speed such as 9600, 19200, 38400 or 115200", port.display())]
    Baud {
        /// The path.
        port: PathBuf,
        /// The speed that was asked for.
        baud: u32,
    },
    /// Data or stop bits that no port has.
    #[error("{} cannot do {what}; RTU uses 8 data bits and 1 or 2 stop bits", port.display())]
    Characters {
        /// The path.
        port: PathBuf,
        /// What was asked for.
        what: String,
    },
    /// The driver does not switch RS485.
    #[error("the driver of {} cannot switch RS485 direction ({}); most USB adapters do it by themselves: remove rs485", port.display(), os::sentence(source, Doing::Device))]
    Rs485 {
        /// The path.
        port: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else, unplugged in the middle for instance.
    #[error("cannot open {}: {}", port.display(), os::sentence(source, Doing::Device))]
    Io {
        /// The path.
        port: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn list(ports: &[PathBuf]) -> String {
    if ports.is_empty() {
        return "there is no serial port on this machine; is the adapter plugged in?".to_owned();
    }
    let names: Vec<String> = ports.iter().map(|port| port.display().to_string()).collect();
    format!("the ports there are: {}", names.join(", "))
}

/// Serial ports that exist in a system whose root is `root`, by their names there, stable names first.
#[must_use]
pub fn existing_ports(root: &Path) -> Vec<PathBuf> {
    let mut ports = entries(&root.join("dev/serial/by-id"), |_| true);
    let real = |name: &str| {
        ["ttyUSB", "ttyACM", "ttyAMA", "serial0", "serial1"].iter().any(|prefix| name.starts_with(prefix))
            || (name.starts_with("ttyS")
                && root.join("sys/class/tty").join(name).join("device/driver").exists())
    };
    ports.extend(entries(&root.join("dev"), real));
    ports.truncate(PORTS_MAX);
    let named = |port: PathBuf| port.strip_prefix(root).map(|name| Path::new("/").join(name)).unwrap_or(port);
    ports.into_iter().map(named).collect()
}

fn entries(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = folder
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Whether there is a port at all.
pub(super) fn look(serial: &Serial) -> Result<(), OpenError> {
    let port = serial.port.clone();
    match fs::metadata(&port) {
        Ok(found) if found.file_type().is_char_device() => Ok(()),
        Ok(_) => Err(OpenError::NotAPort { port, existing: existing_ports(Path::new("/")) }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            Err(OpenError::NoPort { port, existing: existing_ports(Path::new("/")) })
        }
        Err(source) => Err(OpenError::Io { port, source }),
    }
}

/// The reason behind what `serialport` says.
pub(super) fn explain(serial: &Serial, error: &tokio_serial::Error) -> OpenError {
    use tokio_serial::ErrorKind;
    let port = serial.port.clone();
    match error.kind() {
        ErrorKind::Io(io::ErrorKind::PermissionDenied) => {
            let (group, mode) = group_of(&port);
            OpenError::Permission { port, group, mode }
        }
        ErrorKind::NoDevice | ErrorKind::Io(io::ErrorKind::ResourceBusy) => match holder(&port) {
            Some(who) => OpenError::Busy { port, who },
            None if port.exists() && error.description.to_lowercase().contains("lock") => {
                OpenError::Busy { port, who: "another program".to_owned() }
            }
            None if port.exists() && error.description.to_lowercase().contains("busy") => {
                OpenError::Busy { port, who: "another program".to_owned() }
            }
            None => OpenError::Io { port, source: io::Error::other(error.description.clone()) },
        },
        ErrorKind::InvalidInput => OpenError::Baud { port, baud: serial.baud },
        _ => OpenError::Io { port, source: io::Error::other(error.description.clone()) },
    }
}

/// Read and write, of the group.
const GROUP_READS_AND_WRITES: u32 = 0o060;

/// What to do for a port that this user may not open. Nobody joins the group of root for a port, and a group that may not use it is none to join.
fn permission(group: &str, mode: u32) -> String {
    if matches!(group, "root" | "0" | "wheel" | "sudo")
        || mode & GROUP_READS_AND_WRITES != GROUP_READS_AND_WRITES
    {
        return format!(
            "only root may use it (group {group}, mode {mode:04o}), because no rule of udev gives it to a group; write the line \
             SUBSYSTEM==\"tty\", KERNEL==\"tty[A-Z]*\", GROUP=\"dialout\", MODE=\"0660\" into /etc/udev/rules.d/60-serial.rules, run \
             `sudo udevadm control --reload && sudo udevadm trigger`, and add the user of the gateway to dialout; on a login console, end \
             its getty first"
        );
    }
    format!(
        "it belongs to group {group}; add the user of the gateway to it (sudo usermod -aG {group} USER) and log in again"
    )
}

/// The group of a port, and its mode.
fn group_of(port: &Path) -> (String, u32) {
    let Ok(found) = fs::metadata(port) else { return ("dialout".to_owned(), GROUP_READS_AND_WRITES) };
    (group_name(&found), found.mode() & 0o7777)
}

fn group_name(found: &fs::Metadata) -> String {
    let id = found.gid().to_string();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    name.unwrap_or(id)
}

/// Name and id of a process that has `port` open, if this user may see it.
fn holder(port: &Path) -> Option<String> {
    let device = fs::metadata(port).ok()?.rdev();
    let processes = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    for process in processes {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |fd: fs::DirEntry| {
            fs::metadata(fd.path())
                .is_ok_and(|file| file.file_type().is_char_device() && file.rdev() == device)
        };
        if open.flatten().take(PROCESSES_MAX).any(holds) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let whose = if id == std::process::id() { "this gateway itself, " } else { "" };
            return Some(format!("{whose}{} (process {id})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_another_root_are_those_below_it_by_their_names_there() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["dev/serial/by-id", "sys/class/tty/ttyS1/device/driver", "sys/class/tty/ttyS0"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for port in ["ttyUSB7", "ttyS0", "ttyS1", "null", "serial/by-id/usb-FTDI_A10-if00-port0"] {
            fs::write(root.path().join("dev").join(port), "").unwrap();
        }
        let expected = ["/dev/serial/by-id/usb-FTDI_A10-if00-port0", "/dev/ttyS1", "/dev/ttyUSB7"];
        assert_eq!(existing_ports(root.path()), expected.map(PathBuf::from));
        assert_eq!(existing_ports(&root.path().join("dev")), Vec::<PathBuf>::new());
    }
}
