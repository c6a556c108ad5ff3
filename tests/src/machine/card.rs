//! A card in the hands of the host: its partitions, and the files in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};

const SECTOR: u64 = 512;

/// A partition by its place in `buildroot/board/tidegate/image.env`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Partition {
    /// The FAT partition that every computer sees.
    Drop = 1,
    /// Kernel of slot A.
    BootA = 2,
    /// Kernel of slot B.
    BootB = 3,
    /// Root file system A.
    RootA = 5,
    /// Root file system B.
    RootB = 6,
    /// /etc/tidegate
    Config = 7,
    /// /var
    State = 8,
}

/// What makes systemd speak and listen as the test machine's own image does: its journal on the serial console, a root shell on a virtual one.
const OPEN: &str = "systemd.journald.forward_to_console=1 systemd.debug_shell=hvc0 systemd.show_status=false";

/// A card image that belongs to one test.
#[derive(Debug)]
pub struct Card {
    path: PathBuf,
    /// Whether the shell inside is systemd's own.
    pub(super) debug_shell: bool,
}

impl Card {
    /// A fresh card at `path`: a copy of the image `from`, made larger to `mib` as a real card is.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn flash(from: &Path, path: PathBuf, mib: u64) -> Result<Self> {
        copy(from, &path)?;
        let file = File::options().write(true).open(&path)?;
        file.set_len(file.metadata()?.len().max(mib << 20))?;
        Ok(Self { path, debug_shell: false })
    }

    /// Opens slot A of an image for gateways to the tests, by the command line of its kernel, as a technician with the card in hand could.
    ///
    /// # Errors
    /// The boot partition is damaged.
    pub fn open_to_tests(&mut self) -> Result<()> {
        let words = self.mtools(Partition::BootA, "mtype", &[], &["::uboot.args".as_ref()])?;
        let words = String::from_utf8(words.stdout)?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), format!("{} {OPEN}\n", words.trim_end()))?;
        self.mtools(Partition::BootA, "mcopy", &["-o"], &[file.path().as_os_str(), "::uboot.args".as_ref()])?;
        self.debug_shell = true;
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file into the drop zone, as a person does at a desk.
    ///
    /// # Errors
    /// It does not fit, or the file system is damaged.
    pub fn drop_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), content)?;
        let to = format!("::{name}");
        self.mtools(Partition::Drop, "mcopy", &["-o"], &[file.path().as_os_str(), to.as_ref()])?;
        Ok(())
    }

    /// A file of the drop zone; `None` if there is none of this name.
    ///
    /// # Errors
    /// The file system is damaged.
    pub fn dropped(&self, name: &str) -> Result<Option<String>> {
        if !self.drop_names()?.iter().any(|there| there.eq_ignore_ascii_case(name)) {
            return Ok(None);
        }
        let output = self.mtools(Partition::Drop, "mtype", &[], &[format!("::{name}").as_ref()])?;
        Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Names of the files in the drop zone.
    ///
    /// # Errors
    /// The file system is damaged.
    pub fn drop_names(&self) -> Result<Vec<String>> {
        let output = self.mtools(Partition::Drop, "mdir", &["-b"], &["::".as_ref()])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().map(|line| line.trim_start_matches("::/").to_owned()).collect())
    }

    /// Puts `gateway.toml` where provisioning would have put it.
    ///
    /// # Errors
    /// The file system is damaged.
    pub fn configure(&self, toml: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), toml)?;
        // Readable by the gateway: debugfs keeps the mode, and the owner is root.
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644))?;
        let from = file.path().display();
        let commands = format!("rm gateway.toml\nwrite {from} gateway.toml\n");
        let script = tempfile::NamedTempFile::new()?;
        std::fs::write(script.path(), commands)?;
        let at = format!("{}?offset={}", self.path.display(), self.range(Partition::Config)?.0);
        done("debugfs", Command::new("debugfs").args(["-w", "-f"]).arg(script.path()).arg(at).output())?;
        Ok(())
    }

    /// Copies a partition to `to`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn extract(&self, partition: Partition, to: &Path) -> Result<()> {
        let (start, size) = self.range(partition)?;
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", self.path.display())).arg(format!("of={}", to.display()));
        dd.args(["bs=1M", "conv=sparse", "status=none"]);
        dd.arg(format!("skip={}", start >> 20)).arg(format!("count={}", size >> 20));
        done("dd", dd.output())?;
        Ok(())
    }

    /// Overwrites the beginning of a partition.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn scribble(&self, partition: Partition, bytes: &[u8]) -> Result<()> {
        let file = File::options().write(true).open(&self.path)?;
        Ok(file.write_all_at(bytes, self.range(partition)?.0)?)
    }

    /// Where a partition begins and how long it is, in bytes.
    ///
    /// # Errors
    /// The partition table is damaged.
    pub fn range(&self, partition: Partition) -> Result<(u64, u64)> {
        let output = done("sfdisk", Command::new("sfdisk").arg("--json").arg(&self.path).output())?;
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let table = json["partitiontable"]["partitions"].as_array().context("no partitions")?;
        let mut found = BTreeMap::new();
        for entry in table {
            let node = entry["node"].as_str().unwrap_or_default();
            let number =
                node.strip_prefix(&*self.path.to_string_lossy()).unwrap_or_default().trim_start_matches('p');
            let sectors = |field: &str| entry[field].as_u64().map(|sectors| sectors * SECTOR);
            if let (Ok(number), Some(start), Some(size)) =
                (number.parse::<u8>(), sectors("start"), sectors("size"))
            {
                found.insert(number, (start, size));
            }
        }
        found.get(&(partition as u8)).copied().with_context(|| format!("no {partition:?} in {table:?}"))
    }

    fn mtools(
        &self,
        partition: Partition,
        tool: &str,
        options: &[&str],
        words: &[&std::ffi::OsStr],
    ) -> Result<Output> {
        let image = format!("{}@@{}", self.path.display(), self.range(partition)?.0);
        let mut command = Command::new(tool);
        command.env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(image).args(options).args(words);
        done(tool, command.output())
    }
}

/// Copies a sparse file.
///
/// # Errors
/// It cannot be copied.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    done("cp", Command::new("cp").arg("--sparse=always").arg(from).arg(to).output())?;
    Ok(())
}

fn done(program: &str, output: std::io::Result<Output>) -> Result<Output> {
    let output =
        output.with_context(|| format!("{program} is missing; install what `cargo xtask qemu` names"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    ensure!(
        program != "debugfs" || !said_no(&output),
        "debugfs: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// debugfs ends with success whatever happened.
fn said_no(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().any(|line| {
        !line.starts_with("debugfs ") && !line.starts_with("rm: File not found") && !line.is_empty()
    })
}
