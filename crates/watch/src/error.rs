//! Why watching cannot start, or is held up. What keeps one watch from working is not an error but
//! its state's problem.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the state file `{}` cannot be used", path.display())]
    State { path: PathBuf, source: sqlx::Error },
    #[error("`{}` cannot be used: give an absolute path in UTF-8", path.display())]
    Path { path: PathBuf },
    #[error("a turn of the watcher failed and is repeated")]
    Turn(#[from] tokio::task::JoinError),
    #[error("the built-in list of unfinished names is no list of globs")]
    Noise(#[from] globset::Error),
}
