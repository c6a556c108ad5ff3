//! `scan`: which units answer on a line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Baud, Endpoint, Units, parse};

/// `scan`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    group = clap::ArgGroup::new("line").required(true),
    after_help = "\
Asks each unit with functions 3, 4 and 43/14 and prints who answers, also with a refusal. Nothing is written. Stop the
gateway first when it uses the same port: one line has one master. Exit code 1 when no device was found.

A unit that answers takes a tenth of a second, one that is silent about 1.5 seconds, at each baud rate and parity: 247 silent
units at two baud rates take 12 minutes, so name the units that there can be. The time that is said to be left is the most it takes, and only falls.

Examples:
  gateway-daemon scan --port /dev/ttyUSB0 --units 1-20      a minute at most
  gateway-daemon scan --port /dev/ttyUSB0 --baud 9600,19200,115200 --parity even,none
  gateway-daemon scan --tcp 192.168.1.20 --units 1-10
  gateway-daemon scan --tcp 192.168.1.20 --units 255        the device itself, where it is not behind a gateway
  gateway-daemon scan --rtu-over-tcp 192.168.1.30:4001 --timeout 1s
  gateway-daemon scan --tcp 192.168.1.20 --json | jq -r 'select(.device) | .unit'"
)]
pub struct Scan {
    /// Serial port
    #[arg(long, value_name = "PATH", group = "line")]
    pub port: Option<PathBuf>,
    /// Modbus TCP server; port 502 unless given
    #[arg(long, value_name = "HOST[:PORT]", group = "line")]
    pub tcp: Option<Endpoint>,
    /// Serial server that passes RTU frames through TCP
    #[arg(long, value_name = "HOST:PORT", group = "line")]
    pub rtu_over_tcp: Option<Endpoint>,
    /// Baud rates to try
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "19200,9600", conflicts_with_all = ["tcp", "rtu_over_tcp"])]
    pub baud: Vec<Baud>,
    /// Parities to try
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "even", conflicts_with_all = ["tcp", "rtu_over_tcp"])]
    pub parity: Vec<Parity>,
    /// Units to ask: 1 to 247, with --tcp 0 to 255
    #[arg(long, value_name = "FIRST-LAST", default_value = "1-247")]
    pub units: Units,
    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse::duration)]
    pub timeout: Duration,
    /// Print as JSON, one unit a line as soon as it answers
    #[arg(long)]
    pub json: bool,
}

impl Scan {
    /// Whether the line can have the units.
    ///
    /// # Errors
    /// A sentence for a person.
    pub fn judge(&self) -> Result<(), String> {
        let units = self.units.first..=self.units.last;
        if self.tcp.is_none() && (units.contains(&0) || units.end() > &247) {
            return Err("--units holds a unit that a serial line cannot have, expected 1 to 247: 0 speaks to all units and none answers, 248 to 255 are \
                        reserved; with --tcp 0 to 255 can be asked"
                .to_owned());
        }
        Ok(())
    }
}

/// Parity of a serial line, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Parity {
    /// Even, the Modbus default
    Even,
    /// Odd
    Odd,
    /// None, usually with two stop bits
    None,
}
