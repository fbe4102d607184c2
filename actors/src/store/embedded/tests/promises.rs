//! What is promised of keys, of the clock, and of who owns the store; also across a restart.

use super::*;
use crate::store::embedded::mending::{Home, NOW, ORGANIZATION, WORKSPACE};
use futures_util::future::join_all;
use std::time::Duration;

/// An event under an idempotency key.
fn keyed(home: &Home, at: Timestamp, body: u8) -> NewEvent {
    let idempotency = Idempotency { key: "order-1".to_owned(), fingerprint: [body; 32] };
    NewEvent { idempotency: Some(idempotency), ..home.event(WORKSPACE, at, 100) }
}

async fn append_one(store: &EmbeddedStore, new: NewEvent) -> Result<Appended, StoreError> {
    store.append_events(store.fence(), vec![new]).await.remove(0)
}

/// I5: requests with one key make one event, however many come at once; also across a restart, and also
/// without an index. Another body under the same key is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_makes_one_event() {
    let home = Home::new();
    let store = Arc::new(home.open());
    let requests = (0..16).map(|_| {
        let (store, new) = (store.clone(), keyed(&home, NOW, 1));
        tokio::spawn(async move { (new.event.id, append_one(&store, new).await) })
    });
    let answers: Vec<_> = join_all(requests).await.into_iter().map(Result::unwrap).collect();
    let made: Vec<_> = answers.iter().filter(|(_, answer)| *answer == Ok(Appended::New)).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    let first = made[0].0;
    let repeats_first = |answer: &Result<Appended, StoreError>| matches!(answer, Ok(Appended::Repeated(event)) if event.id == first);
    assert_eq!(answers.iter().filter(|(_, answer)| repeats_first(answer)).count(), 15, "{answers:?}");
    drop(store);

    for without_index in [false, true] {
        if without_index {
            INDEX.iter().for_each(|name| remove(&home.path().join(name)));
        }
        let store = home.open();
        let day = Duration::from_secs(24 * 3_600 - 1);
        assert!(repeats_first(&append_one(&store, keyed(&home, NOW.after(day), 1)).await));
        let other_body = append_one(&store, keyed(&home, NOW, 2)).await;
        assert_eq!(other_body, Err(Refusal::IdempotencyMismatch.into()));
        let page = store.events(Scope::Workspace(WORKSPACE), EventFilter::default(), None, 10).await.unwrap();
        assert_eq!(page.records.iter().map(|found| found.event.id).collect::<Vec<_>>(), [first]);
    }
    let store = home.open();
    let two_days = NOW.after(Duration::from_secs(48 * 3_600));
    assert_eq!(
        append_one(&store, keyed(&home, two_days, 2)).await,
        Ok(Appended::New),
        "it is forgotten by then"
    );
}

/// I5: a batch that repeats itself stands for the events it names, and a key is one workspace's own.
#[tokio::test]
async fn a_batch_may_repeat_itself_and_workspaces_share_no_keys() {
    let home = Home::new();
    let store = home.open();
    let [first, again, other] = [1, 1, 2].map(|body| keyed(&home, NOW, body));
    let mut elsewhere = keyed(&home, NOW, 2);
    elsewhere.event.workspace_id = WorkspaceId::from_uuid(uuid::Uuid::from_u128(99));
    let repeated = Appended::Repeated(Box::new(first.event.clone()));
    let answers = store.append_events(store.fence(), vec![first, again, other, elsewhere]).await;
    let mismatch = Err(Refusal::IdempotencyMismatch.into());
    assert_eq!(answers, [Ok(Appended::New), Ok(repeated), mismatch, Ok(Appended::New)]);
}

/// I16: the latest time on record is known after a restart, so that a clock that was set back is noticed.
#[tokio::test]
async fn the_latest_time_on_record_outlives_a_restart() {
    let home = Home::new();
    let earlier = NOW.before(Duration::from_secs(24 * 3_600));
    let store = home.open();
    assert_eq!(store.latest(), Timestamp(0), "nothing is on record");
    for at in [NOW, earlier] {
        append_one(&store, home.event(WORKSPACE, at, 10)).await.unwrap();
        assert_eq!(store.latest(), NOW);
    }
    drop(store);
    for without_index in [false, true] {
        if without_index {
            INDEX.iter().for_each(|name| remove(&home.path().join(name)));
        }
        let store = home.open();
        assert_eq!(store.latest(), NOW, "without an index: {without_index}");
        append_one(&store, home.event(WORKSPACE, earlier, 10)).await.unwrap();
        assert_eq!(store.latest(), NOW);
    }
}

/// I14: one process at a time. A directory that is in use does not open, and who held it before writes no more.
#[tokio::test]
async fn a_store_has_one_owner() {
    let home = Home::new();
    let store = home.open();
    let old = store.fence();
    let second = home.try_open(false).map(drop).unwrap_err();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
    assert!(second.to_string().contains("in use by another process"), "{second}");
    append_one(&store, home.event(WORKSPACE, NOW, 10)).await.unwrap();
    store.close().await.unwrap();
    let closing = Err(StoreError::Unavailable(Unavailable::Closing));
    assert_eq!(append_one(&store, home.event(WORKSPACE, NOW, 10)).await, closing);
    drop(store);

    let store = home.open();
    assert!(store.fence() > old);
    let new = home.event(WORKSPACE, NOW, 10);
    assert_eq!(store.append_events(old, vec![new]).await, [Err(StoreError::Fenced)]);
    let change =
        Change::CreateOrganization(Organization { id: ORGANIZATION, name: "x".to_owned(), created_at: NOW });
    assert_eq!(store.configure(old, change, None).await, Err(StoreError::Fenced));
    assert_eq!(store.organization(ORGANIZATION).await, Ok(None));
    assert_eq!(store.verify().await.unwrap().events, 1, "what was refused left nothing");
}
