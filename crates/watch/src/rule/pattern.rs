//! One glob of `paths`: the directory in which its fixed part ends, and how far below that it can
//! reach. `inbox/*.csv` needs one directory, `in/*/new/*.csv` just those two levels, `in/**` all.

use std::path::{Component, Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher};
use hetuflow_core::trigger::FileSource;

use super::RuleError;

#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    root: PathBuf,
    /// Where relative excludes are matched from: where the text of the glob starts.
    anchor: PathBuf,
    /// Matches a path relative to `root`.
    file: GlobMatcher,
    /// Match directories relative to `root`, by depth.
    levels: Vec<GlobMatcher>,
    /// Directories below the last level are all entered.
    deep: bool,
    hidden: bool,
    /// Directories below `root` that are entered one in another.
    max_depth: usize,
    name: String,
}

/// Whether upper and lower case differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Sensitive,
    Insensitive,
}

impl Case {
    pub(crate) fn of(source: &FileSource) -> Self {
        if source.case_sensitive { Self::Sensitive } else { Self::Insensitive }
    }
}

impl Pattern {
    pub(crate) fn compile(text: &str, base: &Path, source: &FileSource) -> Result<Self, RuleError> {
        let case = Case::of(source);
        // First as a whole, so that an error shows what the user wrote.
        compile(text, case)?;
        let components = components(text)?;
        let fixed = components.iter().take(components.len() - 1).take_while(|part| is_fixed(part)).count();
        let (prefix, rest) = components.split_at(fixed);
        let start = if text.starts_with('/') { Path::new("/") } else { base };
        let root: PathBuf =
            start.components().chain(prefix.iter().map(|part| Component::Normal(part.as_ref()))).collect();
        check_root(text, &root)?;
        let (levels, deep) = levels(rest, case)?;
        Ok(Self {
            text: text.to_owned(),
            anchor: if text.starts_with('/') { root.clone() } else { base.to_owned() },
            root,
            file: compile(&rest.join("/"), case)?.compile_matcher(),
            levels,
            deep,
            // As in a shell: a dot that is written out is meant.
            hidden: source.hidden || rest.iter().any(|part| part.starts_with('.')),
            max_depth: source.max_depth.map_or(usize::MAX, |depth| depth as usize - 1),
            name: rest.last().map(|&part| part.to_owned()).unwrap_or_default(),
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn anchor(&self) -> &Path {
        &self.anchor
    }

    /// The glob's last component, which file names match.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it looks below its root at all.
    pub(crate) const fn is_deep(&self) -> bool {
        self.deep || !self.levels.is_empty()
    }

    /// Whether the glob fits, whatever else speaks against the file.
    pub(crate) fn fits(&self, path: &Path) -> bool {
        path.strip_prefix(&self.root).is_ok_and(|relative| self.file.is_match(relative))
    }

    /// Nothing on the way is hidden.
    pub(crate) fn is_shown(&self, path: &Path) -> bool {
        path.strip_prefix(&self.root).is_ok_and(|relative| self.shows(relative))
    }

    /// The file's directory is not too deep.
    pub(crate) fn is_near(&self, directory: &Path) -> bool {
        let relative = directory.strip_prefix(&self.root);
        relative.is_ok_and(|relative| relative.components().count() <= self.max_depth)
    }

    pub(crate) fn enters(&self, directory: &Path) -> bool {
        let Ok(relative) = directory.strip_prefix(&self.root) else { return false };
        let depth = relative.components().count();
        if depth == 0 {
            return true;
        }
        if depth > self.max_depth || !self.shows(relative) || (depth > self.levels.len() && !self.deep) {
            return false;
        }
        let level = depth.min(self.levels.len());
        let Some(matcher) = level.checked_sub(1).and_then(|index| self.levels.get(index)) else {
            return true;
        };
        matcher.is_match(relative.components().take(level).collect::<PathBuf>())
    }

    fn shows(&self, relative: &Path) -> bool {
        self.hidden
            || !relative.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
    }
}

pub(crate) fn compile(glob: &str, case: Case) -> Result<Glob, RuleError> {
    GlobBuilder::new(glob)
        .case_insensitive(case == Case::Insensitive)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| RuleError(format!("`{glob}` is not a glob: {}", error.kind())))
}

/// The parts between slashes. A slash inside braces (`{a,b/c}`) does not divide.
fn components(text: &str) -> Result<Vec<&str>, RuleError> {
    let mut parts = Vec::new();
    let (mut start, mut braces, mut escaped) = (0, 0_u32, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => braces += 1,
            '}' => braces = braces.saturating_sub(1),
            '/' if braces == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    let name = &text[start..];
    parts.push(name);
    if name.is_empty() {
        return Err(RuleError(format!(
            "`{text}` names a directory: say which files in it, such as `{text}*`"
        )));
    }
    parts.retain(|part| !part.is_empty() && *part != ".");
    if parts.is_empty() || parts.contains(&"..") {
        return Err(RuleError(format!(
            "`{text}` is not a path of files: `.` and `..` cannot be used for that"
        )));
    }
    Ok(parts)
}

fn is_fixed(part: &str) -> bool {
    !part.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// Where nothing is ever "dropped", or where looking is a hazard.
fn check_root(text: &str, root: &Path) -> Result<(), RuleError> {
    let refused = root == Path::new("/")
        || ["/proc", "/sys"].iter().any(|dir| root.starts_with(dir))
        || (root.starts_with("/dev") && !root.starts_with("/dev/shm"));
    if refused {
        return Err(RuleError(format!(
            "`{text}` cannot be watched: begin with a folder that is not /, /proc, /sys or /dev"
        )));
    }
    Ok(())
}

/// Matchers for the directories of each depth, up to the first part that may stand for several.
fn levels(rest: &[&str], case: Case) -> Result<(Vec<GlobMatcher>, bool), RuleError> {
    let open = rest.iter().position(|part| part.contains("**") || part.contains('/'));
    let closed = open.unwrap_or(rest.len() - 1);
    let levels = (1..=closed)
        .map(|depth| Ok(compile(&rest[..depth].join("/"), case)?.compile_matcher()))
        .collect::<Result<_, RuleError>>()?;
    Ok((levels, open.is_some()))
}
