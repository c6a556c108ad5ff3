use drivers::sim::model::Model;
use drivers::sim::serve::{Units, tcp};
use tokio::net::TcpListener;

use super::*;

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    progress: Vec<String>,
    json: Vec<serde_json::Value>,
}

impl Show for Lines {
    fn unit(&mut self, attempt: &Attempt, found: &Found) {
        self.lines.push(words::unit(attempt, found));
        self.json.push(serde_json::json!(Unit::new(attempt, found)));
    }

    fn line(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }

    fn progress(&mut self, text: &str) {
        self.progress.push(text.to_owned());
    }
}

fn args(line: &str) -> cli::Scan {
    match cli::parse(line.split(' ')) {
        Ok(cli::Command::Scan(scan)) => scan,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn units_behind_tcp_are_found_and_the_others_are_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut units = Units::new();
    units.insert(2, Box::new(Model::power_meter()));
    units.insert(5, Box::new(Model::temperature_controller()));
    tokio::spawn(tcp(listener, units));
    let mut lines = Lines::default();
    let args = args(&format!("gateway-daemon scan --tcp {addr} --units 1-6 --timeout 50ms"));
    assert_eq!(scan(&args, &mut lines).await.unwrap(), 2);
    assert!(lines.lines[0].starts_with("unit   2"), "{:?}", lines.lines);
    assert!(lines.lines[1].starts_with("unit   5"), "{:?}", lines.lines);
    assert!(lines.lines[2].starts_with("2 devices found"), "{:?}", lines.lines);
    assert_eq!((lines.lines.len(), lines.progress.len()), (3, 6));
    let (meter, oven) = (&lines.json[0], &lines.json[1]);
    assert_eq!(
        (&meter["unit"], &meter["device"], &meter["line"]),
        (&2.into(), &true.into(), &addr.to_string().into())
    );
    assert!(meter["holding"]["value"].is_u64() && meter["holding"]["exception"].is_null(), "{meter}");
    assert_eq!(meter["input"]["exception"], 2, "a meter has no input registers: {meter}");
    assert!(meter["identity"].as_array().unwrap().contains(&"power meter".into()), "{meter}");
    assert_eq!((&oven["unit"], lines.json.len()), (&5.into(), 2));
}

#[tokio::test]
async fn a_line_that_cannot_be_opened_ends_the_scan_with_its_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let mut lines = Lines::default();
    let error =
        scan(&args(&format!("gateway-daemon scan --tcp {addr} --units 1")), &mut lines).await.unwrap_err();
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    let error = scan(&args("gateway-daemon scan --port /dev/tidegate-nothing --units 1"), &mut lines)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/dev/tidegate-nothing"), "{error}");
    assert_eq!(lines.lines, [""; 0]);
}

#[tokio::test]
async fn the_units_0_and_255_of_a_device_by_tcp_are_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut units = Units::new();
    units.insert(0, Box::new(Model::power_meter()));
    units.insert(255, Box::new(Model::power_meter()));
    tokio::spawn(tcp(listener, units));
    for unit in [0, 255] {
        let mut lines = Lines::default();
        let args = args(&format!("gateway-daemon scan --tcp {addr} --units {unit} --timeout 500ms"));
        assert_eq!(scan(&args, &mut lines).await.unwrap(), 1, "{:?}", lines.lines);
        assert!(lines.lines[0].starts_with(&format!("unit {unit:>3}")), "{:?}", lines.lines);
    }
}

#[test]
fn every_baud_rate_is_tried_with_every_parity() {
    let attempts = attempts(&args("gateway-daemon scan --port p --baud 9600,19200 --parity even,none"));
    let labels: Vec<&str> = attempts.iter().map(|attempt| attempt.label.as_str()).collect();
    assert_eq!(labels, ["9600 8E1", "19200 8E1", "9600 8N2", "19200 8N2"]);
}

/// What a scan says of its time, from its first unit to its last, whatever the units answer: it goes by their number alone.
fn course_of(line: &str) -> Vec<Duration> {
    let args = args(line);
    let attempts = attempts(&args);
    let units = usize::from(args.units.last - args.units.first) + 1;
    let each = |attempt: &Attempt| attempt.silent_max(args.timeout);
    let mut course = Course::new(attempts.iter().map(|attempt| (units, each(attempt))));
    let mut left = vec![course.left_max()];
    for attempt in &attempts {
        for _ in 0..units {
            course.asked(each(attempt));
            left.push(course.left_max());
        }
    }
    assert_eq!(course.percent(), 100);
    left
}

#[test]
fn the_time_that_is_left_is_said_from_the_first_unit_on_and_only_falls() {
    for line in [
        "gateway-daemon scan --tcp h",
        "gateway-daemon scan --rtu-over-tcp h --timeout 2s",
        "gateway-daemon scan --port p --baud 1200,9600,115200 --parity even,none --units 1-20 --timeout 50ms",
    ] {
        let left = course_of(line);
        assert!(left.windows(2).all(|pair| pair[1] < pair[0]), "{line}: {left:?}");
        assert_eq!(left.last(), Some(&Duration::ZERO), "{line}");
    }
}

/// What the bus does on a silent line: a time-out, the fence's time-out, the rest of the guard after it, and the last time-out.
#[test]
fn the_time_of_a_silent_unit_is_that_of_its_questions_its_fence_and_its_guard() {
    let of = |line: &str| {
        let args = args(line);
        attempts(&args)[0].silent_max(args.timeout)
    };
    let ms = |duration: Duration| duration.as_millis();
    assert_eq!(ms(of("gateway-daemon scan --tcp h --timeout 500ms")), 1500 + 30);
    assert_eq!(ms(of("gateway-daemon scan --rtu-over-tcp h --timeout 100ms")), 200 + 1000 + 40);
    assert_eq!(ms(of("gateway-daemon scan --rtu-over-tcp h --timeout 2s")), 4000 + 4000 + 40);
    let serial = ms(of("gateway-daemon scan --port p --baud 9600 --timeout 100ms"));
    assert!((1240 + 60..1240 + 75).contains(&serial), "15 characters of 11 bits four times: {serial}");
}

#[test]
fn progress_tells_how_long_it_will_take_at_most() {
    let args = args("gateway-daemon scan --tcp h --timeout 490ms");
    let attempt = &attempts(&args)[0];
    let mut course = Course::new([(247, attempt.silent_max(args.timeout))]);
    assert_eq!(
        words::progress(attempt, 1, &course, 0),
        "h:502  asking unit 1  0 %, at most 6 min 10 s left, 0 found"
    );
    for _ in 0..100 {
        course.asked(attempt.silent_max(args.timeout));
    }
    let later = words::progress(attempt, 101, &course, 3);
    assert_eq!(later, "h:502  asking unit 101  40 %, at most 3 min 40 s left, 3 found");
}

#[test]
fn a_unit_is_found_by_any_word_and_not_by_noise() {
    let unit = |holding: Said, input: Said, identity: &[&str]| {
        let identity = identity.iter().map(ToString::to_string).collect();
        Found { unit: 1, holding, input, identity }
    };
    assert!(unit(Said::Refused(2), Said::Nothing, &[]).is_device());
    assert!(unit(Said::Nothing, Said::Value(0), &[]).is_device());
    assert!(unit(Said::Nothing, Said::Nothing, &["ACME"]).is_device());
    let noise = unit(Said::Garbled(LineFault::Checksum), Said::Nothing, &[]);
    assert!(!noise.is_device() && noise.is_garbled());
    assert_eq!(words::printable(b" ACME\x1b[2J\0 "), "ACME[2J");
}
