//! Looking through stored payloads for an event that somebody remembers a word of.
//!
//! Nothing indexes payloads, so each is read and parsed. That is bounded three ways: in events a request looks
//! at, in time, and in how many look at once. Lists go on by cursor where a bound was met.

use super::{Engine, EngineError};
use crate::{
    domain::{
        ids::EventId,
        payload::{Json, is_path},
    },
    store::{EventFilter, EventSummary, Page, Scope},
};
use bytes::Bytes;
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;

/// Events looked at for one page of a search by payload.
const CANDIDATES_MAX: usize = 10_000;
/// How long one page of a search may take.
const SEARCH_TIME: Duration = Duration::from_secs(2);
/// Payloads in memory at a time.
pub(super) const PAYLOADS_A_TURN: usize = 64;
/// Requests that read payloads at a time; others wait.
pub(super) const SCANS_MAX: usize = 2;
/// Things that may be asked of a payload in one search.
pub const PAYLOAD_TESTS_MAX: usize = 10;

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

pub(super) type Found = (EventSummary, Option<Bytes>);

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

    /// A turn's events with their payloads.
    pub(super) async fn payloads(
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

/// Work that takes the processor for a while.
pub(super) async fn off_the_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    spawn_blocking(work).await.map_err(super::internal)
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
