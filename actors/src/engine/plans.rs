//! What organizations use, and what their plans let them.

use super::{
    Engine, EngineError,
    meter::{Meter, Places},
};
use crate::{
    domain::{
        event::Event,
        ids::{OrganizationId, WorkspaceId},
        notice::Notice,
        plan::{Crossing, Exceeded, Limit, Plan, Plans, crossing, month_of},
        timestamp::Timestamp,
        usage::{Day, USAGE_DAYS_KEPT, UsageRow},
    },
    store::{Appended, Change, Held, NewEvent, Page, Scope, Store, StoreError},
};
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};
use tracing::warn;

/// Rows of usage read in one go when a month is added up.
const ROWS_PAGE: usize = 1_000;
/// How many organizations may have something checked and made at a time.
const TURNS: usize = 64;

/// An organization's plan, and what there is of what it limits.
#[derive(Clone, Debug)]
pub struct PlanView {
    /// `None`: it has none, and no limits.
    pub name: Option<String>,
    pub plan: Plan,
    /// The first day of the calendar month, UTC.
    pub month: Day,
    /// Events accepted in that month.
    pub events: u64,
    pub held: Held,
    /// When the next month begins.
    pub turns_at: Timestamp,
}

/// What is kept to hold organizations to their plans.
pub(super) struct Limits {
    pub plans: Arc<Plans>,
    meter: Meter,
    /// Taken while something is counted and one more made.
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl Limits {
    pub fn new(plans: Arc<Plans>) -> Self {
        Self { plans, meter: Meter::default(), turns: std::array::from_fn(|_| tokio::sync::Mutex::default()) }
    }

    fn turn(&self, organization: OrganizationId) -> &tokio::sync::Mutex<()> {
        &self.turns[usize::from(organization.as_bytes()[15]) % TURNS]
    }
}

/// Which events are let in.
#[derive(Default)]
pub(super) struct LetIn {
    /// For each event of a request, in order, the answer to it if it is not let in; empty where all are.
    pub settled: Vec<Option<Result<Event, EngineError>>>,
    pub taken: Vec<Taken>,
}

/// Places for an organization's events on their way in.
pub(super) struct Taken {
    organization: OrganizationId,
    of: u64,
    places: Places,
    /// Which of those that were let in they are for.
    is_for: Vec<bool>,
}

impl Engine {
    /// An organization's plan: what is not limited by it is not limited.
    pub fn plan(&self, organization: OrganizationId) -> &Plan {
        self.0.limits.plans.plan_of(organization)
    }

    /// The same, with what there is by now.
    pub async fn plan_view(&self, organization: OrganizationId) -> Result<PlanView, EngineError> {
        let (month, turns_at) = month_of(self.0.clock.now());
        let plans = &self.0.limits.plans;
        Ok(PlanView {
            name: plans.name_of(organization).map(str::to_owned),
            plan: plans.plan_of(organization).clone(),
            month,
            events: events_since(&*self.0.store, organization, month).await?,
            held: self.0.store.held(organization).await?,
            turns_at,
        })
    }

    /// What was used on these days, by workspace and day. It is kept for [`USAGE_DAYS_KEPT`] days. A page may
    /// hold fewer than `limit` and still have a next one.
    pub async fn usage(
        &self,
        scope: Scope,
        days: RangeInclusive<Day>,
        after: Option<(WorkspaceId, Day)>,
        limit: usize,
    ) -> Result<Page<UsageRow, (WorkspaceId, Day)>, EngineError> {
        let (from, to) = days.into_inner();
        let kept = Day::of(self.0.clock.now()).before(USAGE_DAYS_KEPT);
        Ok(self.0.store.usage(scope, from.max(kept)..=to, after, limit).await?)
    }

    /// Today, UTC.
    pub fn today(&self) -> Day {
        Day::of(self.0.clock.now())
    }

    /// Makes one more of something, if the plan has room for it.
    pub(super) async fn configure_within(
        &self,
        organization: OrganizationId,
        limit: Limit,
        change: Change,
    ) -> Result<(), EngineError> {
        let plan = self.plan(organization);
        let Some(of) = plan.limit(limit) else { return self.configure(change).await };
        let _turn = self.0.limits.turn(organization).lock().await;
        let held = self.0.store.held(organization).await?;
        let used = match limit {
            Limit::Workspaces => held.workspaces,
            Limit::Connections => held.connections,
            Limit::Rules => held.rules,
            Limit::Members => held.members,
            Limit::EventsPerMonth => 0, // not a row of configuration
        };
        plan.check(limit, used)?;
        self.configure(change).await?;
        self.tell(organization, limit, crossing(used, used + 1, of), (used + 1, of));
        Ok(())
    }

