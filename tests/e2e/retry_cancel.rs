//! Changing one's mind about deliveries: again at once, or not at all.

use crate::support::{Receiver, Reply, Weft, text};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

const HOUR: [u64; 1] = [3_600_000];

/// A connection to the receiver that waits an hour before it tries again, and a rule of this name.
async fn patient(weft: &Weft, receiver: &Receiver, event: &str) -> (String, String) {
    let policy = json!({ "retry": HOUR, "timeout_ms": 60_000 });
    let connection = weft.webhook_with(&receiver.url("/"), json!({}), policy).await;
    let rule = weft.rule(event, &connection).await;
    (connection, rule)
}

async fn post(weft: &Weft, path: &str) -> crate::support::Answer {
    weft.ask(Method::POST, path, None).await
}

/// The first delivery of an event.
fn delivery(event: &Value) -> &Value {
    &event["rule_events"][0]
}

#[tokio::test]
async fn a_delivery_that_waits_is_tried_at_once_when_asked() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[500, 503, 200]).await);
    let (_, rule) = patient(&weft, &receiver, "a.b").await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let before = weft.event_as(&event, "retrying").await;
    let retry = format!("/events/{event}/rules/{rule}/retry");
    let retried = weft.ask_raw(Method::POST, &retry, "").await.answered(200, "no body, but a JSON type");
    assert_eq!((&retried["id"], &retried["rule"]), (&delivery(&before)["id"], &json!(rule)));
    assert_eq!(retried["status"], "retrying");
    weft.attempts(&event, &rule, 2).await;
    // The rule event's own id does as well.
    let by_delivery = format!("/events/{event}/rules/{}/retry", text(&retried["id"]));
    weft.event_as(&event, "retrying").await;
    post(&weft, &by_delivery).await.answered(200, "by the rule event's id");
    let done = weft.event_as(&event, "completed").await;
    assert_eq!(delivery(&done)["attempt_count"], 3);
    let numbers: Vec<_> = weft
        .attempts(&event, &rule, 3)
        .await
        .iter()
        .map(|attempt| attempt["attempt_number"].clone())
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    weft.stop().await;
}

#[tokio::test]
async fn a_delivery_that_was_given_up_is_replayed_with_a_fresh_schedule() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[400, 500, 500, 400, 200]).await);
    let policy = json!({ "retry": [0, 0] });
    let connection = weft.webhook_with(&receiver.url("/"), json!({}), policy).await;
    let rule = weft.rule("a.b", &connection).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let retry = format!("/events/{event}/rules/{rule}/retry");
    weft.event_as(&event, "failed").await;
    let retried = post(&weft, &retry).await.answered(200, "given up: replayed");
    assert_eq!((&retried["status"], &retried["completed_at"]), (&json!("retrying"), &Value::Null));
    weft.attempts(&event, &rule, 4).await;
    weft.event_as(&event, "failed").await;
    post(&weft, &retry).await.answered(200, "given up again");
    let done = weft.event_as(&event, "completed").await;
    assert_eq!((&done["failed_count"], &done["completed_count"]), (&json!(0), &json!(1)));
    let outcomes: Vec<_> =
        weft.attempts(&event, &rule, 5).await.iter().map(|attempt| attempt["http_status"].clone()).collect();
    assert_eq!(outcomes, [400, 500, 500, 400, 200], "the whole history");
    weft.stop().await;
}

#[tokio::test]
async fn a_retry_that_makes_no_sense_is_refused() {
    let weft = Weft::start().await;
    let (open, gate) = watch::channel(false);
    let slow = Receiver::start(move |_, _| Reply::status(200).behind(&gate)).await;
    let (good, bad) = (Receiver::start(Reply::ok).await, Receiver::script(&[500]).await);
    let retry = |event: &str, rule: &str| format!("/events/{event}/rules/{rule}/retry");

    let (_, rule) = patient(&weft, &slow, "in.flight").await;
    let event = weft.send_event("in.flight", json!({ "n": 1 })).await;
    weft.event_as(&event, "processing").await;
    post(&weft, &retry(&event, &rule)).await.refused(425, "in flight", "an attempt is in flight");
    open.send_replace(true);
    weft.event_as(&event, "completed").await;
    post(&weft, &retry(&event, &rule)).await.refused(409, "the delivery is completed", "delivered");

    let slowly = json!({ "rate_per_second": 0.01 });
    let connection = weft.webhook_with(&good.url("/"), json!({}), slowly).await;
    let rule = weft.rule("about.to.start", &connection).await;
    weft.send_event("about.to.start", json!({ "n": 1 })).await;
    good.received(1).await;
    let second = weft.send_event("about.to.start", json!({ "n": 2 })).await;
    weft.event_as(&second, "pending").await;
    post(&weft, &retry(&second, &rule)).await.refused(
        425,
        "about to start",
        "it is due and waits for its turn",
    );

    let (connection, rule) = patient(&weft, &bad, "canceled").await;
    let event = weft.send_event("canceled", json!({ "n": 1 })).await;
    weft.event_as(&event, "retrying").await;
    post(&weft, &format!("/events/{event}/rules/{rule}/cancel")).await.answered(200, "canceled");
    post(&weft, &retry(&event, &rule)).await.refused(409, "the delivery is canceled", "canceled");

    let event = weft.send_event("canceled", json!({ "n": 2 })).await;
    weft.event_as(&event, "retrying").await;
    weft.patch(&format!("/connections/{connection}"), json!({ "active": false }))
        .await
        .answered(200, "inactive");
    post(&weft, &retry(&event, &rule)).await.refused(422, "connection is inactive", "nothing would be sent");
    weft.patch(&format!("/connections/{connection}"), json!({ "active": true }))
        .await
        .answered(200, "active");
    post(&weft, &retry(&event, &rule)).await.answered(200, "active again");
    weft.stop().await;
}

