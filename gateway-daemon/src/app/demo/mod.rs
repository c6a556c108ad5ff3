//! The whole product on one terminal: simulated devices, the real gateway with a door for local clients, and a pretend cloud that counts
//! what arrives.
//!
//! The gateway is the one that `run` starts; the demo gives it a configuration, looks at its snapshots, takes the
//! cloud away and brings it back, writes a tag and takes the power of a device. In the end every reading is counted on both sides. Nothing is left behind: the database
//! lives in a directory of its own that is removed.

pub mod acts;
pub mod arrivals;
pub mod cloud;
pub mod field;
pub mod picture;
pub mod script;
pub mod story;

use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gateway_config::{Config, Environment, Problems};
use gateway_core::broker;
use gateway_core::settings::{ListenerSettings, Transport};
use gateway_core::tag::Name;
use tokio::time::{MissedTickBehavior, interval};

use self::acts::{Act, Acts};
use self::arrivals::Arrivals;
use self::cloud::Cloud;
use self::field::Field;
use self::picture::{DEPTHS_MAX, View};
use self::script::{Facts, Order, Phase, Script};
use self::story::{Story, Wrote};
use super::say;
use super::snapshot::{Link, Snapshot};
use super::terminal::events::{Event, Events, Key};
use super::terminal::screen::Screen;
use super::troubles::{is_well, troubles};
use crate::cli;

/// The built-in configuration.
const CONFIG: &str = include_str!("../../../../config/demo.toml");

/// How often a picture is drawn on a terminal, and the script looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the demo needs of the gateway that it shows.
pub trait Gateway {
    /// How it is.
    fn snapshot(&mut self) -> impl Future<Output = Snapshot>;

    /// Writes a tag as a person would. Gives why it was refused, if so.
    fn write(&mut self, device: &str, tag: &str, value: &str) -> impl Future<Output = Result<(), String>>;

    /// Stops the buses; what is queued goes on travelling.
    fn stop_field(&mut self) -> impl Future<Output = ()>;

    /// Stops everything.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Runs a demo around the gateway that `start` makes of a configuration. Gives the exit code.
///
/// # Errors
/// The pretend cloud or the gateway cannot be started.
pub async fn run<G, S, F>(args: &cli::Demo, start: S) -> anyhow::Result<u8>
where
    G: Gateway,
    S: FnOnce(Config) -> F,
    F: Future<Output = anyhow::Result<G>>,
{
    let folder = Folder::make()?;
    let mut cloud = Cloud::start().await?;
    let mut config = match configure(args.config.as_deref(), &folder.0, cloud.addr().port()) {
        Ok(config) => config,
        Err(problems) => {
            say::complaint(problems);
            return Ok(cli::exit::CONFIG);
        }
    };
    if config.uplinks.is_empty() {
        say::error("this configuration has no [uplink.NAME]: a demo without a link has nothing to show");
        return Ok(cli::exit::CONFIG);
    }
    let field = Field::start(&mut config.field).await?;
    let mut gateway = start(config).await.context("the gateway cannot be started")?;
    let good = show(args, &mut gateway, &mut cloud, &field).await;
    gateway.stop().await;
    Ok(if good? { cli::exit::OK } else { cli::exit::NO })
}

async fn show(
    args: &cli::Demo,
    gateway: &mut impl Gateway,
    cloud: &mut Cloud,
    field: &Field,
) -> anyhow::Result<bool> {
    let start = Instant::now();
    let mut script = Script::new(args.outage, args.seconds.map(Duration::from_secs));
    let mut stage = Stage::new(field);
    let mut events = Events::new().context("the system gives no signals")?;
    let mut stops = 0;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            event = events.next() => match event {
                Event::Stop | Event::Key(Key::Quit) => stops += 1,
                Event::Gone => stops += 2,
                Event::Key(_) => continue,
                Event::Resized => {}
            },
        }
        let snapshot = gateway.snapshot().await;
        let arrivals = cloud.arrivals();
        let elapsed = start.elapsed();
        let facts = facts(&snapshot, arrivals.messages, stops);
        if !stage.show(&script, &snapshot, &arrivals, elapsed) {
            // Nobody looks any more (`| head`).
            stops = stops.max(1);
        }
        if !matches!(script.phase(), Phase::Starting | Phase::Quiet | Phase::Done) {
            stage.act(gateway, field, &snapshot, elapsed).await;
        }
        match script.step(elapsed, facts) {
            None => {}
            Some(Order::CutLink) => cloud.cut().await,
            Some(Order::RestoreLink) => cloud.restore().await?,
            Some(Order::StopField) => gateway.stop_field().await,
            Some(Order::Finish) => return stage.end(&script, &snapshot, &arrivals, elapsed),
        }
    }
}

/// The terminal, and what is remembered for it.
struct Stage {
    screen: Screen,
    story: Story,
    acts: Acts,
    depths: Vec<u64>,
    /// What was said last on a terminal that cannot be drawn on.
    said: Said,
}

#[derive(Default)]
struct Said {
    invited: bool,
    phase: Option<Phase>,
    second: Option<u64>,
}

impl Stage {
    fn new(field: &Field) -> Self {
        let weak = field.weak.as_ref().map(|weak| weak.device.clone());
        let story = Story { weak, ..Story::default() };
        Self {
            screen: Screen::new(),
            story,
            acts: Acts::default(),
            depths: Vec::new(),
            said: Said::default(),
        }
    }

