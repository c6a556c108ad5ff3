//! The handshakes of TLS and WebSocket, each in a task of its own: whoever stalls there holds up nobody.
//!
//! Bound: so many at once for each listener as [`gateway_core::fit::handshakes_max`] says, and a quarter of them for one address (64 bits of IPv6). An
//! address that has its quarter replaces its own oldest. When all places are taken, the oldest of the address that has most gives way at once to a
//! client of an address that has fewer; to one of an address that has as many, once it is older than `GIVE_WAY`. So neither a crowd of honest clients
//! that all come at once nor a crowd of dishonest ones that never finish locks the others out.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::broker::Origin;
use gateway_core::broker::access::Peer;
use gateway_core::settings::CertificateIdentity;
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::FLUSH_MAX;
use super::accept::{Arrived, Shared, count};
use super::coat::{Coat, CoatFault};
use super::frames::Frames;
use super::identity;
use super::upgrade::{self, Page, Verdict};
use crate::panics::Contained;

/// Age from which a handshake is cut when a client of an address that has as many waits for its place: a thousand times what one takes on a local network.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// The part of the places that one address may have.
const ADDRESS_PART: usize = 4;

/// Most bytes read at once during a handshake.
const READ_BYTES_MAX: usize = 4 << 10;

/// What the handshakes of a listener have in common.
pub(super) struct Door {
    pub(super) name: String,
    /// Index of the listener in its settings.
    pub(super) index: usize,
    /// The WebSocket; `None` is plain MQTT.
    pub(super) page: Option<Arc<Page>>,
    pub(super) packet_bytes_max: usize,
    pub(super) handshake_max: Duration,
    pub(super) shared: Shared,
}

/// TLS configuration, and which name of a client's certificate is its user.
pub(super) type Tls = (Arc<ServerConfig>, CertificateIdentity);

/// Why a client did not get in.
#[derive(Debug, thiserror::Error)]
enum HandshakeFault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Coat(#[from] CoatFault),
    #[error("{0}")]
    Upgrade(String),
    /// Its origin or host is not in the list.
    #[error("{0}")]
    Page(String),
}

/// One handshake under way.
struct Entry {
    began: Instant,
    peer: Peer,
    task: AbortHandle,
}

/// The handshakes of one listener that are going on. Dropping it cuts them.
#[derive(Default)]
pub(super) struct Handshakes {
    tasks: JoinSet<()>,
    /// In the order of their beginning.
    order: VecDeque<Entry>,
}

/// Who makes room for one more.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    /// There is room.
    Free,
    /// The handshake with this index in the order of their beginning.
    Of(usize),
    /// The same, once it is older than [`GIVE_WAY`].
    Later(usize),
}

/// Which of the handshakes of `peers`, in the order of their beginning, makes room for one of `newcomer`.
fn room(peers: &[&Peer], newcomer: &Peer, places: usize) -> Room {
    let mut counts: BTreeMap<&Peer, usize> = BTreeMap::new();
    for peer in peers {
        *counts.entry(*peer).or_default() += 1;
    }
    let own = counts.get(newcomer).copied().unwrap_or(0);
    if own >= (places / ADDRESS_PART).max(1) {
        return peers.iter().position(|peer| *peer == newcomer).map_or(Room::Free, Room::Of);
    }
    if peers.len() < places {
        return Room::Free;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    let oldest = peers.iter().position(|peer| counts.get(*peer) == Some(&most));
    match oldest {
        None => Room::Free,
        Some(oldest) if own < most => Room::Of(oldest),
        Some(oldest) => Room::Later(oldest),
    }
}

impl Handshakes {
    /// Starts one when there is room.
    pub(super) async fn start(
        &mut self,
        door: &Arc<Door>,
        tls: Option<Tls>,
        socket: (TcpStream, OwnedSemaphorePermit),
        peer: IpAddr,
    ) {
        let address = Peer::of(&peer.to_string());
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.order.retain(|entry| !entry.task.is_finished());
            let peers: Vec<&Peer> = self.order.iter().map(|entry| &entry.peer).collect();
            match room(&peers, &address, door.shared.handshakes_max) {
                Room::Free => break,
                Room::Of(index) => self.cut(door, index).await,
                Room::Later(index) => {
                    let due = self.order[index].began + GIVE_WAY;
                    if due <= Instant::now() {
                        self.cut(door, index).await;
                    } else {
                        tokio::select! { _ = self.tasks.join_next() => {}, () = sleep_until(due) => {} }
                    }
                }
            }
        }
        let entering = enter(Arc::clone(door), tls, socket, peer);
        let task = self.tasks.spawn(Contained::new("the handshake of a client", entering));
        self.order.push_back(Entry { began: Instant::now(), peer: address, task });
    }

    /// Cuts one, and waits until the runtime has dropped it.
    async fn cut(&mut self, door: &Door, index: usize) {
        if let Some(entry) = self.order.remove(index) {
            count(&door.shared.tally.handshakes_cut);
            entry.task.abort();
            self.tasks.join_next().await;
        }
    }
}

