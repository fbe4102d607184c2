//! How far the index may be relied on: the checkpoint that vouches for it, and what takes that away.
//!
//! An index counts as far as its CHECKPOINT says, and not at all without one. Taking that file away is
//! therefore all it takes for the next start to build the index again: it needs no room, and nothing
//! of the index itself. It goes when a sync of the index failed, for no later sync tells what that one
//! lost, and when something in the index could not be read.

use super::{create_private_file, journal::Disk};
use parking_lot::Mutex;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tracing::{error, warn};

const CHECKPOINT: &str = "CHECKPOINT";
const CHECKPOINT_UNFINISHED: &str = "CHECKPOINT.new";

/// What is known of the index in one directory.
pub struct Trust {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    checkpointed: AtomicU64,
    lost: AtomicBool,
    /// Is the file gone, once trust is lost? Held while the file changes.
    gone: Mutex<bool>,
}

impl Trust {
    /// Reads what the last checkpoint in `directory` vouches for.
    pub fn read(directory: &Path, disk: Arc<dyn Disk>) -> Self {
        Self {
            checkpointed: AtomicU64::new(read_checkpoint(directory)),
            directory: directory.to_owned(),
            disk,
            lost: AtomicBool::new(false),
            gone: Mutex::new(false),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The sequence up to which the index is durable; 0 while nothing vouches for it.
    pub fn checkpointed(&self) -> u64 {
        self.checkpointed.load(Ordering::Acquire)
    }

    /// Whether the index is to be built again at the next start.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Writes down that the index is durable up to `applied`, unless it is not to be relied on any more.
    pub fn vouch(&self, applied: u64) -> io::Result<()> {
        let _changing = self.gone.lock();
        if self.is_lost() {
            return Ok(());
        }
        let new = self.directory.join(CHECKPOINT_UNFINISHED);
        let mut file = create_private_file(&new)?;
        file.write_all(&applied.to_be_bytes())?;
        file.write_all(&crc32c::crc32c(&applied.to_be_bytes()).to_be_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.directory.join(CHECKPOINT))?;
        self.disk.sync_others(&self.directory)?;
        self.checkpointed.store(applied, Ordering::Release);
        Ok(())
    }

    /// Takes the checkpoint away, before the index it vouches for goes.
    pub fn forget(&self) -> io::Result<()> {
        self.checkpointed.store(0, Ordering::Release);
        match fs::remove_file(self.directory.join(CHECKPOINT)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => self.disk.sync_others(&self.directory),
        }
    }

    /// The index is not to be relied on: from now on nothing vouches for it, so that the next start
    /// builds it again, and until then no segment of the journal goes.
    pub fn lose(&self, why: &str) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            error!(why, "the index is not reliable; it is built again from the journal at the next start");
        }
        self.make_known();
    }

    /// Tries again to put on disk that the index is not to be relied on, if that is so and could not be done.
    pub fn make_known(&self) {
        let mut gone = self.gone.lock();
        if self.is_lost() && !*gone {
            match self.forget() {
                Ok(()) => *gone = true,
                Err(err) => warn!(%err, "cannot take the index's checkpoint away; it is tried again"),
            }
        }
    }
}

/// The sequence a checkpoint vouches for; 0 without a valid one.
fn read_checkpoint(directory: &Path) -> u64 {
    let bytes = fs::read(directory.join(CHECKPOINT)).unwrap_or_default();
    let Some((applied, crc)) = bytes.split_at_checked(8) else { return 0 };
    let is_whole = crc == crc32c::crc32c(applied).to_be_bytes();
    applied.try_into().ok().filter(|_| is_whole).map_or(0, u64::from_be_bytes)
}
