//! The command line: what can be asked of `gateway-daemon`, and what its exit codes mean. Only parsing; the doing is in
//! [`crate::app`].
//!
//! A usage error is told with the right way to say it and ends with exit code 64, never 2, so that a unit file can tell
//! "started wrongly" from "failed".

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gateway_core::poll::request::Table;

mod parse;
mod queue;
mod scan;
mod sessions;
mod update;

pub use parse::{Baud, Endpoint, RawPoint, TagRef, Units};
pub use queue::{Queue, QueueOf, QueueOne, QueueSome, QueueTask};
pub use scan::{Parity, Scan};
pub use sessions::{Sessions, SessionsCommand, SessionsDrop, SessionsList};
pub use update::{Health, Update, UpdateAgent};

/// Where the configuration is unless a command names another file.
pub const CONFIG_PATH: &str = "/etc/tidegate/gateway.toml";

/// Where the running gateway listens for commands unless its configuration says otherwise.
pub const SOCKET_PATH: &str = "/run/tidegate/control.sock";

/// Exit codes, from `sysexits.h` where it has one that fits.
pub mod exit {
    /// Done, and the answer is yes.
    pub const OK: u8 = 0;
    /// Done, and the answer is no: a device did not answer, a demo missed a reading, a write was refused.
    pub const NO: u8 = 1;
    /// The command line is wrong (`EX_USAGE`).
    pub const USAGE: u8 = 64;
    /// No gateway is running behind the socket (`EX_UNAVAILABLE`).
    pub const UNAVAILABLE: u8 = 69;
    /// A fault of this program: the log says where (`EX_SOFTWARE`).
    pub const FAULT: u8 = 70;
    /// A file, port or connection failed (`EX_IOERR`).
    pub const IO: u8 = 74;
    /// The gateway runs and has no place for one more command at this moment; the next try may have it (`EX_TEMPFAIL`).
    pub const BUSY: u8 = 75;
    /// The configuration is wrong (`EX_CONFIG`).
    pub const CONFIG: u8 = 78;
}

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  done, and the answer is no (not well, no such name, device silent, write refused, readings missing in a demo)
  64  wrong use of the command line
  69  no running gateway behind the socket, or none that answers
  70  a fault of the program itself; the log says where
  74  a file, port or connection failed
  75  the gateway runs, but too many commands are connected to it; try again
  78  the configuration is wrong; every problem is printed as file:line:col";

const EXAMPLES: &str = "\
Start here:
  gateway-daemon demo                     see it work: simulated devices, a pretend cloud, nothing to install
  gateway-daemon demo --outage 20s        see what happens when the cloud is away for 20 seconds
  gateway-daemon scan --port /dev/ttyUSB0 --baud 9600,19200
                                          find the devices on a line and how it is set
  gateway-daemon check gateway.toml       every mistake in a configuration, and what the polling costs on the wire
  gateway-daemon run gateway.toml         do the work
  gateway-daemon status                   in another terminal: is all well?";

/// Everything the command line can say.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(
    name = "gateway-daemon",
    version,
    about = "Tidegate: polls the field, keeps readings while the network is away, delivers them to the cloud",
    after_help = examples_and_codes(EXAMPLES, EXIT_CODES),
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Run the gateway until it is told to stop (SIGTERM, Ctrl-C)
    Run(Run),
    /// Check a configuration and show what its polling costs on the wire
    Check(Check),
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Show every tag with value, unit, quality and age
    Tags(Tags),
    /// Read tags or raw registers from a device, through the running gateway
    Read(Read),
    /// Write a tag or raw registers, through the running gateway
    Write(Write),
    /// Show buses, devices, links and queues of the running gateway
    Status(Status),
    /// Show the sessions of local clients, or end one
    Sessions(Sessions),
    /// Show, send again or delete messages that the cloud will not take
    Queue(Queue),
    /// Find the units on a line: who answers, to what, at which baud rate
    Scan(Scan),
    /// Show the whole product on one terminal: simulated devices, gateway and a pretend cloud
    Demo(Demo),
    /// Make the lines that let a user of the local broker log in by password
    Passwd(Passwd),
    /// Take over what lies on the drive TIDEGATE, and set up the network (root, at every boot)
    Provision(Provision),
    /// Install an update of the whole system, or show what came of the last one
    Update(Update),
    /// Install updates for others, as root; systemd starts it
    #[command(hide = true)]
    UpdateAgent(UpdateAgent),
    /// Decide whether an updated system may stay; systemd starts it at each boot
    #[command(hide = true)]
    Health(Health),
}

