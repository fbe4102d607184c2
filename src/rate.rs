//! How often one may ask: a bucket per key, bounded in number.

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::{NoOpMiddleware, StateInformationMiddleware},
    state::keyed::DefaultKeyedStateStore,
};
use parking_lot::Mutex;
use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

type Buckets<Owner> =
    RateLimiter<Owner, DefaultKeyedStateStore<Owner>, DefaultClock, StateInformationMiddleware>;

/// What each tenant may still do, such as the events of a workspace. Grows with those who did it lately.
pub struct Rate<Owner: Clone + Eq + Hash> {
    buckets: Buckets<Owner>,
    per_second: u32,
    burst: NonZeroU32,
}

/// Where a tenant stands, as the `RateLimit-*` headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// At once.
    pub limit: u32,
    pub remaining: u32,
    /// Seconds until all of them are there again.
    pub reset_seconds: u32,
    /// Seconds until this request would pass; `None` if it passed.
    pub retry_after_seconds: Option<u32>,
}

impl<Owner: Clone + Eq + Hash> Rate<Owner> {
    /// `per_second`, `burst` of them at once; neither may be zero.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let burst = at_least_one(burst);
        let quota = Quota::per_second(at_least_one(per_second)).allow_burst(burst);
        let buckets = RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>();
        Self { buckets, per_second, burst }
    }

    /// Takes `count` from the owner's bucket, all or none.
    pub fn take(&self, owner: &Owner, count: u32) -> Standing {
        let (remaining, retry_after_seconds) = match self.buckets.check_key_n(owner, at_least_one(count)) {
            Ok(Ok(standing)) => (standing.remaining_burst_capacity(), None),
            Ok(Err(not_until)) => {
                (0, Some(whole_seconds(not_until.wait_time_from(DefaultClock::default().now()))))
            }
            // More than fits the bucket: it would never pass, so the wait is the longest there is.
            Err(_) => (0, Some(self.refill_seconds(self.burst.get()))),
        };
        let reset_seconds = self.refill_seconds(self.burst.get() - remaining.min(self.burst.get()));
        Standing { limit: self.burst.get(), remaining, reset_seconds, retry_after_seconds }
    }

    /// Forgets owners whose buckets are full again.
    pub fn tidy(&self) {
        self.buckets.retain_recent();
        self.buckets.shrink_to_fit();
    }

    fn refill_seconds(&self, count: u32) -> u32 {
        count.div_ceil(self.per_second.max(1))
    }
}

/// Source addresses that are counted apart. Beyond it newcomers share one count.
const SOURCES_MAX: usize = 100_000;

/// How often each source address was wrong about who it is.
pub struct AuthFailures(DefaultKeyedRateLimiter<IpAddr>);

