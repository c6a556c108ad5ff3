//! The command around sessions of local clients.

use clap::{Args, Subcommand};

use super::Reach;

/// `sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
A session is what the broker keeps for a client: its subscriptions, and the messages that wait for it. One that outlives its connection ends
when its client stays away for longer than `session_expiry_max` of [broker.limits], or when it is dropped here. Exit code 1 when there is no such
session, or no broker.

Examples:
  gateway-daemon sessions list
  gateway-daemon sessions list --json | jq -r 'select(.connected | not) | .client'
  gateway-daemon sessions drop press3
  gateway-daemon sessions drop --number 17     a client id that cannot be typed"
)]
pub struct Sessions {
    /// What to do.
    #[command(subcommand)]
    pub what: SessionsCommand,
}

/// What can be done with sessions.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SessionsCommand {
    /// Show the session of every local client, connected or not
    List(SessionsList),
    /// End a session: its client is disconnected, what waits for it is dropped and counted
    Drop(SessionsDrop),
}

/// `sessions list`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SessionsList {
    /// Print as JSON, one session a line
    #[arg(long)]
    pub json: bool,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}

/// `sessions drop`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SessionsDrop {
    /// Client id of the session
    #[arg(value_name = "CLIENT", required_unless_present = "number")]
    pub client: Option<String>,
    /// Number of the session, as `sessions list` shows it
    #[arg(long, value_name = "N", conflicts_with = "client")]
    pub number: Option<u32>,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}
