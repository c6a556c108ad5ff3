//! The benchmarks: every bench_* program of the tests package, and one table.
//!
//! A program says what it measured in lines that begin with `bench|` and have six fields: what, measured, limit or peer,
//! ratio, goal, and `ok` or `MISSED` (`tidegate_tests::bench` writes them). All other lines are shown as they are.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::args::Bench;
use crate::steps::{self, Steps, cargo, root};

const HEADINGS: [&str; 6] = ["what", "measured", "limit or peer", "ratio", "goal", ""];

type Row = [String; 6];

/// Runs all or some benchmarks.
///
/// # Errors
/// There is none, one failed or printed nothing, or a goal was missed.
pub(crate) fn run(args: &Bench) -> Result<()> {
    let mut names = programs()?;
    if let Some(part) = &args.name {
        let all = names.join(", ");
        names.retain(|name| name.contains(part.as_str()));
        if names.is_empty() {
            bail!("no benchmark is called {part}; there are: {all}");
        }
    }
    run_all(&names)
}

fn run_all(names: &[String]) -> Result<()> {
    let mut all = Steps::default();
    let mut rows: Vec<Row> = Vec::new();
    let mut gateway = None;
    all.run("build", || {
        steps::run(cargo(&["build", "--quiet", "--release", "--package", "tidegate-tests", "--bins"]))?;
        gateway = Some(steps::firmware()?);
        Ok(())
    });
    let Some(gateway) = gateway else { return all.finish() };
    for name in names {
        all.run(name, || {
            let measured = program(name, &gateway)?;
            if measured.is_empty() {
                bail!("it measured nothing");
            }
            let missed = measured.iter().filter(|row| row[5] != "ok").count();
            rows.extend(measured);
            if missed == 0 { Ok(()) } else { bail!("{missed} goals missed") }
        });
    }
    print!("{}", table(&rows));
    all.finish()
}

fn programs() -> Result<Vec<String>> {
    let dir = root().join("tests/src/bin");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if name.starts_with("bench_") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn program(name: &str, gateway: &Path) -> Result<Vec<Row>> {
    let mut cargo = cargo(&["run", "--quiet", "--release", "--package", "tidegate-tests", "--bin", name]);
    cargo.env(steps::PROGRAM, gateway);
    let mut child = cargo.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {name}"))?;
    let output = child.stdout.take().context("the output of the program is not piped")?;
    let mut rows = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("    {line}");
        rows.extend(row(&line)?);
    }
    let status = child.wait()?;
    if status.success() { Ok(rows) } else { bail!("{name} ended with {status}") }
}

/// The row that a line holds, if it claims to.
fn row(line: &str) -> Result<Option<Row>> {
    let Some(fields) = line.strip_prefix("bench|") else { return Ok(None) };
    let fields: Vec<String> = fields.split('|').map(|field| field.trim().to_owned()).collect();
    match Row::try_from(fields) {
        Ok(row) => Ok(Some(row)),
        Err(fields) => bail!("a line has {} fields instead of 6: {line}", fields.len()),
    }
}

fn table(rows: &[Row]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
    };
    let line = |cells: [&str; 6]| {
        let mut line = format!("  {:w$}", cells[0], w = width(0));
        for (column, cell) in cells.iter().enumerate().skip(1) {
            line.push_str(&format!("  {cell:>w$}", w = width(column)));
        }
        format!("{}\n", line.trim_end())
    };
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(HEADINGS)).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::{row, table};

    #[test]
    fn a_line_of_six_fields_is_a_row_and_others_are_talk() {
        let found = row("bench|polls/s at 9600|49.1|50.2|0.98|>= 0.95|ok").unwrap().unwrap();
        assert_eq!(found, ["polls/s at 9600", "49.1", "50.2", "0.98", ">= 0.95", "ok"]);
        assert!(row("measuring ...").unwrap().is_none());
        assert!(row("bench|too|few").is_err());
    }

    #[test]
    fn the_table_is_aligned() {
        let rows = [row("bench|a|1|22|0.5|>= 0.4|ok").unwrap().unwrap()];
        let expected = concat!(
            "  what  measured  limit or peer  ratio    goal\n",
            "  a            1             22    0.5  >= 0.4  ok\n"
        );
        assert_eq!(table(&rows), expected);
    }
}
