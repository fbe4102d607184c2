//! How many events a second does the store take, durably? Beside it the bound: the same bytes
//! appended to a plain file and synced, in batches as large as the callers make possible.
//!
//! `cargo bench --bench ingest`; `WEFT_BENCH_EVENTS` sets how many (200,000).

mod support;

use actors::{domain::ids::OrganizationId, store::Store};
use std::{fs::File, io::Write, sync::Arc, time::Instant};
use support::{Events, PAYLOAD_BYTES, append, open, rate, setting, show, workspace_id};

fn main() {
    let count = setting("WEFT_BENCH_EVENTS", 200_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for callers in [1, 16, 64, 256] {
        let count = if callers == 1 { count / 20 } else { count };
        let bound = plain_file(callers, count);
        let ours = runtime.block_on(store(callers, count));
        show(&format!("{callers} callers, 1 event each"), ours, "events/s", bound);
    }
}

async fn store(callers: usize, count: usize) -> f64 {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(open(directory.path()));
    let (events, workspace) = (Arc::new(Events::new(OrganizationId::random())), workspace_id());
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (store, events) = (store.clone(), events.clone());
        tasks.spawn(async move {
            for _ in 0..count / callers {
                let new = events.next(workspace, "contact.created", None);
                append(&store, vec![new]).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics");
    }
    let rate = rate(count, started);
    store.close().await.expect("closes");
    rate
}

fn plain_file(batch: usize, count: usize) -> f64 {
    let directory = tempfile::tempdir().expect("a directory");
    let mut file = File::create(directory.path().join("log")).expect("a file");
    let zeros = vec![0; (count * (PAYLOAD_BYTES + 200)).min(64 << 20)];
    file.write_all(&zeros).expect("writes");
    file.sync_all().expect("syncs");
    let mut file = File::options().write(true).open(directory.path().join("log")).expect("opens");
    let bytes = vec![7; batch * (PAYLOAD_BYTES + 200)];
    let started = Instant::now();
    for _ in 0..count / batch {
        file.write_all(&bytes).expect("writes");
        file.sync_data().expect("syncs");
    }
    rate(count, started)
}
