//! What every store must do, asked of each: any sequence of steps, against plain maps.
//!
//! A [`Subject`] is a store under test; the [`Model`] is what it must remember. [`run`] makes each step
//! happen to both and compares what they answer; [`look`] walks everything there is to see. A new store
//! needs a `Subject`, and a line in the table below.
//!
//! `PROPTEST_CASES` asks for more cases than a build has time for.

pub mod answers;
pub mod configured;
pub mod look;
pub mod model;
pub mod people;
pub mod replays;
pub mod run;
pub mod steps;
pub mod stores;

use super::*;
use model::Model;
use proptest::prelude::*;
use run::Run;
use std::collections::{BTreeMap, BTreeSet};
use steps::{Step, steps};
use stores::{Embedded, Subject};

/// Asks a store, made for each case, for so many cases of so many steps.
macro_rules! conform {
    ($($name:ident: $store:expr, $cases:literal cases of $steps:expr;)*) => {$(
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(config($cases))]

                /// I2, I4, I5, I7, I8, I9, I18: whatever happens, it answers as plain maps do.
                #[test]
                fn answers_as_plain_maps_do(steps in steps($steps)) {
                    conforms($store, steps);
                }
            }
        }
    )*};
}

conform! {
    // store       made by                                  asked for
    memory:        crate::store::memory::MemoryStore::new(), 60 cases of 30..120;
    embedded:      Embedded::new(),                          12 cases of 30..120;
}

/// A delivery is called off in mid-attempt and replayed; only then its answer comes.
#[test]
fn an_answer_to_what_no_longer_stands_leaves_the_event_as_it_is() {
    let sent = steps::Sent { workspace: 8, name: 1, resource: 0, key: None, body: 0, body_bytes: 0 };
    let steps = || {
        vec![
            Step::Append(vec![sent.clone()]),
            Step::Route { workspace: 0, limit: 1 },
            Step::Begin { connection: 1, in_ms: 0, limit: 1, is_stale: false },
            Step::Cancel { event: 0, delivery: None, is_foreign: false },
            Step::CreateReplay { workspace: 8, filter: 5, is_now: false },
            Step::ReplayPage { replay: 0, limit: 1, disturbed: None },
            Step::Record {
                first: 0,
                count: 1,
                next: steps::Came::Again { in_ms: 3_600_000, counts: true },
                has_response: false,
            },
        ]
    };
    conforms(crate::store::memory::MemoryStore::new(), steps());
    conforms(Embedded::new(), steps());
}

fn config(cases: u32) -> ProptestConfig {
    let mut config =
        ProptestConfig { failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config
}

fn conforms(subject: impl Subject, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new(subject);
        run.furnish().await;
        for step in steps {
            run.take(step).await;
        }
        run.look(2).await;
        run.take(Step::Reopen(steps::How::NoIndex)).await;
    });
}
