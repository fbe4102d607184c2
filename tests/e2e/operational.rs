//! What the operator is told: signed, to the operator's URL, and of nobody's data.

use crate::{
    support::{PATIENCE, Received, Receiver, Reply, Weft, text, until},
    webhook::verifies,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const WORKSPACE: &str = "00000000-0000-7000-8000-000000000002";
const CONNECTION: &str = "00000000-0000-7000-8000-000000000003";

fn secret(byte: u8) -> String {
    format!("whsec_{}", STANDARD.encode([byte; 32]))
}

/// A server that tells this receiver.
async fn telling(receiver: &Receiver) -> Weft {
    let url = receiver.url("/told");
    let told = |config: &mut weft::config::Config| {
        config.operational_webhook.url = url;
        config.operational_webhook.secret = actors::domain::secret::Secret::new(secret(1));
    };
    Weft::with(told).await
}

/// A webhook to `url`, which is sent one event with something in it that is nobody's business.
async fn send_to(weft: &Weft, name: &str, url: &str, policy: Value) -> String {
    let settings = json!({ "auth_scheme": "bearer", "bearer_token": "t-0-k-e-n" });
    let connection = weft.webhook_with(url, settings, policy).await;
    weft.rule(name, &connection).await;
    let event = json!({ "event": name, "payload": { "email": "ada@example.com" } });
    weft.emit(event).await.answered(201, name);
    connection
}

/// What came, by the name of its event.
fn by_name(came: &[Received]) -> BTreeMap<String, Value> {
    came.iter().map(|came| (text(&came.json()["event"]), came.json())).collect()
}

#[tokio::test]
async fn the_operator_is_told_signed_and_without_anybodys_data() {
    let operator = Receiver::start(Reply::ok).await;
    let weft = telling(&operator).await;
    let [refuses, locked, down] =
        [Receiver::script(&[422]).await, Receiver::script(&[401]).await, Receiver::script(&[503]).await];
    // Tried again until its breaker has opened, and not given up.
    let often = json!({ "retry": vec![20; 12].into_iter().chain([3_600_000]).collect::<Vec<_>>() });
    let connections = [
        send_to(&weft, "a.refused", &refuses.url("/x"), json!({})).await,
        send_to(&weft, "a.locked", &locked.url("/x"), json!({})).await,
        send_to(&weft, "a.down", &down.url("/x"), often).await,
    ];
    let came = operator.received(3).await;
    let told = by_name(&came);
    let names = ["weft.delivery.failed", "weft.connection.inactive", "weft.connection.breaker_opened"];
    for (name, connection) in names.into_iter().zip(&connections) {
        let payload = &told[name]["payload"];
        assert_eq!(text(&payload["connection"]), *connection, "{name}");
        assert_eq!(text(&payload["workspace"]), weft.workspace, "{name}");
        assert_eq!(text(&payload["organization"]), weft.machine.organization_id.to_string(), "{name}");
    }
    let failed = &told["weft.delivery.failed"];
    assert_eq!(failed["resource_id"], failed["payload"]["delivery"]);
    let path = format!("/events/{}", text(&failed["payload"]["event"]));
    let event = weft.get(&path).await.answered(200, "it can be looked up");
    assert_eq!(event["rule_events"][0]["id"], failed["payload"]["delivery"]);
    for came in &came {
        assert!(verifies(came, &secret(1)) && !verifies(came, &secret(2)), "{came:?}");
        assert_eq!((came.method.as_str(), came.target.as_str()), ("POST", "/told"));
        let body = std::str::from_utf8(&came.body).expect("UTF-8");
        for hidden in ["ada@example.com", "t-0-k-e-n", "127.0.0.1", "whsec_"] {
            assert!(!body.contains(hidden), "{body}");
        }
    }
    let metrics = weft.request(reqwest::Method::GET, "/metrics").send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    for name in names {
        assert!(metrics.contains(&format!("weft_operational_events_total{{event=\"{name}\"}}")), "{metrics}");
    }
    weft.stop().await;
}

/// A restart tells nothing again, and what changed in the configuration counts from there on.
#[tokio::test]
async fn another_url_and_secret_count_from_the_next_start_and_nothing_is_told_twice() {
    let [first, second] = [Receiver::start(Reply::ok).await, Receiver::start(Reply::ok).await];
    let mut weft = telling(&first).await;
    let refuses = Receiver::script(&[422]).await;
    send_to(&weft, "a.one", &refuses.url("/x"), json!({})).await;
    first.received(1).await;
    weft.config.operational_webhook.url = second.url("/new");
    weft.config.operational_webhook.secret = actors::domain::secret::Secret::new(secret(2));
    let mut weft = weft.restart().await;
    send_to(&weft, "a.two", &refuses.url("/x"), json!({})).await;
    let came = second.received(1).await.remove(0);
    assert!(verifies(&came, &secret(2)) && !verifies(&came, &secret(1)));
    let event = text(&came.json()["payload"]["event"]);
    assert_eq!(weft.get(&format!("/events/{event}")).await.body["event"], "a.two");

    weft.config.operational_webhook.url = String::new();
    let mut weft = weft.restart().await;
    send_to(&weft, "a.three", &refuses.url("/x"), json!({})).await;
    refused(&refuses, 3).await;
    weft.config.operational_webhook.url = second.url("/new");
    let weft = weft.restart().await;
    send_to(&weft, "a.four", &refuses.url("/x"), json!({})).await;
    let came = second.received(2).await;
    let event = text(&came[1].json()["payload"]["event"]);
    assert_eq!(weft.get(&format!("/events/{event}")).await.body["event"], "a.four", "and none of the third");
    assert_eq!(first.so_far().len(), 1);
    weft.stop().await;
}

async fn refused(refuses: &Receiver, count: usize) {
    assert_eq!(refuses.received(count).await.len(), count, "within {PATIENCE:?}");
}

/// The operator's workspace is nobody else's.
#[tokio::test]
async fn no_tenant_reaches_the_operators_workspace() {
    let operator = Receiver::script(&[500]).await;
    let weft = telling(&operator).await;
    let refuses = Receiver::script(&[422]).await;
    send_to(&weft, "a.b", &refuses.url("/x"), json!({})).await;
    let told = operator.received(4).await;
    let event = text(&told[0].json()["uuid"]);
    for path in [
        format!("/workspaces/{WORKSPACE}"),
        format!("/workspaces/{WORKSPACE}/events"),
        format!("/connections/{CONNECTION}"),
        format!("/events/{event}"),
    ] {
        weft.get(&path).await.assert_error(404, "", &path);
    }
    let listed = weft.get("/connections").await.text + &weft.get("/workspaces").await.text;
    assert!(!listed.contains("00000000-0000-7000"), "{listed}");
    // It is given up, and nobody is told of that.
    until("the ledger is settled", async || {
        let found = weft.engine().verify().await.expect("readable");
        (found.scheduled == 0 && found.unrouted == 0).then_some(())
    })
    .await;
    let found = weft.engine().verify().await.expect("readable");
    assert_eq!((found.events, found.faults.len()), (2, 0), "{found:?}");
    weft.stop().await;
}
