//! A terminal: a pseudo terminal of some size, the daemon's program on it, and what a person would see there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::gateway::binary;
use crate::wait::DEADLINE;

/// What is seen on a terminal.
#[derive(Debug, Clone)]
pub struct Sight {
    columns: usize,
    rows: Vec<Vec<char>>,
    at: (usize, usize),
    wraps: bool,
    /// Lines that moved up because the last one was full.
    pub scrolled: usize,
    /// Characters that found no place in their line.
    pub cut: usize,
    /// Whether the second screen is shown.
    pub second_screen: bool,
    /// Whether the cursor is shown.
    pub cursor: bool,
    /// Whether any text had a colour.
    pub coloured: bool,
    /// Commands to the terminal, colours included.
    pub commands: usize,
    /// How often the whole picture was drawn from its upper left corner.
    pub drawn: usize,
    pending: Vec<u8>,
}

impl Sight {
    fn new(columns: u16, rows: u16) -> Self {
        let columns = usize::from(columns);
        Self {
            columns,
            rows: vec![vec![' '; columns]; usize::from(rows)],
            at: (0, 0),
            wraps: true,
            scrolled: 0,
            cut: 0,
            second_screen: false,
            cursor: true,
            coloured: false,
            commands: 0,
            drawn: 0,
            pending: Vec::new(),
        }
    }

    /// The lines, without the spaces at their ends.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
    }

    /// All lines as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    fn take(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            Err(fault) => fault.valid_up_to(),
        };
        let text = String::from_utf8_lossy(&self.pending[..whole]).into_owned();
        let mut rest = text.as_str();
        while let Some(char) = rest.chars().next() {
            let after = match rest.strip_prefix("\x1b[") {
                None if char == '\x1b' && rest.len() == 1 => break,
                None => {
                    self.put(char);
                    &rest[char.len_utf8()..]
                }
                Some(command) => {
                    let Some(end) = command.find(|c: char| c.is_ascii_alphabetic()) else { break };
                    self.command(&command[..=end]);
                    &command[end + 1..]
                }
            };
            rest = after;
        }
        let taken = whole - rest.len();
        self.pending.drain(..taken);
    }

    fn put(&mut self, char: char) {
        let (row, column) = self.at;
        match char {
            '\r' => self.at.1 = 0,
            '\n' => self.next_line(),
            _ if char.is_control() => {}
            _ if column < self.columns => {
                self.rows[row][column] = char;
                self.at.1 += 1;
            }
            _ if self.wraps => {
                self.at.1 = 0;
                self.next_line();
                self.put(char);
            }
            _ => self.cut += 1,
        }
    }

    fn next_line(&mut self) {
        self.at.0 += 1;
        if self.at.0 == self.rows.len() {
            self.at.0 -= 1;
            self.rows.remove(0);
            self.rows.push(vec![' '; self.columns]);
            self.scrolled += 1;
        }
    }

    fn command(&mut self, command: &str) {
        self.commands += 1;
        let (row, column) = self.at;
        // Behind the last character of a full row the cursor stands on it.
        let from = column.min(self.columns.saturating_sub(1));
        match command {
            "H" => (self.at, self.drawn) = ((0, 0), self.drawn + 1),
            "K" => self.rows[row][from..].fill(' '),
            "J" => {
                self.rows[row][from..].fill(' ');
                self.rows[row + 1..].iter_mut().for_each(|row| row.fill(' '));
            }
            "?1049h" | "?1049l" => self.second_screen = command.ends_with('h'),
            "?25h" | "?25l" => self.cursor = command.ends_with('h'),
            "?7h" | "?7l" => self.wraps = command.ends_with('h'),
            "0m" => {}
            _ if command.ends_with('m') => self.coloured = true,
            _ => {}
        }
    }
}

/// How a program on a terminal ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What is seen.
    pub sight: Sight,
    /// Everything that it sent.
    pub sent: String,
    /// Whether the terminal shows what is typed and gives whole lines, as a shell expects it.
    pub is_given_back: bool,
}

/// A program on a terminal; killed when dropped.
pub struct Terminal {
    master: File,
    child: Child,
    sight: Sight,
    sent: Vec<u8>,
}

impl Terminal {
    /// Starts the daemon's program on a terminal of so many columns and rows, with these arguments and variables.
    ///
    /// # Errors
    /// There are no pseudo terminals, or `setsid` is missing (util-linux).
    pub fn start(
        dir: &Path,
        (columns, rows): (u16, u16),
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(binary()?).args(args);
        Self::run(command.current_dir(dir), (columns, rows), variables)
    }

    /// Starts any program on a terminal.
    ///
    /// # Errors
    /// There are no pseudo terminals, or no such program.
    pub fn run(
        command: &mut Command,
        (columns, rows): (u16, u16),
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = File::options().read(true).write(true).open(name.to_str()?)?;
        set_size(&slave, columns, rows)?;
        let child = command
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave)
            .spawn()
            .context("setsid cannot be started: apt-get install util-linux")?;
        Ok(Self { master: master.into(), child, sight: Sight::new(columns, rows), sent: Vec::new() })
    }

    /// What is seen at the moment.
    #[must_use]
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    /// Types something.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Gives the window another size; what was seen is gone.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&mut self, columns: u16, rows: u16) -> anyhow::Result<()> {
        self.sight = Sight::new(columns, rows);
        set_size(&self.master, columns, rows)
    }

    /// Waits until what is seen satisfies `want`.
    ///
    /// # Errors
    /// Not within [`DEADLINE`], or the program ended; the error shows the terminal.
    pub fn wait_for(&mut self, what: &str, want: impl Fn(&Sight) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + DEADLINE;
        while !want(&self.sight) {
            if !self.read()? && self.child.try_wait()?.is_some() {
                bail!("it ended while waiting for {what}:\n{}", self.sight.text());
            }
            if Instant::now() > end {
                bail!("waited {} s in vain for {what}:\n{}", DEADLINE.as_secs(), self.sight.text());
            }
        }
        Ok(())
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// Not within [`DEADLINE`].
    pub fn end(mut self) -> anyhow::Result<Ended> {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            let more = self.read()?;
            match self.child.try_wait()? {
                Some(status) if !more => break status,
                _ if Instant::now() > end => bail!("it does not end:\n{}", self.sight.text()),
                _ => {}
            }
        };
        let modes = tcgetattr(&self.master)?.local_modes;
        Ok(Ended {
            code: status.code(),
            sight: self.sight.clone(),
            sent: String::from_utf8_lossy(&self.sent).into_owned(),
            is_given_back: modes.contains(LocalModes::ICANON | LocalModes::ECHO),
        })
    }

    /// Reads what there is, waiting a moment for it; whether there was something.
    fn read(&mut self) -> anyhow::Result<bool> {
        let moment = Timespec::try_from(Duration::from_millis(50))?;
        let mut polled = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut polled, Some(&moment))? == 0 || !polled[0].revents().contains(PollFlags::IN) {
            return Ok(false);
        }
        let mut bytes = [0; 4096];
        // The kernel says so when the last user of the terminal has left.
        let Ok(read) = self.master.read(&mut bytes) else { return Ok(false) };
        self.sight.take(&bytes[..read]);
        self.sent.extend_from_slice(&bytes[..read]);
        Ok(read > 0)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing more to stop then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: &File, columns: u16, rows: u16) -> anyhow::Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}
