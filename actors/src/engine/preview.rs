//! What a rule, not made yet, would have made of the events that are there, and what it would have sent.

use super::{
    Engine, EngineError,
    rules::check_rule,
    search::{PAYLOADS_A_TURN, off_the_threads},
};
use crate::{
    destinations::{Prepared, outgoing::Outgoing, planned::Planned},
    domain::{
        delivery::Report,
        event::Event,
        ids::{ConnectionId, DeliveryId, OrganizationId, RuleId, WorkspaceId},
        routing::RuleSet,
        rule::{CompiledRule, EventPattern, Rule},
        timestamp::Timestamp,
    },
    store::{EventFilter, Scope},
};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How long one preview may take.
const PREVIEW_TIME: Duration = Duration::from_secs(5);
/// The time that an attempt is told it has. Nothing is waited for.
const PLAN_TIME: Duration = Duration::from_secs(1);
/// Examples shown of what matches, and of what does not.
const EXAMPLES_MAX: usize = 5;

/// A rule that is not made yet, as far as it decides what matches.
#[derive(Clone, Debug)]
pub struct Draft {
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub conditions: Option<Value>,
    /// What it would do, if that is to be told too.
    pub action: Option<DraftAction>,
}

/// An action, and where.
#[derive(Clone, Debug)]
pub struct DraftAction {
    pub connection_id: ConnectionId,
    /// As a rule has it.
    pub metadata: Map<String, Value>,
}

/// What a draft would have done.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    pub looked_at: usize,
    pub matched: usize,
    pub unmatched: usize,
    /// Not all that was asked for was looked at: it took too long.
    pub is_cut: bool,
    pub matches: Vec<Example>,
    pub misses: Vec<Example>,
}

/// One event, and why a draft would take it or not.
#[derive(Clone, Debug)]
pub struct Example {
    pub event: Event,
    pub why: String,
    /// What would be sent, or how that would fail before anything is; of what matches a draft with an action.
    pub planned: Option<Result<Planned, Report>>,
    payload: Option<Bytes>,
}

impl Engine {
    /// What a draft would have made of the workspace's last events: of those of its name, where it has one.
    pub async fn preview(
        &self,
        organization_id: OrganizationId,
        workspace_id: WorkspaceId,
        draft: Draft,
        last: usize,
    ) -> Result<Preview, EngineError> {
        let (scope, until) = (Scope::Workspace(workspace_id), Instant::now() + PREVIEW_TIME);
        let mut rule = rule_of(organization_id, workspace_id, &draft);
        let prepared = match draft.action {
            Some(action) => Some(self.prepared(scope, &mut rule, action).await?),
            None => None,
        };
        let compiled = CompiledRule::compile(&rule).map_err(|err| EngineError::Invalid(vec![err]))?;
        let name = match compiled.pattern {
            EventPattern::Name(name) => Some(name),
            EventPattern::Pattern(_) => None,
        };
        let filter = EventFilter { event: name, ..EventFilter::default() };
        let rules = Arc::new(RuleSet::compile(vec![rule.clone()]));
        let wanted = Arc::<str>::from(&rule.event[..]);
        let (mut preview, mut after) = (Preview::default(), None);
        while preview.looked_at < last {
            if Instant::now() >= until {
                preview.is_cut = true;
                break;
            }
            let limit = PAYLOADS_A_TURN.min(last - preview.looked_at);
            let found = self.payloads(scope, &filter, after, limit).await?;
            let (rules, wanted) = (rules.clone(), wanted.clone());
            preview = off_the_threads(move || {
                for (summary, payload) in found.records {
                    let verdict = judge(&rules, &wanted, &summary.event, payload.as_deref());
                    preview.count(summary.event, payload, verdict);
                }
                preview
            })
            .await?;
            after = found.next;
            if after.is_none() {
                break;
            }
        }
        if let Some(prepared) = prepared {
            let metadata = Value::Object(rule.metadata).to_string();
            for example in &mut preview.matches {
                let planned = self.planned(&*prepared, example, &metadata, rule.id).await;
                example.planned = Some(planned);
            }
        }
        Ok(preview)
    }

    /// The connection that a draft names, ready to be asked what it would send. The rule becomes one for it.
    async fn prepared(
        &self,
        scope: Scope,
        rule: &mut Rule,
        action: DraftAction,
    ) -> Result<Arc<dyn Prepared>, EngineError> {
        let connection = self.stored_connection(scope, action.connection_id).await?;
        (rule.connection_id, rule.metadata) = (connection.id, action.metadata);
        rule.kind.clone_from(&connection.kind);
        check_rule(rule)?;
        self.check_inputs(rule).await?;
        self.ready(&connection).await
    }

    async fn planned(
        &self,
        prepared: &dyn Prepared,
        example: &Example,
        metadata: &str,
        rule_id: RuleId,
    ) -> Result<Planned, Report> {
        let payload = example.payload.clone().unwrap_or_default();
        let out = Outgoing {
            event: &example.event,
            payload: &payload,
            delivery_id: DeliveryId::of(example.event.id, rule_id),
            attempt: 1,
            sent_at: self.0.clock.wall(),
            action: metadata,
            notes: None,
            timeout: PLAN_TIME,
        };
        prepared.plan(&out).await
    }
}

impl Preview {
    fn count(&mut self, event: Event, payload: Option<Bytes>, verdict: Result<(), String>) {
        self.looked_at += 1;
        let (count, examples, why) = match verdict {
            Ok(()) => (&mut self.matched, &mut self.matches, "all that the rule asks for holds".to_owned()),
            Err(why) => (&mut self.unmatched, &mut self.misses, why),
        };
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(Example { event, why, planned: None, payload });
        }
    }
}

fn judge(rules: &RuleSet, wanted: &str, event: &Event, payload: Option<&[u8]>) -> Result<(), String> {
    let payload = payload.ok_or("the payload cannot be read any more")?;
    let routing = rules.route(event, payload);
    match routing.unmatched.into_iter().next() {
        _ if !routing.matched.is_empty() => Ok(()),
        Some(verdict) => Err(verdict.reason),
        None => Err(format!("event is {:?}, the rule wants {wanted:?}", event.name)),
    }
}

fn rule_of(organization_id: OrganizationId, workspace_id: WorkspaceId, draft: &Draft) -> Rule {
    Rule {
        id: RuleId::from_uuid(Uuid::nil()),
        organization_id,
        workspace_id,
        connection_id: ConnectionId::from_uuid(Uuid::nil()),
        kind: String::new(),
        event: draft.event.clone(),
        resource: draft.resource.clone(),
        resource_id: draft.resource_id.clone(),
        metadata: Map::new(),
        conditions: draft.conditions.clone(),
        active: true,
        hidden: false,
        created_by: String::new(),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        version: 0,
    }
}
