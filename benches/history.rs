//! How long does a page of 50 events take, the newest and filtered, with a million in the store?
//! Beside it the bound: as many rows of that size read by key from a plain tree of that many.
//!
//! `cargo bench --bench history`; `WEFT_BENCH_EVENTS` sets how many (1,000,000).

mod support;

use actors::{
    domain::{
        event::Status,
        ids::{OrganizationId, WorkspaceId},
    },
    store::{EventFilter, NewEvent, Routed, Scope, Store, embedded::EmbeddedStore},
};
use std::time::{Duration, Instant};
use support::{Events, append, open, percentile, setting, workspace_id};

const BULK: usize = 100;
const PAGE: usize = 50;
/// Pages of each kind that are timed.
const PAGES: usize = 200;
/// Events have this many names, and this many resource ids.
const NAMES: usize = 20;
const RESOURCES: usize = 10_000;
/// About what an event takes in the index.
const ROW_BYTES: usize = 250;

fn main() {
    let count = setting("WEFT_BENCH_EVENTS", 1_000_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let data = tempfile::tempdir().expect("a directory");
    let (organization, workspace, store) = (OrganizationId::random(), workspace_id(), open(data.path()));
    let filled = Instant::now();
    runtime.block_on(fill(&store, organization, workspace, count));
    println!("{count} events stored in {:.1?}", filled.elapsed());

    let bound = plain_tree(count);
    show("bound: 50 rows by key", bound);
    let any = EventFilter::default();
    #[rustfmt::skip]
    let kinds = [
        ("newest, workspace",    Scope::Workspace(workspace),       any.clone()),
        ("newest, organization", Scope::Organization(organization), any.clone()),
        ("by name",              Scope::Workspace(workspace),       EventFilter { event: Some("name.7".to_owned()), ..any.clone() }),
        ("by status",            Scope::Workspace(workspace),       EventFilter { status: Some(Status::Completed), ..any.clone() }),
        ("by resource id",       Scope::Workspace(workspace),       EventFilter { resource_id: Some("r77".to_owned()), ..any.clone() }),
        ("by name and resource", Scope::Workspace(workspace),       EventFilter { event: Some("name.17".to_owned()), resource_id: Some("r77".to_owned()), ..any }),
    ];
    for (what, scope, filter) in kinds {
        let mut times = Vec::with_capacity(PAGES);
        runtime.block_on(async {
            let mut after = None;
            for _ in 0..PAGES {
                let started = Instant::now();
                let page = store.events(scope, filter.clone(), after, PAGE).await.expect("it reads");
                times.push(started.elapsed());
                assert!(after.is_some() || !page.records.is_empty(), "{what} has a first page");
                after = page.next;
            }
        });
        times.sort_unstable();
        show(what, times);
    }
    runtime.block_on(store.close()).expect("it closes");
}

fn show(what: &str, sorted: Vec<Duration>) {
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&sorted, share));
    println!("{what:<24} p50 {p50:>10.2?}   p99 {p99:>10.2?}");
}

async fn fill(store: &EmbeddedStore, organization: OrganizationId, workspace: WorkspaceId, count: usize) {
    let events = Events::new(organization);
    for bulk in 0..count / BULK {
        let news: Vec<NewEvent> = (0..BULK)
            .map(|index| bulk * BULK + index)
            .map(|n| {
                events.next(workspace, &format!("name.{}", n % NAMES), Some(format!("r{}", n % RESOURCES)))
            })
            .collect();
        let routed = news.iter().map(|new| Routed {
            event_id: new.event.id,
            at: new.event.accepted_at,
            matched: Vec::new(),
            unmatched: Vec::new(),
        });
        let routed = routed.collect();
        append(store, news).await;
        store.record_routing(store.fence(), workspace, routed).await.expect("it is recorded");
    }
}

fn plain_tree(count: usize) -> Vec<Duration> {
    let directory = tempfile::tempdir().expect("a directory");
    let config = sled::Config::new().path(directory.path()).cache_capacity(64 << 20);
    let tree = config.open().expect("it opens");
    for start in (0..count).step_by(10_000) {
        let mut batch = sled::Batch::default();
        for key in start..(start + 10_000).min(count) {
            batch.insert(&(key as u64).to_be_bytes(), vec![7; ROW_BYTES]);
        }
        tree.apply_batch(batch).expect("it writes");
    }
    let mut times: Vec<_> = (0..PAGES)
        .map(|page| {
            let started = Instant::now();
            for row in 0..PAGE {
                let key = count.saturating_sub(page * PAGE + row + 1) as u64;
                assert!(tree.get(key.to_be_bytes()).expect("it reads").is_some());
            }
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}
