//! What a webhook's receiver gets: method, body, headers, credentials and signatures; and which settings are refused.

use crate::support::{Received, Receiver, Reply, Weft, send, text};
use actors::domain::timestamp::Timestamp;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

/// A payload that no parser gives back as it was.
const PAYLOAD: &str = r#"{ "a":1.0,"big":12345678901234567890123,"huge":1e400,"esc":"\u00e9\/\ud83d\ude00","é":"e\u0301\n" ,"a ":[ ]}"#;
const MASK: &str = "••••••••";

/// Sends an event with [`PAYLOAD`]; returns its id and when it was accepted.
async fn send_exactly(weft: &Weft, event: &str) -> (String, Timestamp) {
    let body = format!(r#"{{"event":{event},"payload":{PAYLOAD},"resource":"user","resource_id":"usr:1"}}"#);
    let request = weft.request(Method::POST, "/api/v1/events").header("content-type", "application/json");
    let sent = send(request.header("x-meshes-publishable-key", &weft.publishable_key).body(body)).await;
    let sent = sent.answered(201, "sent");
    let accepted = text(&sent["event"]["created_at"]).parse().expect("RFC 3339");
    (text(&sent["event"]["id"]), accepted)
}

/// What comes of an event at an endpoint with these settings.
pub async fn received(weft: &Weft, receiver: &Receiver, settings: Value) -> (Received, String, Timestamp) {
    let name = uuid::Uuid::new_v4().to_string();
    let connection = weft.webhook_with(&receiver.url("/hook?x=1"), settings, json!({})).await;
    weft.rule(&name, &connection).await;
    let before = receiver.so_far().len();
    let (id, accepted) = send_exactly(weft, &format!("{name:?}")).await;
    (receiver.received(before + 1).await.remove(before), id, accepted)
}

/// I8: the payload's own bytes are inside the envelope, or alone.
#[tokio::test]
async fn the_body_is_exact_wrapped_and_raw_by_every_method() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    #[rustfmt::skip]
    let cases = [
        // why                        settings                                             method          raw
        ("the least there is",        json!({}),                                           Method::POST,   false),
        ("POST",                      json!({ "http_method": "POST" }),                    Method::POST,   false),
        ("PUT, wrapped",              json!({ "http_method": "PUT", "payload_mode": "wrapped" }), Method::PUT, false),
        ("PATCH",                     json!({ "http_method": "PATCH" }),                   Method::PATCH,  false),
        ("raw",                       json!({ "payload_mode": "raw" }),                    Method::POST,   true),
        ("raw by PUT",                json!({ "payload_mode": "raw", "http_method": "PUT" }), Method::PUT, true),
        ("an empty text is as good as absent", json!({ "http_method": "", "payload_mode": null, "auth_scheme": "" }), Method::POST, false),
    ];
    for (why, settings, method, raw) in cases {
        let (came, id, accepted) = received(&weft, &receiver, settings).await;
        assert_eq!((came.method.as_str(), came.target.as_str()), (method.as_str(), "/hook?x=1"), "{why}");
        let body = std::str::from_utf8(&came.body).expect("UTF-8");
        let event = weft.event_as(&id, "completed").await;
        let name = text(&event["event"]);
        let sent: i64 = if raw {
            assert_eq!(body, PAYLOAD, "{why}");
            came.header("x-meshes-time-sent").expect("a time").parse().expect("milliseconds")
        } else {
            let (head, tail) = body.rsplit_once(r#","time_sent":"#).expect("a time");
            let expected = format!(
                r#"{{"uuid":"{id}","event":"{name}","resource":"user","resource_id":"usr:1","payload":{PAYLOAD},"time_created":{}"#,
                accepted.0
            );
            assert_eq!(head, expected, "{why}");
            tail.trim_end_matches('}').parse().expect("milliseconds")
        };
        assert!((accepted.0..accepted.0 + 60_000).contains(&sent), "{why}: sent at {sent}");
        let created = accepted.0.to_string();
        let delivery = text(&event["rule_events"][0]["id"]);
        #[rustfmt::skip]
        let headers = [
            ("content-type",          true,  Some("application/json")),
            ("x-weft-delivery-id",    true,  Some(delivery.as_str())),
            ("x-weft-attempt",        true,  Some("1")),
            ("user-agent",            true,  Some(concat!("Weft/", env!("CARGO_PKG_VERSION")))),
            ("x-meshes-event-id",     raw,   Some(id.as_str())),
            ("x-meshes-event",        raw,   Some(name.as_str())),
            ("x-meshes-resource",     raw,   Some("user")),
            ("x-meshes-resource-id",  raw,   Some("usr:1")),
            ("x-meshes-time-created", raw,   Some(created.as_str())),
            ("authorization",         false, None),
            ("x-meshes-signature",    false, None),
            ("webhook-signature",     false, None),
            ("accept-encoding",       false, None),
        ];
        for (name, there, expected) in headers {
            assert_eq!(came.header(name), expected.filter(|_| there), "{why}: {name}");
        }
    }
    weft.stop().await;
}

#[tokio::test]
async fn an_events_texts_reach_the_receiver_in_either_mode() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    for raw in [false, true] {
        let mode = if raw { "raw" } else { "wrapped" };
        let settings = json!({ "payload_mode": mode });
        let connection = weft.webhook_with(&receiver.url("/"), settings, json!({})).await;
        let name = format!(r#" füße "{mode}" 100% "#);
        weft.rule(&name, &connection).await;
        let before = receiver.so_far().len();
        weft.emit(json!({ "event": name, "payload": { "n": 1 } })).await.answered(201, mode);
        let came = receiver.received(before + 1).await.remove(before);
        if raw {
            let expected = "%20f%C3%BC%C3%9Fe \"raw\" 100%25%20";
            assert_eq!(
                came.header("x-meshes-event"),
                Some(expected),
                "percent-encoded, the blanks inside kept"
            );
            assert_eq!(
                (came.header("x-meshes-resource"), came.header("x-meshes-resource-id")),
                (Some("global"), None)
            );
        } else {
            let body = came.json();
            assert_eq!((&body["event"], &body["resource"]), (&json!(name), &json!("global")));
            assert_eq!(body["resource_id"], Value::Null, "null, not absent: the members are always the same");
        }
    }
    weft.stop().await;
}

/// I8: also the largest there may be.
#[tokio::test]
async fn a_large_payload_arrives_byte_for_byte() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    weft.rule(
        "a.b",
        &weft.webhook_with(&receiver.url("/"), json!({ "payload_mode": "raw" }), json!({})).await,
    )
    .await;
    let frame = r#"{"é":""}"#.len();
    let payload = format!(r#"{{"é":"{}"}}"#, "x".repeat(weft.config.ingest.payload_bytes_max - frame));
    let body = format!(r#"{{"event":"a.b","payload":{payload}}}"#);
    let request = weft.request(Method::POST, "/api/v1/events").header("content-type", "application/json");
    let sent = send(request.header("x-meshes-publishable-key", &weft.publishable_key).body(body)).await;
    sent.answered(201, "as large as may be");
    assert!(receiver.received(1).await[0].body == payload.as_bytes(), "the same bytes");
    weft.stop().await;
}

/// As a receiver computes it, over the bytes it got.
pub fn sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length").chain_update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Whether one of the signatures is by this secret, as the specification says to check it.
pub fn verifies(came: &Received, secret: &str) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("its prefix")).expect("base64");
    let (id, time) =
        (came.header("webhook-id").expect("an id"), came.header("webhook-timestamp").expect("a time"));
    let message = [id.as_bytes(), b".", time.as_bytes(), b".", &came.body].concat();
    let expected = format!("v1,{}", STANDARD.encode(sha256(&key, &message)));
    came.header("webhook-signature").expect("signed").split(' ').any(|signature| signature == expected)
}