#[tokio::test]
async fn what_a_gone_connection_did_not_deliver_cannot_be_retried() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[400]).await);
    let (connection, rule) = patient(&weft, &receiver, "a.b").await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.event_as(&event, "failed").await;
    let body = Some(json!({ "force_delete": true }));
    weft.ask(Method::DELETE, &format!("/connections/{connection}"), body).await.answered(200, "deleted");
    let path = format!("/events/{event}/rules/{rule}/retry");
    post(&weft, &path).await.refused(422, "connection was deleted", "there is nowhere to send it");
    assert_eq!(weft.event_as(&event, "failed").await["failed_count"], 1, "it stays what it was");
    weft.stop().await;
}

#[tokio::test]
async fn a_retry_while_paused_waits_for_the_resumption() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[500, 200]).await);
    let (connection, rule) = patient(&weft, &receiver, "a.b").await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.event_as(&event, "retrying").await;
    post(&weft, &format!("/connections/{connection}/pause")).await.answered(200, "paused");
    post(&weft, &format!("/events/{event}/rules/{rule}/retry")).await.answered(200, "retried");
    assert_eq!(weft.event_as(&event, "retrying").await["rule_events"][0]["attempt_count"], 1);
    post(&weft, &format!("/connections/{connection}/resume")).await.answered(200, "resumed");
    weft.event_as(&event, "completed").await;
    assert_eq!(receiver.so_far().len(), 2);
    weft.stop().await;
}

#[tokio::test]
async fn canceling_a_rule_calls_off_that_delivery_alone() {
    let (weft, bad, good) =
        (Weft::start().await, Receiver::script(&[500]).await, Receiver::start(Reply::ok).await);
    let (_, canceled) = patient(&weft, &bad, "a.b").await;
    let (other, waiting) = patient(&weft, &good, "a.b").await;
    post(&weft, &format!("/connections/{other}/pause")).await.answered(200, "paused");
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.attempts(&event, &canceled, 1).await;
    let path = format!("/events/{event}/rules/{canceled}/cancel");
    let shown = weft.ask_raw(Method::POST, &path, "").await.answered(200, "canceled");
    assert_eq!((&shown["rule"], &shown["status"]), (&json!(canceled), &json!("canceled")));
    assert!(shown["completed_at"].is_string() && shown["next_attempt_at"].is_null(), "{shown}");
    post(&weft, &path).await.refused(409, "the delivery is canceled", "canceled twice");
    let event_shown = weft.event_as(&event, "pending").await;
    let status_of = |rule: &str| {
        let all = event_shown["rule_events"].as_array().expect("a list");
        all.iter().find(|delivery| delivery["rule"] == rule).expect("a delivery")["status"].clone()
    };
    assert_eq!((status_of(&canceled), status_of(&waiting)), (json!("canceled"), json!("pending")));
    post(&weft, &format!("/connections/{other}/resume")).await.answered(200, "resumed");
    let done = weft.event_as(&event, "canceled").await;
    assert_eq!(done["completed_count"], 1, "the other one went its way");
    assert_eq!((bad.so_far().len(), good.so_far().len()), (1, 1));
    weft.stop().await;
}

