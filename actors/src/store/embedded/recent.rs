//! Payloads of events that were just accepted: most are routed and delivered within moments, and
//! need not be read back from the journal for that.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};

/// Bytes of payloads that are kept.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// The newest payloads, by the sequence of their event.
#[derive(Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    payloads: HashMap<u64, Bytes>,
    oldest_first: VecDeque<u64>,
    bytes: usize,
}

impl Recent {
    /// Keeps these, and lets go of the oldest.
    pub fn remember<'p>(&self, accepted: impl Iterator<Item = (u64, &'p Bytes)>) {
        let mut kept = self.0.lock();
        for (sequence, payload) in accepted {
            // A copy: the original may be a small part of a large buffer.
            kept.payloads.insert(sequence, Bytes::copy_from_slice(payload));
            kept.oldest_first.push_back(sequence);
            kept.bytes += payload.len();
        }
        while kept.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = kept.oldest_first.pop_front() else { break };
            kept.bytes -= kept.payloads.remove(&oldest).map_or(0, |payload| payload.len());
        }
    }

    /// The payload of the event with this sequence, if it is kept.
    pub fn get(&self, sequence: u64) -> Option<Bytes> {
        self.0.lock().payloads.get(&sequence).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_within_their_bytes() {
        let recent = Recent::default();
        let (small, large) = (Bytes::from_static(b"{}"), Bytes::from(vec![b' '; KEPT_BYTES_MAX - 2]));
        recent.remember([(1, &small), (2, &small)].into_iter());
        assert_eq!(recent.get(1), Some(small.clone()));
        recent.remember([(3, &large)].into_iter());
        assert_eq!([1, 2, 3, 4].map(|sequence| recent.get(sequence).is_some()), [false, true, true, false]);
    }
}
