//! Why watching cannot start, or is held up. What keeps one watch from working is not an error but
//! its state's problem.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the state file `{}` cannot be used", path.display())]
    State { path: PathBuf, source: sqlx::Error },
    #[error("the state file `{}` is damaged and cannot be put aside", path.display())]
    Aside {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error(
        "the state file `{}` is on a network file system, where SQLite cannot keep its word: put the data directory on a local disk",
        path.display()
    )]
    Remote { path: PathBuf },
    #[error("`{}` cannot be used: give an absolute path in UTF-8", path.display())]
    Path { path: PathBuf },
    #[error("a turn of the watcher failed and is repeated")]
    Turn,
    #[error("there is no thread to look at files on")]
    Thread(#[source] std::io::Error),
    #[error("the built-in list of unfinished names is no list of globs")]
    Noise(#[from] globset::Error),
}
