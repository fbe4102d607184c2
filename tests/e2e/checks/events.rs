//! Checks 27 to 35: events sent, listed, shown, retried and canceled.

use crate::support::{NodeEvents, NodeManagement, Receiver, Reply, Weft, assert_members, ids, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::sync::watch;

/// What an accepted event is told with, beside what only some have.
const ACCEPTED: [&str; 7] = ["id", "event", "workspace", "type", "resource", "created_by", "created_at"];

#[tokio::test]
async fn check_27_an_event_is_accepted_or_its_fault_is_told() {
    let weft = Weft::start().await;
    let events = NodeEvents::of(&weft);
    let event = json!({ "event": "contact.created", "payload": { "email": "ada@example.com" } });
    let about = json!({ "event": "a.b", "payload": { "n": 1 }, "resource": "user", "resource_id": "7", "type": "event", "workspace": weft.workspace });
    for (event, resource, id) in [(event, "global", None), (about, "user", Some("7"))] {
        let sent = events.emit(event.clone()).await.answered(201, "accepted");
        assert_members(&sent, &["event"], "wrapped");
        let told = &sent["event"];
        let more = id.map(|_| "resource_id");
        assert_members(told, &ACCEPTED.into_iter().chain(more).collect::<Vec<_>>(), "accepted");
        assert_eq!((&told["event"], &told["workspace"]), (&event["event"], &json!(weft.workspace)));
        assert_eq!((&told["resource"], told["resource_id"].as_str()), (&json!(resource), id));
        assert_eq!((&told["type"], &told["created_by"]), (&json!("event"), &json!(weft.publishable_key)));
        assert!(
            uuid::Uuid::try_parse(&text(&told["id"])).is_ok() && text(&told["created_at"]).ends_with('Z')
        );
    }
    #[rustfmt::skip]
    let refused = [
        ("missing payload",   r#"{"event":"a.b"}"#,                                "payload"),
        ("array payload",     r#"{"event":"a.b","payload":[{"n":1}]}"#,            "payload"),
        ("blank event",       r#"{"event":" \t","payload":{"n":1}}"#,              "event"),
        ("empty event",       r#"{"event":"","payload":{"n":1}}"#,                 "event"),
        ("bad email",         r#"{"event":"a.b","payload":{"email":"not one"}}"#,  "payload.email"),
    ];
    for (why, body, param) in refused {
        events.send("/events", body).await.assert_error(400, param, why);
    }
    assert_eq!(weft.events().await, ["contact.created", "a.b"], "nothing else was kept");
    weft.stop().await;
}

/// A key of the whole organization has to say which workspace.
#[tokio::test]
async fn check_28_a_machine_says_which_workspace() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let mut event = json!({ "event": "a.b", "payload": { "n": 1 } });
    api.post("/events", event.clone()).await.assert_error(400, "workspace", "without");
    event["workspace"] = json!(weft.workspace);
    let sent = api.post("/events", event).await.answered(201, "with");
    assert_eq!(sent["event"]["workspace"], weft.workspace.as_str());
    weft.stop().await;
}

/// A bare array: 201 when all are good, 207 with the fault in its place when some are not, 400 when it is none.
#[tokio::test]
async fn check_29_a_bulk_is_told_event_by_event() {
    let weft = Weft::start().await;
    let events = NodeEvents::of(&weft);
    let event = |n: usize| json!({ "event": format!("n{n}"), "payload": { "n": n } });
    let many = |count: usize| -> Value { (0..count).map(event).collect() };

    let good = events.emit_batch(many(3)).await.answered(201, "three good ones");
    assert_members(&good, &["count", "records"], "no error_count");
    assert_eq!(good["count"], 3);
    let names: Vec<_> =
        good["records"].as_array().expect("an array").iter().map(|one| &one["event"]).collect();
    assert_eq!(names, ["n0", "n1", "n2"], "in their order");

    let mut mixed = many(3);
    mixed[1] = json!({ "event": "bad", "payload": [] });
    let mixed = events.send("/events/bulk", &mixed.to_string()).await.answered(207, "one is not");
    assert_members(&mixed, &["count", "error_count", "records"], "mixed");
    assert_eq!((&mixed["count"], &mixed["error_count"]), (&json!(3), &json!(1)));
    let records = &mixed["records"];
    assert_eq!((&records[0]["event"], &records[2]["event"]), (&json!("n0"), &json!("n2")));
    assert!(records[1]["message"].as_str().is_some_and(|message| !message.is_empty()), "{mixed}");
    assert!(records[1].get("id").is_none() && records[0].get("message").is_none(), "{mixed}");

    events.emit_batch(many(100)).await.answered(201, "as many as there may be");
    for (why, body) in [
        ("101", many(101)),
        ("an object", event(0)),
        ("the wrapper of a stale readme", json!({ "events": [event(0)] })),
        ("none", json!([])),
    ] {
        events.send("/events/bulk", &body.to_string()).await.refused(400, "", why);
    }
    assert_eq!(weft.events().await.len(), 3 + 2 + 100);
    weft.stop().await;
}

/// Two rules: `total_rules` 2, and two rule events, each with its own status, none in the way of the other.
#[tokio::test]
async fn check_30_deliveries_of_one_event_are_independent() {
    let weft = Weft::start().await;
    let (good, bad) = (Receiver::start(Reply::ok).await, Receiver::script(&[500]).await);
    let policy = json!({ "retry": [3_600_000] });
    let connections =
        [weft.webhook_with(&bad.url("/"), json!({}), policy).await, weft.webhook(&good.url("/")).await];
    let rules = [weft.rule("a.b", &connections[0]).await, weft.rule("a.b", &connections[1]).await];
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.attempts(&event, &rules[0], 1).await;
    weft.attempts(&event, &rules[1], 1).await;
    let shown = weft.event_as(&event, "retrying").await;
    assert_eq!((&shown["total_rules"], &shown["completed_count"]), (&json!(2), &json!(1)));
    let told: Vec<_> = shown["rule_events"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|delivery| (text(&delivery["rule"]), text(&delivery["connection"]), text(&delivery["status"])))
        .collect();
    let [failing, going] = connections;
    let [first, second] = rules;
    assert_eq!(told, [(first, failing, "retrying".to_owned()), (second, going, "completed".to_owned())]);
    assert_eq!((good.so_far().len(), bad.so_far().len()), (1, 1));
    weft.stop().await;
}

/// I8: `GET` of an event has no payload; `/payload` has it, byte for byte.
#[tokio::test]
async fn check_31_a_payload_is_shown_apart_and_as_it_was_sent() {
    let weft = Weft::start().await;
    #[rustfmt::skip]
    let payloads = [
        ("numbers",        r#"{"a":1.0,"b":12345678901234567890123,"c":1e400,"d":-0.0,"e":0.1000000000000000055511151231257827}"#),
        ("code points",    r#"{"esc":"\u00e9\/\ud83d\ude00","é":"e\u0301","nul":"\u0000"}"#),
        ("blanks, order",  "{ \"z\" : 1 ,\n\t\"a\":[ ], \"m\": {} }"),
        ("known members",  r#"{"email":"ada@example.com","id":"7","phone":"+1","first_name":"Ada"}"#),
    ];
    for (why, payload) in payloads {
        let body = format!(r#"{{"event":"a.b","payload":{payload},"resource":"team"}}"#);
        let sent = NodeEvents::of(&weft).send("/events", &body).await.answered(201, why);
        let path = format!("/events/{}", text(&sent["event"]["id"]));
        weft.event_as(&text(&sent["event"]["id"]), "completed").await;
        let shown = weft.get(&format!("{path}/payload")).await;
        assert_eq!(shown.status, 200, "{why}");
        // The same object as without it, and the payload.
        let event = weft.get(&path).await.text;
        assert!(!event.contains("payload"), "{why}: {event}");
        let expected = format!(r#"{},"payload":{payload}}}"#, &event[..event.len() - 1]);
        assert_eq!(shown.text, expected, "{why}");
    }
    weft.stop().await;
}

/// Limits of 0 and 201 are refused; cursors are plain text, visit each record once and end with null.
#[tokio::test]
async fn check_32_cursors_walk_events_once() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let (mut events, mut sessions) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..7 {
        events.insert(weft.send_event("a.b", json!({ "n": n })).await);
        sessions.insert(text(&weft.mint(json!({})).await["session_id"]));
    }
    let workspace = &weft.workspace;
    #[rustfmt::skip]
    let lists = [
        ("/events?x=1".to_owned(),                          "id",           &events),
        (format!("/workspaces/{workspace}/events?x=1"),     "id",           &events),
        (format!("/workspaces/{workspace}/events?event=a.b"), "id",         &events),
        (format!("/sessions?workspace_id={workspace}"),     "session_id",   &sessions),
    ];
    for (list, id, expected) in lists {
        for limit in ["0", "201", "-1", "x"] {
            api.get(&format!("{list}&limit={limit}")).await.assert_error(400, "limit", &list);
        }
        let plain = api.get(&list).await.answered(200, &list);
        assert_eq!((&plain["limit"], &plain["count"]), (&json!(50), &json!(7)), "{list}");
        for limit in [1, 3, 7, 200] {
            let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
            loop {
                let page = api.get(&format!("{list}&limit={limit}{cursor}")).await.answered(200, &list);
                let records = page["records"].as_array().expect("an array");
                assert_eq!((&page["count"], &page["limit"]), (&json!(records.len()), &json!(limit)));
                seen.extend(records.iter().map(|record| text(&record[id])));
                pages += 1;
                let Some(next) = page["next_cursor"].as_str() else { break };
                assert!(
                    !next.is_empty() && next.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                );
                cursor = format!("&cursor={next}");
            }
            assert_eq!(pages, 7_usize.div_ceil(limit), "{list} by {limit}");
            assert_eq!(seen.len(), 7, "{list} by {limit}: each once");
            assert_eq!(&seen.into_iter().collect::<BTreeSet<_>>(), expected, "{list} by {limit}");
        }
    }
    weft.stop().await;
}

/// One event in each of the six statuses, by status; the gate lets the one in flight end.
async fn one_of_each(weft: &Weft) -> (Vec<(&'static str, String)>, Vec<Receiver>, watch::Sender<bool>) {
    let (open, gate) = watch::channel(false);
    let mut receivers = Vec::new();
    let mut events = Vec::new();
    for status in ["completed", "failed", "retrying", "processing", "pending", "canceled"] {
        let gate = gate.clone();
        let receiver = Receiver::start(move |_, _| match status {
            "failed" => Reply::status(400),
            "retrying" => Reply::status(500),
            "processing" => Reply::status(200).behind(&gate),
            _ => Reply::status(200),
        });
        let receiver = receiver.await;
        let connection = weft
            .webhook_with(
                &receiver.url("/"),
                json!({}),
                json!({ "retry": [3_600_000], "timeout_ms": 60_000 }),
            )
            .await;
        if status == "pending" || status == "canceled" {
            weft.ask(Method::POST, &format!("/connections/{connection}/pause"), None)
                .await
                .answered(200, status);
        }
        weft.rule(&format!("status.{status}"), &connection).await;
        let event = weft.send_event(&format!("status.{status}"), json!({ "n": 1 })).await;
        if status == "canceled" {
            weft.event_as(&event, "pending").await;
            let path = format!("/events/{event}/cancel");
            weft.ask(Method::POST, &path, None).await.answered(200, status);
        }
        weft.event_as(&event, status).await;
        events.push((status, event));
        receivers.push(receiver);
    }
    (events, receivers, open)
}

#[tokio::test]
async fn check_33_lists_are_filtered_by_each_of_six_statuses() {
    let weft = Weft::start().await;
    let (events, _receivers, open) = one_of_each(&weft).await;
    let newest_first: Vec<String> = events.iter().rev().map(|(_, id)| id.clone()).collect();
    for list in ["/events".to_owned(), format!("/workspaces/{}/events", weft.workspace)] {
        let all = weft.get(&list).await.answered(200, "all");
        assert_members(&all, &["count", "limit", "next_cursor", "records"], "the envelope");
        assert_eq!(
            (&all["count"], &all["limit"], &all["next_cursor"]),
            (&json!(6), &json!(50), &Value::Null)
        );
        assert_eq!(ids(&all), newest_first, "{list}");
        for (status, id) in &events {
            let found = weft.get(&format!("{list}?status={status}")).await.answered(200, status);
            assert_eq!(ids(&found), [id.as_str()], "{status} in {list}");
            assert_eq!(found["records"][0]["status"], *status);
            let named = weft
                .get(&format!("{list}?status={status}&event=status.{status}"))
                .await
                .answered(200, status);
            assert_eq!(ids(&named), [id.as_str()], "{status} by its name in {list}");
            let none =
                weft.get(&format!("{list}?status={status}&event=status.other")).await.answered(200, status);
            assert_eq!(none["records"], json!([]), "{status} of another name in {list}");
        }
        for unknown in ["", "done", "Completed", "completed,failed", "completed%20"] {
            let answer = weft.get(&format!("{list}?status={unknown}")).await;
            answer.refused(
                400,
                "status must be pending, processing, retrying, completed, failed or canceled",
                unknown,
            );
        }
    }
    open.send_replace(true);
    weft.event_as(&events[3].1, "completed").await;
    weft.stop().await;
}

/// A failed one is retried: 200 and the rule event. One in flight is 425, a completed one 409.
#[tokio::test]
async fn check_34_what_failed_is_retried_and_nothing_else() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let (open, gate) = watch::channel(false);
    let receiver = Receiver::start(move |n, _| match n {
        0 => Reply::status(400),
        _ => Reply::status(200).behind(&gate),
    })
    .await;
    let patient = json!({ "timeout_ms": 60_000 });
    let rule = weft.rule("a.b", &weft.webhook_with(&receiver.url("/"), json!({}), patient).await).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let failed = weft.event_as(&event, "failed").await;
    let retry = format!("/events/{event}/rules/{rule}/retry");
    let retried = api.post(&retry, None).await.answered(200, "failed");
    for same in ["id", "event_id", "rule", "connection", "workspace", "type", "event", "created_at"] {
        assert_eq!(retried[same], failed["rule_events"][0][same], "{same}");
    }
    assert!(["pending", "retrying", "processing"].contains(&text(&retried["status"]).as_str()), "{retried}");
    receiver.received(2).await;
    weft.event_as(&event, "processing").await;
    api.post(&retry, None).await.refused(425, "in flight", "an attempt is in flight");
    open.send_replace(true);
    weft.event_as(&event, "completed").await;
    api.post(&retry, None).await.refused(409, "completed", "it is done");
    assert_eq!(receiver.so_far().len(), 2);
    weft.stop().await;
}

/// Canceling a rule stops its attempts; canceling an event reaches every rule that is not final; each try is explained.
#[tokio::test]
async fn check_35_canceling_stops_further_attempts_and_each_try_is_explained() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let (good, bad, refusing) =
        (Receiver::start(Reply::ok).await, Receiver::script(&[500]).await, Receiver::script(&[400]).await);
    let mut rules = Vec::new();
    let quick_then_patient = json!({ "retry": [0, 3_600_000, 0] });
    for receiver in [&good, &bad, &bad, &refusing] {
        let connection = weft.webhook_with(&receiver.url("/"), json!({}), quick_then_patient.clone()).await;
        rules.push(weft.rule("a.b", &connection).await);
    }
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let explained: [&[(&str, u16)]; 4] = [
        &[("delivered", 200)],
        &[("rejected_server_error", 500), ("rejected_server_error", 500)],
        &[("rejected_server_error", 500), ("rejected_server_error", 500)],
        &[("rejected_client_error", 400)],
    ];
    let statuses = |event: &Value| -> Vec<String> {
        event["rule_events"].as_array().expect("an array").iter().map(|one| text(&one["status"])).collect()
    };
    for (rule, tries) in rules.iter().zip(explained) {
        weft.attempts(&event, rule, tries.len()).await;
    }
    let one = api.post(&format!("/events/{event}/rules/{}/cancel", rules[1]), None).await;
    let one = one.answered(200, "one rule");
    assert_eq!((&one["rule"], &one["status"]), (&json!(rules[1]), &json!("canceled")));
    let shown = weft.event_as(&event, "retrying").await;
    assert_eq!(statuses(&shown), ["completed", "canceled", "retrying", "failed"], "the others go on");
    let all = api.post(&format!("/events/{event}/cancel"), None).await.answered(200, "the event");
    assert_eq!(statuses(&all), ["completed", "canceled", "canceled", "failed"]);
    for rule in &rules[1..3] {
        api.post(&format!("/events/{event}/rules/{rule}/retry"), None)
            .await
            .refused(409, "canceled", "for good");
    }
    // A later event is tried by the same connections, and the canceled one is not.
    let later = weft.send_event("a.b", json!({ "n": 2 })).await;
    for (rule, tries) in rules.iter().zip(explained) {
        weft.attempts(&later, rule, tries.len()).await;
        let list = api.get(&format!("/events/{event}/rules/{rule}/attempts")).await.answered(200, "attempts");
        assert_members(&list, &["count", "limit", "next_cursor", "records"], "the envelope");
        let records = list["records"].as_array().expect("an array");
        assert_eq!(records.len(), tries.len(), "{list}");
        for (n, (attempt, (outcome, status))) in records.iter().zip(tries).enumerate() {
            assert_eq!(
                (&attempt["outcome_code"], &attempt["http_status"]),
                (&json!(outcome), &json!(status))
            );
            assert_eq!(attempt["attempt_number"], n + 1);
            assert_eq!(text(&attempt["message"]).is_empty(), *outcome == "delivered", "{attempt}");
            assert!(attempt["duration_ms"].is_u64() && attempt["started_at"].is_string(), "{attempt}");
        }
    }
    weft.stop().await;
}
