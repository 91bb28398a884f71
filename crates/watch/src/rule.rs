//! The compiled form of what a trigger says about paths: which files it covers, which directories a
//! walk must enter for them, and where the walks start. Pure; compiled once per revision.

mod aside;
mod pattern;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use globset::{GlobSet, GlobSetBuilder};
use hetuflow_core::{
    path_text,
    trigger::{After, CaptureRule, Captures, FileSource, NameTemplate},
};

use self::{
    aside::Aside,
    pattern::{Case, Pattern, compile},
};
use crate::{claim::Claims, gate::Gate, noise::Noise, proof::Proof, version::Version};

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    patterns: Vec<Pattern>,
    exclude: Exclude,
    /// Names of unfinished files, and of what lies beside files: markers and checksums.
    aside: Aside,
    capture: Option<CaptureRule>,
    /// Where files go that are claimed.
    claims: Option<Claims>,
    /// What a file must be once it is complete.
    pub(crate) gate: Gate,
    pub(crate) proof: Proof,
    /// Of those that are claimed, which were all that before.
    pub(crate) proof_of_claimed: Proof,
    noise: Noise,
    /// Where our own state file is written: each commit there would be a hint for the next one.
    own: PathBuf,
}

/// Why a watch cannot be set, in a sentence that says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RuleError(pub(crate) String);

/// Where walks start, without all the rest. What is no glob is refused later, by name.
pub(crate) fn starts(source: &FileSource, base: &Path) -> Vec<PathBuf> {
    let patterns = source.paths.iter().filter_map(|text| Pattern::compile(text, base, source).ok());
    patterns.map(|pattern| pattern.root().to_owned()).collect()
}

impl Rule {
    /// `base` is where relative paths start, `own` the directory of our state file.
    pub(crate) fn compile(
        source: &FileSource,
        base: &Path,
        own: &Path,
        noise: &Noise,
    ) -> Result<Self, RuleError> {
        let patterns: Vec<Pattern> =
            source.paths.iter().map(|text| Pattern::compile(text, base, source)).collect::<Result<_, _>>()?;
        let aside = Aside::compile(source, noise)?;
        for pattern in &patterns {
            check_name(pattern, &aside)?;
            if pattern.root() == own && !pattern.is_deep() {
                return Err(RuleError(format!(
                    "`{}` names the directory of our own state file: watch a folder below it",
                    pattern.text()
                )));
            }
        }
        let mut globs = source.exclude.clone();
        globs.extend(destinations(source, &patterns));
        let exclude = Exclude::compile(&globs, Case::of(source))?;
        let capture = source.capture.as_deref().map(capture).transpose()?;
        Ok(Self {
            patterns,
            exclude,
            aside,
            capture,
            claims: None,
            gate: Gate::compile(source)?,
            proof_of_claimed: Proof::digest_only(source),
            proof: Proof::compile(source)?,
            noise: noise.clone(),
            own: own.to_owned(),
        })
    }

    /// Files are renamed before they are told.
    pub(crate) fn claiming(self, claims: Claims) -> Self {
        Self { claims: Some(claims), ..self }
    }

    pub(crate) fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// Where a file was found: elsewhere than it is, if it was claimed. All rules are about that.
    pub(crate) fn found_at<'p>(&self, path: &'p Path) -> Cow<'p, Path> {
        let Some(claims) = &self.claims else { return path.into() };
        let found = |start: &Path| Some(start.join(claims.found(path.strip_prefix(start).ok()?)?));
        self.patterns.iter().find_map(|pattern| found(pattern.root())).map_or(path.into(), Cow::from)
    }

    pub(crate) fn is_claimed(&self, path: &Path) -> bool {
        matches!(self.found_at(path), Cow::Owned(_))
    }

    /// It is what was claimed, and nobody has changed it since.
    pub(crate) fn is_as_claimed(&self, path: &Path, version: Version) -> bool {
        let Some(claims) = &self.claims else { return false };
        let mut starts = self.patterns.iter().map(Pattern::root);
        starts.any(|start| path.strip_prefix(start).is_ok_and(|path| claims.is_as_claimed(path, version)))
    }

    /// The directories in which the fixed part of each glob ends.
    pub(crate) fn roots(&self) -> BTreeSet<&Path> {
        self.patterns.iter().map(Pattern::root).collect()
    }

    pub(crate) fn covers(&self, path: &Path) -> bool {
        self.check(path).is_ok()
    }

    /// Why a path is not covered.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Uncovered> {
        let path = &*self.found_at(path);
        let name = path.file_name().ok_or(Uncovered::Glob)?;
        let parent = path.parent().filter(|parent| *parent != self.own).ok_or(Uncovered::Own)?;
        let mut reason = Uncovered::Glob;
        let taken = self.patterns.iter().filter(|pattern| pattern.fits(path)).any(|pattern| {
            let refused = self.refusal(pattern, parent, path);
            reason = refused.unwrap_or(reason);
            refused.is_none()
        });
        if !taken {
            return Err(reason);
        }
        if self.aside.is_unfinished(name) {
            return Err(Uncovered::Unfinished);
        }
        if self.aside.is_beside(name) {
            return Err(Uncovered::Beside);
        }
        match &self.capture {
            Some(capture) if !capture.is_match(&path_text::show(name)) => Err(Uncovered::Capture),
            _ => Ok(()),
        }
    }

    fn refusal(&self, pattern: &Pattern, parent: &Path, path: &Path) -> Option<Uncovered> {
        if !pattern.is_shown(path) {
            return Some(Uncovered::Hidden);
        }
        if !pattern.is_near(parent) {
            return Some(Uncovered::Depth);
        }
        let excluded = !self.admits(pattern, parent) || self.exclude.file(pattern.anchor(), path);
        excluded.then_some(Uncovered::Excluded)
    }

    /// What its name captures, which is text: percent-encoded where it is not UTF-8.
    pub(crate) fn captures(&self, path: &Path) -> Captures {
        let Some(capture) = &self.capture else { return Captures::default() };
        capture.captures(&path_text::of(path.file_name().unwrap_or_default()).0).unwrap_or_default()
    }

    /// Where the glob starts that covers the path, or a file beside it.
    pub(crate) fn start_above(&self, path: &Path) -> Option<&Path> {
        let above = self.patterns.iter().map(Pattern::root).filter(|root| path.starts_with(root));
        self.root_of(path).or_else(|| above.max_by_key(|root| root.components().count()))
    }

    /// Where the glob starts that covers the path.
    pub(crate) fn root_of(&self, path: &Path) -> Option<&Path> {
        let (mut patterns, path) = (self.patterns.iter(), self.found_at(path));
        patterns.find(|pattern| pattern.fits(&path)).map(Pattern::root)
    }

    /// Whether a glob can reach files in `directory` or below it.
    pub(crate) fn enters(&self, directory: &Path) -> bool {
        self.patterns.iter().any(|pattern| pattern.enters(directory) && self.admits(pattern, directory))
    }

    /// Whether a path is left out however it is reached: something on the way is excluded, or none of anybody's business.
    pub(crate) fn bars(&self, path: &Path) -> bool {
        let mut above = self.patterns.iter().filter(|pattern| path.starts_with(pattern.root()));
        !above.any(|pattern| self.admits(pattern, path) && !self.exclude.file(pattern.anchor(), path))
    }

    /// Nothing on the way from the pattern's root to `directory` is left out.
    fn admits(&self, pattern: &Pattern, directory: &Path) -> bool {
        directory.ancestors().take_while(|dir| *dir != pattern.root()).all(|dir| {
            let noise = dir.file_name().is_none_or(|name| self.noise.is_directory(name));
            !noise && !self.exclude.directory(pattern.anchor(), dir)
        })
    }
}

