//! The journal's directory: names, and segments made whole before they get theirs.
//!
//! A segment is filled with zeros and synced under a passing name, given its head, synced,
//! renamed, and the directory synced; only then is it used. So appending changes no
//! metadata, needs no room, and a segment with a good name is always complete.

use super::{
    disk::{Disk, DiskError, DiskFile, Naming},
    format::{HeadFault, SEGMENT_HEAD_BYTES, SegmentHead},
};
use parking_lot::Mutex;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

const SPARE: &str = "spare.seg";
const SPARE_UNFINISHED: &str = "spare.tmp";
/// The segment about to be put in place.
const NEXT: &str = "next.tmp";
/// One write of zeros.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
/// What is always left to whoever writes beside the journal, in bytes, however small the segments.
const SLACK_BYTES_MIN: u64 = 4 << 20;
/// Zeros are synced in steps, so that a group commit beside them never waits long.
const ZEROS_PER_SYNC: u64 = 8 << 20;

pub(super) struct Folder {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub segment_bytes: u32,
    pub reserve_bytes: u64,
    /// Is there a whole spare segment? Held while the spare changes its name.
    spare: Mutex<bool>,
    /// Held by the one who makes the spare or the reserve.
    making: Mutex<()>,
}

impl Folder {
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, segment_bytes: u32, reserve_bytes: u64) -> Self {
        Self { disk, dir, segment_bytes, reserve_bytes, spare: Mutex::new(false), making: Mutex::new(()) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn segment_path(&self, id: u64) -> PathBuf {
        self.path(&format!("{id:016x}.seg"))
    }

    /// Makes the directory if need be, drops unfinished files, and takes note of the spare.
    pub fn prepare(&self) -> Result<(), DiskError> {
        self.disk.create_dir(&self.dir).naming("create", &self.dir)?;
        if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.disk.sync_dir(parent).naming("sync", parent)?;
        }
        for name in self.names()?.iter().filter(|name| name.ends_with(".tmp")) {
            self.remove(name)?;
        }
        let spare_bytes = self.bytes_of(SPARE)?;
        if spare_bytes.is_some_and(|bytes| bytes != u64::from(self.segment_bytes)) {
            self.remove(SPARE)?;
        }
        *self.spare.lock() = spare_bytes == Some(u64::from(self.segment_bytes));
        Ok(())
    }

    pub fn names(&self) -> Result<Vec<String>, DiskError> {
        self.disk.list(&self.dir).naming("list", &self.dir)
    }

    /// The segments that are there, oldest first.
    pub fn segment_ids(&self) -> Result<Vec<u64>, DiskError> {
        let id = |name: &String| {
            let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
            u64::from_str_radix(digits, 16).ok().filter(|id| format!("{id:016x}") == digits)
        };
        let mut ids: Vec<u64> = self.names()?.iter().filter_map(id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The head at the start of a segment's file.
    pub fn read_head(&self, id: u64) -> Result<Result<SegmentHead, HeadFault>, DiskError> {
        let path = self.segment_path(id);
        let mut head = [0; SEGMENT_HEAD_BYTES];
        let file = self.disk.open(&path).naming("open", &path)?;
        let read = file.read_at(&mut head, 0).naming("read", &path)?;
        Ok(SegmentHead::decode(&head[..read]))
    }

    /// A segment's whole file, with zeros for what is missing at its end.
    pub fn read_whole(&self, path: &Path, bytes_min: usize) -> Result<Vec<u8>, DiskError> {
        let file = self.disk.open(path).naming("open", path)?;
        let length = usize::try_from(file.bytes().naming("read", path)?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(u32::MAX as usize)];
        let read = file.read_at(&mut bytes, 0).naming("read", path)?;
        bytes.truncate(read);
        bytes.resize(read.max(bytes_min), 0);
        Ok(bytes)
    }

    /// Makes a segment that is durable but for its name, from the spare if that will do.
    pub fn make_segment(&self, head: &SegmentHead) -> Result<Arc<dyn DiskFile>, DiskError> {
        let next = self.path(NEXT);
        let zeroed = match head.bytes == self.segment_bytes && self.claim_spare()? {
            true => self.disk.open(&next).naming("open", &next),
            false => self.make_zeroed_leaving(NEXT, u64::from(head.bytes), self.slack_bytes()),
        };
        let made = zeroed.and_then(|file| {
            let encoded = head.encode();
            file.write_at(&encoded, u64::from(head.records_limit())).naming("write", &next)?;
            file.write_at(&encoded, 0).naming("write", &next)?;
            file.sync_all().naming("sync", &next)?;
            Ok(file)
        });
        if made.is_err() {
            let _ = self.disk.remove(&next); // what is left is dropped at the next open
        }
        made
    }

    /// Gives the segment just made its name, for good. One of the same id, which then has no
    /// record that counts, is replaced. After an error it may or may not be in place.
    pub fn place_segment(&self, id: u64) -> Result<(), DiskError> {
        let next = self.path(NEXT);
        self.disk.rename(&next, &self.segment_path(id)).naming("rename", &next)?;
        self.sync_dir()
    }

    /// Takes the spare's name away, so that nobody else can; false if there is none.
    fn claim_spare(&self) -> Result<bool, DiskError> {
        let mut spare = self.spare.lock();
        if *spare {
            let path = self.path(SPARE);
            self.disk.rename(&path, &self.path(NEXT)).naming("rename", &path)?;
        }
        Ok(std::mem::take(&mut *spare))
    }

    pub fn has_spare(&self) -> bool {
        *self.spare.lock()
    }

    /// Makes the spare if there is none and nobody else is at it; true if it made one.
    pub fn make_spare(&self) -> Result<bool, DiskError> {
        let Some(_making) = self.making.try_lock() else { return Ok(false) };
        if self.has_spare() {
            return Ok(false);
        }
        self.make_zeroed_ahead(SPARE_UNFINISHED, u64::from(self.segment_bytes))?;
        let mut spare = self.spare.lock();
        let unfinished = self.path(SPARE_UNFINISHED);
        self.disk.rename(&unfinished, &self.path(SPARE)).naming("rename", &unfinished)?;
        *spare = true;
        Ok(true)
    }

    /// Runs `work` while nobody makes the spare or the reserve.
    pub fn while_making<T>(&self, work: impl FnOnce() -> T) -> T {
        let _making = self.making.lock();
        work()
    }

    /// See [`Journal::slack_bytes`](super::Journal::slack_bytes).
    pub fn slack_bytes(&self) -> u64 {
        (u64::from(self.segment_bytes) / 4).max(SLACK_BYTES_MIN)
    }

    /// Makes a synced file of zeros ahead of need: it must not take the room from those who need it now.
    pub fn make_zeroed_ahead(&self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.make_zeroed_leaving(name, bytes, 2 * self.slack_bytes()).map(drop)
    }

    /// Makes a synced file of zeros, if there is so much more room. Looking first also spares a full disk
    /// being filled up to its last byte, again and again.
    fn make_zeroed_leaving(&self, name: &str, bytes: u64, left: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        let room = self.disk.room(&self.dir).naming("look at the room for", &self.path(name))?;
        if room < bytes + left {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(full).naming("make", &self.path(name));
        }
        self.make_zeroed(name, bytes)
    }

    /// Makes a synced file of zeros; leaves nothing behind if it cannot.
    fn make_zeroed(&self, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        let path = self.path(name);
        let file = self.disk.create(&path).naming("create", &path)?;
        let filled =
            write_zeros(&*file, &path, 0, bytes).and_then(|()| file.sync_all().naming("sync", &path));
        if filled.is_err() {
            let _ = self.disk.remove(&path); // what is left is dropped at the next open
        }
        filled.map(|()| file)
    }

    /// Writes a durable file under its name at once.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let (unfinished, path) = (self.path("kept.tmp"), self.path(name));
        let file = self.disk.create(&unfinished).naming("create", &unfinished)?;
        let kept = file.write_at(bytes, 0).and_then(|()| file.sync_all()).naming("write", &path);
        let kept = kept.and_then(|()| self.disk.rename(&unfinished, &path).naming("rename", &unfinished));
        if kept.is_err() {
            let _ = self.disk.remove(&unfinished); // what is left is dropped at the next open
        }
        kept.and_then(|()| self.sync_dir())
    }

    /// Length of a file, if it is there.
    pub fn bytes_of(&self, name: &str) -> Result<Option<u64>, DiskError> {
        let path = self.path(name);
        match self.disk.open(&path).and_then(|file| file.bytes()).naming("open", &path) {
            Err(err) if err.is_not_found() => Ok(None),
            found => found.map(Some),
        }
    }

    pub fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name);
        self.disk.remove(&path).naming("remove", &path)
    }

    pub fn sync_dir(&self) -> Result<(), DiskError> {
        self.disk.sync_dir(&self.dir).naming("sync", &self.dir)
    }
}

/// Writes zeros over a range of a file, syncing now and then; the end is not synced.
pub(super) fn write_zeros(file: &dyn DiskFile, path: &Path, from: u64, to: u64) -> Result<(), DiskError> {
    let (mut offset, mut unsynced) = (from, 0);
    while offset < to {
        let step = (to - offset).min(ZEROS.len() as u64);
        file.write_at(&ZEROS[..step as usize], offset).naming("write", path)?;
        (offset, unsynced) = (offset + step, unsynced + step);
        if unsynced >= ZEROS_PER_SYNC && offset < to {
            file.sync_data().naming("sync", path)?;
            unsynced = 0;
        }
    }
    Ok(())
}

/// The offset after the last byte that is not zero.
pub(super) fn written_end(bytes: &[u8]) -> usize {
    const STEP: usize = 4096;
    let zero_steps = bytes.rchunks(STEP).take_while(|step| **step == ZEROS[..step.len()]).count();
    let bytes = &bytes[..bytes.len().saturating_sub(zero_steps * STEP)];
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
