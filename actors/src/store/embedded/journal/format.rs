//! The bytes of a segment: its head, its records, and what makes them believable.
//!
//! ```text
//! segment   head 64 · records … · zeros · 32 kept free · copy of the head 64
//! head      magic 8 · version u32 · 0 u32 · id · first sequence · file bytes · salt (u64 each) · 0 12 · crc u32
//! record    head crc u32 · body bytes u32 · body crc u32 · kind u8 · 0 3 · sequence u64 · durable u64 · body
//! ```
//! Little endian; checksums are CRC32C. A record's are seeded with the segment's id and the
//! journal's random salt, and the head's also with its offset: a record is valid in one place
//! only, and nobody who chooses a body can make it look like a record. Sequence 0 is never
//! used, so zeros are never a record. The head has a checksum of its own, so that a damaged
//! body costs one record and a search for the next record cannot be led astray.
//!
//! `durable` is the last sequence known to be synced when the record was written. All records
//! of one append carry the same. Kind 0 is the journal's own: it covers records that a repair
//! gave up, from its sequence to the one in `durable`.

use crc32c::{crc32c, crc32c_append};

pub(super) const SEGMENT_HEAD_BYTES: usize = 64;
pub(super) const RECORD_HEAD_BYTES: usize = 32;
/// Kind of the record that stands for records given up.
pub(super) const GAP_KIND: u8 = 0;
/// Not record space: room for a last gap record, then the copy of the head.
const TAIL_BYTES: usize = RECORD_HEAD_BYTES + SEGMENT_HEAD_BYTES;
const MAGIC: [u8; 8] = *b"WEFTJRNL";
const VERSION: u32 = 1;

/// The smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 4096;
/// The longest body of one record, in bytes.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub id: u64,
    /// Sequence of its first record; an empty segment's is that of the record to come.
    pub first_sequence: u64,
    /// Length of the whole file.
    pub bytes: u32,
    /// Random, the same in every segment of a journal.
    pub salt: u64,
}

/// Why a segment head cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadFault {
    Damaged,
    Newer(u32),
}

impl SegmentHead {
    pub fn encode(&self) -> [u8; SEGMENT_HEAD_BYTES] {
        let mut out = [0; SEGMENT_HEAD_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.id.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[32..40].copy_from_slice(&u64::from(self.bytes).to_le_bytes());
        out[40..48].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(head: &[u8]) -> Result<Self, HeadFault> {
        if head.len() < SEGMENT_HEAD_BYTES || head[..8] != MAGIC || crc32c(&head[..60]) != u32_at(head, 60) {
            return Err(HeadFault::Damaged);
        }
        match u32_at(head, 8) {
            VERSION => {}
            newer => return Err(HeadFault::Newer(newer)),
        }
        let bytes = u32::try_from(u64_at(head, 32)).map_err(|_| HeadFault::Damaged)?;
        let head =
            Self { id: u64_at(head, 16), first_sequence: u64_at(head, 24), bytes, salt: u64_at(head, 40) };
        let sane = head.first_sequence > 0 && u64::from(bytes) >= SEGMENT_BYTES_MIN;
        if sane { Ok(head) } else { Err(HeadFault::Damaged) }
    }

    /// What its records' checksums start from.
    pub fn seed(&self) -> u32 {
        crc32c_append(crc32c(&self.id.to_le_bytes()), &self.salt.to_le_bytes())
    }

    /// Appended records end here at the latest.
    pub fn append_limit(&self) -> u32 {
        self.bytes - TAIL_BYTES as u32
    }

    /// Records end here at the latest, a last gap included; the copy of the head follows.
    pub fn records_limit(&self) -> u32 {
        self.bytes - SEGMENT_HEAD_BYTES as u32
    }

    /// The file length that holds `record_bytes` of records, at least `bytes_min`; `None` beyond 4 GiB.
    pub fn bytes_for(record_bytes: u64, bytes_min: u64) -> Option<u32> {
        let needed = record_bytes.checked_add((SEGMENT_HEAD_BYTES + TAIL_BYTES) as u64)?;
        u32::try_from(needed.max(bytes_min).checked_next_multiple_of(SEGMENT_BYTES_MIN)?).ok()
    }
}

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub body_bytes: u32,
    pub body_crc: u32,
    pub kind: u8,
    pub sequence: u64,
    pub durable: u64,
}

impl RecordHead {
    pub fn of(seed: u32, kind: u8, sequence: u64, durable: u64, body: &[u8]) -> Self {
        let body_bytes = u32::try_from(body.len()).expect("bodies are shorter than their segment");
        Self { body_bytes, body_crc: crc32c_append(seed, body), kind, sequence, durable }
    }

    pub fn encode(&self, seed: u32, offset: u32) -> [u8; RECORD_HEAD_BYTES] {
        let mut out = [0; RECORD_HEAD_BYTES];
        out[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        out[12] = self.kind;
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        out[24..].copy_from_slice(&self.durable.to_le_bytes());
        let crc = head_crc(seed, offset, &out);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head at the start of `bytes`, if it is one that was written at `offset`.
    pub fn decode(bytes: &[u8], seed: u32, offset: u32) -> Option<Self> {
        let bytes: &[u8; RECORD_HEAD_BYTES] = bytes.first_chunk()?;
        let (kind, sequence, durable) = (bytes[12], u64_at(bytes, 16), u64_at(bytes, 24));
        let in_order = match kind {
            GAP_KIND => durable >= sequence.wrapping_sub(1),
            _ => durable < sequence,
        };
        if sequence == 0 || !in_order || head_crc(seed, offset, bytes) != u32_at(bytes, 0) {
            return None;
        }
        Some(Self { body_bytes: u32_at(bytes, 4), body_crc: u32_at(bytes, 8), kind, sequence, durable })
    }

    /// Head and body, in bytes.
    pub fn bytes(&self) -> usize {
        RECORD_HEAD_BYTES + self.body_bytes as usize
    }

    pub fn is_gap(&self) -> bool {
        self.kind == GAP_KIND
    }

    /// The sequence that follows it.
    pub fn next_sequence(&self) -> u64 {
        (if self.is_gap() { self.durable } else { self.sequence }).saturating_add(1)
    }

    /// Records up to this sequence were durable when it was written.
    pub fn proves_durable(&self) -> u64 {
        if self.is_gap() { self.sequence - 1 } else { self.durable }
    }
}

/// What stands at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    Record(RecordHead, &'a [u8]),
    /// Too few bytes at hand to tell; it takes so many.
    Short(usize),
    Bad(&'static str),
}

/// Reads the record that starts `bytes` and stands at `offset`.
pub(super) fn parse(bytes: &[u8], seed: u32, offset: u32) -> Parsed<'_> {
    if bytes.len() < RECORD_HEAD_BYTES {
        return Parsed::Short(RECORD_HEAD_BYTES);
    }
    let Some(head) = RecordHead::decode(bytes, seed, offset) else {
        return Parsed::Bad("its head fails the checksum");
    };
    let Some(body) = bytes.get(RECORD_HEAD_BYTES..head.bytes()) else {
        return Parsed::Short(head.bytes());
    };
    match crc32c_append(seed, body) == head.body_crc {
        true => Parsed::Record(head, body),
        false => Parsed::Bad("its body fails the checksum"),
    }
}

fn head_crc(seed: u32, offset: u32, head: &[u8; RECORD_HEAD_BYTES]) -> u32 {
    crc32c_append(crc32c_append(seed, &offset.to_le_bytes()), &head[4..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller checked the length"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller checked the length"))
}
