//! What the embedded store promises of its files: cut, damaged, gone, full, failing, or in use.
//!
//! What must be there is what the [model](crate::store::conformance::model) of the conformance suite says.

mod disk;
mod promises;
mod rebuild;
mod torn;
mod verify;

use super::*;
use crate::{
    domain::delivery::{Next, Outcome},
    store::conformance::{
        model::Model,
        run::Run,
        steps::{Came, How, Sent, Step},
        stores::{Embedded, INDEX, copy, remove},
    },
    store::state::{Order, View},
};

/// Bytes of the heads of a segment and of a record.
const SEGMENT_HEAD_BYTES: usize = 64;
const RECORD_HEAD_BYTES: usize = 32;

/// An event whose record fills a segment of the smallest size, so that the next begins another.
const FILLING_BYTES: usize = 3_700;

/// One event for the first workspace, of the name that the rules of two connections are for.
fn append(body_bytes: usize) -> Step {
    sent(None, 0, body_bytes)
}

/// The same, under an idempotency key.
fn sent(key: Option<u8>, body: u8, body_bytes: usize) -> Step {
    Step::Append(vec![Sent { workspace: 0, name: 0, resource: 3, key, body, body_bytes }])
}

/// A dozen records, one a step: some of every kind there is.
fn dozen() -> Vec<Step> {
    let begin = |connection| Step::Begin { connection, in_ms: 0, limit: 1, is_stale: false };
    let record = |next| Step::Record { first: 0, count: 1, next, has_response: true };
    vec![
        append(20),
        Step::Route { workspace: 0, limit: 1 },
        begin(1),
        record(Came::Again { in_ms: 60_000, counts: true }),
        begin(2),
        record(Came::GivenUp),
        Step::Route { workspace: 0, limit: 1 },
        sent(Some(1), 7, 0),
        Step::Cancel { event: 5, delivery: None, is_foreign: false },
        Step::Retry { event: 2, delivery: 0, is_foreign: false },
        Step::Pace { connection: 1, paused_ms: Some(5_000) },
        Step::DeleteRule { rule: 1 },
        Step::SaveName { workspace: 0, name: 1, label: 7 },
        sent(Some(2), 9, 40),
        Step::CancelQueued { connection: 1, limit: 1 },
        append(33),
    ]
}

/// Returns when all that the store knows is on disk.
async fn settle(store: &EmbeddedStore) -> u64 {
    let last = store.state.read().next_sequence() - 1;
    store.log.durable(last).await.unwrap();
    last
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// All keys and values of a state's tables.
fn dump<V: View>(state: &State<V>) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for table in b'A'..=b'z' {
        let mut visit = |key: &[u8], value: &[u8]| {
            pairs.push((key.to_vec(), value.to_vec()));
            Ok(true)
        };
        state.view.scan(&[table], &[table + 1], Order::Ascending, &mut visit).unwrap();
    }
    pairs
}

/// The segments of a store's journal, oldest first.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(directory.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| {
        path.file_stem().is_some_and(|stem| stem.len() == 16)
            && path.extension().is_some_and(|it| it == "seg")
    };
    let mut segments: Vec<_> = names.filter(is_segment).collect();
    segments.sort();
    segments
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}
