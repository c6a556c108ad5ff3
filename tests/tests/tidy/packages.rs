//! Packages: what the manifests say.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::none;

/// Everything that the pure core may name in its manifest.
const CORE_MAY: [&str; 4] = ["mqtt-protocol-core", "serde", "serde_json", "thiserror"];

/// What must not come into the core by a detour either: runtimes, sockets, files, clocks, randomness.
const CORE_MUST_NOT: [&str; 10] = [
    "tokio",
    "mio",
    "socket2",
    "rustix",
    "getrandom",
    "rand",
    "rusqlite",
    "time",
    "chrono",
    "rumqttc-v4-next",
];

/// Who may depend on whom inside the workspace, tests and tools aside.
const INSIDE: [(&str, &[&str]); 5] = [
    ("gateway-core", &[]),
    ("drivers", &["gateway-core"]),
    // What `check` says of a certificate is what a handshake makes of it.
    ("gateway-certificates", &["gateway-core"]),
    ("gateway-config", &["gateway-certificates", "gateway-core"]),
    ("gateway-daemon", &["drivers", "gateway-certificates", "gateway-config", "gateway-core"]),
];

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let filter = ["--filter-platform", "x86_64-unknown-linux-gnu", "--locked"].map(str::to_owned);
    MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(filter)
        .exec()
        .expect("cargo metadata reads the workspace")
}

/// What a package names in its manifest, dev-dependencies aside.
fn direct(package: &Package) -> BTreeSet<String> {
    let normal =
        package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
    normal.map(|dependency| dependency.name.clone()).collect()
}

/// Names that `has` has and `may` has not.
fn beyond(what: &str, has: &BTreeSet<String>, may: &[&str]) -> Vec<String> {
    let foreign = has.iter().filter(|name| !may.contains(&name.as_str()));
    foreign.map(|name| format!("{what} may not depend on {name}")).collect()
}

/// Names that `has` has and must not have.
fn among(what: &str, has: &BTreeSet<String>, must_not: &[&str]) -> Vec<String> {
    let found = must_not.iter().filter(|name| has.contains(**name));
    found.map(|name| format!("{what} reaches {name}")).collect()
}

/// Everything that ends up in a package, dev-dependencies and build scripts aside.
fn reachable(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("metadata is resolved");
    let name_of = |id: &cargo_metadata::PackageId| metadata[id].name.to_string();
    let node = |id: &cargo_metadata::PackageId| resolve.nodes.iter().find(|node| node.id == *id);
    let mut reached = BTreeSet::new();
    let mut open = vec![package(metadata, name).id.clone()];
    while let Some(id) = open.pop() {
        let normal = |dependency: &&cargo_metadata::NodeDep| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        };
        for dependency in node(&id).into_iter().flat_map(|node| &node.deps).filter(normal) {
            if reached.insert(name_of(&dependency.pkg)) {
                open.push(dependency.pkg.clone());
            }
        }
    }
    reached
}

fn package<'a>(metadata: &'a Metadata, name: &str) -> &'a Package {
    metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == name)
        .expect("the package is in the workspace")
}

#[test]
fn the_core_depends_on_nothing_that_acts() {
    let metadata = metadata();
    none(beyond("gateway-core", &direct(package(&metadata, "gateway-core")), &CORE_MAY));
    let reached = reachable(&metadata, "gateway-core");
    assert!(reached.contains("serde_json"), "the closure was not computed: {reached:?}");
    none(among("gateway-core", &reached, &CORE_MUST_NOT));
}

#[test]
fn a_core_that_acts_is_found() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(beyond("core", &names(&["serde", "tokio"]), &CORE_MAY), ["core may not depend on tokio"]);
    assert_eq!(among("core", &names(&["serde", "mio"]), &CORE_MUST_NOT), ["core reaches mio"]);
    // The daemon does reach tokio, so the closure would show it in the core as well.
    assert!(reachable(&metadata(), "gateway-daemon").contains("mio"));
}

#[test]
fn packages_of_the_workspace_depend_only_downwards() {
    let metadata = metadata();
    let ours: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    for (name, may) in INSIDE {
        let inside = direct(package(&metadata, name)).intersection(&ours).cloned().collect();
        none(beyond(name, &inside, may));
    }
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    let metadata = metadata();
    let manifest =
        |package: &Package| std::fs::read_to_string(&package.manifest_path).expect("a manifest can be read");
    none(
        metadata
            .workspace_packages()
            .into_iter()
            .flat_map(|package| lints(&package.name, &manifest(package))),
    );
}

/// A manifest without the lints of the workspace escapes all of them.
fn lints(name: &str, manifest: &str) -> Vec<String> {
    let takes = manifest
        .split("[lints]")
        .nth(1)
        .is_some_and(|rest| rest.trim_start().starts_with("workspace = true"));
    if takes { Vec::new() } else { vec![format!("{name} has no `[lints] workspace = true`")] }
}

#[test]
fn a_package_without_lints_is_found() {
    assert_eq!(lints("x", "[package]\nname = \"x\"\n").len(), 1);
    assert_eq!(lints("x", "[lints]\nworkspace = true\n").len(), 0);
}
