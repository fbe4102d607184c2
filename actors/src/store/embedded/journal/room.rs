//! Room kept ahead: a spare segment for rotation, and a reserve for a full disk.
//!
//! Both take seconds of writing zeros, so both have handles of their own that a background
//! thread can hold while the journal is appended to.

use super::{disk::DiskError, error::JournalError, folder::Folder};
use std::sync::Arc;

const RESERVE: &str = "reserve.bin";
const RESERVE_UNFINISHED: &str = "reserve.tmp";

/// Makes the spare segment that the next rotation takes. Clones are the same.
#[derive(Clone)]
pub struct SpareMaker(pub(super) Arc<Folder>);

impl SpareMaker {
    /// Is a spare missing?
    pub fn wanted(&self) -> bool {
        !self.0.has_spare()
    }

    /// Makes a spare if one is missing; true if it made one. Writes a whole segment of zeros:
    /// call it where that may take a while. [`JournalError::NoSpace`] on a full disk.
    pub fn make(&self) -> Result<bool, JournalError> {
        Ok(self.0.make_spare()?)
    }
}

/// A file of zeros that holds disk space, to be given up when the disk is full so that what
/// is under way can be recorded. Clones are the same.
#[derive(Clone)]
pub struct Reserve(pub(super) Arc<Folder>);

impl Reserve {
    /// Is it there in full size?
    pub fn is_whole(&self) -> bool {
        let there = self.0.bytes_of(RESERVE).ok().flatten();
        self.0.reserve_bytes == 0 || there == Some(self.0.reserve_bytes)
    }

    /// Gives its room back to the disk. One that is gone already is fine.
    pub fn release(&self) -> Result<(), JournalError> {
        self.0.while_making(|| {
            match self.0.remove(RESERVE) {
                Err(err) if !err.is_not_found() => return Err(err),
                _ => {}
            }
            self.0.sync_dir()
        })?;
        Ok(())
    }

    /// Makes it again if it is not whole; [`JournalError::NoSpace`] while the disk is full.
    /// Opening a journal does not do this, for it writes the whole size.
    pub fn restore(&self) -> Result<(), JournalError> {
        self.0.while_making(|| self.restore_now())?;
        Ok(())
    }

    fn restore_now(&self) -> Result<(), DiskError> {
        if self.is_whole() {
            return Ok(());
        }
        if self.0.bytes_of(RESERVE)?.is_some() {
            self.0.remove(RESERVE)?; // of another size
        }
        self.0.make_zeroed_ahead(RESERVE_UNFINISHED, self.0.reserve_bytes)?;
        let unfinished = self.0.path(RESERVE_UNFINISHED);
        let renamed = self.0.disk.rename(&unfinished, &self.0.path(RESERVE));
        renamed.map_err(|source| DiskError { action: "rename", path: unfinished, source })?;
        self.0.sync_dir()
    }
}
