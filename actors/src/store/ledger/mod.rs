//! A store made of a state and a log: everything but how records become durable.

mod batch_keys;
mod keep;
mod log;
mod read;

pub use self::{
    batch_keys::BatchKeys,
    log::{Log, Records, Unread},
};
use super::{
    state::{
        CalledOff, Place, SESSION_KEPT, State, StoredEvent, View, keys, keys::Key, record::Record,
        verify::LogCheck,
    },
    *,
};
use crate::domain::{delivery::Attempt, event::Event};
use parking_lot::RwLock;
use std::{ops::RangeInclusive, sync::Arc};
use tracing::{error, warn};

/// Events looked at in one go when forgetting: the state is locked no longer than that takes.
const RETAIN_BATCH: usize = 256;

/// Rows looked at in one go when a replay is called off.
const CANCEL_BATCH: usize = 256;
/// Keys counted in one go.
const COUNT_BATCH: usize = 4_096;

/// Rows looked at in one go when verifying.
const VERIFY_BATCH: usize = 1_024;

/// A store: a state, and the log that carries it.
pub struct Ledger<L: Log> {
    pub(super) state: Arc<RwLock<State<L::View>>>,
    pub(super) log: L,
    pub(super) fence: Fence,
}

#[async_trait]
impl<L: Log> Store for Ledger<L> {
    fn fence(&self) -> Fence {
        self.fence
    }

    fn latest(&self) -> Timestamp {
        self.state.read().latest()
    }

    async fn append_events(&self, fence: Fence, events: Vec<NewEvent>) -> Vec<Result<Appended, StoreError>> {
        self.log.append(fence, events).await
    }

    async fn configure(&self, fence: Fence, change: Change, act: Option<Act>) -> Result<(), StoreError> {
        self.log.availability().map_err(StoreError::Unavailable)?;
        let sequence = self.transact(fence, |state| state.configure(&change, act))?;
        self.log.durable(sequence).await
    }

    async fn unfinished(
        &self,
        after: Option<WorkspaceId>,
        limit: usize,
    ) -> Result<Vec<UnfinishedWorkspace>, StoreError> {
        self.read(move |state| state.unfinished(after, limit)).await
    }

    async fn next_due(&self, workspace: WorkspaceId) -> Result<Option<Timestamp>, StoreError> {
        self.state.read().next_due(workspace)
    }

    async fn queues(&self, workspace: WorkspaceId) -> Result<Vec<(ConnectionId, Timestamp)>, StoreError> {
        self.state.read().queues(workspace)
    }

    async fn unrouted(&self, workspace: WorkspaceId, limit: usize) -> Result<UnroutedPage, StoreError> {
        let (stored, rules_changed_at) = self.state.read().unrouted(workspace, limit)?;
        let payloads = self.payloads_of(&stored).await;
        let mut page = UnroutedPage {
            events: Vec::with_capacity(stored.len()),
            unreadable: Vec::new(),
            rules_changed_at,
        };
        for (StoredEvent { sequence, event, .. }, payload) in stored.into_iter().zip(payloads) {
            match payload {
                Ok(payload) => {
                    page.events.extend(payload.map(|payload| Unrouted { sequence, event, payload }))
                }
                Err(StoreError::Refused(Refusal::PayloadLost)) => {
                    page.unreadable.push(Unreadable { sequence, event });
                }
                // The others need not wait for it; it is looked at again with them.
                Err(why) => error!(%workspace, event_id = %event.id, %why, "an event is not routed for now"),
            }
        }
        Ok(page)
    }

    async fn tested_rule(
        &self,
        workspace: WorkspaceId,
        event: EventId,
    ) -> Result<Option<RuleId>, StoreError> {
        self.state.read().tested_rule(workspace, event)
    }

    async fn rules_as_of(&self, workspace: WorkspaceId, sequence: u64) -> Result<RulesAsOf, StoreError> {
        self.state.read().rules_as_of(workspace, sequence)
    }

    async fn record_routing(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        routed: Vec<Routed>,
    ) -> Result<(), StoreError> {
        self.log.room().await?;
        self.transact(fence, |state| state.record_routing(workspace, routed))
    }

    async fn due(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        until: Timestamp,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.state.read().due(workspace, connection, until, limit)
    }

    async fn due_replayed(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        until: Timestamp,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.state.read().due_replayed(workspace, connection, until, limit)
    }

