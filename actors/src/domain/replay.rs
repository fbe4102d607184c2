//! A replay: past deliveries done again, each as a new delivery that names its first.
//!
//! Of the deliveries of one event by one rule, that *stands* which was made last and was not called off: it
//! says what has become of the rule, it is what a replay does again, and an event counts it alone. So an event
//! counts as many deliveries as rules took it, however often it was replayed.

use super::{
    delivery::{Delivery, Outcome},
    event::{Status, Tally},
    field::FieldError,
    ids::{ConnectionId, DeliveryId, EventId, OrganizationId, ReplayId, RuleId, WorkspaceId},
    timestamp::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, time::Duration};

/// Replays of a workspace that are under way or paused, at most.
pub const UNDER_WAY_MAX: usize = 10;
/// Replays that a workspace keeps, at most; those that are over go with its retention.
pub const KEPT_MAX: usize = 10_000;
/// Deliveries a second, where a replay says nothing.
pub const RATE_DEFAULT: f64 = 100.0;

/// Where a delivery comes from that is not its event's first by its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayOf {
    /// The first delivery of the event by the rule.
    pub first: DeliveryId,
    /// What made it.
    pub replay: ReplayId,
    /// Which one it is, from 1.
    pub number: u32,
}

/// What past deliveries are done again, at which pace, and how far that is. Versions are counted as those of
/// configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    pub id: ReplayId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub filter: ReplayFilter,
    pub as_of: AsOf,
    /// Deliveries queued a second.
    pub rate_per_second: f64,
    pub state: ReplayState,
    /// Deliveries that passed the filter when they were counted; `None`: they are being counted.
    pub expected: Option<u64>,
    /// The first event that was not looked at yet.
    pub cursor: Option<EventId>,
    /// Every event was looked at: all there is to queue is queued.
    pub is_queued: bool,
    pub counts: ReplayCounts,
    /// What the new deliveries came to, once it is over and none of them is open.
    pub outcome: Option<Tally>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    pub version: u64,
}

/// Which past deliveries; absent means any. Of those that stand, see the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayFilter {
    /// Of events accepted then or later.
    pub from: Option<Timestamp>,
    /// Of events accepted before.
    pub to: Option<Timestamp>,
    pub event_id: Option<EventId>,
    pub event: Option<String>,
    pub connection: Option<ConnectionId>,
    pub rule: Option<RuleId>,
    /// One that is final.
    pub status: Option<Status>,
    /// What its last attempt led to.
    pub outcome: Option<Outcome>,
    /// Also of test events. One that is named by its id is meant in any case.
    pub with_tests: bool,
}

/// By what a delivery is done again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ReplayAsOf")]
pub enum AsOf {
    /// The action as it stood when the event was accepted.
    #[default]
    Then,
    /// Its rule as it is now, conditions and all.
    Now,
}

/// Where a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    Counting,
    Running,
    Paused,
    Canceled,
    Finished,
}

/// How much was looked at so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayCounts {
    /// Deliveries that passed the filter: queued or skipped, each.
    pub matched: u64,
    pub queued: u64,
    pub skipped: Skipped,
}

/// Why a delivery that passed the filter is not done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// It waits or is in flight still: it is not over, so it cannot be done again.
    Unfinished,
    ConnectionDeleted,
    ConnectionInactive,
    ConnectionPaused,
    /// As it is now: its rule is gone.
    RuleDeleted,
    /// As it is now: its rule is not active.
    RuleInactive,
    /// As it is now: its rule lets the event pass.
    RulePasses,
    /// The rule's conditions are about a payload that cannot be read any more.
    PayloadLost,
    /// Its event has as many deliveries as one may have.
    EventFull,
}

/// How many were skipped for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ReplaySkips")]
pub struct Skipped {
    pub unfinished: u64,
    pub connection_deleted: u64,
    pub connection_inactive: u64,
    pub connection_paused: u64,
    pub rule_deleted: u64,
    pub rule_inactive: u64,
    pub rule_passes: u64,
    pub payload_lost: u64,
    pub event_full: u64,
}

impl Skipped {
    /// One more.
    pub fn add(&mut self, why: Skip) {
        *match why {
            Skip::Unfinished => &mut self.unfinished,
            Skip::ConnectionDeleted => &mut self.connection_deleted,
            Skip::ConnectionInactive => &mut self.connection_inactive,
            Skip::ConnectionPaused => &mut self.connection_paused,
            Skip::RuleDeleted => &mut self.rule_deleted,
            Skip::RuleInactive => &mut self.rule_inactive,
            Skip::RulePasses => &mut self.rule_passes,
            Skip::PayloadLost => &mut self.payload_lost,
            Skip::EventFull => &mut self.event_full,
        } += 1;
    }
}

