//! Names that are not files of their own: those of unfinished files, and those of markers and checksums that lie beside a
//! file.

use std::ffi::OsStr;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use hetuflow_core::trigger::{FileSource, NameTemplate, Verify};

use super::RuleError;
use crate::noise::Noise;

#[derive(Debug, Clone)]
pub(crate) struct Aside {
    /// None where names of unfinished files are asked for.
    noise: Option<Noise>,
    unfinished: GlobSet,
    beside: GlobSet,
}

impl Aside {
    pub(super) fn compile(source: &FileSource, noise: &Noise) -> Result<Self, RuleError> {
        let checksum = source.verify.as_ref().and_then(|verify| match verify {
            Verify::Sha256(name) => Some(name),
            Verify::LastLine(_) | Verify::Magic(_) => None,
        });
        let beside = [source.done_marker.as_ref(), checksum].into_iter().flatten();
        let beside = beside.map(|name| NameTemplate::name(name).map(|template| template.glob()));
        Ok(Self {
            noise: (!source.partial).then(|| noise.clone()),
            unfinished: compile(source.unfinished.iter().cloned())?,
            beside: compile(beside.collect::<Result<Vec<_>, _>>().map_err(RuleError)?)?,
        })
    }

    pub(super) fn is_unfinished(&self, name: &OsStr) -> bool {
        self.noise.as_ref().is_some_and(|noise| noise.is_file(name)) || self.unfinished.is_match(name)
    }

    pub(super) fn is_beside(&self, name: &OsStr) -> bool {
        self.beside.is_match(name)
    }
}

fn compile(globs: impl IntoIterator<Item = String>) -> Result<GlobSet, RuleError> {
    let mut set = GlobSetBuilder::new();
    for text in globs {
        let glob = GlobBuilder::new(&text).case_insensitive(true).literal_separator(true).build();
        set.add(glob.map_err(|error| RuleError(format!("`{text}` is not a glob: {}", error.kind())))?);
    }
    set.build().map_err(|error| RuleError(error.to_string()))
}