    async fn begin(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        connection: ConnectionId,
        connection_version: u64,
        entry: DueEntry,
    ) -> Result<Begun, StoreError> {
        let begun = {
            let mut state = self.state.write();
            state.check(fence)?;
            state.begin(workspace, connection, connection_version, entry)?
        };
        match begun {
            Err(begun) => Ok(begun),
            Ok((delivery, stored)) => {
                let payload = self.payload_of(&stored).await;
                let work = |payload| Box::new(Work { delivery, event: stored.event, payload });
                match payload {
                    Ok(Some(payload)) => Ok(Begun::Work(work(payload))),
                    Ok(None) => {
                        self.state.write().let_go(entry.delivery_id);
                        Ok(Begun::NotDue)
                    }
                    Err(StoreError::Refused(Refusal::PayloadLost)) => {
                        Ok(Begun::Unreadable(work(Bytes::new())))
                    }
                    Err(err) => Err(err),
                }
            }
        }
    }

    async fn release(&self, connection: ConnectionId) {
        self.state.write().release(connection);
    }

    async fn record_attempts(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        attempts: Vec<Attempted>,
    ) -> Result<(), StoreError> {
        self.log.room().await?;
        self.transact(fence, |state| state.record_attempts(workspace, attempts))
    }

    async fn cancel_queued(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        connection: ConnectionId,
        at: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.log.room().await?;
        self.transact(fence, |state| state.cancel_queued(workspace, connection, at, limit))
    }

    async fn pace(&self, connection: ConnectionId) -> Result<Pace, StoreError> {
        self.state.read().pace(connection)
    }

    async fn record_pace(
        &self,
        fence: Fence,
        connection: ConnectionId,
        pace: Pace,
    ) -> Result<(), StoreError> {
        self.transact(fence, |state| {
            state.commit(Record::Paced { connection_id: connection, pace })?;
            Ok(())
        })
    }

    async fn retry(
        &self,
        fence: Fence,
        scope: Scope,
        event: EventId,
        rule: RuleId,
        now: Timestamp,
        act: Option<Act>,
    ) -> Result<Delivery, StoreError> {
        self.log.availability().map_err(StoreError::Unavailable)?;
        let (delivery, sequence) = self.transact(fence, |state| state.retry(scope, event, rule, now, act))?;
        self.log.durable(sequence).await?;
        Ok(delivery)
    }

    async fn cancel(
        &self,
        fence: Fence,
        scope: Scope,
        event: EventId,
        rule: Option<RuleId>,
        now: Timestamp,
        act: Option<Act>,
    ) -> Result<EventDetails, StoreError> {
        self.log.availability().map_err(StoreError::Unavailable)?;
        let sequence = self.transact(fence, |state| state.cancel(scope, event, rule, now, act))?;
        self.log.durable(sequence).await?;
        Ok(self.event(scope, event).await?.ok_or(Refusal::NotFound("event"))?)
    }

    async fn event(&self, scope: Scope, id: EventId) -> Result<Option<EventDetails>, StoreError> {
        let Some((mut details, unmatched_at)) = self.details(scope, id)? else { return Ok(None) };
        let Some(sequence) = unmatched_at else { return Ok(Some(details)) };
        let moved_to = || Ok(self.state.read().event_in(scope, id)?.and_then(|stored| stored.unmatched_at));
        details.unmatched = match self.written(sequence, moved_to).await? {
            Some(Record::Routed { routed, .. }) => routed.unmatched,
            Some(Record::Carried(carried)) => carried.unmatched,
            _ => Vec::new(),
        };
        Ok(Some(details))
    }

    async fn payload(&self, scope: Scope, id: EventId) -> Result<Option<Bytes>, StoreError> {
        let stored = self.state.read().event_in(scope, id)?;
        match stored {
            Some(stored) => self.payload_of(&stored).await,
            None => Ok(None),
        }
    }

    async fn response(
        &self,
        scope: Scope,
        event: EventId,
        attempt: AttemptId,
    ) -> Result<Option<ResponseDetails>, StoreError> {
        let Some((delivery, number, sequence)) = self.response_at(scope, event, attempt)? else {
            return Ok(None);
        };
        let moved_to = || Ok(self.response_at(scope, event, attempt)?.map(|(_, _, now)| now));
        Ok(match self.written(sequence, moved_to).await? {
            Some(Record::Attempted { attempted, .. }) => attempted.response,
            Some(Record::Carried(carried)) => carried.response(delivery, number),
            _ => None,
        })
    }

