//! One tenant's trouble is that tenant's: others are delivered to all the same.

use crate::support::{Account, Caller, Receiver, Reply, Weft};
use serde_json::{Value, json};
use tokio::sync::watch;

/// What waits for the one who hangs.
const WAITING: usize = 2_000;
/// What is delivered beside it.
const BESIDE: usize = 50;

fn events(count: usize) -> Value {
    (0..count).map(|n| json!({ "event": "contact.created", "payload": { "n": n } })).collect()
}

/// Sends so many events in bulks.
async fn flood(caller: &Caller, count: usize) {
    for _ in 0..count / 100 {
        let answer = caller.emit(events(100)).await;
        assert_eq!((answer.status, &answer.body["count"]), (201, &json!(100)), "{answer:?}");
    }
}

/// How many of its events are finished.
async fn finished(caller: &Caller) -> usize {
    let mut finished = 0;
    for status in ["completed", "failed", "canceled"] {
        let page = caller.get(&format!("/events?status={status}&limit=1")).await;
        finished += page.body["records"].as_array().expect("records").len();
    }
    finished
}

/// I10: while one tenant's endpoint hangs with 2,000 events waiting, another's events arrive one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_endpoint_hangs_delays_nobody_else() {
    let (_closed, gate) = watch::channel(false);
    let hanging = Receiver::start(move |_, _| Reply::status(200).behind(&gate)).await;
    let healthy = Receiver::start(Reply::ok).await;
    // Longer than the test is patient: nothing is freed by an attempt that is given up.
    let weft = Weft::with(|config| config.delivery.timeout = std::time::Duration::from_secs(60)).await;
    let (machine, workspace, key) = weft.stranger().await;
    let noisy = Caller::new(&weft.base, &Account::of(&machine, &workspace, &key));
    let quiet = Caller::new(&weft.base, &Account::of(&weft.machine, &weft.workspace, &weft.publishable_key));
    noisy.route("contact.created", &hanging.url("/hook")).await;
    quiet.route("contact.created", &healthy.url("/hook")).await;

    flood(&noisy, WAITING).await;
    hanging.received(1).await;
    for n in 1..=BESIDE {
        let id = quiet.accepted(json!({ "event": "contact.created", "payload": { "n": n } })).await;
        let came = healthy.received(n).await.remove(n - 1);
        assert_eq!(came.json()["uuid"], id.as_str());
    }
    assert_eq!(finished(&noisy).await, 0, "the noise went on all the while");
    assert!(hanging.so_far().len() < WAITING, "most of it waits");
}

/// I10: inside one workspace a connection that hangs with all it may have in flight does not stop its sibling,
/// nor do many that hang together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_hangs_does_not_stop_its_sibling() {
    #[rustfmt::skip]
    let cases = [
        // why                                       hanging  events  each in flight
        ("one connection that hangs",                1,       100,    json!({})),
        ("one that may have most in flight",         1,       300,    json!({ "max_in_flight": 256 })),
        ("more than a workspace's share together",   20,      100,    json!({})),
    ];
    for (why, connections, events, policy) in cases {
        let (_closed, gate) = watch::channel(false);
        let hanging = Receiver::start(move |_, _| Reply::status(200).behind(&gate)).await;
        let healthy = Receiver::start(Reply::ok).await;
        let weft = Weft::with(|config| config.delivery.timeout = std::time::Duration::from_secs(60)).await;
        let caller =
            Caller::new(&weft.base, &Account::of(&weft.machine, &weft.workspace, &weft.publishable_key));
        for number in 0..connections {
            let url = hanging.url(&format!("/hook/{number}"));
            let connection = caller.webhook_with(&url, json!({}), policy.clone()).await;
            caller.rule("contact.created", &connection).await;
        }
        flood(&caller, events).await;
        hanging.received(connections).await;

        caller.route("contact.updated", &healthy.url("/hook")).await;
        for n in 1..=BESIDE {
            caller.accepted(json!({ "event": "contact.updated", "payload": { "n": n } })).await;
            healthy.received(n).await;
        }
        assert!(hanging.so_far().len() < events * connections, "{why}: the others wait");
    }
}
