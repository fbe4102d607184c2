//! What deliveries to one account tell each other: what one found out, and who has whom in hand.
//!
//! A service that finds a person by searching makes two of them where two deliveries search at once, or where
//! the search lags behind. So they take turns, and remember for a while. Kept in memory alone: forgetting costs
//! calls and nothing else.

use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    time::Instant,
};

/// Things remembered, and turns kept; beyond that what is over goes first.
const KEPT_MAX: usize = 10_000;

/// All that is remembered in the process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    facts: HashMap<String, (Value, Instant)>,
    turns: HashMap<String, Arc<Turn<()>>>,
}

impl Memory {
    pub fn recall(&self, key: &str) -> Option<Value> {
        let kept = self.0.lock();
        kept.facts.get(key).filter(|(_, until)| *until > Instant::now()).map(|(fact, _)| fact.clone())
    }

    pub fn remember(&self, key: &str, fact: Value, time: Duration) {
        let (mut kept, now) = (self.0.lock(), Instant::now());
        if kept.facts.len() >= KEPT_MAX {
            kept.facts.retain(|_, (_, until)| *until > now);
        }
        if kept.facts.len() >= KEPT_MAX {
            kept.facts.clear();
        }
        kept.facts.insert(key.to_owned(), (fact, now + time));
    }

    pub fn forget(&self, key: &str) {
        self.0.lock().facts.remove(key);
    }

    /// Alone with this until the guard is dropped.
    pub async fn alone(&self, key: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut kept = self.0.lock();
            if kept.turns.len() >= KEPT_MAX {
                kept.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            kept.turns.entry(key.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_forgotten_in_time() {
        let (memory, minute) = (Memory::default(), Duration::from_secs(60));
        memory.remember("a", 1.into(), minute);
        assert_eq!(memory.recall("a"), Some(1.into()));
        assert_eq!(memory.recall("b"), None);
        tokio::time::advance(minute).await;
        assert_eq!(memory.recall("a"), None, "its time is over");
        memory.remember("a", 2.into(), minute);
        memory.forget("a");
        assert_eq!(memory.recall("a"), None);
        for n in 0..=KEPT_MAX {
            memory.remember(&n.to_string(), n.into(), minute);
        }
        assert!(memory.0.lock().facts.len() <= KEPT_MAX);
        assert_eq!(memory.recall(&KEPT_MAX.to_string()), Some(KEPT_MAX.into()), "the newest is there");
    }

    #[tokio::test]
    async fn who_comes_second_waits() {
        let memory = Memory::default();
        let first = memory.alone("ada").await;
        let _other = memory.alone("grace").await;
        let mut second = std::pin::pin!(memory.alone("ada"));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        second.await;
        for n in 0..=KEPT_MAX {
            drop(memory.alone(&n.to_string()).await);
        }
        assert!(memory.0.lock().turns.len() <= KEPT_MAX);
    }
}