    async fn events(
        &self,
        scope: Scope,
        filter: EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<EventSummary, EventId>, StoreError> {
        self.read(move |state| state.events(scope, &filter, after, limit)).await
    }

    async fn events_with_payloads(
        &self,
        scope: Scope,
        filter: EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<(EventSummary, Option<Bytes>), EventId>, StoreError> {
        let look = move |state: &State<L::View>| {
            let page = state.events(scope, &filter, after, limit)?;
            let (mut summaries, mut stored) = (Vec::new(), Vec::new());
            for summary in page.records {
                let Event { workspace_id, id, .. } = summary.event;
                if let Some(found) = state.stored_event(workspace_id, id)? {
                    summaries.push(summary);
                    stored.push(found);
                }
            }
            Ok((summaries, stored, page.next))
        };
        let (summaries, stored, next) = self.read(look).await?;
        let mut records = Vec::with_capacity(summaries.len());
        for (summary, payload) in summaries.into_iter().zip(self.payloads_of(&stored).await) {
            records.push(match payload {
                Ok(payload) => (summary, payload),
                Err(StoreError::Refused(Refusal::PayloadLost)) => (summary, None),
                Err(err) => return Err(err),
            });
        }
        Ok(Page { records, next })
    }

    async fn organization(&self, id: OrganizationId) -> Result<Option<Organization>, StoreError> {
        self.state.read().row(&keys::organization(id))
    }

    async fn organizations(
        &self,
        after: Option<OrganizationId>,
        limit: usize,
    ) -> Result<Page<Organization, OrganizationId>, StoreError> {
        let row_key = |id| keys::organization(OrganizationId::from_bytes(id));
        let after = after.map(|id| *id.as_bytes());
        let page = self.state.read().list(b"o", row_key, after.as_ref(), limit, |_| true)?;
        Ok(Page { records: page.records, next: page.next.map(OrganizationId::from_bytes) })
    }

    async fn machine_key(&self, access_key: &str) -> Result<Option<MachineKey>, StoreError> {
        self.state.read().row(&keys::machine_key(access_key))
    }

    async fn publishable_key(&self, hash: [u8; 32]) -> Result<Option<PublishableKey>, StoreError> {
        self.state.read().publishable_key(&hash)
    }

    async fn machine_keys(
        &self,
        organization: OrganizationId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Page<MachineKey, [u8; 16]>, StoreError> {
        self.read(move |state| state.machine_keys(organization, after, limit)).await
    }

    async fn user(&self, organization: OrganizationId, id: UserId) -> Result<Option<User>, StoreError> {
        self.state.read().user(organization, id)
    }

    async fn first_of(&self, new: &NewEvent) -> Result<Option<Event>, StoreError> {
        self.state.read().first_of(new)
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        self.state.read().user_by_email(email)
    }

    async fn users(
        &self,
        organization: OrganizationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Page<User, UserId>, StoreError> {
        self.read(move |state| state.users(organization, after, limit)).await
    }

    async fn invitation(
        &self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError> {
        self.state.read().invitation(organization, id)
    }

    async fn invitations(
        &self,
        organization: OrganizationId,
        after: Option<InvitationId>,
        limit: usize,
    ) -> Result<Page<Invitation, InvitationId>, StoreError> {
        self.read(move |state| state.invitations(organization, after, limit)).await
    }

    async fn audit(
        &self,
        organization: OrganizationId,
        filter: AuditFilter,
        after: Option<AuditId>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditId>, StoreError> {
        self.read(move |state| state.audit(organization, &filter, after, limit)).await
    }

    async fn forget_audit(&self, fence: Fence, before: Timestamp) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.organizations(after, RETAIN_BATCH).await?;
            for organization in page.records {
                self.log.room().await?;
                while self
                    .transact(fence, |state| state.forget_audit(organization.id, before, RETAIN_BATCH))?
                {
                    self.log.room().await?;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn session(&self, scope: Scope, id: SessionId) -> Result<Option<Session>, StoreError> {
        let found: Option<Session> = self.state.read().row(&keys::session(id))?;
        Ok(found.filter(|found| in_scope(scope, found.organization_id, found.workspace_id)))
    }

    async fn sessions(
        &self,
        workspace: WorkspaceId,
        filter: SessionFilter,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Page<Session, SessionId>, StoreError> {
        self.read(move |state| state.sessions(workspace, &filter, after, limit)).await
    }

    async fn publishable_key_of(&self, workspace: WorkspaceId) -> Result<Option<PublishableKey>, StoreError> {
        self.state.read().publishable_key_of(workspace)
    }

    async fn workspace(&self, scope: Scope, id: WorkspaceId) -> Result<Option<Workspace>, StoreError> {
        let found: Option<Workspace> = self.state.read().row(&keys::workspace(id))?;
        Ok(found.filter(|found| in_scope(scope, found.organization_id, found.id)))
    }

    async fn workspaces(
        &self,
        organization: OrganizationId,
        after: Option<WorkspaceId>,
        limit: usize,
    ) -> Result<Page<Workspace, WorkspaceId>, StoreError> {
        let after = after.map(|id| *id.as_bytes());
        let page = self.read(move |state| {
            let row_key = |id| keys::workspace(WorkspaceId::from_bytes(id));
            state.list(&keys::workspaces_of(organization), row_key, after.as_ref(), limit, |_| true)
        });
        let page = page.await?;
        Ok(Page { records: page.records, next: page.next.map(WorkspaceId::from_bytes) })
    }

    async fn connection(&self, scope: Scope, id: ConnectionId) -> Result<Option<Connection>, StoreError> {
        let found: Option<Connection> = self.state.read().row(&keys::connection(id))?;
        Ok(found.filter(|found| in_scope(scope, found.organization_id, found.workspace_id)))
    }

    async fn connections(
        &self,
        scope: Scope,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page<Connection, ConnectionId>, StoreError> {
        let list = match scope {
            Scope::Organization(id) => keys::connections_of_organization(id),
            Scope::Workspace(id) => keys::connections_of(id),
        };
        let after = after.map(|id| *id.as_bytes());
        let page = self.read(move |state| {
            let row_key = |id| keys::connection(ConnectionId::from_bytes(id));
            state.list(&list, row_key, after.as_ref(), limit, |_| true)
        });
        let page = page.await?;
        Ok(Page { records: page.records, next: page.next.map(ConnectionId::from_bytes) })
    }

    async fn catalog(&self, scope: Scope, connection: ConnectionId) -> Result<Option<Catalog>, StoreError> {
        let found: Option<Catalog> = self.state.read().row(&keys::catalog(connection))?;
        Ok(found.filter(|found| in_scope(scope, found.organization_id, found.workspace_id)))
    }

    async fn mapping(
        &self,
        scope: Scope,
        connection: ConnectionId,
    ) -> Result<Option<DefaultMapping>, StoreError> {
        let found: Option<DefaultMapping> = self.state.read().row(&keys::mapping(connection))?;
        Ok(found.filter(|found| in_scope(scope, found.organization_id, found.workspace_id)))
    }

    async fn grant(&self, scope: Scope, connection: ConnectionId) -> Result<Option<Grant>, StoreError> {
        let found: Option<Grant> = self.state.read().row(&keys::grant(connection))?;
        Ok(found.filter(|found| in_scope(scope, found.organization_id, found.workspace_id)))
    }

    async fn rule(&self, scope: Scope, id: RuleId) -> Result<Option<Rule>, StoreError> {
        let found: Option<Rule> = self.state.read().row(&keys::rule(id))?;
        Ok(found.filter(|found| in_scope(scope, found.organization_id, found.workspace_id)))
    }

    async fn rules(
        &self,
        scope: Scope,
        filter: RuleFilter,
        after: Option<RuleId>,
        limit: usize,
    ) -> Result<Page<Rule, RuleId>, StoreError> {
        let list = match scope {
            Scope::Organization(id) => keys::rules_of_organization(id),
            Scope::Workspace(id) => keys::rules_of(id),
        };
        let after = after.map(|id| *id.as_bytes());
        let page = self.read(move |state| {
            let row_key = |id| keys::rule(RuleId::from_bytes(id));
            let keep = |rule: &Rule| {
                let RuleFilter { event, resource, resource_id } = &filter;
                event.as_ref().is_none_or(|event| *event == rule.event)
                    && resource.as_ref().is_none_or(|wanted| Some(wanted) == rule.resource.as_ref())
                    && resource_id.as_ref().is_none_or(|wanted| Some(wanted) == rule.resource_id.as_ref())
            };
            state.list(&list, row_key, after.as_ref(), limit, keep)
        });
        let page = page.await?;
        Ok(Page { records: page.records, next: page.next.map(RuleId::from_bytes) })
    }

    async fn names(&self, workspace: WorkspaceId, kind: NameKind) -> Result<Vec<Name>, StoreError> {
        self.read(move |state| state.names(workspace, kind)).await
    }

    async fn replay(&self, scope: Scope, id: ReplayId) -> Result<Option<ReplayView>, StoreError> {
        let found = self.state.read().replay_view(id)?;
        let is_seen = |Replay { organization_id, workspace_id, .. }: &Replay| {
            in_scope(scope, *organization_id, *workspace_id)
        };
        Ok(found.filter(|found| is_seen(&found.replay)))
    }

    async fn replays(
        &self,
        workspace: WorkspaceId,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Page<ReplayView, ReplayId>, StoreError> {
        self.read(move |state| state.replays(workspace, after, limit)).await
    }

    async fn replays_under_way(
        &self,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Vec<ReplayView>, StoreError> {
        self.read(move |state| state.replays_under_way(after, limit)).await
    }

    async fn replay_page(
        &self,
        workspace: WorkspaceId,
        filter: ReplayFilter,
        as_of: AsOf,
        from: Option<EventId>,
        limit: usize,
    ) -> Result<ReplayPage, StoreError> {
        self.read(move |state| state.replay_page(workspace, &filter, as_of, from, limit)).await
    }

    async fn record_replayed(&self, fence: Fence, step: ReplayStep) -> Result<Replay, StoreError> {
        self.log.availability().map_err(StoreError::Unavailable)?;
        self.log.room().await?;
        self.transact(fence, |state| state.record_replayed(step))
    }

    async fn cancel_replayed(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        replay: ReplayId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            self.log.room().await?;
            let page =
                |state: &mut State<_>| state.cancel_replayed(workspace, replay, at, after, CANCEL_BATCH);
            after = self.transact(fence, page)?;
            if after.is_none() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn queue_reports(
        &self,
        after: Option<(WorkspaceId, ConnectionId)>,
        limit: usize,
    ) -> Result<Page<QueueReport, (WorkspaceId, ConnectionId)>, StoreError> {
        self.read(move |state| state.queue_reports(after, limit)).await
    }

    async fn usage(
        &self,
        scope: Scope,
        days: RangeInclusive<Day>,
        after: Option<(WorkspaceId, Day)>,
        limit: usize,
    ) -> Result<Page<UsageRow, (WorkspaceId, Day)>, StoreError> {
        self.state.write().write_usage();
        self.read(move |state| state.usage(scope, &days, after, limit)).await
    }

    async fn held(&self, organization: OrganizationId) -> Result<Held, StoreError> {
        Ok(Held {
            workspaces: self.count_under(keys::workspaces_of(organization)).await?,
            connections: self.count_under(keys::connections_of_organization(organization)).await?,
            rules: self.count_under(keys::rules_of_organization(organization)).await?,
            members: self.count_under(keys::users_of(organization)).await?,
        })
    }

    async fn retain(&self, fence: Fence, now: Timestamp, keep: &Retention) -> Result<u64, StoreError> {
        let (mut forgotten, mut after) = (0, None);
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            from = self.transact(fence, |state| state.forget_idempotency(now, &key, RETAIN_BATCH))?;
            tokio::task::yield_now().await;
        }
        loop {
            let workspaces = self.read(move |state| state.workspaces_after(after, RETAIN_BATCH)).await?;
            let Some(last) = workspaces.last() else { break };
            after = Some(last.id);
            for workspace in workspaces {
                let days = keep.days(&workspace);
                forgotten += self.retain_workspace(fence, workspace.id, now, days).await?;
            }
        }
        self.log.reclaim(fence).await?;
        Ok(forgotten)
    }

    async fn verify(&self) -> Result<Verification, StoreError> {
        let mut found = Verification::default();
        let mut after = None;
        loop {
            let look = move |state: &State<L::View>| {
                let next = state.verify(after, VERIFY_BATCH, &mut found)?;
                Ok((found, next))
            };
            (found, after) = self.read(look).await?;
            if after.is_none() {
                break;
            }
        }
        let Some((range, records)) = self.log.records().await else { return Ok(found) };
        let (mut check, mut found) = self.go_on(LogCheck::new(range, records), found).await?;
        if check.misses() {
            // What expired meanwhile says so in a record that may be on its way to the disk still.
            let last = self.state.read().next_sequence() - 1;
            self.log.durable(last).await?;
            (check, found) = self.go_on(check, found).await?;
        }
        check.finish(&mut found);
        Ok(found)
    }

    fn availability(&self) -> Result<(), Unavailable> {
        self.log.availability()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.state.write().close();
        self.log.close().await
    }
}

fn in_scope(scope: Scope, organization: OrganizationId, workspace: WorkspaceId) -> bool {
    match scope {
        Scope::Organization(id) => id == organization,
        Scope::Workspace(id) => id == workspace,
    }
}
