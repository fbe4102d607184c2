//! When to try again: a schedule of waits, spread by chance, stretched by what the destination asks.

use super::{delivery::Next, timestamp::Timestamp};
use std::time::Duration;

/// The longest a destination can make us wait.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The longest wait of all.
pub const WAIT_MAX: Duration = Duration::from_secs(8 * 24 * 3_600);

/// The shortest wait before another try, so that `Retry-After: 0` is no busy loop.
pub const WAIT_MIN: Duration = Duration::from_millis(100);

/// The waits before the second, third, … try, and how far chance moves each.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// `waits.len() + 1` tries are made.
    pub waits: Vec<Duration>,
    /// A wait is moved by up to this share of it either way, 0 to 1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// Eight tries over about nine hours.
    fn default() -> Self {
        let waits = [10, 30, 120, 600, 1_800, 7_200, 21_600].map(Duration::from_secs).to_vec();
        Self { waits, jitter: 0.2 }
    }
}

impl RetryPolicy {
    /// What follows a try that may be repeated, when `tries_used` were used up before it.
    ///
    /// A destination that names its wait gets at least that and a little spread, together up to
    /// [`RETRY_AFTER_MAX`], never less than the schedule says; and the try is not counted: being asked to slow
    /// down is not a failure.
    pub fn next(&self, tries_used: u32, retry_after: Option<Duration>, now: Timestamp, chance: f64) -> Next {
        let scheduled = self.waits.get(tries_used as usize).map(|wait| self.spread(*wait, chance));
        match (retry_after, scheduled) {
            (Some(asked), scheduled) => {
                let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0);
                let asked = asked.min(RETRY_AFTER_MAX).mul_f64(spread).min(RETRY_AFTER_MAX);
                let wait = asked.max(scheduled.unwrap_or(WAIT_MIN)).clamp(WAIT_MIN, WAIT_MAX);
                Next::Due { at: now.after(wait), counts: false }
            }
            (None, Some(wait)) => Next::Due { at: now.after(wait), counts: true },
            (None, None) => Next::Failed,
        }
    }

    fn spread(&self, wait: Duration, chance: f64) -> Duration {
        let factor = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
        wait.mul_f64(factor).clamp(WAIT_MIN, WAIT_MAX)
    }
}
