//! Frames without sockets.

use proptest::prelude::*;

use crate::listen::frames::{FrameFault, Frames};

/// A frame of a client.
pub(super) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match body.len() {
        short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap()),
        middle @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What comes of bytes cut into pieces of `piece` bytes.
fn take(bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>, Result<(), FrameFault>) {
    let mut frames = Frames::new(256 << 10);
    let (mut plain, mut answers) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        let mut piece = piece.to_vec();
        let outcome = frames.take(&mut piece, &mut answers);
        plain.append(&mut piece);
        if outcome.is_err() {
            return (plain, answers, outcome);
        }
    }
    (plain, answers, Ok(()))
}

fn check(bytes: &[u8], plain: &[u8], answers: &[u8], outcome: Result<(), FrameFault>) {
    for piece in [1, 2, 3, 7, 1000, bytes.len().max(1)] {
        let found = take(bytes, piece);
        assert!(found == (plain.to_vec(), answers.to_vec(), outcome), "pieces of {piece}: {found:?}");
    }
}

#[test]
fn bytes_are_handed_on_whatever_frames_they_are_cut_into() {
    check(&frame(0x82, b"abc"), b"abc", b"", Ok(()));
    check(&[frame(0x82, b"ab"), frame(0x82, b""), frame(0x82, b"c")].concat(), b"abc", b"", Ok(()));
    // One message in three frames, with a ping and a pong between them.
    let parts =
        [frame(0x02, b"a"), frame(0x89, b"?"), frame(0x00, b""), frame(0x8a, b"!"), frame(0x80, b"bc")];
    check(&parts.concat(), b"abc", b"\x8a\x01?", Ok(()));
    for length in [125u32, 126, 127, 65_535, 65_536, 300_000] {
        let body: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        check(&frame(0x82, &body), &body, b"", Ok(()));
    }
}

#[test]
fn a_close_is_answered_and_what_came_before_it_counts() {
    let both = [frame(0x82, b"abc"), frame(0x88, b"\x03\xe8bye"), frame(0x82, b"late")].concat();
    check(&both, b"abc", b"\x88\x02\x03\xe8", Err(FrameFault::Closed));
    check(&frame(0x88, b""), b"", b"\x88\x02\x03\xe8", Err(FrameFault::Closed));
}

#[test]
fn what_the_standard_forbids_ends_the_connection_with_its_code() {
    const PROTOCOL: &[u8] = b"\x88\x02\x03\xea";
    let protocol = Err(FrameFault::Protocol);
    check(&frame(0x81, b"text"), b"", b"\x88\x02\x03\xeb", Err(FrameFault::Text));
    check(b"\x82\x03abc", b"", PROTOCOL, protocol);
    check(&frame(0xc2, b"reserved bit"), b"", PROTOCOL, protocol);
    check(&frame(0x83, b"reserved opcode"), b"", PROTOCOL, protocol);
    check(&frame(0x8b, b"reserved opcode"), b"", PROTOCOL, protocol);
    check(&frame(0x80, b"nothing to continue"), b"", PROTOCOL, protocol);
    check(&[frame(0x02, b"a"), frame(0x82, b"b")].concat(), b"a", PROTOCOL, protocol);
    check(&frame(0x09, b"cut ping"), b"", PROTOCOL, protocol);
    check(&frame(0x89, &[0; 126]), b"", PROTOCOL, protocol);
    check(&frame(0x88, b"x"), b"", PROTOCOL, protocol);
    let huge = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    check(&huge, b"", b"\x88\x02\x03\xf1", Err(FrameFault::TooLarge));
}

#[test]
fn frames_of_ours_say_their_length_in_the_shortest_way() {
    let head = |length: usize| {
        let mut out = Vec::new();
        Frames::put(&vec![7; length], &mut out);
        assert!(out[out.len() - length..].iter().all(|byte| *byte == 7));
        out.truncate(out.len() - length);
        out
    };
    assert_eq!(head(0), [0x82, 0]);
    assert_eq!(head(125), [0x82, 125]);
    assert_eq!(head(126), [0x82, 126, 0, 126]);
    assert_eq!(head(65_535), [0x82, 126, 0xff, 0xff]);
    assert_eq!(head(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
}

proptest! {
    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
        prop_assert_eq!(take(&bytes, piece), take(&bytes, 300));
    }
}
