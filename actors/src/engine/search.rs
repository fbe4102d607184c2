//! Looking through stored payloads: for an event that somebody remembers a word of, and for those that a
//! rule, not made yet, would have taken.
//!
//! Nothing indexes payloads, so each is read and parsed. That is bounded three ways: in events a request looks
//! at, in time, and in how many look at once. Lists go on by cursor where a bound was met.

use super::{Engine, EngineError};
use crate::{
    domain::{
        event::Event,
        ids::{ConnectionId, EventId, OrganizationId, RuleId, WorkspaceId},
        payload::{Json, is_path},
        routing::RuleSet,
        rule::{CompiledRule, EventPattern, Rule},
        timestamp::Timestamp,
    },
    store::{EventFilter, EventSummary, Page, Scope},
};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

/// Events looked at for one page of a search by payload.
const CANDIDATES_MAX: usize = 10_000;
/// How long one page of a search, and one preview, may take.
const SEARCH_TIME: Duration = Duration::from_secs(2);
const PREVIEW_TIME: Duration = Duration::from_secs(5);
/// Payloads in memory at a time.
const PAYLOADS_A_TURN: usize = 64;
/// Requests that read payloads at a time; others wait.
pub(super) const SCANS_MAX: usize = 2;
/// Things that may be asked of a payload in one search.
pub const PAYLOAD_TESTS_MAX: usize = 10;
/// Examples a preview shows of what matches, and of what does not.
const EXAMPLES_MAX: usize = 5;

/// What the payload must say at a path: that text, or the number or boolean it spells.
#[derive(Clone, Debug)]
pub struct PayloadTest {
    path: String,
    text: String,
    literal: Option<Json<'static>>,
}

impl PayloadTest {
    /// `None`: that is no path.
    pub fn new(path: &str, text: &str) -> Option<Self> {
        let literal = serde_json::from_str::<Value>(text).ok();
        let literal = literal.filter(|value| value.is_number() || value.is_boolean());
        let literal = literal.as_ref().map(Json::from);
        is_path(path).then(|| Self { path: path.to_owned(), text: text.to_owned(), literal })
    }

    fn passes(&self, payload: &Json<'_>) -> bool {
        payload.at_path(&self.path).is_some_and(|found| {
            found.as_str() == Some(&self.text) || self.literal.as_ref().is_some_and(|it| it.says(found))
        })
    }
}

/// A rule that is not made yet, as far as it decides what matches.
#[derive(Clone, Debug)]
pub struct Draft {
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub conditions: Option<Value>,
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
}

type Found = (EventSummary, Option<Bytes>);

