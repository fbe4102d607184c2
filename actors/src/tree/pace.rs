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

/// How fast a connection may be spoken to: attempts a second, above zero, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    pub burst: u32,
}

impl Rate {
    fn period(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.per_second.clamp(0.001, 1_000_000.0))
    }
}

/// At most so many attempts a second.
pub struct Limiter {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
}

impl Limiter {
    /// It starts drained to one attempt: a limiter that is made anew, by a restart or a lowered rate, must
    /// not hand out another full burst.
    pub fn new(rate: Rate) -> Self {
        let clock = TokioClock(Instant::now());
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(rate.period()).unwrap_or_else(|| Quota::per_second(burst));
        let limiter = RateLimiter::direct_with_clock(quota.allow_burst(burst), clock.clone());
        if let Some(all_but_one) = NonZeroU32::new(burst.get() - 1) {
            let _ = limiter.check_n(all_but_one);
        }
        Self { rate, limiter, clock }
    }

    /// What it was made with.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// How long it remembers its last attempt: one made anew sooner would allow one too early.
    pub fn memory(&self) -> Duration {
        self.rate.period()
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
///
/// An attempt speaks of the spell it was started in: those that were in flight when the breaker
/// turned say no more about a destination than is known already.
#[derive(Debug, Default)]
pub struct Breaker {
    spell: Spell,
    failures: u32,
    open: Option<Open>,
    /// Attempts in flight while it recovers; `None` once it has.
    ramp: Option<u32>,
}

/// The time between two turns of a breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spell(u64);

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

    /// Whether it stops attempts.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// An attempt starts: what it comes to is told with the spell it belongs to. If the breaker is
    /// open, it is the probe.
    pub fn started(&mut self) -> Spell {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
        self.spell
    }

    /// An attempt came to nothing that says anything about the destination.
    pub fn withdrawn(&mut self, spell: Spell) {
        if let Some(open) = self.open.as_mut().filter(|_| spell == self.spell) {
            open.probing = false;
        }
    }

    /// The destination answered, whatever it said. `max` is the flow when all is well.
    pub fn answered(&mut self, spell: Spell, max: usize) -> Option<Turn> {
        if spell != self.spell {
            return None;
        }
        self.failures = 0;
        self.ramp = self.ramp.map(|ramp| ramp.saturating_mul(2)).filter(|ramp| (*ramp as usize) < max);
        self.open.take()?;
        self.ramp = Some(1);
        self.turn(Turn::Closed)
    }

    /// The destination is down. `chance` in 0..1 spreads the probes.
    pub fn failed(&mut self, spell: Spell, chance: f64) -> Option<Turn> {
        if spell != self.spell {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let spread = 0.8 + 0.4 * chance.clamp(0.0, 1.0);
        match &mut self.open {
            Some(open) => {
                open.span = (open.span * 2).min(OPEN_MAX);
                open.until = Instant::now() + open.span.mul_f64(spread);
                open.probing = false;
                None
            }
            None if self.failures >= BREAKER_FAILURES => {
                let until = Instant::now() + OPEN_FIRST.mul_f64(spread);
                self.open = Some(Open { until, span: OPEN_FIRST, probing: false });
                self.ramp = None;
                self.turn(Turn::Opened)
            }
            None => None,
        }
    }

    fn turn(&mut self, turn: Turn) -> Option<Turn> {
        self.spell.0 += 1;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limiter_keeps_its_rate_and_starts_without_a_burst() {
        let limiter = Limiter::new(Rate { per_second: 10.0, burst: 5 });
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

    fn open_breaker(attempts: u32) -> (Breaker, Vec<Spell>) {
        let mut breaker = Breaker::default();
        let mut in_flight: Vec<_> = (0..attempts).map(|_| breaker.started()).collect();
        for spell in in_flight.drain(..BREAKER_FAILURES as usize - 1) {
            assert_eq!(breaker.failed(spell, 0.5), None);
        }
        assert_eq!(breaker.failed(in_flight.remove(0), 0.5), Some(Turn::Opened));
        (breaker, in_flight)
    }

    async fn wait_for_probe(breaker: &Breaker) -> Duration {
        let wait = breaker.allows(32).expect_err("open") - Instant::now();
        tokio::time::advance(wait).await;
        assert_eq!(breaker.allows(32), Ok(1), "one probe");
        wait
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_opens_probes_and_lets_the_flow_grow_again() {
        let (mut breaker, _) = open_breaker(BREAKER_FAILURES);
        wait_for_probe(&breaker).await;
        let probe = breaker.started();
        assert_eq!(breaker.allows(32), Ok(0), "and no second beside it");
        assert_eq!(breaker.failed(probe, 0.5), None, "still open");
        assert_eq!(wait_for_probe(&breaker).await, OPEN_FIRST * 2, "for longer");
        let probe = breaker.started();
        assert_eq!(breaker.answered(probe, 32), Some(Turn::Closed));
        let mut flow = vec![breaker.allows(32).expect("closed")];
        for _ in 0..6 {
            let attempt = breaker.started();
            breaker.answered(attempt, 32);
            flow.push(breaker.allows(32).expect("closed"));
        }
        assert_eq!(flow, [1, 2, 4, 8, 16, 32, 32]);
    }

    /// I10: what was in flight when a breaker turned does not move it.
    #[tokio::test(start_paused = true)]
    async fn stragglers_do_not_move_a_breaker() {
        let (mut breaker, mut stragglers) = open_breaker(48);
        for spell in stragglers.drain(..12) {
            assert_eq!(breaker.failed(spell, 0.5), None);
        }
        assert_eq!(wait_for_probe(&breaker).await, OPEN_FIRST, "no longer for those that fail with it");
        let probe = breaker.started();
        for spell in stragglers.drain(..12) {
            breaker.failed(spell, 0.5);
            breaker.withdrawn(spell);
            assert_eq!(breaker.answered(spell, 32), None, "an answer from before it opened is old news");
            assert_eq!(breaker.allows(32), Ok(0), "the probe is still out");
        }
        assert_eq!(breaker.answered(probe, 32), Some(Turn::Closed));
        for spell in stragglers {
            assert_eq!(breaker.failed(spell, 0.5), None, "it is back, whatever those say");
        }
        assert_eq!(breaker.allows(32), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_withdrawn_makes_room_for_another() {
        let (mut breaker, _) = open_breaker(BREAKER_FAILURES);
        wait_for_probe(&breaker).await;
        let probe = breaker.started();
        breaker.withdrawn(probe);
        assert_eq!(breaker.allows(32), Ok(1));
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            let spell = breaker.started();
            assert_eq!((1..BREAKER_FAILURES).find_map(|_| breaker.failed(spell, 0.5)), None);
            assert_eq!(breaker.answered(spell, 32), None);
        }
    }
}
