//! `run`: the gateway with its control socket, until a signal stops it.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::check;
use super::control::Control;
use super::gateway::{Course, Gateway};
use crate::cli;
use crate::status::journal;

/// Threads for lines and links beside the one that runs the core loop. With a second one, each of the few messages of a quiet second also
/// wakes a thread that finds nothing to do. Measured with `bench_gateway`, 2 and 1: 0.57 and 0.40 % of a core at 1,000 tags/s, 0.4 MiB
/// less, and a drain of 0.90 and 0.87 of rumqttc alone.
const WORKERS: usize = 1;

/// `run`: the exit code.
#[must_use]
pub fn run(args: &cli::Run) -> u8 {
    journal::init(drivers::clock::now);
    let config = match check::load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
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