impl ReplayState {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counting => "counting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Canceled => "canceled",
            Self::Finished => "finished",
        }
    }

    /// Nothing more is queued.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Canceled | Self::Finished)
    }
}

impl ReplayFilter {
    /// Refuses what cannot be asked for, naming the field.
    pub fn check(&self) -> Result<(), FieldError> {
        if self.status.is_some_and(|status| !status.is_final()) {
            let msg = "must be completed, failed or canceled: others are not over yet";
            return Err(FieldError::new("status", msg));
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(FieldError::new("to", "must be later than from"));
        }
        Ok(())
    }

    /// Whether one of an event's standing deliveries is meant, leaving aside its event.
    pub fn passes(&self, delivery: &Delivery) -> bool {
        let last = delivery.attempts.last().map(|attempt| attempt.outcome);
        self.rule.is_none_or(|rule| rule == delivery.rule_id)
            && self.connection.is_none_or(|connection| connection == delivery.connection_id)
            && self.status.is_none_or(|status| status == delivery.status)
            && self.outcome.is_none_or(|outcome| Some(outcome) == last)
    }

    /// Whether test events are passed by.
    pub fn leaves_out_tests(&self) -> bool {
        !self.with_tests && self.event_id.is_none()
    }

    /// The first event there may be, and the first that there may not be any more.
    pub fn bounds(&self) -> (EventId, Option<EventId>) {
        let first = EventId::first_at(self.from.unwrap_or_default());
        let end = self.to.map(EventId::first_at);
        match self.event_id {
            None => (first, end),
            Some(id) => (first.max(id), id.next().into_iter().chain(end).min()),
        }
    }
}

impl Replay {
    /// Deliveries a second that there may be.
    pub const RATES: std::ops::RangeInclusive<f64> = 0.01..=5_000.0;

    /// How many of its deliveries may wait for their first try: about a second's worth, so that it stops soon
    /// when it is told to, and a destination that is slow or down is not piled upon.
    pub fn waiting_max(&self) -> u64 {
        (self.rate_per_second as u64).clamp(64, 1_000)
    }

    /// Whether there is something to be done about it.
    pub fn is_under_way(&self) -> bool {
        match self.state {
            ReplayState::Counting | ReplayState::Running => true,
            ReplayState::Paused => false,
            ReplayState::Canceled | ReplayState::Finished => self.outcome.is_none(),
        }
    }

    /// The same with a person's wish. `Err`: it is where no such wish can be followed.
    pub fn told(mut self, wanted: ReplayState, now: Timestamp) -> Result<Self, ReplayState> {
        use ReplayState::{Canceled, Counting, Paused, Running};
        let goes_on = if self.expected.is_some() { Running } else { Counting };
        self.state = match (self.state, wanted) {
            (state, wanted) if state == wanted && state != ReplayState::Finished => state,
            (Counting, Running) => Counting,
            (Counting | Running, Paused) => Paused,
            (Paused, Running) => goes_on,
            (Counting | Running | Paused, Canceled) => {
                self.ended_at = Some(now);
                Canceled
            }
            (state, _) => return Err(state),
        };
        Ok(self)
    }

    /// How often and how fast: refuses what is out of range, naming the field.
    pub fn check(&self) -> Result<(), FieldError> {
        if !Self::RATES.contains(&self.rate_per_second) {
            return Err(FieldError::new("rate_per_second", "must be from 0.01 to 5000"));
        }
        self.filter.check().map_err(|err| err.within("filter"))
    }
}

/// What a replay may queue now: its rate, saved up for a second at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credit(f64);

impl Credit {
    /// Enough for one.
    pub const fn one() -> Self {
        Self(1.0)
    }

    /// Time has passed.
    pub fn earn(&mut self, rate_per_second: f64, passed: Duration) {
        let most = rate_per_second.max(1.0);
        self.0 = (self.0 + rate_per_second * passed.as_secs_f64()).min(most);
    }

    /// How many there may be.
    pub fn whole(self) -> usize {
        self.0.max(0.0) as usize
    }

    /// So many were queued; of one event they go together, so it may be more than there was.
    pub fn spend(&mut self, count: usize) {
        self.0 -= count as f64;
    }

    /// How long until there are so many.
    pub fn wait(self, count: f64, rate_per_second: f64) -> Duration {
        Duration::from_secs_f64(((count - self.0) / rate_per_second).max(0.0))
    }
}

