//! A look at the running gateway, through its control socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::update::trial::{Device, Observation};
use tokio::time::timeout;

use super::super::control::{Ask, Client, Reply};
use super::super::snapshot::{self, Health, Snapshot};

/// A gateway that is asked and does not answer within this is busy or stuck.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Who looks: keeps its connection, because the socket has few places.
#[derive(Debug)]
pub(super) struct Looker {
    socket: PathBuf,
    client: Option<Client>,
}

impl Looker {
    /// Looks at the gateway behind this socket.
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.into(), client: None }
    }

    /// What is seen; `None` when the gateway does not answer.
    pub(super) async fn look(&mut self) -> Option<Observation> {
        let seen = timeout(ANSWER_MAX, self.ask()).await.ok().flatten();
        if seen.is_none() {
            self.client = None;
        }
        seen
    }

    async fn ask(&mut self) -> Option<Observation> {
        let client = match &mut self.client {
            Some(client) => client,
            empty => empty.insert(Client::connect(&self.socket).await.ok()?),
        };
        client.ask(&Ask::Status).await.ok()?;
        match client.reply().await.ok()? {
            Reply::Status(snapshot) => Some(observation(*snapshot)),
            _ => None,
        }
    }
}

fn observation(snapshot: Snapshot) -> Observation {
    Observation {
        run: snapshot.boot,
        buses: snapshot.buses.into_iter().map(|bus| (bus.name, bus.answers)).collect(),
        devices: snapshot.devices.into_iter().map(device).collect(),
        uplinks: snapshot.uplinks.into_iter().map(|uplink| (uplink.name, uplink.acks)).collect(),
        store_fault: snapshot.store.fault,
        stores_lost: snapshot.store.moved_aside,
    }
}

/// A lost answer now and then is life on a line: what has answered and is not given up answers.
fn device(device: snapshot::Device) -> Device {
    let answers = match device.health {
        Health::Good => true,
        Health::Failing => device.answered,
        Health::Unknown | Health::Dead | Health::Down => false,
    };
    Device { bus: device.bus, name: device.name, answers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_only_failing_answers_if_it_ever_did() {
        for (health, answered, answers) in [
            (Health::Good, true, true),
            (Health::Failing, true, true),
            (Health::Failing, false, false),
            (Health::Dead, true, false),
            (Health::Unknown, false, false),
            (Health::Down, true, false),
        ] {
            // A second try is under way: what was sent says nothing.
            let (requests, errors) = (2, 1);
            let seen = device(snapshot::Device { health, requests, errors, answered, ..Default::default() });
            assert_eq!(seen.answers, answers, "{health:?}");
        }
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_seen_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Looker::new(&dir.path().join("none.sock")).look().await, None);
    }
}
