//! `cargo xtask mutants`: whether core's own tests notice when core is changed.
//!
//! cargo-mutants knows every small change of core (a sum turned into a difference, a function that always says yes). The commit's hash draws a sample, so
//! that each commit looks at others and the same commit at the same; each is built and tested by itself. One that no test notices is killed by a new test of
//! core, or stands in `docs/mutants.md` with the reason why nothing can notice it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::args::Mutants;
use crate::steps::{cargo, commit, root, run, succeeds};

/// The list of those that nothing can notice.
const LIST: &str = "docs/mutants.md";
/// Where cargo-mutants writes what it did, below the root.
const OUTPUT: &str = "target/mutants";
/// What is not part of the product: deliberate faults of the simulation, and what tests are made of.
const EXCLUDED: [&str; 5] =
    ["**/mutant.rs", "**/testing.rs", "**/fuzzing.rs", "**/fuzzing/**", "**/tests/**"];

/// Draws a sample and runs core's tests against each.
///
/// # Errors
/// A mutant lives that the list does not name, or the list names one that does not exist.
pub(crate) fn whole(args: &Mutants) -> Result<()> {
    let installed = || succeeds(cargo(&["mutants", "--version"]));
    if !installed() {
        run(cargo(&["install", "cargo-mutants", "--locked"]))?;
        if !installed() {
            bail!("cargo-mutants is installed and cannot be started");
        }
    }
    let all = all()?;
    let known =
        known(&fs::read_to_string(root().join(LIST)).with_context(|| format!("cannot read {LIST}"))?)?;
    let gone: Vec<&str> = known
        .iter()
        .filter(|known| !all.iter().any(|name| is_named(name, known)))
        .map(String::as_str)
        .collect();
    if !gone.is_empty() {
        bail!("{LIST} names what is no mutant of core any more, remove it there:\n  {}", gone.join("\n  "));
    }
    let commit = args.commit.clone().or_else(commit).unwrap_or_else(|| "no-commit".to_owned());
    let chosen = match &args.only {
        Some(part) => all.iter().filter(|name| name.contains(part.as_str())).cloned().collect(),
        None => draw(&all, &commit, args.sample),
    };
    println!(
        "{} of {} mutants of core, chosen by {}:",
        chosen.len(),
        all.len(),
        args.only.as_ref().unwrap_or(&commit)
    );
    chosen.iter().for_each(|name| println!("  {name}"));
    if chosen.is_empty() {
        bail!("there is no such mutant");
    }
    test(&chosen, args)?;
    report(&known)
}

