use super::*;
use crate::uplink::row::{Blame, Seq};
use crate::uplink::suspects::{Accused, End};

fn samples() -> Vec<Loss> {
    let tcp =
        |fault| Loss::Tcp { fault, peer: Some(([192, 0, 2, 1], 8883).into()), detail: "os error".into() };
    let clock = UnixSecs(5);
    let mut all = vec![
        Loss::Dns { host: "broker.example.com".into(), detail: "no address".into() },
        tcp(TcpFault::Refused),
        tcp(TcpFault::Unreachable),
        tcp(TcpFault::TimedOut),
        tcp(TcpFault::Reset),
        tcp(TcpFault::Other),
        Loss::ConnectTimeout { stage: Stage::Tls, after: Duration::from_secs(30) },
        Loss::ProxyRefused { status: 407 },
        Loss::Proxy { detail: "refused".into() },
        Loss::File { role: FileRole::ClientKey, path: "/etc/key.pem".into(), detail: "no such file".into() },
        Loss::Tls { detail: "handshake failure".into() },
        Loss::CertificateUnknownAuthority,
        Loss::CertificateExpired { clock, not_after: Some(clock) },
        Loss::CertificateNotYetValid { clock, not_before: Some(UnixSecs(1_700_000_000)) },
        Loss::CertificateWrongName { expected: "a".into(), presented: vec!["b".into()] },
        Loss::CertificateInvalid { detail: "bad encoding".into() },
        Loss::OwnCertificateRejected { alert: "certificate required".into(), sent: false },
        Loss::WebSocketRefused { status: 404 },
        Loss::WebSocket { detail: "no upgrade".into() },
        Loss::KeepAlive { after: Duration::from_secs(30) },
        Loss::AckTimeout { after: Duration::from_secs(10) },
        Loss::WriteTimeout,
        Loss::Overrun,
        Loss::Closed { stage: None },
        Loss::TakenOver { closes: 3 },
        Loss::OnTrial,
        Loss::Protocol { detail: "second CONNACK".into() },
        Loss::IncomingOversize { limit: 1000 },
        Loss::Stopped,
        Loss::Settings { detail: "no TLS".into() },
    ];
    all.extend((1..=6).filter_map(ConnectRefusal::from_code).map(Loss::Refused));
    all
}

#[test]
fn every_loss_has_its_own_word_and_the_list_of_words_is_complete() {
    let mut words: Vec<_> = samples().iter().map(Loss::word).collect();
    let mut listed = Loss::WORDS.to_vec();
    words.sort_unstable();
    listed.sort_unstable();
    assert_eq!(words, listed);
}

#[test]
fn the_other_scheme_is_named_where_one_side_speaks_tls_and_the_other_does_not_and_a_wrong_password_says_where_it_stands()
 {
    let said = |loss: Loss| loss.to_string();
    assert!(said(Loss::Closed { stage: Some(Stage::Mqtt) }).contains("mqtts://"));
    assert!(!said(Loss::Closed { stage: Some(Stage::Tls) }).contains("mqtts://"), "that is TLS already");
    assert!(said(Loss::Protocol { detail: "a packet that cannot be read".into() }).contains("mqtts://"));
    let login = said(Loss::Refused(ConnectRefusal::Login));
    for part in ["wrong user name or password", "`username`", "`password_file`"] {
        assert!(login.contains(part), "{login}");
    }
}

#[test]
fn every_text_says_more_than_the_word_and_ends_without_a_full_stop() {
    for loss in samples() {
        let text = loss.to_string();
        assert!(text.len() > loss.word().len() + 10, "{text}");
        assert!(!text.ends_with('.'), "{text}");
        assert!(!text.contains("  "), "{text}");
    }
}

#[test]
fn a_clock_at_1970_is_named_when_a_certificate_is_not_valid_yet() {
    let loss =
        Loss::CertificateNotYetValid { clock: UnixSecs(300), not_before: Some(UnixSecs(1_767_225_600)) };
    assert_eq!(
        loss.to_string(),
        "the server's certificate is not valid yet (from 2026-01-01 00:00 UTC), the gateway's clock says 1970-01-01 00:05 UTC and was \
         never set: give it a time server (NTP) or set the time; check the clock of the gateway first, then the certificate"
    );
}

