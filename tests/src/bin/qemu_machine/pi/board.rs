//! A Raspberry Pi around the machine: the player of the firmware reads the card and says what starts, QEMU runs that, and how its kernel restarts is what the
//! firmware is told next.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidegate_tests::firmware::{self, Board, Cause, Outcome, settle};
use tidegate_tests::machine::{BOOT_MAX, Card, Image, Kernel, Loss, Machine, STEP_MAX, Start};

use crate::shelf::Shelf;
use crate::world::World;

/// The gateway says so when it is at work.
pub(super) const RUNNING: &str = "uplink cloud: connected";

/// What the kernel says last: the argument is what its restart handler gets, which on a Pi hands it to the firmware. QEMU's PSCI carries none.
const RESTARTS: &str = "reboot: Restarting system";

/// What RAUC says when it begins with the root.
const BEGINS: &str = "Updating slot rootfs.";

/// What RAUC says when an installation has ended: "installing `URL` succeeded", or "failed".
const ENDS: &str = "installing `http";

/// A kernel that has not said a word for this long will not say one: others speak within three seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// A card in a board, and the world around it.
pub(super) struct Pi {
    pub(super) world: World,
    pub(super) board: Board,
    /// The card, as the firmware sees it.
    pub(super) firmware: firmware::Card,
    card: Card,
    shelf: Shelf,
    machine: Option<Machine>,
    started: Option<firmware::Start>,
    /// Why nothing starts until power is taken away.
    waits: Option<String>,
}

impl Pi {
    /// A configured card in a board without power.
    pub(super) async fn new(image: &Image, board: Board) -> Result<Self> {
        Self::with(image, board, "").await
    }

    /// The same with more in its configuration.
    pub(super) async fn with(image: &Image, board: Board, tables: &str) -> Result<Self> {
        let world = World::new().await?;
        let update = image.folder().join("update.raucb").canonicalize()?;
        std::os::unix::fs::symlink(update, world.dir.path().join("update.raucb"))?;
        let shelf = Shelf::open(world.dir.path()).await?;
        let card = world.card(image)?;
        card.configure(&format!("{}{tables}", world.config("1s")))?;
        let firmware = firmware::Card::new(card.path().to_owned());
        Ok(Self { world, board, firmware, card, shelf, machine: None, started: None, waits: None })
    }

    /// Power comes.
    pub(super) async fn power(&mut self) -> Result<()> {
        ensure!(self.machine.is_none(), "it has power");
        self.comes(Cause::PowerOn).await
    }

    /// Power goes: how many sectors were written and not flushed.
    pub(super) async fn cut(&mut self, loss: Loss) -> Result<usize> {
        self.waits = None;
        match self.machine.take() {
            Some(machine) => machine.cut(loss).await,
            None => Ok(0),
        }
    }

    /// Power goes while nothing is written, and comes again.
    pub(super) async fn power_cycle(&mut self) -> Result<()> {
        self.cut(Loss::Nothing).await?;
        self.power().await
    }

    /// Shuts down in order.
    pub(super) async fn off(&mut self) -> Result<()> {
        self.machine.take().context("it has no power")?.power_off().await
    }

    /// What is in the machine's console, and its shell.
    pub(super) fn machine(&mut self) -> Result<&mut Machine> {
        let waits = self.waits.as_deref().unwrap_or("it has no power");
        self.machine.as_mut().with_context(|| format!("nothing runs: {waits}"))
    }

    /// What the firmware took from the card last.
    pub(super) fn started(&self) -> Result<&firmware::Start> {
        self.started.as_ref().context("the firmware has started nothing")
    }

