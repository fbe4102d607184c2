//! What became of events: lists by every filter, one event with its deliveries, payloads, attempts.

use crate::support::{Receiver, Reply, Weft, assert_members, ids, text};
use serde_json::{Value, json};

const EVENT: [&str; 11] = [
    "id",
    "event",
    "workspace",
    "type",
    "resource",
    "created_by",
    "created_at",
    "status",
    "total_rules",
    "completed_count",
    "failed_count",
];
const RULE_EVENT: [&str; 12] = [
    "id",
    "workspace",
    "event_id",
    "connection",
    "rule",
    "type",
    "event",
    "resource",
    "integration_type",
    "status",
    "attempt_count",
    "created_by",
];
const ATTEMPT: [&str; 11] = [
    "id",
    "event_id",
    "rule",
    "rule_event",
    "connection",
    "attempt_number",
    "started_at",
    "completed_at",
    "duration_ms",
    "outcome_code",
    "message",
];

#[tokio::test]
async fn lists_are_filtered_by_name_resource_and_workspace() {
    let weft = Weft::start().await;
    let (sibling, their_key) = weft.sibling("sibling").await;
    let mut events = Vec::new();
    #[rustfmt::skip]
    let sent = [
        json!({ "event": "a.b" }),
        json!({ "event": "a.b", "resource": "team" }),
        json!({ "event": "a.b", "resource": "team", "resource_id": "t:1" }),
        json!({ "event": "ü x&y", "resource": "global", "resource_id": "t:1" }),
    ];
    for mut event in sent {
        event["payload"] = json!({ "n": 1 });
        let sent = weft.emit(event).await.answered(201, "sent");
        events.push(text(&sent["event"]["id"]));
    }
    let theirs =
        weft.request(reqwest::Method::POST, "/api/v1/events").header("x-meshes-publishable-key", their_key);
    let theirs = crate::support::send(theirs.json(&json!({ "event": "a.b", "payload": { "n": 2 } }))).await;
    let theirs = text(&theirs.answered(201, "a sibling's")["event"]["id"]);
    events.push(theirs.clone());

    #[rustfmt::skip]
    let cases: [(&str, &str, &[usize]); 11] = [
        ("all, the newest first",       "",                                        &[4, 3, 2, 1, 0]),
        ("a name",                      "event=a.b",                               &[4, 2, 1, 0]),
        ("no pattern",                  "event=a.*",                               &[]),
        ("encoded",                     "event=%C3%BC%20x%26y",                    &[3]),
        ("a resource",                  "resource=team",                           &[2, 1]),
        ("the resource of none",        "resource=global",                         &[4, 3, 0]),
        ("a resource id",               "resource_id=t:1",                         &[3, 2]),
        ("a resource and its id",       "resource=team&resource_id=t:1",           &[2]),
        ("a name and a resource id",    "event=a.b&resource_id=t:1",               &[2]),
        ("all four",                    "event=a.b&resource=team&resource_id=t:1&status=completed", &[2]),
        ("two names: the first",        "event=a.b&event=other",                   &[4, 2, 1, 0]),
    ];
    let workspace = format!("/workspaces/{}/events", weft.workspace);
    for event in &events {
        weft.event_as(event, "completed").await;
    }
    for (why, query, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|at| events[*at].clone()).collect();
        let found = weft.get(&format!("/events?{query}")).await.answered(200, why);
        assert_eq!(ids(&found), expected, "{why}");
        let ours: Vec<String> = expected.iter().filter(|id| **id != theirs).cloned().collect();
        let found = weft.get(&format!("{workspace}?{query}")).await.answered(200, why);
        assert_eq!(ids(&found), ours, "{why}, in the workspace");
        // A page at a time, filters finding their way too.
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = weft.get(&format!("/events?{query}&limit=1{cursor}")).await.answered(200, why);
            seen.extend(ids(&page));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{why}, page by page");
    }
    let found = weft.get(&format!("/workspaces/{sibling}/events")).await.answered(200, "a sibling's");
    assert_eq!(ids(&found), [theirs]);
    let unknown = format!("/workspaces/{}/events", uuid::Uuid::now_v7());
    weft.get(&unknown).await.refused(404, "workspace not found", "there is none");
    weft.stop().await;
}

