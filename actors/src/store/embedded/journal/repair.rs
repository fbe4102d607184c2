//! Going on without what is damaged, when the operator says so.
//!
//! Every segment is read whole. Before one is touched its file is copied aside; then a gap
//! record is written over each damaged stretch, so that every sound record keeps its
//! sequence and its position. A repair that is interrupted is simply done again.

use super::{
    disk::{DiskError, Naming},
    error::JournalError,
    folder::{Folder, write_zeros, written_end},
    format::{
        GAP_KIND, HeadFault, RECORD_HEAD_BYTES, RecordHead, SEGMENT_BYTES_MIN, SEGMENT_HEAD_BYTES,
        SegmentHead,
    },
    walk::{heads_after, walk, was_durable},
};
use crc32c::crc32c_append;
use std::{collections::BTreeSet, fmt, ops::Range};

/// So many lost segments in a row are filled in; more are a stray file.
const MISSING_MAX: u64 = 1 << 16;

/// What a repair gave up in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The segment it was in.
    pub segment: u64,
    /// Where, in bytes from the segment's start.
    pub offset: u32,
    /// The first record lost.
    pub first_sequence: u64,
    /// How many records are lost here. 0 for a segment's head, which was restored or, with
    /// nothing readable behind it, set aside with the file.
    pub records: u64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, first_sequence, records } = self;
        match records {
            0 => write!(f, "the head of journal segment {segment:016x}, before record {first_sequence}"),
            1 => write!(f, "record {first_sequence}, in journal segment {segment:016x} at byte {offset}"),
            _ => {
                let last = first_sequence + records - 1;
                write!(
                    f,
                    "records {first_sequence} to {last}, in journal segment {segment:016x} at byte {offset}"
                )
            }
        }
    }
}

/// Makes a damaged journal sound; nothing is changed in a sound one. A torn tail is left.
pub(super) fn repair(folder: &Folder) -> Result<Vec<Loss>, JournalError> {
    let mut repair = Repair { folder, losses: Vec::new(), aside: BTreeSet::new() };
    let mut heads = repair.restore_heads()?.into_iter().peekable();
    while let Some(head) = heads.next() {
        match heads.peek() {
            Some(next) => repair.sealed(&head, next)?,
            None => repair.last(&head)?,
        }
    }
    Ok(repair.losses)
}

struct Repair<'a> {
    folder: &'a Folder,
    losses: Vec<Loss>,
    /// Segments whose file has been copied.
    aside: BTreeSet<u64>,
}

