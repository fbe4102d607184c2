//! Every path and method has an answer, and an operator's own routes tell nothing of tenants.

use crate::support::{Peer, Receiver, Reply, Weft, Witness, http_client, send, until};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

/// I3, I9: what is spelled almost like a route is none, whoever asks.
#[tokio::test]
async fn a_path_that_is_no_route_is_not_found() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let own = &weft.workspace;
    let body = json!({ "event": "bad", "payload": { "a": 1 }, "workspace": own }).to_string();
    #[rustfmt::skip]
    let cases: Vec<(&str, String, u16)> = vec![
        // why                             target                                                  status
        ("the root",                       "/".into(),                                             404),
        ("nowhere",                        "/nowhere".into(),                                      404),
        ("nowhere below the API",          "/api/v1/nowhere".into(),                               404),
        ("without its version",            "/api/events".into(),                                   404),
        ("another version",                "/api/v2/events".into(),                                404),
        ("without the API",                "/events".into(),                                       404),
        ("a slash at the end",             "/api/v1/events/".into(),                               404),
        ("two slashes",                    "/api/v1//events".into(),                               404),
        ("two slashes at first",           "//api/v1/events".into(),                               404),
        ("in capitals",                    "/API/v1/EVENTS".into(),                                404),
        ("a dot",                          "/api/v1/./events".into(),                              404),
        ("dots",                           "/api/v1/workspaces/../events".into(),                  405),
        ("dots beyond the root",           "/../../api/v1/events".into(),                          404),
        ("dots in escapes",                "/api/v1/workspaces/%2e%2e/events".into(),              405),
        ("a letter in escapes",            "/api/v1/%65vents".into(),                              404),
        ("a slash in escapes",             "/api/v1%2fevents".into(),                              404),
        ("a slash in escapes, as an id",   "/api/v1/events%2Fbulk".into(),                         404),
        ("a backslash",                    "/api/v1\\events".into(),                               404),
        ("a backslash in escapes",         "/api/v1%5cevents".into(),                              404),
        ("NUL in escapes",                 "/api/v1/events%00".into(),                             404),
        ("half an escape",                 "/api/v1/events%2".into(),                              404),
        ("no escape",                      "/api/v1/events%zz".into(),                             404),
        ("an overlong slash in escapes",   "/api/v1%c0%afevents".into(),                           404),
        ("bytes that are no UTF-8",        "/api/v1/events/%ff%fe/cancel".into(),                  404),
        ("a semicolon",                    "/api/v1/events;a=b".into(),                            404),
        ("a star",                         "*".into(),                                             404),
        ("a workspace that is no id",      "/api/v1/workspaces/mine/events".into(),                405),
        ("an id with NUL",                 format!("/api/v1/events/{own}%00/cancel"),              404),
        ("an id with a slash",             format!("/api/v1/events/{own}%2f/cancel"),              404),
        ("an id without hyphens",          format!("/api/v1/events/{}/cancel", own.replace('-', "")), 404),
        ("an id in braces",                format!("/api/v1/events/{{{own}}}/cancel"),             404),
        ("an id nobody has",               format!("/api/v1/events/{}/cancel", uuid::Uuid::now_v7()), 404),
    ];
    let token = weft.token();
    for (why, target, status) in cases {
        // Written by hand: a client would tidy these up.
        let mut peer = Peer::connect(&weft).await;
        let key = &weft.publishable_key;
        let length = body.len();
        peer.send(format!(
            "POST {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nx-meshes-publishable-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
        let answer = peer.answer().await.unwrap_or_else(|| panic!("{why}: closed without a word"));
        answer.assert_error(status, "", why);
    }
    witness.assert_saw(&weft, &[]).await;
    weft.stop().await;
}

#[tokio::test]
async fn another_method_is_not_allowed_and_the_right_ones_are_told() {
    let weft = Weft::start().await;
    let own = &weft.workspace;
    #[rustfmt::skip]
    let cases = [
        // method   path                                  allowed
        ("PUT",     "/api/v1/events".to_owned(),          "POST, OPTIONS, GET, HEAD"),
        ("DELETE",  "/api/v1/events".to_owned(),          "POST, OPTIONS, GET, HEAD"),
        ("PATCH",   "/api/v1/events/bulk".to_owned(),     "POST, OPTIONS"),
        ("DELETE",  "/api/v1/workspaces".to_owned(),      "GET, HEAD, POST"),
        ("POST",    format!("/api/v1/workspaces/{own}"),  "GET, HEAD, PUT"),
        ("OPTIONS", "/api/v1/rules".to_owned(),           "GET, HEAD, POST"),
        ("POST",    "/healthz".to_owned(),                "GET, HEAD"),
        ("DELETE",  "/metrics".to_owned(),                "GET, HEAD"),
    ];
    for (method, path, allowed) in cases {
        let why = format!("{method} {path}");
        let request = weft.request(method.parse().expect("a method"), &path).bearer_auth(weft.token());
        let answer = send(request).await;
        answer.assert_error(405, "", &why);
        let told = answer.header("allow").unwrap_or_default();
        let mut told: Vec<_> = told.split(',').map(str::trim).collect();
        let mut allowed: Vec<_> = allowed.split(", ").collect();
        told.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(told, allowed, "{why}");
    }
    weft.stop().await;
}

/// Official clients add parameters and headers of their own: nobody minds.
#[tokio::test]
async fn what_nobody_asks_for_is_ignored() {
    let weft = Weft::start().await;
    let request = weft.request(Method::POST, "/api/v1/events?source=page&cursor=no&limit=0&%zz=%00");
    let request = request.header("x-meshes-publishable-key", &weft.publishable_key);
    let request = request.header("x-meshes-client", "Meshes Events Client v1.0.0");
    let body = json!({ "event": "x", "payload": { "a": 1 }, "launch_path": "/", "unknown": { "a": [1] } });
    let answer = send(request.header("x-request-id", "mine-1").json(&body)).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (201, Some("mine-1")), "{answer:?}");
    assert_eq!(answer.body["event"].get("unknown"), None);
    weft.stop().await;
}

