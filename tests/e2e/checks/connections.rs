//! Checks 18 to 22: connections, what is in their accounts, and their mappings.

use crate::secrets::{HEADER_VALUE, MASK, PASSWORD, STATIC_VALUE, TOKEN, assert_silent, secrets, settings};
use crate::support::{NodeManagement, Receiver, Reply, Weft, assert_members, ids, text, until};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

/// Metadata of a URL alone is a webhook: POST, wrapped, with no credentials and no signature.
#[tokio::test]
async fn check_18_a_webhook_needs_its_url_only() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let api = NodeManagement::of(&weft);
    let body = json!({ "workspace": weft.workspace, "type": "webhook", "name": "Hook", "metadata": { "url": receiver.url("/hook") } });
    let made = api.post("/connections", body).await.answered(201, "made");
    assert_members(&made, &["connection"], "a create is wrapped");
    let connection = &made["connection"];
    assert_eq!((&connection["type"], &connection["active"]), (&json!("webhook"), &json!(true)));
    assert_eq!(connection["metadata"], json!({ "url": receiver.url("/hook") }), "as it was sent");
    weft.rule("a.b", &text(&connection["id"])).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let came = receiver.find(|came| came.json()["uuid"] == event.as_str()).await;
    assert_eq!((came.method.as_str(), came.target.as_str()), ("POST", "/hook"));
    assert_eq!((&came.json()["payload"], came.header("authorization")), (&json!({ "n": 1 }), None));
    assert!(came.headers.keys().all(|name| !name.as_str().contains("signature")), "{:?}", came.headers);
    weft.stop().await;
}

/// No answer shows a stored secret, and masked metadata sent back keeps the secret working.
#[tokio::test]
async fn check_19_a_secret_is_masked_in_every_answer_and_its_mask_keeps_it() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let secrets = secrets();
    for scheme in ["basic", "bearer", "header"] {
        let body = json!({ "workspace": weft.workspace, "type": "webhook", "name": scheme, "metadata": settings(&receiver.url("/"), scheme) });
        let made = weft.post("/connections", body).await;
        assert_silent(&made.text, &secrets, "made");
        let shown = made.answered(201, scheme)["connection"].clone();
        let path = format!("/connections/{}", text(&shown["id"]));
        let metadata = &shown["metadata"];
        for key in ["password", "bearer_token", "auth_header_value", "hmac_secret"] {
            assert_eq!(metadata[key], MASK, "{key}");
        }
        assert_eq!(metadata["standard_secrets"], json!([MASK]));
        assert_eq!(
            metadata["headers"][0],
            json!({ "name": "X-Auth-Token", "value": MASK }),
            "its name says it is one"
        );
        assert_eq!(metadata["headers"][1], json!({ "name": "X-Tenant", "value": MASK }), "any may be one");
        assert_eq!(metadata["username"], "ada");

        let rule = weft.rule(scheme, &text(&shown["id"])).await;
        for (why, method, body) in [
            ("masks sent back by PUT", Method::PUT, json!({ "name": scheme, "metadata": metadata })),
            ("by PATCH", Method::PATCH, json!({ "metadata": metadata })),
        ] {
            let changed = weft.ask(method, &path, Some(body)).await;
            assert_silent(&changed.text, &secrets, why);
            assert_eq!(changed.answered(200, why)["metadata"], *metadata, "{why}");
            let before = receiver.so_far().len();
            let event = weft.send_event(scheme, json!({ "n": 1 })).await;
            weft.event_as(&event, "completed").await;
            let came = receiver.received(before + 1).await.remove(before);
            let expected = match scheme {
                "basic" => ("authorization", format!("Basic {}", STANDARD.encode(format!("ada:{PASSWORD}")))),
                "bearer" => ("authorization", format!("Bearer {TOKEN}")),
                _ => ("x-api-key", HEADER_VALUE.to_owned()),
            };
            assert_eq!(came.header(expected.0), Some(expected.1.as_str()), "{why}: the stored one is sent");
            assert_eq!(came.header("x-auth-token"), Some(STATIC_VALUE), "{why}");
        }
        for path in [
            &path,
            "/connections",
            &format!("/workspaces/{}/connections", weft.workspace),
            &format!("/rules/{rule}"),
        ] {
            assert_silent(&weft.get(path).await.text, &secrets, path);
        }
    }
    weft.stop().await;
}