/// Every mutant of core, by name.
fn all() -> Result<Vec<String>> {
    let mut list = cargo(&["mutants", "--list", "--package", "gateway-core", "--colors", "never"]);
    list.args(excluded());
    let output = list.output().context("cannot start cargo-mutants")?;
    if !output.status.success() {
        bail!("cargo-mutants cannot list: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn excluded() -> impl Iterator<Item = String> {
    EXCLUDED.into_iter().flat_map(|glob| ["--exclude".to_owned(), glob.to_owned()])
}

/// The lines of the list's table: `file: what is replaced`, without the line number, which moves with every change.
fn known(page: &str) -> Result<BTreeSet<String>> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let mut known = BTreeSet::new();
    for (name, why) in rows {
        if why.trim_matches(['|', ' ']).is_empty() {
            bail!("{LIST}: `{name}` has no reason why nothing can notice it");
        }
        known.insert(name.to_owned());
    }
    Ok(known)
}

/// Whether a mutant (`file:line:column: what`) is the one of the list (`file: what`).
fn is_named(name: &str, known: &str) -> bool {
    let Some((file, what)) = known.split_once(": ") else { return false };
    let rest = name.strip_prefix(file).and_then(|rest| rest.strip_prefix(':'));
    rest.and_then(|rest| rest.split_once(": ")).is_some_and(|(place, rest)| {
        rest == what && place.chars().all(|letter| letter.is_ascii_digit() || letter == ':')
    })
}

/// `sample` of all, in an order that the commit chooses.
fn draw(all: &[String], commit: &str, sample: usize) -> Vec<String> {
    let mut order: Vec<&String> = all.iter().collect();
    order.sort_by_key(|name| (lot(commit, name), *name));
    order.into_iter().take(sample).cloned().collect()
}

/// FNV-1a of both: no secret, only the same again and evenly spread.
fn lot(commit: &str, name: &str) -> u64 {
    let bytes = commit.bytes().chain([0]).chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The last bytes of a name move its low bits only.
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn test(chosen: &[String], args: &Mutants) -> Result<()> {
    let output = root().join(OUTPUT);
    fs::create_dir_all(&output).with_context(|| format!("cannot make {OUTPUT}"))?;
    let mut mutants = cargo(&["mutants", "--package", "gateway-core", "--test-package", "gateway-core"]);
    mutants.args(["--no-shuffle", "--colors", "never", "--output", OUTPUT]);
    mutants.args(["--jobs", &args.jobs.to_string(), "--timeout", &args.seconds.to_string()]);
    mutants.args(excluded());
    // Fields that are left out pass by the names (cargo-mutants 27): without the files it takes those of all of core.
    for file in
        chosen.iter().filter_map(|name| name.split_once(':')).map(|(file, _)| file).collect::<BTreeSet<_>>()
    {
        mutants.args(["--file", file]);
    }
    for name in chosen {
        mutants.args(["--re", &format!("^{}$", escaped(name))]);
    }
    // It ends badly when a mutant lives; which ones those are is judged by its report.
    let status = mutants.status().context("cannot start cargo-mutants")?;
    match status.code() {
        Some(0 | 2 | 3) => Ok(()),
        _ => bail!("cargo-mutants ended with {status}: core's tests have to pass as they are"),
    }
}

/// Says what lived, and fails for what the list does not name.
fn report(known: &BTreeSet<String>) -> Result<()> {
    let path = root().join(OUTPUT).join("mutants.out/outcomes.json");
    let (tested, lived) = lived(&path)?;
    let (named, unnamed): (Vec<_>, Vec<_>) =
        lived.into_iter().partition(|name| known.iter().any(|known| is_named(name, known)));
    for name in &named {
        println!("lives, and {LIST} says why: {name}");
    }
    for name in &unnamed {
        println!("LIVES: {name}");
    }
    println!("{tested} mutants tested, {} named in {LIST} live, {} others live", named.len(), unnamed.len());
    match unnamed.len() {
        0 => Ok(()),
        lived => {
            bail!("{lived} mutants live: kill each by a test of core, or name it in {LIST} with the reason")
        }
    }
}

/// How many were tested, and the names of those that no test noticed.
fn lived(outcomes: &Path) -> Result<(usize, Vec<String>)> {
    let text = fs::read_to_string(outcomes).with_context(|| format!("cannot read {}", outcomes.display()))?;
    let whole: Value = serde_json::from_str(&text)?;
    let list =
        whole["outcomes"].as_array().context("cargo-mutants reports in a form that is not known here")?;
    let mutants: Vec<(&Value, &str)> = list
        .iter()
        .filter_map(|outcome| {
            let mutant = outcome["scenario"].get("Mutant")?;
            Some((mutant, outcome["summary"].as_str().unwrap_or_default()))
        })
        .collect();
    let lived = mutants.iter().filter(|(_, summary)| *summary == "MissedMutant");
    let names: Option<Vec<String>> =
        lived.map(|(mutant, _)| Some(mutant["name"].as_str()?.to_owned())).collect();
    Ok((mutants.len(), names.context("cargo-mutants reports a mutant without a name")?))
}

/// A regular expression for exactly this text: what means something there has a backslash. Others must have none, `\<` is the beginning of a word.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, letter| {
        if r"\.+*?()|[]{}^$#&-~".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::{draw, escaped, is_named, known};

    const NAME: &str = "gateway-daemon/core/src/a.rs:12:5: replace + with - in Cost::of";

    #[test]
    fn a_mutant_of_the_list_is_known_wherever_its_line_has_gone() {
        assert!(is_named(NAME, "gateway-daemon/core/src/a.rs: replace + with - in Cost::of"));
        assert!(!is_named(NAME, "gateway-daemon/core/src/a.rs: replace + with * in Cost::of"));
        assert!(!is_named(NAME, "gateway-daemon/core/src/b.rs: replace + with - in Cost::of"));
        assert!(!is_named(NAME, "replace + with - in Cost::of"));
    }

    #[test]
    fn a_line_of_the_list_needs_a_reason() {
        let page = "# x\n| mutant | why |\n| --- | --- |\n| `a.rs: replace f with ()` | nobody calls it |\n";
        assert_eq!(known(page).unwrap().into_iter().collect::<Vec<_>>(), ["a.rs: replace f with ()"]);
        assert!(known("| `a.rs: replace f with ()` | |\n").is_err());
    }

    #[test]
    fn a_commit_draws_the_same_again_and_another_commit_others() {
        let all: Vec<String> = (0..1000).map(|n| format!("a.rs:{n}:1: replace f -> u64 with {n}")).collect();
        let drawn = |commit: &str| draw(&all, commit, 30);
        assert_eq!(drawn("71ee55e"), drawn("71ee55e"));
        let common = drawn("71ee55e").iter().filter(|name| drawn("71ee55f").contains(name)).count();
        assert!(common < 10, "{common} of 30");
        assert_eq!(draw(&all, "x", 2000).len(), 1000);
    }

    #[test]
    fn a_name_is_looked_for_as_it_is() {
        assert_eq!(escaped("a.rs: f -> Vec<u8> with (1+1)"), r"a\.rs: f \-> Vec<u8> with \(1\+1\)");
    }
}
