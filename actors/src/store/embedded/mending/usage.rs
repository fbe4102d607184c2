//! What was counted outlives the records it was counted from.

use super::*;
use crate::{
    domain::{
        delivery::{Next, Outcome},
        usage::{USAGE_DAYS_KEPT, Usage},
    },
    store::state::{record::Record, usage::counts},
};
use std::sync::atomic::{AtomicBool, Ordering};

const DAY: Duration = Duration::from_secs(86_400);

fn attempted(event: EventId, at: Timestamp, outcome: Outcome, next: Next) -> Attempted {
    Attempted {
        delivery_id: DeliveryId::of(event, RULE),
        event_id: event,
        started_at: at,
        finished_at: at,
        outcome,
        http_status: None,
        message: String::new(),
        response: None,
        next,
        notes: None,
    }
}

/// All that is known of the workspace's usage, also of what is not kept any longer.
async fn usage(store: &EmbeddedStore) -> Vec<(Day, Usage)> {
    let page = store.usage(Scope::Workspace(WORKSPACE), Day(0)..=Day(u32::MAX), None, 1_000).await.unwrap();
    assert_eq!(page.next, None);
    page.records.into_iter().map(|row| (row.day, row.usage)).collect()
}

fn built_from_nothing(home: &Home) -> EmbeddedStore {
    fs::remove_dir_all(home.index()).unwrap();
    fs::remove_file(home.path().join("CHECKPOINT")).unwrap();
    home.open()
}

/// Each record that tells the one row there is says what the records before it come to.
fn assert_told_exactly(store: &EmbeddedStore) {
    let (mut so_far, mut told) = (None::<Usage>, 0);
    for found in store.log.reader.scan(store.log.reader.first_sequence()) {
        let record = Record::decode(&found.unwrap().1.body).unwrap();
        if let (Some(so_far), Some((_, more))) = (&mut so_far, counts(&record)) {
            so_far.add(&more);
        }
        if let Record::Used(rows) = record {
            let row = rows[0].usage;
            assert_eq!(so_far.unwrap_or(row), row, "after {told} such records");
            so_far = Some(row);
            told += 1;
        }
    }
    assert!(told > 1, "{told} such records"); // those told early went with their own segments
}

/// Events that are delivered at the second try, and forgotten.
async fn pass(home: &Home, store: &EmbeddedStore, count: usize, payload_bytes: usize) -> u64 {
    let events = home.append(store, count, payload_bytes).await;
    let accepted = events.len() as u64;
    let routings = events.iter().map(|id| routed(*id, NOW)).collect();
    store.record_routing(store.fence(), WORKSPACE, routings).await.unwrap();
    let again = Next::Due { at: NOW, counts: true };
    for (outcome, next) in [(Outcome::NetworkError, again), (Outcome::Delivered, Next::Completed)] {
        let attempts = events.iter().map(|id| attempted(*id, NOW, outcome, next)).collect();
        store.record_attempts(store.fence(), WORKSPACE, attempts).await.unwrap();
    }
    let mut state = store.state.write();
    state.commit(Record::Expired { workspace_id: WORKSPACE, events }).unwrap();
    store.log.committed(&mut state);
    accepted
}

