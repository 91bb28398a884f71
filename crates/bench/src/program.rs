//! The program that contenders start.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::child::sibling;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// No dynamic linker, no C library: what is measured is who starts it
    #[default]
    Bare,
    /// Linked as programs are, which costs some 0.6 ms of processor time: what a user sees
    Ordinary,
}

impl Program {
    pub(crate) fn path(self) -> anyhow::Result<PathBuf> {
        sibling(match self {
            Self::Bare => "hetuflow-bench-job",
            Self::Ordinary => "hetuflow-bench-ordinary",
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Ordinary => "ordinary",
        }
    }
}
