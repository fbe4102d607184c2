//! The webhook's promises: what is sent, byte for byte; what is refused; what is never shown.

use super::*;
use crate::{
    destinations::FieldError,
    transport::{
        loopback::{Loopback, Play, Seen, http, loopback_policy},
        resolve::Scripted,
    },
};
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = Timestamp(1_774_137_600_500);
const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_STANDARD_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn map(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn event() -> Event {
    let uuid = |text| Uuid::parse_str(text).expect("a UUID");
    Event {
        id: EventId::from_uuid(uuid("019d0b5c-1111-7000-8000-000000000001")),
        organization_id: OrganizationId::from_uuid(Uuid::nil()),
        workspace_id: WorkspaceId::from_uuid(Uuid::nil()),
        name: "contact.created".into(),
        resource: "user".into(),
        resource_id: Some("usr_123".into()),
        created_by: String::new(),
        accepted_at: Timestamp(1_774_137_600_000),
    }
}

/// Delivers to an endpoint that answers by these plays, with these settings beside the URL.
async fn deliver(plays: Vec<Play>, settings: Value, event: &Event, payload: &str) -> (Vec<Seen>, Report) {
    let endpoint = Loopback::start(plays).await;
    let mut settings = map(settings);
    settings.insert("url".into(), Value::from(endpoint.url("http", "127.0.0.1").as_str()));
    let settings = Webhook.check(&settings, &loopback_policy()).expect("good settings");
    let prepared = Webhook.prepare(Setup::of(&settings)).expect("good settings");
    let out = Outgoing {
        event,
        payload: &Bytes::copy_from_slice(payload.as_bytes()),
        delivery_id: DeliveryId::of(event.id, RuleId::from_uuid(Uuid::nil())),
        attempt: 3,
        sent_at: NOW,
        action: r#"{"action":"send_webhook"}"#,
        notes: None,
        timeout: Duration::from_secs(5),
    };
    let report = prepared.deliver(&out, &http(loopback_policy(), Scripted::default())).await;
    (endpoint.seen(), report)
}

async fn sent(settings: Value, event: &Event, payload: &str) -> Seen {
    let (mut seen, report) = deliver(vec![Play::status("200 OK", "")], settings, event, payload).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(report.response, None);
    seen.remove(0)
}

const PAYLOAD: &str = r#"{ "a":1.0,"big":12345678901234567890123,"huge":1e400,"esc":"\u00e9\/\ud83d\ude00","é":"\n" ,"a ":[ ]}"#;

#[tokio::test]
async fn the_envelope_is_written_around_the_payloads_own_bytes() {
    let seen = sent(json!({}), &event(), PAYLOAD).await;
    let expected = format!(
        r#"{{"uuid":"019d0b5c-1111-7000-8000-000000000001","event":"contact.created","resource":"user","resource_id":"usr_123","payload":{PAYLOAD},"time_created":1774137600000,"time_sent":1774137600500}}"#
    );
    assert_eq!(String::from_utf8(seen.body.clone()).expect("UTF-8"), expected);
    assert!(seen.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", seen.head);
    let delivery_id = DeliveryId::of(event().id, RuleId::from_uuid(Uuid::nil())).to_string();
    #[rustfmt::skip]
    let headers = [
        ("content-type",       Some("application/json")),
        ("user-agent",         Some(concat!("Weft/", env!("CARGO_PKG_VERSION")))),
        ("x-weft-delivery-id", Some(delivery_id.as_str())),
        ("x-weft-attempt",     Some("3")),
        ("accept-encoding",    None),
        ("x-meshes-event",     None),
        ("x-meshes-signature", None),
        ("webhook-id",         None),
        ("authorization",      None),
    ];
    for (name, expected) in headers {
        assert_eq!(seen.header(name), expected, "{name}");
    }
}

#[tokio::test]
async fn the_events_texts_are_escaped_and_a_missing_resource_id_is_null() {
    let event = Event { name: "a\"b\\c\u{7f}é".into(), resource_id: None, ..event() };
    let seen = sent(json!({}), &event, "{}").await;
    let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
    assert_eq!((body["event"].as_str(), &body["resource_id"]), (Some(event.name.as_str()), &Value::Null));
    let keys: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["uuid", "event", "resource", "resource_id", "payload", "time_created", "time_sent"]);
}

#[tokio::test]
async fn raw_mode_sends_the_payload_alone_and_the_rest_in_headers() {
    let event = Event { name: " füße 100% \u{1}".into(), resource_id: None, ..event() };
    let seen = sent(json!({"payload_mode": "raw", "http_method": "put"}), &event, PAYLOAD).await;
    assert_eq!(seen.body, PAYLOAD.as_bytes());
    assert!(seen.head.starts_with("PUT /hook "), "{}", seen.head);
    #[rustfmt::skip]
    let headers = [
        ("x-meshes-event-id",     Some("019d0b5c-1111-7000-8000-000000000001")),
        ("x-meshes-event",        Some("%20f%C3%BC%C3%9Fe 100%25 %01")),
        ("x-meshes-resource",     Some("user")),
        ("x-meshes-resource-id",  None),
        ("x-meshes-time-created", Some("1774137600000")),
        ("x-meshes-time-sent",    Some("1774137600500")),
    ];
    for (name, expected) in headers {
        assert_eq!(seen.header(name), expected, "{name}");
    }
}

#[tokio::test]
async fn credentials_signatures_and_static_headers_are_sent() {
    // HMACs by `printf %s "$PAYLOAD" | openssl dgst -sha256 -hmac key`, with the payload `{"a":1}`.
    let delivery_id = DeliveryId::of(event().id, RuleId::from_uuid(Uuid::nil())).to_string();
    #[rustfmt::skip]
    let cases = [
        (json!({"auth_scheme": "basic", "username": "ada", "password": "löve:lace"}), "authorization", "Basic YWRhOmzDtnZlOmxhY2U="),
        (json!({"auth_scheme": "basic", "username": "key"}),                          "authorization", "Basic a2V5Og=="),
        (json!({"auth_scheme": "bearer", "bearer_token": "t0ken"}),                   "authorization", "Bearer t0ken"),
        (json!({"auth_scheme": "header", "auth_header_name": "X-Key", "auth_header_value": "k e y"}), "x-key", "k e y"),
        (json!({"auth_scheme": "header", "auth_header_name": "Authorization", "auth_header_value": "Token x"}), "authorization", "Token x"),
        (json!({"headers": [{"name": "X-Tenant", "value": "acme"}]}),                 "x-tenant",      "acme"),
        (json!({"headers": [{"name": "User-Agent", "value": "mine"}]}),               "user-agent",    "mine"),
        (json!({"hmac_enabled": true, "hmac_secret": "key"}),                         "x-meshes-signature", "88a67f24bbcdaed0e6c997404bb79a743baf44c6bab2f4c27328e3009d22e342"),
        (json!({"hmac_enabled": "true", "hmac_secret": "key", "hmac_algorithm": "sha512", "hmac_header": "X-Sig"}), "x-sig", "dc7d8a6a7926059e98697ef54a65f745d924fc3e13c1176879dcdc84eac480bae377fa06d1ebcc6fab1375cd9bd611a1899694cc4ca7dc0f629d8b8133c5c83d"),
        (json!({"signing": "hmac", "hmac_secret": "key"}),                            "x-meshes-signature", "88a67f24bbcdaed0e6c997404bb79a743baf44c6bab2f4c27328e3009d22e342"),
        (json!({"signing": "standard", "standard_secrets": [STANDARD_SECRET]}),       "webhook-id",    delivery_id.as_str()),
        (json!({"signing": "standard", "standard_secrets": [STANDARD_SECRET]}),       "webhook-timestamp", "1774137600"),
    ];
    for (mut settings, name, expected) in cases {
        settings["payload_mode"] = json!("raw");
        let seen = sent(settings.clone(), &event(), r#"{"a":1}"#).await;
        assert_eq!(seen.header(name), Some(expected), "{settings}");
    }
    let both = json!({"signing": "standard", "standard_secrets": [OTHER_STANDARD_SECRET, STANDARD_SECRET]});
    let seen = sent(both, &event(), "{}").await;
    let signatures: Vec<&str> = seen.header("webhook-signature").expect("signed").split(' ').collect();
    assert_eq!(signatures.len(), 2);
    assert!(signatures.iter().all(|signature| signature.starts_with("v1,") && signature.len() == 47));
}

#[tokio::test]
async fn an_answer_becomes_a_report() {
    let auth = || json!({"auth_scheme": "bearer", "bearer_token": "s3cret-token"});
    let wait = |line: &str| {
        let head = format!(
            "HTTP/1.1 {line}\r\nretry-after: 7\r\nset-cookie: sid=s3cret\r\ncontent-length: 30\r\n\r\n"
        );
        Play::Answer([head.as_bytes(), b"no: Bearer s3cret-token \xff\xfe1234"].concat())
    };
    let seven = Some(Duration::from_secs(7));
    #[rustfmt::skip]
    let cases = [
        (Play::status("204 No Content", ""), json!({}), Outcome::Delivered,           None),
        (Play::status("302 Found", ""),      json!({}), Outcome::Delivered,           None),
        (wait("401 Unauthorized"),           auth(),    Outcome::AuthFailed,          None),
        (wait("403 Forbidden"),              auth(),    Outcome::AuthFailed,          None),
        (wait("401 Unauthorized"),           json!({}), Outcome::AuthFailed,          None),
        (wait("410 Gone"),                   auth(),    Outcome::RejectedClientError, None),
        (wait("429 Too Many Requests"),      auth(),    Outcome::RateLimited,         seven),
        (wait("503 Service Unavailable"),    auth(),    Outcome::RejectedServerError, seven),
        (wait("500 Internal Server Error"),  auth(),    Outcome::RejectedServerError, None),
        (Play::Close(vec![]),                auth(),    Outcome::NetworkError,        None),
    ];
    for (play, settings, outcome, retry_after) in cases {
        let (_, report) = deliver(vec![play.clone()], settings, &event(), "{}").await;
        assert_eq!((report.outcome, report.retry_after), (outcome, retry_after), "{play:?}");
        assert_eq!(report.response.is_some(), report.http_status.is_some_and(|status| status >= 400));
        if outcome == Outcome::RateLimited {
            let shown = format!("{report:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(shown.contains("Bearer [redacted]"), "{shown}");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_no_longer_allowed_is_a_network_error() {
    let prepared =
        Webhook.prepare(Setup::of(&map(json!({"url": "https://10.1.2.3/hook"})))).expect("settings are kept");
    let (event, payload) = (event(), Bytes::from_static(b"{}"));
    let out = Outgoing {
        event: &event,
        payload: &payload,
        delivery_id: DeliveryId::of(event.id, RuleId::from_uuid(Uuid::nil())),
        attempt: 1,
        sent_at: NOW,
        action: "{}",
        notes: None,
        timeout: Duration::from_secs(5),
    };
    let report = prepared.deliver(&out, &http(AddressPolicy::default(), Scripted::default())).await;
    assert_eq!(report.outcome, Outcome::NetworkError);
    assert_eq!(report.message, "destination address is not allowed: it is not a public address");
}

#[tokio::test]
async fn a_url_is_tried_out_unless_that_is_skipped() {
    let http = http(loopback_policy(), Scripted::default());
    let endpoint =
        Loopback::start(vec![Play::status("200 OK", ""), Play::status("404 Not Found", "?")]).await;
    let url = endpoint.url("http", "127.0.0.1");
    let timeout = Duration::from_secs(5);
    let settings = map(json!({"url": url.as_str(), "hmac_enabled": true, "hmac_secret": "key"}));
    assert_eq!(Webhook.probe(Setup::of(&settings), &http, NOW, timeout).await, Ok(()));
    let body: Value = serde_json::from_slice(&endpoint.seen()[0].body).expect("JSON");
    assert_eq!(body["event"], TEST_EVENT);
    assert!(endpoint.seen()[0].header("x-meshes-signature").is_some(), "signed like any other");
    let refused = Webhook.probe(Setup::of(&settings), &http, NOW, timeout).await.expect_err("404");
    assert_eq!(refused, "the test request was not accepted: the endpoint answered 404 Not Found");
    let skipped = map(json!({"url": url.as_str(), "skip_test": true}));
    assert_eq!(Webhook.probe(Setup::of(&skipped), &http, NOW, timeout).await, Ok(()));
    assert_eq!(endpoint.seen().len(), 2);
}

fn check(settings: Value) -> Result<Map<String, Value>, Vec<FieldError>> {
    let mut settings = map(settings);
    settings.entry("url").or_insert_with(|| json!("https://example.com/hook"));
    Webhook.check(&settings, &AddressPolicy::default())
}

#[test]
fn every_fault_is_named_by_where_it_is() {
    let header = |name: &str, value: &str| json!({"headers": [{"name": name, "value": value}]});
    let long = "x".repeat(1_025);
    let six = Value::from(vec![json!({"name": "x-a", "value": "1"}); 6]);
    #[rustfmt::skip]
    let cases = [
        ("no URL",                     json!({"url": null}),                             "url"),
        ("empty URL",                  json!({"url": ""}),                               "url"),
        ("URL of another type",        json!({"url": 5}),                                "url"),
        ("private URL",                json!({"url": "https://10.0.0.1/"}),              "url"),
        ("plain http",                 json!({"url": "http://example.com/"}),            "url"),
        ("unknown setting",            json!({"uri": "x"}),                              "uri"),
        ("method",                     json!({"http_method": "GET"}),                    "http_method"),
        ("method of another type",     json!({"http_method": 1}),                        "http_method"),
        ("payload mode",               json!({"payload_mode": "xml"}),                   "payload_mode"),
        ("scheme",                     json!({"auth_scheme": "digest"}),                 "auth_scheme"),
        ("no user name",               json!({"auth_scheme": "basic"}),                  "username"),
        ("colon in the user name",     json!({"auth_scheme": "basic", "username": "a:b"}), "username"),
        ("line break in the password", json!({"auth_scheme": "basic", "username": "a", "password": "a\r\nb"}), "password"),
        ("no token",                   json!({"auth_scheme": "bearer"}),                 "bearer_token"),
        ("line break in the token",    json!({"auth_scheme": "bearer", "bearer_token": "a\nb"}), "bearer_token"),
        ("token that is not ASCII",    json!({"auth_scheme": "bearer", "bearer_token": "é"}), "bearer_token"),
        ("token too long",             json!({"auth_scheme": "bearer", "bearer_token": long}), "bearer_token"),
        ("mask with nothing stored",   json!({"auth_scheme": "bearer", "bearer_token": MASK}), "bearer_token"),
        ("no header name",             json!({"auth_scheme": "header", "auth_header_value": "x"}), "auth_header_name"),
        ("no header value",            json!({"auth_scheme": "header", "auth_header_name": "x"}), "auth_header_value"),
        ("reserved header name",       json!({"auth_scheme": "header", "auth_header_name": "Host", "auth_header_value": "x"}), "auth_header_name"),
        ("signing",                    json!({"signing": "rsa"}),                        "signing"),
        ("no HMAC secret",             json!({"hmac_enabled": true}),                    "hmac_secret"),
        ("HMAC algorithm",             json!({"hmac_enabled": true, "hmac_secret": "k", "hmac_algorithm": "md5"}), "hmac_algorithm"),
        ("HMAC header",                json!({"hmac_enabled": true, "hmac_secret": "k", "hmac_header": "Webhook-Id"}), "hmac_header"),
        ("HMAC flag",                  json!({"hmac_enabled": "yes"}),                   "hmac_enabled"),
        ("HMAC and standard",          json!({"hmac_enabled": true, "signing": "standard", "standard_secrets": [STANDARD_SECRET]}), "hmac_enabled"),
        ("HMAC on and off",            json!({"hmac_enabled": false, "signing": "hmac", "hmac_secret": "k"}), "hmac_enabled"),
        ("no standard secret",         json!({"signing": "standard"}),                   "standard_secrets"),
        ("empty list of secrets",      json!({"signing": "standard", "standard_secrets": []}), "standard_secrets"),
        ("six standard secrets",       json!({"signing": "standard", "standard_secrets": vec![STANDARD_SECRET; 6]}), "standard_secrets"),
        ("bad standard secret",        json!({"signing": "standard", "standard_secrets": [STANDARD_SECRET, "whsec_x"]}), "standard_secrets[1]"),
        ("headers of another type",    json!({"headers": {"x": "y"}}),                   "headers"),
        ("six headers",                json!({"headers": six}),                          "headers"),
        ("header of another shape",    json!({"headers": [{"name": "x"}]}),              "headers[0]"),
        ("header with more",           json!({"headers": [{"name": "x", "value": "y", "z": 1}]}), "headers[0]"),
        ("empty name",                 header("", "x"),                                  "headers[0].name"),
        ("name with a blank",          header("x y", "x"),                               "headers[0].name"),
        ("name with a colon",          header("x:y", "x"),                               "headers[0].name"),
        ("name with a line break",     header("x\r\ny", "x"),                            "headers[0].name"),
        ("name that is not ASCII",     header("é", "x"),                                 "headers[0].name"),
        ("value with CR",              header("x", "a\rb"),                              "headers[0].value"),
        ("value with LF",              header("x", "a\nHost: b"),                        "headers[0].value"),
        ("value with NUL",             header("x", "a\0b"),                              "headers[0].value"),
        ("value with a tab",           header("x", "a\tb"),                              "headers[0].value"),
        ("value that is not ASCII",    header("x", "é"),                                 "headers[0].value"),
        ("value too long",             header("x", &long),                               "headers[0].value"),
        ("the same header twice",      json!({"headers": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}]}), "headers[1].name"),
        ("the auth header again",      json!({"auth_scheme": "header", "auth_header_name": "X-A", "auth_header_value": "1", "headers": [{"name": "x-a", "value": "2"}]}), "headers[0].name"),
        ("skip_test",                  json!({"skip_test": 1}),                          "skip_test"),
    ];
    for (why, settings, param) in cases {
        let errors = check(settings).expect_err(why);
        let params: Vec<&str> = errors.iter().map(|err| err.param.as_str()).collect();
        assert_eq!(params, [param], "{why}: {errors:?}");
    }
    let reserved = "Host Content-Length Transfer-Encoding Connection TE Trailer Upgrade Expect Keep-Alive Proxy-Connection \
        Proxy-Authorization Content-Type Content-Encoding Authorization X-Meshes-Event X-Meshes-Signature Webhook-Id X-Weft-Attempt";
    for name in reserved.split_whitespace().flat_map(|name| [name.to_owned(), name.to_uppercase()]) {
        let errors = check(header(&name, "x")).expect_err(&name);
        assert_eq!(errors, [FieldError::new("headers[0].name", "is a reserved header name")], "{name}");
    }
}

#[test]
fn faults_never_quote_what_was_sent() {
    let secret = "hunter2\nhunter2";
    let settings = json!({"auth_scheme": "bearer", "bearer_token": secret, "hmac_secret": secret, "signing": secret,
        "headers": [{"name": secret, "value": secret}], "standard_secrets": [secret], "http_method": secret});
    let errors = check(settings).expect_err("faulty");
    assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
}

#[test]
fn settings_are_kept_as_sent_but_for_what_is_empty_and_how_it_is_spelled() {
    #[rustfmt::skip]
    let cases = [
        (json!({}),                                             json!({})),
        (json!({"http_method": "patch", "skip_test": "true"}),  json!({"http_method": "PATCH", "skip_test": true})),
        (json!({"password": "", "headers": null}),              json!({})),
        (json!({"bearer_token": "kept for later"}),             json!({"bearer_token": "kept for later"})),
        (json!({"standard_secrets": STANDARD_SECRET}),          json!({"standard_secrets": [STANDARD_SECRET]})),
    ];
    for (sent, mut kept) in cases {
        kept["url"] = json!("https://example.com/hook");
        assert_eq!(Value::from(check(sent.clone()).expect("good settings")), kept, "{sent}");
    }
}

#[test]
fn a_mask_sent_back_stands_for_the_stored_secret() {
    let second = format!("{MASK} 2");
    let token = |value: &str| json!({"headers": [{"name": "x-api-token", "value": value}]});
    #[rustfmt::skip]
    let cases = [
        // why                       stored                                sent                                        merged
        ("kept",                     json!({"bearer_token": "t"}),         json!({"bearer_token": MASK}),              json!({"bearer_token": "t"})),
        ("changed",                  json!({"bearer_token": "t"}),         json!({"bearer_token": "u"}),               json!({"bearer_token": "u"})),
        ("removed",                  json!({"bearer_token": "t"}),         json!({}),                                  json!({})),
        ("nothing stored",           json!({}),                            json!({"bearer_token": MASK}),              json!({"bearer_token": MASK})),
        ("a new secret before",      json!({"standard_secrets": ["a"]}),   json!({"standard_secrets": ["b", MASK]}),   json!({"standard_secrets": ["b", "a"]})),
        ("the first one removed",    json!({"standard_secrets": ["a", "b"]}), json!({"standard_secrets": [second]}),   json!({"standard_secrets": ["b"]})),
        ("a header, by its name",    token("t"),                           json!({"headers": [{"name": "X-API-Token", "value": MASK}]}),
                                                                                        json!({"headers": [{"name": "X-API-Token", "value": "t"}]})),
        ("a name without password",  json!({"username": "k"}),             json!({"username": MASK, "password": "p"}), json!({"username": "k", "password": "p"})),
        ("HMAC switched off",        json!({"signing": "hmac", "hmac_enabled": true}), json!({"signing": "hmac", "hmac_enabled": false}), json!({"hmac_enabled": false})),
        ("signing changed",          json!({"signing": "hmac", "hmac_enabled": true}), json!({"signing": "none", "hmac_enabled": true}),  json!({"signing": "none"})),
        ("nothing but spelling",     json!({"signing": "standard"}),       json!({"signing": "standard", "hmac_enabled": ""}),      json!({"signing": "standard", "hmac_enabled": ""})),
        ("nothing but a default",    json!({"hmac_enabled": true}),        json!({"signing": null, "hmac_enabled": true}),          json!({"signing": null, "hmac_enabled": true})),
        ("to HMAC by its flag",      json!({"signing": "standard"}),       json!({"signing": "standard", "hmac_enabled": true}),    json!({"hmac_enabled": true})),
    ];
    for (why, stored, sent, merged) in cases {
        assert_eq!(Value::from(Webhook.merge(&map(sent), &map(stored))), merged, "{why}");
    }
}

#[tokio::test]
async fn what_an_endpoint_echoes_is_kept_without_credentials() {
    let settings = json!({"auth_scheme": "basic", "username": "name-alone",
        "headers": [{"name": "X-Auth", "value": "s3cret"}, {"name": "X-Region", "value": "eu"}]});
    let echo = Play::status("500 Internal Server Error", "X-Auth: s3cret, X-Region: eu, name-alone");
    let (_, report) = deliver(vec![echo], settings, &event(), "{}").await;
    let body = report.response.expect("a failure is kept").body;
    assert_eq!(body, "X-Auth: [redacted], X-Region: eu, [redacted]");
}

#[test]
fn a_rule_may_only_send() {
    let errors = |metadata| Webhook.check_action(&map(metadata)).err();
    assert_eq!(errors(json!({"action": "send_webhook"})), None);
    let refusal = Some(vec![FieldError::new("action", "must be one of: send_webhook")]);
    for metadata in [json!({}), json!({"action": "add_tag"}), json!({"action": 1}), json!({"action": null})] {
        assert_eq!(errors(metadata), refusal);
    }
}

prop_compose! {
    /// Good settings of every kind; each secret starts with `S3`, and nothing else does.
    fn settings()(
        auth in 0..4usize, signing in 0..3usize, secrets in prop::collection::vec("S3[a-zA-Z0-9]{10,20}", 4),
        standard in 1..4usize, header in any::<bool>(), name_alone in any::<bool>(),
    ) -> Map<String, Value> {
        let mut settings = map(json!({"url": "https://example.com/hook?x=1", "username": "ada", "password": secrets[0],
            "bearer_token": secrets[1], "auth_header_name": "X-Key", "auth_header_value": secrets[2], "hmac_secret": secrets[3]}));
        settings.insert("auth_scheme".into(), json!(["none", "basic", "bearer", "header"][auth]));
        settings.insert("signing".into(), json!(["none", "hmac", "standard"][signing]));
        settings.insert("hmac_enabled".into(), json!(signing == 1));
        settings.insert("standard_secrets".into(), json!(vec![format!("S3{}", "a".repeat(34)); standard]));
        if name_alone {
            settings.remove("password");
            settings.insert("username".into(), json!(secrets[0]));
        }
        if header {
            settings.insert("headers".into(), json!([{"name": "X-Api-Token", "value": secrets[0]}, {"name": "X-Auth", "value": secrets[1]}]));
        }
        settings
    }
}

/// The ways to say one kind of signing, with its secrets; `None` leaves the key out.
fn spelled(kind: usize) -> impl Strategy<Value = Map<String, Value>> {
    let (nothing, no, yes) = ([None, Some(json!(null)), Some(json!(""))], json!(false), json!(true));
    let [absent, null, empty] = nothing.clone();
    let off = [absent.clone(), null.clone(), empty.clone(), Some(no), Some(json!("false"))].to_vec();
    let on = [absent, null, empty, Some(yes), Some(json!("true"))].to_vec();
    let (names, flags) = match kind {
        0 => ([&nothing[..], &[Some(json!("none")), Some(json!("None"))]].concat(), off),
        1 => ([&nothing[..], &[Some(json!("hmac")), Some(json!("HMAC"))]].concat(), on),
        _ => (vec![Some(json!("standard")), Some(json!("Standard"))], off),
    };
    (prop::sample::select(names), prop::sample::select(flags))
        .prop_map(|(name, flag)| {
            let mut settings = map(json!({"url": "https://example.com/hook", "hmac_secret": "key", "standard_secrets": [STANDARD_SECRET]}));
            settings.extend([("signing", name), ("hmac_enabled", flag)].into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
            settings
        })
        .prop_filter("says it", move |settings| signs(settings) == kind)
}

/// Which of the kinds these settings lead to.
fn signs(settings: &Map<String, Value>) -> usize {
    match settings::Settings::read(settings).0.signing {
        settings::Signing::None => 0,
        settings::Signing::Hmac { .. } => 1,
        settings::Signing::Standard(_) => 2,
    }
}

proptest! {
    /// I12, I18: a signature is neither lost nor changed because a form spells the same thing otherwise.
    #[test]
    fn how_signing_is_spelled_never_changes_it((kind, stored, sent) in (0..3usize).prop_flat_map(|kind| (Just(kind), spelled(kind), spelled(kind)))) {
        let kept = check(Value::from(stored)).expect("good settings");
        let merged = check(Value::from(Webhook.merge(&sent, &kept))).expect("still good settings");
        prop_assert_eq!(signs(&merged), kind, "{:?} over {:?}", sent, kept);
    }

    #[test]
    fn what_is_shown_holds_no_secret_and_sent_back_changes_nothing(settings in settings()) {
        let kept = check(Value::from(settings.clone())).expect("good settings");
        prop_assert_eq!(&kept, &settings);
        let shown = Webhook.masked(&kept);
        prop_assert!(!Value::from(shown.clone()).to_string().contains("S3"));
        prop_assert_eq!(Webhook.merge(&shown, &kept), kept.clone());
        prop_assert!(Webhook.prepare(Setup::of(&kept)).is_ok());
        prop_assert_eq!(check(Value::from(kept.clone())), Ok(kept));
    }

    #[test]
    fn whatever_is_sent_is_judged_without_a_panic(key in "[a-z_]{0,8}", text in "\\PC{0,30}", at in 0..17usize) {
        let keys: Vec<&str> = SPEC.fields.iter().map(|field| field.key).collect();
        let values = [json!(text), json!([text]), json!([{"name": text, "value": text}]), json!(1.5), json!({"a": text})];
        for value in values {
            let settings = map(json!({ keys[at]: value, key.as_str(): text }));
            let _ = Webhook.check(&settings, &AddressPolicy::default());
            let shown = Webhook.masked(&settings);
            let _ = Webhook.merge(&shown, &settings);
            let _ = Webhook.prepare(Setup::of(&settings));
        }
    }
}