    /// The firmware runs, and starts something or waits.
    async fn comes(&mut self, cause: Cause) -> Result<()> {
        (self.started, self.waits) = (None, None);
        let start = match settle(&self.firmware, &self.board, cause) {
            Outcome::Starts(start) => start,
            Outcome::Waits { because } => {
                println!("  firmware: {cause:?}: waits: {because}");
                self.waits = Some(because);
                return Ok(());
            }
            Outcome::Resets { because, .. } => bail!("the board resets for ever: {because}"),
        };
        println!("  firmware: {cause:?}: partition {}, {}", start.partition, start.cmdline_file);
        let kernel = self.loaded(&start)?;
        self.machine =
            Some(Machine::start(&self.card, &Start { kernel: Some(kernel), ..Start::default() }).await?);
        self.started = Some(*start);
        Ok(())
    }

    /// What the firmware puts into memory: the kernel as it lies on the card, and the device tree with what it tells the kernel.
    fn loaded(&self, start: &firmware::Start) -> Result<Kernel> {
        let (image, device_tree) =
            (self.world.dir.path().join("kernel"), self.world.dir.path().join("device-tree"));
        for (name, file) in [(&start.kernel, &image), (&start.device_tree, &device_tree)] {
            let bytes = self.firmware.read(start.partition, name);
            std::fs::write(file, bytes.ok().with_context(|| format!("{name} was there a moment ago"))?)?;
        }
        fdt("fdtput", &device_tree, &["-c", "/chosen/bootloader"])?;
        for (name, value) in start.chosen() {
            let value = value.to_string();
            fdt("fdtput", &device_tree, &["-t", "u", "/chosen/bootloader", name, &value])?;
        }
        // The words of the device tree come before those of the file.
        let words = fdt("fdtget", &device_tree, &["/chosen", "bootargs"])?;
        Ok(Kernel { image, cmdline: format!("{} {}", words.trim(), start.cmdline), device_tree })
    }

    /// The system that runs restarts by itself, in order or by a panic, and the firmware comes.
    pub(super) async fn restarts(&mut self) -> Result<()> {
        let mut machine = self.machine.take().context("nothing runs")?;
        machine.ends(BOOT_MAX).await?;
        let cause = cause(&machine.console.text());
        self.comes(cause).await
    }

    /// The kernel that was started says nothing, and what the firmware left running resets the board; where there is nothing of that kind it stays as it is.
    pub(super) async fn hangs(&mut self) -> Result<()> {
        let machine = self.machine.take().context("nothing runs")?;
        tokio::time::sleep(SILENCE).await;
        ensure!(machine.console.mark() == 0, "it does not hang:\n{}", machine.console.tail());
        machine.cut(Loss::Nothing).await?;
        if self.started()?.kernel_watchdog_s.is_some() {
            return self.comes(Cause::RESET).await;
        }
        self.waits = Some("the kernel hangs, and no watchdog runs".into());
        Ok(())
    }

    /// Waits until a slot's system is at work, and looks whether firmware, kernel and RAUC are of one mind about it.
    pub(super) async fn runs(&mut self, slot: char) -> Result<()> {
        let machine = self.machine()?;
        machine.console.wait(RUNNING, BOOT_MAX).await?;
        // The gateway waits for no bus of messages; RAUC has one.
        machine.console.wait("Reached target multi-user.target", BOOT_MAX).await?;
        let partition = "od -An -v -tu1 -j 3 /proc/device-tree/chosen/bootloader/partition";
        let said = machine.shell.run(&format!("cat /proc/cmdline; {partition}; rauc status")).await?;
        let told = if slot == 'A' { 2 } else { 3 };
        ensure!(self.started()?.partition == told, "slot {slot} is not what the firmware started");
        for part in [format!("rauc.slot={slot}"), format!("\n{told:4}\n"), format!("({slot})")] {
            ensure!(said.contains(&part), "slot {slot} does not run, {part:?} is missing: {said}");
        }
        Ok(())
    }

    /// The system passes its gate and is kept.
    pub(super) async fn is_kept(&mut self) -> Result<()> {
        let machine = self.machine()?;
        machine.console.wait("Finished tidegate-mark-good.service", BOOT_MAX).await.map(|_| ())
    }

