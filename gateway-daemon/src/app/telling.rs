//! Tells how the gateway is: each bus and device on a topic of its own, and what is wrong in the status message of each uplink.
//!
//! What is said and how often is decided in [`super::condition`], [`super::troubles`] and [`gateway_core::health`]; here it goes to local clients and to the
//! uplinks. Once a second, of the same snapshot that `status` shows. Nothing of it is stored: it is said anew in every run.
//!
//! What former configurations have left at the cloud is cleared in turns: the uplinks are given [`CLEARING_MAX`] topics, and those are forgotten when every uplink
//! has cleared them; then come the next. While there is no uplink nothing is cleared and nothing forgotten.
//!
//! Bounds: the topics of the configuration, [`BULLETINS_MAX`] of former ones, [`WRONG_MAX`] sentences of [`SENTENCE_BYTES_MAX`] in a status message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_config::Config;
use gateway_core::health::{Told, bus_topic, device_topic};
use gateway_core::payload::Encoder;
use gateway_core::tag::{BootNs, Stamp, WallClock as _};
use gateway_core::uplink::Identity;
use gateway_core::uplink::bulletins::BULLETINS_MAX;

use super::condition::{Beginnings, Condition, Said, conditions};
use super::ever_told::{EverTold, Topics};
use super::faults::Faults;
use super::gateway::Gateway;
use super::known::Known;
use super::start::identity;
use super::survey;
use super::troubles::{Severity, Subject, Trouble, troubles};
use super::upstream::{Cleared, Upstream};

/// Most topics of buses and devices of former configurations that are cleared in one turn.
const CLEARING_MAX: usize = 512;
/// Most things that are wrong in a status message, beside the faults of the machine.
const WRONG_MAX: usize = 16;
/// Longest sentence there, bytes.
const SENTENCE_BYTES_MAX: usize = 400;
/// Says how many more there are; no fault of the machine and no [`Subject`] is called so.
const MORE: &str = "more/others";

/// Payloads by topic.
pub(super) type Bulletins = BTreeMap<Arc<str>, Arc<[u8]>>;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    paces: BTreeMap<Arc<str>, Told<(Said, bool)>>,
    beginnings: Beginnings,
    told: Bulletins,
    /// The topics of the configuration in force.
    present: Topics,
    /// Topics of buses and devices of former configurations: what is retained there is out of date, until every uplink has cleared it.
    former: Topics,
    /// Those of them whose turn it is.
    clearing: Vec<Arc<str>>,
    /// The uplinks have not been given them yet.
    is_turn_due: bool,
    ever: EverTold,
    /// Topics on which the gateway says something else.
    taken: BTreeSet<Arc<str>>,
    /// What is wrong, the most important first.
    wrong: Vec<(Subject, String)>,
    /// Uplinks have not heard everything.
    due: bool,
}

impl Telling {
    /// Nothing was told yet in this run.
    pub(super) fn new(config: &Config, encoder: &Encoder, known: &Known) -> Self {
        let id = config.gateway.id.as_str();
        let ever = EverTold::open(&config.store.path, id);
        let mut former = Topics::new();
        if config.gateway.health {
            // Of a version that kept no file.
            let names = known
                .names()
                .flat_map(|(bus, device)| [bus_topic(id, bus.as_str()), device_topic(id, device.as_str())]);
            former.extend(names.map(Arc::from));
        }
        let mut telling = Self { ever, former, ..Self::default() };
        telling.replace(config, encoder);
        telling
    }

    /// Another configuration is in force, perhaps with other uplinks.
    pub(super) fn replace(&mut self, config: &Config, encoder: &Encoder) {
        let of_uplinks = config
            .uplinks
            .iter()
            .flat_map(|(uplink, _)| [Arc::clone(&uplink.status_topic), Arc::clone(&uplink.ledger_topic)]);
        self.taken = encoder.topics().cloned().chain(of_uplinks).collect();
        let topics = config.health_topics().into_iter().map(Arc::from);
        self.present = topics.filter(|topic| !self.taken.contains(topic)).collect();
        self.ever.add(&self.present);
        let mut former = std::mem::take(&mut self.former);
        former.extend(self.ever.topics().iter().cloned());
        let is_former = |topic: &Arc<str>| !self.present.contains(topic) && !self.taken.contains(topic);
        self.former = former.into_iter().filter(is_former).take(BULLETINS_MAX).collect();
        self.clear_next();
    }