#[test]
fn dates_are_printed_right_around_leap_days_and_centuries() {
    for (seconds, text) in [
        (0, "1970-01-01 00:00 UTC"),
        (951_782_399, "2000-02-28 23:59 UTC"),
        (951_782_400, "2000-02-29 00:00 UTC"),
        (951_868_800, "2000-03-01 00:00 UTC"),
        (4_107_542_400, "2100-03-01 00:00 UTC"),
        (253_402_300_799, "9999-12-31 23:59 UTC"),
    ] {
        assert_eq!(UnixSecs(seconds).to_string(), text);
    }
    assert!(!UnixSecs(u64::MAX).to_string().is_empty());
}

#[test]
fn refusal_codes_go_there_and_back() {
    assert_eq!(ConnectRefusal::from_code(0), None);
    for code in 1..=u8::MAX {
        assert_eq!(ConnectRefusal::from_code(code).map(ConnectRefusal::code), Some(code));
    }
}

#[test]
fn three_young_connections_closed_in_a_row_are_a_take_over() {
    let mut watch = TakeOverWatch::default();
    let young = Some(Duration::from_secs(2));
    let closed = Loss::Closed { stage: None };
    assert_eq!(watch.judge(closed.clone(), young), closed);
    assert_eq!(watch.judge(closed.clone(), young), closed);
    assert_eq!(watch.judge(closed.clone(), young), Loss::TakenOver { closes: 3 });
    assert_eq!(watch.judge(closed.clone(), young), Loss::TakenOver { closes: 4 });
    // A long life ends the suspicion.
    assert_eq!(watch.judge(closed.clone(), Some(SHORT_LIFE_MAX * 2)), closed);
    assert_eq!(watch.judge(closed.clone(), young), closed);
}

#[test]
fn attempts_that_never_came_up_neither_feed_nor_end_the_suspicion() {
    let mut watch = TakeOverWatch::default();
    let young = Some(Duration::from_secs(1));
    let closed = Loss::Closed { stage: None };
    let refused = Loss::Tcp { fault: TcpFault::Refused, peer: None, detail: "".into() };
    for _ in 0..10 {
        assert_eq!(watch.judge(refused.clone(), None), refused);
    }
    let _ = watch.judge(closed.clone(), young);
    let _ = watch.judge(closed.clone(), young);
    assert_eq!(watch.judge(refused.clone(), None), refused);
    assert_eq!(watch.judge(closed, young), Loss::TakenOver { closes: 3 });
}

#[test]
fn a_keep_alive_loss_is_never_called_a_take_over() {
    let mut watch = TakeOverWatch::default();
    let loss = Loss::KeepAlive { after: Duration::from_secs(5) };
    for _ in 0..5 {
        assert_eq!(watch.judge(loss.clone(), Some(Duration::from_secs(5))), loss);
    }
}

#[test]
fn what_a_message_may_have_done_is_not_laid_to_a_rival() {
    let mut watch = TakeOverWatch::default();
    let young = Some(Duration::from_secs(1));
    let closed = || Loss::Closed { stage: None };
    for _ in 0..2 {
        assert_eq!(watch.judge_with(closed(), young, End::Unclear), closed());
    }
    for _ in 0..5 {
        assert_eq!(watch.judge_with(closed(), young, End::Suspicious), closed());
        assert_eq!(watch.judge_with(closed(), young, End::Trial), Loss::OnTrial);
    }
    let slow = Loss::AckTimeout { after: Duration::from_secs(10) };
    assert_eq!(watch.judge_with(slow.clone(), young, End::Trial), slow);
    // The proof explains the first ends as well.
    let blamed = End::Blamed(Accused::Row(Seq(1)), Blame::Cut);
    assert_eq!(watch.judge_with(closed(), young, blamed), Loss::OnTrial);
    for _ in 0..2 {
        assert_eq!(watch.judge_with(closed(), young, End::Unclear), closed());
    }
    assert_eq!(watch.judge_with(closed(), young, End::Unclear), Loss::TakenOver { closes: 3 });
}
