//! The office behind the cloud broker: a persistent subscriber that keeps every message, and the questions it asks of them.
//!
//! It is mosquitto_sub with a session of its own, so that what it sees was really delivered by a broker at QoS 1.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::certs::Leaf;
use crate::gateway::DEADLINE;

/// Pause before a subscriber that gave up is started again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Messages that a test keeps; more is a test that got out of hand.
const MESSAGES_MAX: usize = 2_000_000;

/// One message as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// Topic.
    pub topic: String,
    /// Payload as JSON.
    pub json: serde_json::Value,
}

impl Arrival {
    /// Which run and which number, if it is a message of readings.
    #[must_use]
    pub fn number(&self) -> Option<(String, u64)> {
        self.json.get("values")?;
        Some((self.json.get("boot")?.as_str()?.to_owned(), self.json.get("seq")?.as_u64()?))
    }

    /// A value in it.
    #[must_use]
    pub fn value(&self, tag: &str) -> Option<u64> {
        self.json.get("values")?.get(tag)?.as_u64()
    }
}

/// The subscriber.
pub struct Office {
    /// Owns the program: it is killed with the task.
    task: JoinHandle<()>,
    // The reading task appends and the test looks; both hold it for a moment only.
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Office {
    /// Subscribes to `filter` on the broker at `port` of this machine, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// mosquitto_sub is missing, or the broker refuses.
    pub async fn open(port: u16, filter: &str) -> Result<Self> {
        Self::subscribe(port, filter, &[]).await
    }

    /// The same over TLS with a certificate of its own.
    ///
    /// # Errors
    /// mosquitto_sub is missing, or the broker refuses.
    pub async fn open_tls(port: u16, filter: &str, ca: &Path, own: &Leaf) -> Result<Self> {
        Self::subscribe(port, filter, &tls_words(ca, own)).await
    }

    async fn subscribe(port: u16, filter: &str, tls: &[OsString]) -> Result<Self> {
        // stdbuf: into a pipe it would otherwise keep its lines to itself.
        let mut words: Vec<OsString> =
            ["-oL", "mosquitto_sub", "-d", "-h", "127.0.0.1", "-p"].map(OsString::from).into();
        words.push(port.to_string().into());
        words.extend(["-q", "1", "-c", "-i", "office", "-F", "%t\t%p", "-t", filter].map(OsString::from));
        words.extend_from_slice(tls);
        let (mut child, mut lines) = launch(&words)?;
        loop {
            let line = tokio::time::timeout(DEADLINE, lines.next_line()).await??;
            match line {
                Some(line) if line.starts_with("Subscribed") => break,
                Some(_) => {}
                None => bail!("mosquitto_sub ended before it had subscribed"),
            }
        }
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&arrivals);
        let task = tokio::spawn(async move {
            loop {
                keep(&kept, &mut lines).await;
                // How it ended does not matter.
                let _ = child.wait().await;
                // It gives up when a server that stops cuts its TLS handshake; its session waits for it on the broker.
                tokio::time::sleep(RETRY_PAUSE).await;
                let Ok(again) = launch(&words) else { return };
                (child, lines) = again;
            }
        });
        Ok(Self { task, arrivals })
    }

    /// Everything so far.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().expect("no holder panics").clone()
    }

    /// Waits until what arrived satisfies `want`.
    ///
    /// # Errors
    /// Not within [`DEADLINE`].
    pub async fn wait_for(&self, what: &str, want: impl Fn(&[Arrival]) -> bool) -> Result<Vec<Arrival>> {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if let Some(arrivals) = self.look(&want) {
                return Ok(arrivals);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let arrivals = self.arrivals();
        bail!("no {what} within {DEADLINE:?}; {} messages, the last: {:?}", arrivals.len(), arrivals.last())
    }

    fn look(&self, want: impl Fn(&[Arrival]) -> bool) -> Option<Vec<Arrival>> {
        let arrivals = self.arrivals.lock().expect("no holder panics");
        want(&arrivals).then(|| arrivals.clone())
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Output = Lines<BufReader<ChildStdout>>;

fn launch(words: &[OsString]) -> Result<(Child, Output)> {
    let mut child = Command::new("stdbuf")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("mosquitto_sub is missing; install it: apt-get install -y mosquitto-clients")?;
    let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    Ok((child, lines))
}

/// Keeps messages until the program ends.
async fn keep(kept: &Mutex<Vec<Arrival>>, lines: &mut Output) {
    while let Ok(Some(line)) = lines.next_line().await {
        // The others are its own words (-d).
        let Some((topic, payload)) = line.split_once('\t') else { continue };
        let json = serde_json::from_str(payload).unwrap_or(serde_json::Value::Null);
        let mut kept = kept.lock().expect("no holder panics");
        if kept.len() < MESSAGES_MAX {
            kept.push(Arrival { topic: topic.to_owned(), json });
        }
    }
}

/// Words of mosquitto_sub and mosquitto_pub that choose TLS.
#[must_use]
pub fn tls_words(ca: &Path, own: &Leaf) -> Vec<OsString> {
    let words: [(&str, &Path); 3] = [("--cafile", ca), ("--cert", &own.cert), ("--key", &own.key)];
    words.into_iter().flat_map(|(word, file)| [word.into(), file.as_os_str().to_owned()]).collect()
}

/// The values of one counting tag, each once, ascending.
#[must_use]
pub fn counts(arrivals: &[Arrival], tag: &str) -> BTreeSet<u64> {
    arrivals.iter().filter_map(|arrival| arrival.value(tag)).collect()
}

/// Numbers that are missing between the first and the last of each run.
#[must_use]
pub fn holes(arrivals: &[Arrival]) -> BTreeMap<String, Vec<u64>> {
    let mut runs: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (run, seq) in arrivals.iter().filter_map(Arrival::number) {
        runs.entry(run).or_default().insert(seq);
    }
    let missing = |seqs: &BTreeSet<u64>| match (seqs.first(), seqs.last()) {
        (Some(first), Some(last)) => (*first..=*last).filter(|seq| !seqs.contains(seq)).collect(),
        _ => Vec::new(),
    };
    runs.iter().map(|(run, seqs)| (run.clone(), missing(seqs))).filter(|(_, seqs)| !seqs.is_empty()).collect()
}

/// First arrivals that came after one with a higher number of the same run, repetitions left out.
#[must_use]
pub fn out_of_order(arrivals: &[Arrival]) -> Vec<(String, u64)> {
    let mut highest: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut late = Vec::new();
    for (run, seq) in arrivals.iter().filter_map(Arrival::number) {
        if !seen.insert((run.clone(), seq)) {
            continue;
        }
        let top = highest.entry(run.clone()).or_default();
        if seq < *top {
            late.push((run, seq));
        } else {
            *top = seq;
        }
    }
    late
}
