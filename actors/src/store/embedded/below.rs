//! What sled was found to hold, so that the reads of every event need not ask it again.
//!
//! A read of sled costs microseconds, and an event would make a dozen: the same few rows of
//! configuration, its own rows, and the short rest of queues that pass through. What was found is kept
//! up with what is written: only layers that are taken down write to sled, and [`Below::wrote`] sees them.

use super::view::{Known, Layer};
use crate::store::state::keys;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Rows, and ranges, that are known at most; beyond it all is forgotten and learnt anew.
const KNOWN_MAX: usize = 16_384;
/// A larger row is not kept, in bytes.
const ROW_BYTES_MAX: usize = 4_096;
/// A longer range is not kept, in keys.
const RANGE_KEYS_MAX: usize = 512;
/// Keys of a layer that are gone through before readers have their turn.
const KEYS_A_TURN: usize = 256;
/// Tables of rows that many events read and few changes write; see [the layout](keys).
const ROWS: &[u8] = b"CPQVcgmpw";
/// Tables of rows that are read again soon after they were written, for as long as their event is new.
const LATELY: &[u8] = b"de";
/// Bytes of such rows that are kept, their keys included.
const LATELY_BYTES_MAX: usize = 16 << 20;
/// Tables that work passes through: while it does not pile up, hardly any of it is in sled.
const PASSAGES: &[u8] = b"quz";

/// What is known of sled without asking it.
#[derive(Default)]
pub struct Below {
    rows: Mutex<HashMap<Vec<u8>, Option<Bytes>>>,
    ranges: Mutex<HashMap<Vec<u8>, Range>>,
    /// Layers written. What was read across one is not kept: it may be of both sides.
    layers: AtomicU64,
    lately: Mutex<Lately>,
    /// For prefixes of ranges: no key comes before this one, in sled or above it.
    heads: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

/// Rows that were written lately.
#[derive(Default)]
struct Lately {
    rows: HashMap<Vec<u8>, Bytes>,
    oldest_first: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// All that sled has under a prefix.
#[derive(Clone)]
pub enum Range {
    Whole(Arc<BTreeMap<Vec<u8>, Bytes>>),
    /// More than is kept: sled has to be asked.
    Long,
}

impl Below {
    /// The value of a key in sled, which `read` finds out if it is not known.
    pub fn row<E>(
        &self,
        key: &[u8],
        read: impl FnOnce() -> Result<Option<Bytes>, E>,
    ) -> Result<Option<Bytes>, E> {
        if is_of(LATELY, key)
            && let Some(known) = self.lately.lock().rows.get(key)
        {
            return Ok(Some(known.clone()));
        }
        if !is_of(ROWS, key) {
            return read();
        }
        if let Some(known) = self.rows.lock().get(key) {
            return Ok(known.clone());
        }
        let found = read()?;
        if found.as_ref().is_none_or(|value| value.len() <= ROW_BYTES_MAX) {
            remember(&mut self.rows.lock(), key, found.clone());
        }
        Ok(found)
    }

    /// What sled has from `from` to `to`, if it is such a range as is kept. `read` shows its pairs, in order,
    /// to find out what is not known.
    pub fn range<E, Read: Iterator<Item = Result<(Vec<u8>, Bytes), E>>>(
        &self,
        from: &[u8],
        to: &[u8],
        read: impl FnOnce() -> Read,
    ) -> Result<Option<Range>, E> {
        if !is_passage(from, to) {
            return Ok(None);
        }
        let layers = {
            let ranges = self.ranges.lock();
            if let Some(known) = ranges.get(from) {
                return Ok(Some(known.clone()));
            }
            self.layers.load(Ordering::Acquire)
        };
        let mut pairs = BTreeMap::new();
        for pair in read().take(RANGE_KEYS_MAX + 1) {
            let (key, value) = pair?;
            pairs.insert(key, value);
        }
        let found = if pairs.len() > RANGE_KEYS_MAX { Range::Long } else { Range::Whole(Arc::new(pairs)) };
        let mut ranges = self.ranges.lock();
        if self.layers.load(Ordering::Acquire) == layers {
            remember(&mut ranges, from, found.clone());
        }
        Ok(Some(found))
    }

    /// The first key there may be from `from` to `to`, if it is known to be a later one than `from`. What has
    /// passed leaves a trace of keys that are gone, until the next layers are written: it need not be walked.
    pub fn head(&self, from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
        if is_passage(from, to) { self.heads.lock().get(from).cloned() } else { None }
    }

