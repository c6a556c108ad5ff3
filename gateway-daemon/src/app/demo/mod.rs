//! The whole product on one terminal: simulated devices, the real gateway with a door for local clients, and a pretend cloud that counts
//! what arrives.
//!
//! The gateway is the one that `run` starts; the demo gives it a configuration, looks at its snapshots, takes the
//! cloud away and brings it back. In the end every reading is counted on both sides. Nothing is left behind: the database
//! lives in a directory of its own that is removed.

pub mod arrivals;
pub mod cloud;
pub mod picture;
pub mod screen;
pub mod script;

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

use self::cloud::Cloud;
use self::picture::{DEPTHS_MAX, View};
use self::screen::Screen;
use self::script::{Facts, Order, Script};
use super::say;
use super::snapshot::{Link, Snapshot};
use crate::cli;

/// The built-in configuration.
const CONFIG: &str = include_str!("../../../../config/demo.toml");

/// How often a picture is drawn on a terminal, and the script looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the demo needs of the gateway that it shows.
pub trait Gateway {
    /// How it is.
    fn snapshot(&mut self) -> impl Future<Output = Snapshot>;

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
    let config = match configure(args.config.as_deref(), &folder.0, cloud.addr().port()) {
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
    let mut gateway = start(config).await.context("the gateway cannot be started")?;
    let good = show(args, &mut gateway, &mut cloud).await;
    gateway.stop().await;
    Ok(if good? { cli::exit::OK } else { cli::exit::NO })
}

async fn show(args: &cli::Demo, gateway: &mut impl Gateway, cloud: &mut Cloud) -> anyhow::Result<bool> {
    let start = Instant::now();
    let mut script = Script::new(args.outage, args.seconds.map(Duration::from_secs));
    let mut screen = Screen::new();
    let mut depths = Vec::new();
    let mut stops = 0;
    let mut invited = false;
    let (mut phase, mut said) = (None, None);
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            stop = tokio::signal::ctrl_c() => {
                stop.context("cannot listen for Ctrl-C")?;
                stops += 1;
            }
        }
        let snapshot = gateway.snapshot().await;
        let arrivals = cloud.arrivals();
        let elapsed = start.elapsed();
        let facts = facts(&snapshot, arrivals.messages, stops);
        if depths.len() >= DEPTHS_MAX {
            depths.remove(0);
        }
        depths.push(facts.queued);
        let caption = script.caption(elapsed);
        let view =
            View { snapshot: &snapshot, arrivals: &arrivals, caption: &caption, elapsed, depths: &depths };
        if screen.is_terminal() {
            screen.draw(&picture::draw(&view, screen.ink()));
        } else {
            if let Some(words) = snapshot.broker.as_ref().and_then(picture::invitation).filter(|_| !invited) {
                invited = true;
                screen.say(&format!("The gateway is a broker for local clients, too; {words}\n"));
            }
            if phase.replace(script.phase()) != Some(script.phase()) {
                screen.say(&format!("{caption}\n"));
            }
            if said.replace(elapsed.as_secs()) != Some(elapsed.as_secs()) {
                screen.say(&picture::line(&view));
            }
        }
        match script.step(elapsed, facts) {
            None => {}
            Some(Order::CutLink) => cloud.cut().await,
            Some(Order::RestoreLink) => cloud.restore().await?,
            Some(Order::StopField) => gateway.stop_field().await,
            Some(Order::Finish) => {
                let ink = screen.ink();
                let verdict = match snapshot.uplinks.first() {
                    Some(uplink) => picture::verdict(&uplink.ledger, &arrivals),
                    None => anyhow::bail!("the gateway has no uplink"),
                };
                if screen.is_terminal() {
                    let caption = script.caption(elapsed);
                    screen.say(&picture::draw(&View { caption: &caption, ..view }, ink));
                }
                screen.say(&picture::end(&verdict, elapsed, ink));
                return Ok(verdict.good);
            }
        }
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
