//! Connections over the API: made, listed, shown, replaced, changed, stopped, deleted.

use crate::support::{Receiver, Reply, Weft, assert_members, text};
use reqwest::Method;
use serde_json::{Value, json};

const CONNECTION: [&str; 12] = [
    "id",
    "workspace",
    "type",
    "name",
    "metadata",
    "active",
    "hidden",
    "paused",
    "policy",
    "created_by",
    "created_at",
    "updated_at",
];

/// A connection's body, with this beside what every one needs.
fn body(weft: &Weft, more: Value) -> Value {
    let metadata = json!({ "url": "http://127.0.0.1:9/hook", "skip_test": true });
    let mut body =
        json!({ "workspace": weft.workspace, "type": "webhook", "name": "Hook", "metadata": metadata });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_connection_is_made_listed_shown_replaced_and_changed() {
    let weft = Weft::start().await;
    let minimal = json!({ "url": "http://127.0.0.1:9/hook", "skip_test": true });
    let made = weft
        .post("/connections?x=1", body(&weft, json!({ "colour": "ignored" })))
        .await
        .answered(201, "made");
    assert_members(&made, &["connection"], "a create is wrapped");
    let made = &made["connection"];
    assert_members(made, &CONNECTION, "made");
    #[rustfmt::skip]
    let expected = [
        ("workspace", json!(weft.workspace)), ("type", json!("webhook")), ("name", json!("Hook")), ("metadata", minimal.clone()),
        ("active", json!(true)), ("hidden", json!(false)), ("paused", json!(false)), ("policy", json!({})),
        ("created_by", json!(weft.machine.access_key)),
    ];
    for (name, value) in expected {
        assert_eq!(made[name], value, "{name}");
    }
    let path = format!("/connections/{}", text(&made["id"]));
    let of_workspace = format!("/workspaces/{}/connections", weft.workspace);
    assert_eq!(weft.get(&path).await.answered(200, "shown"), *made);
    for list in ["/connections", &of_workspace] {
        let list = weft.get(list).await.answered(200, "listed");
        assert_members(&list, &["count", "limit", "next_cursor", "records"], "the envelope");
        assert_eq!(list["records"], json!([made]));
    }

    let policy = json!({ "rate_per_second": 0.5, "burst": 2, "max_in_flight": 3, "timeout_ms": 400, "retry": [5, 6], "ordering": "none" });
    let put = json!({ "name": "Hook 2", "metadata": { "url": "http://127.0.0.1:9/b", "http_method": "PUT", "skip_test": true }, "policy": policy, "hidden": true });
    type Case<'c> = (&'c str, Method, Value, &'c [(&'c str, Value)]);
    #[rustfmt::skip]
    let changes: [Case<'_>; 11] = [
        // why                                        method         body                                       and then
        ("PUT replaces",                              Method::PUT,   put.clone(),                               &[("name", json!("Hook 2")), ("metadata", put["metadata"].clone()), ("policy", policy.clone()), ("hidden", json!(true))]),
        ("what PUT leaves out of metadata goes",      Method::PUT,   json!({ "name": "Hook 2", "metadata": minimal }), &[("metadata", minimal.clone()), ("policy", policy.clone())]),
        ("PATCH keeps what it does not name",         Method::PATCH, json!({ "name": "Hook 3" }),               &[("name", json!("Hook 3")), ("metadata", minimal.clone()), ("policy", policy.clone()), ("hidden", json!(true))]),
        ("PATCH of nothing",                          Method::PATCH, json!({}),                                 &[("name", json!("Hook 3"))]),
        ("a policy of null is the server's own",      Method::PATCH, json!({ "policy": null }),                 &[("policy", json!({}))]),
        ("hidden no more",                            Method::PATCH, json!({ "hidden": false }),                &[("hidden", json!(false))]),
        ("paused by PATCH",                           Method::PATCH, json!({ "paused": true }),                 &[("paused", json!(true)), ("active", json!(true))]),
        ("and resumed",                               Method::PATCH, json!({ "paused": false }),                &[("paused", json!(false))]),
        ("inactive by hand",                          Method::PATCH, json!({ "active": false }),                &[("active", json!(false)), ("inactive_reason", json!("manually_inactivated"))]),
        ("new settings leave a person's decision",    Method::PUT,   json!({ "name": "Hook 3", "metadata": minimal }), &[("active", json!(false))]),
        ("active again, without a reason",            Method::PATCH, json!({ "active": true }),                 &[("active", json!(true)), ("inactive_reason", Value::Null)]),
    ];
    for (why, method, body, expected) in changes {
        let changed = weft.ask(method, &path, Some(body)).await.answered(200, why);
        for (name, value) in expected {
            assert_eq!(changed[name], *value, "{why}: {name}");
        }
        assert_eq!((&changed["id"], &changed["created_at"]), (&made["id"], &made["created_at"]), "{why}");
        assert_eq!(weft.get(&path).await.answered(200, why), changed, "{why}: shown as it was answered");
    }
    assert_members(&weft.get(&path).await.body, &CONNECTION, "active: there is no reason");
    weft.stop().await;
}

