//! The figures of an image, and the lists of its parts and licences.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use super::sbom::add_crates;
use super::{Board, NOTICES, make};
use crate::steps::{command, run};

/// Most bytes of the packed card image: what is downloaded to write a card.
const CARD_MAX: u64 = 64 << 20;

/// The parts of the image with licences and known sources (CycloneDX), and Buildroot's own collection of licence texts.
///
/// # Errors
/// Buildroot cannot make one of them.
pub(super) fn parts(buildroot: &Path, out: &Path) -> Result<()> {
    let images = out.join("images");
    let facts = images.join("packages.json");
    let file = File::create(&facts).with_context(|| format!("cannot write {}", facts.display()))?;
    let mut show = make(buildroot, out);
    show.args(["--silent", "show-info"]).stdout(Stdio::from(file));
    run(show)?;
    let mut sbom = command("python3", &[]);
    sbom.arg(buildroot.join("utils/generate-cyclonedx")).arg("--in-file").arg(&facts);
    let list = images.join("sbom.cdx.json");
    sbom.arg("--out-file").arg(&list).args(["--project-name", "tidegate"]);
    sbom.args(["--project-version", env!("CARGO_PKG_VERSION")]);
    // It keeps the list of licence names that it fetches once beside the other sources.
    if let Some(sources) = configured(out, "BR2_DL_DIR")? {
        sbom.env("BR2_DL_DIR", sources.replace("$(TOPDIR)", &buildroot.to_string_lossy()));
    }
    run(sbom)?;
    add_crates(&list)?;
    let mut legal = make(buildroot, out);
    legal.args(["--silent", "legal-info"]);
    run(legal)?;
    let beside = out.join("legal-info/licenses/tidegate-crates");
    fs::create_dir_all(&beside).with_context(|| format!("cannot make {}", beside.display()))?;
    let copied = fs::copy(out.join(NOTICES), beside.join(NOTICES));
    copied
        .map(drop)
        .with_context(|| format!("cannot lay the licences of the crates into {}", beside.display()))
}

/// Prints what the image weighs.
///
/// # Errors
/// There is no image, or it is larger than the goal.
pub(super) fn print(board: Board, out: &Path) -> Result<()> {
    let images = out.join("images");
    let card = images.join(format!("tidegate-{board}.img.xz"));
    let packed = size(&card).with_context(|| {
        format!("there is no image of {board}: `cargo xtask image --board {board}` builds it")
    })?;
    let rows = [
        ("card image, packed", Some(packed)),
        ("update bundle", size(&images.join(format!("tidegate-{board}.raucb"))).ok()),
        ("root file system", size(&images.join("rootfs.erofs")).ok()),
        ("kernel", ["Image.gz", "Image"].iter().find_map(|name| size(&images.join(name)).ok())),
        ("gateway-daemon", size(&out.join("target/usr/bin/gateway-daemon")).ok()),
    ];
    for (what, bytes) in rows {
        let shown =
            bytes.map_or_else(|| "not there".to_owned(), |bytes| format!("{:.1} MiB", mebibytes(bytes)));
        println!("    {what:20} {shown:>10}");
    }
    match packages(&images.join("packages.json")) {
        Ok(names) => println!("    {:20} {:>10}  {}", "packages", names.len(), names.join(" ")),
        Err(why) => println!("    packages: {why:#}"),
    }
    if packed > CARD_MAX {
        bail!(
            "the packed card image has {:.1} MiB, the goal is {:.0}",
            mebibytes(packed),
            mebibytes(CARD_MAX)
        );
    }
    Ok(())
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What is on the target, with versions, from Buildroot's own list.
fn packages(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text)?;
    Ok(on_target(&all))
}

/// Packages with a licence: the folders that Buildroot itself makes have none.
fn on_target(all: &BTreeMap<String, serde_json::Value>) -> Vec<String> {
    let of = |(name, package): (&String, &serde_json::Value)| {
        let word = |key: &str| package.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let shipped = word("type") == "target" && !word("licenses").is_empty();
        shipped.then(|| format!("{name} {}", word("version")).trim_end().to_owned())
    };
    all.iter().filter_map(of).collect()
}

/// The value of an option in the built configuration.
fn configured(out: &Path, name: &str) -> Result<Option<String>> {
    let path = out.join(".config");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Ok(value.map(|value| value.trim_matches('"').to_owned()).filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::on_target;

    #[test]
    fn only_what_is_installed_on_the_target_is_counted() {
        let text = r#"{
            "busybox": {"type": "target", "version": "1.38.0", "licenses": "GPL-2.0"},
            "host-meson": {"type": "host", "version": "1.10.1", "licenses": "Apache-2.0"},
            "skeleton-init-systemd": {"type": "target", "version": ""},
            "tidegate": {"type": "target", "version": "", "licenses": "MIT or Apache-2.0"}
        }"#;
        assert_eq!(on_target(&serde_json::from_str(text).unwrap()), ["busybox 1.38.0", "tidegate"]);
    }
}
