//! What a connection's actor has in flight, where its parent can see it when the actor is gone.
//!
//! An actor that falls takes its attempts with it, and any of them may be to blame. Those that were
//! in hand at one fall after the other are suspected: the next life tries them first and one by one,
//! so that the guilty one is alone when it strikes again, and is set aside. One that comes back well
//! is suspected no more.

use crate::{domain::ids::DeliveryId, store::DueEntry};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

/// Falls of an actor running with the same delivery in hand, before that one is set aside.
pub const POISON_FALLS: u32 = 3;

/// See the module's text. Clones are the same hand.
#[derive(Clone, Debug, Default)]
pub struct Hand(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    in_flight: HashMap<DeliveryId, DueEntry>,
    /// What was in hand at the last fall, and at how many running.
    fallen: HashMap<DeliveryId, (DueEntry, u32)>,
}

impl Inner {
    fn suspects(&self) -> impl Iterator<Item = DueEntry> {
        self.fallen.values().filter(|(_, falls)| falls + 1 >= POISON_FALLS).map(|(entry, _)| *entry)
    }
}

impl Hand {
    /// An attempt at this one starts. Returns how many were in flight before.
    pub fn take(&self, entry: DueEntry) -> usize {
        let mut inner = self.0.lock();
        inner.in_flight.insert(entry.delivery_id, entry);
        inner.in_flight.len() - 1
    }

    /// The attempt came back, and whatever follows from that is done.
    pub fn landed(&self, id: DeliveryId) {
        let mut inner = self.0.lock();
        inner.in_flight.remove(&id);
        inner.fallen.remove(&id);
    }

    /// How many attempts are in flight, and whether some must be tried alone.
    pub fn count(&self) -> (usize, bool) {
        let inner = self.0.lock();
        (inner.in_flight.len(), inner.suspects().next().is_some())
    }

    /// Those that are not in flight.
    pub fn without(&self, entries: Vec<DueEntry>) -> impl Iterator<Item = DueEntry> {
        let inner = self.0.lock();
        entries.into_iter().filter(move |entry| !inner.in_flight.contains_key(&entry.delivery_id))
    }

    /// Lets go of all: nothing in it is to blame for what happens next.
    pub fn clear(&self) {
        self.0.lock().in_flight.clear();
    }

    /// A new life begins, with nothing in flight. These are to be tried alone, the earliest first.
    pub fn empty(&self) -> Vec<DueEntry> {
        let mut inner = self.0.lock();
        inner.in_flight.clear();
        let mut suspects: Vec<_> = inner.suspects().collect();
        suspects.sort_unstable();
        suspects
    }

    /// The actor fell. Returns what was in hand too often, and must be set aside.
    pub fn fell(&self) -> Vec<DueEntry> {
        let mut inner = self.0.lock();
        let (mut fallen, mut poisoned) = (HashMap::new(), Vec::new());
        for (id, entry) in std::mem::take(&mut inner.in_flight) {
            let falls = inner.fallen.get(&id).map_or(1, |(_, falls)| falls + 1);
            if falls >= POISON_FALLS {
                poisoned.push(entry);
            } else {
                fallen.insert(id, (entry, falls));
            }
        }
        inner.fallen = fallen;
        poisoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{EventId, RuleId},
        timestamp::Timestamp,
    };
    use uuid::Uuid;

    fn entry(number: u8) -> DueEntry {
        let event_id = EventId::from_uuid(Uuid::from_bytes([number; 16]));
        let delivery_id = DeliveryId::of(event_id, RuleId::from_uuid(Uuid::nil()));
        DueEntry { due: Timestamp(number.into()), delivery_id, event_id }
    }

    /// One life that takes all of these and falls.
    fn life(hand: &Hand, entries: &[DueEntry]) -> Vec<DueEntry> {
        hand.empty();
        for entry in entries {
            hand.take(*entry);
        }
        hand.fell()
    }

    /// I17: of those in hand at two falls the guilty one is found, and nobody else pays for it.
    #[test]
    fn suspects_are_tried_alone_until_each_has_come_back() {
        let (hand, all) = (Hand::default(), [1, 2, 3, 4].map(entry));
        assert_eq!(life(&hand, &all), []);
        assert_eq!(life(&hand, &all[..3]), []);
        assert_eq!(hand.empty(), all[..3], "one that was not in hand again is cleared");
        hand.take(all[0]);
        assert_eq!(hand.count(), (1, true));
        hand.landed(all[0].delivery_id);
        hand.take(all[1]);
        assert_eq!(hand.fell(), [all[1]], "it was alone");
        assert_eq!(hand.empty(), [], "and the one that was not even tried is none");
        assert_eq!(hand.count(), (0, false));
    }

    #[test]
    fn once_all_have_come_back_nothing_is_slowed() {
        let (hand, all) = (Hand::default(), [1, 2].map(entry));
        life(&hand, &all);
        life(&hand, &all);
        for suspect in hand.empty() {
            assert!(hand.count().1);
            hand.take(suspect);
            hand.landed(suspect.delivery_id);
        }
        assert_eq!(hand.count(), (0, false));
        assert_eq!(life(&hand, &all), [], "later falls count anew");
    }

    #[test]
    fn a_fall_that_is_nobodys_fault_blames_nobody() {
        let (hand, all) = (Hand::default(), [1, 2].map(entry));
        for _ in 0..POISON_FALLS * 2 {
            hand.empty();
            for entry in &all {
                hand.take(*entry);
            }
            hand.clear();
            assert_eq!(hand.fell(), []);
        }
    }
}