#[tokio::test]
async fn a_name_is_taken_once_in_a_workspace() {
    let weft = Weft::start().await;
    weft.post("/connections", body(&weft, json!({}))).await.answered(201, "the first");
    weft.post("/connections", body(&weft, json!({}))).await.refused(
        409,
        "connection already exists",
        "again",
    );
    let other =
        weft.post("/connections", body(&weft, json!({ "name": "Other" }))).await.answered(201, "other");
    let path = format!("/connections/{}", text(&other["connection"]["id"]));
    for (method, why) in [(Method::PUT, "replaced"), (Method::PATCH, "patched")] {
        let body = json!({ "name": "Hook", "metadata": { "url": "http://127.0.0.1:9/", "skip_test": true } });
        weft.ask(method, &path, Some(body)).await.refused(409, "connection already exists", why);
    }
    assert_eq!(weft.get(&path).await.answered(200, "as it was"), other["connection"]);
    let (sibling, _) = weft.sibling("sibling").await;
    let made = weft.post("/connections", body(&weft, json!({ "workspace": sibling }))).await;
    made.answered(201, "another workspace's names are its own");
    weft.stop().await;
}

#[tokio::test]
async fn a_malformed_connection_is_refused_by_field() {
    let weft = Weft::start().await;
    let made = weft.post("/connections", body(&weft, json!({}))).await.answered(201, "made");
    let path = format!("/connections/{}", text(&made["connection"]["id"]));
    let unknown = uuid::Uuid::now_v7().to_string();
    let without = |name: &str| {
        let mut body = body(&weft, json!({ "name": "New" }));
        body.as_object_mut().expect("an object").remove(name);
        body
    };
    let with = |name: &str, value: Value| body(&weft, json!({ "name": "New", name: value }));
    let policy = |policy: Value| with("policy", policy);
    let long_waits = vec![1; 51];
    #[rustfmt::skip]
    let of_create = [
        // why                              body                                        status  says
        ("no workspace",                    without("workspace"),                       400,    "workspace is required"),
        ("a null workspace",                with("workspace", Value::Null),             400,    "workspace must be a string"),
        ("a number for it",                 with("workspace", json!(5)),                400,    "workspace must be a string"),
        ("no UUID",                         with("workspace", json!("mine")),           400,    "workspace must be a UUID"),
        ("a UUID in braces",                with("workspace", json!(format!("{{{}}}", weft.workspace))), 400, "workspace must be a UUID"),
        ("an unknown workspace",            with("workspace", json!(unknown)),          404,    "workspace not found"),
        ("no type",                         without("type"),                            400,    "type is required"),
        ("a null type",                     with("type", Value::Null),                  400,    "type must be a string"),
        ("an unknown type",                 with("type", json!("pigeon")),              400,    "type must be one of: activecampaign, "),
        ("its case matters",                with("type", json!("Webhook")),             400,    "type must be one of: activecampaign, "),
        ("no name",                         without("name"),                            400,    "name is required"),
        ("no metadata",                     without("metadata"),                        400,    "metadata is required"),
    ];
    for (why, body, status, says) in of_create {
        weft.post("/connections", body).await.refused(status, says, why);
    }
    #[rustfmt::skip]
    let of_both = [
        // why                              body                                        says
        ("a null name",                     with("name", Value::Null),                  "name must be a string"),
        ("an empty name",                   with("name", json!("")),                    "name must be 1 to 128"),
        ("129 characters",                  with("name", json!("n".repeat(129))),       "name must be 1 to 128"),
        ("markup",                          with("name", json!("<script>")),            "name must be 1 to 128"),
        ("a line break",                    with("name", json!("a\r\nb")),              "name must be 1 to 128"),
        ("metadata null",                   with("metadata", Value::Null),              "metadata must be"),
        ("metadata a list",                 with("metadata", json!([])),                "metadata must be"),
        ("metadata a text",                 with("metadata", json!("{}")),              "metadata must be"),
        ("metadata empty",                  with("metadata", json!({})),                "metadata.url is required"),
        ("hidden a word",                   with("hidden", json!("yes")),               "hidden must be a boolean"),
        ("a policy that is a list",         policy(json!([1])),                         "policy"),
        ("a rate of nothing",               policy(json!({ "rate_per_second": 0 })),    "policy.rate_per_second must be from 0.01 to 10000"),
        ("a negative rate",                 policy(json!({ "rate_per_second": -1 })),   "policy.rate_per_second must be from"),
        ("a rate of words",                 policy(json!({ "rate_per_second": "fast" })), "policy.rate_per_second"),
        ("a burst without a rate",          policy(json!({ "burst": 5 })),              "policy.burst needs rate_per_second"),
        ("a burst of nothing",              policy(json!({ "rate_per_second": 1, "burst": 0 })), "policy.burst must be from 1"),
        ("none in flight",                  policy(json!({ "max_in_flight": 0 })),      "policy.max_in_flight must be from 1 to 256"),
        ("257 in flight",                   policy(json!({ "max_in_flight": 257 })),    "policy.max_in_flight must be from 1 to 256"),
        ("half of one in flight",           policy(json!({ "max_in_flight": 0.5 })),    "policy.max_in_flight"),
        ("99 ms",                           policy(json!({ "timeout_ms": 99 })),        "policy.timeout_ms must be from 100 to 60000"),
        ("a minute and more",               policy(json!({ "timeout_ms": 60_001 })),    "policy.timeout_ms must be from 100 to 60000"),
        ("51 waits",                        policy(json!({ "retry": long_waits })),     "policy.retry must be at most 50 waits"),
        ("a wait over a week",              policy(json!({ "retry": [604_800_001] })),  "policy.retry must be at most 50 waits"),
        ("a negative wait",                 policy(json!({ "retry": [-1] })),           "policy.retry"),
        ("an unknown order",                policy(json!({ "ordering": "strict" })),    "policy.ordering"),
    ];
    for (why, body, says) in &of_both {
        weft.post("/connections", body.clone()).await.refused(400, says, why);
        weft.put(&path, body.clone()).await.refused(400, says, why);
    }
    #[rustfmt::skip]
    let of_patch = [
        ("paused a word",   json!({ "paused": "yes" }),       "paused must be a boolean"),
        ("active a number", json!({ "active": 1 }),           "active must be a boolean"),
        ("an empty name",   json!({ "name": "" }),            "name must be 1 to 128"),
        ("a bad policy",    json!({ "policy": { "max_in_flight": 0 } }), "policy.max_in_flight"),
        ("bad settings",    json!({ "metadata": { "url": "nowhere" } }), "metadata.url"),
    ];
    for (why, body, says) in of_patch {
        weft.patch(&path, body).await.refused(400, says, why);
    }
    weft.put(&path, json!({ "name": "Hook" })).await.refused(400, "metadata is required", "PUT replaces");
    let list = weft.get("/connections").await.answered(200, "after all of it");
    assert_eq!(list["records"], json!([made["connection"]]), "nothing was made or changed");
    weft.stop().await;
}

