//! A whole site for end-to-end tests: a counting device, the real gateway, a network that can go wrong, a mosquitto that wants a client
//! certificate, and the office behind it.
//!
//! ```text
//! CounterDevice <--Modbus TCP-- Gateway --TLS--> FaultProxy --> Mosquitto (require_certificate) --TLS--> Office
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::account::{self, Order};
use crate::certs::{Authority, KeyFormat, Leaf, Validity};
use crate::counter_device::CounterDevice;
use crate::gateway::Gateway;
use crate::mosquitto::{Mosquitto, Options, TlsListener};
use crate::office::{self, Arrival, Office};
use crate::proxy::FaultProxy;

/// A broker that forgets nothing when it is stopped in order, and that keeps everything for an office that is away.
pub const PERSISTENT: &str = "persistence true\npersistence_location ./\nmax_queued_messages 1000000\n";

/// A broker that has forgotten everything when it starts again.
pub const FORGETFUL: &str = "persistence false\nmax_queued_messages 1000000\n";

/// What differs from test to test.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Scan interval of every poll group.
    pub every_ms: u64,
    /// Poll groups of the device; each poll of each is one message.
    pub groups: usize,
    /// `commit_interval`, ms.
    pub commit_ms: u64,
    /// Messages are on disk before they are sent.
    pub strict: bool,
    /// Unacknowledged messages at once.
    pub window: u16,
    /// `drain`.
    pub drain: &'static str,
    /// `ack_timeout`.
    pub ack_timeout: &'static str,
    /// The inside of `queue`.
    pub queue: &'static str,
    /// More lines of mosquitto's configuration.
    pub broker: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            every_ms: 25,
            groups: 1,
            commit_ms: 200,
            strict: false,
            window: 20,
            drain: "live-first",
            ack_timeout: "10s",
            queue: "",
            broker: PERSISTENT,
        }
    }
}

impl Plan {
    /// The gateway's file: its uplink goes to `port` of `localhost` with the certificates in `dir`, its device is at `device`.
    #[must_use]
    pub fn config(&self, dir: &Path, device: u16, port: u16) -> String {
        let dir = dir.display();
        let Self { every_ms, commit_ms, window, drain, ack_timeout, queue, .. } = self;
        let durability = if self.strict { "strict" } else { "interval" };
        let mut text = format!(
            r#"[gateway]
id = "gw"
socket = "{dir}/control.sock"
[store]
path = "{dir}/queue.db"
commit_interval = "{commit_ms}ms"
durability = "{durability}"
[uplink.cloud]
url = "mqtts://localhost:{port}"
ca = "{dir}/ca.pem"
client_cert = "{dir}/client.pem"
client_key = "{dir}/client.key"
connect_timeout = "5s"
window = {window}
drain = "{drain}"
ack_timeout = "{ack_timeout}"
backoff_min = "100ms"
backoff_max = "1s"
queue = {{ {queue} }}
[bus.plc]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {device}
[device.meter]
bus = "plc"
unit = 1
timeout = "2s"
"#
        );
        for group in 0..self.groups {
            // Groups at different addresses, so that the plan cannot merge what is to be polled one by one.
            let address = group * 100;
            text.push_str(&format!(
                "[[device.meter.poll]]\nevery = \"{every_ms}ms\"\ntags.count{group} = {{ holding = {address}, type = \"u32\" }}\n"
            ));
        }
        text
    }
}

/// Certificates of a site, each in a file that can be replaced while everything runs.
pub struct Papers {
    /// The authority of the plant.
    pub authority: Authority,
    dir: PathBuf,
}

impl Papers {
    /// Good ones for the gateway, in `dir`.
    ///
    /// # Errors
    /// Files cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        let authority = Authority::new("plant ca")?;
        let papers = Self { dir: dir.to_owned(), authority };
        papers.trust(papers.authority.ca())?;
        papers.show(&papers.device(Validity::Good)?)?;
        Ok(papers)
    }

    /// A certificate for the gateway.
    ///
    /// # Errors
    /// Files cannot be written.
    pub fn device(&self, validity: Validity) -> Result<Leaf> {
        self.authority.device("gw", validity, KeyFormat::Pkcs8)
    }

    /// Puts the authority that the gateway trusts in place, as an installer would: whole, by renaming.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn trust(&self, ca: &Path) -> Result<()> {
        self.place(ca, "ca.pem")
    }

    /// Puts the certificate and key that the gateway shows in place.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn show(&self, leaf: &Leaf) -> Result<()> {
        self.place(&leaf.key, "client.key")?;
        self.place(&leaf.cert, "client.pem")
    }

    fn place(&self, from: &Path, name: &str) -> Result<()> {
        let fresh = self.dir.join(format!("{name}.new"));
        std::fs::copy(from, &fresh)?;
        std::fs::rename(fresh, self.dir.join(name)).context("cannot put a certificate in place")
    }
}

