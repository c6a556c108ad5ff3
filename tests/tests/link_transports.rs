//! Every way of a byte to a real mosquitto: TCP, TLS, WebSocket, secure WebSocket, proxies, certificates and keys of every kind.

use anyhow::{Result, ensure};
use gateway_core::settings::{LinkSettings, ProxySettings, Secret, Transport};
use tidegate_tests::certs::{Authority, KeyFormat, Validity};
use tidegate_tests::links::{opened, plain, round_trip, secured};
use tidegate_tests::mosquitto::{Mosquitto, Options, TlsListener};
use tidegate_tests::proxy::{Answer, HttpProxy};

async fn plain_broker() -> Result<Mosquitto> {
    Mosquitto::start(&Options::default()).await
}

fn listener(
    authority: &Authority,
    require_certificate: bool,
    version: Option<&'static str>,
) -> Result<TlsListener> {
    let server = authority.server(&["localhost", "127.0.0.1"], Validity::Good)?;
    Ok(TlsListener { ca: authority.ca().to_owned(), server, require_certificate, version })
}

async fn tls_broker(
    authority: &Authority,
    require_certificate: bool,
    version: Option<&'static str>,
) -> Result<Mosquitto> {
    let tls = Some(listener(authority, require_certificate, version)?);
    Mosquitto::start(&Options { tls, ..Options::default() }).await
}

fn with_client(mut settings: LinkSettings, authority: &Authority, format: KeyFormat) -> Result<LinkSettings> {
    let device = authority.device("device-17", Validity::Good, format)?;
    if let Some(tls) = &mut settings.tls {
        tls.client = Some((device.cert, device.key));
    }
    Ok(settings)
}

fn through(mut settings: LinkSettings, port: u16, login: Option<(&str, &str)>) -> LinkSettings {
    let login = login.map(|(user, password)| (user.to_owned(), Secret::new(password)));
    settings.proxy = Some(ProxySettings { host: "127.0.0.1".into(), port, login });
    settings
}

#[tokio::test]
async fn tcp_carries_a_publish_and_its_acknowledgement() -> Result<()> {
    let broker = plain_broker().await?;
    println!("mosquitto {}", broker.version());
    round_trip(plain(broker.port())).await
}

#[tokio::test]
async fn a_host_name_works_as_well_as_an_address() -> Result<()> {
    let broker = plain_broker().await?;
    round_trip(LinkSettings { host: "localhost".into(), ..plain(broker.port()) }).await
}

