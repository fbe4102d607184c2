//! Checks 10 to 13: what is true of every answer, and what of a request does not matter.

use crate::isolation::{For, ROUTES, World};
use crate::support::Credentials;
use crate::support::{Answer, Go, NodeManagement, Receiver, Reply, Weft, send, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Its type is JSON, and an error has a `message`.
#[track_caller]
fn assert_told(answer: &Answer, why: &str) {
    assert!(answer.header("content-type").is_some_and(|kind| kind.contains("json")), "{why}: {answer:?}");
    if answer.status >= 400 {
        assert!(
            answer.body["message"].as_str().is_some_and(|text| !text.is_empty()),
            "{why}: {}",
            answer.text
        );
    }
}

/// Every route, asked well and badly; and what is no route. Not told in JSON are only what is not of this API
/// (`/metrics`, which Prometheus reads), the answer to a preflight, which is empty, and what the HTTP library says by
/// itself of bytes that are no request.
#[tokio::test]
async fn check_10_every_answer_is_json_and_every_error_has_a_message() {
    let world = World::new().await;
    let owner = [("authorization", format!("Bearer {}", world.weft.token()))];
    let unknown: BTreeMap<_, _> =
        world.ids.keys().map(|name| (*name, uuid::Uuid::now_v7().to_string())).collect();
    let mut statuses = BTreeSet::new();
    for (method, path, ..) in ROUTES {
        // Pages are for browsers.
        if path == "/metrics" || path.starts_with("/oauth/") || method == "OPTIONS" {
            continue;
        }
        let body = world.body(method, path);
        // Found by nobody, asked by nobody, in a wrong method, with a body that is none; then as it should be.
        let there = World::path(path, &world.ids);
        let none = if method == "GET" { None } else { Some(json!([])) };
        for (ids, method, headers, body) in [
            (&unknown, method, &owner[..], &body),
            (&world.ids, method, &[][..], &body),
            (&world.ids, "PROPFIND", &owner[..], &None),
            (&world.ids, "TRACE", &[][..], &None),
            (&world.ids, method, &owner[..], &none),
            (&world.ids, method, &owner[..], &body),
        ] {
            let target = if ids == &world.ids { there.clone() } else { World::path(path, ids) };
            let answer = world.ask(method, &target, headers, body.as_ref()).await;
            statuses.insert(answer.status);
            assert_told(&answer, &format!("{method} {target}"));
        }
    }
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nowhere",
        "/favicon.ico",
        "/api/v2/events",
        "/%00",
        "/a//b",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let answer = world.ask(method, path, &[], None).await;
            assert_eq!(answer.status, 404, "{method} {path}");
            assert_told(&answer, path);
        }
    }
    let weft = &world.weft;
    let long = format!("/api/v1/events?cursor={}", "x".repeat(9_000));
    let event = |size: usize| json!({ "event": "a", "payload": { "a": "x".repeat(size) } }).to_string();
    let request = |kind: &str, body: String| {
        let request = weft.request(Method::POST, "/api/v1/events").header("content-type", kind);
        request.header("x-meshes-publishable-key", &weft.publishable_key).body(body)
    };
    let member = weft.mint(json!({})).await;
    for (why, status, answer) in [
        ("no JSON", 400, send(request("application/json", "{".to_owned())).await),
        ("a wrong parameter", 400, weft.get("/events?limit=x").await),
        ("too much", 413, send(request("application/json", event(1 << 20))).await),
        ("too long", 414, send(weft.request(Method::GET, &long)).await),
        ("another type", 415, send(request("text/plain", event(1))).await),
        ("nothing it may", 403, weft.get_in(&member, "/workspaces").await),
        ("a name that is taken", 409, weft.post("/workspaces", json!({ "name": "tests" })).await),
    ] {
        assert_eq!(answer.status, status, "{why}");
        assert_told(&answer, why);
    }
    assert!([200, 201, 400, 401, 404, 405].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    world.weft.stop().await;

    let weft = Weft::with(|config| {
        config.ingest.burst = 100.try_into().expect("more than none");
        config.ingest.events_per_second = 1.try_into().expect("more than none");
    })
    .await;
    let mut answers = Vec::new();
    while answers.last().is_none_or(|answer: &Answer| answer.status == 201) {
        answers.push(weft.emit(json!({ "event": "a", "payload": { "n": 1 } })).await);
    }
    assert_eq!(answers.last().map(|answer| answer.status), Some(429));
    answers.iter().for_each(|answer| assert_told(answer, "too often"));
    weft.stop().await;
}

