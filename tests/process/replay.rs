//! kill -9 in the middle of a replay, beside live work: each past delivery is done again, once.

use crate::support::{Caller, Place, Receiver, Reply, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

const FAILURES: usize = 600;
const KILLS: u64 = 4;

async fn send(caller: &Caller, event: &str, count: usize) -> Vec<String> {
    let workspace = &caller.workspace().id;
    let one = |n: usize| json!({ "workspace": workspace, "event": event, "payload": { "n": n } });
    let body = Value::Array((0..count).map(one).collect());
    let sent = caller.ask(Method::POST, "/events/bulk", Some(body)).await;
    assert!(sent.status < 300, "{}", sent.text);
    sent.body["records"].as_array().expect("a list").iter().map(|it| text(&it["id"])).collect()
}

/// I2, I14: each kill falls in the middle of it, and no delivery is left out or made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_across_kills_leaves_nothing_out_and_makes_nothing_twice() {
    let mut place = Place::new(1).await;
    place.set("WEFT_LISTEN", "127.0.0.1:0");
    let status = Arc::new(AtomicU16::new(400));
    let says = status.clone();
    let receiver = Receiver::start(move |_, _| Reply::status(says.load(Relaxed))).await;
    let mut served = place.serve().await;
    let mut caller = Caller::new(&served.base, &place.accounts[0]);
    let connection = caller.webhook_with(&receiver.url("/"), json!({}), json!({})).await;
    caller.rule("a.b", &connection).await;
    let mut failures = BTreeSet::new();
    while failures.len() < FAILURES {
        failures.extend(send(&caller, "a.b", 100).await);
    }
    receiver.received(FAILURES).await;
    status.store(200, Relaxed);
    let filter = json!({ "status": "failed" });
    let body = json!({ "workspace": caller.workspace().id, "filter": filter, "rate_per_second": 150 });
    let replay = text(
        &caller.ask(Method::POST, "/replays", Some(body)).await.answered(201, "a replay")["replay"]["id"],
    );
    let path = format!("/replays/{replay}");

    let mut live = Vec::new();
    let (mut queued, mut states) = (Vec::new(), Vec::new());
    for kill in 0..KILLS {
        let before = queued.last().copied().unwrap_or(0);
        until("it has gone on", async || {
            let shown = caller.get(&path).await.answered(200, "the replay")["replay"].clone();
            let now = shown["queued"].as_u64().expect("a count");
            (now > before + 30).then(|| {
                queued.push(now);
                states.push(text(&shown["state"]));
            })
        })
        .await;
        live.extend(send(&caller, "a.b", 20).await);
        tokio::time::sleep(Duration::from_millis(7 * kill)).await;
        served.process.kill().await;
        served = place.serve().await;
        caller = Caller::new(&served.base, &place.accounts[0]);
    }
    assert!(
        states.iter().all(|state| state == "running"),
        "the kills came in the middle: {queued:?} {states:?}"
    );
    let over = until("it is over", async || {
        let shown = caller.get(&path).await.answered(200, "the replay")["replay"].clone();
        (shown["state"] == "finished").then_some(shown)
    })
    .await;
    let counts = ["matched", "queued", "completed"].map(|name| over[name].as_u64());
    assert_eq!(counts, [Some(FAILURES as u64); 3], "{over}");

    for event in failures.iter().chain(&live) {
        let shown = until("it is delivered", async || {
            let shown = caller.get(&format!("/events/{event}")).await.answered(200, "an event");
            (shown["status"] == "completed").then_some(shown)
        })
        .await;
        let deliveries = shown["rule_events"].as_array().expect("a list");
        assert_eq!(deliveries.len(), if failures.contains(event) { 2 } else { 1 }, "{shown}");
        assert_eq!(shown["total_rules"], 1);
    }
    let mut sent = BTreeMap::<String, usize>::new();
    for received in receiver.so_far() {
        *sent.entry(received.header("x-weft-delivery-id").expect("an id").to_owned()).or_default() += 1;
    }
    assert_eq!(sent.len(), 2 * FAILURES + live.len(), "each was sent under an id of its own");
    let repeated = sent.values().filter(|count| **count > 1).count();
    eprintln!("killed at {queued:?} of {FAILURES}; {repeated} were in flight at a kill and came again");
    assert!(repeated < FAILURES / 4, "what was on disk by then is not sent again: {repeated}");
    served.stop().await;
    let (code, found) = place.verify().await;
    assert_eq!((code, &found["faults"], &found["scheduled"]), (Some(0), &json!([]), &json!(0)), "{found}");
}
