//! Wiring a gateway up: store, broker, uplinks and buses, in that order.

use std::sync::Arc;

use drivers::bus;
use drivers::clock;
use gateway_config::Config;
use gateway_core::broker::SessionId;
use gateway_core::broker::bridge::BridgeRules;
use gateway_core::payload::Encoder;
use gateway_core::poll::Settings as Field;
use gateway_core::poll::schedule::Schedule;
use gateway_core::process::Processor;
use gateway_core::tag::{BootNs, Cycle};
use gateway_core::uplink::row::QueueId;
use gateway_core::uplink::settings::Settings;
use gateway_core::uplink::{Identity, Uplink};
use tokio::sync::mpsc;

use super::changes::Changes;
use super::control;
use super::gateway::{CYCLES_MAX, Gateway, HAPPENINGS_MAX};
use super::known::Known;
use super::local::Local;
use super::survey::Rates;
use super::update::Orders;
use super::upstream::{self, Happening, Upstream};
use super::walltime::WallTimes;
use crate::status::notify::Notify;
use crate::store::Store;

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity of this boot cannot be read.
    #[error("cannot tell this boot from others: {0}")]
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
    #[error("bus {bus}: {source}")]
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
    pub async fn start(config: Config) -> Result<Self, StartError> {
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
        let mut local = Local::open(&config, started, run, &store).await?;
        let mut upstreams = Vec::with_capacity(config.uplinks.len());
        let mut queues = Vec::with_capacity(config.uplinks.len());
        for (index, (settings, link)) in config.uplinks.iter().enumerate() {
            let bridge = open_bridge(&mut local, settings)?;
            let (queue, stored) = store.open_queue(settings.name.as_str()).await;
            queues.push(queue);
            let identity = Identity {
                version: env!("CARGO_PKG_VERSION").into(),
                run,
                config: config.hash.as_str().into(),
            };
            let mut uplink = Uplink::new(settings.clone(), identity, stored, jitter_seed());
            for boot in walls.boots() {
                if let Some(before) = walls.began_before(boot, run.boot) {
                    uplink.queue_mut().boot_began(boot, before);
                }
            }
            let place = (Arc::clone(&store), queue);
            upstreams.push(Upstream::new((index, uplink), link.clone(), bridge, place, happened.clone()));
        }
        upstream::introduce(&mut upstreams, config.update.as_ref());
        let orders = Orders::start(config.update.as_ref());
        tokio::spawn(forward_resets(Arc::clone(&store), queues, happened));
        let (cycles_in, cycles) = mpsc::channel(CYCLES_MAX);
        let buses = start_buses(&field, &cycles_in)?;
        let reports: Vec<_> = buses.iter().map(bus::Bus::reports).collect();
        let (requests_in, requests) = mpsc::channel(control::REQUESTS_MAX);
        Ok(Self {
            processor: Processor::new(&field, started),
            rates: Rates::new(&field),
            changes: Changes::new(&field),
            config,
            field,
            run,
            started,
            encoder,
            local,
            numbered: 0,
            upstreams,
            orders,
            known,
            walls,
            store,
            restarts: vec![0; reports.len()],
            reports,
            buses,
            cycles_in,
            notify: Notify::from_env(),
            cycles,
            happenings,
            requests,
            requests_in,
            stop_by: BootNs(u64::MAX),
        })
    }
}

/// Tells queues that their database was replaced. Ends with its receiver.
async fn forward_resets(store: Arc<Store>, queues: Vec<QueueId>, happened: mpsc::Sender<Happening>) {
    loop {
        let (queue, event) = tokio::select! {
            reset = store.next_reset() => reset,
            () = happened.closed() => return,
        };
        let Some(uplink) = queues.iter().position(|known| *known == queue) else { continue };
        log::error!("store: the database was replaced; what could not be saved is counted as store-lost");
        if happened.send(Happening::Store { uplink, event }).await.is_err() {
            return;
        }
    }
}

/// The session of an uplink in the broker, and its rules up and down.
fn open_bridge(
    local: &mut Local,
    settings: &Settings,
) -> Result<(SessionId, BridgeRules, BridgeRules), StartError> {
    let refused = |fault: String| StartError::Forward { uplink: settings.name.to_string(), fault };
    let rules = |rules| BridgeRules::new(rules).map_err(|(_, fault)| refused(fault.to_string()));
    let (up, down) = (rules(&settings.forward)?, rules(&settings.accept)?);
    let session = local.broker.open_bridge(up.filters()).map_err(|fault| refused(fault.to_string()))?;
    Ok((session, up, down))
}

fn start_buses(field: &Arc<Field>, cycles: &mpsc::Sender<Cycle>) -> Result<Vec<bus::Bus>, StartError> {
    (0..field.buses.len())
        .map(|index| {
            bus::spawn(field, index, Schedule::new(field, index, clock::now()), cycles.clone())
                .map_err(|source| StartError::Bus { bus: field.buses[index].name.to_string(), source })
        })
        .collect()
}

/// Different on every run: the standard library's hasher keys are random.
fn jitter_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
