//! Updates of the whole system: the real agent, client and health gate beside a pretend RAUC and a real gateway.

#[path = "e2e_update/agent.rs"]
mod agent;
#[path = "e2e_update/downgrade.rs"]
mod downgrade;
#[path = "e2e_update/health.rs"]
mod health;
#[path = "e2e_update/orders.rs"]
mod orders;
#[path = "e2e_update/scripts.rs"]
mod scripts;

use std::process::Output;

/// The exit code, and everything that was said.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}
