//! What a client can make the gateway do does not stop the polls.

use tidegate_tests::fake_broker::remaining_length;
use tidegate_tests::yard::{OPEN, Yard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Something to poll.
const STEADY: &str = r#"
[bus.second]
driver = "sim"
[device.steady]
bus = "second"
unit = 1
[[device.steady.poll]]
every = "250ms"
tags.count = { holding = 0, type = "u16" }
"#;

const TOPICS: usize = 4000;
const FILTERS: usize = 500;

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &remaining_length(body.len()), body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

async fn connect(port: u16, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let hello = [&b"\0\x04MQTT\x04\x02\0\0"[..], &text(id)].concat();
    stream.write_all(&packet(0x10, &hello)).await.unwrap();
    let mut welcome = [0; 4];
    stream.read_exact(&mut welcome).await.unwrap();
    assert_eq!(welcome, [0x20, 2, 0, 0]);
    stream
}

/// Reads until this comes.
async fn read_to(stream: &mut TcpStream, end: &[u8]) -> usize {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !all.ends_with(end) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection was closed after {} bytes", all.len());
        all.extend_from_slice(&buffer[..count]);
    }
    all.len()
}

#[tokio::test]
async fn polls_go_on_while_clients_ask_for_thousands_of_filters_among_thousands_of_retained_topics() {
    let yard = Yard::start(&format!("{STEADY}{OPEN}")).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut speaker = connect(port, "speaker").await;
    let kept: Vec<u8> =
        (0..TOPICS).flat_map(|n| packet(0x31, &[text(&format!("r/{n}")), b"x".to_vec()].concat())).collect();
    speaker.write_all(&kept).await.unwrap();
    speaker.write_all(&[0xc0, 0]).await.unwrap();
    read_to(&mut speaker, &[0xd0, 0]).await;
    let mut crowd = Vec::new();
    for number in 0..4 {
        let mut stream = connect(port, &format!("c{number}")).await;
        // Retained messages come in the order of the filters' text: that of `r/0` last.
        let filters = (0..FILTERS).map(|n| format!("+/none{n}")).chain(["r/0".to_owned()]);
        let wanted: Vec<u8> = filters.flat_map(|filter| [text(&filter), vec![0]].concat()).collect();
        stream.write_all(&packet(0x82, &[&[0, 1][..], &wanted].concat())).await.unwrap();
        crowd.push(stream);
    }
    for stream in &mut crowd {
        assert!(read_to(stream, b"r/0x").await > FILTERS, "a code for each filter, and the message");
    }
    // One packet is some 2,000,000 looks, and was one turn. How many polls are skipped on a busy machine by a debug build says nothing;
    // `cargo xtask attack` counts that with the release program.
    let longest = yard.gateway.metric("broker_turn_work_max").await.unwrap();
    assert!(longest < 1_000_000, "{longest} units of work in one turn");
    let cycles = "poll_cycles_total{bus=\"second\",device=\"steady\"}";
    let before = yard.gateway.metric(cycles).await.unwrap();
    while yard.gateway.metric(cycles).await.unwrap() == before {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    yard.gateway.stop().await.unwrap();
}
