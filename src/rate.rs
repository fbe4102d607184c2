//! How often one may ask: a bucket per key, bounded in number.

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use std::{
    hash::Hash,
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