/// One client, from its first byte to the doors.
async fn enter(
    door: Arc<Door>,
    tls: Option<Tls>,
    (stream, place): (TcpStream, OwnedSemaphorePermit),
    peer: IpAddr,
) {
    let (config, wanted) = tls.map_or((None, CertificateIdentity::None), |(config, id)| (Some(config), id));
    let mut hall = Hall { stream, coat: Coat::default(), plain: Vec::new(), wire: Vec::new() };
    let fault = match timeout(door.handshake_max, hall.pass(config, &door)).await {
        Ok(Ok(())) => {
            let certificate = hall.coat.certificate().and_then(|der| identity::name(der, wanted));
            let origin = Origin { listener: door.index, peer: peer.to_string(), certificate };
            let arrived = Arrived { stream: hall.stream, origin, coat: hall.coat, early: hall.plain, place };
            // Nobody is there only when the doors close.
            let _ = door.shared.arrived.send(arrived).await;
            return;
        }
        Ok(Err(fault)) => {
            if matches!(fault, HandshakeFault::Page(_)) {
                count(&door.shared.tally.pages_refused);
            }
            fault.to_string()
        }
        Err(_) => format!("not done within {} s", door.handshake_max.as_secs_f32()),
    };
    count(&door.shared.tally.handshakes_failed);
    let name = door.name.as_str();
    log::info!(listener = name, reason = fault.as_str(); "listener {name}: handshake with {peer} failed: {fault}");
    let _ = timeout(FLUSH_MAX, hall.part()).await;
}

/// A connection on its way in.
struct Hall {
    stream: TcpStream,
    coat: Coat,
    /// What the client said inside its TLS.
    plain: Vec<u8>,
    /// What is to be written.
    wire: Vec<u8>,
}

impl Hall {
    async fn pass(&mut self, config: Option<Arc<ServerConfig>>, door: &Door) -> Result<(), HandshakeFault> {
        if let Some(config) = config {
            self.coat = Coat::tls(config).map_err(CoatFault::Tls)?;
            while self.coat.is_handshaking() {
                self.turn().await?;
            }
        }
        let Some(page) = &door.page else { return Ok(()) };
        loop {
            match upgrade::judge(&self.plain, page) {
                Verdict::More => self.turn().await?,
                Verdict::Refused { answer, why } => {
                    self.coat.encrypt(answer.as_bytes(), &mut self.wire);
                    return Err(HandshakeFault::Upgrade(why));
                }
                Verdict::Forbidden { answer, why } => {
                    self.coat.encrypt(answer.as_bytes(), &mut self.wire);
                    return Err(HandshakeFault::Page(why));
                }
                Verdict::Welcome { answer, used } => {
                    self.coat.encrypt(answer.as_bytes(), &mut self.wire);
                    self.plain.drain(..used);
                    self.coat.put_on(Frames::new(door.packet_bytes_max));
                    self.coat.unframe(&mut self.plain, &mut self.wire)?;
                    return Ok(self.write().await?);
                }
            }
        }
    }

    /// Reads once, and writes what is to be said to that.
    async fn turn(&mut self) -> Result<(), HandshakeFault> {
        self.stream.readable().await?;
        let outcome = self.read();
        if outcome.is_ok() { Ok(self.write().await?) } else { outcome }
    }

    fn read(&mut self) -> Result<(), HandshakeFault> {
        let mut bytes = [0; READ_BYTES_MAX];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => Err(CoatFault::Closed.into()),
            Ok(read) => Ok(self.coat.take_off(&bytes[..read], &mut self.plain, &mut self.wire)?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.wire).await?;
        self.wire = Vec::new();
        Ok(())
    }

    /// Says the last words and waits until the client has read them: closing with unread bytes would throw them away.
    async fn part(&mut self) -> Result<(), HandshakeFault> {
        self.coat.farewell(&mut self.wire);
        self.write().await?;
        self.stream.shutdown().await?;
        let mut bytes = [0; 512];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of which one address may have two.
    const PLACES: usize = 8;

    #[track_caller]
    fn check(inside: &str, newcomer: &str, expected: Room) {
        let peers: Vec<Peer> = inside.chars().map(|last| Peer::of(&format!("10.0.0.{last}"))).collect();
        let peers: Vec<&Peer> = peers.iter().collect();
        assert_eq!(room(&peers, &Peer::of(&format!("10.0.0.{newcomer}")), PLACES), expected);
    }

    #[test]
    fn an_address_that_has_its_part_replaces_its_own_oldest() {
        check("", "1", Room::Free);
        check("1", "1", Room::Free);
        check("211", "1", Room::Of(1));
        check("2211", "3", Room::Free);
    }

    #[test]
    fn when_all_places_are_taken_the_address_with_most_gives_way_to_one_with_fewer() {
        check("12233445", "6", Room::Of(1));
        check("12233445", "1", Room::Of(1));
        // As many as anybody: a grace for those who are at work.
        check("12345678", "9", Room::Of(0));
        check("12345678", "8", Room::Later(0));
    }
}
