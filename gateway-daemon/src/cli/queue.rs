//! `queue`: what the cloud will not take.

use clap::{Args, Subcommand};

use super::Reach;

/// `queue`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
A message is set aside when a server of the uplink ends the connection each time it is sent; everything behind it goes on. It stays stored until it
is sent again or deleted here, or until there are more than 1000 of them or 16 MB. Exit code 1 when there is no such uplink or message.

Examples:
  gateway-daemon queue list cloud
  gateway-daemon queue show cloud 4711           its topic, why it is set aside, and its payload
  gateway-daemon queue send cloud 4711           again, at its place in the queue; after the server's limit was raised
  gateway-daemon queue delete cloud --all        counted as dropped: refused-by-cloud"
)]
pub struct Queue {
    /// What to do.
    #[command(subcommand)]
    pub task: QueueTask,
}

/// What can be done with messages that are set aside.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum QueueTask {
    /// Show how much is queued, and each message that is set aside
    List(QueueOf),
    /// Show one message that is set aside, with its payload
    Show(QueueOne),
    /// Put messages back into the queue
    Send(QueueSome),
    /// Delete messages; they count as dropped
    Delete(QueueSome),
}

/// An uplink.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct QueueOf {
    /// Name of the uplink
    #[arg(value_name = "UPLINK")]
    pub uplink: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}

/// One message of an uplink.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct QueueOne {
    /// Name of the uplink
    #[arg(value_name = "UPLINK")]
    pub uplink: String,
    /// Number of the message
    #[arg(value_name = "SEQ")]
    pub seq: u64,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}

/// One message of an uplink, or all that are set aside.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct QueueSome {
    /// Name of the uplink
    #[arg(value_name = "UPLINK")]
    pub uplink: String,
    /// Number of the message
    #[arg(value_name = "SEQ", required_unless_present = "all", conflicts_with = "all")]
    pub seq: Option<u64>,
    /// All messages that are set aside
    #[arg(long)]
    pub all: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// How to reach the gateway.
    #[command(flatten)]
    pub reach: Reach,
}
