//! Reading the journal, from any thread, while it is appended to.
//!
//! A reader sees what is durable and nothing else. Every record is checked whenever it is
//! read, for opening the journal checked only the last segment.

use super::{
    Position,
    disk::{DiskError, DiskFile, Naming},
    error::{Damage, ReadError},
    folder::Folder,
    format::{Parsed, RECORD_HEAD_BYTES, RecordHead, SEGMENT_HEAD_BYTES, SegmentHead, parse},
};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

/// Open segments kept at hand, each with an index of 12 bytes per 64 KiB.
const OPEN_MAX: usize = 64;
/// The index knows one record per so many bytes, as a power of two.
const INDEX_STEP_BITS: u32 = 16;
/// What a scan reads at once, in bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// What a look-up reads at once, in bytes: most records whole.
const READ_BYTES: usize = 4096;

/// A record as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub sequence: u64,
    pub kind: u8,
    pub body: Bytes,
}

/// What a journal is made of, for retention and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    pub id: u64,
    pub first_sequence: u64,
    /// The last durable record; `None` if there is none in it.
    pub last_sequence: Option<u64>,
    /// Length of the file.
    pub bytes: u64,
}

/// Reads durable records. Clones are cheap and share open files.
#[derive(Clone)]
pub struct Reader(pub(super) Arc<Shared>);

impl Reader {
    /// The record that starts at a position.
    pub fn read_at(&self, position: Position) -> Result<Record, ReadError> {
        let segment = self.0.segment(position.segment).ok_or(ReadError::Unknown)?;
        let last = segment.last.load(Ordering::Acquire);
        let end = segment.end.load(Ordering::Acquire);
        let room = end.saturating_sub(position.offset) as usize;
        if (position.offset as usize) < SEGMENT_HEAD_BYTES || room < RECORD_HEAD_BYTES {
            return Err(ReadError::Unknown);
        }
        let file = self.0.opened(&segment)?.ok_or(ReadError::Unknown)?;
        let path = self.0.folder.segment_path(position.segment);
        let damage =
            |what| Damage { file: path.clone(), offset: position.offset.into(), sequence: None, what };

        let mut first = [0; READ_BYTES];
        let first = &mut first[..READ_BYTES.min(room)];
        let read = file.file.read_at(first, position.offset.into()).naming("read", &path)?;
        let mut rest = Vec::new();
        let parsed = match parse(&first[..read], segment.seed, position.offset) {
            Parsed::Short(needed) if needed > read && needed <= room => {
                rest.resize(needed, 0);
                rest[..read].copy_from_slice(&first[..read]);
                let from = u64::from(position.offset) + read as u64;
                let more = file.file.read_at(&mut rest[read..], from).naming("read", &path)?;
                parse(&rest[..read + more], segment.seed, position.offset)
            }
            parsed => parsed,
        };
        match parsed {
            Parsed::Record(head, body) => record(&segment, last, head, body),
            Parsed::Short(_) => Err(damage("it is cut short").into()),
            Parsed::Bad(what) => Err(damage(what).into()),
        }
    }

    /// The record with a sequence. Costs a search in its segment; prefer [`Reader::read_at`].
    pub fn read(&self, sequence: u64) -> Result<Record, ReadError> {
        self.find(sequence).map(|(_, record)| record)
    }

    /// Where the record with a sequence starts.
    pub fn locate(&self, sequence: u64) -> Result<Position, ReadError> {
        self.find(sequence).map(|(position, _)| position)
    }

    fn find(&self, sequence: u64) -> Result<(Position, Record), ReadError> {
        if sequence < self.first_sequence() || sequence > self.last_sequence() {
            return Err(ReadError::Unknown);
        }
        match self.scan_by(sequence, READ_BYTES * 16).next() {
            Some(Ok(found)) if found.1.sequence == sequence => Ok(found),
            Some(Err(err)) => Err(err),
            _ if sequence < self.first_sequence() => Err(ReadError::Unknown),
            _ => Err(ReadError::Lost { sequence }),
        }
    }

    /// Every durable record from a sequence on, in order, or from the oldest if that is later.
    ///
    /// Returns `None` after the last durable record, and may be asked again when there are
    /// more. Records that a repair gave up are left out. The first error ends it.
    pub fn scan(&self, from_sequence: u64) -> Scan {
        self.scan_by(from_sequence, CHUNK_BYTES)
    }

    fn scan_by(&self, from_sequence: u64, chunk_bytes: usize) -> Scan {
        Scan {
            shared: self.0.clone(),
            from_sequence,
            chunk_bytes,
            place: None,
            chunk: Vec::new(),
            has_failed: false,
        }
    }

    /// The sequence of the oldest record kept, or to come.
    pub fn first_sequence(&self) -> u64 {
        self.0.segments.read().values().next().map_or(1, |segment| segment.head.first_sequence)
    }

    /// The sequence of the last durable record; 0 if there never was one.
    pub fn last_sequence(&self) -> u64 {
        self.0.segments.read().values().next_back().map_or(0, |segment| segment.last.load(Ordering::Acquire))
    }

