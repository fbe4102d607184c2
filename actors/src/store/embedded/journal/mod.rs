//! The journal: what a 201 depends on, and the only thing it depends on.
//!
//! Append-only segments of checksummed records. [`Journal::append`] returns when its batch
//! is on disk. It is synchronous and has one owner, a thread that commits for everybody;
//! any number of [`Reader`]s look on.
//!
//! # Promises
//! - An append writes once and syncs once. It lies in one segment, whole: a batch that does
//!   not fit the rest of a segment goes to the next, one that fits none gets a longer one.
//! - Sequences count from 1 without holes, also across segments.
//! - After a write or sync that failed, that file is never written or synced again: Linux
//!   drops what a failed sync did not write, and the next sync says all is well. The segment
//!   then ends with its last durable record, and the next one says where it goes on.
//! - A crash costs no acknowledged record. What was not acknowledged may be there after it.
//! - Damage is never mistaken for a torn tail, as far as later records can tell; no later
//!   record speaks for the last batch, so whoever keeps a checkpoint of what was applied
//!   should compare it with [`Opening::next_sequence`].
//!
//! # Files
//! `<id>.seg` segments · `spare.seg` the next one, filled with zeros · `reserve.bin` room to
//! give up · `torn-<sequence>.bin` the last few tails cut · `damaged-<id>.seg` segments as
//! they were before a repair · `*.tmp` unfinished, dropped at the next open.
//!
//! The caller sees to it that one process at a time opens a directory.

mod disk;
mod error;
mod faulty;
mod folder;
mod format;
mod reader;
mod recover;
mod repair;
mod room;
mod walk;

#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskError, DiskFile, RealDisk, is_no_space};
pub use error::{AppendError, Damage, JournalError, ReadError};
pub use faulty::{FaultyDisk, WriteFault};
pub use format::{BODY_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use reader::{Reader, Record, Scan, SegmentInfo};
pub use repair::Loss;
pub use room::{Reserve, SpareMaker};

use disk::Naming;
use folder::Folder;
use format::{GAP_KIND, RECORD_HEAD_BYTES, RecordHead, SEGMENT_HEAD_BYTES, SegmentHead};
use reader::{Segment, Shared};
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

/// The largest segment one may ask for, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// A buffer that a large batch blew up shrinks to this, in bytes.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Where a journal is and how it is kept.
#[derive(Clone)]
pub struct Options {
    /// The journal's own directory; made if it is missing.
    pub dir: PathBuf,
    /// Length of a segment, [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`], a multiple of the
    /// former. May change between openings.
    pub segment_bytes: u64,
    /// Size of the reserve, in segments.
    pub reserve_segments: u32,
    pub disk: Arc<dyn Disk>,
    /// Set aside what is damaged and go on, instead of refusing to open. Reads every segment.
    pub accept_damage: bool,
}

impl Options {
    /// 64 MiB segments, a reserve of two, the real disk, damage refused.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            reserve_segments: 2,
            disk: Arc::new(RealDisk),
            accept_damage: false,
        }
    }
}

/// Where a record starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    pub segment: u64,
    /// In bytes from the start of the segment's file.
    pub offset: u32,
}

/// A record to append.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The caller's own; 0 is taken.
    pub kind: u8,
    /// At most [`BODY_BYTES_MAX`].
    pub body: &'a [u8],
}

/// What was found on opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The sequence the next record gets.
    pub next_sequence: u64,
    /// Bytes cut from the last segment's torn tail; nobody was told of what was in them.
    pub torn_bytes: u64,
    /// Damage set aside; empty unless [`Options::accept_damage`].
    pub losses: Vec<Loss>,
    pub segments: usize,
}

impl Opening {
    /// How many damaged records were set aside.
    pub fn records_lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.records).sum()
    }
}