#[tokio::test]
async fn an_event_is_shown_with_all_that_became_of_it() {
    let weft = Weft::start().await;
    let (good, bad) = (Receiver::start(Reply::ok).await, Receiver::script(&[503, 404]).await);
    let delivered = weft.webhook(&good.url("/")).await;
    let refused = weft.webhook_with(&bad.url("/"), json!({}), json!({ "retry": [0] })).await;
    let rules = [weft.rule("a.b", &delivered).await, weft.rule("a.*", &refused).await];
    let other = weft.rule_with(json!({ "event": "a.b", "connection": delivered, "resource": "team" })).await;

    let sent = weft
        .emit(json!({ "event": "a.b", "payload": { "n": 1 }, "resource_id": "r:1" }))
        .await
        .answered(201, "sent");
    let id = text(&sent["event"]["id"]);
    let event = weft.event_as(&id, "failed").await;
    let times = ["started_at", "completed_at"];
    assert_members(
        &event,
        &[&EVENT[..], &times, &["resource_id", "rule_events", "unmatched_rules"]].concat(),
        "an event",
    );
    #[rustfmt::skip]
    let expected = [
        ("event", json!("a.b")), ("workspace", json!(weft.workspace)), ("type", json!("event")), ("resource", json!("global")),
        ("resource_id", json!("r:1")), ("created_by", json!(weft.publishable_key)), ("created_at", sent["event"]["created_at"].clone()),
        ("total_rules", json!(2)), ("completed_count", json!(1)), ("failed_count", json!(1)),
        ("unmatched_rules", json!([{ "rule": other, "connection": delivered, "reason": r#"resource is "global", the rule wants "team""# }])),
    ];
    for (name, value) in expected {
        assert_eq!(event[name], value, "{name}");
    }
    let deliveries = event["rule_events"].as_array().expect("a list");
    let shown: Vec<&Value> = deliveries.iter().map(|delivery| &delivery["rule"]).collect();
    assert_eq!(shown, [&rules[0], &rules[1]], "in the order of the rules");
    #[rustfmt::skip]
    let expected = [(&delivered, "completed", 1, None), (&refused, "failed", 2, Some("the endpoint answered 404 Not Found"))];
    for (delivery, (connection, status, attempts, last_error)) in deliveries.iter().zip(expected) {
        let error = last_error.map(|_| "last_error");
        let members = [&RULE_EVENT[..], &times, &["created_at", "resource_id"]].concat();
        assert_members(delivery, &members.into_iter().chain(error).collect::<Vec<_>>(), status);
        assert_eq!(delivery["connection"], *connection, "{status}");
        assert_eq!(
            (delivery["status"].as_str(), &delivery["attempt_count"]),
            (Some(status), &json!(attempts))
        );
        assert_eq!(delivery["last_error"].as_str(), last_error);
        assert_eq!((&delivery["type"], &delivery["integration_type"]), (&json!("rule"), &json!("webhook")));
        assert_eq!((&delivery["event_id"], &delivery["event"]), (&json!(id), &json!("a.b")));
    }

    let list = weft.get("/events").await.answered(200, "listed");
    assert_members(
        &list["records"][0],
        &[&EVENT[..], &times, &["resource_id"]].concat(),
        "an event in a list",
    );

    let tried = format!("/events/{id}/rules/{}/attempts", rules[1]);
    let attempts = weft.get(&tried).await.answered(200, "attempts");
    assert_members(&attempts, &["count", "limit", "next_cursor", "records"], "the envelope");
    assert_eq!(attempts["count"], 2);
    #[rustfmt::skip]
    let expected = [("rejected_server_error", 503, true), ("rejected_client_error", 404, false)];
    for (n, (outcome, status, again)) in expected.into_iter().enumerate() {
        let attempt = &attempts["records"][n];
        let optional = ["next_retry_at"].iter().filter(|_| again);
        let members = ATTEMPT.iter().chain(&["http_status", "created_at"]).chain(optional).copied();
        assert_members(attempt, &members.collect::<Vec<_>>(), outcome);
        assert_eq!((&attempt["outcome_code"], &attempt["http_status"]), (&json!(outcome), &json!(status)));
        assert_eq!((&attempt["attempt_number"], &attempt["rule"]), (&json!(n + 1), &json!(rules[1])));
        assert_eq!((&attempt["rule_event"], &attempt["event_id"]), (&deliveries[1]["id"], &json!(id)));
        let one = weft.get(&format!("{tried}/{}", text(&attempt["id"]))).await.answered(200, outcome);
        assert_eq!(one, *attempt, "shown as it was listed");
        let details = weft.response_details(attempt).await.answered(200, outcome);
        assert_members(&details, &["status", "headers", "body", "truncated"], outcome);
        assert_eq!((&details["status"], &details["truncated"]), (&json!(status), &json!(false)));
    }
    let by_delivery = format!("/events/{id}/rules/{}/attempts", text(&deliveries[1]["id"]));
    assert_eq!(
        weft.get(&by_delivery).await.answered(200, "by the rule event's id")["records"],
        attempts["records"]
    );
    let delivered = weft.attempts(&id, &rules[0], 1).await.remove(0);
    assert_eq!((&delivered["outcome_code"], &delivered["message"]), (&json!("delivered"), &json!("")));
    weft.response_details(&delivered).await.refused(
        404,
        "response of this attempt not found",
        "only failures are kept",
    );
    weft.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[400]).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let (rule, other) = (weft.rule("a.b", &connection).await, weft.rule("other", &connection).await);
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let second = weft.send_event("other", json!({ "n": 1 })).await;
    let attempt = text(&weft.attempts(&event, &rule, 1).await[0]["id"]);
    weft.attempts(&second, &other, 1).await;
    let unknown = uuid::Uuid::now_v7();
    #[rustfmt::skip]
    let cases = [
        ("an event",                    format!("/events/{unknown}"),                                               "event not found"),
        ("its payload",                 format!("/events/{unknown}/payload"),                                       "event not found"),
        ("its attempts",                format!("/events/{unknown}/rules/{rule}/attempts"),                         "event not found"),
        ("a rule",                      format!("/events/{event}/rules/{unknown}/attempts"),                        "rule not found"),
        ("another event's rule",        format!("/events/{event}/rules/{other}/attempts"),                          "rule not found"),
        ("an attempt",                  format!("/events/{event}/rules/{rule}/attempts/{unknown}"),                 "attempt not found"),
        ("its response",                format!("/events/{event}/rules/{rule}/attempts/{unknown}/response-details"), "attempt not found"),
        ("another delivery's attempt",  format!("/events/{second}/rules/{other}/attempts/{attempt}"),               "attempt not found"),
        ("and its response",            format!("/events/{second}/rules/{other}/attempts/{attempt}/response-details"), "attempt not found"),
        ("a path below an event",       format!("/events/{event}/rules"),                                           "route not found"),
    ];
    for (why, path, says) in cases {
        weft.get(&path).await.refused(404, says, why);
    }
    weft.stop().await;
}
