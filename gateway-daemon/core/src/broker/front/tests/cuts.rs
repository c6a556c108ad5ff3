//! Promises about any bytes, and about memory.

use std::mem::size_of;

use proptest::prelude::*;

use super::{MAX, NOW, VERSIONS, feed, frame, hello_bytes, welcomed};
use crate::broker::front::{Front, HELLO_BYTES_MAX};
use crate::broker::packet::Version;

/// Packets that a client may send, and some that it may not.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let firsts = prop::sample::select(vec![
        0x30_u8, 0x31, 0x32, 0x34, 0x3a, 0x3d, 0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0, 0xf0,
    ]);
    let bodies = prop_oneof![
        Just(b"\0\x01a\0\x01\0body".to_vec()),
        Just(b"\0\x05topic\0\x09\x03\x23\0\x01body".to_vec()),
        Just(b"\0\0\0\x09\x03\x23\0\x01".to_vec()),
        Just(b"\0\x01t\x0e\x26\0\x01a\0\x01b\x02\0\0\0\x09\x01\x01x".to_vec()),
        Just(b"\0\x07".to_vec()),
        Just(b"\0\x07\x00".to_vec()),
        Just(b"\0\x07\0\0\x03a/#\x02".to_vec()),
        Just(b"\0\x07\x02\x0b\x05\0\x03a/+\x2d\0\x01b\x01".to_vec()),
        Just(b"\0\x07\0\x01a".to_vec()),
        Just(b"".to_vec()),
        Just(b"\x04\x05\x11\0\0\0\x09".to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    (firsts, bodies).prop_map(|(first, body)| frame(first, &body))
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let hello = prop::sample::select(VERSIONS.to_vec()).prop_map(|version| hello_bytes(version).to_vec());
    let rest = prop::collection::vec(packet(), 0..12).prop_map(|packets| packets.concat());
    (hello, rest).prop_map(|(hello, rest)| [hello, rest].concat())
}

/// Everything that a front makes of a stream that comes in these pieces, as text.
fn told(stream: &[u8], cuts: &[usize]) -> String {
    let mut front = Front::new(MAX);
    let mut text = String::new();
    let mut rest = stream;
    let mut cuts = cuts.iter();
    while !rest.is_empty() {
        let len = cuts.next().map_or(rest.len(), |cut| 1 + cut % rest.len());
        let (piece, behind) = rest.split_at(len);
        rest = behind;
        let (packets, end) = feed(&mut front, piece);
        for packet in packets {
            text.push_str(&format!("{packet:?}\n"));
        }
        if let Some(reason) = end {
            let mut out = Vec::new();
            front.farewell(&mut out, &reason);
            return format!("{text}{reason} {out:02x?}");
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut(
        stream in stream(),
        cuts in prop::collection::vec(0_usize..40, 0..60),
    ) {
        let whole = told(&stream, &[]);
        prop_assert_eq!(&told(&stream, &cuts), &whole);
        prop_assert_eq!(&told(&stream, &vec![0; stream.len()]), &whole);
    }

    #[test]
    fn what_was_put_aside_is_read_as_if_it_came_again(stream in stream(), at in 0_usize..100) {
        let mut front = Front::new(MAX);
        let at = at.min(stream.len());
        front.push(&stream[..at]);
        front.push(&stream[at..]);
        let mut text = String::new();
        let (packets, end) = feed(&mut front, &[]);
        for packet in packets {
            text.push_str(&format!("{packet:?}\n"));
        }
        if let Some(reason) = end {
            let mut out = Vec::new();
            front.farewell(&mut out, &reason);
            text.push_str(&format!("{reason} {out:02x?}"));
        }
        prop_assert_eq!(text, told(&stream, &[]));
    }

    #[test]
    fn any_bytes_are_packets_or_a_reason(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        greeted in any::<bool>(),
    ) {
        let mut front = if greeted { welcomed(Version::V5) } else { Front::new(MAX) };
        feed(&mut front, &bytes);
        prop_assert!(front.buffer.capacity() <= 1024, "no more is kept than came");
    }
}

#[test]
fn a_front_at_rest_is_small_and_holds_no_buffer() {
    assert!(size_of::<Front>() <= 160, "{} bytes", size_of::<Front>());
    let mut front = welcomed(Version::V5);
    let large = frame(0x30, &[&b"\0\x01a\0"[..], &[1; 50_000]].concat());
    for piece in large.chunks(1000) {
        feed(&mut front, piece);
    }
    assert!(front.is_empty());
    assert_eq!(front.buffer.capacity(), 0, "what a large packet needed is given back");
}

#[test]
fn a_packet_that_never_ends_takes_no_more_than_the_limit() {
    let mut front = welcomed(Version::V311);
    feed(&mut front, b"\x30\x9f\x8d\x06");
    assert!(front.buffer.capacity() < 100, "nothing is allocated by a length that is only claimed");
    for _ in 0..(MAX / 1000) - 1 {
        assert!(feed(&mut front, &[b'/'; 1000]).0.is_empty());
    }
    assert!(front.buffer.len() <= MAX && front.buffer.capacity() <= 2 * MAX);
}

#[test]
fn a_stranger_takes_no_more_than_its_smaller_limit() {
    let mut front = Front::new(10 << 20);
    let mut hello = &frame(0x10, &[&b"\0\x04MQTT\x04\x02\0\x3c\xff\xff"[..], &[b'a'; 70_000]].concat())[..];
    hello = &hello[..hello.len() - 1];
    assert!(front.next(NOW, &mut hello).unwrap().is_none());
    assert!(front.buffer.len() < HELLO_BYTES_MAX);
}
