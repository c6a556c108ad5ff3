//! One connection to the cloud's broker: DNS, TCP, proxy, TLS, WebSocket, MQTT. The only user of rumqttc.
//!
//! One epoch is one attempt and, if it succeeds, one connection, with a fresh client that is thrown away at its end. So
//! nothing is re-sent here, no packet id outlives its connection, and an acknowledgement of an older connection cannot be seen:
//! the queue of the uplink machine is the truth, this room holds copies of what is in flight. Nothing reconnects here either; the machine
//! decides when the next epoch begins.
//!
//! ```text
//! machine --LinkCommand--> [ Link task: one rumqttc event loop ] --socket--> broker
//!         <--LinkEvent----
//! ```
//!
//! Bounds: [`COMMANDS_MAX`] commands and [`EVENTS_MAX`] events wait in channels, [`IN_FLIGHT_MAX`] publishes are unacknowledged (then
//! commands wait), one packet has at most `packet_bytes_max` bytes in either direction. When nobody takes the events, the link stops
//! reading and the broker feels it; nothing is dropped. Every wait has a limit: connecting `connect_timeout`, a write without progress
//! [`write_stall`], a clean stop [`FLUSH_MAX`] + [`GOODBYE_MAX`].
//!
//! Messages of the cloud are acknowledged when the machine says that they are safe, in their order; the link reads and pings all the while.
//!
//! Never: re-sends, reconnects, subscribes by itself, logs a secret, or decides that an acknowledgement is late (the machine does).

mod badge;
mod classify;
mod dial;
mod downlink;
mod packet;
mod proxy;
mod pulse;
mod run;
mod tls;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use gateway_core::settings::LinkSettings;
use gateway_core::uplink::link::{Epoch, LinkCommand, LinkEvent, Will};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Commands that wait for the link: a full window (1000) and the status and ledger messages, so a machine that keeps its window never
/// finds the channel full.
pub const COMMANDS_MAX: usize = 1024;

/// Events that wait for the machine: an acknowledgement for everything in flight.
pub const EVENTS_MAX: usize = 1024;

/// Publishes handed to the client and not acknowledged; the largest window and some.
pub const IN_FLIGHT_MAX: u16 = 1024;

/// A clean stop waits this long for the acknowledgements of what is in flight.
pub const FLUSH_MAX: Duration = Duration::from_secs(5);

/// After DISCONNECT the broker gets this long to close, so that no reset can overtake the DISCONNECT.
pub const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Without a single byte taken by the socket for this long, the link is given up: the keep-alive within 10 s and 2 min. Also
/// `TCP_USER_TIMEOUT` and the idle time of TCP keep-alive, so that a dead line is noticed where nothing waits for a PUBACK.
#[must_use]
pub fn write_stall(settings: &LinkSettings) -> Duration {
    settings.keep_alive.clamp(Duration::from_secs(10), Duration::from_secs(120))
}

/// A running epoch. Dropping it cuts the connection at once, without DISCONNECT: the broker publishes the will.
#[derive(Debug)]
pub struct Link {
    /// Its number, as given to [`spawn`].
    pub epoch: Epoch,
    /// Orders; closed after [`LinkEvent::Down`]. Use `try_send`: full means that more than [`COMMANDS_MAX`] were never taken.
    pub commands: mpsc::Sender<LinkCommand>,
    /// What happens; `None` after [`LinkEvent::Down`]. Cancel-safe in `select!`.
    pub events: mpsc::Receiver<LinkEvent>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts one epoch: reads the certificate files, connects, and serves commands until the connection ends.
///
/// Exactly one [`LinkEvent::Down`] comes, as the last event. `will` is what the broker publishes if we vanish.
///
/// # Panics
/// Outside a tokio runtime.
#[must_use]
pub fn spawn(settings: Arc<LinkSettings>, epoch: Epoch, will: Option<Will>) -> Link {
    let (commands, commands_rx) = mpsc::channel(COMMANDS_MAX);
    let (events_tx, events) = mpsc::channel(EVENTS_MAX);
    let task = tokio::spawn(run::epoch(settings, will, commands_rx, events_tx));
    Link { epoch, commands, events, task }
}

#[cfg(test)]
mod tests {
    use gateway_core::settings::Transport;

    use super::*;

    pub(super) fn settings() -> LinkSettings {
        LinkSettings {
            transport: Transport::Tcp,
            host: "127.0.0.1".into(),
            port: 1,
            path: "/mqtt".into(),
            tls: None,
            proxy: None,
            client_id: "gateway-1".into(),
            login: None,
            clean_session: false,
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(30),
            packet_bytes_max: 256 * 1024,
            bridge_bit: false,
            others: Vec::new(),
        }
    }

    #[test]
    fn the_stall_limit_follows_the_keep_alive_within_its_bounds() {
        for (keep_alive_s, expected_s) in [(5, 10), (30, 30), (64_800, 120)] {
            let settings = LinkSettings { keep_alive: Duration::from_secs(keep_alive_s), ..settings() };
            assert_eq!(write_stall(&settings), Duration::from_secs(expected_s));
        }
    }
}
