//! What can go wrong, told apart by what the caller must do about it.

use super::disk::DiskError;
use std::path::PathBuf;

/// A place in the journal that was once durable and is no longer what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "journal segment {} is damaged at byte {offset}{}: {what}; nothing was changed; keep a copy of the data \
     directory, then run `weft repair --data DIR` to set aside what is lost and go on (option `accept_damage`)",
    file.display(),
    sequence.map(|sequence| format!(", record {sequence}")).unwrap_or_default()
)]
pub struct Damage {
    /// The segment file.
    pub file: PathBuf,
    /// Where in it, in bytes from its start.
    pub offset: u64,
    /// The record that should be there, if that is known.
    pub sequence: Option<u64>,
    /// One clause: what was found.
    pub what: &'static str,
}

/// Why a journal cannot be opened or looked after.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("journal option out of range: {0}")]
    Options(&'static str),
    /// Open with `accept_damage` to go on without what is lost.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Not even `accept_damage` helps.
    #[error("journal segment {} cannot be repaired: {why}; restore a backup, or move the file away", file.display())]
    BeyondRepair { file: PathBuf, why: &'static str },
    #[error("journal segment {} has format {version}, which this version of weft cannot read", file.display())]
    NewerFormat { file: PathBuf, version: u32 },
    /// Nothing is harmed; try again when there is room.
    #[error("no room on the disk: {0}")]
    NoSpace(#[source] DiskError),
    #[error(transparent)]
    Io(DiskError),
    /// Only the oldest segment may be removed, and never the one that is written to.
    #[error("segment {0} is not the oldest, or is in use")]
    NotRemovable(u64),
}

impl From<DiskError> for JournalError {
    fn from(err: DiskError) -> Self {
        if err.is_no_space() { Self::NoSpace(err) } else { Self::Io(err) }
    }
}

/// Why a batch was not appended: none of it counts as written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No acknowledged record is harmed; the caller may try again later.
    #[error("no room on the disk: {0}")]
    NoSpace(#[source] DiskError),
    /// The file in hand has been given up; the next append begins a new segment. Whether the
    /// batch is there after a restart is open, as after a lost connection.
    #[error(transparent)]
    Io(DiskError),
    #[error("a journal record or batch of {bytes} bytes is over the limit of {max}")]
    TooLarge { bytes: u64, max: u64 },
    #[error("record kind 0 is the journal's own")]
    ReservedKind,
}

impl From<DiskError> for AppendError {
    fn from(err: DiskError) -> Self {
        if err.is_no_space() { Self::NoSpace(err) } else { Self::Io(err) }
    }
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Never written, not durable yet, or removed with its segment.
    #[error("there is no such journal record")]
    Unknown,
    /// Given up by a repair.
    #[error("journal record {sequence} was damaged and has been set aside")]
    Lost { sequence: u64 },
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error(transparent)]
    Io(#[from] DiskError),
}
