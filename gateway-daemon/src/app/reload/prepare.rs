//! Everything about a changed file that takes time: reading it, and asking the store. Nothing of the running gateway is touched.

use std::path::PathBuf;
use std::sync::Arc;

use gateway_config::{Config, Environment, Problem};
use gateway_core::broker::SessionId;
use gateway_core::broker::bridge::BridgeRules;
use gateway_core::payload::Encoder;
use gateway_core::uplink::row::{Mark, QueueId, Stored};

use super::Refusal;
use super::delta::{Course, Delta};
use crate::app::start::{StartError, bridge_rules};
use crate::panics::contain;
use crate::store::Store;

/// A configuration that can be put in force.
#[derive(Debug)]
pub(in super::super) struct Prepared {
    pub(super) config: Config,
    pub(super) warnings: Vec<Problem>,
    pub(super) delta: Delta,
    pub(super) encoder: Encoder,
    /// By uplink.
    pub(super) bridges: Vec<Bridge>,
}

/// What an uplink works with, as far as it needs something else than it has.
#[derive(Debug)]
pub(super) struct Bridge {
    /// What goes up.
    pub(super) up: BridgeRules,
    /// What comes down.
    pub(super) down: BridgeRules,
    /// The queue of one that is opened.
    pub(super) queue: Option<(QueueId, Stored)>,
    /// What is set aside in it.
    pub(super) aside: Vec<Arc<Mark>>,
    /// Its session in the broker.
    pub(super) session: Option<SessionId>,
}

/// Reads the file and prepares the way from `before` to it.
pub(super) async fn prepare(path: PathBuf, before: Config, store: Arc<Store>) -> Result<Prepared, Refusal> {
    let load = move || gateway_config::load(&path, &Environment::of_process());
    let loaded = tokio::task::spawn_blocking(|| contain("reading the configuration", load))
        .await
        .map_err(Refusal::Fault)?;
    let (config, warnings) = loaded.map_err(Refusal::File)?;
    let delta = Delta::between(&before, &config).map_err(Refusal::Restart)?;
    let encoder =
        Encoder::new(&config.gateway.id, &config.message, &config.field).map_err(StartError::from)?;
    // Before any of its records is written.
    for schema in encoder.schemas() {
        store.learn_schema(schema.id().0, &schema.encode()).await;
    }
    let mut bridges = Vec::with_capacity(config.uplinks.len());
    for ((settings, _), course) in config.uplinks.iter().zip(&delta.uplinks) {
        let (up, down) = bridge_rules(settings)?;
        let queue = match course {
            Course::Open => Some(store.open_queue(settings.name.as_str()).await),
            Course::Keep(_) | Course::Change(_) => None,
        };
        let aside = match &queue {
            Some(_) => store.set_aside(settings.name.as_str()).await,
            None => Vec::new(),
        };
        bridges.push(Bridge { up, down, queue, aside, session: None });
    }
    Ok(Prepared { config, warnings, delta, encoder, bridges })
}
