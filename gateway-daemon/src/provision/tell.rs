//! How the gateway is some minutes after its start, where a person without a network looks: on the console, above the log-in, and on the drive TIDEGATE.
//!
//! The console hears it when it has changed. The drive, which is on the card, gets `gateway-status.txt` once in each start, and only when it says something else than before; the
//! text has no ages and no counts, so a gateway that is well is not written to again.

use std::path::{Path, PathBuf};

use super::disk::{self, Disk, Mode};
use super::drop::{FILE_BYTES_MAX, STATUS};
use super::partition::Writable;
use super::report::{group, in_folder, put, say};
use super::{Places, World, words};

/// What was told last in this start, below /run; its existence says that the drive has had its text.
const TOLD: &str = "tidegate-told";

/// What agetty shows above the log-in, below /run; beside the one of provisioning.
const ISSUE: &str = "issue.d/tidegate-status.issue";

/// Most addresses and ports that are told.
const LINES_MAX: usize = 32;

/// How the gateway is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Now {
    /// Its name, if it runs.
    pub id: Option<String>,
    /// In one line.
    pub verdict: String,
    /// Everything that is wrong, a line each.
    pub wrong: Vec<String>,
    /// Serial ports that exist, stable names first.
    pub ports: Vec<PathBuf>,
}

/// Tells it where it is news; what could not be written comes back in sentences.
#[must_use]
pub fn tell(places: &Places, world: &World<'_>, now: &Now) -> Vec<String> {
    let disk = Disk { before: world.before, group: group(&places.root) };
    let mut addresses = addresses(&places.root);
    addresses.truncate(LINES_MAX);
    let ports: Vec<String> =
        now.ports.iter().take(LINES_MAX).map(|port| port.display().to_string()).collect();
    let text = words::status(now, &addresses, &ports);
    let told = places.run.join(TOLD);
    let before = disk::read(&told, FILE_BYTES_MAX).ok();
    let mut failed = Vec::new();
    if before.is_none() {
        let written = Writable::open(&places.drop, world.mounts).and_then(|writable| {
            put(&disk, &places.drop.join(STATUS), &words::for_any_editor(&text))?;
            writable.close()
        });
        if let Err(error) = written {
            failed.push(format!("{STATUS} cannot be written to the drive TIDEGATE: {error}"));
        }
    }
    if before.as_deref() != Some(text.as_bytes()) {
        // A backslash is an order to agetty.
        let issue = format!("\n{}\n", text.replace('\\', "/"));
        for (path, text) in [(places.run.join(ISSUE), &issue), (told, &text)] {
            if let Err(error) =
                in_folder(&disk, &path).and_then(|()| disk.replace(&path, text.as_bytes(), Mode::Open))
            {
                failed.push(format!("{} cannot be written: {error}", path.display()));
            }
        }
        // Nobody may be there to read it, and a serial console may not take it.
        let _ = say(&places.root.join("dev/console"), &text);
    }
    failed
}