#[tokio::test]
async fn a_receiver_can_verify_standard_webhooks_while_secrets_rotate() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let secret = |byte: u8| format!("whsec_{}", STANDARD.encode([byte; 32]));
    let (old, new) = (secret(1), secret(2));
    let settings = json!({ "signing": "standard", "standard_secrets": [old] });
    let connection = weft.webhook_with(&receiver.url("/"), settings, json!({})).await;
    weft.rule("a.b", &connection).await;
    let masked = |index: usize| if index == 1 { MASK.to_owned() } else { format!("{MASK} {index}") };
    #[rustfmt::skip]
    let steps = [
        // why                                     secrets sent                            by the old  by the new  signatures
        ("one secret",                             None,                                   true,       false,      1),
        ("a new one before the old one's mask",    Some(vec![new.clone(), masked(1)]),     true,       true,       2),
        ("both masks keep both",                   Some(vec![masked(1), masked(2)]),       true,       true,       2),
        ("the old one is left out",                Some(vec![masked(1)]),                  false,      true,       1),
    ];
    for (n, (why, secrets, by_old, by_new, count)) in steps.into_iter().enumerate() {
        if let Some(secrets) = secrets {
            let metadata = json!({ "url": receiver.url("/"), "signing": "standard", "standard_secrets": secrets, "skip_test": true });
            let body = json!({ "name": "Rotated", "metadata": metadata });
            let changed = weft.put(&format!("/connections/{connection}"), body).await.answered(200, why);
            let shown: Vec<String> = (1..=count).map(masked).collect();
            assert_eq!(changed["metadata"]["standard_secrets"], json!(shown), "{why}: shown masked");
        }
        let (id, accepted) = send_exactly(&weft, r#""a.b""#).await;
        let came = receiver.received(n + 1).await.remove(n);
        assert_eq!((verifies(&came, &old), verifies(&came, &new)), (by_old, by_new), "{why}");
        assert_eq!(came.header("webhook-signature").map(|all| all.split(' ').count()), Some(count), "{why}");
        assert_eq!(came.header("webhook-id"), came.header("x-weft-delivery-id"), "{why}");
        let time: i64 = came.header("webhook-timestamp").expect("a time").parse().expect("seconds");
        assert!((accepted.0 / 1_000..accepted.0 / 1_000 + 60).contains(&time), "{why}: {time}");
        assert!(
            !verifies(&Received { body: "{}".into(), ..came }, &old),
            "{why}: another body does not verify"
        );
        weft.event_as(&id, "completed").await;
    }
    weft.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let weft = Weft::start().await;
    let header = |name: &str, value: &str| json!({ "headers": [{ "name": name, "value": value }] });
    let reserved: Vec<(&str, Value, &str)> = [
        "Host",
        "Content-Length",
        "transfer-encoding",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Keep-Alive",
        "Proxy-Authorization",
        "PROXY-ANYTHING",
        "Content-Type",
        "Content-Encoding",
        "Authorization",
        "X-Meshes-Signature",
        "x-meshes-own",
        "X-Weft-Attempt",
        "Webhook-Id",
        "webhook-anything",
    ]
    .into_iter()
    .map(|name| (name, header(name, "x"), "metadata.headers[0].name is a reserved header name"))
    .collect();
    let six: Vec<Value> = (1..=6).map(|n| json!({ "name": format!("X-Own-{n}"), "value": "v" })).collect();
    let long = "v".repeat(1_025);
    let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
    #[rustfmt::skip]
    let mut cases = vec![
        // why                          settings                                                                   says
        ("an unknown setting",          json!({ "auth_shceme": "basic" }),                                         "metadata.auth_shceme is not a setting of a webhook"),
        ("a method of numbers",         json!({ "http_method": 1 }),                                               "metadata.http_method must be a string"),
        ("GET",                         json!({ "http_method": "GET" }),                                           "metadata.http_method must be one of: POST, PUT, PATCH"),
        ("DELETE",                      json!({ "http_method": "DELETE" }),                                        "metadata.http_method must be one of: POST, PUT, PATCH"),
        ("a method with a line break",  json!({ "http_method": "POST\r\nX: y" }),                                  "metadata.http_method must be one of"),
        ("an unknown format",           json!({ "payload_mode": "xml" }),                                          "metadata.payload_mode must be one of: wrapped, raw"),
        ("an unknown scheme",           json!({ "auth_scheme": "digest" }),                                        "metadata.auth_scheme must be one of"),
        ("basic without a name",        json!({ "auth_scheme": "basic", "password": "p" }),                        "metadata.username is required"),
        ("a colon in the name",         json!({ "auth_scheme": "basic", "username": "a:b" }),                      "metadata.username must not hold a colon"),
        ("a line break in it",          json!({ "auth_scheme": "basic", "username": "a\r\nb" }),                   "metadata.username must not hold control characters"),
        ("bearer without a token",      json!({ "auth_scheme": "bearer" }),                                        "metadata.bearer_token is required"),
        ("an empty token",              json!({ "auth_scheme": "bearer", "bearer_token": "" }),                    "metadata.bearer_token is required"),
        ("a token of numbers",          json!({ "auth_scheme": "bearer", "bearer_token": 5 }),                     "metadata.bearer_token must be a string"),
        ("a token with a line break",   json!({ "auth_scheme": "bearer", "bearer_token": "a\r\nX: y" }),           "metadata.bearer_token must be printable ASCII"),
        ("a token beyond ASCII",        json!({ "auth_scheme": "bearer", "bearer_token": "tökn" }),                "metadata.bearer_token must be printable ASCII"),
        ("a token too long",            json!({ "auth_scheme": "bearer", "bearer_token": long }),                  "metadata.bearer_token must be at most 1024 bytes"),
        ("the mask of nothing",         json!({ "auth_scheme": "bearer", "bearer_token": MASK }),                  "metadata.bearer_token must be sent, because none is stored"),
        ("a header without a name",     json!({ "auth_scheme": "header", "auth_header_value": "v" }),              "metadata.auth_header_name is required"),
        ("without a value",             json!({ "auth_scheme": "header", "auth_header_name": "X-Key" }),           "metadata.auth_header_value is required"),
        ("a reserved name",             json!({ "auth_scheme": "header", "auth_header_name": "Host", "auth_header_value": "v" }), "metadata.auth_header_name is a reserved header name"),
        ("an unknown signature",        json!({ "signing": "rsa" }),                                               "metadata.signing must be one of"),
        ("HMAC without a secret",       json!({ "hmac_enabled": true }),                                           "metadata.hmac_secret is required"),
        ("HMAC both on and off",        json!({ "signing": "hmac", "hmac_enabled": false, "hmac_secret": "s" }),   "metadata.hmac_enabled contradicts signing"),
        ("HMAC beside another",         json!({ "signing": "standard", "hmac_enabled": true, "standard_secrets": [secret] }), "metadata.hmac_enabled contradicts signing"),
        ("enabled by a word",           json!({ "hmac_enabled": "yes" }),                                          "metadata.hmac_enabled must be true or false"),
        ("MD5",                         json!({ "hmac_enabled": true, "hmac_secret": "s", "hmac_algorithm": "md5" }), "metadata.hmac_algorithm must be one of: sha256, sha512"),
        ("its header reserved",         json!({ "hmac_enabled": true, "hmac_secret": "s", "hmac_header": "Webhook-Signature" }), "metadata.hmac_header is a reserved header name"),
        ("its header no token",         json!({ "hmac_enabled": true, "hmac_secret": "s", "hmac_header": "X Sig" }), "metadata.hmac_header must be letters, digits and dashes"),
        ("a header twice",              json!({ "hmac_enabled": true, "hmac_secret": "s", "hmac_header": "X-A", "headers": [{ "name": "x-a", "value": "v" }] }), "is used for another header already"),
        ("standard without secrets",    json!({ "signing": "standard" }),                                          "metadata.standard_secrets is required"),
        ("no secrets at all",           json!({ "signing": "standard", "standard_secrets": [] }),                  "metadata.standard_secrets must be a list of 1 to 5"),
        ("six secrets",                 json!({ "signing": "standard", "standard_secrets": vec![secret.clone(); 6] }), "metadata.standard_secrets must be a list of 1 to 5"),
        ("a secret too short",          json!({ "signing": "standard", "standard_secrets": ["whsec_c2hvcnQ="] }),  "metadata.standard_secrets[0] must be whsec_"),
        ("the second of numbers",       json!({ "signing": "standard", "standard_secrets": [secret, 5] }),         "metadata.standard_secrets[1] must be whsec_"),
        ("the mask of no secret",       json!({ "signing": "standard", "standard_secrets": [MASK] }),              "metadata.standard_secrets[0] must be sent"),
        ("headers as an object",        json!({ "headers": { "X-A": "b" } }),                                      "metadata.headers must be a list"),
        ("a header as a text",          json!({ "headers": ["X-A: b"] }),                                          "metadata.headers[0] must be an object of a name and a value"),
        ("a header without a value",    json!({ "headers": [{ "name": "X-A" }] }),                                 "metadata.headers[0] must be an object of a name and a value"),
        ("a value of numbers",          json!({ "headers": [{ "name": "X-A", "value": 1 }] }),                     "metadata.headers[0] must be an object of a name and a value"),
        ("something beside them",       json!({ "headers": [{ "name": "X-A", "value": "b", "secret": true }] }),   "metadata.headers[0] must be an object of a name and a value"),
        ("six headers",                 json!({ "headers": six }),                                                 "metadata.headers must be at most 5"),
        ("no name",                     header("", "v"),                                                           "metadata.headers[0].name must be from 1 to 128"),
        ("a name with a blank",         header("X A", "v"),                                                        "metadata.headers[0].name must be letters"),
        ("a name with a colon",         header("X:A", "v"),                                                        "metadata.headers[0].name must be letters"),
        ("a name with a line break",    header("X-A\r\nX-B", "v"),                                                 "metadata.headers[0].name must be letters"),
        ("a name beyond ASCII",         header("X-Ä", "v"),                                                        "metadata.headers[0].name must be letters"),
        ("a value with a line break",   header("X-A", "a\r\nX-B: c"),                                              "metadata.headers[0].value must be printable ASCII"),
        ("a value with NUL",            header("X-A", "a\u{0}"),                                                   "metadata.headers[0].value must be printable ASCII"),
        ("a value beyond ASCII",        header("X-A", "ä"),                                                        "metadata.headers[0].value must be printable ASCII"),
        ("a value over 1 KiB",          header("X-A", &long),                                                      "metadata.headers[0].value must be at most 1024 bytes"),
        ("one name twice",              json!({ "headers": [{ "name": "X-A", "value": "b" }, { "name": "x-a", "value": "c" }] }), "metadata.headers[1].name is used for another header already"),
        ("the test skipped by a word",  json!({ "skip_test": "never" }),                                           "metadata.skip_test must be true or false"),
    ];
    cases.extend(reserved);
    for (why, mut settings, says) in cases {
        settings["url"] = "http://127.0.0.1:9/".into();
        if settings["skip_test"].is_null() {
            settings["skip_test"] = true.into();
        }
        let body =
            json!({ "workspace": weft.workspace, "type": "webhook", "name": "Hook", "metadata": settings });
        let answer = weft.post("/connections", body).await;
        answer.refused(400, says, why);
        assert!(answer.params()[0].starts_with("metadata."), "{why}: {:?}", answer.params());
        assert!(
            !answer.text.contains(&long) && !answer.text.contains("tökn"),
            "{why}: what was sent is not told"
        );
    }
    assert_eq!(weft.get("/connections").await.body["count"], 0, "nothing was made");
    weft.stop().await;
}