/// The writing end; see the module.
pub struct Journal {
    shared: Arc<Shared>,
    /// The newest segment, whether or not it can still be written to.
    newest: Arc<Segment>,
    /// Its file; `None` once a write or sync of it failed.
    file: Option<Arc<dyn DiskFile>>,
    /// Where the next record goes in it.
    end: u32,
    next_sequence: u64,
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens the journal in a directory, or begins one there. Takes time in proportion to one
    /// segment, with `accept_damage` to all.
    pub fn open(options: Options) -> Result<(Self, Opening), JournalError> {
        let range = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        if !range.contains(&options.segment_bytes) || !options.segment_bytes.is_multiple_of(SEGMENT_BYTES_MIN)
        {
            return Err(JournalError::Options("segment_bytes is a multiple of 4 KiB, up to 1 GiB"));
        }
        let reserve_bytes = options.segment_bytes * u64::from(options.reserve_segments);
        let segment_bytes = u32::try_from(options.segment_bytes).expect("at most 1 GiB, as just checked");
        let folder = Arc::new(Folder::new(options.disk, options.dir, segment_bytes, reserve_bytes));
        folder.prepare()?;
        let losses = if options.accept_damage { repair::repair(&folder)? } else { Vec::new() };
        let recovered = recover::recover(&folder)?;

        let path = |head: &SegmentHead| folder.segment_path(head.id);
        let newest_head = recovered.heads.last().expect("a recovered journal has a segment");
        let file = folder.disk.open(&path(newest_head)).naming("open", &path(newest_head))?;
        let shared = Arc::new(Shared::new(folder));
        let firsts_after = recovered.heads.iter().skip(1).map(|next| next.first_sequence);
        let heads = recovered.heads.iter().zip(firsts_after.chain([recovered.next_sequence]));
        for (head, next_sequence) in heads {
            let end = if head == newest_head { recovered.end } else { head.records_limit() };
            shared.segments.write().insert(head.id, Arc::new(segment(*head, next_sequence - 1, end)));
        }
        let newest = shared.segments.read()[&newest_head.id].clone();
        let opening = Opening {
            next_sequence: recovered.next_sequence,
            torn_bytes: recovered.torn_bytes,
            losses,
            segments: recovered.heads.len(),
        };
        let (end, next_sequence) = (recovered.end, recovered.next_sequence);
        Ok((Self { shared, newest, file: Some(file), end, next_sequence, buffer: Vec::new() }, opening))
    }

