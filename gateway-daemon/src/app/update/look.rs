//! A look at the running gateway, through its control socket.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::update::trial::{Device, Observation, Sight};
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

    /// What is seen.
    pub(super) async fn look(&mut self) -> Sight {
        let sight = match timeout(ANSWER_MAX, self.ask()).await {
            Ok(Ok(Reply::Status(snapshot))) => Sight::State(observation(*snapshot)),
            Ok(Ok(Reply::Busy(_))) => Sight::Busy,
            // So many wait that not even the next one can.
            Ok(Err(fault)) if fault.kind() == ErrorKind::WouldBlock => Sight::Busy,
            _ => Sight::Silent,
        };
        if !matches!(sight, Sight::State(_)) {
            self.client = None;
        }
        sight
    }

    async fn ask(&mut self) -> io::Result<Reply> {
        let client = match &mut self.client {
            Some(client) => client,
            empty => empty.insert(Client::connect(&self.socket).await?),
        };
        client.ask(&Ask::Status).await?;
        client.reply().await
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
    use super::super::super::control::CLIENTS_MAX;
    use super::super::super::control::bench::Bench;
    use super::*;

    /// Long enough for a loaded machine; a green test never waits for it.
    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_gateway_without_a_place_for_who_looks_is_busy_and_seen_when_one_leaves() {
        let status = Snapshot { boot: "a-1".into(), ..Snapshot::default() };
        let bench = Bench::that_answers(Reply::Status(Box::new(status))).await;
        let mut guests = Vec::new();
        for _ in 0..CLIENTS_MAX {
            let mut guest = Client::connect(&bench.path).await.unwrap();
            guest.ask(&Ask::Status).await.unwrap();
            guest.reply().await.unwrap();
            guests.push(guest);
        }
        let mut looker = Looker::new(&bench.path);
        for _ in 0..3 {
            assert_eq!(looker.look().await, Sight::Busy);
        }
        guests.pop();
        // The gateway learns of the goodbye when it looks at the socket; until then it is still full.
        let seen = async {
            loop {
                match looker.look().await {
                    Sight::Busy => {}
                    sight => return sight,
                }
            }
        };
        let expected = Observation { run: "a-1".into(), ..Observation::default() };
        assert_eq!(timeout(DEADLINE, seen).await.unwrap(), Sight::State(expected));
    }

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
        assert_eq!(Looker::new(&dir.path().join("none.sock")).look().await, Sight::Silent);
    }
}