    /// This was found to be the first key from `from` to `to`.
    pub fn found_head(&self, from: &[u8], to: &[u8], key: &[u8]) {
        if is_passage(from, to) {
            let mut heads = self.heads.lock();
            if let Some(head) = heads.get_mut(from) {
                head.clear();
                head.extend_from_slice(key);
            } else {
                if heads.len() >= KNOWN_MAX {
                    heads.clear();
                }
                heads.insert(from.to_vec(), key.to_vec());
            }
        }
    }

    /// A key is put, above sled.
    pub fn put(&self, key: &[u8]) {
        if is_of(PASSAGES, key) {
            let mut heads = self.heads.lock();
            for prefix in keys::PREFIXES_SCANNED.iter().filter_map(|bytes| key.get(..*bytes)) {
                if let Some(head) = heads.get_mut(prefix).filter(|head| key < &head[..]) {
                    head.clear();
                    head.extend_from_slice(key);
                }
            }
        }
    }

    /// A layer was written to sled. Until this returns, reads must find its keys above sled.
    pub fn wrote(&self, layer: &Layer) {
        self.layers.fetch_add(1, Ordering::AcqRel);
        let mut rest = layer.iter().peekable();
        while rest.peek().is_some() {
            self.wrote_some(rest.by_ref().take(KEYS_A_TURN));
        }
        for range in self.ranges.lock().values_mut() {
            if matches!(range, Range::Whole(pairs) if pairs.len() > RANGE_KEYS_MAX) {
                *range = Range::Long;
            }
        }
    }

