//! The commands around updates of the whole system.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gateway_core::update::wire;

use super::{CONFIG_PATH, SOCKET_PATH, parse};
use crate::update::FOLDER_PATH;

/// `update`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
The update is written into the part of the card that is not running, and only after its signature and its board were checked. Then the
system starts again into it; when it does not work as well as before, the old one comes back by itself. Whatever goes wrong, the
running system stays as it is. Exit code 0 when it is installed, 1 when not, 69 when there is no update agent.

Examples:
  gateway-daemon update /media/stick/tidegate-1.2.raucb
  gateway-daemon update https://example.com/tidegate-1.2.raucb
  gateway-daemon update --no-reboot tidegate-1.2.raucb      starts with the next boot
  sudo gateway-daemon update --allow-downgrade tidegate-1.1.raucb
  gateway-daemon update                                     what came of the last one?")]
pub struct Update {
    /// Bundle to install: a file, or a URL that begins with https:// or http://
    #[arg(value_name = "FILE|URL")]
    pub source: Option<String>,
    /// Do not start the system again
    #[arg(long, requires = "source")]
    pub no_reboot: bool,
    /// Also a version that is older than one that ran well here; only as root
    #[arg(long, requires = "source")]
    pub allow_downgrade: bool,
    /// Socket of the update agent
    #[arg(long, value_name = "PATH", default_value = wire::SOCKET_PATH)]
    pub socket: PathBuf,
}

/// `update-agent`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Started by tidegate-update.socket; who may ask is decided by the mode of the socket. Ends after a minute without clients.

Examples:
  gateway-daemon update-agent                        listens on the socket that systemd passes
  gateway-daemon update-agent --socket /run/u.sock   without systemd")]
pub struct UpdateAgent {
    /// Socket to listen on, instead of the one that systemd passes
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Folder of what has to survive a reboot
    #[arg(long, value_name = "DIR", default_value = FOLDER_PATH)]
    pub state: PathBuf,
    /// Control socket of the running gateway
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub control: PathBuf,
    /// Configuration that may allow http://, where only root can change it
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    pub config: PathBuf,
    /// File that names the version of the running system
    #[arg(long, value_name = "FILE", default_value = OS_RELEASE_PATH)]
    pub os_release: PathBuf,
}

/// The file that names the version of the running system (os-release(5)).
const OS_RELEASE_PATH: &str = "/etc/os-release";

/// `health`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Ends at once with 0 when the running system is not on trial. Otherwise looks at the gateway every second: what worked before the update has
to work again, without a break. Exit code 0 when the system may stay, 1 when it has to go.

Examples:
  gateway-daemon health                              everything for 5 minutes, beginning within 15
  gateway-daemon health --for 10m --deadline 30m     where a modem needs long for its network
  gateway-daemon health --passed                     after `rauc status mark-good`")]
pub struct Health {
    /// How long everything has to work without a break
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = parse::duration)]
    pub steady: Duration,
    /// When everything has to work
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse::duration)]
    pub deadline: Duration,
    /// Only write down that the slot was marked good
    #[arg(long)]
    pub passed: bool,
    /// Folder of what has to survive a reboot
    #[arg(long, value_name = "DIR", default_value = FOLDER_PATH)]
    pub state: PathBuf,
    /// Control socket of the running gateway
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub control: PathBuf,
    /// File that names the version of the running system
    #[arg(long, value_name = "FILE", default_value = OS_RELEASE_PATH)]
    pub os_release: PathBuf,
}