impl AuthFailures {
    /// `per_minute` failures, `burst` of them at once; neither may be zero.
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let quota = Quota::per_minute(at_least_one(per_minute)).allow_burst(at_least_one(burst));
        Self(RateLimiter::dashmap(quota))
    }

    /// Counts a failure. `Err` is the seconds to wait, when there were too many.
    pub fn count(&self, source: IpAddr) -> Result<(), u32> {
        let mut source = network(source);
        if self.0.len() >= SOURCES_MAX {
            self.0.retain_recent();
            if self.0.len() >= SOURCES_MAX {
                source = Ipv6Addr::UNSPECIFIED.into();
            }
        }
        let counted = self.0.check_key(&source);
        counted.map_err(|not_until| whole_seconds(not_until.wait_time_from(DefaultClock::default().now())))
    }

    /// Forgets addresses that have been quiet.
    pub fn tidy(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

/// Counts that accounts are spread over: few share one, and nobody can choose with whom.
const COUNTS: u64 = 1 << 17;
/// Places where owners are known to be. Beyond it the oldest are forgotten.
const HOMES_MAX: usize = 100_000;

/// How often each account is tried from where nobody has signed in to it.
///
/// Many addresses can guess at one account, and each is within its own rate. So what all strangers together try
/// at an account is bounded, too. From where its owner has signed in lately nothing of that is counted: strangers
/// cannot keep them out. An account is whatever e-mail address was tried, so it is not told whether there is one.
pub struct AccountTries<C: Clock = DefaultClock> {
    strangers: RateLimiter<u64, DefaultKeyedStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    homes: Mutex<Homes>,
    /// Makes a key of fixed size of what anybody may send, and not one that they can foresee.
    hasher: RandomState,
}

#[derive(Default)]
struct Homes {
    known: HashSet<(u64, IpAddr)>,
    /// Oldest first.
    order: VecDeque<(u64, IpAddr)>,
}

impl AccountTries {
    /// `per_hour` tries of strangers, `burst` of them at once; neither may be zero.
    pub fn new(per_hour: u32, burst: u32) -> Self {
        Self::by(DefaultClock::default(), per_hour, burst)
    }
}

impl<C: Clock + Clone> AccountTries<C> {
    fn by(clock: C, per_hour: u32, burst: u32) -> Self {
        let quota = Quota::per_hour(at_least_one(per_hour)).allow_burst(at_least_one(burst));
        let strangers = RateLimiter::dashmap_with_clock(quota, clock.clone());
        Self { strangers, clock, homes: Mutex::default(), hasher: RandomState::new() }
    }

    /// Counts a try. `Err` is the seconds to wait, when strangers made too many.
    pub fn count(&self, email: &str, source: IpAddr) -> Result<(), u32> {
        let account = self.account(email);
        if self.homes.lock().known.contains(&(account, network(source))) {
            return Ok(());
        }
        let tried = self.strangers.check_key(&(account % COUNTS));
        tried.map_err(|not_until| whole_seconds(not_until.wait_time_from(self.clock.now())))
    }

    /// The account's owner was there.
    pub fn signed_in(&self, email: &str, source: IpAddr) {
        let home = (self.account(email), network(source));
        let mut homes = self.homes.lock();
        if homes.known.insert(home) {
            homes.order.push_back(home);
        }
        if homes.order.len() > HOMES_MAX
            && let Some(oldest) = homes.order.pop_front()
        {
            homes.known.remove(&oldest);
        }
    }

    /// Forgets accounts that have been left alone.
    pub fn tidy(&self) {
        self.strangers.retain_recent();
        self.strangers.shrink_to_fit();
    }

    fn account(&self, email: &str) -> u64 {
        self.hasher.hash_one(email.to_ascii_lowercase())
    }
}

/// Who holds one IPv6 address holds its /64: they count as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    #[test]
    fn an_owner_is_told_where_it_stands_and_others_are_not_touched() {
        let (rate, one, other) = (Rate::new(1, 5), "one", "other");
        let standing = |remaining, reset_seconds, retry_after_seconds| Standing {
            limit: 5,
            remaining,
            reset_seconds,
            retry_after_seconds,
        };
        assert_eq!(rate.take(&one, 1), standing(4, 1, None));
        assert_eq!(rate.take(&one, 4), standing(0, 5, None));
        assert_eq!(rate.take(&one, 1), standing(0, 5, Some(1)));
        assert_eq!(rate.take(&other, 5), standing(0, 5, None));
        assert_eq!(rate.take(&other, 6), standing(0, 5, Some(5)), "more than ever fits");
    }

    #[test]
    fn strangers_share_an_accounts_tries_and_do_not_keep_its_owner_out() {
        let clock = FakeRelativeClock::default();
        let tries = AccountTries::by(clock.clone(), 60, 3);
        let [home, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().expect("an address"));
        let stranger = |n: u8| IpAddr::from([198, 51, 100, n]);
        tries.signed_in("ada@example.com", home);
        for n in 0..3 {
            assert_eq!(tries.count("Ada@example.com", stranger(n)), Ok(()), "{n}");
        }
        assert_eq!(tries.count("ada@example.com", stranger(3)), Err(60), "whoever they are");
        assert_eq!(tries.count("ada@example.com", other), Err(60), "also from a place that is new");
        assert_eq!(tries.count("ada@example.com", home), Ok(()), "her own is not counted");
        assert_eq!(tries.count("grace@example.com", stranger(3)), Ok(()), "nor is anybody else's");
        clock.advance(Duration::from_secs(60));
        assert_eq!(tries.count("ada@example.com", other), Ok(()), "one a minute");
        assert_eq!(tries.count("ada@example.com", stranger(3)), Err(60));
    }

    #[test]
    fn what_is_remembered_of_accounts_is_bounded() {
        let clock = FakeRelativeClock::default();
        let tries = AccountTries::by(clock.clone(), 60, 1);
        let from = IpAddr::from([192, 0, 2, 1]);
        for n in 0..=HOMES_MAX {
            tries.signed_in(&n.to_string(), from);
        }
        assert_eq!(tries.homes.lock().known.len(), HOMES_MAX);
        assert_eq!(tries.count(&HOMES_MAX.to_string(), from), Ok(()), "the newest is known");
        for n in 0..2 * COUNTS {
            let _ = tries.count(&format!("stranger {n}"), from);
        }
        assert!(tries.strangers.len() as u64 <= COUNTS, "accounts share counts, however many there are");
        clock.advance(Duration::from_secs(3_600));
        tries.tidy();
        assert_eq!(tries.strangers.len(), 0, "who was left alone is forgotten");
    }

    #[test]
    fn failures_are_counted_by_source() {
        let failures = AuthFailures::new(1, 2);
        let [one, neighbour, other] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|text| text.parse().expect("an address"));
        assert_eq!(failures.count(one), Ok(()));
        assert_eq!(failures.count(neighbour), Ok(()));
        assert!(
            failures.count(one).is_err_and(|seconds| (1..=60).contains(&seconds)),
            "one /64 is one source"
        );
        assert_eq!(failures.count(other), Ok(()));
        failures.tidy();
        assert!(failures.count(one).is_err(), "tidying forgets nobody who is over");
    }
}