    /// Appends a batch; it is durable when this returns. Positions are in the batch's order
    /// and sequences count on from [`Journal::next_sequence`]. After an error none of the
    /// batch counts as written, and its sequences are given out again.
    pub fn append(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Position>, AppendError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = batch_bytes(entries)?;
        let fits = u64::from(self.end) + bytes <= u64::from(self.newest.head.append_limit());
        let file = match self.file.clone().filter(|_| fits) {
            Some(file) => file,
            None => self.rotate(bytes)?,
        };
        let positions = self.encode(entries);
        let path = self.shared.folder.segment_path(self.newest.head.id);
        let written = file.write_at(&self.buffer, self.end.into()).naming("write", &path);
        if let Err(err) = written.and_then(|()| file.sync_data().naming("sync", &path)) {
            self.file = None; // never to be written or synced again
            return Err(err.into());
        }
        self.end += self.buffer.len() as u32;
        self.next_sequence += entries.len() as u64;
        self.newest.end.store(self.end, Ordering::Release);
        self.newest.last.store(self.next_sequence - 1, Ordering::Release);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        }
        Ok(positions)
    }

    /// The sequence that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// A reader of this journal.
    pub fn reader(&self) -> Reader {
        Reader(self.shared.clone())
    }

    /// What makes spare segments; without it a rotation makes its own, which takes longer.
    pub fn spare_maker(&self) -> SpareMaker {
        SpareMaker(self.shared.folder.clone())
    }

    /// The room kept for a full disk.
    pub fn reserve(&self) -> Reserve {
        Reserve(self.shared.folder.clone())
    }

    /// Room that is always left on the disk for what is written beside the journal, in bytes, so that a
    /// full disk does not keep it from being opened. What is made ahead of need leaves twice as much.
    pub fn slack_bytes(&self) -> u64 {
        self.shared.folder.slack_bytes()
    }

    /// The segments, oldest first; the last is the one written to.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.reader().segments()
    }

    /// Length of all segments' files, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.bytes).sum()
    }

    /// Drops the oldest segment, for good once this returns. The caller has made durable
    /// whatever no longer needs it. Readers in the middle of it may finish.
    pub fn remove_oldest(&mut self, id: u64) -> Result<(), JournalError> {
        let oldest = self.shared.segments.read().first_key_value().map(|(id, _)| *id);
        if oldest != Some(id) || id == self.newest.head.id {
            return Err(JournalError::NotRemovable(id));
        }
        let removed = self.shared.segments.write().remove(&id);
        let path = self.shared.folder.segment_path(id);
        if let Err(err) = self.shared.folder.disk.remove(&path).naming("remove", &path) {
            self.shared.segments.write().extend(removed.map(|segment| (id, segment)));
            return Err(err.into());
        }
        self.shared.forget(id);
        Ok(self.shared.folder.sync_dir()?)
    }

    /// Begins a segment that has room for a batch. On a full disk nothing changes.
    fn rotate(&mut self, batch_bytes: u64) -> Result<Arc<dyn DiskFile>, AppendError> {
        let folder = &self.shared.folder;
        let bytes = SegmentHead::bytes_for(batch_bytes, folder.segment_bytes.into());
        let max = u64::from(u32::MAX);
        let bytes = bytes.ok_or(AppendError::TooLarge { bytes: batch_bytes, max })?;
        // A segment without a record is replaced: a disk that fails and fails is not filled up.
        let is_empty = self.newest.head.first_sequence == self.next_sequence;
        let id = self.newest.head.id + u64::from(!is_empty);
        let head = SegmentHead { id, first_sequence: self.next_sequence, bytes, salt: self.newest.head.salt };
        let file = folder.make_segment(&head)?;
        // Once the new one may have its name, nothing may be appended to the old one.
        self.file = None;
        folder.place_segment(id)?;
        self.newest = Arc::new(segment(head, self.next_sequence - 1, SEGMENT_HEAD_BYTES as u32));
        self.end = SEGMENT_HEAD_BYTES as u32;
        self.file = Some(file.clone());
        self.shared.segments.write().insert(id, self.newest.clone());
        if is_empty {
            self.shared.forget(id);
        }
        Ok(file)
    }

    fn encode(&mut self, entries: &[Entry<'_>]) -> Vec<Position> {
        self.buffer.clear();
        let (durable, seed) = (self.next_sequence - 1, self.newest.seed);
        let mut positions = Vec::with_capacity(entries.len());
        for (sequence, entry) in (self.next_sequence..).zip(entries) {
            let offset = self.end + self.buffer.len() as u32;
            let head = RecordHead::of(seed, entry.kind, sequence, durable, entry.body);
            self.buffer.extend_from_slice(&head.encode(seed, offset));
            self.buffer.extend_from_slice(entry.body);
            positions.push(Position { segment: self.newest.head.id, offset });
        }
        positions
    }
}

fn segment(head: SegmentHead, last: u64, end: u32) -> Segment {
    Segment { head, seed: head.seed(), last: AtomicU64::new(last), end: AtomicU32::new(end) }
}

/// Length of a batch in the journal, if all of it may go there.
fn batch_bytes(entries: &[Entry<'_>]) -> Result<u64, AppendError> {
    let mut total = 0;
    for entry in entries {
        if entry.kind == GAP_KIND {
            return Err(AppendError::ReservedKind);
        }
        let (bytes, max) = (entry.body.len() as u64, BODY_BYTES_MAX as u64);
        if bytes > max {
            return Err(AppendError::TooLarge { bytes, max });
        }
        total += RECORD_HEAD_BYTES as u64 + bytes;
    }
    Ok(total)
}
