//! The promises of the local broker in virtual time.

use std::ops::RangeInclusive;

use anyhow::Result;
use gateway_core::broker::Mutant;
use tidegate_tests::sim_broker::{Case, Report};

/// Seeds that the product survives; of five seeds two have small queues.
const SEEDS: RangeInclusive<u64> = 1..=40;
/// The same for a world with a silent subscriber.
const SILENT_SEEDS: RangeInclusive<u64> = 1..=12;
/// Seeds of which one kills a mutant: the rarest dies by one in twenty.
const MUTANT_SEEDS: RangeInclusive<u64> = 1..=80;
/// Virtual minutes of each.
const MINUTES: u64 = 6;

fn run(seed: u64) -> Result<Report> {
    Ok(Case::of(seed, MINUTES).run()?)
}

#[test]
fn what_is_acknowledged_arrives_exactly_once_where_promised_whatever_goes_wrong() -> Result<()> {
    let mut failed = 0;
    for seed in SEEDS {
        let report = run(seed)?;
        eprintln!("seed {seed}: {report:?}");
        assert!(report.crashes > 3 && report.cuts > 20 && report.acknowledged > 300, "{report:?}");
        assert!(report.received > 1000 && report.forwarded > 200 && report.shared > 50, "{report:?}");
        assert!(report.attacks > 100 && report.ended > 20 && report.wills > 5, "{report:?}");
        failed += report.turns.1 + report.resets;
    }
    assert!(failed > 100, "{failed} turns failed or were lost with a database");
    Ok(())
}

#[test]
fn the_same_holds_when_nearly_everything_is_put_down_once_and_taken_up_again() -> Result<()> {
    for seed in 101..=106 {
        let report = Case { turn_work_max: Some(150), ..Case::of(seed, MINUTES) }.run()?;
        assert!(report.crashes > 3 && report.received > 1000 && report.holds > 1000, "{report:?}");
    }
    Ok(())
}

#[test]
fn every_mutant_is_killed_by_a_seed_that_the_product_survives() {
    for (name, mutant) in Mutant::ALL {
        let case = |seed| Case::of(seed, MINUTES).with(mutant);
        let killer = MUTANT_SEEDS.into_iter().find_map(|seed| case(seed).run().err().map(|why| (seed, why)));
        let Some((seed, failure)) = killer else { panic!("{name} survives the seeds {MUTANT_SEEDS:?}") };
        eprintln!("{name}: {failure}");
        let product = Case { mutant: None, ..case(seed) }.run();
        assert!(product.is_ok(), "the product dies by seed {seed}, too: {product:?}");
    }
}

#[test]
fn nothing_of_qos_1_is_written_while_all_is_well() -> Result<()> {
    let report = Case::calm(1, 10).run()?;
    eprintln!("{report:?}");
    assert_eq!((report.repeated, report.rows_written), (0, 0), "{report:?}");
    assert!(report.acknowledged > 2000 && report.received > 5000, "{report:?}");
    Ok(())
}

#[test]
fn no_publisher_notices_a_subscriber_that_stops_acknowledging() -> Result<()> {
    for seed in SILENT_SEEDS {
        let report = Case::silent(seed, MINUTES).run()?;
        eprintln!("seed {seed}: {report:?}");
        assert!(report.acknowledged > 1000 && report.rows_written > 50, "{report:?}");
    }
    Ok(())
}

#[test]
fn the_same_seed_repeats_the_same_run() -> Result<()> {
    assert_eq!(run(9)?, run(9)?);
    Ok(())
}