/// `run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
The gateway stops cleanly on SIGTERM and Ctrl-C: what is in memory goes to disk and the cloud is told. SIGHUP makes it read its file again: a
changed configuration is put in force as a whole, what it does not concern goes on; a wrong one is refused, and `status` and the log say why. Other
signals, such as SIGUSR1 and SIGALRM, are ignored with a line in the log.

Environment:
  TIDEGATE_LOG=debug             error, warn, info (default), debug or trace; another word is refused with exit code 64
  TIDEGATE_TIMESYNC_FILE=PATH    a file that appears when something else than NTP has set the clock, such as a GPS receiver;
                                 without the variable the kernel and systemd-timesyncd say whether the clock can be trusted

Examples:
  gateway-daemon run
  gateway-daemon run ./gateway.toml")]
pub struct Run {
    /// Configuration file
    #[arg(value_name = "FILE", default_value = CONFIG_PATH)]
    pub config: PathBuf,
}

/// `check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Prints every problem at once as file:line:col, or the plan: requests, bytes and bus time of each poll group against its
period at the configured baud rate. Opens no port and no connection. Exit code 78 when something is wrong.

Examples:
  gateway-daemon check gateway.toml
  gateway-daemon check --quiet gateway.toml && systemctl restart tidegate")]
pub struct Check {
    /// Configuration file
    #[arg(value_name = "FILE", default_value = CONFIG_PATH)]
    pub config: PathBuf,
    /// Print problems only, not the plan
    #[arg(long, short)]
    pub quiet: bool,
}

/// How to reach the running gateway.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Reach {
    /// Control socket of the running gateway
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
    /// Take the socket from this configuration instead; the rest of it may be wrong
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub config: Option<PathBuf>,
}

/// `tags`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
On a terminal the table is live until q or Ctrl-C, one page of it: space and b, Page Down and Page Up turn pages. Into a pipe or a file it
is printed once. Exit code 1 when a device or tag is not there.

Examples:
  gateway-daemon tags
  gateway-daemon tags meter1                only this device
  gateway-daemon tags meter1/voltage --once
  gateway-daemon tags --json | jq '.tags[] | select(.quality != \"good\")'")]
pub struct Tags {
    /// Only these devices or tags: DEVICE or DEVICE/TAG
    #[arg(value_name = "DEVICE[/TAG]")]
    pub only: Vec<String>,
    /// Repeat every second, as a terminal does anyway
    #[arg(long, short, conflicts_with_all = ["once", "json"])]
    pub watch: bool,
    /// Print once and stop
    #[arg(long)]
    pub once: bool,
    /// Print once, as JSON
    #[arg(long)]
    pub json: bool,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}

/// `read`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
A request of its own goes to the device, between the scheduled polls; `tags` shows the last polled values instead.
Tables: coil, discrete, holding, input. Raw addresses count from 0, as on the wire. Exit code 1 when one of them has no good value.

Examples:
  gateway-daemon read meter1/voltage meter1/energy
  gateway-daemon read meter1/voltage --json             one object a line, also for a tag that cannot be read
  gateway-daemon read --raw rs485-1:17:holding:0:10     ten registers of unit 17 on bus rs485-1
  gateway-daemon read --raw plc:1:coil:3                one coil")]