/// Everything but the gateway, which a test starts and ends as it likes.
pub struct Site {
    /// Folder of the gateway: configuration, database, certificates, socket, log.
    pub dir: tempfile::TempDir,
    /// The device.
    pub device: CounterDevice,
    /// The certificates.
    pub papers: Papers,
    /// The cloud.
    pub broker: Mosquitto,
    /// What the network between gateway and cloud does.
    pub network: FaultProxy,
    /// Who reads what arrives.
    pub office: Office,
    /// The plan it was made by.
    pub plan: Plan,
}

impl Site {
    /// A site in order, its office subscribed.
    ///
    /// # Errors
    /// A peer is missing, or does not start.
    pub async fn new(plan: Plan) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidegate-site-").tempdir()?;
        let papers = Papers::new(dir.path())?;
        let server = papers.authority.server(&["localhost", "127.0.0.1"], Validity::Good)?;
        Self::with_server(plan, dir, papers, server).await
    }

    /// A site whose broker shows `server`.
    ///
    /// # Errors
    /// A peer is missing, or does not start.
    pub async fn with_server(
        plan: Plan,
        dir: tempfile::TempDir,
        papers: Papers,
        server: Leaf,
    ) -> Result<Self> {
        let device = CounterDevice::start().await?;
        let ca = papers.authority.ca().to_owned();
        let tls = TlsListener { ca: ca.clone(), server, require_certificate: true, version: None };
        let broker =
            Mosquitto::start(&Options { tls: Some(tls), extra: plan.broker, ..Options::default() }).await?;
        let network = FaultProxy::to_port(broker.port()).await?;
        let own = papers.authority.device("office", Validity::Good, KeyFormat::Pkcs8)?;
        let office = Office::open_tls(broker.port(), "gw/#", &ca, &own).await?;
        Ok(Self { dir, device, papers, broker, network, office, plan })
    }

    /// Starts the gateway on its folder, for the first time or again.
    ///
    /// # Errors
    /// It does not start.
    pub fn gateway(&self) -> Result<Gateway> {
        let dir = self.dir.path();
        Gateway::start(dir, &self.plan.config(dir, self.device.port, self.network.port()))
    }

    /// The same by another program: that of another version.
    ///
    /// # Errors
    /// It does not start.
    pub fn gateway_of(&self, program: &Path) -> Result<Gateway> {
        let dir = self.dir.path();
        Gateway::start_program(program, dir, &self.plan.config(dir, self.device.port, self.network.port()))
    }

    /// Waits until the device has answered `polls` more.
    ///
    /// # Errors
    /// Nobody polls it any more.
    pub async fn polled(&self, polls: u32) -> Result<u32> {
        let goal = self.device.answered() + polls;
        self.device.wait_for(goal).await?;
        Ok(goal)
    }

    /// Waits until everything that was polled up to here has arrived, and checks order, numbering and the ledger.
    ///
    /// # Errors
    /// What does not hold.
    pub async fn settle(&self, gateway: &Gateway, order: Order) -> Result<()> {
        let answered = self.device.answered();
        let whole =
            |all: &[Arrival]| account::missing(all, answered).is_empty() && office::holes(all).is_empty();
        if let Err(late) = self.office.wait_for("every poll", whole).await {
            let all = self.office.arrivals();
            let (missing, holes) = (account::missing(&all, answered), office::holes(&all));
            bail!("{late}; of {answered} are missing {missing:?}, holes {holes:?}; log:\n{}", gateway.log());
        }
        account::check(&self.office.arrivals(), order)?;
        account::balanced(&gateway.snapshot().await?)
    }
}
