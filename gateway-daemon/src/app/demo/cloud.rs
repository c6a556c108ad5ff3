//! The pretend cloud: a broker on a loopback port of this process that subscribes to everything and counts it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use gateway_core::broker::{Broker, Limits, TopicFilter};
use gateway_core::uplink::row::Qos;
use tokio::net::TcpListener;

use super::arrivals::Arrivals;
use crate::listen::{Server, serve};

/// A broker that can be cut off and brought back, sessions intact, as a cloud behind a broken line.
pub struct Cloud {
    addr: SocketAddr,
    state: State,
    /// The broker's task writes, the picture reads twice a second: nobody waits to speak of.
    arrivals: Arc<Mutex<Arrivals>>,
}

enum State {
    Up(Server),
    Cut(Box<Broker>),
    /// The broker's task has panicked; there is nothing to bring back.
    Gone,
}

impl Cloud {
    /// Opens it on any free loopback port.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn start() -> anyhow::Result<Self> {
        let mut broker = Broker::in_memory(Limits::default());
        let everything = TopicFilter::new("#").context("'#' is a filter")?;
        broker.open_bridge([(everything, Qos::ExactlyOnce)])?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot open a loopback port")?;
        let addr = listener.local_addr().context("the port has no address")?;
        let arrivals = Arc::default();
        let server = open(listener, broker, &arrivals)?;
        Ok(Self { addr, state: State::Up(server), arrivals })
    }

    /// Where the gateway connects to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What has arrived.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the port and drops every connection.
    pub async fn cut(&mut self) {
        if let State::Up(server) = std::mem::replace(&mut self.state, State::Gone)
            && let Some(broker) = server.stop().await
        {
            self.state = State::Cut(Box::new(broker));
        }
    }

    /// Opens the same port again, with the sessions of before.
    ///
    /// # Errors
    /// The port cannot be opened again.
    pub async fn restore(&mut self) -> anyhow::Result<()> {
        if matches!(self.state, State::Cut(_)) {
            let listener = TcpListener::bind(self.addr)
                .await
                .with_context(|| format!("cannot open {} again", self.addr))?;
            if let State::Cut(broker) = std::mem::replace(&mut self.state, State::Gone) {
                self.state = State::Up(open(listener, *broker, &self.arrivals)?);
            }
        }
        Ok(())
    }
}

fn open(listener: TcpListener, broker: Broker, arrivals: &Arc<Mutex<Arrivals>>) -> io::Result<Server> {
    let arrivals = Arc::clone(arrivals);
    let count = move |_, _, draft: gateway_core::payload::Draft| {
        arrivals.lock().unwrap_or_else(PoisonError::into_inner).take(draft.body.bytes());
    };
    serve(listener, broker, drivers::clock::now, Box::new(count))
}