    /// It is the turn of the next topics of former configurations, and everything is put to the uplinks.
    fn clear_next(&mut self) {
        self.clearing = self.former.iter().take(CLEARING_MAX).cloned().collect();
        (self.due, self.is_turn_due) = (true, true);
    }

    /// How far the uplinks have come with what they were given last.
    fn progressed(&mut self, uplinks: impl Iterator<Item = Cleared>) {
        match uplinks.min() {
            None | Some(Cleared::Waiting) => {}
            Some(Cleared::Refused) => (self.due, self.is_turn_due) = (true, true),
            Some(Cleared::All) if self.clearing.is_empty() => {}
            Some(Cleared::All) => {
                for topic in std::mem::take(&mut self.clearing) {
                    self.former.remove(&topic);
                    self.ever.forget(&topic);
                }
                self.clear_next();
            }
        }
    }

    /// What there is to say by now: payloads by topic, empty ones for what is gone.
    fn news(
        &mut self,
        now: BootNs,
        present: Vec<Condition>,
        message: impl Fn(&Condition, bool) -> Option<Vec<u8>>,
        wall: bool,
    ) -> Vec<(Arc<str>, Arc<[u8]>)> {
        let mut news: Vec<(Arc<str>, Arc<[u8]>)> = Vec::new();
        let mut known = BTreeSet::new();
        for mut condition in present {
            condition.since = self.beginnings.of(now, &condition);
            let topic = Arc::clone(&condition.topic);
            if self.taken.contains(&topic) {
                continue;
            }
            if let Some(said) = &condition.said
                && self.paces.entry(Arc::clone(&topic)).or_default().tell(now, (said.clone(), wall))
                && let Some(payload) = message(&condition, wall)
            {
                news.push((Arc::clone(&topic), payload.into()));
            }
            known.insert(topic);
        }
        self.paces.retain(|topic, _| known.contains(topic));
        self.beginnings.keep(|topic| known.contains(topic));
        let gone = self.told.keys().filter(|topic| !known.contains(*topic));
        news.extend(gone.map(|topic| (Arc::clone(topic), Arc::from([]))));
        for (topic, payload) in &news {
            if payload.is_empty() {
                self.told.remove(topic);
            } else {
                self.told.insert(Arc::clone(topic), Arc::clone(payload));
            }
        }
        self.due |= !news.is_empty();
        news
    }
}

impl Gateway {
    /// Tells what has changed, as far as it is time.
    pub(super) fn tell(&mut self, now: BootNs) {
        let outline = self.outline(now);
        let found = troubles(&outline);
        self.telling.wrong = wrong(&found);
        self.tell_faults(now);
        let present = if self.config.gateway.health { conditions(now, &outline, &found) } else { Vec::new() };
        let (boot, walls, run) = (self.run.to_string(), &self.walls, self.run.boot);
        let wall = walls.boot_wall(run).is_some();
        let message = |condition: &Condition, wall: bool| {
            let since = walls.wall(Stamp { boot: run, at: condition.since }).filter(|_| wall);
            condition.message(&boot, since.map(survey::iso))
        };
        for (topic, payload) in self.telling.news(now, present, message, wall) {
            if let Err(fault) = self.local.broker.announce(now, Arc::clone(&topic), payload) {
                log::error!("{topic}: {fault}");
            }
        }
        let telling = &mut self.telling;
        if std::mem::take(&mut telling.due) {
            let clearing = std::mem::take(&mut telling.is_turn_due).then_some(telling.clearing.as_slice());
            for upstream in &mut self.upstreams {
                upstream.show(now, &telling.told, clearing);
            }
        }
        telling.progressed(self.upstreams.iter().map(Upstream::cleared));
        telling.ever.keep(now);
    }

    /// Puts what is wrong into the status message of each uplink, and has it said again when that has changed.
    fn tell_faults(&mut self, now: BootNs) {
        for index in 0..self.upstreams.len() {
            let identity = self.identity_for(&self.config, self.upstreams[index].name.as_str());
            let upstream = &mut self.upstreams[index];
            let faults = Arc::clone(&identity.faults);
            if *upstream.uplink.identity() != identity {
                upstream.uplink.refresh_identity(identity);
            }
            if upstream.births.tell(now, faults) {
                upstream.uplink.say_birth();
            }
        }
    }