impl Repair<'_> {
    /// Reads every segment's head, or finds it again from its copy, its neighbours and its
    /// records. A file that is no segment of this journal is set aside.
    fn restore_heads(&mut self) -> Result<Vec<SegmentHead>, JournalError> {
        let ids = self.folder.segment_ids()?;
        let mut found = Vec::new();
        for &id in &ids {
            found.push(match self.folder.read_head(id)? {
                Ok(head) => Some(head).filter(|head| head.id == id),
                Err(HeadFault::Damaged) => None,
                Err(HeadFault::Newer(version)) => {
                    return Err(JournalError::NewerFormat { file: self.folder.segment_path(id), version });
                }
            });
        }
        let salt = self.salt(&ids, &found)?;
        let mut heads: Vec<SegmentHead> = Vec::new();
        for (&id, found) in ids.iter().zip(found) {
            let first_min = heads.last().map_or(1, |before| before.first_sequence);
            let fits = |head: &SegmentHead| head.salt == salt && head.first_sequence >= first_min;
            let head = match found.filter(fits) {
                Some(head) => Some(head),
                None => self.restore_head(id, salt, fits)?,
            };
            heads.extend(head);
        }
        Ok(heads)
    }

    /// The journal's salt: the one that most heads agree on, or else a head's copy tells.
    fn salt(&self, ids: &[u64], found: &[Option<SegmentHead>]) -> Result<u64, JournalError> {
        let salts: Vec<u64> = found.iter().flatten().map(|head| head.salt).collect();
        let agreeing = |salt: &&u64| salts.iter().filter(|other| other == salt).count();
        if let Some(salt) = salts.iter().max_by_key(agreeing) {
            return Ok(*salt);
        }
        for &id in ids.iter().rev() {
            if let Some(head) = self.copied_head(id)? {
                return Ok(head.salt);
            }
        }
        let Some(&id) = ids.last() else { return Ok(0) };
        let why = "no head is left to read its records by";
        Err(JournalError::BeyondRepair { file: self.folder.segment_path(id), why })
    }

    fn restore_head(
        &mut self,
        id: u64,
        salt: u64,
        fits: impl Fn(&SegmentHead) -> bool,
    ) -> Result<Option<SegmentHead>, DiskError> {
        self.set_aside(id)?;
        let head = match self.copied_head(id)?.filter(&fits) {
            Some(head) => Some(head),
            None => self.guessed_head(id, salt)?.filter(fits),
        };
        let path = self.folder.segment_path(id);
        if let Some(head) = &head {
            let file = self.folder.disk.open(&path).naming("open", &path)?;
            file.write_at(&head.encode(), u64::from(head.records_limit())).naming("write", &path)?;
            file.write_at(&head.encode(), 0).naming("write", &path)?;
            file.sync_all().naming("sync", &path)?;
        } else {
            self.folder.disk.remove(&path).naming("remove", &path)?;
            self.folder.sync_dir()?;
        }
        let first_sequence = head.map_or(0, |head| head.first_sequence);
        self.losses.push(Loss { segment: id, offset: 0, first_sequence, records: 0 });
        Ok(head)
    }

    fn copied_head(&self, id: u64) -> Result<Option<SegmentHead>, DiskError> {
        let bytes = self.folder.read_whole(&self.folder.segment_path(id), SEGMENT_HEAD_BYTES)?;
        let copy = SegmentHead::decode(&bytes[bytes.len() - SEGMENT_HEAD_BYTES..]).ok();
        Ok(copy.filter(|head| head.id == id && head.bytes as usize == bytes.len()))
    }

    /// Both copies of the head are gone: takes the first record that can be read for the first.
    fn guessed_head(&self, id: u64, salt: u64) -> Result<Option<SegmentHead>, DiskError> {
        let bytes_min = self.folder.segment_bytes as usize;
        let bytes = self.folder.read_whole(&self.folder.segment_path(id), bytes_min)?;
        let Some(length) = SegmentHead::bytes_for(0, bytes.len() as u64) else { return Ok(None) };
        let seed = SegmentHead { id, first_sequence: 1, bytes: length, salt }.seed();
        let record = (SEGMENT_HEAD_BYTES..written_end(&bytes))
            .find_map(|offset| Some((offset, RecordHead::decode(&bytes[offset..], seed, offset as u32)?)));
        Ok(record.map(|(offset, record)| {
            // Something stood before it. How many records nobody knows; if more than the one
            // assumed, the gap at the end of the segment before takes the rest.
            let lost = u64::from(offset > SEGMENT_HEAD_BYTES).min(record.sequence - 1);
            SegmentHead { id, first_sequence: record.sequence - lost, bytes: length, salt }
        }))
    }

    /// Makes a segment whole up to the next one; all of it is known to have been durable.
    fn sealed(&mut self, head: &SegmentHead, next: &SegmentHead) -> Result<(), JournalError> {
        let through = next.first_sequence - 1;
        let is_joined = head.id + 1 == next.id;
        loop {
            let bytes = self.folder.read_whole(&self.folder.segment_path(head.id), head.bytes as usize)?;
            let walked = walk(&bytes, head, through);
            if walked.bad.is_some() {
                let later = heads_after(&bytes, head, walked.end, walked.next_sequence).next();
                let stretch = match later.filter(|(_, record)| record.sequence <= through) {
                    Some((offset, record)) => Some((offset, record.sequence)),
                    None => is_joined.then_some((head.records_limit(), through + 1)),
                };
                if let Some((to, sequence)) = stretch {
                    self.write_gap(head, walked.end..to, walked.next_sequence..sequence)?;
                    continue;
                }
            }
            return if is_joined { Ok(()) } else { self.fill_in(head, next, walked.next_sequence) };
        }
    }

    fn last(&mut self, head: &SegmentHead) -> Result<(), JournalError> {
        loop {
            let bytes = self.folder.read_whole(&self.folder.segment_path(head.id), head.bytes as usize)?;
            let walked = walk(&bytes, head, u64::MAX);
            if walked.bad.is_none() || !was_durable(&bytes, head, walked.end, walked.next_sequence) {
                return Ok(());
            }
            let later = heads_after(&bytes, head, walked.end, walked.next_sequence).next();
            let (to, record) = later.expect("a later record proved this one durable");
            self.write_gap(head, walked.end..to, walked.next_sequence..record.sequence)?;
        }
    }

    /// Puts small segments where some are missing; the first one's gap stands for all that
    /// was in them. It is made last, so that an interrupted repair finds fewer missing.
    fn fill_in(&mut self, before: &SegmentHead, after: &SegmentHead, next: u64) -> Result<(), JournalError> {
        if after.id - before.id > MISSING_MAX {
            let why = "too many segments are missing before it";
            return Err(JournalError::BeyondRepair { file: self.folder.segment_path(after.id), why });
        }
        for id in (before.id + 1..after.id).rev() {
            let first_sequence = if id == before.id + 1 { next } else { after.first_sequence };
            let head = SegmentHead { id, first_sequence, bytes: SEGMENT_BYTES_MIN as u32, salt: before.salt };
            self.folder.make_segment(&head)?;
            self.folder.place_segment(id)?;
            self.aside.insert(id); // there is nothing to keep of it
            if first_sequence < after.first_sequence {
                let start = SEGMENT_HEAD_BYTES as u32;
                let place = start..start + RECORD_HEAD_BYTES as u32;
                self.write_gap(&head, place, first_sequence..after.first_sequence)?;
            }
        }
        Ok(())
    }

    /// Replaces a stretch by a record that says so.
    fn write_gap(
        &mut self,
        head: &SegmentHead,
        place: Range<u32>,
        lost: Range<u64>,
    ) -> Result<(), JournalError> {
        let file = self.folder.segment_path(head.id);
        let room =
            place.end.checked_sub(place.start).and_then(|room| room.checked_sub(RECORD_HEAD_BYTES as u32));
        let Some(body_bytes) = room else {
            return Err(JournalError::BeyondRepair { file, why: "there is no room to mark what is lost" });
        };
        self.set_aside(head.id)?;
        let body_crc = crc32c_append(head.seed(), &vec![0; body_bytes as usize]);
        let (sequence, durable) = (lost.start, lost.end - 1);
        let gap = RecordHead { body_bytes, body_crc, kind: GAP_KIND, sequence, durable };
        self.overwrite(head, &place, &gap)?;
        let (segment, records) = (head.id, lost.end - lost.start);
        self.losses.push(Loss { segment, offset: place.start, first_sequence: lost.start, records });
        Ok(())
    }

    fn overwrite(&self, head: &SegmentHead, place: &Range<u32>, gap: &RecordHead) -> Result<(), DiskError> {
        let path = self.folder.segment_path(head.id);
        let (start, end) = (u64::from(place.start), u64::from(place.end));
        let file = self.folder.disk.open(&path).naming("open", &path)?;
        write_zeros(&*file, &path, start, end)?;
        file.write_at(&gap.encode(head.seed(), place.start), start).naming("write", &path)?;
        file.sync_all().naming("sync", &path)
    }

    /// Copies a segment's file to `damaged-<id>.seg` before its first change.
    fn set_aside(&mut self, id: u64) -> Result<(), DiskError> {
        if !self.aside.insert(id) {
            return Ok(());
        }
        let mut name = format!("damaged-{id:016x}.seg");
        for copy in 2_u32.. {
            if self.folder.bytes_of(&name)?.is_none() {
                break;
            }
            name = format!("damaged-{id:016x}-{copy}.seg"); // an earlier repair's copy stays
        }
        self.folder.keep(&name, &self.folder.read_whole(&self.folder.segment_path(id), 0)?)
    }
}
