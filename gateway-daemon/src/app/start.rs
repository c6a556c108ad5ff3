//! Wiring a gateway up: store, broker, uplinks and buses, in that order.

use std::sync::Arc;

use drivers::clock;
use gateway_config::Config;
use gateway_core::broker::bridge::BridgeRules;
use gateway_core::broker::{Found, SessionId, Sieve};
use gateway_core::os::{self, Doing};
use gateway_core::payload::Encoder;
use gateway_core::process::Processor;
use gateway_core::tag::{BootNs, RunId};
use gateway_core::uplink::settings::Settings;
use gateway_core::uplink::{Identity, Uplink};
use tokio::sync::mpsc;

use super::certificates::Certificates;
use super::clocks::Clocks;
use super::faults::{self, Faults};
use super::gateway::{CYCLES_MAX, Gateway, HAPPENINGS_MAX};
use super::known::Known;
use super::lines::Lines;
use super::local::Local;
use super::progress::Progress;
use super::reload::Reload;
use super::telling::Telling;
use super::turns::Turns;
use super::update::Orders;
use super::upstream::{self, Happening, UplinkId, Upstream};
use super::walltime::WallTimes;
use super::{control, descriptors, fitting};
use crate::status::notify::Notify;
use crate::store::Store;

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity of this boot cannot be read.
    #[error("cannot tell this boot from others: {}", os::sentence(.0, Doing::Reading))]
    Boot(std::io::Error),
    /// The message settings do not fit the field settings.
    #[error(transparent)]
    Payload(#[from] gateway_core::payload::PayloadError),
    /// A forward filter is refused.
    #[error("uplink {uplink}: {fault}")]
    Forward {
        /// The uplink.
        uplink: String,
        /// What is wrong.
        fault: String,
    },
    /// A listener for local clients cannot be opened.
    #[error(transparent)]
    Listener(#[from] crate::listen::OpenError),
    /// A bus task cannot be started.
    #[error("bus {bus}: {}", os::sentence(source, Doing::Device))]
    Bus {
        /// The bus.
        bus: String,
        /// The cause.
        source: std::io::Error,
    },
}

impl Gateway {
    /// Opens the store and starts the tasks of every bus; connections begin with [`Gateway::run`].
    ///
    /// # Errors
    /// What is wrong, for the person who starts it. A damaged store is not an error: it is moved aside and reported.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        let run = clock::run_id().map_err(StartError::Boot)?;
        let started = clock::now();
        let field = Arc::new(config.field.clone());
        let encoder = Encoder::new(&config.gateway.id, &config.message, &field)?;
        let store = Arc::new(Store::open(&config.store).await);
        let known = Known::new(&encoder, store.schemas().await);
        for schema in encoder.schemas() {
            store.learn_schema(schema.id().0, &schema.encode()).await;
        }
        let walls = WallTimes::new(store.clock_history().await);
        let (happened, happenings) = mpsc::channel(HAPPENINGS_MAX);
        let (found, unfit) = recover(&mut config, &store).await;
        let places = descriptors::for_clients(&mut config, descriptors::raise());
        let mut local = Local::open(&config, places, started, run, (&store, found))?;
        let identity = identity(&config, run, &Arc::default()); // Faults are told when the gateway runs.
        let mut upstreams = Vec::with_capacity(config.uplinks.len());
        for (id, (settings, link)) in (0..).map(UplinkId).zip(&config.uplinks) {
            let (up, down) = bridge_rules(settings)?;
            let session = open_bridge(&mut local, settings, &up)?;
            let (queue, stored) = store.open_queue(settings.name.as_str()).await;
            let mut uplink = Uplink::new(settings.clone(), identity.clone(), stored, jitter_seed());
            uplink.restore_aside(&store.set_aside(settings.name.as_str()).await);
            let machine = (id, settings.name.clone(), uplink);
            let place = (Arc::clone(&store), queue);
            let mut upstream =
                Upstream::new(machine, link.clone(), (session, up, down), place, happened.clone());
            walls.tell(run.boot, upstream.uplink.queue_mut());
            upstreams.push(upstream);
        }
        upstream::introduce(&mut upstreams, config.update.as_ref());
        upstream::reserve_own(&mut local.broker, &mut upstreams, &config, &encoder);
        tokio::spawn(forward_resets(Arc::clone(&store), happened.clone()));
        let (cycles_in, cycles) = mpsc::channel(CYCLES_MAX);
        let lines = Lines::start(&field, cycles_in).map_err(bus_fault)?;
        let (requests_in, requests) = mpsc::channel(control::REQUESTS_MAX);
        Ok(Self {
            processor: Processor::new(&field, started),
            clocks: Clocks::new(config.gateway.trust_clock),
            certificates: Certificates::of(&config),
            reload: Reload::new(upstreams.len() as u64),
            telling: Telling::new(&config, &encoder, &known),
            orders: Orders::start(config.update.as_ref()),
            config,
            field,
            last_writes: Arc::default(),
            run,
            started,
            encoder,
            local,
            numbered: 0,
            upstreams,
            leaving: Vec::new(),
            known,
            walls,
            store,
            lines,
            faults: faults::watch(faults::folder()),
            known_faults: Arc::default(),
            own_faults: unfit.map(|sentence| (fitting::FAULT.to_owned(), sentence)).into_iter().collect(),
            progress: Progress::default(),
            stuck: None,
            notify: Notify::from_env(),
            cycles,
            happenings,
            happened,
            requests,
            requests_in,
            stop_by: BootNs(u64::MAX),
            turns: Turns::default(),
        })
    }
}