/// I18: once the deletion is answered, no new attempt is made; what waited is called off.
#[tokio::test]
async fn what_waits_for_a_deleted_connection_is_canceled() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[500]).await);
    let connection = weft.webhook_with(&receiver.url("/"), json!({}), json!({ "retry": [3_600_000] })).await;
    let rule = weft.rule("a.b", &connection).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.attempts(&event, &rule, 1).await;
    let body = Some(json!({ "force_delete": true }));
    weft.ask(Method::DELETE, &format!("/connections/{connection}"), body).await.answered(200, "deleted");
    let event = weft.event_as(&event, "canceled").await;
    assert_eq!(event["rule_events"][0]["status"], "canceled", "its history stays");
    assert_eq!(receiver.so_far().len(), 1);
    weft.stop().await;
}

/// A body-less POST with a JSON content type is what the official clients send.
#[tokio::test]
async fn a_paused_connection_keeps_its_deliveries_until_it_is_resumed() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let (paused, other) =
        (weft.webhook(&receiver.url("/paused")).await, weft.webhook(&receiver.url("/other")).await);
    for connection in [&paused, &other] {
        weft.rule("a.b", connection).await;
    }
    let pause = format!("/connections/{paused}/pause");
    let shown = weft.ask_raw(Method::POST, &pause, "").await.answered(200, "paused");
    assert_eq!((&shown["paused"], &shown["active"]), (&json!(true), &json!(true)));
    weft.ask(Method::POST, &pause, None).await.answered(200, "paused twice is paused");

    let events =
        [weft.send_event("a.b", json!({ "n": 1 })).await, weft.send_event("a.b", json!({ "n": 2 })).await];
    receiver.received(2).await;
    for event in &events {
        let event = weft.event_as(event, "pending").await;
        let of = |connection: &str| {
            let all = event["rule_events"].as_array().expect("a list");
            all.iter().find(|delivery| delivery["connection"] == connection).expect("a delivery").clone()
        };
        assert_eq!((&of(&paused)["status"], &of(&paused)["attempt_count"]), (&json!("pending"), &json!(0)));
    }
    assert!(
        receiver.so_far().iter().all(|received| received.target == "/other"),
        "nothing for the paused one"
    );

    let resume = format!("/connections/{paused}/resume");
    let shown = weft.ask_raw(Method::POST, &resume, "").await.answered(200, "resumed");
    assert_eq!(shown["paused"], false);
    for event in &events {
        weft.event_as(event, "completed").await;
    }
    let came = receiver.received(4).await;
    assert_eq!(came.iter().filter(|received| received.target == "/paused").count(), 2);
    weft.stop().await;
}

