//! A disk that is full, or fails: what is refused, what goes on, and when it ends.

use super::*;
use crate::store::embedded::{
    journal::{FaultyDisk, WriteFault},
    mending::{CONNECTION, Home, NOW, RULE, WORKSPACE, assert_all_there, routed, until},
};
use futures_util::future::join_all;

/// An attempt that delivered.
fn delivered(event: EventId) -> Attempted {
    Attempted {
        delivery_id: DeliveryId::of(event, RULE),
        event_id: event,
        started_at: NOW,
        finished_at: NOW,
        outcome: Outcome::Delivered,
        http_status: Some(200),
        message: String::new(),
        response: None,
        next: Next::Completed,
        notes: None,
    }
}

/// What became of an event, as a reader sees it.
async fn status(store: &EmbeddedStore, event: EventId) -> Status {
    store.event(Scope::Workspace(WORKSPACE), event).await.unwrap().unwrap().summary.status
}

/// Appends until one is refused; what was acknowledged, and why the last was not.
async fn append_until_refused(home: &Home, store: &EmbeddedStore) -> (Vec<EventId>, StoreError) {
    let mut events = Vec::new();
    for _ in 0..10_000 {
        let new = home.event(WORKSPACE, NOW, 2_000);
        let id = new.event.id;
        match store.append_events(store.fence(), vec![new]).await.remove(0) {
            Ok(_) => events.push(id),
            Err(err) => return (events, err),
        }
    }
    panic!("the disk is meant to be full");
}

/// I1, I3, I13: on a full disk nothing is accepted and the answer says so; what is under way is recorded, and
/// read. Once there is room, events are accepted again by themselves, and nothing acknowledged is lost.
#[tokio::test]
async fn a_full_disk_takes_what_is_under_way_and_nothing_new() {
    let mut home = Home::new();
    home.segment_bytes = 4_096;
    let store = home.open();
    let mut events = home.append(&store, 4, 100).await;
    store.record_routing(store.fence(), WORKSPACE, vec![routed(events[0], NOW)]).await.unwrap();
    home.disk.set_full(true);
    let (acknowledged, refused) = append_until_refused(&home, &store).await;
    events.extend(acknowledged);
    assert_eq!(refused, StoreError::Unavailable(Unavailable::DiskFull));
    assert_eq!(store.availability(), Err(Unavailable::DiskFull));
    let change = Change::DeleteConnection { id: CONNECTION, force: false };
    assert_eq!(store.configure(store.fence(), change, None).await, Err(refused.clone()));
    let cancel = store.cancel(store.fence(), Scope::Workspace(WORKSPACE), events[1], None, NOW, None).await;
    assert_eq!(cancel.map(drop), Err(refused));

    assert_eq!(status(&store, events[0]).await, Status::Pending);
    store.record_attempts(store.fence(), WORKSPACE, vec![delivered(events[0])]).await.unwrap();
    store.record_routing(store.fence(), WORKSPACE, vec![routed(events[2], NOW)]).await.unwrap();
    assert_eq!(status(&store, events[0]).await, Status::Completed);
    assert_all_there(&store, &events).await;

    home.disk.set_full(false);
    until("events are accepted again", || store.availability().is_ok()).await;
    events.extend(home.append(&store, 3, 100).await);
    drop(store);
    let store = home.open();
    assert_all_there(&store, &events).await;
    assert_eq!(status(&store, events[0]).await, Status::Completed);
    let queue = store.due(WORKSPACE, CONNECTION, NOW, 9).await.unwrap().entries;
    assert_eq!(queue.iter().map(|entry| entry.event_id).collect::<Vec<_>>(), [events[2]]);
}

/// I1, I3, I13: who waited for a write or sync that failed is told so. That file is never written again,
/// whatever it would say: it goes on in another one, and nothing that was acknowledged is lost.
#[tokio::test]
async fn after_a_failed_write_or_sync_it_goes_on_in_another_file() {
    type Fault = fn(&FaultyDisk);
    #[rustfmt::skip] // the columns are the point
    let cases: [(&str, Fault); 4] = [
        ("a sync fails",              |disk| disk.fail_sync(1)),
        ("a write fails",             |disk| disk.fail_write(1, WriteFault::Refused)),
        ("a write is cut short",      |disk| disk.fail_write(1, WriteFault::Torn(50))),
        ("its answer is lost",        |disk| disk.fail_write(1, WriteFault::Torn(usize::MAX))),
    ];
    join_all(cases.map(|(why, fault)| goes_on_in_another_file(why, fault))).await;
}

async fn goes_on_in_another_file(why: &str, fault: fn(&FaultyDisk)) {
    let home = Home::new();
    let store = home.open();
    let mut events = home.append(&store, 4, 100).await;
    let keeps_room =
        || home.path().join("journal/reserve.bin").exists() && home.path().join("journal/spare.seg").exists();
    until("what is made ahead is there", keeps_room).await;
    store.record_routing(store.fence(), WORKSPACE, vec![routed(events[0], NOW)]).await.unwrap();
    settle(&store).await;
    let given_up = segments(home.path()).pop().unwrap();
    fault(&home.disk);
    let lost = home.event(WORKSPACE, NOW, 100);
    let lost_id = lost.event.id;
    let answers = store.append_events(store.fence(), vec![lost]).await;
    assert_eq!(answers, [Err(StoreError::Unavailable(Unavailable::DiskFails))], "{why}");
    let after_fault = fs::read(&given_up).unwrap();
    assert_eq!(store.event(Scope::Workspace(WORKSPACE), lost_id).await, Ok(None), "{why}");
    assert_eq!(status(&store, events[0]).await, Status::Pending, "{why}: it is read");
    store.record_attempts(store.fence(), WORKSPACE, vec![delivered(events[0])]).await.unwrap();
    assert_eq!(status(&store, events[0]).await, Status::Completed, "{why}: deliveries go on");

    until("events are accepted again", || store.availability().is_ok()).await;
    events.extend(home.append(&store, 3, 100).await);
    assert_eq!(events.len(), 7, "{why}");
    settle(&store).await;
    assert!(segments(home.path()).pop().unwrap() > given_up, "{why}: in another file");
    assert!(fs::read(&given_up).unwrap() == after_fault, "{why}: the old one is left alone");
    drop(store);
    home.disk.power_cut(|| false).unwrap();
    let store = home.open();
    assert_all_there(&store, &events).await;
    assert_eq!(status(&store, events[0]).await, Status::Completed, "{why}: after a power cut");
    assert_eq!(store.event(Scope::Workspace(WORKSPACE), lost_id).await, Ok(None), "{why}: it was refused");
}