    /// The segments, oldest first; the last is the one written to.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Arc<Segment>| {
            let last = segment.last.load(Ordering::Acquire);
            SegmentInfo {
                id: segment.head.id,
                first_sequence: segment.head.first_sequence,
                last_sequence: (last >= segment.head.first_sequence).then_some(last),
                bytes: segment.head.bytes.into(),
            }
        };
        self.0.segments.read().values().map(info).collect()
    }
}

fn record(segment: &Segment, last: u64, head: RecordHead, body: &[u8]) -> Result<Record, ReadError> {
    let sequence = head.sequence;
    if sequence < segment.head.first_sequence || sequence > last {
        return Err(ReadError::Unknown); // of a batch that was never acknowledged
    }
    if head.is_gap() {
        return Err(ReadError::Lost { sequence });
    }
    Ok(Record { sequence, kind: head.kind, body: Bytes::copy_from_slice(body) })
}

/// What the writer and all readers know of the journal.
pub(super) struct Shared {
    pub folder: Arc<Folder>,
    pub segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// The last one used is at the back.
    open: Mutex<VecDeque<(Arc<Segment>, Arc<OpenSegment>)>>,
}

/// A segment and how far it is durable.
pub(super) struct Segment {
    pub head: SegmentHead,
    pub seed: u32,
    /// Sequence of the last durable record; stored after `end`, loaded before it.
    pub last: AtomicU64,
    /// Records up to here may be read. In a sealed segment there may be more than `last` tells.
    pub end: AtomicU32,
}

struct OpenSegment {
    file: Arc<dyn DiskFile>,
    /// The first record that starts in each stretch of the file, where known.
    index: Mutex<BTreeMap<u32, (u64, u32)>>,
}

impl Shared {
    pub fn new(folder: Arc<Folder>) -> Self {
        Self { folder, segments: RwLock::default(), open: Mutex::default() }
    }

    fn segment(&self, id: u64) -> Option<Arc<Segment>> {
        self.segments.read().get(&id).cloned()
    }

    /// The segment that holds a sequence, or the oldest, or the one written to.
    fn segment_of(&self, sequence: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let (mut low, mut high) = (*segments.keys().next()?, *segments.keys().next_back()?);
        while low < high {
            // Segment ids have no gaps; of several that begin alike the last has the records.
            let middle = low + (high - low).div_ceil(2);
            match segments.get(&middle)?.head.first_sequence <= sequence {
                true => low = middle,
                false => high = middle - 1,
            }
        }
        segments.get(&low).cloned()
    }

    fn segment_after(&self, id: u64) -> Option<Arc<Segment>> {
        self.segments.read().range(id.checked_add(1)?..).next().map(|(_, segment)| segment.clone())
    }

    fn is_current(&self, segment: &Arc<Segment>) -> bool {
        self.segment(segment.head.id).is_some_and(|now| Arc::ptr_eq(&now, segment))
    }

    /// Its open file; `None` if it was removed meanwhile.
    fn opened(&self, segment: &Arc<Segment>) -> Result<Option<Arc<OpenSegment>>, DiskError> {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().rposition(|(one, _)| Arc::ptr_eq(one, segment)) {
            let found = open.remove(at).expect("it was just found there");
            open.push_back(found.clone());
            return Ok(Some(found.1));
        }
        let path = self.folder.segment_path(segment.head.id);
        let file = match self.folder.disk.open(&path).naming("open", &path) {
            Err(err) if err.is_not_found() && !self.is_current(segment) => return Ok(None),
            file => file?,
        };
        let opened = Arc::new(OpenSegment { file, index: Mutex::default() });
        open.push_back((segment.clone(), opened.clone()));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(Some(opened))
    }

    /// Lets go of a segment's file, so that its room returns to the disk.
    pub fn forget(&self, id: u64) {
        self.open.lock().retain(|(segment, _)| segment.head.id != id);
    }
}

/// Durable records in order: see [`Reader::scan`].
pub struct Scan {
    shared: Arc<Shared>,
    from_sequence: u64,
    chunk_bytes: usize,
    place: Option<Place>,
    /// Bytes of the file from `Place::chunk_start` on.
    chunk: Vec<u8>,
    has_failed: bool,
}

struct Place {
    segment: Arc<Segment>,
    opened: Arc<OpenSegment>,
    /// Where the next record starts, and its sequence.
    offset: u32,
    sequence: u64,
    chunk_start: u32,
}

impl Iterator for Scan {
    type Item = Result<(Position, Record), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let step = self.step();
        self.has_failed = step.is_err();
        step.transpose()
    }
}

