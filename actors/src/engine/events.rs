//! Events on their way in, what became of them, and what a person does about it.

use super::{
    Engine, EngineError, Inner,
    plans::{LetIn, with_settled},
    seen_through::SeenThrough,
};
use crate::{
    domain::{
        delivery::{Attempt, Delivery, ResponseDetails},
        event::{Event, RESOURCE_DEFAULT},
        ids::{AttemptId, EventId, OrganizationId, RuleId, WorkspaceId},
    },
    store::{
        Appended, EventDetails, EventFilter, EventSummary, Idempotency, NewEvent, Page, Scope, StoreError,
    },
};
use bytes::Bytes;

/// An event as a caller sends it, its form already checked.
#[derive(Clone, Debug)]
pub struct IngestRequest {
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    /// `global` where absent.
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub payload: Bytes,
    pub created_by: String,
    pub idempotency: Option<Idempotency>,
}

impl Engine {
    /// Puts events on disk, in order, and wakes who routes them. The answer is the event as accepted
    /// (of the first request, when an idempotency key repeats).
    pub async fn ingest(&self, requests: Vec<IngestRequest>) -> Vec<Result<Event, EngineError>> {
        let inner = &self.0;
        let now = inner.clock.now();
        let mut news = Vec::with_capacity(requests.len());
        for request in requests {
            let event = Event {
                id: EventId::from_uuid(inner.ids.next(now)),
                organization_id: request.organization_id,
                workspace_id: request.workspace_id,
                name: request.name,
                resource: request.resource.unwrap_or_else(|| RESOURCE_DEFAULT.to_owned()),
                resource_id: request.resource_id,
                created_by: request.created_by,
                accepted_at: now,
            };
            news.push(NewEvent { event, payload: request.payload, idempotency: request.idempotency });
        }
        self.accept(news).await
    }

    /// Puts events on disk and wakes who routes them, whether or not anybody waits for the answer.
    pub(super) async fn accept(&self, news: Vec<NewEvent>) -> Vec<Result<Event, EngineError>> {
        let count = news.len();
        let (news, let_in) = match self.let_in(news).await {
            Ok(let_in) => let_in,
            Err(err) => return (0..count).map(|_| Err(err.clone().into())).collect(),
        };
        let events: Vec<_> = news.iter().map(|new| new.event.clone()).collect();
        let (engine, LetIn { settled, taken }) = (self.clone(), let_in);
        let appended = SeenThrough::new(async move {
            let inner = &engine.0;
            let workspaces: Vec<_> = news.iter().map(|new| new.event.workspace_id).collect();
            let appended = inner.store.append_events(inner.fence, news).await;
            let accepted = appended.iter().filter(|appended| matches!(appended, Ok(Appended::New))).count();
            metrics::counter!("weft_events_accepted_total").increment(accepted as u64);
            engine.wake_for(&workspaces, &appended);
            engine.went_in(taken, &appended);
            appended
        });
        let answers = events.into_iter().zip(appended.await).map(|(event, appended)| match appended {
            Ok(Appended::New) => Ok(event),
            Ok(Appended::Repeated(first)) => Ok(*first),
            Err(err) => Err(err.into()),
        });
        with_settled(settled, answers)
    }

    /// Wakes who routes what was accepted. What failed may be on disk all the same; only what was
    /// refused is not.
    fn wake_for(&self, workspaces: &[WorkspaceId], appended: &[Result<Appended, StoreError>]) {
        let Some(tree) = &self.0.tree else { return };
        let mut woken = None;
        for (workspace, appended) in workspaces.iter().zip(appended) {
            if woken != Some(*workspace) && !matches!(appended, Err(StoreError::Refused(_))) {
                woken = Some(*workspace);
                tree.wake(*workspace);
            }
        }
    }

    /// Events, newest first.
    pub async fn events(
        &self,
        scope: Scope,
        filter: EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<EventSummary, EventId>, EngineError> {
        Ok(self.0.store.events(scope, filter, after, limit).await?)
    }

    /// An event with all that became of it.
    pub async fn event(&self, scope: Scope, id: EventId) -> Result<Option<EventDetails>, EngineError> {
        Ok(self.0.store.event(scope, id).await?)
    }

    /// An event's payload, byte for byte.
    pub async fn payload(&self, scope: Scope, id: EventId) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.store.payload(scope, id).await?)
    }

    /// Makes a delivery due now. `rule` may also be the delivery's own id. Refused where nothing would
    /// be sent: its connection is inactive or was deleted. A paused one keeps it until it is resumed.
    pub async fn retry(&self, scope: Scope, event: EventId, rule: RuleId) -> Result<Delivery, EngineError> {
        let engine = self.clone();
        let retried = SeenThrough::new(async move {
            let (Inner { store, fence, clock, tree, .. }, act) = (&*engine.0, engine.act());
            let retried = store.retry(*fence, scope, event, rule, clock.now(), Some(act)).await;
            let queued = match &retried {
                Ok(delivery) => Some(delivery.clone()),
                // It may be due all the same.
                Err(StoreError::Unavailable(_)) => engine.delivery(scope, event, rule).await.ok().flatten(),
                Err(_) => None,
            };
            if let (Some(tree), Some(delivery)) = (tree, queued) {
                tree.queued(delivery.workspace_id, delivery.connection_id);
            }
            retried
        });
        Ok(retried.await?)
    }

    /// Calls off one rule's delivery, or all that are not final. An attempt in flight ends naturally.
    pub async fn cancel(
        &self,
        scope: Scope,
        event: EventId,
        rule: Option<RuleId>,
    ) -> Result<EventDetails, EngineError> {
        let (inner, act) = (&self.0, self.act());
        Ok(inner.store.cancel(inner.fence, scope, event, rule, inner.clock.now(), Some(act)).await?)
    }

    /// The attempts kept of a delivery, oldest first, each with its id.
    pub async fn attempts(
        &self,
        scope: Scope,
        event: EventId,
        rule: RuleId,
    ) -> Result<Option<(Delivery, Vec<(AttemptId, Attempt)>)>, EngineError> {
        Ok(self.delivery(scope, event, rule).await?.map(|delivery| {
            let with_id = |attempt: &Attempt| (AttemptId::of(delivery.id, attempt.number), attempt.clone());
            let attempts = delivery.attempts.iter().map(with_id).collect();
            (delivery, attempts)
        }))
    }

    /// One rule's delivery of an event.
    async fn delivery(
        &self,
        scope: Scope,
        event: EventId,
        rule: RuleId,
    ) -> Result<Option<Delivery>, StoreError> {
        let Some(details) = self.0.store.event(scope, event).await? else { return Ok(None) };
        let is_it =
            |delivery: &Delivery| delivery.rule_id == rule || delivery.id.as_bytes() == rule.as_bytes();
        Ok(details.deliveries.into_iter().find(is_it))
    }

    /// The response kept of a failed attempt.
    pub async fn response(
        &self,
        scope: Scope,
        event: EventId,
        attempt: AttemptId,
    ) -> Result<Option<ResponseDetails>, EngineError> {
        Ok(self.0.store.response(scope, event, attempt).await?)
    }
}
