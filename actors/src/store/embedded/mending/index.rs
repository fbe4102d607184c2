//! An index that cannot be relied on any more is built again, and says so.

use super::*;
use futures_util::FutureExt;
use std::{os::unix::fs::FileExt, panic::AssertUnwindSafe};

/// I13: a failed sync of the index is never followed by one that says all is well: nothing vouches for
/// the index any more, no segment of the journal goes, and the next start builds the index again.
#[tokio::test]
async fn after_a_failed_sync_nothing_vouches_for_the_index() {
    let home = Home::new();
    let store = home.open();
    let mut events = home.append(&store, 10, 2_000).await;
    store.close().await.unwrap();
    drop(store);
    assert!(home.has_checkpoint());

    let store = home.open();
    home.disk.fail_syncs_below(&home.index());
    for _ in 0..20 {
        events.extend(home.append(&store, 10, 2_000).await);
    }
    until("the failed sync is noticed", || !home.has_checkpoint()).await;
    home.disk.heal();
    events.extend(home.append(&store, 10, 2_000).await);
    let segments = store.log.reader.segments().len();
    assert!(segments > 3, "there is something to reclaim");
    let routings = events.iter().map(|id| Routed { matched: Vec::new(), ..routed(*id, NOW) }).collect();
    store.record_routing(store.fence(), WORKSPACE, routings).await.unwrap();
    store.log.reclaim(store.fence()).await.unwrap();
    assert!(store.log.reader.segments().len() >= segments, "what the index may have lost is kept");
    store.close().await.unwrap();
    drop(store);
    assert!(!home.has_checkpoint(), "closing vouches for nothing either");

    let store = home.open();
    assert!(home.said().contains("built again"), "{}", home.said());
    assert_all_there(&store, &events).await;
    store.close().await.unwrap();
    assert!(home.has_checkpoint(), "the new one is a sound one");
}

/// I14: what cannot be read in the index is damage for one run, not for all: the next start builds it again.
#[tokio::test]
async fn damage_met_while_running_does_not_outlive_a_restart() {
    let home = Home::new();
    let store = home.open();
    let mut events = Vec::new();
    for _ in 0..20 {
        events.extend(home.append(&store, 100, 10).await);
    }
    store.close().await.unwrap();
    drop(store);

    let store = home.open();
    let db = fs::OpenOptions::new().write(true).open(home.index().join("db")).unwrap();
    let length = db.metadata().unwrap().len();
    db.write_all_at(&vec![0xa5; length as usize], 0).unwrap();
    let mut unreadable = 0;
    for id in &events {
        let look = AssertUnwindSafe(store.event(Scope::Workspace(WORKSPACE), *id)).catch_unwind();
        unreadable += u32::from(!matches!(look.await, Ok(Ok(Some(_)))));
    }
    assert!(unreadable > 0, "the damage is meant to be met");
    assert!(!home.has_checkpoint(), "{unreadable} events cannot be read");
    drop(store);

    let store = home.open();
    assert!(home.said().contains("built again"), "{}", home.said());
    assert_all_there(&store, &events).await;
}

/// I17, I14: a thread that dies closes the store at once, whatever it was in the middle of; nothing
/// that was acknowledged is lost.
#[tokio::test]
async fn a_panic_beside_the_index_closes_the_store() {
    let home = Home::new();
    let store = home.open();
    let events = home.append(&store, 100, 10).await;
    home.disk.panic_at(&home.index());
    until("the store is closed", || store.availability() == Err(Unavailable::Closing)).await;
    let refused = store.append_events(store.fence(), vec![home.event(WORKSPACE, NOW, 10)]).await;
    assert_eq!(refused, [Err(StoreError::Unavailable(Unavailable::Closing))]);
    assert!(store.close().await.is_err(), "it says that it did not end well");
    drop(store);
    let store = home.open();
    assert_all_there(&store, &events).await;
}
