//! What sled was found to hold, so that the reads of every event need not ask it again.
//!
//! A read of sled costs microseconds, and an event would make a dozen: the same few rows of
//! configuration, and queues that are empty in sled as long as deliveries keep up. What was found
//! stays true until a layer is taken down, for only that writes to sled.

use crate::store::state::keys;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};

/// Rows, and empty ranges, that are known at most; beyond it all is forgotten and learnt anew.
const KNOWN_MAX: usize = 16_384;
/// A larger row is not kept, in bytes.
const ROW_BYTES_MAX: usize = 4_096;
/// Tables of rows that many events read and few changes write; see [the layout](keys).
const ROWS: &[u8] = b"CPQVcgmpw";
/// Tables that work passes through: most of the time, nothing of them is in sled.
const PASSAGES: &[u8] = b"qu";

/// What is known of sled without asking it.
#[derive(Default)]
pub struct Below {
    rows: Mutex<HashMap<Vec<u8>, Option<Bytes>>>,
    /// Prefixes that no key in sled has.
    empty: Mutex<HashSet<Vec<u8>>>,
}

impl Below {
    /// The value of a key in sled, which `read` finds out if it is not known.
    pub fn row<E>(
        &self,
        key: &[u8],
        read: impl FnOnce() -> Result<Option<Bytes>, E>,
    ) -> Result<Option<Bytes>, E> {
        if !is_of(ROWS, key) {
            return read();
        }
        if let Some(known) = self.rows.lock().get(key) {
            return Ok(known.clone());
        }
        let found = read()?;
        if found.as_ref().is_none_or(|value| value.len() <= ROW_BYTES_MAX) {
            let mut rows = self.rows.lock();
            if rows.len() >= KNOWN_MAX {
                rows.clear();
            }
            rows.insert(key.to_vec(), found.clone());
        }
        Ok(found)
    }

    /// Whether sled is known to have no key from `from` to `to`.
    pub fn is_empty(&self, from: &[u8], to: &[u8]) -> bool {
        is_of(PASSAGES, from) && self.empty.lock().contains(from) && keys::end_of(from) == to
    }

    /// Sled was found to have no key from `from` to `to`.
    pub fn found_empty(&self, from: &[u8], to: &[u8]) {
        let is_forgotten_in_time = keys::PREFIXES_SCANNED.contains(&from.len());
        if is_of(PASSAGES, from) && is_forgotten_in_time && keys::end_of(from) == to {
            let mut empty = self.empty.lock();
            if empty.len() >= KNOWN_MAX {
                empty.clear();
            }
            empty.insert(from.to_vec());
        }
    }

    /// These keys were written to sled. Nobody may read meanwhile.
    pub fn forget<'k>(&self, written: impl Iterator<Item = &'k [u8]>) {
        let (mut rows, mut empty) = (self.rows.lock(), self.empty.lock());
        let mut last: &[u8] = &[];
        for key in written {
            if is_of(ROWS, key) {
                rows.remove(key);
            } else if is_of(PASSAGES, key) {
                // Neighbours share prefixes, and once is enough.
                for prefix in keys::PREFIXES_SCANNED.iter().filter_map(|bytes| key.get(..*bytes)) {
                    if !last.starts_with(prefix) {
                        empty.remove(prefix);
                    }
                }
                last = key;
            }
        }
    }
}

fn is_of(tables: &[u8], key: &[u8]) -> bool {
    key.first().is_some_and(|table| tables.contains(table))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        below.forget([&b"c2"[..]].into_iter());
        assert_eq!(asks(&below, b"c1", None), (Some("one".into()), false));
        assert_eq!(asks(&below, b"c2", Some(b"two")), (Some("two".into()), true));
        assert!(asks(&below, b"e1", None).1 && asks(&below, b"e1", None).1, "events are not kept");
    }

    #[test]
    fn an_empty_range_is_known_until_something_is_written_into_it() {
        let below = Below::default();
        let (workspace, connection) = ([&b"q"[..], &[1; 16]].concat(), [&b"q"[..], &[1; 32]].concat());
        let other = [&b"q"[..], &[2; 16]].concat();
        let knows = |prefix: &[u8]| below.is_empty(prefix, &keys::end_of(prefix));
        for prefix in [&workspace, &connection, &other] {
            assert!(!knows(prefix));
            below.found_empty(prefix, &keys::end_of(prefix));
            assert!(knows(prefix));
        }
        assert!(!below.is_empty(&workspace, &keys::end_of(&other)), "another range");
        let written = [&connection[..], &[0; 24]].concat();
        below.forget([&written[..]].into_iter());
        assert_eq!([&workspace, &connection, &other].map(|prefix| knows(prefix)), [false, false, true]);
        below.found_empty(b"e", b"f");
        assert!(!below.is_empty(b"e", b"f"), "events do not pass through");
    }
}
