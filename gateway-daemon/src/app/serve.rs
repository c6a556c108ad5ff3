//! `run`: the gateway with its control socket, until a signal stops it; another signal makes it read its file again.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::check;
use super::control::Control;
use super::gateway::{Course, Gateway};
use super::stray;
use crate::cli;

/// `run`: the exit code.
#[must_use]
pub fn run(args: &cli::Run) -> u8 {
    drivers::memory::give_back_at_once();
    if let Err(code) = super::begin_log() {
        return code;
    }
    // One thread for the core loop, lines, links and clients; only the store's transactions and password hashes have others. With a worker beside
    // it, whatever comes by a socket wakes both. Measured, two threads and one: 5.7 and 2.4 s of CPU for 100,000 round trips of a client
    // (`bench_broker`), 0.164 and 0.135 cores at 200,000 values/s, and a drain of 1.14 and 1.29 of rumqttc alone (`bench_gateway`).
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return failed("no runtime", &fault),
    };
    // First, because SIGHUP ends a process that does not listen to it.
    let (course, hung_up) = match runtime.block_on(async { signals() }) {
        Ok(signals) => signals,
        Err(fault) => return failed("signals", &fault),
    };
    let config = match check::load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
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
        let gateway = gateway.with_file(args.config.clone(), hung_up);
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

/// Says stop once SIGTERM or SIGINT came, and asks for a reload with every SIGHUP; those that come while one waits are one. The others are ignored.
fn signals() -> std::io::Result<(watch::Receiver<Course>, mpsc::Receiver<()>)> {
    stray::ignore()?;
    let (say, course) = watch::channel(Course::Work);
    let (ask, asked) = mpsc::channel(1);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        say.send_replace(Course::Stop);
    });
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            // Full means that a reload is asked for already.
            if let Err(mpsc::error::TrySendError::Closed(())) = ask.try_send(()) {
                return;
            }
        }
    });
    Ok((course, asked))
}
