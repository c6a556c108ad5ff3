//! A gateway whose local broker is looked at: a simulated device, any doors, and a cloud or none.

use std::path::Path;

use anyhow::{Context as _, Result};
use gateway_daemon::app::snapshot::Broker;

use crate::gateway::Gateway;

/// One simulated device, whose count is polled ten times per second.
const DEVICE: &str = r#"
[bus.line]
driver = "sim"
[device.meter]
bus = "line"
unit = 1
[[device.meter.poll]]
every = "100ms"
tags.count = { holding = 0, type = "u16" }
"#;

/// One door for everybody.
pub const OPEN: &str = "[broker.listener.local]\naddress = \"127.0.0.1:0\"\n";

/// A gateway at work with a local broker.
pub struct Yard {
    /// The gateway.
    pub gateway: Gateway,
    config: String,
    dir: tempfile::TempDir,
}

impl Yard {
    /// One with these doors and no uplink.
    ///
    /// # Errors
    /// The gateway does not start.
    pub async fn start(doors: &str) -> Result<Self> {
        Self::with_files(doors, |_| Ok(())).await
    }

    /// One with one open door and an uplink to a port of this machine.
    ///
    /// # Errors
    /// The gateway does not start.
    pub async fn with_cloud(cloud: u16) -> Result<Self> {
        let uplink = format!(
            "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{cloud}\"\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\n"
        );
        Self::start(&(uplink + OPEN)).await
    }

    /// One whose folder is prepared first, for files that the doors name.
    ///
    /// # Errors
    /// The gateway does not start, or `prepare` fails.
    pub async fn with_files(doors: &str, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidegate-yard-").tempdir()?;
        prepare(dir.path())?;
        let place = dir.path().display();
        let config = format!(
            "[gateway]\nid = \"gw\"\nsocket = \"{place}/control.sock\"\n[store]\npath = \"{place}/queue.db\"\n{DEVICE}{doors}"
        );
        let gateway = Self::launch(dir.path(), &config).await?;
        Ok(Self { gateway, config, dir })
    }

    async fn launch(dir: &Path, config: &str) -> Result<Gateway> {
        let mut gateway = Gateway::start(dir, config)?;
        gateway
            .wait_for("the doors", |now| now.broker.as_ref().is_some_and(|b| !b.listeners.is_empty()))
            .await?;
        Ok(gateway)
    }

    /// The folder of the gateway.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How its broker is.
    ///
    /// # Errors
    /// The gateway does not answer.
    pub async fn broker(&self) -> Result<Broker> {
        self.gateway.snapshot().await?.broker.context("no broker")
    }

    /// The port of a door.
    ///
    /// # Errors
    /// There is no such door.
    pub async fn port(&self, door: &str) -> Result<u16> {
        let broker = self.broker().await?;
        let listener = broker.listeners.iter().find(|listener| listener.name == door);
        let address = &listener.with_context(|| format!("no door {door}: {broker:?}"))?.address;
        Ok(address.parse::<std::net::SocketAddr>()?.port())
    }

    /// Waits until the broker satisfies `want`.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_for(&mut self, what: &str, want: impl Fn(&Broker) -> bool) -> Result<Broker> {
        let now = self.gateway.wait_for(what, |now| now.broker.as_ref().is_some_and(&want)).await?;
        now.broker.context("no broker")
    }

    /// Ends it in order and starts it again on the same database; its ports are others then.
    ///
    /// # Errors
    /// It does not end or does not start.
    pub async fn restart(self) -> Result<Self> {
        let Self { gateway, config, dir } = self;
        gateway.stop().await?;
        let gateway = Self::launch(dir.path(), &config).await?;
        Ok(Self { gateway, config, dir })
    }

    /// Kills it and starts it again on the same database; its ports are others then.
    ///
    /// # Errors
    /// It does not start.
    pub async fn crash(self) -> Result<Self> {
        let Self { gateway, config, dir } = self;
        gateway.kill()?;
        let gateway = Self::launch(dir.path(), &config).await?;
        Ok(Self { gateway, config, dir })
    }
}
