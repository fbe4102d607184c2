//! Checks 1 to 9: who is asking.

use crate::support::{
    Answer, Credentials, NodeEvents, NodeManagement, Weft, assert_members, is_publishable_key, jwt, jwt_by,
    send, text,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Hmac;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha512;
use std::collections::BTreeSet;

/// An answer without what differs from request to request.
fn told(answer: &Answer) -> Value {
    let mut body = answer.body.clone();
    body.as_object_mut().expect("an object").remove("request_id");
    body
}

/// A value with one of its members said otherwise.
fn with(mut value: Value, name: &str, other: impl Into<Value>) -> Value {
    value[name] = other.into();
    value
}

/// A valid key with a token of 30 seconds: 200 and the list envelope.
#[tokio::test]
async fn check_01_a_machine_key_reads_workspaces() {
    let weft = Weft::start().await;
    let list = NodeManagement::of(&weft).get("/workspaces").await.answered(200, "listed");
    assert_members(&list, &["count", "limit", "next_cursor", "records"], "the envelope");
    let records = list["records"].as_array().expect("an array");
    assert_eq!((&list["count"], records.len()), (&json!(1), 1));
    assert!(list["limit"].as_u64().is_some_and(|limit| limit > 0), "{list}");
    assert_eq!((&list["next_cursor"], &records[0]["id"]), (&Value::Null, &json!(weft.workspace)));
    weft.stop().await;
}

/// `exp - iat` of 61: 401 with `message`. Of 60 it is the longest there may be.
#[tokio::test]
async fn check_02_a_token_lives_for_60_seconds_at_most() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    for (life, status) in [(60, 200), (61, 401)] {
        let token =
            api.credentials.sign(&api.credentials.header(), &api.credentials.claims(weft.seconds(), life));
        let answer = api.request_as(&token, "GET", "/workspaces", None).await;
        assert_eq!(answer.status, status, "{life} seconds: {}", answer.text);
        assert_eq!(answer.body["message"].is_string(), status == 401, "{life} seconds");
    }
    weft.stop().await;
}

/// Expired, or another `aud`, `iss`, `kid`, `alg` or signature: 401, with one body for all of them.
#[tokio::test]
async fn check_03_a_wrong_token_is_refused_without_a_hint() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let own = &api.credentials;
    let secret = own.secret_key.as_bytes();
    let (now, header) = (weft.seconds(), own.header());
    let claims = own.claims(now, 30);
    let other = Credentials { access_key: "mk_AAAAAAAAAAAAAAAAAAAAAA".to_owned(), ..own.clone() };
    let alg = |name: &str| with(header.clone(), "alg", name);
    let unsigned = jwt(&alg("none"), &claims, secret);
    let flipped = {
        let (signed, signature) = own
            .sign(&header, &claims)
            .rsplit_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("three parts");
        let first = if signature.starts_with('A') { "B" } else { "A" };
        format!("{signed}.{first}{}", &signature[1..])
    };
    #[rustfmt::skip]
    let wrong = [
        ("expired",                     own.sign(&header, &own.claims(now - 120, 30))),
        ("aud",                         own.sign(&header, &with(claims.clone(), "aud", "another-api"))),
        ("iss",                         own.sign(&header, &with(claims.clone(), "iss", "urn:meshes:m2m:mk_AAAAAAAAAAAAAAAAAAAAAA"))),
        ("kid",                         own.sign(&other.header(), &claims)),
        ("kid and iss",                 own.sign(&other.header(), &other.claims(now, 30))),
        ("alg none, unsigned",          format!("{}.", unsigned.rsplit_once('.').expect("three parts").0)),
        ("alg none, signed",            unsigned),
        ("alg HS512, signed by it",     jwt_by::<Hmac<Sha512>>(&alg("HS512"), &claims, secret)),
        ("alg HS512, signed as before", jwt(&alg("HS512"), &claims, secret)),
        ("signature by another key",    jwt(&header, &claims, b"another secret")),
        ("signature by nothing",        jwt(&header, &claims, b"")),
        ("signature with a letter off", flipped),
    ];
    let good = own.sign(&header, &claims);
    assert_eq!(api.request_as(&good, "GET", "/workspaces", None).await.status, 200, "right in all of it");
    let mut bodies = BTreeSet::new();
    for (why, token) in wrong {
        let answer = api.request_as(&token, "GET", "/workspaces", None).await;
        answer.refused(401, "", why);
        bodies.insert(told(&answer).to_string());
    }
    assert_eq!(bodies.len(), 1, "which check failed is not told: {bodies:?}");
    weft.stop().await;
}