/// What an independent client says about a server.
async fn tls_version_of(port: u16) -> Result<String> {
    let server = format!("127.0.0.1:{port}");
    let output = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", &server, "-brief"])
        .stdin(std::process::Stdio::null())
        .output()
        .await?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn tls_with_a_private_authority_works_with_1_2_and_1_3() -> Result<()> {
    let authority = Authority::new("plant ca")?;
    for version in ["tlsv1.2", "tlsv1.3"] {
        let broker = tls_broker(&authority, false, Some(version)).await?;
        round_trip(secured(broker.port(), authority.ca())).await?;
        let spoken = tls_version_of(broker.port()).await?;
        ensure!(spoken.contains(&version.replace("tls", "TLS")), "{spoken}");
    }
    Ok(())
}

#[tokio::test]
async fn tls_to_an_address_checks_the_address_in_the_certificate() -> Result<()> {
    let authority = Authority::new("plant ca")?;
    let broker = tls_broker(&authority, false, None).await?;
    round_trip(LinkSettings { host: "127.0.0.1".into(), ..secured(broker.port(), authority.ca()) }).await
}

#[tokio::test]
async fn a_server_name_of_its_own_is_checked_instead_of_the_host() -> Result<()> {
    let authority = Authority::new("plant ca")?;
    let server = authority.server(&["broker.internal"], Validity::Good)?;
    let tls = Some(TlsListener {
        ca: authority.ca().to_owned(),
        server,
        require_certificate: false,
        version: None,
    });
    let broker = Mosquitto::start(&Options { tls, ..Options::default() }).await?;
    let mut settings = secured(broker.port(), authority.ca());
    if let Some(tls) = &mut settings.tls {
        tls.server_name = Some("broker.internal".into());
    }
    round_trip(settings).await
}

#[tokio::test]
async fn client_keys_in_pkcs8_pkcs1_and_sec1_are_accepted_and_name_the_user() -> Result<()> {
    let authority = Authority::new("plant ca")?;
    let broker = tls_broker(&authority, true, None).await?;
    for format in [KeyFormat::Pkcs8, KeyFormat::Pkcs1, KeyFormat::Sec1] {
        round_trip(with_client(secured(broker.port(), authority.ca()), &authority, format)?).await?;
    }
    broker.log().wait("the common name as user", |line| line.contains("u'device-17'")).await;
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_works_with_tls_1_2_too() -> Result<()> {
    let authority = Authority::new("plant ca")?;
    let broker = tls_broker(&authority, true, Some("tlsv1.2")).await?;
    round_trip(with_client(secured(broker.port(), authority.ca()), &authority, KeyFormat::Pkcs1)?).await
}

#[tokio::test]
async fn websocket_carries_a_publish_and_its_acknowledgement() -> Result<()> {
    let broker = Mosquitto::start(&Options { websockets: true, ..Options::default() }).await?;
    round_trip(LinkSettings { transport: Transport::WebSocket, ..plain(broker.port()) }).await
}

#[tokio::test]
async fn secure_websocket_works_with_a_client_certificate() -> Result<()> {
    let authority = Authority::new("plant ca")?;
    let tls = Some(listener(&authority, true, None)?);
    let broker = Mosquitto::start(&Options { tls, websockets: true, ..Options::default() }).await?;
    let settings = with_client(secured(broker.port(), authority.ca()), &authority, KeyFormat::Pkcs8)?;
    round_trip(LinkSettings { transport: Transport::WebSocketTls, ..settings }).await
}

#[tokio::test]
async fn user_name_and_password_open_a_broker_that_wants_them() -> Result<()> {
    let broker =
        Mosquitto::start(&Options { password: Some(("plant7", "tide & gate")), ..Options::default() })
            .await?;
    let login = Some(("plant7".to_owned(), Some(Secret::new("tide & gate"))));
    round_trip(LinkSettings { login, ..plain(broker.port()) }).await
}

#[tokio::test]
async fn every_transport_works_through_an_http_proxy_with_a_login() -> Result<()> {
    // "Aladdin:open sesame", the example of RFC 7617.
    let answer = Answer::TunnelFor("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".into());
    let proxy = HttpProxy::start(answer).await?;
    let login = Some(("Aladdin", "open sesame"));
    let authority = Authority::new("plant ca")?;
    let tcp = plain_broker().await?;
    round_trip(through(plain(tcp.port()), proxy.port(), login)).await?;
    let tls = tls_broker(&authority, true, None).await?;
    let tls_settings = with_client(secured(tls.port(), authority.ca()), &authority, KeyFormat::Sec1)?;
    round_trip(through(tls_settings, proxy.port(), login)).await?;
    let ws = Mosquitto::start(&Options { websockets: true, ..Options::default() }).await?;
    let ws_settings = LinkSettings { transport: Transport::WebSocket, ..plain(ws.port()) };
    round_trip(through(ws_settings, proxy.port(), login)).await?;
    let listener = Some(listener(&authority, false, None)?);
    let wss = Mosquitto::start(&Options { tls: listener, websockets: true, ..Options::default() }).await?;
    let wss_settings =
        LinkSettings { transport: Transport::WebSocketTls, ..secured(wss.port(), authority.ca()) };
    round_trip(through(wss_settings, proxy.port(), login)).await?;
    assert_eq!(proxy.tunnels(), 4);
    Ok(())
}

#[tokio::test]
async fn a_proxy_without_login_looks_up_the_name_itself() -> Result<()> {
    let proxy = HttpProxy::start(Answer::Tunnel).await?;
    let broker = plain_broker().await?;
    round_trip(through(LinkSettings { host: "localhost".into(), ..plain(broker.port()) }, proxy.port(), None))
        .await
}

#[tokio::test]
async fn renewed_certificate_files_are_used_by_the_next_epoch_without_a_restart() -> Result<()> {
    let (old, authority) = (Authority::new("old ca")?, Authority::new("plant ca")?);
    let broker = tls_broker(&authority, true, None).await?;
    let settings = with_client(secured(broker.port(), authority.ca()), &old, KeyFormat::Pkcs8)?;
    assert!(opened(settings.clone()).await.is_err());
    let renewed = authority.device("device-17", Validity::Good, KeyFormat::Pkcs8)?;
    if let Some((cert, key)) = settings.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
        std::fs::rename(renewed.cert, cert)?;
        std::fs::rename(renewed.key, key)?;
    }
    round_trip(settings).await
}
