//! Updates of the whole system: the commands `update`, `update-agent` and `health`, and the daemon's part for the cloud.

mod agent;
mod health;
mod install;
mod look;
mod orders;

pub(super) use agent::agent;
pub(super) use health::health;
pub(super) use install::update;
pub(super) use orders::Orders;

use std::future::Future;

use super::say;
use crate::cli::exit;

/// Runs on a runtime of one thread, as the daemon does; the exit code.
fn run(task: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(task),
        Err(fault) => {
            say::error(fault);
            exit::IO
        }
    }
}
