//! Events of the month, as far as a plan limits them: known without asking the store for each.
//!
//! What the store counted is read once; from there on every event passes here. A place is taken before an event
//! goes in, so that many at once are no more than there is room for, and given back if it does not.

use crate::{
    domain::{
        ids::OrganizationId,
        plan::{Crossing, crossing},
        usage::Day,
    },
    store::StoreError,
};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::OnceCell;

/// Organizations whose plans limit their events, as soon as they send one.
#[derive(Default)]
pub(super) struct Meter(Mutex<HashMap<OrganizationId, Arc<OnceCell<Mutex<Month>>>>>);

/// An organization's events of a calendar month.
#[derive(Clone, Copy, Debug)]
pub(super) struct Month {
    first: Day,
    used: u64,
    on_their_way: u64,
}

/// Places for events on their way in.
pub(super) struct Places {
    meter: Arc<OnceCell<Mutex<Month>>>,
    first: Day,
    count: u64,
}

impl Meter {
    /// Takes places for up to `wanted` events of the month that begins with `first`: all, or as many as there
    /// are before `let_in` events.
    pub async fn take(
        &self,
        organization: OrganizationId,
        first: Day,
        wanted: u64,
        let_in: Option<u64>,
        counted: impl AsyncFnOnce() -> Result<u64, StoreError>,
    ) -> Result<Places, StoreError> {
        let meter = self.0.lock().entry(organization).or_default().clone();
        let load = async || {
            let used = counted().await?;
            Ok::<_, StoreError>(Mutex::new(Month { first, used, on_their_way: 0 }))
        };
        let count = meter.get_or_try_init(load).await?.lock().take(first, wanted, let_in);
        Ok(Places { meter, first, count })
    }
}

impl Places {
    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// So many of the events went in. Tells what of `of` is passed by that, and how many there are now.
    pub fn settle(mut self, accepted: u64, of: u64) -> (Option<Crossing>, u64) {
        let taken = std::mem::take(&mut self.count);
        self.meter.get().map_or((None, 0), |month| month.lock().settle(self.first, taken, accepted, of))
    }
}

/// Nobody will say what became of the events: they did not go in.
impl Drop for Places {
    fn drop(&mut self) {
        if let Some(month) = self.meter.get().filter(|_| self.count > 0) {
            month.lock().settle(self.first, self.count, 0, u64::MAX);
        }
    }
}

impl Month {
    fn take(&mut self, first: Day, wanted: u64, let_in: Option<u64>) -> u64 {
        if first > self.first {
            *self = Self { first, used: 0, on_their_way: 0 };
        }
        if first < self.first {
            return wanted; // the month turned this very moment: those are of the old one
        }
        let left = let_in.map_or(u64::MAX, |all| all.saturating_sub(self.used + self.on_their_way));
        let taken = wanted.min(left);
        self.on_their_way += taken;
        taken
    }

    fn settle(&mut self, first: Day, taken: u64, accepted: u64, of: u64) -> (Option<Crossing>, u64) {
        if first < self.first {
            return (None, self.used);
        }
        let before = self.used;
        self.used += accepted;
        self.on_their_way = self.on_their_way.saturating_sub(taken);
        (crossing(before, self.used, of), self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER: Day = Day(20_758);
    const DECEMBER: Day = Day(20_788);

    #[test]
    fn places_are_taken_before_and_given_back_after() {
        let mut month = Month { first: NOVEMBER, used: 90, on_their_way: 0 };
        let all = Some(100);
        assert_eq!(month.take(NOVEMBER, 7, all), 7);
        assert_eq!(month.take(NOVEMBER, 7, all), 3, "those on their way count, too");
        assert_eq!(month.take(NOVEMBER, 1, all), 0);
        assert_eq!(month.settle(NOVEMBER, 7, 5, 100), (None, 95), "two did not go in");
        assert_eq!(month.take(NOVEMBER, 9, all), 2);
        assert_eq!(month.take(NOVEMBER, 9, None), 9, "where none is refused");
        assert_eq!(month.settle(NOVEMBER, 2, 2, 100), (None, 97));
        assert_eq!(month.settle(NOVEMBER, 3, 3, 100), (Some(Crossing::Reached), 100));
        assert_eq!(month.settle(NOVEMBER, 9, 9, 100), (None, 109), "once");
    }

    #[test]
    fn a_month_begins_with_nothing_and_what_was_of_the_last_one_does_not_count() {
        let mut month = Month { first: NOVEMBER, used: 100, on_their_way: 0 };
        assert_eq!(month.take(NOVEMBER, 1, None), 1);
        assert_eq!(month.take(DECEMBER, 5, Some(100)), 5);
        assert_eq!(month.take(NOVEMBER, 1, Some(100)), 1, "accepted by a clock read just before");
        assert_eq!(month.settle(NOVEMBER, 1, 1, 100), (None, 0));
        assert_eq!(month.settle(DECEMBER, 5, 5, 100), (None, 5));
    }
}