#[tokio::test]
async fn a_url_is_tried_out_when_it_is_saved_unless_the_test_is_skipped() {
    let weft = Weft::start().await;
    let (good, bad) = (Receiver::start(Reply::ok).await, Receiver::script(&[500]).await);
    let metadata = |url: String| json!({ "metadata": { "url": url, "auth_scheme": "bearer", "bearer_token": "t-0-k-e-n" } });
    let made =
        weft.post("/connections", body(&weft, metadata(good.url("/try")))).await.answered(201, "it answers");
    let tried = good.received(1).await.remove(0);
    assert_eq!(
        (tried.json()["event"].as_str(), tried.header("authorization")),
        (Some("weft.test"), Some("Bearer t-0-k-e-n"))
    );
    assert!(tried.json()["payload"].is_object());

    let mut failing = body(&weft, metadata(bad.url("/try")));
    failing["name"] = json!("Failing");
    let says = "the test request was not accepted: the endpoint answered 500";
    weft.post("/connections", failing).await.refused(422, says, "it does not");
    let path = format!("/connections/{}", text(&made["connection"]["id"]));
    let replaced = json!({ "name": "Hook", "metadata": { "url": bad.url("/other") } });
    weft.put(&path, replaced).await.refused(422, says, "nor when it is replaced");
    let list = weft.get("/connections").await.answered(200, "after all of it");
    assert_eq!(list["records"], json!([made["connection"]]), "nothing was made or changed");
    let skipped = json!({ "name": "Hook", "metadata": { "url": bad.url("/other"), "skip_test": true } });
    weft.put(&path, skipped).await.answered(200, "skipped");
    assert_eq!(bad.so_far().len(), 2, "and nothing was sent");
    weft.patch(&path, json!({ "name": "Renamed" })).await.answered(200, "nothing to try out");
    assert_eq!(bad.so_far().len(), 2);
    weft.stop().await;
}

