//! Hostile files: whatever stands in them, reading comes to its end.

use super::*;
use crate::store::tests::random;

/// A database as SQLite makes it, with its log, out of the corpus of the fuzz target.
fn samples() -> Vec<(Vec<u8>, Vec<u8>)> {
    let sample = |bytes: &[u8]| {
        let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        (bytes[2..2 + length].to_vec(), bytes[2 + length..].to_vec())
    };
    vec![
        sample(include_bytes!("../../../../tests/fuzz/corpus/pages/plain")),
        sample(include_bytes!("../../../../tests/fuzz/corpus/pages/overflow")),
        sample(include_bytes!("../../../../tests/fuzz/corpus/pages/logged")),
    ]
}

#[test]
fn a_whole_database_is_read_row_by_row_without_sqlite() {
    let met: Vec<_> = samples().iter().map(|(database, log)| read_all(database, log)).collect();
    // 30, 12 and 14 rows were stored and those below 7, 3 and 3 deleted; each has five facts.
    assert_eq!(met, [(24, 5), (10, 5), (12, 5)]);
    assert_eq!(read_all(&[], &[]), (0, 0));
}

#[test]
fn any_damage_is_read_to_its_end() {
    let rounds: u64 = std::env::var("TIDEGATE_ROUNDS").map_or(1500, |rounds| rounds.parse().unwrap());
    let samples = samples();
    let mut met = 0;
    for round in 0..rounds {
        let mut seed = round;
        let mut choose = |below: usize| usize::try_from(random(&mut seed) % below.max(1) as u64).unwrap();
        let (mut database, mut log) = samples[choose(samples.len())].clone();
        for _ in 0..=choose(12) {
            let hurt = if log.is_empty() || choose(3) > 0 { &mut database } else { &mut log };
            let at = choose(hurt.len());
            match choose(8) {
                0 => hurt.truncate(at),
                // The numbers of pages, counts and lengths stand at the start of pages: all of them the same page, the highest number, or another page.
                1 => hurt[at / 512 * 512..].iter_mut().take(12).for_each(|byte| *byte = 0xFF),
                2 => {
                    let page = u8::try_from(choose(14)).unwrap();
                    hurt[at..]
                        .iter_mut()
                        .take(4)
                        .zip([0, 0, 0, page])
                        .for_each(|(byte, value)| *byte = value);
                }
                3 => {
                    let other = choose(hurt.len()) / 512 * 512;
                    let page: Vec<u8> = hurt[other..].iter().take(512).copied().collect();
                    hurt[at / 512 * 512..].iter_mut().zip(page).for_each(|(byte, value)| *byte = value);
                }
                4 => hurt[at..].iter_mut().take(9).for_each(|byte| *byte = 0x81),
                5 => hurt[at / 512 * 512] = [0x05, 0x0D, 0x02, 0x00][choose(4)],
                _ => hurt[at] ^= 1 << choose(8),
            }
            if database.is_empty() {
                break;
            }
        }
        met += read_all(&database, &log).0;
    }
    assert!(met as u64 > rounds, "{met} rows in {rounds} files: they are too damaged to tell anything");
}

#[test]
fn an_overflow_chain_that_leads_back_to_itself_ends() {
    let check = |length: [u8; 2], next: u32, rows: usize| {
        let mut database = vec![0; 20 * 512];
        // The leaf on page 2 has one cell at byte 77: a payload of which 428 bytes are in the leaf, and the rest on page 3.
        database[512..][..10].copy_from_slice(&[0x0D, 0, 0, 0, 1, 0, 77, 0, 0, 77]);
        database[512 + 77..][..3].copy_from_slice(&[length[0], length[1], 1]);
        database[1020..][..4].copy_from_slice(&3_u32.to_be_bytes());
        database[1024..][..4].copy_from_slice(&next.to_be_bytes());
        assert_eq!(read_all(&database, &[]).0, rows, "{length:02X?} {next}");
    };
    // 5000 bytes in a file of 10,240: read in a circle to their end. Then a chain that ends early, one that leads out of the file, and a length beyond the file.
    check([0xA7, 0x08], 3, 1);
    check([0xA7, 0x08], 0, 0);
    check([0xA7, 0x08], 999, 0);
    check([0xFF, 0x78], 3, 0);
}
