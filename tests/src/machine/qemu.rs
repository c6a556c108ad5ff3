//! QEMU itself: starting a machine, and taking its power away.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::disk::{Disk, Loss};
use super::{Card, Console, Shell};

/// U-Boot as Debian builds it for this machine.
const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// Processor and memory. The processor is what costs the emulator least: with the atomic instructions of ARMv8.1, without pointer authentication and vectors
/// of any length (a boot takes 21 s of the host's CPU; with the Cortex-A72 of a Pi 4 it takes 36). One, because a second would only fight with it for the
/// host's. A Pi Zero 2 W has as much memory.
const HARDWARE: &str = include_str!("../../qemu/machine");

/// How a machine is started.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// A port of the host that leads to this port of the guest: (host, guest).
    pub forward: Option<(u16, u16)>,
    /// Whether the second serial port, /dev/ttyAMA1 of the guest, leads to a pseudo terminal ([`Machine::rs485`]).
    pub rs485: bool,
    /// What runs at once, instead of U-Boot. Such a machine ends where another one restarts ([`Machine::ends`]): what comes then is for the firmware to say.
    pub kernel: Option<Kernel>,
}

/// A kernel, as the firmware of a board hands it over.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its file, packed or not.
    pub image: PathBuf,
    /// Its command line.
    pub cmdline: String,
    /// The file of the device tree.
    pub device_tree: PathBuf,
}

/// A running machine; its power goes when it is dropped.
pub struct Machine {
    child: Child,
    disk: Option<Disk>,
    dir: TempDir,
    /// When the power came.
    pub began: Instant,
    /// The serial console, with the whole journal.
    pub console: Console,
    /// The root shell inside.
    pub shell: Shell,
}

impl Machine {
    /// Turns the power on. Nothing has booted when this returns.
    ///
    /// # Errors
    /// QEMU or U-Boot is not installed, or QEMU does not start.
    pub async fn start(card: &Card, start: &Start) -> Result<Self> {
        ensure!(
            start.kernel.is_some() || Path::new(U_BOOT).is_file(),
            "{U_BOOT} is missing; install it: apt-get install -y u-boot-qemu"
        );
        let dir = tempfile::Builder::new().prefix("tidegate-qemu-").tempdir()?;
        let disk = Disk::serve(card.path(), &dir.path().join("disk"))?;
        let mut command = Command::new("qemu-system-aarch64");
        command.args(words(dir.path(), start)).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command
            .spawn()
            .context("qemu-system-aarch64 is missing; install it: apt-get install -y qemu-system-arm")?;
        let began = Instant::now();
        let console = Console::of(child.stdout.take().context("no console")?);
        let complaints = Console::of(child.stderr.take().context("no standard error")?);
        let shell = loop {
            match Shell::connect(&dir.path().join("shell"), card.debug_shell).await {
                Ok(shell) => break shell,
                Err(error) => {
                    let ended = child.try_wait()?.is_some();
                    ensure!(
                        !ended && began.elapsed() < Duration::from_secs(60),
                        "{error:#}: {}",
                        complaints.text()
                    );
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        Ok(Self { child, disk: Some(disk), dir, began, console, shell })
    }

    /// Takes the power away at once. Gives how many sectors had been written and not flushed.
    ///
    /// # Errors
    /// The machine cannot be killed, or the card not be written.
    pub async fn cut(mut self, loss: Loss) -> Result<usize> {
        self.child.kill().await?;
        self.disk.take().context("a running machine has a disk")?.power_off(loss)
    }

    /// Waits until the guest has ended by itself, without that its card has lost power: an orderly restart, a panic.
    ///
    /// # Errors
    /// Not within `limit`: the machine goes on.
    pub async fn ends(&mut self, limit: Duration) -> Result<()> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        ended.with_context(|| {
            format!("no restart within {limit:?}; the end of its console:\n{}", self.console.tail())
        })??;
        if let Some(disk) = self.disk.take() {
            disk.power_off(Loss::Nothing)?;
        }
        Ok(())
    }

    /// Waits until the guest has restarted by itself or has been restarted: U-Boot speaks again after `mark` lines.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn restarted(&self, mark: usize, limit: Duration) -> Result<()> {
        self.console.wait_after(mark, "U-Boot 20", limit).await.map(|_| ())
    }

    /// Shuts down in order and waits for the end.
    ///
    /// # Errors
    /// It does not end.
    pub async fn power_off(mut self) -> Result<()> {
        // The answer may not come any more.
        let _ = self.shell.ask("systemctl poweroff --no-block").await;
        tokio::time::timeout(super::STEP_MAX, self.child.wait()).await.with_context(|| {
            format!("the machine does not shut down; its console:\n{}", self.console.tail())
        })??;
        self.disk.take().context("a running machine has a disk")?.power_off(Loss::Nothing)?;
        Ok(())
    }

    /// The host's end of the second serial port.
    #[must_use]
    pub fn rs485(&self) -> PathBuf {
        self.dir.path().join("rs485")
    }

    /// CPU time of the emulator so far, which is the time of the guest without what else the host does.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id().context("gone")?))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").context("no name")?.1.split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        Ok(Duration::from_millis(10 * (ticks(11).context("no utime")? + ticks(12).context("no stime")?)))
    }
}

fn words(dir: &Path, start: &Start) -> Vec<String> {
    let socket = |name: &str| dir.join(name).display().to_string();
    let forward = start.forward.map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
    let mut words = vec!["-M".to_owned(), "virt".into()];
    words.extend(HARDWARE.split_whitespace().map(str::to_owned));
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    add(&["-accel", "tcg,tb-size=256", "-display", "none", "-nodefaults"]);
    match &start.kernel {
        None => add(&["-bios", U_BOOT]),
        Some(kernel) => {
            let path = |path: &Path| path.display().to_string();
            add(&["-kernel", &path(&kernel.image), "-append", &kernel.cmdline]);
            add(&["-dtb", &path(&kernel.device_tree), "-no-reboot"]);
        }
    }
    let disk =
        format!("driver=nbd,node-name=card,export=card,server.type=unix,server.path={}", socket("disk"));
    add(&["-blockdev", &disk, "-device", "nvme,drive=card,serial=TIDEGATE0001"]);
    let net = format!("user,id=net{}", forward.unwrap_or_default());
    add(&["-netdev", &net, "-device", "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:74:67:01"]);
    add(&[
        "-device",
        "virtio-rng-pci",
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
    ]);
    if start.rs485 {
        add(&["-chardev", &format!("pty,id=rs485,path={}", socket("rs485")), "-serial", "chardev:rs485"]);
    }
    let shell = format!("socket,id=shell,path={},server=on,wait=off", socket("shell"));
    add(&["-device", "virtio-serial-pci", "-chardev", &shell, "-device", "virtconsole,chardev=shell"]);
    words
}