/// 409 while it has rules; by force 200 with `{id,type}`, and the rules are gone.
#[tokio::test]
async fn check_20_a_connection_with_rules_is_deleted_by_force_only() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let delete = async |id: &str, content_type: Option<&str>, body: &str| {
        let request =
            weft.request(Method::DELETE, &format!("/api/v1/connections/{id}")).bearer_auth(weft.token());
        let request = match content_type {
            Some(content_type) => request.header("content-type", content_type),
            None => request,
        };
        crate::support::send(request.body(body.to_owned())).await
    };
    const JSON: Option<&str> = Some("application/json");

    #[rustfmt::skip]
    let kept = [
        // why                          type    body                            status  says
        ("no body at all",              None,   "",                             409,    "the connection has 1 rules"),
        ("a JSON type and no body",     JSON,   "",                             409,    "the connection has 1 rules"),
        ("an empty object",             JSON,   "{}",                           409,    "the connection has 1 rules"),
        ("force off",                   JSON,   r#"{"force_delete":false}"#,    409,    "the connection has 1 rules"),
        ("force of null",               JSON,   r#"{"force_delete":null}"#,     409,    "the connection has 1 rules"),
        ("another field",               JSON,   r#"{"force":true}"#,            409,    "the connection has 1 rules"),
        ("force as a word",             JSON,   r#"{"force_delete":"true"}"#,   400,    "force_delete must be a boolean"),
        ("a list",                      JSON,   "[]",                           400,    "must be a JSON object"),
        ("not JSON",                    JSON,   "force",                        400,    "body is not valid JSON"),
        ("another type",                Some("text/plain"), r#"{"force_delete":true}"#, 415, "application/json"),
    ];
    let connection = weft.webhook(&receiver.url("/")).await;
    let rule = weft.rule("a.b", &connection).await;
    for (why, content_type, body, status, says) in kept {
        delete(&connection, content_type, body).await.refused(status, says, why);
        weft.get(&format!("/rules/{rule}")).await.answered(200, why);
    }

    let gone = delete(&connection, JSON, r#"{"force_delete":true,"colour":"ignored"}"#)
        .await
        .answered(200, "forced");
    assert_eq!(gone, json!({ "id": connection, "type": "webhook" }));
    weft.get(&format!("/connections/{connection}")).await.refused(404, "connection not found", "gone");
    weft.get(&format!("/rules/{rule}")).await.refused(404, "rule not found", "gone with it");
    delete(&connection, None, "").await.refused(404, "connection not found", "deleted twice");

    #[rustfmt::skip]
    let without_rules = [("no body", None, ""), ("a JSON type and no body", JSON, ""), ("an empty object", JSON, "{}"), ("force", JSON, r#"{"force_delete":true}"#)];
    for (why, content_type, body) in without_rules {
        let connection = weft.webhook(&receiver.url("/")).await;
        let gone = delete(&connection, content_type, body).await.answered(200, why);
        assert_eq!(gone, json!({ "id": connection, "type": "webhook" }), "{why}");
    }
    assert_eq!(ids(&weft.get("/connections").await.answered(200, "none are left")), [""; 0]);
    weft.stop().await;
}

/// `catalog_version` stays while nothing changes; `refresh=true` moves `refreshed_at`, even of a catalog without fields.
#[tokio::test]
async fn check_21_a_catalog_keeps_its_version_and_is_read_again_when_asked() {
    let weft = Weft::start().await;
    let path = format!("/connections/{}/fields", weft.webhook(HOOK).await);
    let first = weft.get(&path).await.answered(200, "made");
    assert!(!text(&first["catalog_version"]).is_empty(), "{first}");
    assert_eq!(weft.get(&path).await.answered(200, "kept"), first, "nothing moves by itself");
    assert_eq!(first["fields"], json!([]));
    let again = until("the clock moves on", async || {
        let again = weft.get(&format!("{path}?refresh=true")).await.answered(200, "read again");
        (again["refreshed_at"] != first["refreshed_at"]).then_some(again)
    })
    .await;
    assert_eq!(again["catalog_version"], first["catalog_version"]);
    weft.stop().await;
}

/// Generated until one is saved, then stored by versions; a stale version is 409, and a malformed schema 422.
#[tokio::test]
async fn check_22_a_default_mapping_is_generated_then_stored_by_versions() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let path = format!("/connections/{}/mappings/default", weft.webhook(HOOK).await);
    let field =
        |n: usize| json!({ "dest": format!("f{n}"), "source": { "type": "path", "value": "user.email" } });
    let schema = |fields: Value| json!({ "schema": { "schema_version": 1, "fields": fields } });
    let with = |name: &str, value: Value| {
        let mut field = field(0);
        field[name] = value;
        schema(json!([field]))
    };

    let generated = api.get(&path).await.answered(200, "before any is saved");
    assert_members(&generated, &["status", "mapping"], "the envelope");
    assert_eq!(generated["status"], "generated");
    let mut version = generated["mapping"]["version"].as_i64().expect("a number");
    let trim = json!({ "type": "trim" });
    for body in [
        schema(json!([field(0)])),
        schema((0..250).map(field).collect()),
        with("transforms", json!(vec![&trim; 10])),
    ] {
        let mut expecting = body.clone();
        expecting["expected_version"] = version.into();
        let stored = api.put(&path, expecting.clone()).await.answered(200, "saved");
        assert_eq!((&stored["status"], &stored["mapping"]["schema"]), (&json!("stored"), &body["schema"]));
        let next = stored["mapping"]["version"].as_i64().expect("a number");
        assert!(next > version, "{next} after {version}");
        version = next;
        assert_eq!(api.get(&path).await.answered(200, "shown"), stored);
        api.put(&path, expecting).await.refused(409, "", "the version it expects is stale");
    }
    let stored = api.get(&path).await.answered(200, "stored");
    #[rustfmt::skip]
    let malformed = [
        ("251 fields",             schema((0..251).map(field).collect())),
        ("11 transforms",          with("transforms", json!(vec![&trim; 11]))),
        ("a bad path",             with("source", json!({ "type": "path", "value": "$.payload.email" }))),
        ("an unknown transform",   with("transforms", json!([{ "type": "rot13" }]))),
    ];
    for (why, body) in malformed {
        api.put(&path, body).await.refused(422, "", why);
    }
    assert_eq!(api.get(&path).await.answered(200, "after it"), stored, "nothing of it was saved");
    weft.stop().await;
}

const HOOK: &str = "http://127.0.0.1:9/hook";