pub struct Read {
    /// Tags to read
    #[arg(value_name = "DEVICE/TAG", required_unless_present = "raw")]
    pub tags: Vec<TagRef>,
    /// Registers or bits to read, known to the configuration or not
    #[arg(long, value_name = "BUS:UNIT:TABLE:ADDRESS[:COUNT]", conflicts_with = "tags")]
    pub raw: Option<RawPoint>,
    /// Print as JSON, one tag a line, or the raw values as a list
    #[arg(long)]
    pub json: bool,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}

/// `write`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
A tag can be written when its configuration says `writable = true`; the value is in engineering units, and on, off,
true or false for bits. Raw values are register values (0 to 65535) or 0 and 1 for coils. Exit code 1 when it is refused, by the gateway or
the device, and when there is no proper answer: then nobody knows whether it was written, and the error says so.

Examples:
  gateway-daemon write meter1/relay on
  gateway-daemon write boiler/setpoint 21.5
  gateway-daemon write --raw rs485-1:17:holding:40 100 200 300"
)]
pub struct Write {
    /// DEVICE/TAG and its value; with --raw only values
    #[arg(value_name = "DEVICE/TAG VALUE", required = true, num_args = 1..)]
    pub words: Vec<String>,
    /// First register or coil to write instead of a tag
    #[arg(long, value_name = "BUS:UNIT:TABLE:ADDRESS")]
    pub raw: Option<RawPoint>,
    /// Print as JSON: the tag with its value as it was written
    #[arg(long)]
    pub json: bool,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}

/// What a [`Write`] means once its words are understood.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteTarget {
    /// One tag and the text of its value; the gateway knows the tag's type.
    Tag(TagRef, String),
    /// Registers from an address on.
    Registers(RawPoint, Vec<u16>),
    /// Coils from an address on.
    Coils(RawPoint, Vec<bool>),
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Begins with a verdict: that all is well, or what is wrong and what to do. With --check that is all, each thing that is
wrong on its line, and the exit code says it, too: 0 all is well, 1 something is wrong, 69 no gateway is running,
75 it runs, but too many commands are connected to it to say how it is. Without --check the exit
code is 0 whenever the gateway has answered.

Examples:
  gateway-daemon status
  gateway-daemon status --check || systemctl status tidegate
  gateway-daemon status --watch             again every second, until q or Ctrl-C
  gateway-daemon status --json | jq .uplinks
  gateway-daemon status --metrics           Prometheus text, for a collector's exec input")]
pub struct Status {
    /// Print the verdict and what is wrong only, and end with 0 when all is well, 1 when not
    #[arg(long, conflicts_with_all = ["watch", "metrics"])]
    pub check: bool,
    /// Repeat every second
    #[arg(long, short, conflicts_with = "json")]
    pub watch: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Print every metric as Prometheus text
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub metrics: bool,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}

/// `demo`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Needs no server, no root and no hardware; everything happens in this process and in a directory that is removed at the
end. A set point is written now and then, and one meter loses its power: it is probed and comes back, the others go on. A terminal of 80
columns and 24 lines shows everything; q ends it, q once more at once. Ends with a count of every reading: exit code 0 when all arrived, 1 when one is missing.

Examples:
  gateway-daemon demo                     until q or Ctrl-C
  gateway-daemon demo --outage 20s        the link is cut, the queue grows, the link returns, the queue drains
  gateway-daemon demo --seconds 10        stop by itself")]