/// Addresses of this machine: those of version 4 by the kernel's table of routes, those of version 6 that others can reach, with the name of their card.
fn addresses(root: &Path) -> Vec<String> {
    let text = |path: &str| disk::read(&root.join(path), FILE_BYTES_MAX).unwrap_or_default();
    let mut all = Vec::new();
    let routes = text("proc/net/fib_trie");
    let mut last = String::new();
    for line in String::from_utf8_lossy(&routes).lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().to_owned();
        } else if line.trim_start().starts_with("/32 host LOCAL")
            && !last.starts_with("127.")
            && !all.contains(&last)
        {
            all.push(last.clone());
        }
    }
    let cards = text("proc/net/if_inet6");
    for line in String::from_utf8_lossy(&cards).lines() {
        let mut fields = line.split_whitespace();
        let (Some(hex), Some(scope), Some(card)) = (fields.next(), fields.nth(2), fields.nth(1)) else {
            continue;
        };
        if let (Ok(bits), "00") = (u128::from_str_radix(hex, 16), scope) {
            all.push(format!("{} ({card})", std::net::Ipv6Addr::from(bits)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel prints them.
    const ROUTES: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 127.0.0.0/8 2 0 2\n        +-- 127.0.0.0/31 1 0 0\n\
                          \x20          |-- 127.0.0.1\n              /32 host LOCAL\n     +-- 192.168.10.0/24 2 0 1\n        |-- 192.168.10.17\n           /32 host LOCAL\n\
                          \x20       |-- 192.168.10.255\n           /32 link BROADCAST\nLocal:\n        |-- 192.168.10.17\n           /32 host LOCAL\n";
    const CARDS: &str = "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000000242acfffe110002 02 40 20 80     eth0\n\
                         20010db8000000000000000000000017 02 40 00 80     eth0\n";

    struct Fixed;

    impl super::super::Mounts for Fixed {
        fn is_read_only(&self, _: &Path) -> std::io::Result<bool> {
            Ok(false)
        }
        fn remount(&self, _: &Path, _: bool) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl super::super::BootPartition for Fixed {
        fn check(&self, _: &Path) -> std::io::Result<()> {
            Ok(())
        }
        fn mount(&self, _: &Path, _: &Path, _: bool) -> std::io::Result<()> {
            Ok(())
        }
        fn unmount(&self, _: &Path) -> std::io::Result<()> {
            Ok(())
        }
        fn stays(&self, _: &Path) -> bool {
            true
        }
    }

    struct Nobody;

    impl super::super::Judge for Nobody {
        fn named(&self, _: &[u8]) -> Vec<super::super::Named> {
            Vec::new()
        }
        fn judge(&self, _: &Path) -> Result<super::super::Judged, Vec<String>> {
            Err(Vec::new())
        }
    }

    fn places(folder: &Path) -> Places {
        let of = |name: &str| {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        of("root/proc/net");
        of("root/dev");
        std::fs::write(folder.join("root/proc/net/fib_trie"), ROUTES).unwrap();
        std::fs::write(folder.join("root/proc/net/if_inet6"), CARDS).unwrap();
        std::fs::write(folder.join("root/dev/console"), "").unwrap();
        Places { drop: of("drop"), config: of("etc"), run: of("run"), root: of("root") }
    }

    fn ill() -> Now {
        let wrong = "bus rs485-1 is not open: no port /dev/ttyUSB7".to_owned();
        Now {
            id: Some("plant7".into()),
            verdict: format!("not well: {wrong}"),
            wrong: vec![wrong],
            ports: vec!["/dev/serial/by-id/usb-FTDI_A10-if00-port0".into(), "/dev/ttyUSB0".into()],
        }
    }

    #[test]
    fn addresses_that_others_can_reach_are_found_once() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        assert_eq!(addresses(&places.root), ["192.168.10.17", "2001:db8::17 (eth0)"]);
        assert_eq!(addresses(Path::new("/nowhere")), Vec::<String>::new());
    }

    #[test]
    fn the_console_hears_what_is_news_and_the_drive_is_written_once_in_each_start() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let world = World { judge: &Nobody, mounts: &Fixed, boot: &Fixed, before: &|_| Ok(()), time: None };
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let console = || std::fs::read_to_string(places.root.join("dev/console")).unwrap();
        let status = places.drop.join(STATUS);
        assert_eq!(tell(&places, &world, &ill()), Vec::<String>::new());
        for part in
            ["192.168.10.17", "/dev/serial/by-id/usb-FTDI_A10-if00-port0", "no port /dev/ttyUSB7", "plant7"]
        {
            assert!(read(&status).contains(part) && console().contains(part), "{part}: {}", read(&status));
        }
        assert!(read(&places.run.join(ISSUE)).contains("no port /dev/ttyUSB7"));
        // The same again is no news.
        std::fs::write(places.root.join("dev/console"), "").unwrap();
        assert_eq!(tell(&places, &world, &ill()), Vec::<String>::new());
        assert_eq!(console(), "");
        // Another state is news for the console and not for the card.
        let well = Now { verdict: "all is well".into(), wrong: Vec::new(), ..ill() };
        assert_eq!(tell(&places, &world, &well), Vec::<String>::new());
        assert!(console().contains("all is well"));
        assert!(read(&status).contains("no port /dev/ttyUSB7"));
        // The next start: /run is empty.
        std::fs::remove_dir_all(&places.run).unwrap();
        std::fs::create_dir_all(&places.run).unwrap();
        assert_eq!(tell(&places, &world, &well), Vec::<String>::new());
        assert!(read(&status).contains("all is well"));
    }

    #[test]
    fn a_start_that_finds_its_text_on_the_drive_writes_nothing_to_the_card() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let drop = places.drop.clone();
        let writes = std::cell::Cell::new(0);
        let before = |step: super::super::Step<'_>| {
            let (super::super::Step::Write(path)
            | super::super::Step::Sync(path)
            | super::super::Step::Name(path)) = step;
            writes.set(writes.get() + u32::from(path.starts_with(&drop)));
            Ok(())
        };
        let world = World { judge: &Nobody, mounts: &Fixed, boot: &Fixed, before: &before, time: None };
        let _ = tell(&places, &world, &ill());
        let first = writes.get();
        assert!(first > 0);
        std::fs::remove_dir_all(&places.run).unwrap();
        std::fs::create_dir_all(&places.run).unwrap();
        let _ = tell(&places, &world, &ill());
        assert_eq!(writes.get(), first);
    }
}
