//! Trying rules out: a test goes the way of a real event, says that it is one, and shows where it stopped.

use crate::support::{Receiver, Reply, Weft, text};
use serde_json::{Value, json};

struct World {
    weft: Weft,
    receiver: Receiver,
    connection: String,
}

impl World {
    async fn new() -> Self {
        let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
        let connection = weft.webhook(&receiver.url("/")).await;
        Self { weft, receiver, connection }
    }

    /// Sends a test below the workspace, and waits for what becomes of it.
    async fn test(&self, path: &str, body: Value, status: &str) -> Value {
        let path = format!("/workspaces/{}{path}", self.weft.workspace);
        let answer = self.weft.post(&path, body).await;
        let look_at = answer.header("location").map(str::to_owned);
        let shown = answer.answered(201, &path);
        assert_eq!(shown["event"]["test"], true, "{shown}");
        assert_eq!(look_at.as_deref(), shown["look_at"].as_str(), "{path}");
        let id = text(&shown["event"]["id"]);
        assert_eq!(shown["look_at"], format!("/api/v1/events/{id}"), "{path}");
        self.weft.event_as(&id, status).await
    }
}

#[tokio::test]
async fn a_rule_is_tested_alone_by_a_sample_of_its_name() {
    let world = World::new().await;
    let tested = json!({ "event": "invoice.*", "resource": "shop", "connection": world.connection });
    let tested = world.weft.rule_with(tested).await;
    world.weft.rule("*", &world.connection).await;

    let event = world.test(&format!("/rules/{tested}/test"), json!({}), "completed").await;
    assert_eq!((&event["event"], &event["resource"]), (&json!("invoice.test"), &json!("shop")));
    assert_eq!((&event["test"], &event["total_rules"]), (&json!(true), &json!(1)));
    assert_eq!(event["rule_events"][0]["rule"], tested.as_str());
    let [came] = &world.receiver.so_far()[..] else { panic!("one request") };
    assert_eq!(came.json()["payload"]["email"], "ada@example.com");
    assert_eq!(came.json()["uuid"], event["id"]);

    // All rules of a name, with a payload of its own.
    let body = json!({ "event": "invoice.paid", "resource": "shop", "payload": { "n": 1 } });
    let event = world.test("/events/test", body, "completed").await;
    assert_eq!(event["total_rules"], 2);
    // A real event is no test.
    let real = world.weft.send_event("invoice.paid", json!({ "n": 2 })).await;
    let real = world.weft.event_as(&real, "completed").await;
    assert_eq!(real.get("test"), None);
    world.weft.stop().await;
}

#[tokio::test]
async fn a_test_shows_where_it_stopped() {
    let world = World::new().await;
    let weft = &world.weft;
    let conditions = json!({ "path": "plan", "op": "eq", "value": "pro" });
    let body = json!({ "event": "a.b", "connection": world.connection, "conditions": conditions });
    let rule = weft.rule_with(body).await;
    let path = format!("/rules/{rule}/test");
    let event = world.test(&path, json!({}), "completed").await;
    assert_eq!((&event["total_rules"], &event["unmatched_rules"][0]["rule"]), (&json!(0), &json!(rule)));
    let reason = text(&event["unmatched_rules"][0]["reason"]);
    assert!(reason.contains("plan"), "{reason}");

    let event = world.test(&path, json!({ "payload": { "plan": "pro" } }), "completed").await;
    assert_eq!(event["total_rules"], 1);

    let refusing = Receiver::script(&[400]).await;
    let elsewhere = weft.webhook(&refusing.url("/")).await;
    let failing = weft.rule("c.d", &elsewhere).await;
    let event = world.test(&format!("/rules/{failing}/test"), json!({}), "failed").await;
    assert_eq!(event["rule_events"][0]["status"], "failed");
    let tried = weft.attempts(&text(&event["id"]), &failing, 1).await;
    assert_eq!(tried[0]["outcome_code"], "rejected_client_error");

    weft.patch(&format!("/rules/{rule}"), json!({ "active": false })).await.answered(200, "off");
    let event = world.test(&path, json!({ "payload": { "plan": "pro" } }), "completed").await;
    assert_eq!(event["unmatched_rules"][0]["reason"], "the rule is not active");
    world.weft.stop().await;
}

#[tokio::test]
async fn what_is_no_test_is_refused_as_an_event_would_be() {
    let world = World::new().await;
    let weft = &world.weft;
    let rule = weft.rule("a.b", &world.connection).await;
    let own = format!("/workspaces/{}", weft.workspace);
    let [one, all] = [format!("{own}/rules/{rule}/test"), format!("{own}/events/test")];
    let long = "x".repeat(256);
    #[rustfmt::skip]
    let cases = [
        // why                       path   body                                                    param
        ("no name for all",          &all,  json!({}),                                              "event"),
        ("a name of null for all",   &all,  json!({ "event": null }),                               "event"),
        ("a blank name",             &one,  json!({ "event": " " }),                                "event"),
        ("a name of a number",       &one,  json!({ "event": 5 }),                                  "event"),
        ("a name too long",          &one,  json!({ "event": long }),                               "event"),
        ("a name with NUL",          &one,  json!({ "event": "a\u{0}" }),                           "event"),
        ("an empty resource",        &one,  json!({ "resource": "" }),                              "resource"),
        ("a resource id, a list",    &one,  json!({ "resource_id": [] }),                           "resource_id"),
        ("a payload of text",        &one,  json!({ "payload": "x" }),                              "payload"),
        ("an empty payload",         &one,  json!({ "payload": {} }),                               "payload"),
        ("a bad email",              &one,  json!({ "payload": { "email": "x" } }),                 "payload.email"),
        ("a list",                   &one,  json!([]),                                              "body"),
        ("text",                     &one,  json!("x"),                                             "body"),
    ];
    for (why, path, body, param) in cases {
        weft.post(path, body).await.assert_error(400, param, why);
    }
    let large = json!({ "payload": { "x": "x".repeat(300 << 10) } });
    weft.post(&one, large).await.assert_error(413, "", "a large payload");
    let unknown = format!("{own}/rules/{}/test", uuid::Uuid::now_v7());
    weft.post(&unknown, json!({})).await.refused(404, "rule not found", "an unknown rule");
    let (sibling, _) = weft.another_workspace("sibling").await;
    let foreign = weft.post(&format!("/workspaces/{sibling}/rules/{rule}/test"), json!({})).await;
    foreign.refused(404, "rule not found", "another workspace's rule");
    let ignored = json!({ "event": null, "payload": null, "resource": null, "workspace": sibling, "x": 1 });
    let event = world.test(&format!("/rules/{rule}/test"), ignored, "completed").await;
    assert_eq!((&event["event"], &event["workspace"]), (&json!("a.b"), &json!(weft.workspace)));
    assert_eq!(world.receiver.so_far().len(), 1);
    world.weft.stop().await;
}
