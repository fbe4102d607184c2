//! How fast one destination may be spoken to: a rate, and a breaker for one that is down.

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use std::{num::NonZeroU32, time::Duration};
use tokio::time::Instant;

/// Failures in a row that open the breaker.
pub const BREAKER_FAILURES: u32 = 10;
/// How long the breaker first stays open; it doubles with each failed probe.
const OPEN_FIRST: Duration = Duration::from_secs(1);
/// The longest it stays open.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Tokio's clock for governor, so that paused time pauses limits too.
#[derive(Clone, Debug)]
pub struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// At most so many attempts a second.
pub struct Limiter {
    rate: (f64, u32),
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
}

impl Limiter {
    /// `rate_per_second` above zero. It starts drained to one attempt: a limiter that is made anew, by a restart or
    /// a lowered rate, must not hand out another full burst.
    pub fn new(rate_per_second: f64, burst: u32) -> Self {
        let rate = (rate_per_second, burst);
        let clock = TokioClock(Instant::now());
        let period = Duration::from_secs_f64(1.0 / rate_per_second.clamp(0.001, 1_000_000.0));
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(burst)).allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        if let Some(all_but_one) = NonZeroU32::new(burst.get() - 1) {
            let _ = limiter.check_n(all_but_one);
        }
        Self { rate, limiter, clock }
    }

    /// The rate a second and the burst it was made with.
    pub fn rate(&self) -> (f64, u32) {
        self.rate
    }

    /// Takes one attempt, or says how long to wait for the next.
    pub fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// Stops attempts at a destination that is down, and asks now and then whether it is back.
///
/// Open, it lets nothing through until its time is over; then one probe. A probe that succeeds
/// closes it, and the flow grows again from one attempt at a time, doubling with each success, so
/// that what waited does not fall on a destination that is just back.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    open: Option<Open>,
    /// Attempts in flight while it recovers; `None` once it has.
    ramp: Option<u32>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    span: Duration,
    probing: bool,
}

/// What changed by a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Opened,
    Closed,
}

impl Breaker {
    /// How many attempts may be in flight now, of at most `max`; or when to ask again.
    pub fn allows(&self, max: usize) -> Result<usize, Instant> {
        match (&self.open, self.ramp) {
            (None, None) => Ok(max),
            (None, Some(ramp)) => Ok(max.min(ramp as usize)),
            (Some(open), _) if open.probing => Ok(0),
            (Some(open), _) if Instant::now() >= open.until => Ok(1),
            (Some(open), _) => Err(open.until),
        }
    }

    /// An attempt starts. If the breaker is open, it is the probe.
    pub fn started(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// An attempt that was started came to nothing: no report follows.
    pub fn withdrawn(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// The destination answered, whatever it said. `max` is the flow when all is well.
    pub fn answered(&mut self, max: usize) -> Option<Turn> {
        self.failures = 0;
        self.ramp = self.ramp.map(|ramp| ramp.saturating_mul(2)).filter(|ramp| (*ramp as usize) < max);
        self.open.take()?;
        self.ramp = Some(1);
        Some(Turn::Closed)
    }

    /// The destination is down. `chance` in 0..1 spreads the probes.
    pub fn failed(&mut self, chance: f64) -> Option<Turn> {
        self.failures = self.failures.saturating_add(1);
        let spread = 0.8 + 0.4 * chance.clamp(0.0, 1.0);
        match &mut self.open {
            Some(open) if open.probing => {
                open.span = (open.span * 2).min(OPEN_MAX);
                open.until = Instant::now() + open.span.mul_f64(spread);
                open.probing = false;
                None
            }
            // One that was under way when it opened: that the destination is down is known.
            Some(_) => None,
            None if self.failures >= BREAKER_FAILURES => {
                let until = Instant::now() + OPEN_FIRST.mul_f64(spread);
                self.open = Some(Open { until, span: OPEN_FIRST, probing: false });
                self.ramp = None;
                Some(Turn::Opened)
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limiter_keeps_its_rate_and_starts_without_a_burst() {
        let limiter = Limiter::new(10.0, 5);
        let started = Instant::now();
        let mut taken = 0;
        while started.elapsed() < Duration::from_secs(10) {
            match limiter.take() {
                Ok(()) => taken += 1,
                Err(wait) => tokio::time::advance(wait.max(Duration::from_millis(1))).await,
            }
        }
        assert!((100..=102).contains(&taken), "{taken} in ten seconds at 10/s");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..20).filter(|_| limiter.take().is_ok()).count(), 5, "rested, it allows its burst");
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_opens_probes_and_lets_the_flow_grow_again() {
        let mut breaker = Breaker::default();
        for _ in 1..BREAKER_FAILURES {
            assert_eq!(breaker.failed(0.5), None);
        }
        assert_eq!(breaker.failed(0.5), Some(Turn::Opened));
        let until = breaker.allows(32).expect_err("open");
        for _ in 0..30 {
            assert_eq!(breaker.failed(0.5), None, "those under way say nothing new");
        }
        assert_eq!(breaker.allows(32), Err(until));
        tokio::time::advance(until - Instant::now()).await;
        assert_eq!(breaker.allows(32), Ok(1), "one probe");
        breaker.started();
        assert_eq!(breaker.allows(32), Ok(0), "and no second beside it");
        assert_eq!(breaker.failed(0.5), None, "still open");
        let longer = breaker.allows(32).expect_err("open again");
        assert!(longer - Instant::now() > OPEN_FIRST, "for longer");
        tokio::time::advance(longer - Instant::now()).await;
        breaker.started();
        assert_eq!(breaker.answered(32), Some(Turn::Closed));
        let mut flow = vec![breaker.allows(32).expect("closed")];
        for _ in 0..6 {
            breaker.answered(32);
            flow.push(breaker.allows(32).expect("closed"));
        }
        assert_eq!(flow, [1, 2, 4, 8, 16, 32, 32]);
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            assert_eq!((1..BREAKER_FAILURES).find_map(|_| breaker.failed(0.5)), None);
            assert_eq!(breaker.answered(32), None);
        }
    }
}
