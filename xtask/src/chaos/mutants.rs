//! `cargo xtask chaos --mutants`: mistakes that somebody could make, each as a patch. For each, a copy of the tree is
//! patched and built, and the harness must find something of the kind that the patch says. The product itself has no
//! branch for any of this.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, ensure};

use super::{FAILPOINTS, FEATURE};
use crate::child::{Child, root};

/// A race may need more than one plan of faults.
const TRIES: u64 = 3;

/// One patch with what its head says.
pub(super) struct Mutant {
    name: String,
    patch: PathBuf,
    /// The kind of violation, as the harness names it.
    expect: String,
    /// The arguments of the run that finds it.
    run: Vec<OsString>,
}

/// All of them, or those whose names begin with `only`.
pub(super) async fn run(only: &str) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe()?;
    let binaries = own.parent().context("a binary is in a folder")?;
    let place = binaries.join("mutants");
    let mut survivors = Vec::new();
    let mutants = mutants()?.into_iter().filter(|mutant| mutant.name.starts_with(only));
    for mutant in mutants {
        copy_tree(&place.join("tree")).await?;
        apply(&mutant.patch, &place.join("tree")).await?;
        build(&place).await?;
        if !is_found(&mutant, binaries, &place).await? {
            eprintln!("{}: SURVIVED", mutant.name);
            survivors.push(mutant.name);
        }
    }
    Ok(if survivors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says with which seed, and how long that took.
async fn is_found(mutant: &Mutant, binaries: &Path, place: &Path) -> anyhow::Result<bool> {
    for seed in 1..=TRIES {
        let began = Instant::now();
        if attack(mutant, binaries, place, seed).await? {
            eprintln!("{}: found with seed {seed} after {} s", mutant.name, began.elapsed().as_secs());
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn mutants() -> anyhow::Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(root().join("crates/chaos/mutants"))? {
        let patch = entry?.path();
        let text = fs::read_to_string(&patch)?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let said =
            |key: &str| value(key).with_context(|| format!("{} does not say `{key}`", patch.display()));
        mutants.push(Mutant {
            name: patch.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            expect: said("expect:")?.to_owned(),
            run: said("run:")?.split_whitespace().map(OsString::from).collect(),
            patch,
        });
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

/// What git knows, where it differs: what stays the same is not built again.
async fn copy_tree(tree: &Path) -> anyhow::Result<()> {
    let listed = Child::new("git".as_ref()).args(["ls-files", "-z"]).directory(&root()).output().await?;
    for name in String::from_utf8(listed)?.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root().join(name), tree.join(name));
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|held| held == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::write(&to, bytes)?;
    }
    Ok(())
}

async fn apply(patch: &Path, tree: &Path) -> anyhow::Result<()> {
    // The tree lies below a repository and is none itself.
    let ceiling = tree.parent().context("a tree is in a folder")?.to_string_lossy().into_owned();
    let git = Child::new("git".as_ref()).args(["apply".as_ref(), patch.as_os_str()]).directory(tree);
    let done = git.env("GIT_CEILING_DIRECTORIES", &ceiling).run().await?;
    ensure!(done == ExitCode::SUCCESS, "{} does not apply", patch.display());
    Ok(())
}

/// With failpoints, in a target folder of its own.
async fn build(place: &Path) -> anyhow::Result<()> {
    let target = place.join("target");
    let arguments = ["--workspace", "--bins", "--quiet", "--features", FEATURE];
    let cargo = Child::cargo("build").args(arguments).directory(&place.join("tree"));
    let built = cargo.env("CARGO_TARGET_DIR", &target.to_string_lossy()).run().await?;
    ensure!(built == ExitCode::SUCCESS, "the mutant does not compile");
    let ready = place.join("bin").join(FAILPOINTS);
    fs::create_dir_all(&ready)?;
    for name in ["hetuflow", "hetuflow-server", "hetuflow-agent"] {
        for to in [ready.join(name), place.join("bin").join(name)] {
            drop(fs::remove_file(&to));
            fs::copy(target.join("debug").join(name), &to)?;
        }
    }
    Ok(())
}

async fn attack(mutant: &Mutant, binaries: &Path, place: &Path, seed: u64) -> anyhow::Result<bool> {
    let harness = Child::new(binaries.join(super::HARNESS).as_os_str()).args(["run"]).args(&mutant.run);
    let harness = harness.args(["--binaries".as_ref(), place.join("bin").as_os_str()]);
    let harness = harness.args(["--expect", &mutant.expect, "--seed", &seed.to_string()]);
    Ok(harness.run().await? == ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_patch_still_applies() {
        let mutants = mutants().expect("patches");
        assert!(mutants.len() >= 10, "a mistake is missing");
        for mutant in mutants {
            let git = Child::new("git".as_ref()).args([
                "apply".as_ref(),
                "--check".as_ref(),
                mutant.patch.as_os_str(),
            ]);
            let done = git.directory(&root()).run().await.expect("git runs");
            assert!(done == ExitCode::SUCCESS, "{} does not apply: make it anew", mutant.name);
        }
    }
}
