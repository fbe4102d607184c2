//! How long does a store take to open after a crash, with its index and without? Beside it the
//! bound: reading the journal's bytes once.
//!
//! `cargo bench --bench recovery`; `WEFT_BENCH_EVENTS` sets how many events it holds (200,000), of
//! which every second one is still to be delivered.

mod support;

use actors::{
    domain::{
        delivery::{Next, Outcome},
        ids::{ConnectionId, OrganizationId, RuleId, WorkspaceId},
    },
    store::{Attempted, Matched, NewEvent, Routed, Store, embedded::EmbeddedStore},
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use support::{Events, append, open, setting, workspace_id};

/// Events in one call.
const BULK: usize = 100;

fn main() {
    let count = setting("WEFT_BENCH_EVENTS", 200_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let data = tempfile::tempdir().expect("a directory");
    let copy = tempfile::tempdir().expect("a directory");
    let store = open(data.path());
    runtime.block_on(fill(&store, count));
    // As a crash leaves it: copied while it is open.
    copy_all(data.path(), copy.path());
    runtime.block_on(store.close()).expect("it closes");
    drop(store);

    let (read, bytes) = timed(|| bytes_in(&copy.path().join("journal")));
    println!("{count} events, {} MiB of journal", bytes >> 20);
    show("with its index", timed(|| drop(open(copy.path()))).0, read);
    fs::remove_dir_all(copy.path().join("index")).expect("it is there");
    show("without its index", timed(|| drop(open(copy.path()))).0, read);
}

fn show(what: &str, took: Duration, bound: Duration) {
    println!("opened {what:<20} {took:>10.2?}   bound {bound:>10.2?}");
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed(), result)
}

async fn fill(store: &EmbeddedStore, count: usize) {
    let (events, workspace) = (Events::new(OrganizationId::random()), workspace_id());
    let (connection_id, rule_id) = (ConnectionId::from_bytes([1; 16]), RuleId::from_bytes([2; 16]));
    for _ in 0..count / BULK {
        let news: Vec<NewEvent> =
            (0..BULK).map(|_| events.next(workspace, "contact.created", None)).collect();
        let made: Vec<_> = news.iter().map(|new| (new.event.id, new.event.accepted_at)).collect();
        append(store, news).await;
        let routed = made.iter().map(|(event_id, at)| Routed {
            event_id: *event_id,
            at: *at,
            matched: vec![Matched {
                rule_id,
                connection_id,
                destination: "webhook".to_owned(),
                action: r#"{"action":"send_webhook"}"#.to_owned(),
                created_by: "bench".to_owned(),
            }],
            unmatched: Vec::new(),
        });
        store.record_routing(store.fence(), workspace, routed.collect()).await.expect("it is recorded");
        let attempts = made.iter().step_by(2).map(|(event_id, at)| Attempted {
            delivery_id: actors::domain::ids::DeliveryId::of(*event_id, rule_id),
            event_id: *event_id,
            started_at: *at,
            finished_at: *at,
            outcome: Outcome::Delivered,
            http_status: Some(200),
            message: String::new(),
            response: None,
            next: Next::Completed,
            notes: None,
        });
        record(store, workspace, attempts.collect()).await;
    }
}

async fn record(store: &EmbeddedStore, workspace: WorkspaceId, attempts: Vec<Attempted>) {
    store.record_attempts(store.fence(), workspace, attempts).await.expect("it is recorded");
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("it is there") {
        let path = entry.expect("it is readable").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            fs::create_dir_all(&target).expect("it can be made");
            copy_all(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it can be copied");
        }
    }
}

fn bytes_in(directory: &Path) -> u64 {
    let files =
        fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("it is readable").path());
    files.map(|path| fs::read(path).expect("it is readable").len() as u64).sum()
}