    /// Waits until nothing is open about the update before: until then none is taken.
    async fn settles(&mut self) -> Result<()> {
        let open = "/var/lib/tidegate-update/before.json";
        let wait = format!("for i in $(seq 200); do [ -e {open} ] || break; sleep 1; done; [ ! -e {open} ]");
        self.machine()?.shell.run(&wait).await.map(|_| ())
    }

    /// Has a bundle of the shelf installed, and leaves the restart to the gateway. Returns when RAUC has begun with the root.
    pub(super) async fn installs(&mut self, name: &str) -> Result<()> {
        self.settles().await?;
        let command = format!("gateway-daemon update http://10.0.2.2:{}/{name}", self.shelf.port);
        let machine = self.machine()?;
        let mark = machine.console.mark();
        machine.shell.run(&format!("{command} >/run/update.log 2>&1 &")).await?;
        if let Err(fault) = machine.console.wait_after(mark, BEGINS, STEP_MAX).await {
            bail!("{fault:#}; the update says: {}", machine.shell.run("cat /run/update.log").await?);
        }
        Ok(())
    }

    /// An update from its installation to the first start of what it brought.
    pub(super) async fn updates(&mut self, name: &str) -> Result<()> {
        let mark = self.machine()?.console.mark();
        self.installs(name).await?;
        let (_, said) = self.machine()?.console.wait_after(mark, ENDS, BOOT_MAX).await?;
        ensure!(said.contains("succeeded"), "the update is refused: {}", self.machine()?.console.tail());
        self.restarts().await
    }

    /// Waits for the sentence of a fault.
    pub(super) async fn fault(&mut self, name: &str) -> Result<String> {
        let wait = format!(
            "for i in $(seq 200); do [ -e /run/tidegate-faults/{name} ] && break; sleep 1; done; cat /run/tidegate-faults/{name}"
        );
        self.machine()?.shell.run(&wait).await
    }

    /// The overlays that the firmware loaded, with their parameters.
    pub(super) fn overlays(&self) -> Result<Vec<String>> {
        let text = |step: &firmware::Step| match step {
            firmware::Step::Overlay { name, parameters } => {
                Some([std::slice::from_ref(name), parameters].concat().join(","))
            }
            firmware::Step::Parameter { .. } => None,
        };
        Ok(self.started()?.steps.iter().filter_map(text).collect())
    }

    /// Asserts that nothing starts until somebody takes the power away.
    pub(super) fn waits(&self) -> Result<&str> {
        self.waits.as_deref().context("it does not wait")
    }
}

/// What the firmware is told by how a kernel ended.
fn cause(console: &str) -> Cause {
    let last = console.lines().filter_map(|line| line.split_once(RESTARTS)).next_back();
    let argument = last.and_then(|(_, rest)| rest.strip_prefix(" with command '")?.strip_suffix('\''));
    argument.map_or(Cause::RESET, Cause::restart)
}

fn fdt(program: &str, file: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    let (options, rest) = words.split_at(words.iter().position(|word| word.starts_with('/')).unwrap_or(0));
    command.args(options).arg(file).args(rest);
    let output = command.output().with_context(|| {
        format!("{program} is missing; install it: apt-get install -y device-tree-compiler")
    })?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::cause;
    use tidegate_tests::firmware::Cause;

    #[test]
    fn the_last_word_of_a_kernel_is_what_the_firmware_is_told() {
        let armed = "[   60.1] reboot: Restarting system with command '0 tryboot'\n";
        assert_eq!(cause(armed), Cause::Restart { partition: 0, tryboot: true });
        for plain in
            ["[   60.1] reboot: Restarting system\n", "Kernel panic\nRebooting in 10 seconds..\n", ""]
        {
            assert_eq!(cause(plain), Cause::RESET, "{plain:?}");
        }
    }
}
