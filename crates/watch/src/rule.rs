//! The compiled form of what a trigger says about paths: which files it covers, which directories a
//! walk must enter for them, and where the walks start. Pure; compiled once per revision.

mod pattern;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use globset::{GlobSet, GlobSetBuilder};
use hetuflow_core::trigger::FileSource;

use self::pattern::{Pattern, compile};
use crate::noise::Noise;

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    patterns: Vec<Pattern>,
    exclude: Exclude,
    noise: Noise,
    /// Where our own state file is written: each commit there would be a hint for the next one.
    own: PathBuf,
}

/// Why a watch cannot be set, in a sentence that says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RuleError(pub(crate) String);

impl Rule {
    /// `base` is where relative paths start, `own` the directory of our state file.
    pub(crate) fn compile(
        source: &FileSource,
        base: &Path,
        own: &Path,
        noise: &Noise,
    ) -> Result<Self, RuleError> {
        let patterns: Vec<Pattern> = source
            .paths
            .iter()
            .map(|text| Pattern::compile(text, base, source.hidden))
            .collect::<Result<_, _>>()?;
        for pattern in &patterns {
            check_name(pattern, noise)?;
            if pattern.root() == own && !pattern.is_deep() {
                return Err(RuleError(format!(
                    "`{}` names the directory of our own state file: watch a folder below it",
                    pattern.text()
                )));
            }
        }
        let exclude = Exclude::compile(&source.exclude)?;
        Ok(Self { patterns, exclude, noise: noise.clone(), own: own.to_owned() })
    }

    /// The directories in which the fixed part of each glob ends.
    pub(crate) fn roots(&self) -> BTreeSet<&Path> {
        self.patterns.iter().map(Pattern::root).collect()
    }

    pub(crate) fn covers(&self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
        let Some(parent) = path.parent() else { return false };
        parent != self.own
            && !self.noise.is_file(name)
            && self.patterns.iter().any(|pattern| {
                pattern.covers(path)
                    && self.admits(pattern, parent)
                    && !self.exclude.file(pattern.anchor(), path)
            })
    }

    /// Whether a glob can reach files in `directory` or below it.
    pub(crate) fn enters(&self, directory: &Path) -> bool {
        self.patterns.iter().any(|pattern| pattern.enters(directory) && self.admits(pattern, directory))
    }

    /// Nothing on the way from the pattern's root to `directory` is left out.
    fn admits(&self, pattern: &Pattern, directory: &Path) -> bool {
        directory.ancestors().take_while(|dir| *dir != pattern.root()).all(|dir| {
            let noise = dir
                .file_name()
                .and_then(|name| name.to_str())
                .is_none_or(|name| self.noise.is_directory(name));
            !noise && !self.exclude.directory(pattern.anchor(), dir)
        })
    }
}

/// A glob such as `*.tmp` could never report anything: better said at once than found out later.
fn check_name(pattern: &Pattern, noise: &Noise) -> Result<(), RuleError> {
    if !noise.is_file(pattern.name()) {
        return Ok(());
    }
    Err(RuleError(format!(
        "`{}` asks for names that are taken for unfinished or private files (such as *.tmp, *.part, *.swp, *.lock) \
         and are never reported: choose another name for finished files",
        pattern.text()
    )))
}

/// Globs that leave out. One that starts with `/` is a whole path; any other may begin at every
/// level: `*.bak`, `old/**`, `inbox/old/*.csv`.
#[derive(Debug, Clone)]
struct Exclude {
    relative: Globs,
    absolute: Globs,
}

#[derive(Debug, Clone)]
struct Globs {
    files: GlobSet,
    directories: GlobSet,
}

impl Exclude {
    fn compile(globs: &[String]) -> Result<Self, RuleError> {
        let (absolute, relative): (Vec<&String>, Vec<&String>) =
            globs.iter().partition(|glob| glob.starts_with('/'));
        let relative = relative.into_iter().map(|glob| format!("**/{glob}")).collect::<Vec<_>>();
        Ok(Self {
            relative: Globs::compile(relative.iter().map(String::as_str))?,
            absolute: Globs::compile(absolute.into_iter().map(String::as_str))?,
        })
    }

    fn file(&self, anchor: &Path, path: &Path) -> bool {
        self.absolute.files.is_match(path)
            || relative(anchor, path).is_some_and(|rel| self.relative.files.is_match(rel))
    }

    fn directory(&self, anchor: &Path, path: &Path) -> bool {
        self.absolute.directories.is_match(path)
            || relative(anchor, path).is_some_and(|rel| self.relative.directories.is_match(rel))
    }
}

fn relative<'a>(anchor: &Path, path: &'a Path) -> Option<&'a Path> {
    path.strip_prefix(anchor).ok()
}

impl Globs {
    fn compile<'a>(globs: impl Iterator<Item = &'a str>) -> Result<Self, RuleError> {
        let (mut files, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for text in globs {
            let glob = compile(text)?;
            files.add(glob.clone());
            directories.add(glob);
            // `old/**` leaves out everything in `old`, so `old` itself need not be entered.
            if let Some(directory) = text.strip_suffix("/**") {
                directories.add(compile(directory)?);
            }
        }
        let build = |set: &GlobSetBuilder| set.build().map_err(|error| RuleError(error.to_string()));
        Ok(Self { files: build(&files)?, directories: build(&directories)? })
    }
}

#[cfg(test)]
mod tests;
