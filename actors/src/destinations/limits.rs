//! How fast remote accounts may be asked: one budget for each, whoever of us asks.
//!
//! Two connections to one account share its budget, and so do a channel's messages from many rules. What
//! has to wait is told its own place in time, so that a thousand that wait do not all come back at once.
//! Kept in memory alone: after a restart the first refusal tells again.

use super::memory::Memory;
use crate::domain::ids::DeliveryId;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Places promised ahead in one budget; whoever comes then is told to ask again later.
const PROMISES_MAX: usize = 10_000;
/// How long a place is kept for who does not come.
const PROMISE_KEPT: Duration = Duration::from_secs(60);
/// Budgets remembered; beyond that those that nobody uses are forgotten.
const BUDGETS_MAX: usize = 10_000;

/// How fast something may be asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The time from one call to the next.
    pub every: Duration,
    /// Calls that may come at once before that holds, at least 1.
    pub burst: u32,
    /// Calls under way at a time, at least 1.
    pub in_flight: u32,
}

impl Pace {
    /// So many calls in so much time, `in_flight` at once.
    pub const fn of(calls: u32, time: Duration, in_flight: u32) -> Self {
        let calls = if calls == 0 { 1 } else { calls };
        Self { every: Duration::from_nanos(time.as_nanos() as u64 / calls as u64), burst: calls, in_flight }
    }

    /// The same, without a burst: evenly.
    pub const fn even(self) -> Self {
        Self { burst: 1, ..self }
    }
}

/// All budgets of the process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Limits(Arc<Mutex<HashMap<String, Budget>>>, Memory);

struct Budget {
    /// When the next call would be due if there were no burst.
    next: Instant,
    /// Nobody asks before this: the service said so.
    paused_until: Option<Instant>,
    promised: HashMap<DeliveryId, Instant>,
    /// Promises in the order they were made, to forget them by.
    made: VecDeque<(Instant, DeliveryId)>,
    slots: Arc<Semaphore>,
    in_flight: usize,
}

impl Limits {
    /// What deliveries to one account tell each other.
    pub(super) const fn memory(&self) -> &Memory {
        &self.1
    }

    /// Takes one call out of a budget, or tells how long to wait: that place is kept for `who`.
    pub fn take(&self, budget: &str, pace: Pace, who: DeliveryId) -> Result<(), Duration> {
        let now = Instant::now();
        let mut budgets = self.0.lock();
        let budget = found(&mut budgets, budget, pace, now);
        budget.forget(now);
        if let Some(until) = budget.paused_until {
            if until > now {
                return Err(until - now);
            }
            budget.paused_until = None;
        }
        if let Some(place) = budget.promised.get(&who).copied() {
            if place > now {
                return Err(place - now);
            }
            budget.promised.remove(&who);
            return Ok(());
        }
        let due = budget.next.max(now);
        let place = due.checked_sub(pace.every * (pace.burst.max(1) - 1)).map_or(now, |at| at.max(now));
        if place <= now {
            budget.next = due + pace.every;
            return Ok(());
        }
        if budget.promised.len() < PROMISES_MAX {
            budget.next = due + pace.every;
            budget.promised.insert(who, place);
            budget.made.push_back((place, who));
        }
        Err(place - now)
    }

    /// The right to have one call under way. Wait for it no longer than the call may take.
    pub async fn slot(&self, budget: &str, pace: Pace) -> Option<OwnedSemaphorePermit> {
        let slots = {
            let mut budgets = self.0.lock();
            found(&mut budgets, budget, pace, Instant::now()).slots.clone()
        };
        slots.acquire_owned().await.ok()
    }

    /// Nobody asks for so long: the service said so.
    pub fn pause(&self, budget: &str, pace: Pace, wait: Duration) {
        let now = Instant::now();
        let mut budgets = self.0.lock();
        let budget = found(&mut budgets, budget, pace, now);
        budget.paused_until = budget.paused_until.max(Some(now + wait));
    }
}

impl Budget {
    fn forget(&mut self, now: Instant) {
        while let Some((place, who)) = self.made.front().copied()
            && place + PROMISE_KEPT < now
        {
            self.made.pop_front();
            if self.promised.get(&who) == Some(&place) {
                self.promised.remove(&who);
            }
        }
    }

    fn is_unused(&self, now: Instant) -> bool {
        self.next <= now
            && self.promised.is_empty()
            && self.paused_until.is_none_or(|until| until <= now)
            && self.slots.available_permits() == self.in_flight
    }
}

fn found<'b>(
    budgets: &'b mut HashMap<String, Budget>,
    name: &str,
    pace: Pace,
    now: Instant,
) -> &'b mut Budget {
    if !budgets.contains_key(name) {
        if budgets.len() >= BUDGETS_MAX {
            budgets.retain(|_, budget| !budget.is_unused(now));
        }
        let in_flight = pace.in_flight.max(1) as usize;
        let budget = Budget {
            next: now,
            paused_until: None,
            promised: HashMap::new(),
            made: VecDeque::new(),
            slots: Arc::new(Semaphore::new(in_flight)),
            in_flight,
        };
        budgets.insert(name.to_owned(), budget);
    }
    budgets.get_mut(name).expect("it was put in just now")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE_IN_FIVE: Pace = Pace::of(5, Duration::from_secs(5), 1);

    fn id(number: u8) -> DeliveryId {
        DeliveryId::from_bytes([number; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_has_a_place_of_its_own() {
        let limits = Limits::default();
        let take = |who| limits.take("a", FIVE_IN_FIVE, id(who)).map_err(|wait| wait.as_secs());
        for who in 0..5 {
            assert_eq!(take(who), Ok(()), "a burst");
        }
        assert_eq!([take(5), take(6), take(5), take(6)], [Err(1), Err(2), Err(1), Err(2)], "asked twice");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!([take(7), take(6), take(5)], [Err(2), Err(1), Ok(())], "others have not its place");
        assert_eq!(limits.take("b", FIVE_IN_FIVE, id(9)), Ok(()), "another budget");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_for_all_and_ends() {
        let limits = Limits::default();
        limits.pause("a", FIVE_IN_FIVE, Duration::from_secs(30));
        limits.pause("a", FIVE_IN_FIVE, Duration::from_secs(3));
        assert_eq!(limits.take("a", FIVE_IN_FIVE, id(1)), Err(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(limits.take("a", FIVE_IN_FIVE, id(1)), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn places_nobody_comes_for_are_forgotten() {
        let limits = Limits::default();
        let even = FIVE_IN_FIVE.even();
        for who in 0..4 {
            let _ = limits.take("a", even, id(who));
        }
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(limits.take("a", even, id(9)), Ok(()));
        assert!(limits.0.lock()["a"].promised.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_under_way() {
        let limits = Limits::default();
        let held = limits.slot("a", FIVE_IN_FIVE).await;
        let second = tokio::time::timeout(Duration::from_secs(9), limits.slot("a", FIVE_IN_FIVE));
        assert!(held.is_some() && second.await.is_err());
        drop(held);
        assert!(limits.slot("a", FIVE_IN_FIVE).await.is_some());
    }
}