impl Scan {
    fn step(&mut self) -> Result<Option<(Position, Record)>, ReadError> {
        loop {
            let Some(place) = &mut self.place else {
                let Some(segment) = self.shared.segment_of(self.from_sequence) else { return Ok(None) };
                self.place = enter(&self.shared, segment, self.from_sequence)?;
                continue; // a segment removed meanwhile is not in the list any more
            };
            let last = place.segment.last.load(Ordering::Acquire);
            if place.sequence > last {
                // Once there is a next one, this one has its last record and is not replaced.
                let next = self.shared.segment_after(place.segment.head.id);
                let now = self.shared.segment(place.segment.head.id);
                let is_replaced = now.is_some_and(|now| !Arc::ptr_eq(&now, &place.segment));
                let has_grown = place.segment.last.load(Ordering::Acquire) != last;
                match next {
                    _ if is_replaced => self.look_again(),
                    _ if has_grown => {}
                    Some(next) => self.go_on_in(next)?,
                    None => return Ok(None),
                }
                continue;
            }
            let (offset, sequence) = (place.offset, place.sequence);
            let (head, body) = place.parse(&self.shared, &mut self.chunk, self.chunk_bytes)?;
            if !head.is_gap() && sequence >= self.from_sequence {
                let position = Position { segment: place.segment.head.id, offset };
                let record = record(&place.segment, last, head, &self.chunk[body])?;
                return Ok(Some((position, record)));
            }
        }
    }

    fn go_on_in(&mut self, next: Arc<Segment>) -> Result<(), ReadError> {
        let Some(place) = &self.place else { return Ok(()) };
        let (expected, first) = (place.sequence, next.head.first_sequence);
        self.from_sequence = self.from_sequence.max(expected);
        if place.segment.head.id + 1 == next.head.id && expected != first {
            let file = self.shared.folder.segment_path(next.head.id);
            let what = "its first record does not follow the last segment's";
            return Err(Damage { file, offset: 0, sequence: Some(expected), what }.into());
        }
        self.chunk.clear();
        self.place = enter(&self.shared, next, first)?;
        Ok(())
    }

    /// The segment in hand was replaced: looks for the place anew.
    fn look_again(&mut self) {
        if let Some(place) = self.place.take() {
            self.from_sequence = self.from_sequence.max(place.sequence);
        }
        self.chunk.clear();
    }
}

/// Opens a segment at the last known record that is not after `sequence`.
fn enter(shared: &Shared, segment: Arc<Segment>, sequence: u64) -> Result<Option<Place>, DiskError> {
    let Some(opened) = shared.opened(&segment)? else { return Ok(None) };
    let start = (segment.head.first_sequence, SEGMENT_HEAD_BYTES as u32);
    let nearest = opened.index.lock().values().rev().find(|(known, _)| *known <= sequence).copied();
    let (known, offset) = nearest.unwrap_or(start);
    Ok(Some(Place { segment, opened, offset, sequence: known, chunk_start: offset }))
}

impl Place {
    /// Steps over the next record; the range is its body's in `chunk`.
    fn parse(
        &mut self,
        shared: &Shared,
        chunk: &mut Vec<u8>,
        chunk_bytes: usize,
    ) -> Result<(RecordHead, std::ops::Range<usize>), ReadError> {
        let mut needed = 0;
        loop {
            let at = (self.offset - self.chunk_start) as usize;
            let what = match parse(&chunk[at..], self.segment.seed, self.offset) {
                Parsed::Record(head, _) if head.sequence == self.sequence => {
                    let body = at + RECORD_HEAD_BYTES..at + head.bytes();
                    self.step_over(&head);
                    return Ok((head, body));
                }
                Parsed::Short(more) if more > needed => {
                    needed = more;
                    self.read_chunk(shared, chunk, chunk_bytes.max(more))?;
                    continue;
                }
                Parsed::Record(..) => "it is out of sequence",
                Parsed::Short(_) => "it is cut short",
                Parsed::Bad(what) => what,
            };
            let file = shared.folder.segment_path(self.segment.head.id);
            return Err(
                Damage { file, offset: self.offset.into(), sequence: Some(self.sequence), what }.into()
            );
        }
    }

    /// Reads from the next record on, no further than is durable.
    fn read_chunk(&mut self, shared: &Shared, chunk: &mut Vec<u8>, bytes: usize) -> Result<(), DiskError> {
        let end = self.segment.end.load(Ordering::Acquire);
        chunk.resize(bytes.min(end.saturating_sub(self.offset) as usize), 0);
        self.chunk_start = self.offset;
        let read = self.opened.file.read_at(chunk, self.offset.into());
        let read = read.naming("read", &shared.folder.segment_path(self.segment.head.id))?;
        chunk.truncate(read);
        Ok(())
    }

    fn step_over(&mut self, head: &RecordHead) {
        let (offset, sequence) = (self.offset, self.sequence);
        self.offset += head.bytes() as u32;
        self.sequence = head.next_sequence();
        let stretch = self.offset >> INDEX_STEP_BITS;
        if offset >> INDEX_STEP_BITS != stretch {
            self.opened.index.lock().entry(stretch).or_insert((self.sequence, self.offset));
        }
        debug_assert!(self.sequence > sequence || head.is_gap());
    }
}
