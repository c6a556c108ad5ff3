//! WebSocket listeners.

use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::tungstenite::{Message, client as websocket_client};
use gateway_core::broker::{Broker, CloseReason, Limits};
use gateway_core::settings::{CertificateIdentity, ListenerSettings};
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::frames::frame;
use super::pki::{Authority, Files, client, connect, plain};
use super::{Doors, Incoming, PATIENCE, Server, clock};

fn serving(settings: ListenerSettings) -> Server {
    let doors = Doors::open(&[settings], &Limits::default()).unwrap();
    Server::over(doors, Broker::in_memory(Limits::default()), clock, Box::new(|_, _, _| {}))
}

fn request(path: &str, protocols: &str) -> String {
    let offer =
        if protocols.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocols}\r\n") };
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
}

/// The head of an HTTP answer.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    timeout(PATIENCE, async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
    })
    .await
    .expect("in time");
    String::from_utf8(head).unwrap()
}

async fn asked(server: &Server, text: &str) -> String {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    head(&mut stream).await
}

async fn exact(stream: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    timeout(PATIENCE, stream.read_exact(&mut got)).await.expect("in time").unwrap();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn the_sub_protocol_offered_is_the_one_answered() {
    let server = serving(plain(Some("/mqtt")));
    for (offer, answer) in [
        ("mqtt", "mqtt"),
        ("mqttv3.1", "mqttv3.1"),
        ("mqttv3.1.1", "mqttv3.1.1"),
        ("chat, mqttv3.1 , mqtt", "mqttv3.1"),
        ("chat\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
    ] {
        let head = asked(&server, &request("/mqtt", offer)).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{offer}: {head}");
        assert!(head.contains(&format!("\r\nSec-WebSocket-Protocol: {answer}\r\n")), "{offer}: {head}");
        // The key of RFC 6455, 1.3, and its answer.
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    }
}

#[tokio::test]
async fn requests_that_are_not_for_us_are_refused_in_words_of_http() {
    let server = serving(plain(Some("/mqtt")));
    let good = request("/mqtt", "mqtt");
    let check = async |text: &str, status: &str| {
        let head = asked(&server, text).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{text}\n{head}");
    };
    check(&request("/", "mqtt"), "404").await;
    check(&request("/mqtt/more", "mqtt"), "404").await;
    check(&request("/mqtt", ""), "400").await;
    check(&request("/mqtt", "chat, MQTT"), "400").await;
    check("GET /mqtt HTTP/1.1\r\nHost: gateway\r\n\r\n", "426").await;
    check(&good.replace("Version: 13", "Version: 8"), "426").await;
    check(&good.replace("Sec-WebSocket-Key", "X-Key"), "426").await;
    check(&good.replace("GET", "POST"), "400").await;
    check(&good.replace("HTTP/1.1", "HTTP/1.0"), "400").await;
    check("\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0\r\n\r\n", "400").await;
    check(&format!("GET /mqtt HTTP/1.1\r\nCookie: {}", "x".repeat(20_000)), "431").await;
}

#[tokio::test]
async fn packets_are_split_and_joined_across_frames_and_answers_come_in_binary_frames() {
    let server = serving(plain(Some("/mqtt")));
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let packets = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01w\xc0\0\x82\x06\0\x07\0\x01t\x01";
    // The first frame comes along with the request, which is more than a client may do.
    let frames = [
        request("/mqtt", "mqtt").into_bytes(),
        frame(0x82, &packets[..3]),
        frame(0x02, &packets[3..16]),
        frame(0x89, b"are you there"),
        frame(0x80, &packets[16..]),
    ];
    stream.write_all(&frames.concat()).await.unwrap();
    head(&mut stream).await;
    let mut got = Vec::new();
    let expected = b"\x20\x02\0\0\xd0\0\x90\x03\0\x07\x01";
    timeout(PATIENCE, async {
        while got.len() < expected.len() {
            let (first, length) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
            let mut body = vec![0; usize::from(length)];
            stream.read_exact(&mut body).await.unwrap();
            match first {
                0x82 => got.append(&mut body),
                0x8a => assert_eq!(body, b"are you there"),
                other => panic!("a frame that begins with {other:#x}"),
            }
        }
    })
    .await
    .expect("in time");
    assert_eq!(got, expected);
    stream.write_all(&frame(0x88, b"\x03\xe8")).await.unwrap();
    exact(&mut stream, b"\x88\x02\x03\xe8").await;
    let rest = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("in time");
    assert_eq!(rest.unwrap(), 0, "closed after the goodbye");
}

#[tokio::test]
async fn a_text_frame_ends_the_connection_with_its_code() {
    let server = serving(plain(Some("/mqtt")));
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(request("/mqtt", "mqtt").as_bytes()).await.unwrap();
    head(&mut stream).await;
    stream.write_all(&frame(0x81, b"hello")).await.unwrap();
    exact(&mut stream, b"\x88\x02\x03\xeb").await;
    super::until(&server, |gauges| gauges.connections == 0).await;
}

#[tokio::test]
async fn the_client_of_another_library_is_served() {
    let server = serving(plain(Some("/mqtt")));
    let addr = server.addr();
    let talk = spawn_blocking(move || {
        let mut request = format!("ws://{addr}/mqtt").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let stream = std::net::TcpStream::connect(addr).unwrap();
        let (mut socket, _) = websocket_client(request, stream).unwrap();
        let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01w";
        socket.send(Message::binary(&connect[..])).unwrap();
        assert_eq!(socket.read().unwrap().into_data().as_ref(), b"\x20\x02\0\0");
        socket.send(Message::Ping("x".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("x".into()));
        // 300,000 bytes in one message come back as they went.
        socket.send(Message::binary(&b"\x82\x06\0\x07\0\x01t\0"[..])).unwrap();
        assert_eq!(socket.read().unwrap().into_data().as_ref(), b"\x90\x03\0\x07\0");
        let body = vec![7; 200_000];
        let publish = [&b"\x30\xc3\x9a\x0c\0\x01t"[..], &body].concat();
        socket.send(Message::binary(publish.clone())).unwrap();
        let mut got = Vec::new();
        while got.len() < publish.len() {
            got.extend_from_slice(&socket.read().unwrap().into_data());
        }
        assert!(got == publish);
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
    });
    timeout(PATIENCE, talk).await.expect("in time").unwrap();
}

#[tokio::test]
async fn a_secure_websocket_says_goodbye_in_both_its_coats() {
    let ca = Authority::new("plant");
    let files = Files::new(&ca.leaf(&["localhost"], 2090), &ca);
    let mut settings = files.listener(None, CertificateIdentity::None);
    settings.websocket = Some("/mqtt".into());
    let mut doors = Doors::open(&[settings], &Limits::default()).unwrap();
    let port = doors.addresses()[0].port();
    let peer = tokio::spawn(async move {
        let mut stream = connect(&client(&ca, None, &[&TLS13]), port).await.unwrap();
        stream.write_all(request("/mqtt", "mqtt").as_bytes()).await.unwrap();
        head(&mut stream).await;
        stream.write_all(&frame(0x82, b"hello")).await.unwrap();
        // The answer, the close frame, and the end of TLS, which is an error of this library when it is missing.
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"\x82\x03bye\x88\x02\x03\xe8");
    });
    let talk = async {
        let Incoming::Open(conn, _) = doors.next().await else { panic!("open first") };
        assert_eq!(doors.next().await, Incoming::Bytes(conn, b"hello".to_vec()));
        doors.send(conn, b"bye".to_vec());
        doors.close(conn, &CloseReason::Goodbye);
        doors.stop(PATIENCE).await;
    };
    timeout(PATIENCE, talk).await.expect("in time");
    timeout(PATIENCE, peer).await.expect("in time").unwrap();
}

/// What a listener that asks for origin and host answers.
async fn page(settings: &ListenerSettings, headers: &str) -> (String, u64) {
    let mut settings = settings.clone();
    settings.address.set_port(0);
    let mut doors = Doors::open(&[settings], &Limits::default()).unwrap();
    let mut stream = TcpStream::connect(doors.addresses()[0]).await.unwrap();
    let request = request("/mqtt", "mqtt").replace("Host: gateway\r\n", headers);
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = tokio::select! {
        // Whoever is let in is not interesting here.
        head = head(&mut stream) => head,
        () = async { loop { doors.next().await; } } => String::new(),
    };
    (head, doors.counts().pages_refused_total)
}

#[tokio::test]
async fn only_pages_of_the_list_and_names_of_the_list_come_in() {
    let mut settings = plain(Some("/mqtt"));
    settings.origins = vec!["https://panel.example".into(), "http://192.168.1.20:8080".into()];
    settings.hosts = vec!["gateway.local:8080".into(), "gateway.local".into()];
    let host = "Host: gateway.local:8080\r\n";
    for good in [
        "Origin: https://panel.example\r\n",
        "Origin: HTTPS://Panel.Example:443\r\n",
        "origin: http://192.168.1.20:8080\r\n",
    ] {
        let (head, refused) = page(&settings, &format!("{host}{good}")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{good}: {head}");
        assert_eq!(refused, 0);
    }
    for bad in [
        "",
        "Origin: null\r\n",
        "Origin: https://panel.example.evil\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: http://panel.example\r\n",
        "Origin: https://panel.example:8443\r\n",
        "Origin: https://panel.example/\r\n",
        "Origin: https://evil.example\r\nOrigin: https://panel.example\r\n",
        "Origin: https://panel.example\r\nOrigin: https://panel.example\r\n",
        "Origin: https://panel.example, https://evil.example\r\n",
    ] {
        let (head, refused) = page(&settings, &format!("{host}{bad}")).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{bad}: {head}");
        assert_eq!(refused, 1, "{bad}");
    }
    let origin = "Origin: https://panel.example\r\n";
    for (hosts, status) in [
        ("Host: GATEWAY.local\r\n", "101"),
        ("Host: gateway.local:80\r\n", "101"),
        ("Host: evil.example\r\n", "403"),
        ("Host: gateway.local:8081\r\n", "403"),
        ("", "403"),
        ("Host: gateway.local\r\nHost: evil.example\r\n", "403"),
    ] {
        let (head, _) = page(&settings, &format!("{hosts}{origin}")).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{hosts}: {head}");
    }
}

#[tokio::test]
async fn without_a_list_nobody_is_asked_where_it_comes_from() {
    for headers in ["Host: anything\r\nOrigin: https://evil.example\r\n", "", "Host: a\r\nHost: b\r\n"] {
        let (head, refused) = page(&plain(Some("/mqtt")), headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{headers}: {head}");
        assert_eq!(refused, 0);
    }
}
