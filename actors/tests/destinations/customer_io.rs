//! Customer.io.

use crate::{
    fakes::{
        Fake, Fault,
        customer_io::{KEY, Tables, routes},
    },
    suite::{self, Case, IsDone, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

/// With the fields that every account has, by their names.
async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("customer_io", json!({ "region": "us", "cdpApiKey": KEY }));
    (subject.at("cdp.customer.io", &fake), fake)
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    let invalid = json!({ "errors": [{ "reason": "invalid", "field": "traits.email", "message": "is no e-mail address" }] });
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls,
        is_repeatable: true,
        refused: (Fault::status(400, &invalid.to_string()), "is no e-mail address (traits.email)"),
        slower: (Fault::status(429, r#"{"meta":{"error":"slow down"}}"#), Duration::from_secs(1)),
        locked: (
            Fault::status(401, r#"{"errors":[{"detail":"Invalid write key","status":"401"}]}"#),
            InactiveReason::AuthenticationInvalid,
        ),
    }
}

#[tokio::test]
async fn every_action_does_what_it_says_and_tells_what_goes_wrong() {
    let (mut subject, fake) = start().await;
    let is_known = |tables: &Tables| {
        tables.people.get("usr_123")
            == Some(&json!({ "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace" }))
    };
    let of = |tables: &Tables, is_right: fn(&Value) -> bool| {
        !tables.messages.is_empty() && tables.messages.values().all(is_right)
    };
    let happened = |event: &Value| {
        event["event"] == "contact.created"
            && event["userId"] == "usr_123"
            && event["properties"] == json!({ "source": "signup", "tier": "pro" })
    };
    let cases: [(&str, usize, IsDone<'_, Tables>); 3] = [
        ("identify_person", 1, &is_known),
        ("track_event", 2, &|tables| is_known(tables) && of(tables, happened)),
        ("group", 1, &|tables| of(tables, |group| group["groupId"] == "acme")),
    ];
    for (action, calls, is_done) in cases {
        fake.tables().messages.clear();
        let metadata = json!({ "action": action, "id": "acme" });
        let name = format!("customer_io_{action}");
        suite::ask(&name, &mut subject, &fake, &[KEY], case(metadata, calls, is_done)).await;
    }
}

#[tokio::test]
async fn a_repetition_has_the_ids_of_what_it_repeats() {
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "track_event" });
    subject.timeout = Duration::from_millis(600);
    fake.fail([Fault::None, Fault::Lost]);
    assert_eq!(subject.deliver(&metadata, &payload()).await.outcome, Outcome::Timeout);
    subject.timeout = Duration::from_secs(5);
    assert_eq!(subject.deliver(&metadata, &payload()).await.outcome, Outcome::Delivered);
    assert_eq!(fake.tables().messages.len(), 1, "it happened once");
    let seen = fake.seen();
    assert_ne!(seen[0].json()["messageId"], seen[1].json()["messageId"], "each call has its own");
    subject.next_delivery();
    subject.deliver(&metadata, &payload()).await;
    assert_eq!(fake.tables().messages.len(), 2, "another delivery happened too");
}

#[tokio::test]
async fn who_it_is_and_what_happened_are_told_apart() {
    let (mut subject, fake) = start().await;
    let renamed = json!({ "action": "track_event", "event_name_override": "Signed Up" });
    let sent = json!({ "email": "ada@example.com", "phone": 441632, "company": "Analytical", "created_at": "2026-01-20T21:14:16Z", "cart": { "items": [1, 2.5], "total": 12345678901234567890.5 } });
    assert_eq!(subject.deliver(&renamed, &sent).await.outcome, Outcome::Delivered);
    let seen = fake.seen();
    assert_eq!(seen[0].json()["userId"], "ada@example.com", "where there is no id");
    assert_eq!(seen[0].json()["traits"]["company"], "Analytical");
    let track = seen[1].json();
    assert_eq!(
        (&track["event"], &track["properties"]["cart"]["items"]),
        (&json!("Signed Up"), &json!([1, 2.5]))
    );
    assert!(track["properties"].get("email").is_none());

    subject = subject.mapping(&[
        ("anonymousId", "visitor"),
        ("traits.created_at", "since"),
        ("traits.plan", "tier"),
        ("properties.seats", "size"),
        ("traits.gone", "gone"),
    ]);
    subject.next_delivery();
    let sent = json!({ "visitor": "v-1", "since": "2026-01-20T21:14:16Z", "tier": "pro", "size": 7 });
    assert_eq!(subject.deliver(&json!({ "action": "track_event" }), &sent).await.outcome, Outcome::Delivered);
    let seen = fake.seen();
    assert_eq!((&seen[0].json()["anonymousId"], seen[0].json().get("userId")), (&json!("v-1"), None));
    assert_eq!(seen[0].json()["traits"], json!({ "created_at": 1_768_943_656, "plan": "pro" }));
    assert_eq!(seen[1].json()["properties"]["seats"], 7);
}

#[tokio::test]
async fn two_hundred_may_say_no() {
    use Outcome::*;
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "identify_person" });
    for (status, body, outcome) in [
        (200, r#"{"errors":[{"reason":"invalid","message":"no"}]}"#, RejectedClientError),
        (200, r#"{"meta":{"error":"no such workspace"}}"#, RejectedClientError),
        (200, "<html>hello</html>", RejectedServerError),
        (200, r#"{"success":true}"#, Delivered),
        (200, "", Delivered),
        (413, "{}", RejectedClientError),
        (500, "{}", RejectedServerError),
    ] {
        subject.next_delivery();
        fake.fail([Fault::status(status, body)]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!(report.outcome, outcome, "{status} {body}: {}", report.message);
    }
}

#[tokio::test]
async fn what_would_be_lost_is_said_before_any_call() {
    let (subject, fake) = start().await;
    let track = json!({ "action": "track_event" });
    let long = "x".repeat(1_001);
    for (why, metadata, payload) in [
        ("nobody", track.clone(), json!({ "first_name": "Ada" })),
        ("no group", json!({ "action": "group" }), payload()),
        (
            "a long name",
            json!({ "action": "track_event", "event_name_override": "x".repeat(101) }),
            payload(),
        ),
        ("a long trait", track.clone(), json!({ "id": "1", "first_name": long })),
        ("a large event", track.clone(), json!({ "id": "1", "note": "x".repeat(33_000) })),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
    let almost = json!({ "id": "1", "first_name": &long[1..], "note": "x".repeat(31_000) });
    assert_eq!(subject.deliver(&track, &almost).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn a_key_is_of_its_region() {
    let (subject, fake) = start().await;
    assert_eq!(subject.probe().await, Ok(()));
    let eu = Subject::new("customer_io", json!({ "region": "eu", "cdpApiKey": KEY }));
    assert_eq!(eu.at("cdp-eu.customer.io", &fake).probe().await, Ok(()));
    let nowhere = Subject::new("customer_io", json!({ "region": "mars", "cdpApiKey": KEY }));
    assert_eq!(nowhere.checked().expect_err("no region")[0].param, "region");
    fake.tables().key = "another";
    let refused = subject.probe().await.expect_err("401");
    assert!(refused.contains("Invalid write key"), "{refused}");
    let fields = subject.prepared().fields(subject.http(), Duration::from_secs(5)).await.expect("fields");
    assert_eq!((&fields[0].key[..], &fields[2].key[..]), ("userId", "traits.email"));
}