/// Why a path is not covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uncovered {
    Own,
    Glob,
    Hidden,
    Depth,
    Excluded,
    Unfinished,
    Beside,
    Capture,
}

impl Uncovered {
    /// Which key says so.
    pub(crate) const fn explain(self) -> &'static str {
        match self {
            Self::Own => "it is beside our own state file",
            Self::Glob => "no glob of `paths` fits",
            Self::Hidden => "a part of its path starts with a dot: `hidden = true` takes it",
            Self::Depth => "its directory is deeper than `max_depth`",
            Self::Excluded => "`exclude` leaves it out, or a directory above it",
            Self::Unfinished => "its name is one of unfinished files: `partial = true` takes it",
            Self::Beside => "it is the marker or the checksum of another file",
            Self::Capture => "its name does not match `capture`",
        }
    }
}

/// A glob such as `*.tmp` could never report anything: better said at once than found out later.
fn check_name(pattern: &Pattern, aside: &Aside) -> Result<(), RuleError> {
    if !aside.is_unfinished(pattern.name().as_ref()) {
        return Ok(());
    }
    Err(RuleError(format!(
        "`{}` asks for names that are taken for unfinished or private files (such as *.tmp, *.part, *.swp, *.lock) \
         and are not reported: choose another name for finished files, or write partial = true",
        pattern.text()
    )))
}

fn capture(text: &str) -> Result<CaptureRule, RuleError> {
    CaptureRule::compile(text).map_err(|error| RuleError(format!("capture {text:?}: {error}")))
}

/// Where files are moved to afterwards: not to be found there again.
fn destinations(source: &FileSource, patterns: &[Pattern]) -> Vec<String> {
    let moves = [&source.after_success, &source.after_failure].into_iter().filter_map(|after| match after {
        After::Move(target) => NameTemplate::path(target).ok(),
        After::Keep | After::Delete => None,
    });
    let directories = moves.filter_map(|target| target.directory().map(str::to_owned));
    let below = |directory: String| {
        let root = |pattern: &Pattern| globset::escape(&pattern.root().join(&directory).to_string_lossy());
        patterns.iter().map(root).map(|glob| format!("{glob}/**")).collect::<Vec<_>>()
    };
    directories.flat_map(below).collect()
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
    fn compile(globs: &[String], case: Case) -> Result<Self, RuleError> {
        let (absolute, relative): (Vec<&String>, Vec<&String>) =
            globs.iter().partition(|glob| glob.starts_with('/'));
        let relative = relative.into_iter().map(|glob| format!("**/{glob}")).collect::<Vec<_>>();
        Ok(Self {
            relative: Globs::compile(relative.iter().map(String::as_str), case)?,
            absolute: Globs::compile(absolute.into_iter().map(String::as_str), case)?,
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
    fn compile<'a>(globs: impl Iterator<Item = &'a str>, case: Case) -> Result<Self, RuleError> {
        let (mut files, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for text in globs {
            let glob = compile(text, case)?;
            files.add(glob.clone());
            directories.add(glob);
            // `old/**` leaves out everything in `old`, so `old` itself need not be entered.
            if let Some(directory) = text.strip_suffix("/**") {
                directories.add(compile(directory, case)?);
            }
        }
        let build = |set: &GlobSetBuilder| set.build().map_err(|error| RuleError(error.to_string()));
        Ok(Self { files: build(&files)?, directories: build(&directories)? })
    }
}

#[cfg(test)]
mod tests;