    /// Lets in as many of these events as their organizations' plans have room for, the first of them first.
    pub(super) async fn let_in(&self, news: Vec<NewEvent>) -> Result<(Vec<NewEvent>, LetIn), StoreError> {
        let (limits, mut let_in) = (&self.0.limits, LetIn::default());
        let mut wanted = BTreeMap::<OrganizationId, u64>::new();
        for event in news.iter().map(|new| &new.event).filter(|event| !event.id.is_test()) {
            if limits.plans.plan_of(event.organization_id).events_per_month.is_some() {
                *wanted.entry(event.organization_id).or_default() += 1;
            }
        }
        let Some(at) = news.first().map(|new| new.event.accepted_at).filter(|_| !wanted.is_empty()) else {
            return Ok((news, let_in));
        };
        let (first, turns_at) = month_of(at);
        for (organization, wanted) in wanted {
            let plan = limits.plans.plan_of(organization);
            let Some(of) = plan.events_per_month else { continue };
            let counted = async || events_since(&*self.0.store, organization, first).await;
            let places =
                limits.meter.take(organization, first, wanted, plan.events_let_in(), counted).await?;
            let_in.taken.push(Taken { organization, of, places, is_for: Vec::new() });
        }
        let mut left: Vec<u64> = let_in.taken.iter().map(|taken| taken.places.count()).collect();
        let mut those = Vec::with_capacity(news.len());
        for new in news {
            let (id, is_test) = (new.event.organization_id, new.event.id.is_test());
            let its = let_in.taken.iter().position(|taken| taken.organization == id && !is_test);
            let is_full = its.filter(|its| left[*its] == 0);
            let settled = match is_full {
                // What was accepted is accepted: its sender is told so again.
                Some(its) => {
                    let (limit, of) = (Limit::EventsPerMonth, let_in.taken[its].of);
                    let exceeded = Exceeded { limit, of, until: Some((turns_at, turns_at.since(at))) };
                    let first = self.0.store.first_of(&new).await.map_err(EngineError::from);
                    Some(first.and_then(|first| first.ok_or_else(|| exceeded.into())))
                }
                None => None,
            };
            let_in.settled.push(settled);
            if is_full.is_none() {
                those.push(new);
                for (at, taken) in let_in.taken.iter_mut().enumerate() {
                    taken.is_for.push(its == Some(at));
                    left[at] -= u64::from(its == Some(at));
                }
            }
        }
        Ok((those, let_in))
    }

    /// What became of those that were let in.
    pub(super) fn went_in(&self, taken: Vec<Taken>, appended: &[Result<Appended, StoreError>]) {
        for Taken { organization, of, places, is_for } in taken {
            let is_new = |(is_its, appended): &(bool, &Result<Appended, StoreError>)| {
                *is_its && matches!(appended, Ok(Appended::New))
            };
            let accepted = is_for.into_iter().zip(appended).filter(is_new).count() as u64;
            let (crossing, used) = places.settle(accepted, of);
            self.tell(organization, Limit::EventsPerMonth, crossing, (used, of));
        }
    }

    /// Tells the operator that a limit is near or reached.
    fn tell(
        &self,
        organization: OrganizationId,
        limit: Limit,
        crossing: Option<Crossing>,
        (used, of): (u64, u64),
    ) {
        let Some(crossing) = crossing else { return };
        let (key, month) = (limit.key(), self.today().month());
        let (workspace, limit) = (None, key.to_owned());
        self.notify(match crossing {
            Crossing::Near => {
                warn!(organization_id = %organization, limit, used, of, "four fifths of a plan's limit are used");
                Notice::LimitNear { organization, workspace, limit, used, of, month }
            }
            Crossing::Reached => {
                warn!(organization_id = %organization, limit, used, of, "a plan's limit is reached");
                Notice::LimitReached { organization, workspace, limit, used, of, month }
            }
        });
    }
}

/// The answers to all events of a request, in its order, from those to the events that were let in.
pub(super) fn with_settled(
    settled: Vec<Option<Result<Event, EngineError>>>,
    mut answers: impl Iterator<Item = Result<Event, EngineError>>,
) -> Vec<Result<Event, EngineError>> {
    let lost = || Err(EngineError::Internal("no answer to an event".into()));
    let mut all = Vec::with_capacity(settled.len());
    for settled in settled {
        all.push(settled.unwrap_or_else(|| answers.next().unwrap_or_else(lost)));
    }
    all.extend(answers);
    all
}

/// Events that an organization's workspaces accepted since a day.
async fn events_since(
    store: &dyn Store,
    organization: OrganizationId,
    first: Day,
) -> Result<u64, StoreError> {
    let (mut events, mut after) = (0, None);
    loop {
        let days = first..=Day(u32::MAX);
        let page = store.usage(Scope::Organization(organization), days, after, ROWS_PAGE).await?;
        events += page.records.iter().map(|row| row.usage.events).sum::<u64>();
        after = page.next;
        if after.is_none() {
            return Ok(events);
        }
    }
}
