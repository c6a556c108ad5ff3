//! `run`: the gateway with its control socket, until a signal stops it.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::check;
use super::control::Control;
use super::gateway::{Course, Gateway};
use crate::cli;
use crate::status::journal;

/// `run`: the exit code.
#[must_use]
pub fn run(args: &cli::Run) -> u8 {
    journal::init(drivers::clock::now);
    let config = match check::load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // One thread for the core loop, lines, links and clients; only the store's transactions and password hashes have others. With a worker beside
    // it, whatever comes by a socket wakes both. Measured, two threads and one: 5.7 and 2.4 s of CPU for 100,000 round trips of a client
    // (`bench_broker`), 0.164 and 0.135 cores at 200,000 values/s, and a drain of 1.14 and 1.29 of rumqttc alone (`bench_gateway`).
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return failed("no runtime", &fault),
    };
    runtime.block_on(async {
        let socket = config.gateway.socket.clone();
        let control = match open_control(&socket).await {
            Ok(control) => control,
            Err(fault) => return failed("cannot start", &fault),
        };
        let gateway = match Gateway::start(config).await {
            Ok(gateway) => gateway,
            Err(fault) => return failed("cannot start", &fault),
        };
        let course = match stop_signals() {
            Ok(course) => course,
            Err(fault) => return failed("signals", &fault),
        };
        let serving = tokio::spawn(control.serve(gateway.requests()));
        let lost = gateway.run(course).await;
        serving.abort();
        if lost == 0 { cli::exit::OK } else { cli::exit::IO }
    })
}

async fn open_control(socket: &Path) -> Result<Control, super::control::ControlError> {
    if let Some(folder) = socket.parent() {
        // If it cannot be made, binding says why.
        let _ = std::fs::create_dir_all(folder);
    }
    Control::bind(socket).await
}

fn failed(what: &str, fault: &dyn std::fmt::Display) -> u8 {
    log::error!("{what}: {fault}");
    cli::exit::IO
}

/// Says stop once SIGTERM or SIGINT came.
fn stop_signals() -> std::io::Result<watch::Receiver<Course>> {
    let (say, course) = watch::channel(Course::Work);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        say.send_replace(Course::Stop);
    });
    Ok(course)
}
