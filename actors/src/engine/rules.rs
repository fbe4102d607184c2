//! Rules: checked and compiled before they are kept, so that none fails when an event meets it.

use super::{Engine, EngineError, destination, internal, invalid};
use crate::{
    destinations::Destination,
    domain::{
        field::FieldError,
        ids::{ConnectionId, RuleId, WorkspaceId},
        mapping::Schema,
        payload::Json,
        plan::Limit,
        rule::{CompiledRule, Rule},
    },
    store::{Change, Page, Refusal, RuleFilter, Scope},
};
use serde_json::{Map, Value};

/// A rule's action and inputs, as JSON text, at most.
const ACTION_BYTES_MAX: usize = 64 * 1_024;

/// What makes a new rule.
#[derive(Clone, Debug)]
pub struct NewRule {
    pub workspace_id: WorkspaceId,
    pub connection_id: ConnectionId,
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub metadata: Map<String, Value>,
    pub conditions: Option<Value>,
    pub active: bool,
    pub hidden: bool,
    pub created_by: String,
}

/// A change to a rule; what is `None` stays, `Some(None)` removes.
#[derive(Clone, Debug, Default)]
pub struct RulePatch {
    pub event: Option<String>,
    pub resource: Option<Option<String>>,
    pub resource_id: Option<Option<String>>,
    pub metadata: Option<Map<String, Value>>,
    pub conditions: Option<Option<Value>>,
    pub active: Option<bool>,
    pub hidden: Option<bool>,
}

impl Engine {
    /// Makes a rule. Events acknowledged from here on meet it.
    pub async fn create_rule(&self, scope: Scope, new: NewRule) -> Result<Rule, EngineError> {
        let (inner, now) = (&self.0, self.0.clock.now());
        let found = inner.store.workspace(scope, new.workspace_id).await?;
        let workspace = found.ok_or(Refusal::NotFound("workspace"))?;
        let connection = self.stored_connection(Scope::Workspace(workspace.id), new.connection_id).await?;
        let rule = Rule {
            id: RuleId::from_uuid(inner.ids.next(now)),
            organization_id: workspace.organization_id,
            workspace_id: workspace.id,
            connection_id: connection.id,
            kind: connection.kind,
            event: new.event,
            resource: new.resource,
            resource_id: new.resource_id,
            metadata: new.metadata,
            conditions: new.conditions,
            active: new.active,
            hidden: new.hidden,
            created_by: new.created_by,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        check_rule(&rule)?;
        self.check_inputs(&rule).await?;
        let change = Change::CreateRule(rule.clone());
        self.configure_within(rule.organization_id, Limit::Rules, change).await.map_err(of_conditions)?;
        Ok(rule)
    }

    /// Changes a rule. Events acknowledged from here on meet it as it is now. Of two changes at once one is
    /// refused.
    pub async fn update_rule(&self, scope: Scope, id: RuleId, patch: RulePatch) -> Result<Rule, EngineError> {
        let mut rule = self.0.store.rule(scope, id).await?.ok_or(Refusal::NotFound("rule"))?;
        rule.event = patch.event.unwrap_or(rule.event);
        rule.resource = patch.resource.unwrap_or(rule.resource);
        rule.resource_id = patch.resource_id.unwrap_or(rule.resource_id);
        let has_other_action = patch.metadata.is_some();
        rule.metadata = patch.metadata.unwrap_or(rule.metadata);
        rule.conditions = patch.conditions.unwrap_or(rule.conditions);
        rule.active = patch.active.unwrap_or(rule.active);
        rule.hidden = patch.hidden.unwrap_or(rule.hidden);
        rule.updated_at = self.0.clock.now();
        rule.version += 1;
        check_rule(&rule)?;
        if has_other_action {
            self.check_inputs(&rule).await?;
        }
        self.configure(Change::UpdateRule(rule.clone())).await.map_err(of_conditions)?;
        Ok(rule)
    }

    /// Refuses an action that its connection cannot do, or not with these inputs.
    pub(super) async fn check_inputs(&self, rule: &Rule) -> Result<(), EngineError> {
        let scope = Scope::Workspace(rule.workspace_id);
        let connection = self.stored_connection(scope, rule.connection_id).await?;
        let workspace = self.workspace_of(&connection).await?;
        let settings = self.0.vault.open_settings(&workspace, &connection)?;
        let destination = destination(&rule.kind)?;
        let mut errors = destination.check_inputs(&settings, &rule.metadata);
        if let Some(mapping) = rule.metadata.get("mapping").filter(|mapping| !mapping.is_null()) {
            errors.extend(check_mapping(destination, mapping));
        }
        if errors.is_empty() { Ok(()) } else { Err(invalid("metadata", errors)) }
    }

    /// Deletes a rule. Deliveries it made go on.
    pub async fn delete_rule(&self, scope: Scope, id: RuleId) -> Result<Rule, EngineError> {
        let rule = self.0.store.rule(scope, id).await?.ok_or(Refusal::NotFound("rule"))?;
        self.configure(Change::DeleteRule(id)).await?;
        Ok(rule)
    }

    /// A rule.
    pub async fn rule(&self, scope: Scope, id: RuleId) -> Result<Option<Rule>, EngineError> {
        Ok(self.0.store.rule(scope, id).await?)
    }

    /// Rules, oldest first.
    pub async fn rules(
        &self,
        scope: Scope,
        filter: RuleFilter,
        after: Option<RuleId>,
        limit: usize,
    ) -> Result<Page<Rule, RuleId>, EngineError> {
        Ok(self.0.store.rules(scope, filter, after, limit).await?)
    }
}

pub(super) fn check_rule(rule: &Rule) -> Result<(), EngineError> {
    let action = destination(&rule.kind)?.check_action(&rule.metadata);
    action.map_err(|errors| invalid("metadata", errors))?;
    let action_bytes = serde_json::to_vec(&rule.metadata).map_err(internal)?.len();
    if action_bytes > ACTION_BYTES_MAX {
        let msg = format!("must be at most {ACTION_BYTES_MAX} bytes of JSON");
        return Err(EngineError::Invalid(vec![FieldError::new("metadata", msg)]));
    }
    CompiledRule::compile(rule).map(|_| ()).map_err(|err| EngineError::Invalid(vec![err]))
}

/// What is wrong about a rule's own mapping, which takes the place of its connection's.
fn check_mapping(destination: &dyn Destination, mapping: &Value) -> Vec<FieldError> {
    if destination.standard_fields().is_empty() {
        let msg = format!("is not for {}: nothing is mapped there", destination.spec().name);
        return vec![FieldError::new("mapping", msg)];
    }
    let errors = Schema::parse(&Json::from(mapping)).err().unwrap_or_default();
    let named = |err: FieldError| FieldError::new(err.param.replacen("schema", "mapping", 1), err.msg);
    errors.into_iter().map(named).collect()
}

/// Names the field that a refusal of a rule is about.
fn of_conditions(err: EngineError) -> EngineError {
    match err {
        EngineError::Refused(Refusal::TooManyMatches(max)) => EngineError::Invalid(vec![FieldError::new(
            "conditions",
            format!("would bring the workspace beyond its {max} regular expressions (matches)"),
        )]),
        err => err,
    }
}
