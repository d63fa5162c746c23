//! How a decision log is kept, and why one cannot be opened.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    checkpoint::{CheckpointKey, KeyError},
    file::OpenError,
    resume::ResumeError,
};

/// When a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the file before the act: survives a crash of the process.
    #[default]
    Written,
    /// On the disk before the act: survives a loss of power.
    Synced,
    /// In memory before the act: lost with the process.
    Memory,
}

impl Durability {
    /// Whether what was recorded survives the process.
    pub fn is_durable(self) -> bool {
        match self {
            Self::Written | Self::Synced => true,
            Self::Memory => false,
        }
    }

    /// What holds of a decision when it is acted on.
    pub fn promise(self) -> &'static str {
        match self {
            Self::Written => "written before each act",
            Self::Synced => "on disk before each act",
            Self::Memory => "in memory before each act: lost with the process",
        }
    }
}

/// When the log goes on in a new file; the old one becomes `FILE.<seq of its last line>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotate {
    /// From this size on, in bytes.
    pub size: Option<u64>,
    /// From this age on, counted from when the file was opened.
    pub age: Option<Duration>,
}

/// How a decision log is kept.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The file.
    pub path: PathBuf,
    /// The Ed25519 key of the checkpoints, PKCS#8 PEM; made at start when absent.
    pub key: Option<PathBuf>,
    /// When a record counts as written.
    pub durability: Durability,
    /// After how many lines a checkpoint follows.
    pub checkpoint_lines: u64,
    /// After how long a checkpoint follows a line.
    pub checkpoint_every: Duration,
    /// When the log goes on in a new file; never when absent.
    pub rotate: Option<Rotate>,
}

impl LogConfig {
    /// A log at `path` with a checkpoint each 1,000 lines or 10 s and a key made at start.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            key: None,
            durability: Durability::Written,
            checkpoint_lines: 1_000,
            checkpoint_every: Duration::from_secs(10),
            rotate: None,
        }
    }

    pub(super) fn load_key(&self) -> Result<CheckpointKey, LogError> {
        let Some(path) = &self.key else {
            return CheckpointKey::made().map_err(|error| LogError::key(&self.path, error));
        };
        let pem = std::fs::read(path).map_err(|source| LogError::Open {
            path: path.clone(),
            source: source.into(),
        })?;
        CheckpointKey::from_pem(&pem).map_err(|error| LogError::key(path, error))
    }
}

/// Why a decision log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The path or one beside it cannot be used.
    #[error("cannot use `{}`: {source}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// What the file holds cannot be continued.
    #[error("cannot continue `{}`: {source}", path.display())]
    Resume {
        /// The path.
        path: PathBuf,
        /// Why.
        source: ResumeError,
    },
    /// The checkpoint key cannot be used.
    #[error("cannot use the checkpoint key of `{}`: {source}", path.display())]
    Key {
        /// The key's path, or the log's when the key was to be made.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// There is no thread to write it.
    #[error("cannot start the thread that writes the decision log: {0}")]
    Thread(io::Error),
}

impl LogError {
    pub(super) fn open(path: &Path, source: OpenError) -> Self {
        Self::Open {
            path: path.to_owned(),
            source,
        }
    }

    fn key(path: &Path, source: KeyError) -> Self {
        Self::Key {
            path: path.to_owned(),
            source,
        }
    }
}