/// The secret is its UTF-8 bytes: a token signed with what it decodes to is refused.
#[tokio::test]
async fn check_04_a_secret_is_not_decoded() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let own = &api.credentials;
    let (header, claims) = (own.header(), own.claims(weft.seconds(), 30));
    let decoded = URL_SAFE_NO_PAD.decode(&own.secret_key).expect("an issued secret is base64url");
    assert_eq!(decoded.len(), 32);
    for (secret, status) in [(own.secret_key.as_bytes(), 200), (&decoded, 401)] {
        let answer = api.request_as(&jwt(&header, &claims, secret), "GET", "/workspaces", None).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.body["message"].is_string(), status == 401);
    }
    weft.stop().await;
}

/// An `org` the key has no access to: 401 or 403, and nothing of it.
#[tokio::test]
async fn check_05_a_key_is_of_its_organization() {
    let weft = Weft::start().await;
    let (stranger, their_workspace, _) = weft.stranger().await;
    let own = Credentials::of(&weft);
    for organization in [stranger.organization_id.to_string(), uuid::Uuid::new_v4().to_string()] {
        let api = NodeManagement::new(&weft, Credentials { organization, ..own.clone() }).expect("a UUID");
        let event = json!({ "workspace": their_workspace, "event": "a.b", "payload": { "n": 1 } });
        for answer in [
            api.get("/workspaces").await,
            api.get(&format!("/workspaces/{their_workspace}")).await,
            api.get(&format!("/workspaces/{}", weft.workspace)).await,
            api.get("/events").await,
            api.post("/events", event).await,
        ] {
            assert!([401, 403].contains(&answer.status), "{}", answer.text);
            assert!(answer.body["message"].is_string() && answer.body.get("records").is_none());
            assert!(!answer.text.contains(&their_workspace) && !answer.text.contains(&weft.workspace));
        }
    }
    let token = weft.token_of(&stranger);
    let theirs = weft.ask_as(&token, Method::GET, "/events", None).await.answered(200, "their events");
    assert_eq!(theirs["count"], 0, "nothing was sent there");
    weft.stop().await;
}

/// A publishable key: 401 on `GET /workspaces`, and 201 on `POST /events` without `workspace`.
#[tokio::test]
async fn check_06_a_publishable_key_sends_events_only() {
    let weft = Weft::start().await;
    let request = weft.request(Method::GET, "/api/v1/workspaces");
    let answer = send(request.header("X-Meshes-Publishable-Key", &weft.publishable_key)).await;
    answer.refused(401, "", "it reads nothing");
    let event = json!({ "event": "contact.created", "payload": { "email": "ada@example.com" } });
    let sent = NodeEvents::of(&weft).emit(event).await.answered(201, "without a workspace");
    assert_eq!(sent["event"]["workspace"], weft.workspace.as_str());
    weft.stop().await;
}