impl Engine {
    /// Events that pass a filter and whose payload passes all tests, newest first. Without tests it is
    /// [`Self::events`]. A page may hold fewer than `limit` and still have a next one.
    pub async fn search(
        &self,
        scope: Scope,
        filter: EventFilter,
        tests: Vec<PayloadTest>,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<EventSummary, EventId>, EngineError> {
        if tests.is_empty() {
            return self.events(scope, filter, after, limit).await;
        }
        let (tests, until) = (Arc::new(tests), Instant::now() + SEARCH_TIME);
        let (mut page, mut looked_at) = (Page { records: Vec::new(), next: after }, 0);
        loop {
            let found = self.payloads(scope, &filter, page.next, PAYLOADS_A_TURN).await?;
            looked_at += found.records.len();
            page.next = found.next;
            let tests = tests.clone();
            let passing = off_the_threads(move || {
                let passes = |(_, payload): &Found| {
                    let payload = payload.as_deref().map(Json::parse);
                    payload.is_some_and(|read| {
                        read.is_ok_and(|payload| tests.iter().all(|test| test.passes(&payload)))
                    })
                };
                found.records.into_iter().filter(passes).map(|(summary, _)| summary).collect::<Vec<_>>()
            });
            for summary in passing.await? {
                if page.records.len() == limit {
                    page.next = page.records.last().map(|last: &EventSummary| last.event.id);
                    return Ok(page);
                }
                page.records.push(summary);
            }
            let is_enough = page.records.len() == limit || looked_at >= CANDIDATES_MAX;
            if page.next.is_none() || is_enough || Instant::now() >= until {
                return Ok(page);
            }
        }
    }

    /// What a draft would have made of the workspace's last events: of those of its name, where it has one.
    pub async fn preview(
        &self,
        organization_id: OrganizationId,
        workspace_id: WorkspaceId,
        draft: Draft,
        last: usize,
    ) -> Result<Preview, EngineError> {
        let rule = rule_of(organization_id, workspace_id, draft);
        let compiled = CompiledRule::compile(&rule).map_err(|err| EngineError::Invalid(vec![err]))?;
        let name = match compiled.pattern {
            EventPattern::Name(name) => Some(name),
            EventPattern::Pattern(_) => None,
        };
        let filter = EventFilter { event: name, ..EventFilter::default() };
        let (scope, until) = (Scope::Workspace(workspace_id), Instant::now() + PREVIEW_TIME);
        let (rules, wanted) = (Arc::new(RuleSet::compile(vec![rule.clone()])), Arc::<str>::from(rule.event));
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
                    preview.count(summary.event, verdict);
                }
                preview
            })
            .await?;
            after = found.next;
            if after.is_none() {
                break;
            }
        }
        Ok(preview)
    }

    /// A turn's events with their payloads.
    async fn payloads(
        &self,
        scope: Scope,
        filter: &EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<Found, EventId>, EngineError> {
        let _turn = self.0.scans.acquire().await.map_err(super::internal)?;
        Ok(self.0.store.events_with_payloads(scope, filter.clone(), after, limit).await?)
    }
}

impl Preview {
    fn count(&mut self, event: Event, verdict: Result<(), String>) {
        self.looked_at += 1;
        let (count, examples, why) = match verdict {
            Ok(()) => (&mut self.matched, &mut self.matches, "all that the rule asks for holds".to_owned()),
            Err(why) => (&mut self.unmatched, &mut self.misses, why),
        };
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(Example { event, why });
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

/// Work that takes the processor for a while.
async fn off_the_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    spawn_blocking(work).await.map_err(super::internal)
}

fn rule_of(organization_id: OrganizationId, workspace_id: WorkspaceId, draft: Draft) -> Rule {
    Rule {
        id: RuleId::from_uuid(Uuid::nil()),
        organization_id,
        workspace_id,
        connection_id: ConnectionId::from_uuid(Uuid::nil()),
        kind: String::new(),
        event: draft.event,
        resource: draft.resource,
        resource_id: draft.resource_id,
        metadata: Map::new(),
        conditions: draft.conditions,
        active: true,
        hidden: false,
        created_by: String::new(),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        version: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_of_a_payload_knows_text_numbers_and_booleans() {
        let payload =
            br#"{"email":"ada@example.com","n":5,"deep":{"list":[{"ok":true}]},"s":"5","none":null}"#;
        let payload = Json::parse(payload).expect("JSON");
        #[rustfmt::skip]
        let cases = [
            ("email",           "ada@example.com",  true),
            ("email",           "Ada@example.com",  false),
            ("n",               "5",                true),
            ("n",               "5.0",              true),
            ("n",               "6",                false),
            ("s",               "5",                true),
            ("s",               "5.0",              false),
            ("deep.list.0.ok",  "true",             true),
            ("deep.list.1.ok",  "true",             false),
            ("deep",            "{}",               false),
            ("none",            "null",             false),
            ("missing",         "",                 false),
        ];
        for (path, text, expected) in cases {
            let test = PayloadTest::new(path, text).expect("a path");
            assert_eq!(test.passes(&payload), expected, "{path}={text}");
        }
        for no_path in ["", ".", "a..b", "0a", "a b", "a.", "$.a"] {
            assert!(PayloadTest::new(no_path, "x").is_none(), "{no_path}");
        }
    }
}
