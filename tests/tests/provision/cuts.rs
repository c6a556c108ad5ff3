//! Power cuts between any two changes of a file.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use gateway_daemon::app::provision::Reader;
use gateway_daemon::provision::{Judge as _, Step};

use super::card::{Card, MINIMAL, Pki, Plain, TLS};

/// The configuration that a reader finds: its text, and every file that it names.
type Found = BTreeMap<String, Vec<u8>>;

fn found(card: &Card) -> Option<Found> {
    let config = fs::read(card.config.join("gateway.toml")).ok()?;
    Reader.judge(&card.config).ok()?;
    let mut found = Found::new();
    for file in Reader.named(&config) {
        let places = [card.config.join(&file.path), card.config.join("keys").join(&file.path)];
        found.insert(file.path, places.iter().find_map(|place| fs::read(place).ok())?);
    }
    found.insert("gateway.toml".to_owned(), config);
    Some(found)
}

/// A boot whose power fails before change number `at`; files that were not made durable by then are torn when `torn`. Whether it failed.
fn boot(card: &Card, at: usize, torn: bool) -> bool {
    let (count, unsynced) = (Cell::new(0), RefCell::new(BTreeSet::<PathBuf>::new()));
    let before = |step: Step<'_>| {
        if count.get() == at {
            return Err(io::Error::other("the power is off"));
        }
        count.set(count.get() + 1);
        match step {
            Step::Write(path) => drop(unsynced.borrow_mut().insert(path.to_owned())),
            Step::Sync(path) => drop(unsynced.borrow_mut().remove(path)),
            Step::Name(_) => {}
        }
        Ok(())
    };
    card.provision_with(&Plain, &before);
    let failed = count.get() == at;
    for path in unsynced.into_inner().iter().filter(|_| failed && torn) {
        if let Ok(file) = fs::File::options().write(true).open(path) {
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }
    }
    failed
}

/// What was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    Nothing,
    ByHand,
    Installed,
}

/// What is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum New {
    Whole,
    Renewal,
    Smaller,
}

struct Scene {
    old: Old,
    new: New,
    first: Pki,
    second: Pki,
}

impl Scene {
    fn new(old: Old, new: New) -> Self {
        Self { old, new, first: Pki::new(), second: Pki::new() }
    }

    /// A card with the old configuration in use and the new one dropped.
    fn card(&self) -> Card {
        let card = Card::new();
        match self.old {
            Old::Nothing => {}
            Old::ByHand => {
                fs::create_dir(card.config.join("keys")).unwrap();
                for (name, text) in [
                    ("gateway.toml", TLS),
                    ("ca.pem", &self.first.ca),
                    ("device.pem", &self.first.cert),
                    ("keys/device.key", &self.first.key),
                    ("password.txt", "hunter1\n"),
                ] {
                    fs::write(card.config.join(name), text).unwrap();
                }
            }
            Old::Installed => {
                card.drop("gateway.toml", TLS.as_bytes());
                self.first.drop(&card);
            }
        }
        assert!(card.provision().usable);
        assert_eq!(card.fault(), None);
        match self.new {
            New::Whole => {
                card.drop("gateway.toml", TLS.replace("plant7", "plant8").as_bytes());
                self.second.drop(&card);
            }
            New::Renewal => {
                card.drop("device.pem", self.second.cert.as_bytes());
                card.drop("device.key", self.second.key.as_bytes());
            }
            New::Smaller => card.drop("gateway.toml", MINIMAL.as_bytes()),
        }
        card
    }

    /// Every state that is allowed, the old one first.
    fn states(&self) -> [Found; 2] {
        let card = self.card();
        let old = found(&card).unwrap();
        assert!(card.provision().usable);
        let new = found(&card).unwrap();
        assert_ne!(old, new);
        assert_settled(&card, &new);
        [old, new]
    }
}

