//! Going through a segment held in memory: how far it is sound, and what a bad place means.
//!
//! A bad place in the segment written last is either a torn tail, which nobody was told of
//! and which may be cut, or damage. It is damage if any later record knows that the record
//! which should stand there was durable.

use super::{
    folder::written_end,
    format::{Parsed, RECORD_HEAD_BYTES, RecordHead, SEGMENT_HEAD_BYTES, SegmentHead, parse},
};

/// A segment's sound beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Where the sound records end, in bytes.
    pub end: u32,
    /// The sequence that comes next.
    pub next_sequence: u64,
    /// Where the last batch begins: no sound record proves that it was synced.
    pub batch_start: u32,
    /// What is wrong at `end`; `None` if the segment simply ends there.
    pub bad: Option<&'static str>,
}

/// Walks from the first record through sequence `last`, or to where the records end.
pub(super) fn walk(bytes: &[u8], head: &SegmentHead, last: u64) -> Walked {
    let (seed, records) = (head.seed(), &bytes[..head.records_limit() as usize]);
    let (mut offset, mut next_sequence) = (SEGMENT_HEAD_BYTES, head.first_sequence);
    let (mut batch_start, mut batch_durable) = (offset, None);
    let bad = loop {
        if next_sequence > last {
            break None;
        }
        match parse(&records[offset..], seed, offset as u32) {
            Parsed::Record(record, _) if record.sequence == next_sequence => {
                if batch_durable != Some(record.durable) {
                    (batch_start, batch_durable) = (offset, Some(record.durable));
                }
                (offset, next_sequence) = (offset + record.bytes(), record.next_sequence());
            }
            Parsed::Record(..) => break Some("it is out of sequence"),
            _ if last == u64::MAX && written_end(&records[offset..]) == 0 => break None,
            Parsed::Short(_) => break Some("it is cut short"),
            Parsed::Bad(what) => break Some(what),
        }
    };
    Walked { end: offset as u32, next_sequence, batch_start: batch_start as u32, bad }
}

/// The record heads beyond a bad place that could belong to this segment, in order.
///
/// `sequence` should stand at `from`. As many records as a later head leaves out
/// must fit in between, or it is not believed.
pub(super) fn heads_after<'a>(
    bytes: &'a [u8],
    head: &SegmentHead,
    from: u32,
    sequence: u64,
) -> impl Iterator<Item = (u32, RecordHead)> + use<'a> {
    let (seed, from) = (head.seed(), from as usize);
    let records = &bytes[..head.records_limit() as usize];
    let end = written_end(records).max(from);
    (from + RECORD_HEAD_BYTES..end).filter_map(move |offset| {
        let stands =
            records.get(offset + 16..offset + 24)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))?;
        let left_out = stands.checked_sub(sequence)?;
        let room = ((offset - from) / RECORD_HEAD_BYTES) as u64;
        if left_out == 0 || left_out > room {
            return None;
        }
        Some((offset as u32, RecordHead::decode(&records[offset..], seed, offset as u32)?))
    })
}

/// Was the record that should stand at `from` durable once?
pub(super) fn was_durable(bytes: &[u8], head: &SegmentHead, from: u32, sequence: u64) -> bool {
    heads_after(bytes, head, from, sequence).any(|(_, later)| later.proves_durable() >= sequence)
}
