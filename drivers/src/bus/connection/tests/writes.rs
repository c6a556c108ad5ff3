//! What is said of writes whose answer does not come: whether they were sent, and whether somebody knows that they were done.

use gateway_core::poll::request::{LineFault, Table};

use super::*;

fn write(value: u16) -> Query {
    Query::WriteRegister { address: 7, value }
}

fn serial_server() -> Medium {
    Medium::RtuOverTcp {
        host: "server".to_owned(),
        port: 4001,
        connect_timeout: 5 * SECOND,
        connect_pause: Duration::ZERO,
        connection: Connection::Keep,
        frame_silence: Duration::from_millis(20),
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_been_received_is_never_sent_twice() {
    let manners = Manners { swallows_every: Some(2), ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), HOUR), manners);
    rig.pass(2 * SECOND).await;
    assert_eq!(locked(&rig.facts).requests, 1);
    let write = Query::WriteRegister { address: 7, value: 4711 };
    assert_eq!(rig.ask(write).await, Err(CommandError::Unanswered));
    assert_eq!(locked(&rig.facts).writes, [4711]);
    let read = Query::Read { table: Table::Holding, address: 7, count: 1 };
    assert_eq!(rig.ask(read.clone()).await, Ok(Answer::Registers(vec![0x1111])));
    assert_eq!(rig.ask(read).await, Ok(Answer::Registers(vec![0x1111])), "swallowed first");
    assert_eq!(lines(), ["bus line: up"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_surely_not_sent_goes_out_once_on_a_fresh_connection() {
    let manners = Manners { idle_max: Some(SECOND), ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), HOUR), manners);
    for value in 0..20 {
        // Before, in the middle of, and long after the end of the connection.
        rig.pass(Duration::from_millis(u64::from(value) * 100)).await;
        let write = Query::WriteRegister { address: 7, value };
        assert_eq!(rig.ask(write).await, Ok(Answer::Done));
    }
    assert_eq!(locked(&rig.facts).writes, (0..20).collect::<Vec<u16>>());
}

#[test]
fn a_poll_that_failed_is_told_from_a_write_that_nobody_knows_of() {
    let text = CommandError::Unanswered.to_string();
    assert!(text.contains("not sent again") && text.contains("read it"), "{text}");
    assert_ne!(text, CommandError::Line(LineFault::Down).to_string());
}

#[tokio::test(start_paused = true)]
async fn of_a_write_whose_answer_is_late_or_garbled_or_does_not_come_nobody_knows_whether_it_was_done() {
    // It answers its only poll: of a serial line that owes an answer the write would not be sent.
    let silent = Manners { silent_when: Some(|now| now.ms() > 1_010_000), ..Manners::default() };
    let late = Manners { late_by: Duration::from_millis(1500), ..Manners::default() };
    let garbled = Manners { says: Some(b"HTTP/1.1 400"), ..Manners::default() };
    let cases = [
        (keep(1), silent, LineFault::Silence),
        (keep(4), late, LineFault::Silence),
        (keep(1), garbled, LineFault::Garbage),
        (serial_server(), Manners { rtu: true, ..silent }, LineFault::Silence),
    ];
    for (medium, manners, fault) in cases {
        let mut rig = Rig::start(&field(medium, HOUR), manners);
        rig.pass(20 * SECOND).await;
        let answer = rig.ask(write(4711)).await;
        assert_eq!(answer, Err(CommandError::Doubtful(fault)), "{manners:?}");
        let error = answer.unwrap_err();
        assert!(error.may_be_done() && error.to_string().contains("nobody knows whether it was written"));
        rig.pass(60 * SECOND).await;
        assert_eq!(locked(&rig.facts).writes, [4711], "sent once: {manners:?}");
        let read = rig.ask(Query::Read { table: Table::Holding, address: 7, count: 1 }).await;
        assert!(read.is_err_and(|error| !error.may_be_done()), "a read changes nothing: {manners:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_end_of_the_bus_overtook_is_not_called_undone() {
    let manners = Manners { silent_when: Some(|_| true), ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), HOUR), manners);
    rig.pass(20 * SECOND).await;
    let asker = rig.asker.clone();
    let request = Request { unit: UnitId::tcp(1), query: write(1) };
    let asked = tokio::spawn(async move { asker.ask(request, Times::default()).await });
    rig.pass(Duration::from_millis(100)).await;
    assert_eq!(locked(&rig.facts).writes, [1]);
    rig.stop.send_replace(true);
    assert_eq!(asked.await.unwrap(), Err(CommandError::StoppedMidway));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_no_connection_took_was_not_done() {
    let manners = Manners { answers_max: Some(1), refuses_for: HOUR, ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), HOUR), manners);
    rig.pass(2 * SECOND).await;
    for _ in 0..20 {
        rig.pass(Duration::from_millis(190)).await;
        let error = rig.ask(write(1)).await.unwrap_err();
        assert!(!error.may_be_done(), "{error}");
    }
    assert!(locked(&rig.facts).writes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_on_a_serial_line_that_owes_an_answer_and_is_silent_was_not_sent() {
    let manners = Manners { silent_when: Some(|_| true), rtu: true, ..Manners::default() };
    let mut rig = Rig::start(&field(serial_server(), HOUR), manners);
    rig.pass(20 * SECOND).await;
    let error = rig.ask(write(1)).await.unwrap_err();
    assert_eq!(error, CommandError::NotSent(LineFault::Silence));
    assert_eq!(error.to_string(), "no answer: the request was not sent, so nothing was written");
    assert!(locked(&rig.facts).writes.is_empty());
}
