//! Opening: what a crash may have left behind, and what it may not.
//!
//! Only the last segment is read whole. Of the older ones only the heads are, which shows
//! a missing one; their records are checked whenever they are read.

use super::{
    disk::{DiskError, Naming},
    error::{Damage, JournalError},
    folder::{Folder, write_zeros, written_end},
    format::{HeadFault, SegmentHead},
    walk::{Walked, walk, was_durable},
};

/// How many cut tails are kept for whoever wants to know.
const TORN_KEPT_MAX: usize = 4;
/// How much of one is kept, in bytes.
const TORN_BYTES_MAX: usize = 16 << 20;

/// A sound journal's state, ready to go on.
pub(super) struct Recovered {
    /// Oldest first; never empty.
    pub heads: Vec<SegmentHead>,
    /// Where the next record goes in the last segment.
    pub end: u32,
    pub next_sequence: u64,
    pub torn_bytes: u64,
}

/// Checks the segments and cuts the last one's torn tail; begins a journal where none is.
pub(super) fn recover(folder: &Folder) -> Result<Recovered, JournalError> {
    let mut heads = read_heads(folder)?;
    if heads.is_empty() {
        let bytes = folder.segment_bytes;
        heads.push(SegmentHead { id: 1, first_sequence: 1, bytes, salt: rand::random() });
        folder.make_segment(&heads[0])?;
        folder.place_segment(1)?;
    }
    let last = heads.last().expect("there is at least the one just made");
    let (walked, torn_bytes) = settle(folder, last)?;
    folder.sync_dir()?; // a crash may have come between its rename and the sync
    Ok(Recovered { end: walked.end, next_sequence: walked.next_sequence, torn_bytes, heads })
}

fn read_heads(folder: &Folder) -> Result<Vec<SegmentHead>, JournalError> {
    let mut heads: Vec<SegmentHead> = Vec::new();
    for id in folder.segment_ids()? {
        let file = folder.segment_path(id);
        let damage = |what| Damage { file: file.clone(), offset: 0, sequence: None, what };
        let head = match folder.read_head(id)? {
            Ok(head) if head.id == id => head,
            Ok(_) => return Err(damage("its head is another segment's").into()),
            Err(HeadFault::Damaged) => return Err(damage("its head fails the checksum").into()),
            Err(HeadFault::Newer(version)) => return Err(JournalError::NewerFormat { file, version }),
        };
        if let Some(before) = heads.last() {
            if before.salt != head.salt {
                return Err(damage("it is another journal's").into());
            }
            if before.id + 1 != id {
                let file = folder.segment_path(before.id + 1);
                let what = "the segment is missing";
                return Err(Damage { file, offset: 0, sequence: None, what }.into());
            }
            if before.first_sequence > head.first_sequence {
                return Err(damage("its first record comes before the last segment's").into());
            }
        }
        heads.push(head);
    }
    Ok(heads)
}

/// Makes the last segment durable as it will be read, and clean from there on.
///
/// What a killed process wrote may so far be in the machine's memory only, even after a
/// sync that failed: so the last batch, which nothing proves to be durable, is written again.
fn settle(folder: &Folder, head: &SegmentHead) -> Result<(Walked, u64), JournalError> {
    let path = folder.segment_path(head.id);
    let bytes = folder.read_whole(&path, head.bytes as usize)?;
    let walked = walk(&bytes, head, u64::MAX);
    let (start, end) = (walked.batch_start as usize, walked.end as usize);
    if let Some(what) = walked.bad
        && was_durable(&bytes, head, walked.end, walked.next_sequence)
    {
        let (offset, sequence) = (u64::from(walked.end), Some(walked.next_sequence));
        return Err(Damage { file: path, offset, sequence, what }.into());
    }
    let limit = head.records_limit() as usize;
    let torn = &bytes[end..end + written_end(&bytes[end..limit])];
    if !torn.is_empty() {
        keep_torn(folder, walked.next_sequence, torn)?;
    }
    let file = folder.disk.open(&path).naming("open", &path)?;
    let length = file.bytes().naming("read", &path)?;
    write_zeros(&*file, &path, end as u64, (end + torn.len()) as u64)?;
    write_zeros(&*file, &path, length, limit as u64)?;
    file.write_at(&bytes[start..end], start as u64).naming("write", &path)?;
    file.write_at(&head.encode(), limit as u64).naming("write", &path)?;
    file.sync_all().naming("sync", &path)?;
    Ok((walked, torn.len() as u64))
}

/// Copies a tail aside before it is cut. A full disk must not keep the journal shut, and
/// nobody was told of these records: then they go without a copy.
fn keep_torn(folder: &Folder, sequence: u64, torn: &[u8]) -> Result<(), DiskError> {
    let name = format!("torn-{sequence:020}.bin");
    match folder.keep(&name, &torn[..torn.len().min(TORN_BYTES_MAX)]) {
        Err(err) if err.is_no_space() => tracing::warn!(%err, sequence, "a torn tail is cut without a copy"),
        kept => kept?,
    }
    let mut names = folder.names()?;
    names.retain(|name| name.starts_with("torn-") && name.ends_with(".bin"));
    names.sort_unstable();
    for name in names.iter().rev().skip(TORN_KEPT_MAX) {
        folder.remove(name)?;
    }
    Ok(())
}
