//! The promises of the local broker in virtual time.

use anyhow::Result;
use gateway_core::broker::Mutant;
use tidegate_tests::sim_broker::{Case, Report};

/// Seeds that together kill every mutant.
const SEEDS: [u64; 6] = [1, 2, 3, 4, 5, 6];
/// Virtual minutes of each.
const MINUTES: u64 = 20;

fn run(seed: u64) -> Result<Report> {
    Ok(Case::of(seed, MINUTES).run()?)
}

#[test]
fn what_is_acknowledged_arrives_exactly_once_where_promised_whatever_goes_wrong() -> Result<()> {
    for seed in SEEDS {
        let report = run(seed)?;
        eprintln!("seed {seed}: {report:?}");
        assert!(report.crashes > 10 && report.cuts > 50 && report.turns.1 > 20, "{report:?}");
        assert!(report.acknowledged > 2000 && report.received > 5000, "{report:?}");
    }
    Ok(())
}

#[test]
fn every_mutant_is_killed_by_a_seed_that_the_product_survives() {
    for (name, mutant) in Mutant::ALL {
        let survives = |seed: u64| match (Case { mutant: Some(mutant), ..Case::of(seed, MINUTES) }).run() {
            Ok(_) => true,
            Err(failure) => {
                eprintln!("{name}: {failure}");
                false
            }
        };
        assert!(!SEEDS.into_iter().all(survives), "{name} survives the seeds {SEEDS:?}");
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
fn the_same_seed_repeats_the_same_run() -> Result<()> {
    assert_eq!(run(9)?, run(9)?);
    Ok(())
}

#[test]
fn one_seed_from_the_environment_is_replayed() -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let mutant = std::env::var("BROKER_MUTANT").unwrap_or_default();
    let mutant = Mutant::ALL.iter().find(|(name, _)| *name == mutant).map(|(_, mutant)| *mutant);
    let trace = number("BROKER_TRACE").is_some();
    let case = Case::of(number("BROKER_SEED").unwrap_or(7), number("BROKER_MINUTES").unwrap_or(2));
    eprintln!("{:?}", Case { mutant, trace, ..case }.run()?);
    Ok(())
}
