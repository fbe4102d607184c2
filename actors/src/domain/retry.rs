//! When to try again: a schedule of waits, spread by chance, stretched by what the destination asks.

use super::{delivery::Next, timestamp::Timestamp};
use std::time::Duration;

/// The longest a destination can make us wait.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The longest wait of all.
pub const WAIT_MAX: Duration = Duration::from_secs(8 * 24 * 3_600);

/// The shortest wait before another try, so that `Retry-After: 0` is no busy loop.
pub const WAIT_MIN: Duration = Duration::from_millis(100);

/// Refused credentials in a row before a connection is taken to have lost them.
pub const AUTH_FAILURES_MAX: u32 = 3;

/// The wait before a try beyond the schedule, made to find out whether credentials are lost.
pub const CONFIRM_WAIT: Duration = Duration::from_secs(10);

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
    /// A destination that names its wait gets at least that, up to [`RETRY_AFTER_MAX`] and a little
    /// spread, never less than the schedule says; and the try is not counted: being asked to slow
    /// down is not a failure.
    pub fn next(&self, tries_used: u32, retry_after: Option<Duration>, now: Timestamp, chance: f64) -> Next {
        let scheduled = self.waits.get(tries_used as usize).map(|wait| self.spread(*wait, chance));
        match (retry_after, scheduled) {
            (Some(asked), scheduled) => {
                let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0);
                let asked = asked.min(RETRY_AFTER_MAX).mul_f64(spread);
                let wait = asked.max(scheduled.unwrap_or(WAIT_MIN)).clamp(WAIT_MIN, WAIT_MAX);
                Next::Due { at: now.after(wait), counts: false }
            }
            (None, Some(wait)) => Next::Due { at: now.after(wait), counts: true },
            (None, None) => Next::Failed,
        }
    }

    /// The same after a try whose credentials were refused. Beyond the schedule it is made a few times more: until
    /// the connection knows that its credentials are lost, and the delivery is parked with it and not failed.
    pub fn next_unauthorized(
        &self,
        tries_used: u32,
        retry_after: Option<Duration>,
        now: Timestamp,
        chance: f64,
    ) -> Next {
        match self.next(tries_used, retry_after, now, chance) {
            Next::Failed if (tries_used as usize) < self.waits.len() + AUTH_FAILURES_MAX as usize => {
                Next::Due { at: now.after(self.spread(CONFIRM_WAIT, chance)), counts: true }
            }
            next => next,
        }
    }

    fn spread(&self, wait: Duration, chance: f64) -> Duration {
        let factor = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
        wait.mul_f64(factor).clamp(WAIT_MIN, WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_773_576_000_000);

    fn policy() -> impl Strategy<Value = RetryPolicy> {
        let wait = (0_u64..=WAIT_MAX.as_millis() as u64).prop_map(Duration::from_millis);
        (proptest::collection::vec(wait, 0..12), 0.0..=1.0)
            .prop_map(|(waits, jitter)| RetryPolicy { waits, jitter })
    }

    fn asked() -> impl Strategy<Value = Option<Duration>> {
        proptest::option::of((0_u64..30 * 24 * 3_600_000).prop_map(Duration::from_millis))
    }

    fn wait(next: Next) -> Option<(Duration, bool)> {
        match next {
            Next::Due { at, counts } => Some((at.since(NOW), counts)),
            Next::Completed | Next::Failed => None,
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_the_schedules_moved_by_chance(policy in policy(), tries in 0_u32..14, chance in 0.0..1.0) {
            let next = policy.next(tries, None, NOW, chance);
            let Some(scheduled) = policy.waits.get(tries as usize) else {
                prop_assert_eq!(next, Next::Failed);
                return Ok(());
            };
            let (wait, counts) = wait(next).expect("it is tried again");
            prop_assert!(counts);
            let bound = |factor: f64| scheduled.mul_f64(factor).clamp(WAIT_MIN, WAIT_MAX);
            let millisecond = Duration::from_millis(1);
            prop_assert!(wait + millisecond >= bound(1.0 - policy.jitter) && wait <= bound(1.0 + policy.jitter));
        }

        #[test]
        fn a_wait_that_is_asked_for_is_kept_and_uses_up_nothing(
            policy in policy(), tries in 0_u32..14, chance in 0.0..1.0, asked in 0_u64..30 * 24 * 3_600_000,
        ) {
            let asked = Duration::from_millis(asked);
            let (waits, counts) = wait(policy.next(tries, Some(asked), NOW, chance)).expect("it is tried again");
            prop_assert!(!counts);
            prop_assert!(waits >= asked.min(RETRY_AFTER_MAX), "{waits:?} for {asked:?}");
            if let Some((scheduled, _)) = wait(policy.next(tries, None, NOW, chance)) {
                prop_assert!(waits >= scheduled, "never sooner than the schedule says");
                prop_assert!(waits <= scheduled.max(RETRY_AFTER_MAX * 2));
            }
        }

        #[test]
        fn more_chance_and_more_asking_never_mean_less_waiting(
            policy in policy(), tries in 0_u32..14, chances in [0.0..1.0_f64, 0.0..1.0], asked in [asked(), asked()],
        ) {
            let (less, more) = (chances[0].min(chances[1]), chances[0].max(chances[1]));
            let at = |asked, chance| wait(policy.next(tries, asked, NOW, chance)).map(|(wait, _)| wait);
            prop_assert!(at(asked[0], less) <= at(asked[0], more));
            if let [Some(one), Some(other)] = asked {
                prop_assert!(at(Some(one.min(other)), less) <= at(Some(one.max(other)), less));
            }
        }

        #[test]
        fn every_wait_is_within_bounds_and_no_input_panics(
            mut policy in policy(), jitter: f64, tries: u32, asked in asked(), now: i64, chance: f64,
        ) {
            policy.jitter = if jitter.is_nan() { 0.0 } else { jitter };
            let chance = if chance.is_nan() { 0.0 } else { chance };
            let now = Timestamp(now.min(i64::MAX - 2 * WAIT_MAX.as_millis() as i64));
            for next in [
                policy.next(tries, asked, now, chance),
                policy.next_unauthorized(tries, asked, now, chance),
            ] {
                if let Next::Due { at, .. } = next {
                    let wait = Duration::from_millis((at.0 - now.0).unsigned_abs());
                    prop_assert!((WAIT_MIN..=WAIT_MAX).contains(&wait), "{wait:?}");
                }
            }
        }

        #[test]
        fn failing_ends_after_as_many_tries_as_the_schedule_has(policy in policy(), chance in 0.0..1.0) {
            let tries = |next: &dyn Fn(u32) -> Next| {
                (0..100).find(|used| next(*used) == Next::Failed).map(|used| used as usize + 1)
            };
            let failing = tries(&|used| policy.next(used, None, NOW, chance));
            prop_assert_eq!(failing, Some(policy.waits.len() + 1));
            let unauthorized = tries(&|used| policy.next_unauthorized(used, None, NOW, chance));
            prop_assert_eq!(unauthorized, Some(policy.waits.len() + 1 + AUTH_FAILURES_MAX as usize));
        }
    }

    #[test]
    fn the_usual_schedule_takes_eight_tries_and_about_nine_hours() {
        let policy = RetryPolicy::default();
        let whole: Duration = policy.waits.iter().sum();
        assert_eq!(policy.waits.len() + 1, 8);
        assert!((8 * 3_600..10 * 3_600).contains(&whole.as_secs()), "{whole:?}");
    }
}
