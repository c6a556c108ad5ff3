use crate::sim::soak::{Settings, run};

#[test]
fn hostile_lines_never_yield_a_value_of_another_request() {
    for seed in 1..=6 {
        let report = run(&Settings::hostile(5_000, seed));
        eprintln!("{seed} {report:?}");
        assert_eq!(report.wrong, 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn soak_finds_wrong_values_when_the_master_only_trusts_time() {
    let report = run(&Settings { fences: false, deaf_units: 0, ..Settings::hostile(20_000, 1) });
    assert!(report.wrong > 0, "{report:?}");
}
