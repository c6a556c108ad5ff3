//! What an attack runs against: the real program with a bus that is polled every 20 ms, a cloud and a bystander, and what they notice.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tidegate_tests::certs::{Authority, Validity};
use tidegate_tests::counter_device::CounterDevice;
use tokio::runtime::Runtime;

use super::client::{Client, HOME, host};
use super::cloud::Cloud;
use super::limit::Way;
use super::watch::Sampler;
use tidegate_tests::packets::Hello;

/// Polls per second that the configuration asks for.
pub(crate) const POLLS: f64 = 50.0;
/// Longest wait for a start; a restart that takes longer is no restart.
pub(crate) const START_MAX: Duration = Duration::from_secs(60);
/// The password of every user.
pub(crate) const PASSWORD: &str = "the right one";
/// Longest wait of an attack for one answer.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What holds for every attack of a run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub daemon: PathBuf,
    pub way: Way,
    pub limit_mib: u64,
    pub short: bool,
}

/// How the gateway of one attack is set up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Needs {
    /// Users alice and bob, whose password is [`PASSWORD`]; everybody else is anonymous, or refused.
    pub users: bool,
    /// Anonymous clients come in beside users.
    pub anonymous: bool,
    /// Listeners for TLS and WebSocket as well.
    pub listeners: bool,
    /// `RLIMIT_NOFILE` of the gateway.
    pub files: Option<u64>,
    /// Lines of `[broker]`.
    pub broker: &'static str,
    /// Lines of `[broker.limits]`.
    pub limits: &'static str,
    /// Lines of `[broker.user.alice]`.
    pub alice: &'static str,
    /// Lines of `[uplink.cloud]`.
    pub uplink: &'static str,
    /// Lines of `[store]`.
    pub store: &'static str,
}

/// A gateway under attack and everything around it.
pub(crate) struct Stage {
    pub setup: Setup,
    pub needs: Needs,
    pub port: u16,
    pub tls_port: u16,
    pub web_port: u16,
    pub cloud: Cloud,
    pub device: CounterDevice,
    pub authority: Authority,
    /// When the attack has to be over.
    pub until: Instant,
    pub failures: Vec<String>,
    pub notes: Vec<String>,
    /// The gateway was killed on purpose since it was started first: polls were lost by that.
    pub killed: bool,
    dir: TempDir,
    child: Option<Child>,
    pub sampler: Option<Sampler>,
    // Its workers serve the device.
    _runtime: Runtime,
}