impl Delivery {
    fn number(&self) -> u32 {
        self.replay.map_or(0, |replay| replay.number)
    }

    fn is_called_off_replay(&self) -> bool {
        self.replay.is_some() && self.status == Status::Canceled
    }
}

/// Puts an event's deliveries in rule order, of each rule first the one that stands.
pub fn put_in_order(deliveries: &mut [Delivery]) {
    deliveries.sort_by_key(|delivery| {
        (delivery.rule_id, delivery.is_called_off_replay(), Reverse(delivery.number()))
    });
}

/// Of an event's deliveries in order those that stand, one a rule.
pub fn standing(deliveries: &[Delivery]) -> impl Iterator<Item = &Delivery> {
    deliveries.chunk_by(|one, other| one.rule_id == other.rule_id).filter_map(<[Delivery]>::first)
}

/// What an event counts, of its deliveries in order.
pub fn tally(deliveries: &[Delivery]) -> Tally {
    let mut tally = Tally::default();
    for delivery in standing(deliveries) {
        tally.total += 1;
        tally.shift(Status::Pending, delivery.status);
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn delivery(rule: u128, number: u32, status: Status) -> Delivery {
        let (event_id, nil) = (EventId::from_uuid(Uuid::nil()), Uuid::nil());
        let rule_id = RuleId::from_uuid(Uuid::from_u128(rule));
        let (first, replay) = (DeliveryId::of(event_id, rule_id), ReplayId::from_uuid(Uuid::from_u128(9)));
        Delivery {
            id: first,
            event_id,
            workspace_id: WorkspaceId::from_uuid(nil),
            rule_id,
            connection_id: ConnectionId::from_uuid(nil),
            destination: String::new(),
            action: String::new(),
            created_by: String::new(),
            created_at: Timestamp(0),
            status,
            due: Timestamp(0),
            attempt_count: 0,
            tries_used: 0,
            started_at: None,
            completed_at: None,
            last_error: None,
            notes: None,
            attempts: Vec::new(),
            replay: (number > 0).then_some(ReplayOf { first, replay, number }),
        }
    }

    /// Rule, number and status of each.
    type Made = [(u128, u32, Status)];

    /// I2: an event counts what stands of each rule, and nothing twice.
    #[test]
    fn an_event_counts_the_newest_delivery_of_each_rule_that_was_not_called_off() {
        use Status::{Canceled, Completed, Failed, Pending};
        #[rustfmt::skip]
        let cases: [(_, &Made, _, _); 8] = [
            // why                                  rule, number, status                                        standing           the event is
            ("never replayed",                      &[(1, 0, Failed), (2, 0, Completed)],                       vec![0, 0],        Failed),
            ("a replay takes its first's place",    &[(1, 0, Failed), (1, 1, Completed), (2, 0, Completed)],    vec![1, 0],        Completed),
            ("also while it waits",                 &[(1, 0, Completed), (1, 1, Pending)],                      vec![1],           Pending),
            ("also when it fails",                  &[(1, 0, Completed), (1, 1, Failed)],                       vec![1],           Failed),
            ("the newest of several",               &[(1, 1, Failed), (1, 0, Failed), (1, 2, Completed)],       vec![2],           Completed),
            ("called off, it never was",            &[(1, 0, Completed), (1, 1, Canceled)],                     vec![0],           Completed),
            ("but an earlier one was",              &[(1, 0, Failed), (1, 1, Completed), (1, 2, Canceled)],     vec![1],           Completed),
            ("a first that was called off is one",  &[(1, 0, Canceled), (1, 1, Canceled)],                      vec![0],           Canceled),
        ];
        for (why, made, numbers, expected) in cases {
            let mut deliveries: Vec<_> =
                made.iter().map(|(rule, n, status)| delivery(*rule, *n, *status)).collect();
            put_in_order(&mut deliveries);
            let found: Vec<_> = standing(&deliveries).map(Delivery::number).collect();
            assert_eq!((found, tally(&deliveries).status()), (numbers.clone(), expected), "{why}");
            assert_eq!(tally(&deliveries).total as usize, numbers.len(), "{why}");
        }
    }

    fn replay(state: ReplayState, expected: Option<u64>) -> Replay {
        let nil = Uuid::nil();
        Replay {
            id: ReplayId::from_uuid(nil),
            organization_id: OrganizationId::from_uuid(nil),
            workspace_id: WorkspaceId::from_uuid(nil),
            filter: ReplayFilter::default(),
            as_of: AsOf::Then,
            rate_per_second: RATE_DEFAULT,
            state,
            expected,
            cursor: None,
            is_queued: false,
            counts: ReplayCounts::default(),
            outcome: None,
            created_by: String::new(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            ended_at: None,
            version: 1,
        }
    }

    #[test]
    fn a_replay_goes_where_it_is_told_and_nowhere_else() {
        use ReplayState::{Canceled, Counting, Finished, Paused, Running};
        #[rustfmt::skip]
        let cases = [
            // it is       told         and then is, counting or counted
            (Counting,     Running,     Ok((Counting, Counting))),
            (Counting,     Paused,      Ok((Paused, Paused))),
            (Counting,     Canceled,    Ok((Canceled, Canceled))),
            (Running,      Running,     Ok((Running, Running))),
            (Running,      Paused,      Ok((Paused, Paused))),
            (Running,      Canceled,    Ok((Canceled, Canceled))),
            (Paused,       Running,     Ok((Counting, Running))),
            (Paused,       Paused,      Ok((Paused, Paused))),
            (Paused,       Canceled,    Ok((Canceled, Canceled))),
            (Running,      Counting,    Err(Running)),
            (Running,      Finished,    Err(Running)),
            (Canceled,     Canceled,    Ok((Canceled, Canceled))),
            (Canceled,     Running,     Err(Canceled)),
            (Canceled,     Paused,      Err(Canceled)),
            (Finished,     Running,     Err(Finished)),
            (Finished,     Paused,      Err(Finished)),
            (Finished,     Canceled,    Err(Finished)),
            (Finished,     Finished,    Err(Finished)),
        ];
        for (state, wanted, expected) in cases {
            let told = |expected| replay(state, expected).told(wanted, Timestamp(7)).map(|it| it.state);
            let both = told(None).and_then(|counting| Ok((counting, told(Some(3))?)));
            assert_eq!(both, expected, "{state:?} told {wanted:?}");
        }
        assert_eq!(
            replay(Running, None).told(Canceled, Timestamp(7)).map(|it| it.ended_at),
            Ok(Some(Timestamp(7)))
        );
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        let filter = |filter| Replay { filter, ..replay(ReplayState::Counting, None) };
        let rate = |rate_per_second| Replay { rate_per_second, ..replay(ReplayState::Counting, None) };
        let any = ReplayFilter::default();
        let span =
            |from, to| ReplayFilter { from: Some(Timestamp(from)), to: Some(Timestamp(to)), ..any.clone() };
        let status = |status| ReplayFilter { status: Some(status), ..any.clone() };
        #[rustfmt::skip]
        let cases = [
            (rate(0.01),                         None),
            (rate(5_000.0),                      None),
            (rate(0.0),                          Some("rate_per_second")),
            (rate(0.009),                        Some("rate_per_second")),
            (rate(5_000.1),                      Some("rate_per_second")),
            (rate(f64::NAN),                     Some("rate_per_second")),
            (rate(f64::INFINITY),                Some("rate_per_second")),
            (filter(span(1, 2)),                 None),
            (filter(span(2, 2)),                 Some("filter.to")),
            (filter(span(3, 2)),                 Some("filter.to")),
            (filter(status(Status::Failed)),     None),
            (filter(status(Status::Pending)),    Some("filter.status")),
            (filter(status(Status::Processing)), Some("filter.status")),
        ];
        for (replay, expected) in cases {
            let refused = replay.check().err().map(|err| err.param);
            assert_eq!(refused.as_deref(), expected, "{replay:?}");
        }
    }

    #[test]
    fn a_rate_is_kept_and_saved_up_for_a_second_at_most() {
        let (mut credit, tick) = (Credit::default(), Duration::from_millis(100));
        let mut queued = 0;
        for _ in 0..100 {
            credit.earn(33.0, tick);
            queued += credit.whole();
            credit.spend(credit.whole());
        }
        assert!((329..=330).contains(&queued), "{queued} in ten seconds at 33/s");
        credit.earn(33.0, Duration::from_secs(3_600));
        assert_eq!(credit.whole(), 33, "an hour's rest is a second's worth");
        credit.spend(66);
        assert_eq!(
            (credit.whole(), credit.wait(1.0, 33.0).as_millis()),
            (0, 1_030),
            "what was too much is waited for"
        );
        let mut slow = Credit::default();
        slow.earn(0.01, Duration::from_secs(1_000));
        assert_eq!(slow.whole(), 1, "the slowest saves up one");
    }
}
