//! kill -9 while the operator is told: no change of state is told twice.

use crate::support::{Caller, Place, Received, Receiver, Reply, text, until};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const KILLS: usize = 5;
/// Events refused in each life.
const REFUSED: usize = 60;

/// The payloads of each operational event by its id: more than one, where a delivery came twice.
fn told(operator: &Receiver, name: &str) -> BTreeMap<String, Value> {
    let came: Vec<Value> = operator.so_far().iter().map(Received::json).collect();
    let named = came.iter().filter(|told| told["event"] == name);
    named.map(|told| (text(&told["uuid"]), told["payload"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_while_the_operator_is_told_tell_nothing_twice() {
    let operator = Receiver::start(Reply::ok).await;
    let [refuses, down] = [Receiver::script(&[422]).await, Receiver::script(&[503]).await];
    let mut place = Place::new(1).await;
    place.set("WEFT_OPERATIONAL_WEBHOOK__URL", &operator.url("/told"));
    let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
    place.set("WEFT_OPERATIONAL_WEBHOOK__SECRET", &secret);

    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    caller.route("a.down", &down.url("/x")).await;
    caller.emit(json!(vec![json!({ "event": "a.down", "payload": { "n": 1 } }); 30])).await;
    let mut served = Some(served);
    for life in 1..=KILLS {
        let life_now = match served.take() {
            Some(served) => served,
            None => place.serve().await,
        };
        let caller = Caller::new(&life_now.base, &place.accounts[0]);
        // A connection of its own for each life, so that failures are told one by one again.
        let name = format!("a.refused.{life}");
        caller.route(&name, &refuses.url("/x")).await;
        let sent = caller.emit(json!(vec![json!({ "event": name, "payload": { "n": 1 } }); REFUSED])).await;
        assert_eq!(sent.status, 201, "{life}");
        // Each a little further into what follows.
        refuses.received((life - 1) * REFUSED + life * REFUSED / KILLS).await;
        life_now.process.kill().await;
    }

    let served = place.serve().await;
    let tried = down.so_far().len();
    // Its breaker opens anew, and the last failures are told.
    down.received(tried + 10).await;
    let opened = "weft.connection.breaker_opened";
    until("its breaker is told open", async || (!told(&operator, opened).is_empty()).then_some(())).await;
    served.stop().await;
    let last = place.serve().await;
    until("all is told", async || {
        let metrics = Caller::new(&last.base, &place.accounts[0]).metrics().await;
        metrics.contains("weft_queue_depth{state=\"active\"} 30").then_some(())
    })
    .await;
    last.stop().await;

    assert_eq!(told(&operator, opened).len(), 1, "{:#?}", told(&operator, opened));
    let failed = told(&operator, "weft.delivery.failed");
    let changes: BTreeSet<_> =
        failed.values().map(|payload| (text(&payload["delivery"]), payload["attempts"].as_u64())).collect();
    assert_eq!(changes.len(), failed.len(), "each is told once: {failed:#?}");
    let count: u64 = failed.values().filter_map(|payload| payload["count"].as_u64()).sum();
    assert!(count <= (KILLS * REFUSED) as u64, "{count} of {}", KILLS * REFUSED);
    assert!(failed.len() > KILLS, "the kills came while it was told: {}", failed.len());
    let (code, found) = place.verify().await;
    assert_eq!((code, &found["faults"]), (Some(0), &json!([])), "{found}");
}
