//! Trying a rule out: an event of its own, through everything a real one goes through.

use super::{Engine, EngineError, IngestRequest};
use crate::{
    domain::{
        event::{Event, RESOURCE_DEFAULT},
        ids::{EventId, RuleId},
    },
    store::{Change, NewEvent},
};

/// What a test says where nothing else is given: what most rules look for in a contact.
pub const SAMPLE_PAYLOAD: &str = r#"{"id":"test-1","email":"ada@example.com","name":"Ada Lovelace","first_name":"Ada","last_name":"Lovelace","phone":"+15555550100","ip_address":"192.0.2.1","resource_url":"https://example.com/contacts/test-1"}"#;

/// What stands for a `*` of a rule's pattern in the name of its test.
const SAMPLE_SEGMENT: &str = "test";

/// A test.
#[derive(Clone, Debug)]
pub struct Trial {
    pub request: IngestRequest,
    /// It is to meet this rule alone.
    pub rule: Option<RuleId>,
}

impl Engine {
    /// Accepts a test event as any other, and marks it as one. It meets the rules as they are now; of a rule
    /// that is not active or whose conditions do not hold, what became of the event says so.
    pub async fn test(&self, trial: Trial) -> Result<Event, EngineError> {
        let Trial { request, rule } = trial;
        let (inner, workspace_id, now) = (&self.0, request.workspace_id, self.0.clock.now());
        let event = Event {
            id: EventId::of_test(inner.ids.next(now)),
            organization_id: request.organization_id,
            workspace_id,
            name: request.name,
            resource: request.resource.unwrap_or_else(|| RESOURCE_DEFAULT.to_owned()),
            resource_id: request.resource_id,
            created_by: request.created_by,
            accepted_at: now,
        };
        if let Some(rule_id) = rule {
            // Before the event: from the moment that one is on disk it is routed.
            self.configure(Change::TestOne { workspace_id, event_id: event.id, rule_id }).await?;
        }
        let accepted =
            self.accept(vec![NewEvent { event, payload: request.payload, idempotency: None }]).await;
        accepted
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(EngineError::Internal("no answer to an event".into())))
    }
}

/// A name that a rule for this name or pattern is for.
pub fn sample_name(pattern: &str) -> String {
    let segment = |segment| if segment == "*" { SAMPLE_SEGMENT } else { segment };
    pattern.split('.').map(segment).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{payload::parse_event, rule::EventPattern};

    #[test]
    fn a_pattern_is_for_its_sample() {
        for (pattern, expected) in
            [("a.b", "a.b"), ("*", "test"), ("invoice.*", "invoice.test"), ("*.x.*", "test.x.test")]
        {
            assert_eq!(sample_name(pattern), expected);
            assert!(EventPattern::parse(pattern).expect(pattern).matches(expected), "{pattern}");
        }
    }

    #[test]
    fn the_sample_is_an_event_that_would_be_accepted() {
        let body = format!(r#"{{"event":"a.b","payload":{SAMPLE_PAYLOAD}}}"#);
        assert_eq!(parse_event(body.as_bytes()).expect("an event").payload, SAMPLE_PAYLOAD.as_bytes());
    }
}
