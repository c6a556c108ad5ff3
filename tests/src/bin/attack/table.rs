//! One table at the end.

use std::time::Duration;

use super::judge::{Attack, Outcome};

const HEADINGS: [&str; 12] = [
    "attack",
    "",
    "peak MiB",
    "after",
    "stall ms",
    "p99 ms",
    "calm",
    "cut",
    "polls % (skipped)",
    "drain %",
    "turn ms",
    "restart (first)",
];

/// A row of it.
pub(crate) fn row(attack: &Attack, outcome: &Outcome, missed: &[String]) -> [String; 12] {
    let verdict = if missed.is_empty() { "ok" } else { "MISSED" };
    let died = outcome.end.as_ref().map_or("", |_| " dead");
    [
        format!("{} {}", attack.key, attack.name),
        verdict.into(),
        format!("{}{died}", outcome.peak_mib),
        outcome.after_mib.to_string(),
        ms(outcome.stall),
        ms(outcome.p99),
        ms(outcome.calm_p99),
        outcome.cuts.to_string(),
        format!("{:.1} ({:.0})", outcome.polls_kept * 100.0, outcome.polls_missing),
        format!("{:.0}", outcome.drain_kept * 100.0),
        outcome.turn_ms.map_or("-".into(), |turn| format!("{turn:.0}")),
        format!(
            "{} ({} MiB {:.1} s)",
            outcome.restart_words(),
            outcome.first.rest_mib,
            outcome.first.took.as_secs_f64()
        ),
    ]
}

/// All rows below their headings, as Markdown.
pub(crate) fn print(rows: &[[String; 12]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
    };
    let line = |cells: [&str; 12]| {
        let cells: Vec<String> =
            cells.iter().enumerate().map(|(column, cell)| format!("{cell:w$}", w = width(column))).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<String> = (0..HEADINGS.len()).map(|column| "-".repeat(width(column))).collect();
    let rule = format!("| {} |\n", rule.join(" | "));
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    [line(HEADINGS), rule].into_iter().chain(body).collect()
}

fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}