pub struct Demo {
    /// Cut the link after a few seconds, for this long, and stop when everything arrived
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub outage: Option<Duration>,
    /// Stop after this many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// Use this configuration instead of the built-in one; its buses should be `driver = "sim"`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `passwd`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Asks twice, without showing what is typed, and prints what to paste into the configuration: the hash of the password (Argon2id),
never the password itself. Changes no file. Exit code 1 when the password is empty, too long or not the same twice.

Examples:
  gateway-daemon passwd press3 >> gateway.toml
  printf '%s\\n' \"$SECRET\" | gateway-daemon passwd --stdin press3
  systemd-ask-password | gateway-daemon passwd --stdin      only the password_hash line")]
pub struct Passwd {
    /// Name of the user; without it only the hash is printed
    #[arg(value_name = "USER", value_parser = parse::user)]
    pub user: Option<String>,
    /// Read the password from standard input, one line, instead of asking
    #[arg(long)]
    pub stdin: bool,
}

/// `provision`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
A gateway.toml on the drive, with the certificates that it names, is checked and becomes the configuration; what is wrong is written
back to the drive as gateway-errors.txt. Without a configuration the gateway gets one that holds nothing but a name made of its hardware.
Network, host name and time servers are set up from [network]. On the image for Raspberry Pi a changed [board] is written for the firmware,
and the machine restarts once. Ends with 0 whenever there is a configuration to start with, also when the drive was refused, and with 78
only without any.

Examples:
  gateway-daemon provision
  gateway-daemon provision --root ./root --drop ./card --config ./etc --run ./run
                                          try it without touching the system; the folders may be empty")]
pub struct Provision {
    /// The FAT partition, as it is mounted
    #[arg(long, value_name = "DIR", default_value = "/boot/firmware")]
    pub drop: PathBuf,
    /// Where the configuration is kept
    #[arg(long, value_name = "DIR", default_value = "/etc/tidegate")]
    pub config: PathBuf,
    /// Where files for this boot are written
    #[arg(long, value_name = "DIR", default_value = "/run")]
    pub run: PathBuf,
    /// The system whose host name, console and hardware are meant
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Only tell on console and drive how the running gateway is: addresses, serial ports, what is wrong
    #[arg(long)]
    pub tell: bool,
    /// Socket of the running gateway, with --tell
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

impl Command {
    /// The word it is called by.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Check(_) => "check",
            Self::Schema => "schema",
            Self::Tags(_) => "tags",
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Status(_) => "status",
            Self::Sessions(_) => "sessions",
            Self::Queue(_) => "queue",
            Self::Scan(_) => "scan",
            Self::Demo(_) => "demo",
            Self::Passwd(_) => "passwd",
            Self::Provision(_) => "provision",
            Self::Update(_) => "update",
            Self::UpdateAgent(_) => "update-agent",
            Self::Health(_) => "health",
        }
    }
}

impl Write {
    /// Understands the words: DEVICE/TAG VALUE, or values only with `--raw`.
    ///
    /// # Errors
    /// The sentence to print after "error: ".
    pub fn target(&self) -> Result<WriteTarget, String> {
        match &self.raw {
            Some(point) => parse::raw_values(point, &self.words),
            None => match &self.words[..] {
                [tag, value] => Ok(WriteTarget::Tag(tag.parse()?, value.clone())),
                [only] => {
                    Err(format!("{only:?} has no value: write DEVICE/TAG VALUE, such as meter1/relay on"))
                }
                more => Err(format!("one tag and one value are expected, not {} words", more.len())),
            },
        }
    }
}

/// What parsing a command line ends in when there is nothing to do: help, version, or a usage error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Text to print.
    pub text: String,
    /// Exit code; 0 means the text goes to standard output, anything else to standard error.
    pub code: u8,
}

/// Parses a command line, program name first.
///
/// # Errors
/// The text to print and the exit code: 0 for help and version, [`exit::USAGE`] for everything else.
pub fn parse<I, T>(args: I) -> Result<Command, Said>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = Cli::try_parse_from(args).map_err(|error| {
        let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
        Said { text: error.render().to_string(), code }
    })?;
    let judged = match &cli.command {
        Command::Write(write) => write.target().map(drop),
        Command::Scan(scan) => scan.judge(),
        _ => Ok(()),
    };
    judged.map_err(|sentence| Said { text: format!("error: {sentence}\n"), code: exit::USAGE })?;
    Ok(cli.command)
}

fn examples_and_codes(examples: &str, codes: &str) -> String {
    format!("{examples}\n\n{codes}")
}

/// The word of a table on the command line and in JSON.
#[must_use]
pub fn table_word(table: Table) -> &'static str {
    match table {
        Table::Coil => "coil",
        Table::Discrete => "discrete",
        Table::Holding => "holding",
        Table::Input => "input",
    }
}

#[cfg(test)]
mod tests;
