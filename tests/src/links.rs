//! What tests of the cloud connection share: settings to begin with, and events to wait for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use gateway_core::settings::{LinkSettings, TlsSettings, Transport};
use gateway_core::uplink::link::{Epoch, LinkCommand, LinkEvent, Token};
use gateway_core::uplink::loss::Loss;
use gateway_core::uplink::row::Qos;
use gateway_daemon::link::{self, Link};

use crate::wait::within;

/// Plain TCP to a local port.
#[must_use]
pub fn plain(port: u16) -> LinkSettings {
    LinkSettings {
        transport: Transport::Tcp,
        host: "127.0.0.1".into(),
        port,
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

/// TLS to `localhost` at a local port.
#[must_use]
pub fn secured(port: u16, ca: &std::path::Path) -> LinkSettings {
    let tls = TlsSettings { ca: Some(ca.to_owned()), client: None, server_name: None, alpn: Vec::new() };
    LinkSettings { transport: Transport::Tls, host: "localhost".into(), tls: Some(tls), ..plain(port) }
}

/// Starts an epoch without a will.
#[must_use]
pub fn open(settings: LinkSettings) -> Link {
    link::spawn(Arc::new(settings), Epoch(1), None)
}

/// The next event.
///
/// # Errors
/// When there are no more.
pub async fn next(link: &mut Link) -> Result<LinkEvent> {
    match within("an event of the link", link.events.recv()).await {
        Some(event) => Ok(event),
        None => bail!("the link has no more events"),
    }
}

/// Waits until the connection is up; gives whether the session was kept.
///
/// # Errors
/// When something else happens.
pub async fn up(link: &mut Link) -> Result<bool> {
    match next(link).await? {
        LinkEvent::Up { session_present } => Ok(session_present),
        other => bail!("{other:?} instead of up"),
    }
}

/// An epoch that is up.
///
/// # Errors
/// When it does not come up.
pub async fn opened(settings: LinkSettings) -> Result<Link> {
    let mut link = open(settings);
    up(&mut link).await?;
    Ok(link)
}

/// Why the attempt failed or the connection ended; skips everything before.
///
/// # Errors
/// When the events end without a reason, or go on after it.
pub async fn loss(link: &mut Link) -> Result<Loss> {
    loop {
        if let LinkEvent::Down { loss, .. } = next(link).await? {
            return match link.events.recv().await {
                None => Ok(loss),
                Some(after) => bail!("{after:?} after down"),
            };
        }
    }
}

/// A publish with QoS 1.
#[must_use]
pub fn message(token: u64, topic: &str, payload: &[u8]) -> LinkCommand {
    LinkCommand::Publish {
        token: Token(token),
        topic: topic.into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        payload: payload.to_vec(),
    }
}

/// Gives the link a command.
///
/// # Errors
/// When it does not take it.
pub fn order(link: &Link, command: LinkCommand) -> Result<()> {
    Ok(link.commands.try_send(command)?)
}

/// Waits for this acknowledgement and nothing else.
///
/// # Errors
/// When something else comes.
pub async fn acked(link: &mut Link, token: u64) -> Result<()> {
    match next(link).await? {
        LinkEvent::Acked { token: Token(got) } if got == token => Ok(()),
        other => bail!("{other:?} instead of the acknowledgement of {token}"),
    }
}

/// Publishes once with QoS 1, waits for its PUBACK and stops cleanly: the whole way works.
///
/// # Errors
/// When any of it fails.
pub async fn round_trip(settings: LinkSettings) -> Result<()> {
    let mut link = opened(settings).await?;
    order(&link, message(7, "plant/line", b"42"))?;
    acked(&mut link, 7).await?;
    order(&link, LinkCommand::Disconnect)?;
    match loss(&mut link).await? {
        Loss::Stopped => Ok(()),
        other => bail!("{other} instead of a clean stop"),
    }
}