    /// Shows how it is; whether somebody may have seen it.
    fn show(&mut self, script: &Script, snapshot: &Snapshot, arrivals: &Arrivals, elapsed: Duration) -> bool {
        if self.depths.len() >= DEPTHS_MAX {
            self.depths.remove(0);
        }
        self.depths.push(snapshot.uplinks.first().map_or(0, |uplink| uplink.ledger.queued().rows));
        let caption = script.caption(elapsed, is_well(&troubles(snapshot)));
        let (story, depths) = (&self.story, self.depths.as_slice());
        let view = View { snapshot, arrivals, caption: &caption, story, elapsed, depths };
        if self.screen.can_draw() {
            let picture = picture::draw(&view, self.screen.ink(), self.screen.size());
            return self.screen.draw(&picture);
        }
        let mut seen = true;
        let invitation = snapshot.broker.as_ref().and_then(picture::invitation);
        if let Some(words) = invitation.filter(|_| !self.said.invited) {
            self.said.invited = true;
            seen &= self.screen.say(&format!("The gateway is a broker for local clients, too; {words}\n"));
        }
        if self.said.phase.replace(script.phase()) != Some(script.phase()) {
            seen &= self.screen.say(&format!("{caption}\n"));
        }
        if self.said.second.replace(elapsed.as_secs()) != Some(elapsed.as_secs()) {
            seen &= self.screen.say(&picture::line(&view));
        }
        seen
    }

    /// Does to the field what is due.
    async fn act(
        &mut self,
        gateway: &mut impl Gateway,
        field: &Field,
        snapshot: &Snapshot,
        elapsed: Duration,
    ) {
        while let Some(act) = self.acts.due(elapsed) {
            let line = match act {
                Act::Write(which) => {
                    let Some(written) = &field.written else { continue };
                    let value = written.values[which % written.values.len()].clone();
                    let refused = gateway.write(&written.device, &written.tag, &value).await.err();
                    let (device, tag) = (written.device.clone(), written.tag.clone());
                    self.story.write = Some(Wrote { device, tag, value, at: elapsed, refused });
                    self.story.write_line(snapshot, elapsed)
                }
                Act::PowerOff | Act::PowerOn => {
                    let Some(weak) = &field.weak else { continue };
                    weak.power(act == Act::PowerOn);
                    let device = snapshot.devices.iter().find(|device| device.name == weak.device);
                    let requests = device.map_or(0, |device| device.requests);
                    self.story.was_off |= act == Act::PowerOff;
                    self.story.off = (act == Act::PowerOff).then_some((elapsed, requests));
                    self.story.weak_line(snapshot, elapsed)
                }
            };
            if let Some(line) = line.filter(|_| !self.screen.can_draw()) {
                self.screen.say(&format!("{line}\n"));
            }
        }
    }

    /// Counts every reading.
    fn end(
        &mut self,
        script: &Script,
        snapshot: &Snapshot,
        arrivals: &Arrivals,
        elapsed: Duration,
    ) -> anyhow::Result<bool> {
        let uplink = snapshot.uplinks.first().context("the gateway has no uplink")?;
        let verdict = picture::verdict(&uplink.ledger, arrivals);
        let ink = self.screen.ink();
        if self.screen.can_draw() {
            let caption = script.caption(elapsed, true);
            let (story, depths) = (&self.story, self.depths.as_slice());
            let view = View { snapshot, arrivals, caption: &caption, story, elapsed, depths };
            let picture = picture::draw(&view, ink, self.screen.size());
            self.screen.say(&picture);
        }
        self.screen.say(&picture::end(&verdict, elapsed, ink));
        Ok(verdict.good)
    }
}

fn facts(snapshot: &Snapshot, arrived: u64, stops: u32) -> Facts {
    let uplink = snapshot.uplinks.first();
    Facts {
        link_up: uplink.is_some_and(|uplink| uplink.link == Link::Up),
        arrived,
        queued: uplink.map_or(0, |uplink| uplink.ledger.queued().rows),
        in_flight: uplink.map_or(0, |uplink| uplink.in_flight),
        stops,
    }
}

/// The configuration of the demo: its first uplink goes to the pretend cloud, its files into the demo's own directory, and its local broker
/// has one door, on any free port of this machine.
fn configure(path: Option<&Path>, folder: &Path, port: u16) -> Result<Config, Problems> {
    let env = Environment::of_process();
    let (mut config, _) = match path {
        Some(path) => gateway_config::load(path, &env)?,
        None => gateway_config::parse(CONFIG, "demo.toml", folder, &env)?,
    };
    config.gateway.socket = folder.join("control.sock");
    config.store.path = folder.join("queue.db");
    config.uplinks.truncate(1);
    for (_, link) in &mut config.uplinks {
        link.transport = Transport::Tcp;
        link.host = "127.0.0.1".to_owned();
        link.port = port;
        (link.tls, link.proxy, link.login) = (None, None, None);
    }
    let door = Name::new("local").map(|name| ListenerSettings {
        name,
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        websocket: None,
        origins: Vec::new(),
        hosts: Vec::new(),
        tls: None,
        anonymous: true,
    });
    let limits = config.broker.map(|broker| broker.limits).unwrap_or_default();
    config.broker =
        Some(broker::Settings { listeners: door.into_iter().collect(), limits, ..Default::default() });
    Ok(config)
}

/// A directory of the demo's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
        // Not recursive: a directory that exists may be somebody else's.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests;