/// What is issued has the form that the clients' constructors ask for; the organization's id is a UUID v4.
#[tokio::test]
async fn check_07_issued_credentials_have_the_form_clients_ask_for() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    for n in 0..8 {
        let made = api.post("/keys", json!({ "name": format!("key {n}") })).await.answered(201, "a key");
        let (access_key, secret_key) = (text(&made["key"]["access_key"]), text(&made["key"]["secret_key"]));
        let credentials = Credentials { access_key, secret_key, ..api.credentials.clone() };
        let theirs = NodeManagement::new(&weft, credentials).expect("the client takes them");
        theirs.get("/workspaces").await.answered(200, "and they are good");

        let made = api.post("/workspaces", json!({ "name": format!("shop {n}") })).await;
        let path = format!("/workspaces/{}", text(&made.answered(201, "made")["workspace"]["id"]));
        let shown = api.get(&path).await.answered(200, "shown");
        let rotated =
            api.post(&format!("{path}/publishable-key/rotate"), None).await.answered(200, "rotated");
        for key in [&shown["publishable_key"]["public_key"], &rotated["public_key"]] {
            assert!(is_publishable_key(&text(key)), "{key}");
            let sent = NodeEvents::new(&weft, &text(key)).expect("the client takes it");
            sent.emit(json!({ "event": "a.b", "payload": { "n": n } })).await.answered(201, "and it is good");
        }
    }
    for organization in [weft.machine.organization_id, weft.stranger().await.0.organization_id] {
        let id = uuid::Uuid::try_parse(&organization.to_string()).expect("a UUID");
        assert_eq!((id.get_version_num(), id.get_variant()), (4, uuid::Variant::RFC4122), "{id}");
    }
    #[rustfmt::skip]
    let others = ["", "mesh_pub_", "mesh_pub_a_b", "mesh_pub_a_b_", "mesh_pub__b_c", "mesh_pub_a_b_c_d", "pk_live_abc", "mesh_pub_a_b+_c"];
    assert!(others.iter().all(|key| !is_publishable_key(key)), "the pattern is one");
    weft.stop().await;
}

/// `X-Meshes-Client` absent or arbitrary changes nothing.
#[tokio::test]
async fn check_08_nobody_minds_which_client_asks() {
    let weft = Weft::start().await;
    let long = "x".repeat(4_000);
    let mut lists = BTreeSet::new();
    let clients =
        [None, Some("Meshes API Client v1.0.0"), Some(""), Some("curl"), Some("v0.0.0; é"), Some(&long)];
    for client in clients {
        let say = |request: reqwest::RequestBuilder| match client {
            Some(client) => request.header("X-Meshes-Client", client.as_bytes()),
            None => request,
        };
        let list = say(weft.request(Method::GET, "/api/v1/workspaces").bearer_auth(weft.token()));
        lists.insert(send(list).await.answered(200, "listed").to_string());
        let event = weft.request(Method::POST, "/api/v1/events");
        let event = event.header("X-Meshes-Publishable-Key", &weft.publishable_key);
        send(say(event).json(&json!({ "event": "a.b", "payload": { "n": 1 } }))).await.answered(201, "sent");
    }
    assert_eq!(lists.len(), 1, "all read the same");
    // What a caller of the client sets is sent, but not in place of its own headers.
    let api = NodeManagement::of(&weft).with_header("X-Request-Id", "r-1");
    let api = api.with_header("x-meshes-client", "mine").with_header("Authorization", "Bearer stolen");
    let answer = api.get("/workspaces").await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("r-1")), "{}", answer.text);
    weft.stop().await;
}

/// A browser may send events from any page, and is given leave for nothing else.
#[tokio::test]
async fn check_09_a_preflight_is_allowed_for_events_only() {
    let weft = Weft::start().await;
    let preflight = async |path: &str, method: &str, headers: &str| {
        let request = weft.request(Method::OPTIONS, &format!("/api/v1{path}"));
        let request = request.header("origin", "https://shop.example");
        let request = request.header("access-control-request-method", method);
        send(request.header("access-control-request-headers", headers)).await
    };
    let asked = "content-type,x-meshes-client,x-meshes-publishable-key";
    for path in ["/events", "/events/bulk"] {
        let answer = preflight(path, "POST", asked).await;
        assert!((200..300).contains(&answer.status), "{path}: {}", answer.status);
        let origin = answer.header("access-control-allow-origin");
        assert!(origin == Some("*") || origin == Some("https://shop.example"), "{path}: {origin:?}");
        let allows = |header: &str, value: &str| {
            let allowed = answer.header(header).unwrap_or_default().to_lowercase();
            allowed.split(',').any(|allowed| allowed.trim() == value)
        };
        assert!(allows("access-control-allow-methods", "post"), "{path}");
        for name in asked.split(',') {
            assert!(allows("access-control-allow-headers", name), "{path}: {name}");
        }
    }
    let answer = preflight("/workspaces", "GET", "authorization").await;
    let mut cors = answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(cors.next(), None, "no leave for it");
    weft.stop().await;
}