impl Stage {
    /// Everything but the gateway.
    pub(crate) fn new(setup: &Setup, needs: Needs) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let device = runtime.block_on(CounterDevice::start())?;
        let [port, tls_port, web_port] = free_ports()?;
        Ok(Self {
            setup: setup.clone(),
            needs,
            port,
            tls_port,
            web_port,
            cloud: Cloud::start()?,
            device,
            authority: Authority::new("plant ca")?,
            until: Instant::now(),
            failures: Vec::new(),
            notes: Vec::new(),
            killed: false,
            dir: tempfile::Builder::new().prefix("tidegate-attack-").tempdir()?,
            child: None,
            sampler: None,
            _runtime: runtime,
        })
    }

    /// The full number, or that of the short form.
    pub(crate) fn count(&self, full: usize, short: usize) -> usize {
        if self.setup.short { short } else { full }
    }

    /// Whether an attack must stop: its time is over, or the gateway is gone.
    pub(crate) fn over(&self) -> bool {
        Instant::now() >= self.until || self.is_gone()
    }

    /// Whether the gateway has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.sampler.as_ref().is_none_or(Sampler::ended)
    }

    /// Says what has to be true of the gateway's behaviour.
    pub(crate) fn check(&mut self, what: &str, holds: bool) {
        if !holds {
            self.failures.push(format!("not so: {what}"));
        }
    }

    /// A figure for the report.
    pub(crate) fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    /// An honest client; with users in the file it is bob.
    pub(crate) fn client(&self, id: &str) -> std::io::Result<Client> {
        self.client_as(HOME, Hello::v3(id))
    }

    /// A client from an address; with users in the file, and no other said, it is bob.
    pub(crate) fn client_as(&self, from: Ipv4Addr, mut hello: Hello<'_>) -> std::io::Result<Client> {
        if self.needs.users && hello.user.is_none() {
            hello.user = Some(("bob", PASSWORD));
        }
        Client::connect(from, self.port, &hello)
    }

    /// Waits, or until the attack is over.
    pub(crate) fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_gone() {
            thread::park_timeout(Duration::from_millis(20).min(until - Instant::now()));
        }
    }

    /// Everything the gateway has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("gateway.log")).unwrap_or_default()
    }

    /// Starts the gateway, and waits until its listener is open and its first poll was answered. Gives the time to that.
    pub(crate) fn start(&mut self) -> Result<Duration> {
        if !self.path("gateway.toml").exists() {
            let config = self.config()?;
            fs::write(self.path("gateway.toml"), config)?;
        }
        let output = fs::File::options().create(true).append(true).open(self.path("gateway.log"))?;
        let mut command = self.setup.way.command(&self.setup.daemon, self.setup.limit_mib, self.needs.files);
        command.arg("run").arg(self.path("gateway.toml")).stdin(Stdio::null());
        let began = Instant::now();
        let polled = self.device.answered();
        let child = command.stdout(output.try_clone()?).stderr(output).spawn()?;
        self.sampler = Some(Sampler::start(child.id(), self.setup.limit_mib));
        self.child = Some(child);
        while began.elapsed() < START_MAX {
            if self.has_ended() {
                bail!("the gateway does not start: {}", last_lines(&self.log()));
            }
            if self.device.answered() > polled && TcpStream::connect((HOME, self.port)).is_ok() {
                return Ok(began.elapsed());
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        bail!("the gateway does not start within {START_MAX:?}: {}", last_lines(&self.log()))
    }

    /// kill -9, if it is still there.
    pub(crate) fn kill(&mut self) {
        self.sampler = None;
        self.killed = true;
        if let Some(mut child) = self.child.take() {
            // It may have ended before.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether the process ended; it is reaped then.
    fn has_ended(&mut self) -> bool {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => false,
            _ => {
                self.child = None;
                true
            }
        }
    }

    /// The value of a gauge or the sum of a counter of this name.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let socket = self.path("control.sock");
        let mut command = Command::new(&self.setup.daemon);
        let output = command.args(["status", "--metrics", "--socket"]).arg(socket).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("tidegate_").unwrap_or(line).strip_prefix(name)?;
            let value =
                if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
            value.trim().parse::<f64>().ok()
        });
        values.reduce(|sum, value| sum + value)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> Result<String> {
        let dir = self.dir.path().display();
        let Needs { users, anonymous, listeners, broker, limits, alice, uplink, store, .. } = self.needs;
        let forward = if uplink.contains("forward") { "" } else { "forward = [\"gw/#\", \"x/#\"]\n" };
        let backoff =
            if uplink.contains("backoff") { "" } else { "backoff_min = \"100ms\"\nbackoff_max = \"1s\"\n" };
        let open = if users && !anonymous { "" } else { "anonymous = true\n" };
        let mut text = format!(
            "[gateway]\nid = \"gw\"\nsocket = \"{dir}/control.sock\"\n[store]\npath = \"{dir}/queue.db\"\n{store}\n\
             [uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\n{backoff}{forward}{uplink}\n\
             [bus.plc]\ndriver = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {}\n[device.meter]\nbus = \"plc\"\nunit = 1\n\
             [[device.meter.poll]]\nevery = \"20ms\"\ntags.count = {{ holding = 0, type = \"u32\" }}\n\
             [broker]\n{broker}\n[broker.limits]\n{limits}\n\
             [broker.listener.local]\naddress = \"127.0.0.1:{}\"\n{open}",
            self.cloud.port, self.device.port, self.port
        );
        if listeners {
            let server = self.authority.server(&["localhost", "127.0.0.1"], Validity::Good)?;
            text.push_str(&format!(
                "[broker.listener.tls]\naddress = \"127.0.0.1:{}\"\ncert = {:?}\nkey = {:?}\n{open}\
                 [broker.listener.web]\naddress = \"127.0.0.1:{}\"\nwebsocket = true\n{open}",
                self.tls_port, server.cert, server.key, self.web_port
            ));
        }
        if users {
            let hash = password_hash(&self.setup.daemon)?;
            text.push_str(&format!(
                "[broker.user.alice]\npassword_hash = {hash}\n{alice}\n[broker.user.bob]\npassword_hash = {hash}\n"
            ));
        }
        Ok(text)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The hosts from which attackers come: neither the bystander's nor each other's.
pub(crate) fn attacker(n: usize) -> Ipv4Addr {
    host(u8::try_from(n % 200).unwrap_or(0) + 20)
}

fn password_hash(daemon: &Path) -> Result<String> {
    let mut child = Command::new(daemon)
        .args(["passwd", "someone", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("standard input is piped")?.write_all(format!("{PASSWORD}\n").as_bytes())?;
    let text = String::from_utf8(child.wait_with_output()?.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("password_hash = "));
    line.map(str::to_owned).with_context(|| format!("no hash: {text}"))
}

/// Ports that nobody listens on at this moment.
fn free_ports() -> Result<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind((HOME, 0)));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}
