//! `rtu_soak --polls N --seed S`: the RTU master against hostile lines in virtual time. Exit code 1 when a value was wrong.

use std::process::ExitCode;

use drivers::sim::soak::{Report, Settings, run};

/// Polls on one line before the next one with another seed, speed and echo.
const LINE_POLLS: u64 = 50_000;

fn main() -> ExitCode {
    let (mut polls, mut seed) = (1_000_000, 1);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let number = args.next().and_then(|text| text.parse().ok());
        match (flag.as_str(), number) {
            ("--polls", Some(number)) => polls = number,
            ("--seed", Some(number)) => seed = number,
            _ => {
                eprintln!("usage: rtu_soak [--polls N] [--seed S]");
                return ExitCode::from(64);
            }
        }
    }
    let mut total = Total::default();
    while total.polls < polls {
        let settings = Settings::hostile(LINE_POLLS.min(polls - total.polls), seed);
        let report = run(&settings);
        if report.wrong > 0 || report.early_requests > 0 {
            println!("FAILED; replay: rtu_soak --polls {} --seed {seed}: {report:?}", settings.polls);
        }
        total.add(&report);
        seed += 1;
    }
    println!(
        "{} polls in {:.1} virtual hours: {} right, {} wrong, {} faults, {} late answers, {} early requests",
        total.polls, total.hours, total.right, total.wrong, total.faults, total.late, total.early_requests
    );
    ExitCode::from(u8::from(total.wrong > 0 || total.early_requests > 0 || total.late == 0))
}

#[derive(Default)]
struct Total {
    polls: u64,
    right: u64,
    wrong: u64,
    faults: u64,
    late: u64,
    early_requests: u64,
    hours: f64,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.polls += report.polls;
        self.right += report.right;
        self.wrong += report.wrong;
        self.faults += report.faults;
        self.late += report.late;
        self.early_requests += report.early_requests;
        self.hours += report.elapsed.as_secs_f64() / 3600.0;
    }
}
