//! The user that a process runs as: looked up before the fork, because the lookup may read files
//! and ask services.

use std::{
    ffi::CString,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, getgrouplist};

use super::image::Ids;

/// Everything that is set between fork and exec.
#[derive(Debug, Clone)]
pub(crate) struct RunAs {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    home: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("there is no user {0:?} on this host")]
    Unknown(String),
    #[error("cannot look up the user {name:?}: {problem}")]
    Lookup { name: String, problem: String },
    #[error("the agent does not run as root, so it cannot run a process as {0:?}")]
    NotRoot(String),
}

impl RunAs {
    /// `None` when the process keeps the agent's own user.
    pub(crate) fn look_up(name: &str) -> Result<Option<Self>, UserError> {
        let failed =
            |problem: nix::Error| UserError::Lookup { name: name.to_owned(), problem: problem.to_string() };
        let user =
            User::from_name(name).map_err(failed)?.ok_or_else(|| UserError::Unknown(name.to_owned()))?;
        let own = Uid::effective();
        if user.uid == own {
            return Ok(None);
        }
        if !own.is_root() {
            return Err(UserError::NotRoot(name.to_owned()));
        }
        let c_name = CString::new(name).map_err(|_| UserError::Unknown(name.to_owned()))?;
        let groups = getgrouplist(&c_name, user.gid).map_err(failed)?;
        Ok(Some(Self { uid: user.uid, gid: user.gid, groups, home: user.dir }))
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn raw(&self) -> Ids {
        let groups = self.groups.iter().map(|group| group.as_raw()).collect();
        Ids { uid: self.uid.as_raw(), gid: self.gid.as_raw(), groups }
    }

    pub(crate) fn ids(&self) -> (u32, u32) {
        (self.uid.as_raw(), self.gid.as_raw())
    }
}

/// The home directory of the agent's own user.
pub(super) fn own_home() -> PathBuf {
    let own = User::from_uid(Uid::effective()).ok().flatten();
    own.map_or_else(|| PathBuf::from("/"), |user| user.dir)
}
