//! What the operator is still to be told: bounded, whatever happens.
//!
//! A storm of failures is summed up and never left out: of each connection a few are told one by one,
//! and what follows as one sum a minute for as long as it goes on. Anything else that finds no room
//! is dropped and counted.

use crate::domain::{
    ids::ConnectionId,
    notice::{Failure, Notice},
    timestamp::Timestamp,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// Notices that may wait.
pub const WAITING_MAX: usize = 1_024;
/// Of these, failures: the rest is kept for what is told once and not again.
pub const FAILURES_WAITING_MAX: usize = 512;
/// Failures of one connection that are told one by one, within [`FAILURES_SPAN`].
pub const FAILURES_TOLD: u32 = 10;
/// How long more than those are summed up.
pub const FAILURES_SPAN: Duration = Duration::from_secs(60);
/// Connections whose failures are counted at a time.
const TALLIES_MAX: usize = 10_000;
/// Limits that are known to have been told. Beyond that the store is asked.
const LIMITS_MAX: usize = 10_000;

/// A notice, and when it was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noticed {
    pub notice: Notice,
    pub at: Timestamp,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Noticed>,
    failures_waiting: usize,
    tallies: HashMap<ConnectionId, Tally>,
    /// Identities of those about limits, which are noticed again and again.
    limits: HashSet<String>,
    dropped: u64,
}

/// Failures of one connection.
#[derive(Debug)]
struct Tally {
    until: Instant,
    told: u32,
    sum: Option<(Failure, Timestamp)>,
}

impl Queue {
    /// Takes a notice in. `false`: there is no room, and it is dropped.
    pub fn push(&mut self, noticed: Noticed, now: Instant) -> bool {
        let Noticed { notice, at } = noticed;
        let has_room = match notice {
            Notice::DeliveryFailed(failure) => self.push_failure(failure, at, now),
            notice => self.push_other(notice, at),
        };
        self.dropped += u64::from(!has_room);
        has_room
    }

    fn push_failure(&mut self, failure: Failure, at: Timestamp, now: Instant) -> bool {
        if !self.tallies.contains_key(&failure.connection) && self.tallies.len() >= TALLIES_MAX {
            return false;
        }
        let fresh = || Tally { until: now + FAILURES_SPAN, told: 0, sum: None };
        let tally = self.tallies.entry(failure.connection).or_insert_with(fresh);
        if tally.sum.is_none() && tally.told < FAILURES_TOLD && self.failures_waiting < FAILURES_WAITING_MAX {
            tally.told += 1;
            self.failures_waiting += 1;
            self.waiting.push_back(Noticed { notice: Notice::DeliveryFailed(failure), at });
        } else {
            let sum = match tally.sum.take() {
                Some((sum, _)) => sum.and(failure),
                None => failure,
            };
            tally.sum = Some((sum, at));
        }
        true
    }

    fn push_other(&mut self, notice: Notice, at: Timestamp) -> bool {
        let is_limit = matches!(notice, Notice::LimitNear { .. } | Notice::LimitReached { .. });
        let identity = is_limit.then(|| notice.identity(at));
        if identity.as_ref().is_some_and(|identity| self.limits.contains(identity)) {
            return true;
        }
        if self.waiting.len() - self.failures_waiting >= WAITING_MAX - FAILURES_WAITING_MAX {
            return false;
        }
        if self.limits.len() >= LIMITS_MAX {
            self.limits.clear();
        }
        self.limits.extend(identity);
        self.waiting.push_back(Noticed { notice, at });
        true
    }

    /// Closes the sums whose time is over, or with `all` each of them.
    pub fn close_sums(&mut self, now: Instant, all: bool) {
        let Self { waiting, failures_waiting, tallies, .. } = self;
        tallies.retain(|_, tally| {
            if !all && now < tally.until {
                return true;
            }
            if tally.sum.is_some() && *failures_waiting >= FAILURES_WAITING_MAX {
                return true; // it goes on until there is room
            }
            let Some((sum, at)) = tally.sum.take() else { return false };
            *failures_waiting += 1;
            waiting.push_back(Noticed { notice: Notice::DeliveryFailed(sum), at });
            // As long as it goes on, only sums.
            (tally.until, tally.told) = (now + FAILURES_SPAN, FAILURES_TOLD);
            !all
        });
    }

    /// When the next sum is to be closed.
    pub fn next_sum(&self) -> Option<Instant> {
        self.tallies.values().map(|tally| tally.until).min()
    }

    /// The first of those that wait.
    pub fn first(&self, limit: usize) -> Vec<Noticed> {
        self.waiting.iter().take(limit).cloned().collect()
    }

    /// So many of the first are told.
    pub fn told(&mut self, count: usize) {
        let told = self.waiting.drain(..count.min(self.waiting.len()));
        self.failures_waiting -=
            told.filter(|noticed| matches!(noticed.notice, Notice::DeliveryFailed(_))).count();
    }

