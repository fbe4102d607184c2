//! What a newcomer does first: send one event, receive it, and look at what became of it.

use crate::support::{Receiver, Reply, Weft, until};
use serde_json::json;

#[tokio::test]
async fn an_event_is_accepted_delivered_and_shown_completed() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/hook")).await;
    let rule = weft.rule("contact.created", &connection).await;

    let payload = json!({ "email": "ada@example.com", "n": 1 });
    let answer = weft.emit(json!({ "event": "contact.created", "payload": payload })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let event = &answer.body["event"];
    assert_eq!(event["resource"], "global");

    let received = receiver.received(1).await.remove(0);
    let body = received.json();
    assert_eq!((&body["uuid"], &body["payload"]), (&event["id"], &payload));

    let path = format!("/events/{}", event["id"].as_str().expect("an id"));
    let shown = until("the event is completed", async || {
        let shown = weft.get(&path).await.body;
        (shown["status"] == "completed").then_some(shown)
    });
    let shown = shown.await;
    assert_eq!(shown["rule_events"][0]["rule"], rule.as_str(), "{shown}");
    assert_eq!(shown["rule_events"][0]["attempt_count"], 1, "{shown}");
    weft.stop().await;
}
