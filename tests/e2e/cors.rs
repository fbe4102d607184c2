//! Browsers: any page may send events, none may do anything else.

use crate::support::{Answer, Weft, send};
use reqwest::Method;
use serde_json::json;

const ORIGIN: &str = "https://shop.example";
const KEY: &str = "x-meshes-publishable-key";

/// The names of all CORS headers of an answer.
fn cors(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.keys().map(|name| name.as_str());
    names.filter(|name| name.starts_with("access-control-")).collect()
}

/// Any origin, and never with cookies: a key in a page is all it takes, and all it is good for.
#[tokio::test]
async fn a_page_may_send_events_from_anywhere() {
    let weft = Weft::start().await;
    let good = json!({ "event": "x", "payload": { "a": 1 } });
    let (bulk, bad) = (json!([good]), json!({ "event": "x" }));
    #[rustfmt::skip]
    let cases = [
        // why                              path              key    body              status
        ("an event",                        "/events",        true,  &good,            201),
        ("a list",                          "/events/bulk",   true,  &bulk,            201),
        ("a page may read why not",         "/events",        true,  &bad,             400),
        ("also of a list",                  "/events/bulk",   true,  &bad,             400),
        ("also that its key is wrong",      "/events",        false, &good,            401),
    ];
    for (why, path, key, body, status) in cases {
        for origin in [ORIGIN, "null", "http://localhost:3000"] {
            let request = weft.request(Method::POST, &format!("/api/v1{path}")).header("origin", origin);
            let key = if key { weft.publishable_key.as_str() } else { "wrong" };
            let answer = send(request.header(KEY, key).header("cookie", "a=b").json(body)).await;
            assert_eq!(answer.status, status, "{why}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{why}");
            assert_eq!(answer.header("access-control-allow-credentials"), None, "{why}: never");
            let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
            for name in
                ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after", "x-request-id"]
            {
                assert!(exposed.split(", ").any(|exposed| exposed == name), "{why}: {name} in {exposed:?}");
            }
        }
    }
    weft.stop().await;
}

#[tokio::test]
async fn a_page_is_told_beforehand_what_it_may_send() {
    let weft = Weft::start().await;
    for path in ["/api/v1/events", "/api/v1/events/bulk"] {
        let request = weft.request(Method::OPTIONS, path).header("origin", ORIGIN);
        let request = request.header("access-control-request-method", "POST");
        let asked = "content-type,idempotency-key,x-meshes-publishable-key";
        let answer = send(request.header("access-control-request-headers", asked)).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{path}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), Some("POST"), "{path}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{path}: never");
        assert!(answer.header("access-control-max-age").is_some(), "{path}: not before each event");
        let allowed = answer.header("access-control-allow-headers").unwrap_or_default();
        // What the official client sends from a page, and what its readme suggests.
        for name in ["content-type", "accept", KEY, "x-meshes-client", "idempotency-key", "x-request-id"] {
            assert!(allowed.split(", ").any(|allowed| allowed == name), "{path}: {name} in {allowed:?}");
        }
        assert!(!allowed.contains("authorization"), "{path}: a page has no machine's token");
    }
    weft.stop().await;
}

/// What a page may not do: its browser is told nothing that would let it.
#[tokio::test]
async fn no_other_route_is_for_browsers() {
    let weft = Weft::start().await;
    let own = &weft.workspace;
    let sent = weft.emit(json!({ "event": "x", "payload": { "a": 1 } })).await;
    let event = sent.body["event"]["id"].as_str().expect("an id");
    let paths = [
        "/api/v1/workspaces".to_owned(),
        format!("/api/v1/workspaces/{own}"),
        format!("/api/v1/workspaces/{own}/events"),
        "/api/v1/connections".to_owned(),
        "/api/v1/rules".to_owned(),
        format!("/api/v1/events/{event}"),
        format!("/api/v1/events/{event}/payload"),
        format!("/api/v1/events/{event}/cancel"),
        "/api/v1/events/".to_owned(),
        "/api/v1/nowhere".to_owned(),
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/metrics".to_owned(),
    ];
    for path in &paths {
        for method in [Method::OPTIONS, Method::GET, Method::POST, Method::DELETE] {
            let request =
                weft.request(method.clone(), path).bearer_auth(weft.token()).header("origin", ORIGIN);
            let request = request.header("access-control-request-method", "GET");
            let answer = send(request).await;
            assert_eq!(cors(&answer), Vec::<&str>::new(), "{method} {path}");
        }
    }
    // The list of events has the path of ingestion, and nothing else of it.
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE] {
        for path in ["/api/v1/events", "/api/v1/events/bulk"] {
            let request = weft.request(method.clone(), path).bearer_auth(weft.token());
            let answer = send(request.header("origin", ORIGIN)).await;
            assert_eq!(cors(&answer), Vec::<&str>::new(), "{method} {path}");
        }
    }
    weft.stop().await;
}