/// A JSON content type and a length of 0 are a request without a body.
#[tokio::test]
async fn check_11_a_post_may_have_a_type_and_no_body() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[400, 200]).await);
    let api = NodeManagement::of(&weft);
    let connection = weft.webhook(&receiver.url("/")).await;
    let rule = weft.rule("a.b", &connection).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.event_as(&event, "failed").await;
    let retried = api.post(&format!("/events/{event}/rules/{rule}/retry"), None).await;
    assert_eq!(retried.answered(200, "a retry")["rule"], rule.as_str());
    weft.event_as(&event, "completed").await;
    let minted =
        api.post("/sessions", json!({ "workspace_id": weft.workspace })).await.answered(200, "minted");
    let id = text(&minted["session_id"]);
    let refreshed = api.post(&format!("/sessions/{id}/refresh"), None).await.answered(200, "a refresh");
    assert_eq!(refreshed["session_id"], id.as_str());
    // Ours, that the contract's clients reach by their free paths.
    for path in [
        format!("/connections/{connection}/pause"),
        format!("/connections/{connection}/resume"),
        format!("/workspaces/{}/publishable-key/rotate", weft.workspace),
    ] {
        api.post(&path, None).await.answered(200, &path);
    }
    weft.stop().await;
}

/// No body (Node), `{}` (Go) and `{"force_delete":true}` (both): all delete.
#[tokio::test]
async fn check_12_a_connection_is_deleted_with_any_body_clients_send() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let (node, go) = (NodeManagement::of(&weft), Go::Management(&weft, Credentials::of(&weft)));
    let force = json!({ "force_delete": true });
    for (client, body) in [
        ("node", None),
        ("go", Some(json!({}))),
        ("go", Some(force.clone())),
        ("node", Some(force)),
        ("go", None),
    ] {
        let why = format!("{client} with {body:?}");
        let connection = weft.webhook(&receiver.url("/")).await;
        let path = format!("/connections/{connection}");
        let answer = match client {
            "node" => node.delete(&path, body).await,
            _ => go.request("DELETE", &path, body.as_ref()).await,
        };
        assert_eq!(answer.answered(200, &why), json!({ "id": connection, "type": "webhook" }), "{why}");
        node.get(&path).await.refused(404, "connection not found", &why);
    }
    weft.stop().await;
}

/// A value with members of nobody's, all the way down.
fn and_more(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(and_more).collect(),
        Value::Object(members) => {
            let mut members = members.clone();
            members.insert("colour".to_owned(), json!({ "of": ["nobody", null] }));
            members.insert("launch-path".to_owned(), json!(5));
            Value::Object(members)
        }
        other => other.clone(),
    }
}

/// Every route answers the same status with and without query parameters and body fields that nobody knows.
/// Not of these are a webhook's settings, where a mistyped `secret` would send unsigned requests for months.
#[tokio::test]
async fn check_13_what_nobody_knows_is_ignored() {
    let (plain, more) = tokio::join!(World::new(), World::new());
    let owner = |world: &World| [("authorization", format!("Bearer {}", world.weft.token()))];
    // What is asked of the event comes while its connection is as it was; what takes away comes last.
    let for_machines = |whom| matches!(whom, For::Machine | For::Sender);
    let mut routes: Vec<_> = ROUTES.iter().filter(|(_, _, whom, _)| for_machines(*whom)).collect();
    routes.sort_by_key(|(method, path, ..)| match (*method, *path) {
        ("DELETE", "/connections/{connection}") => 3,
        ("DELETE", _) => 2,
        _ => u8::from(!path.starts_with("/events/{event}")),
    });
    for (method, path, ..) in routes {
        let mut statuses = Vec::new();
        for (world, adds) in [(&plain, false), (&more, true)] {
            let (mut target, mut body) = (World::path(path, &world.ids), world.body(method, path));
            // What is made and what is changed into are not the same, or the second is a conflict.
            if let Some(name) = body.as_mut().and_then(|body| body.get_mut("name")) {
                *name = json!(method);
            }
            if (*method, *path) == ("PATCH", "/rules/{rule}") {
                body = Some(json!({ "event": "patched" }));
            }
            if adds {
                let sign = if target.contains('?') { '&' } else { '?' };
                target += &format!("{sign}colour=blue&x&limits=0&%00=%ff");
                body = body.map(|body| and_more(&body));
            }
            let answer = world.ask(method, &target, &owner(world), body.as_ref()).await;
            statuses.push(answer.status);
            // What there is to cancel has failed already, the one user is the last owner, the replay is over, and
            // no vendor is known here.
            let fine = answer.status < 300
                || path.ends_with("cancel")
                || matches!(*path, "/users/{user}" | "/replays/{replay}" | "/connections/oauth");
            assert!(fine, "{method} {target} with {body:?}: {}", answer.text);
            world.weft.finished_event(&world.ids["event"]).await;
        }
        assert_eq!(statuses[0], statuses[1], "{method} {path}");
    }
    plain.weft.stop().await;
    more.weft.stop().await;
}