/// After a boot that was not cut off.
#[track_caller]
fn assert_settled(card: &Card, new: &Found) {
    let same = found(card).as_ref() == Some(new);
    assert!(same, "not the new configuration: {:?}, {:?}", card.on_drive(), card.fault());
    assert_eq!((card.on_drive(), card.fault()), (vec!["gateway-applied.txt".to_owned()], None));
    let rests = card.config_tree().into_keys().filter(|path| {
        let text = path.to_string_lossy();
        text.contains("/.") && !text.contains("/.tmp") || text.contains('~')
    });
    assert_eq!(rests.collect::<Vec<_>>(), [] as [PathBuf; 0]);
}

#[test]
fn an_interrupted_provisioning_leaves_the_old_or_the_new_configuration() {
    for old in [Old::Nothing, Old::ByHand, Old::Installed] {
        for new in [New::Whole, New::Renewal, New::Smaller] {
            if (old, new) == (Old::Nothing, New::Renewal) {
                continue;
            }
            let scene = Scene::new(old, new);
            let states = scene.states();
            let mut cuts = 0;
            for torn in [false, true] {
                for at in 0.. {
                    let card = scene.card();
                    let failed = boot(&card, at, torn);
                    let what = format!("{old:?} {new:?} cut at {at}, torn {torn}");
                    let now =
                        found(&card).unwrap_or_else(|| panic!("{what}: {:#?}", card.config_tree().keys()));
                    assert!(states.contains(&now), "{what}: neither old nor new: {:?}", now.keys());
                    if !failed {
                        break;
                    }
                    cuts += 1;
                    let outcome = card.provision();
                    assert!(outcome.usable, "{what}: {:?}", outcome.told);
                    assert!(
                        found(&card).as_ref() == Some(&states[1]),
                        "{what}: {:?} {:?}",
                        outcome.told,
                        card.on_drive()
                    );
                    assert_settled(&card, &states[1]);
                }
            }
            assert!(cuts > 40, "{old:?} {new:?}: only {cuts} cuts");
        }
    }
}

#[test]
fn a_second_cut_while_the_first_is_repaired_changes_nothing() {
    let scene = Scene::new(Old::Installed, New::Whole);
    let states = scene.states();
    // Every seventh first cut with every fifth second one: both share no factor with the number of steps for long.
    for (first, torn) in (0..).step_by(7).zip([true, false].into_iter().cycle()) {
        let card = scene.card();
        if !boot(&card, first, torn) {
            break;
        }
        for second in (0..).step_by(5) {
            let failed = boot(&card, second, !torn);
            let now = found(&card).unwrap_or_else(|| panic!("cut at {first} and {second}"));
            assert!(states.contains(&now), "cut at {first} and {second}: {:?}", now.keys());
            if !failed {
                break;
            }
        }
        assert_settled(&card, &states[1]);
    }
}

#[test]
fn no_key_is_ever_open_to_others_nor_left_on_the_drive_under_its_name_half_wiped() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new(Old::Nothing, New::Whole);
    for at in 0.. {
        let card = scene.card();
        let failed = boot(&card, at, true);
        for (path, bytes) in card.config_tree() {
            let text = String::from_utf8_lossy(&bytes);
            if text.contains("PRIVATE KEY") || text.contains("hunter2") {
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                let folder = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o7777;
                assert_eq!((mode, folder), (0o600, 0o700), "{} at {at}", path.display());
            }
        }
        if let Ok(key) = fs::read(card.drop.join("device.key")) {
            assert_eq!(key, scene.second.key.as_bytes(), "at {at}");
        }
        if !failed {
            break;
        }
    }
}

/// The gateway's own configuration is made anew if it has to be: there is nothing in it to lose.
#[test]
fn a_first_boot_that_is_cut_off_is_made_up_for_by_the_next() {
    for at in 0.. {
        let card = Card::new();
        let failed = boot(&card, at, true);
        assert!(card.provision().usable);
        assert_eq!(
            (card.judged().id.as_str(), card.fault()),
            ("tidegate-10000000d8a1b2c3", None),
            "cut at {at}"
        );
        if !failed {
            break;
        }
    }
}