    /// What the birth message of an uplink says.
    pub(super) fn identity_for(&self, config: &Config, uplink: &str) -> Identity {
        let faults = faults(&self.known_faults, &self.telling.wrong, uplink);
        identity(config, self.run, &Arc::new(faults))
    }
}

/// What is wrong with something else than the machine below, whose faults have names of their own. A certificate that ends soon is named before it is wrong:
/// who renews it is seldom at the gateway.
fn wrong(troubles: &[Trouble]) -> Vec<(Subject, String)> {
    let is_told = |trouble: &&Trouble| {
        trouble.severity == Severity::Wrong || matches!(trouble.subject, Subject::Certificate(..))
    };
    let wrong = troubles.iter().filter(is_told);
    let wrong = wrong.filter(|trouble| !matches!(trouble.subject, Subject::Machine(_)));
    wrong.map(|trouble| (trouble.subject.clone(), trouble.lasting())).collect()
}

/// The faults in the status message of an uplink: those of the machine by their names, and the most important of the others. That its own link is down is
/// nothing that it could say.
fn faults(machine: &Faults, wrong: &[(Subject, String)], uplink: &str) -> Faults {
    let mut faults = machine.clone();
    let own = Subject::Link(uplink.to_owned());
    let mut more = 0_usize;
    let most = machine.len() + WRONG_MAX;
    for (subject, sentence) in wrong.iter().filter(|(subject, _)| *subject != own) {
        let name = subject.to_string();
        if faults.contains_key(&name) || faults.len() >= most {
            more += 1;
            continue;
        }
        faults.insert(name, cut(sentence));
    }
    if more > 0 {
        let words = if more == 1 {
            "1 other thing is wrong".to_owned()
        } else {
            format!("{more} other things are wrong")
        };
        faults.insert(MORE.to_owned(), format!("{words}: `gateway-daemon status` tells"));
    }
    faults
}

