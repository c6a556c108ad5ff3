//! The promises of the uplink in virtual time; the long version is `cargo xtask sim --seeds N --hours H`.

use anyhow::Result;
use gateway_core::uplink::Mutant;
use gateway_core::uplink::queue::DropReason;
use tidegate_tests::sim::plan::Variant;
use tidegate_tests::sim::{Case, Report};

/// Seeds that together kill every mutant.
const SEEDS: [u64; 5] = [1, 3, 4, 5, 20];
/// Kills the mutant that forgets what a new database has lost; with those above no mark is lost.
const LOST_MARKS_SEED: u64 = 641;
/// Virtual hours of each.
const HOURS: u64 = 20;

fn keeps_its_promises(variant: Variant, seed: u64, hours: u64) -> Result<Report> {
    Ok(Case { variant, ..Case::of(seed, hours) }.run()?)
}

#[test]
fn kept_or_counted_at_every_moment_through_outages_crashes_and_full_disks() -> Result<()> {
    let reports: Vec<Report> =
        SEEDS.into_iter().map(|seed| keeps_its_promises(Variant::Any, seed, HOURS)).collect::<Result<_>>()?;
    assert!(reports.iter().any(|report| report.crashes > 5), "{reports:?}");
    assert!(reports.iter().all(|report| report.received > 1000), "{reports:?}");
    Ok(())
}

#[test]
fn every_mutant_is_killed_by_a_seed_that_the_product_survives() -> Result<()> {
    for (name, mutant) in Mutant::ALL {
        let variant = match mutant {
            Mutant::BlameWithoutProof => Variant::Flaky,
            Mutant::StarveLive => Variant::Live,
            Mutant::NeverBlame
            | Mutant::ForgetAside
            | Mutant::ForgetLostMarks
            | Mutant::AsideCountedDropped => Variant::Hostile,
            _ => Variant::Any,
        };
        let case = |seed: u64| Case { mutant: Some(mutant), variant, ..Case::of(seed, HOURS) };
        assert!(
            !SEEDS.into_iter().chain([LOST_MARKS_SEED]).all(|seed| case(seed).run().is_ok()),
            "{name} survives the seeds {SEEDS:?} and {LOST_MARKS_SEED}"
        );
    }
    Ok(())
}

#[test]
fn every_policy_of_dropping_is_reached_by_some_seed() -> Result<()> {
    let mut dropped = [0; DropReason::ALL.len()];
    for seed in 1..=12 {
        let report = keeps_its_promises(Variant::Tight, seed, 6)?;
        for (sum, rows) in dropped.iter_mut().zip(report.dropped) {
            *sum += rows;
        }
    }
    for (reason, rows) in DropReason::ALL.iter().zip(dropped) {
        let unreachable =
            matches!(reason, DropReason::Topic | DropReason::Unreadable | DropReason::RefusedByCloud);
        assert!(rows > 0 || unreachable, "nothing was dropped for {}: {dropped:?}", reason.word());
    }
    Ok(())
}

#[test]
fn acknowledgement_means_safe_even_when_the_process_is_killed_at_any_moment() -> Result<()> {
    for seed in 100..104 {
        assert!(keeps_its_promises(Variant::Strict, seed, 10)?.crashes > 0);
    }
    Ok(())
}

#[test]
fn a_clean_stop_is_not_blamed_for_what_a_slow_disk_was_asked_before_it_healed() -> Result<()> {
    // The disk heals 0.7 s after the stop began; what it was asked before that takes the rest of the time that the stop has.
    keeps_its_promises(Variant::Any, 20_003_315, 10)?;
    Ok(())
}

#[test]
fn a_pause_of_the_store_that_ends_in_the_moment_of_something_else_is_not_over_before_its_timer() -> Result<()>
{
    // A packet arrives in the very millisecond in which a failed commit is to be tried again.
    keeps_its_promises(Variant::Any, 20_008_490, 9)?;
    keeps_its_promises(Variant::Any, 20_008_879, 7)?;
    Ok(())
}

#[test]
fn no_wear_when_all_is_well() -> Result<()> {
    for seed in 200..203 {
        let report = keeps_its_promises(Variant::Calm, seed, 24)?;
        assert_eq!(report.store_ops, 0, "{report:?}");
        assert!(report.received > 4000, "{report:?}");
        assert_eq!(report.repeated, 0, "{report:?}");
    }
    Ok(())
}

#[test]
fn live_rows_are_not_starved_by_a_backlog() -> Result<()> {
    for seed in 300..304 {
        keeps_its_promises(Variant::Live, seed, 20)?;
    }
    Ok(())
}

#[test]
fn fifo_keeps_the_order_of_production_on_every_connection() -> Result<()> {
    for seed in 400..404 {
        keeps_its_promises(Variant::Fifo, seed, 10)?;
    }
    Ok(())
}

#[test]
fn a_message_that_the_cloud_will_not_take_is_set_aside_and_everything_else_arrives() -> Result<()> {
    let mut asides = 0;
    keeps_its_promises(Variant::Hostile, LOST_MARKS_SEED, HOURS)?;
    for seed in 600..620 {
        let report = keeps_its_promises(Variant::Hostile, seed, 10)?;
        assert_eq!(report.dropped[DropReason::RefusedByCloud as usize], 0, "{report:?}");
        asides += report.asides;
    }
    assert!(asides > 100, "{asides}");
    Ok(())
}

#[test]
fn a_line_that_breaks_by_itself_at_any_rate_never_sets_a_message_aside() -> Result<()> {
    for seed in 700..721 {
        let report = keeps_its_promises(Variant::Flaky, seed, 20)?;
        assert_eq!(report.asides, 0, "{report:?}");
    }
    Ok(())
}

#[test]
fn thinning_out_keeps_the_equation_and_everything_that_is_left_arrives() -> Result<()> {
    let mut thinned = 0;
    for seed in 500..504 {
        thinned += keeps_its_promises(Variant::Thin, seed, 20)?.dropped[DropReason::Thinned as usize];
    }
    assert!(thinned > 0);
    Ok(())
}

#[test]
fn the_same_seed_repeats_the_same_run() -> Result<()> {
    let run = || keeps_its_promises(Variant::Any, 7, 5);
    assert_eq!(run()?, run()?);
    Ok(())
}