    fn wrote_some<'l>(&self, some: impl Iterator<Item = (&'l Vec<u8>, &'l Known)>) {
        let (mut rows, mut ranges) = (self.rows.lock(), self.ranges.lock());
        let mut lately = self.lately.lock();
        for (key, known) in some {
            if is_of(LATELY, key) {
                lately.write(key, known);
            } else if is_of(ROWS, key) {
                rows.remove(key);
            } else if is_of(PASSAGES, key) {
                for prefix in keys::PREFIXES_SCANNED.iter().filter_map(|bytes| key.get(..*bytes)) {
                    match ranges.get_mut(prefix) {
                        Some(Range::Whole(pairs)) => write_range(Arc::make_mut(pairs), key, known),
                        // It may be shorter by now: to be found out.
                        Some(Range::Long) => drop(ranges.remove(prefix)),
                        None => {}
                    }
                }
            }
        }
    }
}

impl Lately {
    fn write(&mut self, key: &[u8], known: &Known) {
        match known {
            Known::Value { value, .. } => {
                self.bytes += value.len();
                match self.rows.insert(key.to_vec(), value.clone()) {
                    Some(before) => self.bytes -= before.len(),
                    None => {
                        self.bytes += key.len();
                        self.oldest_first.push_back(key.to_vec());
                    }
                }
            }
            // Its place in the order is left to be passed over.
            Known::Gone => self.forget(key),
        }
        while self.bytes > LATELY_BYTES_MAX || self.oldest_first.len() > 2 * self.rows.len() + KNOWN_MAX {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(value) = self.rows.remove(key) {
            self.bytes -= key.len() + value.len();
        }
    }
}

fn write_range(pairs: &mut BTreeMap<Vec<u8>, Bytes>, key: &[u8], known: &Known) {
    match known {
        Known::Value { value, .. } => pairs.insert(key.to_vec(), value.clone()),
        Known::Gone => pairs.remove(key),
    };
}

fn remember<T>(known: &mut HashMap<Vec<u8>, T>, key: &[u8], found: T) {
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(key.to_vec(), found);
}

/// Whether a range is all of a prefix that work passes through.
fn is_passage(from: &[u8], to: &[u8]) -> bool {
    is_of(PASSAGES, from) && keys::PREFIXES_SCANNED.contains(&from.len()) && keys::end_of(from) == to
}

fn is_of(tables: &[u8], key: &[u8]) -> bool {
    key.first().is_some_and(|table| tables.contains(table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = Result<Option<Bytes>, ()>;

    fn asks(below: &Below, key: &[u8], answer: Option<&'static [u8]>) -> (Option<Bytes>, bool) {
        let mut asked = false;
        let found = below.row(key, || -> Read {
            asked = true;
            Ok(answer.map(Bytes::from_static))
        });
        (found.expect("it reads"), asked)
    }

    #[test]
    fn a_row_is_read_once_until_it_is_written() {
        let below = Below::default();
        assert_eq!(asks(&below, b"c1", Some(b"one")), (Some("one".into()), true));
        assert_eq!(asks(&below, b"c1", None), (Some("one".into()), false));
        assert_eq!(asks(&below, b"c2", None), (None, true));
        assert_eq!(asks(&below, b"c2", Some(b"two")), (None, false));
        below.wrote(&Layer::from([(b"c2".to_vec(), Known::Gone)]));
        assert_eq!(asks(&below, b"c1", None), (Some("one".into()), false));
        assert_eq!(asks(&below, b"c2", Some(b"two")), (Some("two".into()), true));
        assert!(asks(&below, b"h1", None).1 && asks(&below, b"h1", None).1, "lists are not kept");
    }

    #[test]
    fn what_was_written_lately_is_known_within_its_bytes() {
        let below = Below::default();
        let write = |key: &[u8], value: Option<Bytes>| {
            let known = value.map_or(Known::Gone, |value| Known::Value { value, fresh: false });
            below.wrote(&Layer::from([(key.to_vec(), known)]));
        };
        write(b"e1", Some("one".into()));
        write(b"e2", Some("two".into()));
        write(b"e1", Some("three".into()));
        assert_eq!(asks(&below, b"e1", None), (Some("three".into()), false));
        write(b"e1", None);
        assert_eq!(asks(&below, b"e1", None), (None, true));
        assert_eq!(asks(&below, b"e2", None), (Some("two".into()), false));
        write(b"d1", Some(vec![0; LATELY_BYTES_MAX].into()));
        assert!(asks(&below, b"e2", None).1, "the oldest goes");
        for n in 0..100_000_u32 {
            let key = [b"e", &n.to_be_bytes()[..]].concat();
            write(&key, Some("x".into()));
            write(&key, None);
        }
        assert!(below.lately.lock().oldest_first.len() <= 2 * KNOWN_MAX, "what is gone leaves no trace");
    }

    #[test]
    fn a_head_is_the_first_key_until_an_earlier_one_is_put() {
        let below = Below::default();
        let (from, to) = (queued(1, 1, 0)[..33].to_vec(), keys::end_of(&queued(1, 1, 0)[..33]));
        assert_eq!(below.head(&from, &to), None);
        below.found_head(&from, &to, &queued(1, 1, 5));
        below.put(&queued(1, 1, 9));
        below.put(&queued(1, 2, 1));
        assert_eq!(below.head(&from, &to), Some(queued(1, 1, 5)));
        below.put(&queued(1, 1, 3));
        assert_eq!(below.head(&from, &to), Some(queued(1, 1, 3)));
        assert_eq!(below.head(&from, &queued(1, 1, 9)), None, "another range");
    }

    fn queued(workspace: u8, connection: u8, n: u16) -> Vec<u8> {
        [&b"q"[..], &[workspace; 16], &[connection; 16], &[0; 6], &n.to_be_bytes(), &[0; 16]].concat()
    }

    proptest! {
        /// Whatever layers are written, and whenever ranges are asked for: what is known is what is there.
        #[test]
        fn known_ranges_are_kept_up(
            steps in prop::collection::vec(
                (prop::collection::btree_map((0_u8..2, 0_u8..2, 0_u16..900), any::<bool>(), 0..400), 0_u8..2, any::<bool>()), 1..12),
        ) {
            let (below, mut sled) = (Below::default(), BTreeMap::<Vec<u8>, Bytes>::new());
            for (changes, asked, whole_workspace) in steps {
                let mut layer = Layer::new();
                for ((workspace, connection, n), put) in changes {
                    let (key, value) = (queued(workspace, connection, n), Bytes::from_static(b"v"));
                    if put {
                        sled.insert(key.clone(), value.clone());
                        layer.insert(key, Known::Value { value, fresh: false });
                    } else {
                        sled.remove(&key);
                        layer.insert(key, Known::Gone);
                    }
                }
                below.wrote(&layer);
                let from = queued(asked, asked, 0)[..if whole_workspace { 17 } else { 33 }].to_vec();
                let to = keys::end_of(&from);
                let there: BTreeMap<_, _> = sled.range(from.clone()..to.clone()).map(|(key, value)| (key.clone(), value.clone())).collect();
                let read = || there.clone().into_iter().map(Ok::<_, ()>);
                match below.range(&from, &to, read).expect("it reads").expect("such ranges are kept") {
                    Range::Whole(known) => prop_assert_eq!(&*known, &there),
                    Range::Long => prop_assert!(there.len() > RANGE_KEYS_MAX),
                }
            }
        }
    }

    #[test]
    fn other_ranges_are_not_kept() {
        let below = Below::default();
        let none = std::iter::empty::<Result<_, ()>>;
        assert!(matches!(below.range(b"e", b"f", none), Ok(None)), "events do not pass through");
        let from = &queued(1, 1, 1)[..33];
        assert!(matches!(below.range(from, b"r", none), Ok(None)), "not all of a prefix");
        assert!(matches!(below.range(from, &keys::end_of(from), none), Ok(Some(Range::Whole(_)))));
    }
}
