use super::*;
use crate::uplink::row::{Blame, Seq};
use crate::uplink::suspects::{Accused, End};

fn samples() -> Vec<Loss> {
    let tcp = |fault| Loss::Tcp {
        fault,
        stage: None,
        peer: Some(([192, 0, 2, 1], 8883).into()),
        detail: "os error".into(),
    };
    let clock = UnixSecs(5);
    let mut all = vec![
        Loss::Dns { host: "broker.example.com".into(), detail: "no address".into() },
        tcp(TcpFault::Refused),
        tcp(TcpFault::Unreachable),
        tcp(TcpFault::TimedOut),
        tcp(TcpFault::Reset),
        tcp(TcpFault::Other),
        Loss::ConnectTimeout { stage: Stage::Tls(Transport::Tls), after: Duration::from_secs(30) },
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
        Loss::WrongScheme { spoken: Spoken::Http },
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
    let refused = |refusal| Loss::Refused { refusal, login: Login::Password };
    all.extend((1..=6).filter_map(ConnectRefusal::from_code).map(refused));
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
fn the_other_scheme_is_named_where_one_side_speaks_tls_and_the_other_perhaps_does_not() {
    use Transport::{Tcp, Tls, WebSocket, WebSocketTls};
    let reset =
        |stage| Loss::Tcp { fault: TcpFault::Reset, stage: Some(stage), peer: None, detail: "".into() };
    for (stage, expected) in [
        (Stage::Mqtt(Tcp), Some("perhaps this port speaks TLS: mqtts:// (its usual port is 8883)")),
        (Stage::WebSocket(WebSocket), Some("perhaps this port speaks TLS: wss:// (its usual port is 443)")),
        (Stage::Tls(Tls), Some("perhaps this port speaks plain MQTT: mqtt:// (usual port 1883;")),
        (
            Stage::Tls(WebSocketTls),
            Some("perhaps this port speaks WebSocket without TLS: ws:// (usual port 80;"),
        ),
        // Here the handshake of TLS or WebSocket was good, so the scheme is right.
        (Stage::Mqtt(Tls), None),
        (Stage::Mqtt(WebSocket), None),
        (Stage::Mqtt(WebSocketTls), None),
        (Stage::WebSocket(WebSocketTls), None),
    ] {
        let stuck = Loss::ConnectTimeout { stage, after: Duration::from_secs(30) };
        for loss in [Loss::Closed { stage: Some(stage) }, reset(stage), stuck] {
            let text = loss.to_string();
            match expected {
                Some(part) => assert!(text.contains(part), "{text}"),
                None => assert!(!text.contains("perhaps"), "{text}"),
            }
        }
    }
    for loss in [Loss::Closed { stage: None }, reset(Stage::Tcp)] {
        assert!(!loss.to_string().contains("perhaps"), "{loss}");
    }
}

#[test]
fn what_a_port_says_first_proves_that_it_speaks_something_else() {
    use Transport::{Tcp, Tls, WebSocket, WebSocketTls};
    let alert = [0x15, 3, 3, 0, 2, 2, 70];
    let http = b"HTTP/1.1 400 Bad Request\r\n";
    for (first, stage, expected) in [
        (&alert[..], Stage::Mqtt(Tcp), Some(Spoken::Tls(Tcp))),
        (&alert[..], Stage::WebSocket(WebSocket), Some(Spoken::Tls(WebSocket))),
        (&http[..], Stage::Mqtt(Tcp), Some(Spoken::Http)),
        (&http[..], Stage::Mqtt(Tls), Some(Spoken::Http)),
        (&b"<!doctype html>\n"[..], Stage::Mqtt(Tcp), Some(Spoken::Http)),
        (&b"<html><head>"[..], Stage::Mqtt(Tls), Some(Spoken::Http)),
        (&b"HTT"[..], Stage::Mqtt(Tcp), None),
        (&[0x3c, 2, 0, 0][..], Stage::Mqtt(Tcp), None),
        // An answer to the upgrade is HTTP, and inside TLS there is no second one.
        (&http[..], Stage::WebSocket(WebSocket), None),
        (&alert[..], Stage::Mqtt(Tls), None),
        (&alert[..], Stage::Mqtt(WebSocketTls), None),
        (&[0x20, 2, 0, 0][..], Stage::Mqtt(Tcp), None),
        (&[0x15][..], Stage::Mqtt(Tcp), None),
        (&[][..], Stage::Mqtt(Tcp), None),
    ] {
        assert_eq!(Spoken::by_first_bytes(first, stage), expected, "{first:02x?} {stage:?}");
    }
    for (spoken, part) in [
        (Spoken::Tls(Tcp), "write mqtts://"),
        (Spoken::Tls(WebSocket), "write wss://"),
        (Spoken::Plain(Tls), "without TLS write mqtt://"),
        (Spoken::Plain(WebSocketTls), "without TLS write ws://"),
        (Spoken::Http, "a web server answers there; perhaps port 1883 (mqtt://) or 8883 (mqtts://)"),
    ] {
        let loss = Loss::WrongScheme { spoken };
        assert!(loss.to_string().contains(part) && loss.needs_a_person(), "{loss}");
    }
}

#[test]
fn a_broker_that_refuses_us_makes_the_text_name_the_user_and_the_file_of_the_password() {
    // mosquitto says 5 where the standard has 4.
    for refusal in [ConnectRefusal::Login, ConnectRefusal::NotAuthorised] {
        for login in [Login::Nothing, Login::UserName, Login::Password] {
            let text = Loss::Refused { refusal, login }.to_string();
            assert!(text.contains("`username`") && text.contains("`password_file`"), "{text}");
            assert_eq!(text.contains("no password was sent"), login == Login::UserName, "{text}");
        }
    }
    let registered = Loss::Refused { refusal: ConnectRefusal::ClientId, login: Login::Nothing }.to_string();
    assert!(!registered.contains("password"), "{registered}");
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
    let refused =
        Loss::Tcp { fault: TcpFault::Refused, stage: Some(Stage::Tcp), peer: None, detail: "".into() };
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
        assert_eq!(watch.judge_with(closed(), young, End::Excused), closed());
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