fn cut(sentence: &str) -> String {
    let mut end = sentence.len().min(SENTENCE_BYTES_MAX);
    while !sentence.is_char_boundary(end) {
        end -= 1;
    }
    sentence[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gateway_config::{Environment, parse};

    use super::*;

    /// A configuration of one bus with these devices.
    fn config(dir: &Path, devices: &[&str], health: bool) -> (Config, Encoder) {
        let mut text = format!(
            "[gateway]\nid = \"gw\"\nhealth = {health}\n[store]\npath = \"{}/queue.db\"\n[bus.line]\ndriver = \"sim\"\n",
            dir.display()
        );
        for (unit, device) in (1..).zip(devices) {
            text.push_str(&format!(
                "[device.{device}]\nbus = \"line\"\nunit = {unit}\n[[device.{device}.poll]]\nevery = \"1s\"\n\
                 tags.v = {{ holding = 0, type = \"u16\" }}\n"
            ));
        }
        let (config, _) = parse(&text, "a.toml", Path::new("/"), &Environment::default()).unwrap();
        let encoder = Encoder::new(&config.gateway.id, &config.message, &config.field).unwrap();
        (config, encoder)
    }

    fn start((config, encoder): &(Config, Encoder)) -> Telling {
        Telling::new(config, encoder, &Known::new(encoder, Vec::new()))
    }

    /// What the uplinks are given to clear.
    fn turn(telling: &mut Telling) -> Vec<String> {
        assert!(std::mem::take(&mut telling.is_turn_due) && std::mem::take(&mut telling.due));
        telling.clearing.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hundreds_of_former_topics_are_cleared_in_turns_and_each_is_forgotten_when_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let topics: String = (0..600).map(|number| format!("gw/health/device/d{number:03}\n")).collect();
        std::fs::write(dir.path().join("queue.db.health"), topics).unwrap();
        let mut telling = start(&config(dir.path(), &["first"], false));
        assert_eq!(turn(&mut telling).len(), CLEARING_MAX);
        telling.progressed([Cleared::All, Cleared::Waiting].into_iter());
        assert_eq!(telling.ever.topics().len(), 600, "not at every uplink");
        telling.progressed([Cleared::All, Cleared::All].into_iter());
        assert_eq!(telling.ever.topics().len(), 600 - CLEARING_MAX);
        let rest = turn(&mut telling);
        assert_eq!((rest.len(), rest[0].as_str()), (600 - CLEARING_MAX, "gw/health/device/d512"));
        telling.progressed([Cleared::All].into_iter());
        assert_eq!((telling.ever.topics().len(), turn(&mut telling).len()), (0, 0));
        telling.progressed([Cleared::All].into_iter());
        assert!(!telling.due, "nothing more to do");
    }

    #[test]
    fn what_a_reload_takes_away_is_given_to_the_uplinks_of_each_later_one_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) =
            (config(dir.path(), &["first", "second"], true), config(dir.path(), &["second"], true));
        let mut telling = start(&before);
        assert!(turn(&mut telling).is_empty());
        // Nothing was told yet: the run before may have.
        telling.replace(&after.0, &after.1);
        let gone = ["gw/health/device/first"];
        assert_eq!(turn(&mut telling), gone);
        telling.progressed([Cleared::Waiting].into_iter());
        telling.progressed(std::iter::empty());
        assert!(!telling.due);
        // Another uplink that knows nothing of it.
        telling.replace(&after.0, &after.1);
        assert_eq!(turn(&mut telling), gone);
        telling.progressed([Cleared::All, Cleared::Refused].into_iter());
        assert_eq!(turn(&mut telling), gone, "there was no room for it");
        assert!(telling.ever.topics().contains(gone[0]));
        telling.progressed([Cleared::All].into_iter());
        assert!(turn(&mut telling).is_empty() && telling.ever.topics() == &telling.present);
        // It is there again.
        telling.replace(&before.0, &before.1);
        assert!(turn(&mut telling).is_empty() && telling.ever.topics().contains(gone[0]));
    }

    fn machine(names: &[&str]) -> Faults {
        names.iter().map(|name| ((*name).to_owned(), "of the machine".to_owned())).collect()
    }

    fn bus(number: usize) -> (Subject, String) {
        (Subject::Bus(format!("b{number:02}")), format!("bus b{number:02} is not open"))
    }

    #[test]
    fn faults_of_the_machine_keep_their_names_and_others_stand_beside_them() {
        let wrong = [(Subject::Store, "full".to_owned()), bus(1)];
        let told = faults(&machine(&["data-partition", "limits"]), &wrong, "cloud");
        let names: Vec<&str> = told.keys().map(String::as_str).collect();
        assert_eq!(names, ["bus/b01", "data-partition", "limits", "store"]);
        assert_eq!(told["data-partition"], "of the machine");
    }

    #[test]
    fn an_uplink_says_of_others_that_they_are_down_and_not_of_itself() {
        let wrong = [Subject::Link("cloud".into()), Subject::Link("other".into())];
        let wrong = wrong.map(|subject| (subject, "down".to_owned()));
        let told = faults(&Faults::new(), &wrong, "cloud");
        assert_eq!(told.keys().collect::<Vec<_>>(), ["link/other"]);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_named_before_it_is_wrong_and_nothing_else_is() {
        let trouble = |subject, severity| Trouble {
            subject,
            severity,
            since_ms: None,
            sentence: "ends soon".to_owned(),
            remedy: None,
        };
        let certificate = Subject::Certificate("uplink".into(), "cloud".into());
        let found = [
            trouble(Subject::Store, Severity::Wrong),
            trouble(Subject::Clock, Severity::Notable),
            trouble(certificate, Severity::Notable),
        ];
        let told = faults(&Faults::new(), &wrong(&found), "cloud");
        assert_eq!(told.keys().collect::<Vec<_>>(), ["certificate/uplink/cloud", "store"]);
        assert!(!crate::app::troubles::is_well(&found[..1]) && crate::app::troubles::is_well(&found[1..]));
    }

    #[test]
    fn many_are_counted_and_long_ones_cut() {
        let mut wrong: Vec<(Subject, String)> = (0..100).map(bus).collect();
        wrong[0].1 = "é".repeat(1000);
        let told = faults(&machine(&["data-partition"]), &wrong, "cloud");
        assert_eq!(told.len(), 1 + WRONG_MAX + 1);
        assert!(told.values().all(|sentence| sentence.len() <= SENTENCE_BYTES_MAX));
        assert!(told[MORE].starts_with("84 other things are wrong"), "{}", told[MORE]);
        assert!(told.contains_key("bus/b15") && !told.contains_key("bus/b16"), "the most important stay");
    }
}