    /// How many were dropped since this was last asked.
    pub fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether nothing waits to be told, now or later.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.tallies.values().all(|tally| tally.sum.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        delivery::Outcome,
        ids::{DeliveryId, EventId, OrganizationId, RuleId, WorkspaceId},
    };
    use uuid::Uuid;

    fn failed(connection: u128, number: u128) -> Noticed {
        let (id, at) = (Uuid::from_u128(1), Timestamp(i64::try_from(number).expect("small")));
        let event = EventId::from_uuid(Uuid::from_u128(number));
        let notice = Notice::DeliveryFailed(Failure {
            organization: OrganizationId::from_uuid(id),
            workspace: WorkspaceId::from_uuid(id),
            connection: ConnectionId::from_uuid(Uuid::from_u128(connection)),
            rule: RuleId::from_uuid(id),
            event,
            delivery: DeliveryId::of(event, RuleId::from_uuid(id)),
            attempts: 1,
            outcome: Outcome::Timeout,
            http_status: None,
            count: 1,
            since: at,
        });
        Noticed { notice, at }
    }

    fn opened(connection: u128) -> Noticed {
        let id = Uuid::from_u128(1);
        let notice = Notice::BreakerOpened {
            organization: OrganizationId::from_uuid(id),
            workspace: WorkspaceId::from_uuid(id),
            connection: ConnectionId::from_uuid(Uuid::from_u128(connection)),
        };
        Noticed { notice, at: Timestamp(1) }
    }

    /// What waits, each told: how many deliveries each failure is about.
    fn take(queue: &mut Queue) -> Vec<u64> {
        let all = queue.first(usize::MAX);
        queue.told(all.len());
        let count = |noticed: Noticed| match noticed.notice {
            Notice::DeliveryFailed(failure) => failure.count,
            _ => 0,
        };
        all.into_iter().map(count).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_told_one_by_one_and_then_summed_up_until_it_ends() {
        let (mut queue, mut number) = (Queue::default(), 0);
        let mut fail = |queue: &mut Queue, connection, count| {
            for _ in 0..count {
                number += 1;
                assert!(queue.push(failed(connection, number), Instant::now()));
            }
        };
        fail(&mut queue, 1, 1_000);
        fail(&mut queue, 2, 3);
        queue.close_sums(Instant::now(), false);
        assert_eq!(take(&mut queue), [1; 13], "ten of the one, and all of the other");
        assert!(!queue.is_empty(), "a sum is still to be told");
        let mut sums = Vec::new();
        for more in [500, 7, 0, 0] {
            tokio::time::advance(FAILURES_SPAN).await;
            queue.close_sums(Instant::now(), false);
            sums.push(take(&mut queue));
            fail(&mut queue, 1, more);
        }
        assert_eq!(sums, [vec![990], vec![500], vec![7], vec![]]);
        assert!(queue.is_empty() && queue.next_sum().is_none(), "it is over, and forgotten");
        fail(&mut queue, 1, 11);
        assert_eq!(take(&mut queue), [1; 10], "one by one again");
        queue.close_sums(Instant::now(), true);
        assert_eq!((take(&mut queue), queue.is_empty()), (vec![1], true), "at the end all is told");
        assert_eq!(queue.dropped(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_and_failures_leave_room_for_the_rest() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for connection in 0..1_000 {
            assert!(queue.push(failed(connection, connection), now), "what has no room is summed up");
        }
        assert_eq!(queue.first(usize::MAX).len(), FAILURES_WAITING_MAX);
        let taken = (0..2_000).filter(|connection| queue.push(opened(*connection), now)).count();
        assert_eq!(taken, WAITING_MAX - FAILURES_WAITING_MAX);
        assert_eq!((queue.first(usize::MAX).len(), queue.dropped()), (WAITING_MAX, 2_000 - taken as u64));
        queue.close_sums(now, true);
        assert_eq!(queue.first(usize::MAX).len(), WAITING_MAX, "a sum waits for room, too");
        let mut told = take(&mut queue).iter().sum::<u64>();
        queue.close_sums(now, true);
        told += take(&mut queue).iter().sum::<u64>();
        assert_eq!((told, queue.is_empty()), (1_000, true), "and none is lost");
    }

    #[test]
    fn a_limit_that_is_noticed_at_each_event_is_told_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let limit = |month: &str| Notice::LimitReached {
            organization: OrganizationId::from_uuid(Uuid::from_u128(1)),
            workspace: None,
            limit: "events".to_owned(),
            used: 100,
            of: 100,
            month: month.to_owned(),
        };
        for month in ["2026-11", "2026-12"] {
            for at in 0..2_000 {
                assert!(queue.push(Noticed { notice: limit(month), at: Timestamp(at) }, now));
            }
        }
        assert_eq!(queue.first(usize::MAX).len(), 2);
    }
}
