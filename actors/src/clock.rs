//! What time it is, handed in: the only file that asks the machine.
//!
//! Two readings. **The line**, [`Clock::now`], is what everything on record is ordered and due by: it
//! never goes back, not even over a restart, and whoever sets the machine's clock does not move it, so
//! that a jump delays and repeats nothing. The price: after a boot with a clock that was ahead, the line
//! stays ahead. **The wall**, [`Clock::wall`], is what the machine says: all that is told to others who
//! judge it by their own clocks, such as the time in a signature, is read from it.

use crate::domain::timestamp::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// See the module's text. Cheap to clone; every clone tells the same time.
#[derive(Clone)]
pub struct Clock {
    line: Reading,
    wall: Reading,
}

type Reading = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Clock {
    fn of(reading: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let wall: Reading = Arc::new(reading);
        Self { line: wall.clone(), wall }
    }

    /// The machine's clock.
    pub fn system() -> Self {
        Self::of(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp(since_epoch.as_millis().try_into().unwrap_or(i64::MAX))
        })
    }

    /// This clock with a line that goes on from here at the pace of the monotonic clock, starting no
    /// earlier than `floor`.
    pub fn steady(&self, floor: Timestamp) -> Self {
        let (start, origin) = (self.wall().max(floor), tokio::time::Instant::now());
        Self { line: Arc::new(move || start.after(origin.elapsed())), wall: self.wall.clone() }
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
        (Self::of(now), lever)
    }

    /// The present on the line.
    pub fn now(&self) -> Timestamp {
        (self.line)()
    }

    /// What the machine says the time is.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOON: Timestamp = Timestamp(1_773_576_000_000);
    const DAY_MS: i64 = 24 * 3_600_000;

    /// I16: the line goes on whatever is done to the machine's clock, and the wall is always that clock.
    #[tokio::test(start_paused = true)]
    async fn the_line_is_steady_and_the_wall_is_what_the_machine_says() {
        let second = Duration::from_secs(1);
        #[rustfmt::skip]
        let cases = [
            // why                                     on record                set by    the line's start
            ("all is well",                            NOON.before(second),     0,        NOON),
            ("an earlier life's clock was ahead",      Timestamp(NOON.0 + DAY_MS), 0,     Timestamp(NOON.0 + DAY_MS)),
            ("it is set forward",                      NOON.before(second),     DAY_MS,   NOON),
            ("it is set back",                         NOON.before(second),     -DAY_MS,  NOON),
        ];
        for (why, latest, set_by, start) in cases {
            let (machine, lever) = Clock::tokio(NOON);
            let clock = machine.steady(latest);
            lever.jump_ms(set_by);
            tokio::time::advance(second).await;
            assert_eq!(clock.now(), start.after(second), "{why}");
            assert_eq!(clock.wall(), Timestamp(NOON.0 + set_by).after(second), "{why}");
        }
    }
}