fn bus_fault((bus, source): (String, std::io::Error)) -> StartError {
    StartError::Bus { bus, source }
}

/// What the store held for the broker; the limits of the configuration are made to fit it. With the sentence of the fault, if there is one.
async fn recover(config: &mut Config, store: &Store) -> (Found, Option<String>) {
    let found = match &config.broker {
        Some(broker) => store.found(Sieve::new(&broker.limits)).await,
        None => Found::default(),
    };
    let stored = fitting::stored(config, store, &found).await;
    let unfit = fitting::fit(config, &stored);
    (found, unfit)
}

/// What birth messages say about this gateway.
pub(super) fn identity(config: &Config, run: RunId, faults: &Arc<Faults>) -> Identity {
    Identity {
        version: env!("CARGO_PKG_VERSION").into(),
        run,
        config: config.hash.as_str().into(),
        faults: Arc::clone(faults),
        trust_clock: config.gateway.trust_clock,
    }
}

/// Tells queues that their database was replaced. Ends with its receiver.
async fn forward_resets(store: Arc<Store>, happened: mpsc::Sender<Happening>) {
    loop {
        let (queue, event) = tokio::select! {
            reset = store.next_reset() => reset,
            () = happened.closed() => return,
        };
        if happened.send(Happening::Reset { queue, event }).await.is_err() {
            return;
        }
    }
}

/// The rules of an uplink, up and down.
pub(super) fn bridge_rules(settings: &Settings) -> Result<(BridgeRules, BridgeRules), StartError> {
    let rules = |rules| {
        BridgeRules::new(rules).map_err(|(_, fault)| StartError::Forward {
            uplink: settings.name.to_string(),
            fault: fault.to_string(),
        })
    };
    Ok((rules(&settings.forward)?, rules(&settings.accept)?))
}

/// The session of an uplink in the broker.
pub(super) fn open_bridge(
    local: &mut Local,
    settings: &Settings,
    up: &BridgeRules,
) -> Result<SessionId, StartError> {
    local
        .broker
        .open_bridge(up.filters())
        .map_err(|fault| StartError::Forward { uplink: settings.name.to_string(), fault: fault.to_string() })
}

/// Different on every run: the standard library's hasher keys are random.
pub(super) fn jitter_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
