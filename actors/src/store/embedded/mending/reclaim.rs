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
        notes: None,
    }
}

/// Events with a delivery that failed, a rule that passed them by, and a payload of so many bytes.
async fn failed_events(
    home: &Home,
    store: &EmbeddedStore,
    count: usize,
    payload_bytes: usize,
) -> Vec<EventId> {
    let verdict = RuleVerdict { rule_id: RULE, connection_id: CONNECTION, reason: "not active".to_owned() };
    let with_verdict = |id: &EventId| Routed { unmatched: vec![verdict.clone()], ..routed(*id, NOW) };
    let (fence, mut events) = (store.fence(), Vec::new());
    // A few at a time: what is written together lies in one segment.
    while events.len() < count {
        let few = home.append(store, (count - events.len()).min(20), payload_bytes).await;
        store.record_routing(fence, WORKSPACE, few.iter().map(with_verdict).collect()).await.unwrap();
        let attempts = few.iter().map(|id| refused(*id, Next::Failed)).collect();
        store.record_attempts(fence, WORKSPACE, attempts).await.unwrap();
        events.extend(few);
    }
    events
}

/// Forgets these, as if they were past their retention.
pub fn forget(store: &EmbeddedStore, events: Vec<EventId>) {
    let mut state = store.state.write();
    state.commit(Record::Expired { workspace_id: WORKSPACE, events }).unwrap();
    store.log.committed(&mut state);
}

/// Closes the store and opens it again: nothing is in memory, all is in the index.
pub async fn reopen(home: &Home, store: EmbeddedStore) -> EmbeddedStore {
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

/// A segment that is needed whole does not keep all that come after it: the journal stays within a few times
/// of what is needed.
#[tokio::test]
async fn one_segment_that_is_needed_does_not_keep_the_others() {
    let home = Home::new();
    let store = home.open();
    let kept = failed_events(&home, &store, 100, 500).await;
    let gone = failed_events(&home, &store, 1_000, 500).await;
    forget(&store, gone);
    let store = reopen(&home, store).await;
    let before = store.log.reader.segments().len();
    store.log.reclaim(store.fence()).await.unwrap();
    let after = store.log.reader.segments().len();
    assert!(before > 15 && after <= 5, "{before} segments, then {after}");
    for id in &kept {
        assert_readable(&store, *id).await;
    }
    assert_all_there(&store, &kept).await;
    store.close().await.unwrap();
    drop(store);
    fs::remove_dir_all(home.index()).unwrap();
    fs::remove_file(home.path().join("CHECKPOINT")).unwrap();
    assert_all_there(&home.open(), &kept).await;
}

/// What is needed is not carried about for nothing.
#[tokio::test]
async fn what_is_needed_stays_where_it_is() {
    let home = Home::new();
    let store = home.open();
    let mut events = failed_events(&home, &store, 400, 500).await;
    // A third of each segment: not enough for the rest to be carried.
    let gone = events.iter().copied().step_by(3).collect();
    events = events.iter().copied().enumerate().filter(|(at, _)| at % 3 > 0).map(|(_, id)| id).collect();
    forget(&store, gone);
    let store = reopen(&home, store).await;
    let (first, next) = (store.log.reader.first_sequence(), store.state.read().next_sequence());
    store.log.reclaim(store.fence()).await.unwrap();
    let now = (store.log.reader.first_sequence(), store.state.read().next_sequence());
    assert_eq!(now, (first, next));
    assert_all_there(&store, &events).await;
}

/// The largest event can be carried, after as many attempts as are remembered; the newest and their
/// responses stay.
#[tokio::test]
async fn the_largest_event_can_be_carried() {
    let home = Home::new();
    let store = home.open();
    let id = home.append(&store, 1, PAYLOAD_BYTES_MAX).await[0];
    let rules: Vec<_> = (0..1_000).map(|n| RuleId::from_uuid(Uuid::from_u128(100 + n))).collect();
    let matched = |rule_id: &RuleId| Matched {
        rule_id: *rule_id,
        action: "a".repeat(4_000),
        ..routed(id, NOW).matched.remove(0)
    };
    let routing = Routed { matched: rules.iter().map(matched).collect(), ..routed(id, NOW) };
    store.record_routing(store.fence(), WORKSPACE, vec![routing]).await.unwrap();
    for number in 1..=4 {
        let next = Next::Due { at: Timestamp(NOW.0 + number), counts: true };
        let attempts = rules.iter().enumerate().map(|(at, rule)| {
            let mut attempted = refused(id, next);
            attempted.delivery_id = DeliveryId::of(id, *rule);
            attempted.message = "m".repeat(1_000);
            match &mut attempted.response {
                Some(response) if at < 50 => response.body = format!("{number}{}", "b".repeat(16 << 10)),
                response => *response = None,
            }
            attempted
        });
        store.record_attempts(store.fence(), WORKSPACE, attempts.collect()).await.unwrap();
    }
    store.log.carry(store.fence(), WORKSPACE, id).await.unwrap().expect("it is there");
    let found = store.event(SCOPE, id).await.unwrap().expect("it is there");
    assert_eq!(found.deliveries.len(), 1_000);
    for delivery in &found.deliveries {
        assert_eq!((delivery.attempt_count, delivery.attempts.last().unwrap().number), (4, 4));
    }
    let first = DeliveryId::of(id, rules[0]);
    let newest = store.response(SCOPE, id, AttemptId::of(first, 4)).await.unwrap().expect("a response");
    assert!(newest.body.starts_with('4'));
    assert_eq!(store.payload(SCOPE, id).await.unwrap().map(|payload| payload.len()), Some(PAYLOAD_BYTES_MAX));
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
}

/// A verification counts everything once, however many turns it takes, and holds against nobody what is
/// accepted, forgotten or carried meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn verifying_beside_work_finds_nothing_wrong() {
    let home = Home::new();
    let store = home.open();
    let waiting = home.append(&store, 1_500, 10).await;
    let routings = waiting.iter().map(|id| routed(*id, NOW)).collect();
    store.record_routing(store.fence(), WORKSPACE, routings).await.unwrap();
    let found = store.verify().await.unwrap();
    assert_eq!((found.events, found.scheduled, found.faults), (1_500, 1_500, vec![]));

    let mut passing = failed_events(&home, &store, 200, 500).await;
    let store = Arc::new(reopen(&home, store).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let verifier = tokio::spawn({
        let (store, is_over) = (store.clone(), is_over.clone());
        async move {
            let mut rounds = 0;
            while rounds < 2 || !is_over.load(Ordering::Acquire) {
                let found = store.verify().await.unwrap();
                assert_eq!(found.faults, Vec::<String>::new(), "round {rounds}");
                assert!(found.scheduled >= 1_500, "those that wait, and what passes");
                rounds += 1;
            }
        }
    });
    for _ in 0..5 {
        let more = failed_events(&home, &store, 40, 500).await;
        for some in passing.chunks(7) {
            forget(&store, some.to_vec());
            tokio::task::yield_now().await;
        }
        store.log.reclaim(store.fence()).await.unwrap();
        passing = more;
    }
    is_over.store(true, Ordering::Release);
    verifier.await.unwrap();
}