/// I19: alive to its end, ready until it is told to end.
#[tokio::test]
async fn a_server_that_ends_is_alive_and_not_ready() {
    let weft = Weft::with(|config| config.shutdown.unready = Duration::from_secs(3)).await;
    let (http, base) = (http_client(), weft.base.clone());
    for (path, status) in [("healthz", "ok"), ("readyz", "ready")] {
        let answer = send(http.get(format!("{base}/{path}"))).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({ "status": status })), "{path}");
    }
    let stopping = tokio::spawn(weft.stop());
    let unready = until("it is not ready", async || {
        let answer = send(http.get(format!("{base}/readyz"))).await;
        (answer.status != 200).then_some(answer)
    });
    let unready = unready.await;
    unready.assert_error(503, "", "it ends");
    assert!(unready.header("retry-after").is_some(), "{unready:?}");
    let answer = send(http.get(format!("{base}/healthz"))).await;
    assert_eq!(answer.status, 200, "who restarts what is not alive must not restart this");
    stopping.await.expect("it ends well");
    assert!(http.get(format!("{base}/healthz")).send().await.is_err(), "nobody listens any more");
}

/// I9, I12: what is counted is there for the operator, and no tenant can be told by it.
#[tokio::test]
async fn metrics_tell_of_the_process_and_of_no_tenant() {
    let weft = Weft::start().await;
    let receiver = Receiver::start(Reply::ok).await;
    let connection = weft.webhook(&receiver.url("/a-secret-path")).await;
    let rule = weft.rule("metered.event", &connection).await;
    let sent =
        weft.emit(json!({ "event": "metered.event", "payload": { "email": "ada@example.com" } })).await;
    let id = sent.body["event"]["id"].as_str().expect("an id").to_owned();
    until("the event is completed", async || {
        (weft.get(&format!("/events/{id}")).await.body["status"] == "completed").then_some(())
    })
    .await;
    let metrics = until("the attempt is counted", async || {
        let metrics = send(weft.request(Method::GET, "/metrics")).await;
        metrics.text.contains("weft_attempts_total{").then_some(metrics)
    });
    let metrics = metrics.await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{metrics:?}");
    for name in [
        "weft_events_accepted_total ",
        "weft_events_routed_total ",
        "weft_attempts_total{",
        "weft_queue_depth{",
        "weft_queue_oldest_age_seconds{",
        "weft_attempt_seconds_bucket{",
        "weft_commit_seconds_bucket{",
    ] {
        assert!(metrics.text.lines().any(|line| line.starts_with(name)), "{name}: {}", metrics.text);
    }
    assert!(metrics.text.contains("outcome=\"delivered\""), "{}", metrics.text);
    let organization = weft.machine.organization_id.to_string();
    for (what, text) in [
        ("the workspace", weft.workspace.as_str()),
        ("the organization", &organization),
        ("the connection", &connection),
        ("the rule", &rule),
        ("the event", &id),
        ("its name", "metered"),
        ("its payload", "ada"),
        ("the key", &weft.publishable_key),
        ("the access key", &weft.machine.access_key),
        ("the destination's address", "127.0.0.1"),
        ("its path", "a-secret-path"),
    ] {
        assert!(!metrics.text.contains(text), "{what}: {}", metrics.text);
    }
    weft.stop().await;
}