/// Of many who ask for the same at once one gets it, and each is told what became of his.
#[tokio::test]
async fn changes_made_at_once_are_done_or_refused_and_never_mixed() {
    let weft = Weft::start().await;
    let new = body(&weft, json!({}));
    let made = futures_util::future::join_all((0..12).map(|_| weft.post("/connections", new.clone()))).await;
    let mut statuses: Vec<u16> = made.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [&[201][..], &[409; 11]].concat(), "one name, one connection");
    let connection = made.iter().find(|answer| answer.status == 201).expect("one was made");
    let path = format!("/connections/{}", text(&connection.body["connection"]["id"]));

    let rule = json!({ "workspace": weft.workspace, "connection": connection.body["connection"]["id"], "event": "a.b", "metadata": { "action": "send_webhook" } });
    let made = futures_util::future::join_all((0..12).map(|_| weft.post("/rules", rule.clone()))).await;
    assert_eq!(made.iter().filter(|answer| answer.status == 201).count(), 1, "one rule");
    assert!(made.iter().all(|answer| [201, 409].contains(&answer.status)));

    let patches = (0..12).map(|n| {
        let metadata = json!({ "url": format!("http://127.0.0.1:9/{n}"), "skip_test": true });
        weft.patch(&path, json!({ "name": format!("Name {n}"), "metadata": metadata }))
    });
    let patched = futures_util::future::join_all(patches.collect::<Vec<_>>()).await;
    let done: Vec<&Value> =
        patched.iter().filter(|answer| answer.status == 200).map(|answer| &answer.body).collect();
    assert!(!done.is_empty());
    for answer in patched.iter().filter(|answer| answer.status != 200) {
        answer.refused(409, "connection was changed meanwhile", "told to read it again");
    }
    let shown = weft.get(&path).await.answered(200, "in the end");
    assert!(done.contains(&&shown), "one of the changes, whole: {shown}");
    weft.stop().await;
}

#[tokio::test]
async fn an_attempt_in_flight_when_its_connection_is_deleted_ends_as_it_ends() {
    let weft = Weft::start().await;
    for (status, expected) in [(200, "completed"), (500, "canceled"), (404, "failed")] {
        let (open, gate) = tokio::sync::watch::channel(false);
        let receiver = Receiver::start(move |_, _| Reply::status(status).behind(&gate)).await;
        let connection =
            weft.webhook_with(&receiver.url("/"), json!({}), json!({ "timeout_ms": 60_000 })).await;
        weft.rule("a.b", &connection).await;
        let event = weft.send_event("a.b", json!({ "n": 1 })).await;
        receiver.received(1).await;
        let body = Some(json!({ "force_delete": true }));
        weft.ask(Method::DELETE, &format!("/connections/{connection}"), body).await.answered(200, "deleted");
        open.send_replace(true);
        let event = weft.event_as(&event, expected).await;
        assert_eq!(event["rule_events"][0]["attempt_count"], 1, "answered {status}");
    }
    weft.stop().await;
}
