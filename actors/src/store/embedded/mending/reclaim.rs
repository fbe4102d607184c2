//! Space is given back, and nobody who reads meanwhile is told that something is not there.

use super::*;
use crate::{
    domain::{
        delivery::{Next, Outcome, ResponseDetails},
        ids::AttemptId,
    },
    store::state::record::Record,
};
use std::sync::atomic::{AtomicBool, Ordering};

const SCOPE: Scope = Scope::Workspace(WORKSPACE);

/// A failed attempt, with what came back.
fn refused(event: EventId, next: Next) -> Attempted {
    let response = ResponseDetails {
        status: 422,
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: format!("no to {event}"),
        truncated: false,
    };
    Attempted {
        delivery_id: DeliveryId::of(event, RULE),
        event_id: event,
        started_at: NOW,
        finished_at: NOW,
        outcome: Outcome::RejectedClientError,
        http_status: Some(422),
        message: "the endpoint answered 422".to_owned(),
        response: Some(response),
        next,
    }
}

/// Events with a delivery that failed, a rule that passed them by, and a payload of so many bytes.
async fn failed_events(
    home: &Home,
    store: &EmbeddedStore,
    count: usize,
    payload_bytes: usize,
) -> Vec<EventId> {
    let events = home.append(store, count, payload_bytes).await;
    let verdict = RuleVerdict { rule_id: RULE, connection_id: CONNECTION, reason: "not active".to_owned() };
    let with_verdict = |id: &EventId| Routed { unmatched: vec![verdict.clone()], ..routed(*id, NOW) };
    let fence = store.fence();
    store.record_routing(fence, WORKSPACE, events.iter().map(with_verdict).collect()).await.unwrap();
    let attempts = events.iter().map(|id| refused(*id, Next::Failed)).collect();
    store.record_attempts(fence, WORKSPACE, attempts).await.unwrap();
    events
}

/// Forgets these, as if they were past their retention.
fn forget(store: &EmbeddedStore, events: Vec<EventId>) {
    let mut state = store.state.write();
    state.commit(Record::Expired { workspace_id: WORKSPACE, events }).unwrap();
    store.log.committed(&mut state);
}

/// Closes the store and opens it again: nothing is in memory, all is in the index.
async fn reopen(home: &Home, store: EmbeddedStore) -> EmbeddedStore {
    store.close().await.unwrap();
    drop(store);
    home.open()
}

/// All that was kept of one of those can be read.
async fn assert_readable(store: &EmbeddedStore, id: EventId) {
    let payload = store.payload(SCOPE, id).await.unwrap().expect("a payload");
    assert_eq!(payload.len(), 500);
    let found = store.event(SCOPE, id).await.unwrap().expect("an event");
    assert_eq!(found.unmatched.len(), 1, "why a rule passed it by");
    let attempt = AttemptId::of(DeliveryId::of(id, RULE), 1);
    let response = store.response(SCOPE, id, attempt).await.unwrap().expect("a response");
    assert_eq!(response.body, format!("no to {id}"));
}

/// I14: while a segment is carried forward and dropped, all that is kept can be read at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_is_carried_can_be_read_all_the_while() {
    let home = Home::new();
    let store = home.open();
    let mut events = failed_events(&home, &store, 400, 500).await;
    let (kept, gone) = (events.split_off(300), events);
    forget(&store, gone);
    let store = Arc::new(reopen(&home, store).await);
    let first = store.log.reader.first_sequence();
    let is_over = Arc::new(AtomicBool::new(false));
    let readers = (0..2).map(|reader| {
        let (store, is_over, kept) = (store.clone(), is_over.clone(), kept.clone());
        tokio::spawn(async move {
            let mut rounds = 0;
            while rounds == 0 || !is_over.load(Ordering::Acquire) {
                for id in kept.iter().skip(reader) {
                    assert_readable(&store, *id).await;
                }
                rounds += 1;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    store.log.reclaim(store.fence()).await.unwrap();
    is_over.store(true, Ordering::Release);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(store.log.reader.first_sequence() > first, "segments went meanwhile");
    assert_all_there(&store, &kept).await;
}

/// I14: what was carried this very moment is not on disk yet, and can be read all the same.
#[tokio::test]
async fn what_was_just_carried_can_be_read() {
    let home = Home::new();
    let store = home.open();
    let events = failed_events(&home, &store, 3, 500).await;
    let store = reopen(&home, store).await;
    for id in events {
        store.log.carry(store.fence(), WORKSPACE, id).await.unwrap().expect("it is there");
        assert_readable(&store, id).await;
    }
}
