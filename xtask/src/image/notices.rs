//! The licence texts of the crates that are inside of the daemon. MIT, Apache, BSD and ISC all ask for the same: who gets the program gets the text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::sbom::{listed, without_ours};
use crate::steps::cargo;

/// How the names of files with a licence or a notice begin, in capitals.
const BEGINNINGS: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// Most bytes of a text: the longest licence has some 35 kB.
const TEXT_BYTES_MAX: u64 = 256 * 1024;

/// Writes all of them into one file, each text once with the crates that it belongs to.
///
/// # Errors
/// Cargo does not know a crate, or one has a text that is too long to be a licence. A crate without a text of its own is listed as such.
pub(super) fn write(file: &Path) -> Result<()> {
    let text = text(&folders()?)?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// A crate: name, version, licence as it says itself, and where its sources lie.
type Crate = (String, String, String, PathBuf);

/// The crates of the daemon with the folders of their sources.
fn folders() -> Result<Vec<Crate>> {
    let output =
        cargo(&["metadata", "--locked", "--format-version", "1"]).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let word = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let place = |package: &Value| Path::new(&word(package, "manifest_path")).parent().map(PathBuf::from);
    let known: BTreeMap<(String, String), PathBuf> = packages
        .iter()
        .filter_map(|package| Some(((word(package, "name"), word(package, "version")), place(package)?)))
        .collect();
    let find = |(name, version, licence): (String, String, String)| {
        let place = known.get(&(name.clone(), version.clone()));
        let place = place.with_context(|| format!("cargo metadata does not know {name} {version}"))?.clone();
        Ok((name, version, licence, place))
    };
    listed()?.iter().filter_map(|line| without_ours(line)).map(find).collect()
}

fn text(crates: &[Crate]) -> Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut list = String::new();
    let mut bare = Vec::new();
    for (name, version, licence, folder) in crates {
        list.push_str(&format!("{name} {version}: {licence}\n"));
        let found = of_crate(folder)?;
        if found.is_empty() {
            bare.push(format!("{name} {version} ({licence})"));
        }
        for text in found {
            texts.entry(text).or_default().insert(format!("{name} {version}"));
        }
    }
    // Some workspaces leave the text out of their crates; its words are the same in all of them, the line of the copyright is not known.
    let bare = if bare.is_empty() {
        String::new()
    } else {
        format!(
            "\nThese came without a text of their own; it is that of their licence:\n{}\n",
            bare.join("\n")
        )
    };
    let mut all = format!("gateway-daemon contains these crates, each under its licence:\n\n{list}{bare}");
    for (text, owners) in texts {
        let owners: Vec<_> = owners.into_iter().collect();
        all.push_str(&format!("\n{}\n{}\n\n{}\n", "-".repeat(78), owners.join(", "), text.trim_end()));
    }
    Ok(all)
}

/// The texts in the folder of a crate.
fn of_crate(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found = BTreeSet::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_text = BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) && path.is_file();
        if !is_text {
            continue;
        }
        ensure!(fs::metadata(&path)?.len() <= TEXT_BYTES_MAX, "{} is too long for a licence", path.display());
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        found.insert(String::from_utf8_lossy(&text).replace("\r\n", "\n"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{folders, text};

    #[test]
    fn every_crate_of_the_daemon_is_named_with_its_text() {
        let crates = folders().unwrap();
        assert!(crates.len() > 100, "{}", crates.len());
        let all = text(&crates).unwrap();
        for (name, version, licence, _) in &crates {
            assert!(all.contains(&format!("\n{name} {version}: {licence}\n")), "{name}");
        }
        for words in ["Permission is hereby granted, free of charge", "Apache License", "rusqlite"] {
            assert!(all.contains(words), "{words}");
        }
        assert!(!all.contains("gateway-core "), "our own are not among them");
    }
}
