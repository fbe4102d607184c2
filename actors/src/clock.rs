//! What time it is, handed in: the only file that asks the machine.
//!
//! Wall-clock time is for people and for what must survive a restart (when a
//! delivery is due). Spans inside a process use tokio's monotonic clock, so a
//! wall clock that jumps delays and repeats nothing.

use crate::domain::timestamp::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// The wall clock. Cheap to clone; every clone tells the same time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp(since_epoch.as_millis().try_into().unwrap_or(i64::MAX))
        }))
    }

    /// This clock from here on at the pace of the monotonic clock, starting no earlier than `floor`:
    /// one that is not moved when the machine's is set.
    pub fn steady(&self, floor: Timestamp) -> Self {
        let (start, origin) = (self.now().max(floor), tokio::time::Instant::now());
        Self(Arc::new(move || start.after(origin.elapsed())))
    }

    /// A clock that starts at `start` and moves with tokio's clock: under paused
    /// time it moves when tokio does. The returned lever sets it forward or back.
    pub fn tokio(start: Timestamp) -> (Self, ClockLever) {
        let lever = ClockLever(Arc::new(AtomicI64::new(0)));
        let (jumped, origin) = (lever.0.clone(), tokio::time::Instant::now());
        let now = move || {
            let elapsed_ms = i64::try_from(origin.elapsed().as_millis()).unwrap_or(i64::MAX);
            Timestamp(start.0 + elapsed_ms + jumped.load(Ordering::Relaxed))
        };
        (Self(Arc::new(now)), lever)
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// Sets a [`Clock::tokio`] forward or back, as an operator or a time server may.
pub struct ClockLever(Arc<AtomicI64>);

impl ClockLever {
    /// Moves the clock by `ms` milliseconds; negative is back.
    pub fn jump_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}
