//! When to try again: a schedule of waits, spread by chance, stretched by what the destination asks.

use super::{delivery::Next, timestamp::Timestamp};
use std::time::Duration;

/// The longest a destination can make us wait.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The longest wait of all.
pub const WAIT_MAX: Duration = Duration::from_secs(8 * 24 * 3_600);

/// The shortest wait before another try, so that `Retry-After: 0` is no busy loop.
pub const WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest wait before another try with credentials that may be lost.
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
    /// What follows a try that may be repeated, when `tries_used` were used up before it; `counts`: it
    /// uses one up, too, and without any left it was the last.
    ///
    /// A destination that names its wait gets at least that and a little spread, together up to
    /// [`RETRY_AFTER_MAX`], never less than the schedule says.
    pub fn next(
        &self,
        tries_used: u32,
        counts: bool,
        retry_after: Option<Duration>,
        now: Timestamp,
        chance: f64,
    ) -> Next {
        let scheduled = self.waits.get(tries_used as usize).map(|wait| self.spread(*wait, chance));
        if counts && scheduled.is_none() {
            return Next::Failed;
        }
        let asked = retry_after.map(|asked| {
            let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0);
            asked.min(RETRY_AFTER_MAX).mul_f64(spread).min(RETRY_AFTER_MAX)
        });
        let wait = asked.max(scheduled).unwrap_or(WAIT_MIN).clamp(WAIT_MIN, WAIT_MAX);
        Next::Due { at: now.after(wait), counts }
    }

    /// What follows a try that says nothing of its delivery yet: another one soon, and none is used up.
    pub fn confirm(&self, now: Timestamp, chance: f64) -> Next {
        let wait = self.waits.first().map_or(CONFIRM_WAIT, |first| (*first).min(CONFIRM_WAIT));
        Next::Due { at: now.after(self.spread(wait, chance)), counts: false }
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

    #[test]
    fn a_wait_is_the_longer_of_what_is_scheduled_and_what_is_asked_for() {
        let policy = RetryPolicy { waits: vec![Duration::from_secs(10); 2], jitter: 0.0 };
        let due = |s: i64, counts| Next::Due { at: Timestamp(s * 1_000), counts };
        #[rustfmt::skip]
        let cases = [
            // why                                            used  counts  asked for     expected
            ("the schedule's wait",                           1,    true,   None,         due(10, true)),
            ("the schedule is used up",                       2,    true,   None,         Next::Failed),
            ("also when a wait is asked for",                 2,    true,   Some(5),      Next::Failed),
            ("a wait that is asked for",                      0,    false,  Some(30),     due(30, false)),
            ("never less than the schedule's",                0,    false,  Some(5),      due(10, false)),
            ("beyond the schedule it goes on, uncounted",     2,    false,  Some(5),      due(5, false)),
            ("nobody makes us wait for a week",               2,    false,  Some(604_800), due(86_400, false)),
        ];
        for (why, used, counts, asked_s, expected) in cases {
            let asked = asked_s.map(Duration::from_secs);
            assert_eq!(policy.next(used, counts, asked, Timestamp(0), 0.5), expected, "{why}");
        }
    }

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
            let next = policy.next(tries, true, None, NOW, chance);
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
            let (waits, counts) = wait(policy.next(tries, false, Some(asked), NOW, chance)).expect("it is tried again");
            prop_assert!(!counts);
            prop_assert!(waits >= asked.min(RETRY_AFTER_MAX), "{waits:?} for {asked:?}");
            if let Some((scheduled, _)) = wait(policy.next(tries, true, None, NOW, chance)) {
                prop_assert!(waits >= scheduled, "never sooner than the schedule says");
                prop_assert!(waits <= scheduled.max(RETRY_AFTER_MAX));
            }
        }

        #[test]
        fn more_chance_and_more_asking_never_mean_less_waiting(
            policy in policy(), tries in 0_u32..14, chances in [0.0..1.0_f64, 0.0..1.0], asked in [asked(), asked()],
        ) {
            let (less, more) = (chances[0].min(chances[1]), chances[0].max(chances[1]));
            let at = |asked: Option<Duration>, chance| wait(policy.next(tries, asked.is_none(), asked, NOW, chance)).map(|(wait, _)| wait);
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
                policy.next(tries, false, asked, now, chance),
                policy.next(tries, true, asked, now, chance),
                policy.confirm(now, chance),
            ] {
                if let Next::Due { at, .. } = next {
                    let wait = Duration::from_millis((at.0 - now.0).unsigned_abs());
                    prop_assert!((WAIT_MIN..=WAIT_MAX).contains(&wait), "{wait:?}");
                }
            }
        }

        #[test]
        fn failing_ends_after_as_many_tries_as_the_schedule_has(policy in policy(), chance in 0.0..1.0) {
            let tries = (0..100).find(|used| policy.next(*used, true, None, NOW, chance) == Next::Failed);
            prop_assert_eq!(tries.map(|used| used as usize), Some(policy.waits.len()));
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
