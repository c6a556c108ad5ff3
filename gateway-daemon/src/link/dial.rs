//! From a host name to a stream that speaks plain bytes: DNS, TCP, proxy, TLS. The WebSocket on top is rumqttc's.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::settings::{LinkSettings, Transport};
use gateway_core::uplink::loss::{Loss, Stage};
use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::badge::Badge;
use super::pulse::Pulse;
use super::tls::Tls;
use super::watched::{Socket, Trace, Watched, Wire};
use super::{classify, proxy, write_stall};

/// Addresses of one name that are tried in turn; more are ignored.
const ADDRESSES_MAX: usize = 8;

/// TCP keep-alive probes after the idle time before the kernel gives up.
const KEEPALIVE_PROBES: u32 = 3;

/// Makes the stream; `trace` knows how far it got.
///
/// # Errors
/// A [`Loss`] inside [`io::Error`], the only error rumqttc lets through.
pub(super) async fn dial(
    settings: Arc<LinkSettings>,
    tls: Option<Tls>,
    trace: Trace,
    deadline: Instant,
) -> io::Result<Box<dyn Wire>> {
    let tcp = match &settings.proxy {
        None => reach(&settings.host, settings.port, &settings, &trace, deadline)
            .await
            .map_err(io::Error::other)?,
        Some(through) => {
            let mut tcp = reach(&through.host, through.port, &settings, &trace, deadline)
                .await
                .map_err(|loss| io::Error::other(of_proxy(&through.host, through.port, &loss)))?;
            trace.with(|facts| facts.stage = Stage::Proxy);
            proxy::connect(&mut tcp, through, &settings.host, settings.port)
                .await
                .map_err(io::Error::other)?;
            tcp
        }
    };
    let tcp = Socket::new(tcp, write_stall(&settings), trace.clone());
    let after = match settings.transport {
        Transport::Tcp | Transport::Tls => Stage::Mqtt(settings.transport),
        Transport::WebSocket | Transport::WebSocketTls => Stage::WebSocket(settings.transport),
    };
    let Some(tls) = tls else {
        trace.with(|facts| facts.stage = after);
        return Ok(alive(tcp, after, &settings, trace));
    };
    trace.with(|facts| {
        facts.stage = Stage::Tls(settings.transport);
        facts.identity = Some(tls.identity.clone());
    });
    let secured = match tls.connector.connect(tls.name, tcp).await {
        Ok(stream) => stream,
        Err(e) => return Err(io::Error::other(trace.with(|facts| classify::of_io(&e, facts)))),
    };
    trace.with(|facts| facts.stage = after);
    Ok(alive(secured, after, &settings, trace))
}

/// The top of the stream: errors are kept, and a plain stream gets a pulse.
fn alive(stream: impl Wire + 'static, next: Stage, settings: &LinkSettings, trace: Trace) -> Box<dyn Wire> {
    match next {
        Stage::WebSocket(_) => Box::new(Watched::new(stream, trace)),
        _ => {
            let badge = Badge::new(stream, settings.bridge_bit);
            Box::new(Watched::new(Pulse::new(badge, settings.keep_alive), trace))
        }
    }
}

/// A proxy that cannot be reached is the proxy's fault, not the broker's.
fn of_proxy(host: &str, port: u16, loss: &Loss) -> Loss {
    let detail = match loss {
        Loss::Dns { detail, .. } | Loss::Tcp { detail, .. } => format!("{host}:{port}: {detail}"),
        other => format!("{host}:{port}: {}", other.word()),
    };
    Loss::Proxy { detail: detail.into() }
}

/// DNS and TCP. Each address gets an equal part of what is left of the time, so that a dead IPv6 route cannot use it all up.
async fn reach(
    host: &str,
    port: u16,
    settings: &LinkSettings,
    trace: &Trace,
    deadline: Instant,
) -> Result<TcpStream, Loss> {
    trace.with(|facts| facts.stage = Stage::Dns);
    let no_name = |detail: String| Loss::Dns { host: host.into(), detail: detail.into() };
    let found = lookup_host((host, port)).await.map_err(|e| no_name(e.to_string()))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    trace.with(|facts| facts.stage = Stage::Tcp);
    let mut last = no_name("it has no address".into());
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let parts = u32::try_from(addresses.len() - tried).unwrap_or(1);
        let tcp_loss = |e: &io::Error| Loss::Tcp {
            fault: classify::tcp_fault(e),
            stage: Some(Stage::Tcp),
            peer: Some(*address),
            detail: e.to_string().into(),
        };
        // The last address may use all that is left: then the limit of the whole attempt ends it and names the stage.
        let limit = if parts == 1 { left.saturating_mul(2) } else { left / parts };
        match timeout(limit, open(*address, settings)).await {
            Ok(Ok(stream)) => {
                let twin = stream.as_fd().try_clone_to_owned().ok();
                trace.with(|facts| {
                    facts.peer = Some(*address);
                    facts.twin = twin;
                });
                return Ok(stream);
            }
            Ok(Err(e)) => last = tcp_loss(&e),
            Err(_) => last = tcp_loss(&io::Error::from(io::ErrorKind::TimedOut)),
        }
    }
    Err(last)
}

async fn open(address: SocketAddr, settings: &LinkSettings) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let stall = write_stall(settings);
    let probe_every = (stall / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, stall)?;
    sockopt::set_tcp_keepintvl(&socket, probe_every)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(&socket, u32::try_from(stall.as_millis()).unwrap_or(u32::MAX))?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::settings;

    #[tokio::test]
    async fn the_socket_notices_a_dead_line_by_itself() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings();
        settings.keep_alive = Duration::from_secs(30);
        let stream = open(listener.local_addr().unwrap(), &settings).await.unwrap();
        assert!(sockopt::tcp_nodelay(&stream).unwrap());
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 30_000);
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(30));
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), Duration::from_secs(10));
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), KEEPALIVE_PROBES);
    }
}