#[tokio::test]
async fn canceling_an_event_calls_off_what_is_not_final() {
    let weft = Weft::start().await;
    let (good, bad, refusing) =
        (Receiver::start(Reply::ok).await, Receiver::script(&[500]).await, Receiver::script(&[400]).await);
    let mut rules = Vec::new();
    for receiver in [&good, &bad, &good, &refusing] {
        rules.push(patient(&weft, receiver, "a.b").await);
    }
    post(&weft, &format!("/connections/{}/pause", rules[2].0)).await.answered(200, "paused");
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    for at in [0, 1, 3] {
        weft.attempts(&event, &rules[at].1, 1).await;
    }
    let path = format!("/events/{event}/cancel");
    let shown = weft.ask_raw(Method::POST, &path, "").await.answered(200, "canceled");
    let statuses: Vec<_> = shown["rule_events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|delivery| delivery["status"].clone())
        .collect();
    assert_eq!(statuses, ["completed", "canceled", "canceled", "failed"], "{shown}");
    assert_eq!(shown, weft.get(&format!("/events/{event}")).await.answered(200, "shown"));
    post(&weft, &path).await.refused(409, "the delivery is", "there is nothing left to call off");
    post(&weft, &format!("/connections/{}/resume", rules[2].0)).await.answered(200, "resumed");
    // Another event on that connection goes through, and so would the canceled one have before it.
    let next = weft.send_event("a.b", json!({ "n": 2 })).await;
    weft.attempts(&next, &rules[2].1, 1).await;
    let came = good.so_far().iter().filter(|received| received.json()["uuid"] == event.as_str()).count();
    assert_eq!(came, 1, "once, by the first rule");
    weft.stop().await;
}

#[tokio::test]
async fn an_attempt_in_flight_ends_naturally_when_it_is_canceled() {
    let weft = Weft::start().await;
    let (open, gate) = watch::channel(false);
    let receiver = Receiver::start(move |_, _| Reply::status(500).behind(&gate)).await;
    let (_, rule) = patient(&weft, &receiver, "a.b").await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    receiver.received(1).await;
    let path = format!("/events/{event}/rules/{rule}/cancel");
    assert_eq!(post(&weft, &path).await.answered(200, "canceled")["status"], "canceled");
    open.send_replace(true);
    let attempts = weft.attempts(&event, &rule, 1).await;
    assert_eq!(attempts[0]["http_status"], 500, "it is on record");
    assert_eq!(attempts[0]["next_retry_at"], Value::Null, "and the last one");
    weft.event_as(&event, "canceled").await;
    weft.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_is_neither_retried_nor_canceled() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[500]).await);
    let (_, rule) = patient(&weft, &receiver, "a.b").await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.event_as(&event, "retrying").await;
    let unknown = uuid::Uuid::now_v7();
    #[rustfmt::skip]
    let cases = [
        ("an unknown event",       format!("/events/{unknown}/rules/{rule}/retry"),  "event not found"),
        ("an unknown rule",        format!("/events/{event}/rules/{unknown}/retry"), "rule not found"),
        ("no id",                  format!("/events/{event}/rules/first/retry"),     "rule not found"),
        ("an unknown event",       format!("/events/{unknown}/rules/{rule}/cancel"), "event not found"),
        ("an unknown rule",        format!("/events/{event}/rules/{unknown}/cancel"), "rule not found"),
        ("an unknown event",       format!("/events/{unknown}/cancel"),              "event not found"),
        ("no id",                  "/events/newest/cancel".to_owned(),               "event not found"),
    ];
    for (why, path, says) in cases {
        post(&weft, &path).await.refused(404, says, why);
    }
    let event = weft.event_as(&event, "retrying").await;
    assert_eq!(delivery(&event)["attempt_count"], 1, "nothing was changed");
    weft.stop().await;
}

/// A history does not grow without end: of the attempts the newest fifty are kept, and all are counted.
#[tokio::test]
async fn the_newest_fifty_attempts_are_kept() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[400]).await);
    let rule = weft.rule("a.b", &weft.webhook(&receiver.url("/")).await).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let first = text(&weft.attempts(&event, &rule, 1).await[0]["id"]);
    for n in 2..=53_usize {
        post(&weft, &format!("/events/{event}/rules/{rule}/retry"))
            .await
            .answered(200, "given up, and again");
        receiver.received(n).await;
        weft.event_as(&event, "failed").await;
    }
    let shown = weft.event_as(&event, "failed").await;
    assert_eq!(delivery(&shown)["attempt_count"], 53);
    let attempts = weft.attempts(&event, &rule, 50).await;
    let numbers: Vec<u64> =
        attempts.iter().map(|attempt| attempt["attempt_number"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (4..=53).collect::<Vec<_>>());
    let forgotten = format!("/events/{event}/rules/{rule}/attempts/{first}");
    weft.get(&forgotten).await.refused(404, "attempt not found", "forgotten");
    weft.response_details(&attempts[0]).await.answered(200, "the oldest that is kept, with its answer");
    weft.stop().await;
}
