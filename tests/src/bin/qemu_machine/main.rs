//! System tests of the QEMU test machine; `cargo xtask qemu test`, `cuts` and `report` run this with the image that they made.

mod boot;
mod cuts;
mod lines;
mod pi;
mod provision;
mod report;
mod shelf;
mod update;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tidegate_tests::machine::Image;

/// A system test: its name is a sentence, and the future is the whole of it.
type Case = (&'static str, fn(Image) -> std::pin::Pin<Box<dyn Future<Output = Result<()>>>>);

macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((stringify!($name), |image| Box::pin($module::$name(image)))),*]
    };
}

/// What fits into the time of a merge: the first boot of a card with a dropped file, and a power cut.
const SHORT: [Case; 1] =
    cases![boot::a_card_with_a_dropped_file_publishes_its_first_reading_and_survives_a_power_cut];

const CASES: [Case; 11] = cases![
    boot::a_configured_card_boots_and_publishes_its_first_reading,
    boot::a_card_with_a_dropped_file_publishes_its_first_reading_and_survives_a_power_cut,
    provision::an_unconfigured_card_boots_and_says_on_the_console_what_to_do,
    provision::a_wrong_file_is_answered_on_the_card_and_a_right_one_is_applied,
    provision::a_gateway_that_hangs_is_started_again_and_a_changed_file_is_reloaded,
    lines::modbus_rtu_polls_through_the_second_serial_port,
    lines::simulated_gpio_lines_follow_the_test_and_the_gateway_may_open_them,
    update::an_update_from_a_url_is_tried_passes_its_gate_and_stays,
    update::a_foreign_signature_and_another_board_are_refused,
    update::a_power_cut_in_the_middle_of_an_update_leaves_the_old_system,
    update::a_system_whose_gateway_fails_is_left_by_itself,
];

/// On the image with the card of a Raspberry Pi.
const PI_SHORT: [Case; 1] = cases![pi::an_update_is_tried_once_and_kept];

const PI: [Case; 6] = cases![
    pi::an_update_is_tried_once_and_kept,
    pi::two_updates_in_a_row_are_kept_and_a_deleted_choice_is_made_anew,
    pi::a_system_whose_gateway_fails_is_left_by_itself_on_a_pi,
    pi::a_kernel_that_panics_and_one_that_hangs_are_left,
    pi::the_overlay_of_a_hat_is_loaded_and_stays_across_updates,
    pi::boot_files_that_cannot_be_read_are_left_by_a_watchdog_or_by_power,
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.context("no runtime").and_then(|runtime| match words[..] {
        ["test", image] => runtime.block_on(test(&CASES, Path::new(image), "")),
        ["test", image, name] => runtime.block_on(test(&CASES, Path::new(image), name)),
        ["pi", image] => runtime.block_on(test(&PI, Path::new(image), "")),
        ["pi", image, name] => runtime.block_on(test(&PI, Path::new(image), name)),
        ["pi-short", image] => runtime.block_on(run(Path::new(image), PI_SHORT.iter().collect())),
        ["pi-cuts", image, rounds, seed] => numbers(rounds, seed)
            .and_then(|(rounds, seed)| runtime.block_on(pi::cuts::run(Path::new(image), rounds, seed))),
        ["short", image] => runtime.block_on(run(Path::new(image), SHORT.iter().collect())),
        ["report", image] => runtime.block_on(report::print(Path::new(image))),
        ["cuts", image, rounds, jobs, seed, minutes] => cut_plan(rounds, jobs, seed, minutes)
            .and_then(|plan| runtime.block_on(cuts::run(Path::new(image), plan))),
        _ => bail!("usage: qemu_machine test|pi IMAGE [NAME], cuts IMAGE ROUNDS JOBS SEED MINUTES, or pi-cuts IMAGE ROUNDS SEED"),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qemu_machine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn numbers(rounds: &str, seed: &str) -> Result<(u64, u64)> {
    Ok((rounds.parse().context("ROUNDS is a number")?, seed.parse().context("SEED is a number")?))
}

fn cut_plan(rounds: &str, jobs: &str, seed: &str, minutes: &str) -> Result<cuts::Plan> {
    Ok(cuts::Plan {
        rounds: rounds.parse().context("ROUNDS is a number")?,
        jobs: jobs.parse().context("JOBS is a number")?,
        seed: seed.parse().context("SEED is a number")?,
        time: Duration::from_secs(60 * minutes.parse::<u64>().context("MINUTES is a number")?),
    })
}

async fn test(cases: &'static [Case], image: &Path, part: &str) -> Result<()> {
    let chosen: Vec<&Case> = cases.iter().filter(|(name, _)| name.contains(part)).collect();
    if chosen.is_empty() {
        bail!("no system test has {part:?} in its name");
    }
    run(image, chosen).await
}

async fn run(image: &Path, chosen: Vec<&Case>) -> Result<()> {
    let image = Image::at(image)?;
    let mut failed = 0;
    for (name, case) in chosen {
        let began = Instant::now();
        let done = case(image.clone()).await;
        let took = began.elapsed().as_secs();
        match done {
            Ok(()) => println!("{name}: ok, {took} s"),
            Err(error) => {
                failed += 1;
                println!("{name}: FAILED after {took} s: {error:#}");
            }
        }
    }
    if failed == 0 { Ok(()) } else { bail!("{failed} system tests failed") }
}
