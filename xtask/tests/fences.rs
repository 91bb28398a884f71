//! The walls between the crates (ARCHITECTURE.md, "Crates"), over `cargo metadata`: which crate of the
//! workspace may use which other, what core must never reach, and the fences of `deny.toml`, so that
//! they also hold for those who do not run cargo-deny.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use serde::Deserialize;

/// Who may use whom, tests included. `agent` and `server` meet only in core's protocol.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hetuflow-core", &[]),
    // Nothing at all, unless the harness builds it.
    ("hetuflow-failpoint", &[]),
    ("hetuflow-signature", &["hetuflow-core"]),
    ("hetuflow-sqlite", &[]),
    ("hetuflow-store", &["hetuflow-core", "hetuflow-failpoint", "hetuflow-sqlite"]),
    ("hetuflow-watch", &["hetuflow-core", "hetuflow-failpoint"]),
    ("hetuflow-trust", &["hetuflow-core"]),
    (
        "hetuflow-server",
        &["hetuflow-core", "hetuflow-failpoint", "hetuflow-signature", "hetuflow-store", "hetuflow-trust"],
    ),
    (
        "hetuflow-agent",
        &["hetuflow-core", "hetuflow-failpoint", "hetuflow-sqlite", "hetuflow-trust", "hetuflow-watch"],
    ),
    (
        "hetuflow",
        &[
            "hetuflow-core",
            "hetuflow-signature",
            "hetuflow-store",
            "hetuflow-server",
            "hetuflow-trust",
            "hetuflow-watch",
            "hetuflow-agent",
        ],
    ),
    // The harness sees the product from outside only.
    ("hetuflow-chaos", &[]),
    // Nothing uses it: it tries what others parse.
    ("hetuflow-fuzz", &["hetuflow-core", "hetuflow-signature"]),
    // Nothing uses it: it measures what others use.
    ("hetuflow-bench", &["hetuflow-core", "hetuflow-store", "hetuflow-server"]),
    ("xtask", &[]),
];

/// Core has no I/O, no async and no clock of its own, not even through others.
const NOT_FROM_CORE: &[&str] =
    &["async-trait", "axum", "hyper", "mio", "notify", "reqwest", "sqlx", "tokio", "tokio-tungstenite"];

#[test]
fn crates_use_only_those_below_them() {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata.workspace_packages().iter().map(|p| p.name.as_str()).collect();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let allowed = ALLOWED.iter().find(|(of, _)| *of == name).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{name} is new: say in fences.rs what it may use"));
        for used in package.dependencies.iter().filter(|d| members.contains(d.name.as_str())) {
            assert!(allowed.contains(&used.name.as_str()), "{name} must not use {}", used.name);
        }
    }
}

#[test]
fn core_reaches_no_io() {
    let reached = reached_from("hetuflow-core");
    assert!(reached.contains_key("serde_core"), "the lock file is understood");
    for (name, path) in reached {
        assert!(!NOT_FROM_CORE.contains(&name.as_str()), "core must not reach {name}: {path}");
    }
}

#[test]
fn libraries_stay_in_the_room_that_owns_them() {
    let deny: Deny = toml::from_str(include_str!("../../deny.toml")).expect("deny.toml parses");
    let metadata = metadata();
    for fence in &deny.bans.deny {
        for package in metadata.workspace_packages() {
            let inside = fence.wrappers.iter().any(|wrapper| wrapper == package.name.as_str());
            let why = format!("{} must not use {}: {}", package.name, fence.name, fence.reason);
            assert!(inside || !uses(package, &fence.name), "{why}");
        }
    }
}

/// A test may start what its product code must not know.
fn uses(package: &Package, name: &str) -> bool {
    package.dependencies.iter().any(|d| d.name == name && d.kind != DependencyKind::Development)
}

/// Every package that `Cargo.lock` puts below `root`, with the path to it: with the features of the whole
/// workspace and for every platform, so this sees rather too much than too little.
fn reached_from(root: &str) -> BTreeMap<String, String> {
    let lock: Lock = toml::from_str(include_str!("../../Cargo.lock")).expect("Cargo.lock parses");
    let mut reached = BTreeMap::from([(root.to_owned(), root.to_owned())]);
    let mut queue = VecDeque::from([root.to_owned()]);
    while let Some(name) = queue.pop_front() {
        let path = reached[&name].clone();
        // A dependency is "name", or "name version" where there are several; then both count.
        let below = lock.package.iter().filter(|p| p.name == name).flat_map(|p| &p.dependencies);
        for dependency in below.filter_map(|d| d.split(' ').next()) {
            if !reached.contains_key(dependency) {
                reached.insert(dependency.to_owned(), format!("{path} -> {dependency}"));
                queue.push_back(dependency.to_owned());
            }
        }
    }
    reached
}

/// The workspace alone, which needs neither a network nor anything downloaded.
fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata runs")
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

#[derive(Deserialize)]
struct Deny {
    bans: Bans,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Fence>,
}

#[derive(Deserialize)]
struct Fence {
    name: String,
    wrappers: Vec<String>,
    reason: String,
}
