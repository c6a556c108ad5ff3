//! `demo`: the demo's script around the same gateway that `run` starts.

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::control::{Ask, Peer, Reply, Request};
use super::demo;
use super::gateway::{Course, Gateway};
use super::say;
use super::snapshot::Snapshot;
use crate::cli::{self, exit};

/// `demo`: the exit code.
#[must_use]
pub(crate) fn demo(args: &cli::Demo) -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(demo::run(args, |config| async {
            let gateway = Gateway::start(config).await?;
            let requests = gateway.requests();
            let (course, told) = watch::channel(Course::Work);
            Ok(Shown { requests, course, task: tokio::spawn(gateway.run(told)) })
        }))
    });
    done.unwrap_or_else(|fault| {
        say::error(format_args!("{fault:#}"));
        exit::IO
    })
}

/// The gateway that the demo shows.
struct Shown {
    requests: mpsc::Sender<Request>,
    course: watch::Sender<Course>,
    task: JoinHandle<u64>,
}

impl Shown {
    /// One answer; a gateway that has ended has none.
    async fn ask(&self, ask: Ask) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { ask, by: Peer::default(), reply }).await.ok()?;
        answer.await.ok()
    }
}

impl demo::Gateway for Shown {
    async fn snapshot(&mut self) -> Snapshot {
        match self.ask(Ask::Status).await {
            Some(Reply::Status(snapshot)) => *snapshot,
            _ => Snapshot::default(),
        }
    }

    async fn write(&mut self, device: &str, tag: &str, value: &str) -> Result<(), String> {
        let (device, tag, value) = (device.to_owned(), tag.to_owned(), value.to_owned());
        match self.ask(Ask::Write { device, tag, value }).await {
            Some(Reply::Refused(why) | Reply::Unknown(why)) => Err(why),
            Some(_) => Ok(()),
            None => Err("the gateway has ended".into()),
        }
    }

    async fn stop_field(&mut self) {
        self.course.send_replace(Course::Drain);
    }

    async fn stop(self) {
        self.course.send_replace(Course::Stop);
        if let Err(fault) = self.task.await {
            say::error(format_args!("the gateway ended badly: {fault}"));
        }
    }
}
