use super::base64::{decode, encode};
use super::*;

/// Made by another implementation, argon2-cffi 25.1.0.
const OTHERS: [(&str, &str); 3] = [
    (
        "tidegate",
        "$argon2id$v=19$m=65536,t=3,p=4$1ITp7Saw3PId9Mak2kdRyg$Led7s0K9akKMGUHw5Cv35cu8s1YbeqAiADTCY//1wfw",
    ),
    ("grüße", "$argon2id$v=19$m=64,t=1,p=4$YvI6L8AS1rg$NgsD8fgAVlCcd4v5AHdedQ"),
    (
        "tidegate",
        "$argon2id$v=19$m=7168,t=5,p=1$OnBhcuOXONIgADJ/hqlbPw$vQABTtcql/BeB7ItS5RRqUK/4g7ByR50/nw+zYrzEMw",
    ),
];

/// A cheap one, of the password "grüße".
const CHEAP: &str = OTHERS[1].1;

fn question(conn: u64, password: &str, hash: &str) -> Question {
    Question { conn: ConnId(conn), password: password.as_bytes().to_vec(), hash: hash.into() }
}

#[test]
fn a_password_fits_its_hash_and_no_other() {
    let hash = make(b"tidegate").unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{hash}");
    assert!(compare(b"tidegate", &hash) && !compare(b"Tidegate", &hash) && !compare(b"", &hash));
    assert_ne!(hash, make(b"tidegate").unwrap(), "each has its own salt");
}

#[test]
fn hashes_of_other_programs_are_understood() {
    for (password, hash) in OTHERS {
        assert!(compare(password.as_bytes(), hash), "{hash}");
        assert!(!compare(b"other", hash), "{hash}");
    }
}

#[test]
fn what_is_no_hash_fits_nothing() {
    for hash in ["", "tidegate", "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"] {
        assert!(!compare(b"tidegate", hash) && !compare(b"", hash), "{hash}");
    }
    // Nobody's hash, as the broker makes it of a user's.
    let (head, digest) = CHEAP.rsplit_once('$').unwrap();
    assert!(!compare("grüße".as_bytes(), &format!("{head}${}", "A".repeat(digest.len()))));
}

#[test]
fn base64_is_read_back_and_strange_texts_are_refused() {
    for (bytes, text) in [
        (&b""[..], ""),
        (b"f", "Zg"),
        (b"fo", "Zm8"),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg"),
        (b"\xff\xfe\xfd", "//79"),
    ] {
        assert_eq!(encode(bytes), text);
        assert_eq!(decode(text).as_deref(), Some(bytes));
    }
    for text in ["A", "Zg==", "Zm9vY", "Zh", "Zm9", "Zm9-"] {
        assert_eq!(decode(text), None, "{text}");
    }
}

#[test]
fn a_password_is_in_no_debug_output() {
    assert!(!format!("{:?}", question(1, "hunter2", CHEAP)).contains("104")); // 'h' as a number
}

#[tokio::test]
async fn every_question_gets_one_verdict_in_order() {
    let (verdicts, mut heard) = mpsc::channel(1);
    let verifier = Verifier::start(verdicts, |verdict| verdict);
    for conn in 0..8 {
        verifier.ask(question(conn, if conn % 2 == 0 { "grüße" } else { "no" }, CHEAP)).unwrap();
        assert_eq!(heard.recv().await, Some(Verdict { conn: ConnId(conn), fits: conn % 2 == 0 }));
    }
    drop(verifier);
    assert_eq!(heard.recv().await, None);
}

#[tokio::test]
async fn a_question_beyond_the_one_that_waits_comes_back_to_its_asker() {
    let (verdicts, mut heard) = mpsc::channel(1);
    let verifier = Verifier::start(verdicts, |verdict| verdict);
    // The task has not run yet: nothing was awaited.
    verifier.ask(question(1, "grüße", CHEAP)).unwrap();
    let second = question(2, "grüße", CHEAP);
    assert_eq!(verifier.ask(second.clone()), Err(second));
    assert_eq!(heard.recv().await.map(|v| v.conn), Some(ConnId(1)));
}
