use gateway_core::tag::{BootId, BootNs, RunId};
use proptest::prelude::*;

use super::*;

struct Words(Arc<str>, RunId);

impl Lookup for Words {
    fn topic(&self, word: u32) -> Option<&Arc<str>> {
        (word == 7).then_some(&self.0)
    }
    fn run(&self, word: u32) -> Option<RunId> {
        (word == 300).then_some(self.1)
    }
}

pub(in crate::store) fn any_row() -> impl Strategy<Value = Row> {
    let head = (
        1..=i64::MAX.cast_unsigned(),
        any::<bool>(),
        "[a-z/äß]{1,40}",
        0..3_u8,
        any::<bool>(),
        any::<bool>(),
    );
    let tail = (
        proptest::collection::vec(any::<u8>(), 0..200),
        any::<u32>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
    );
    (head, tail, proptest::option::of(any::<u32>())).prop_map(|(head, tail, expiry_s)| {
        let (seq, high, topic, qos, retain, record) = head;
        let (body, readings, boot, start_ms, at) = tail;
        Row {
            seq: Seq(seq),
            priority: if high { Priority::High } else { Priority::Normal },
            topic: topic.into(),
            qos: [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(qos)],
            retain,
            body: if record { Body::Record(body.into()) } else { Body::Raw(body.into()) },
            readings,
            run: RunId { boot: BootId(boot), start_ms },
            at: BootNs(at),
            expiry_s,
        }
    })
}

proptest! {
    #[test]
    fn every_row_comes_back_as_it_was(row in any_row(), words in any::<bool>()) {
        let dictionary = Words(Arc::clone(&row.topic), row.run);
        let mut blob = Vec::new();
        encode(&mut blob, &row, words.then_some(7), words.then_some(300));
        let decoded = decode(row.seq, &blob).unwrap();
        prop_assert_eq!(decoded.size(&dictionary), Ok(row.size()));
        prop_assert_eq!(decoded.to_row(row.seq, &dictionary), Ok(row));
    }

    #[test]
    fn a_row_with_any_bit_flipped_or_cut_or_under_another_seq_is_refused(row in any_row(), place in any::<prop::sample::Index>()) {
        let mut blob = Vec::new();
        encode(&mut blob, &row, Some(7), Some(300));
        let bit = place.index(blob.len() * 8);
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(decode(row.seq, &flipped), Err(RowError::Checksum));
        prop_assert!(decode(row.seq, &blob[..bit / 8]).is_err());
        prop_assert_eq!(decode(Seq(row.seq.0 ^ 1), &blob), Err(RowError::Checksum));
    }

    #[test]
    fn any_bytes_are_refused_or_encode_to_themselves(bytes in proptest::collection::vec(any::<u8>(), 0..64), tidy in any::<bool>()) {
        let mut bytes = bytes;
        if tidy && bytes.len() > 10 {
            // Past the version and the flags, so that the numbers are reached.
            bytes[8] = 0x10 | bytes[8] & 0x0F;
            bytes[9] &= 0x0F;
        }
        fuzz(&bytes);
    }
}

/// A content that the version of this program must refuse, with a checksum that is right.
fn refuses(content: &[u8], expected: RowError) {
    let mut blob = content.to_vec();
    blob.extend_from_slice(&crc32(&[&1_u64.to_le_bytes(), content]).to_le_bytes());
    assert_eq!(decode(Seq(1), &blob), Err(expected));
}

#[test]
fn what_the_format_does_not_know_is_refused() {
    refuses(&[0x20, 0, 7, 7, 0, 0], RowError::Version(2));
    refuses(&[0x13, 0, 7, 7, 0, 0], RowError::Malformed);
    refuses(&[0x10, 0x10, 7, 7, 0, 0], RowError::Malformed);
    refuses(&[0x10, 0, 0x87, 0x00, 7, 0, 0], RowError::Malformed);
    refuses(&[0x10, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 7, 0, 0], RowError::Malformed);
    refuses(&[0x10, TOPIC_INLINE, 2, 0xFF, 0xFF, 7, 0, 0], RowError::Malformed);
    refuses(&[0x10, TOPIC_INLINE, 9, b'a'], RowError::Short);
    refuses(&[0x10, 0, 7], RowError::Short);
    refuses(&[0x10], RowError::Short);
    refuses(&[], RowError::Short);
}

#[test]
fn the_format_on_disk_is_the_one_drawn() {
    let row = Row {
        seq: Seq(2),
        priority: Priority::High,
        topic: "a".into(),
        qos: Qos::AtLeastOnce,
        retain: true,
        body: Body::Record([9, 8].as_slice().into()),
        readings: 300,
        run: RunId { boot: BootId(0x0102), start_ms: 1 },
        at: BootNs(128),
        expiry_s: Some(3),
    };
    let mut blob = Vec::new();
    encode(&mut blob, &row, None, None);
    let content = [0x1D, 0x0F, 1, b'a', 2, 1, 0, 0, 0, 0, 0, 0, 1, 0x80, 1, 0xAC, 2, 3, 9, 8];
    assert_eq!(blob[..blob.len() - 4], content);
    blob.clear();
    encode(&mut blob, &row, Some(7), Some(300));
    assert_eq!(blob[..blob.len() - 4], [0x1D, 0x03, 7, 0xAC, 2, 0x80, 1, 0xAC, 2, 3, 9, 8]);
}
