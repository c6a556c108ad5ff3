//! The list of the image's parts: Buildroot's packages, and the crates that are inside of the daemon, which Buildroot does not see.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::steps::cargo;

/// What cargo prints of a crate: name, version, licence.
const FORMAT: &str = "{p}|{l}";

/// Adds the daemon's version and its crates to the list.
///
/// # Errors
/// The list cannot be read or written, or cargo does not know the crates.
pub(super) fn add_crates(list: &Path) -> Result<()> {
    let text = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let mut sbom: Value = serde_json::from_str(&text)?;
    let crates = crates()?;
    println!("    {} crates in the daemon", crates.len());
    merge(&mut sbom, env!("CARGO_PKG_VERSION"), crates)?;
    fs::write(list, serde_json::to_string_pretty(&sbom)?)
        .with_context(|| format!("cannot write {}", list.display()))
}

fn merge(sbom: &mut Value, version: &str, crates: Vec<Value>) -> Result<()> {
    let components = sbom.get_mut("components").and_then(Value::as_array_mut);
    let components = components.context("the list has no components")?;
    let daemon = components.iter_mut().find(|part| part.get("name").is_some_and(|name| name == "tidegate"));
    // Buildroot gives a package from a folder no version.
    daemon.context("the daemon is not in the list")?["version"] = json!(version);
    components.extend(crates);
    Ok(())
}

/// The crates that are linked into the daemon on the boards, each once.
fn crates() -> Result<Vec<Value>> {
    Ok(listed()?.iter().filter_map(|line| component(line)).collect())
}

/// The same as cargo prints them, with our own.
pub(super) fn listed() -> Result<BTreeSet<String>> {
    let mut tree =
        cargo(&["tree", "--locked", "--package", "gateway-daemon", "--edges", "normal", "--prefix", "none"]);
    tree.args(["--target", "aarch64-unknown-linux-gnu", "--format", FORMAT]);
    let output = tree.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect())
}

/// Name, version and licence out of `libc v0.2.1|MIT OR Apache-2.0`; our own crates have a path behind the version and are the daemon itself.
pub(super) fn without_ours(line: &str) -> Option<(String, String, String)> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    if words.any(|word| word.starts_with("(/")) {
        return None;
    }
    // Old crates write a slash where SPDX has OR.
    Some((name.to_owned(), version.to_owned(), licence.trim().replace('/', " OR ")))
}

fn component(line: &str) -> Option<Value> {
    let (name, version, licence) = without_ours(line)?;
    Some(json!({
        "bom-ref": format!("crate-{name}-{version}"),
        "type": "library",
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{name}@{version}"),
        "licenses": [{ "expression": licence }],
    }))
}

#[cfg(test)]
mod tests {
    use super::{component, crates, merge};
    use serde_json::json;

    #[test]
    fn a_crate_is_a_part_with_its_licence_and_ours_are_not() {
        let libc = component("libc v0.2.1|MIT/Apache-2.0").unwrap();
        assert_eq!(libc["purl"], "pkg:cargo/libc@0.2.1");
        assert_eq!(libc["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(component("gateway-core v0.1.0 (/work/gateway-daemon/core)|MIT OR Apache-2.0"), None);
        assert!(component("serde_derive v1.0.0 (proc-macro)|MIT").is_some());
    }

    #[test]
    fn the_daemon_gets_its_version_and_its_crates() {
        let mut sbom = json!({"components": [{"name": "busybox"}, {"name": "tidegate", "version": ""}]});
        merge(&mut sbom, "1.2.3", vec![json!({"name": "libc"})]).unwrap();
        assert_eq!(sbom["components"][1]["version"], "1.2.3");
        assert_eq!(sbom["components"][2]["name"], "libc");
        assert!(merge(&mut json!({"components": []}), "1.2.3", Vec::new()).is_err());
    }

    #[test]
    fn the_daemon_is_made_of_crates_and_each_is_listed_once() {
        let crates = crates().unwrap();
        for name in ["rusqlite", "rustls", "tokio"] {
            assert_eq!(crates.iter().filter(|part| part["name"] == name).count(), 1, "{name}");
        }
    }
}