/// I1, I14: events come in while segments go, and neither is anything counted twice nor not at all: as long
/// as the store is open, when it is opened again, and when its index is built from what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_was_counted_outlives_its_segments_beside_work() {
    let home = Arc::new(Home::new());
    let store = home.open();
    let mut events = 0;
    for _ in 0..80 {
        events += pass(&home, &store, 20, 700).await;
    }
    store.close().await.unwrap();
    drop(store);
    let store = Arc::new(home.open());
    let (first, is_over) = (store.log.reader.first_sequence(), Arc::new(AtomicBool::new(false)));
    let writers = (0..2).map(|_| {
        let (home, store, is_over) = (home.clone(), store.clone(), is_over.clone());
        tokio::spawn(async move {
            let mut accepted = 0;
            // Not for ever: what they write makes segments, too.
            for _ in 0..300 {
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                accepted += pass(&home, &store, 1, 10).await;
            }
            accepted
        })
    });
    let writers: Vec<_> = writers.collect();
    store.log.reclaim(store.fence()).await.unwrap();
    is_over.store(true, Ordering::Release);
    for writer in writers {
        events += writer.await.unwrap();
    }
    assert!(events > 1_600 && store.log.reader.first_sequence() > first, "segments went meanwhile");
    let last = store.state.read().next_sequence() - 1;
    store.log.durable(last).await.unwrap();
    assert_told_exactly(&store);
    let all = Usage { events, deliveries: events, attempts: 2 * events, delivered: events };
    let expected = vec![(Day::of(NOW), all)];
    assert_eq!(usage(&store).await, expected, "while it is open");
    store.close().await.unwrap();
    drop(Arc::into_inner(store));
    let store = home.open();
    assert_eq!(usage(&store).await, expected, "opened again");
    drop(store);
    let store = built_from_nothing(&home);
    assert_eq!(usage(&store).await, expected, "built from what is left");
}

/// Tests of a rule are not what a customer used.
#[tokio::test]
async fn tests_do_not_count() {
    let home = Home::new();
    let store = home.open();
    let mut new = home.event(WORKSPACE, NOW, 10);
    new.event.id = EventId::of_test(home.ids.next(NOW));
    let id = new.event.id;
    assert_eq!(store.append_events(store.fence(), vec![new]).await, [Ok(Appended::New)]);
    store.record_routing(store.fence(), WORKSPACE, vec![routed(id, NOW)]).await.unwrap();
    let attempts = vec![attempted(id, NOW, Outcome::Delivered, Next::Completed)];
    store.record_attempts(store.fence(), WORKSPACE, attempts).await.unwrap();
    assert_eq!(usage(&store).await, []);
}

/// Usage is kept for so many days, whatever becomes of its events; and each thing counts on its own day.
#[tokio::test]
async fn usage_is_forgotten_after_its_time_and_not_before() {
    let home = Home::new();
    let store = home.open();
    let organization = Organization { id: ORGANIZATION, name: "test".to_owned(), created_at: NOW };
    store.configure(store.fence(), Change::CreateOrganization(organization), None).await.unwrap();
    let workspace = Workspace {
        id: WORKSPACE,
        organization_id: ORGANIZATION,
        name: "test".to_owned(),
        description: None,
        retention_days: Some(1),
        data_key: serde_json::from_str("\"AAAA\"").unwrap(),
        created_at: NOW,
        updated_at: NOW,
    };
    let key = PublishableKey {
        public_key: "mesh_pub_v1_test".to_owned(),
        older: Vec::new(),
        name: "test".to_owned(),
        organization_id: ORGANIZATION,
        workspace_id: WORKSPACE,
        created_at: NOW,
    };
    let created = Change::CreateWorkspace(Box::new((workspace, key)));
    store.configure(store.fence(), created, None).await.unwrap();
    let new = home.event(WORKSPACE, NOW, 10);
    let id = new.event.id;
    store.append_events(store.fence(), vec![new]).await[0].as_ref().unwrap();
    let [second, third] = [1, 2].map(|days| NOW.after(days * DAY));
    store.record_routing(store.fence(), WORKSPACE, vec![routed(id, second)]).await.unwrap();
    let attempts = vec![attempted(id, third, Outcome::NetworkError, Next::Failed)];
    store.record_attempts(store.fence(), WORKSPACE, attempts).await.unwrap();

    let none = Usage::default();
    let all = [
        (Day::of(NOW), Usage { events: 1, ..none }),
        (Day::of(second), Usage { deliveries: 1, ..none }),
        (Day::of(third), Usage { attempts: 1, ..none }),
    ];
    for (days_later, kept) in [(0, 3), (5, 3), (USAGE_DAYS_KEPT, 3), (USAGE_DAYS_KEPT + 1, 2), (9_999, 0)] {
        let now = NOW.after(days_later * DAY);
        store.retain(store.fence(), now, &Retention::of_days(30)).await.unwrap();
        assert_eq!(usage(&store).await, all[3 - kept..], "{days_later} days later");
    }
}
