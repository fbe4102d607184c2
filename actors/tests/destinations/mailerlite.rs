//! MailerLite.

use crate::{
    fakes::{
        Fake, Fault,
        mailerlite::{KEY, Subscriber, Tables, routes},
    },
    suite::{self, Case, IsDone, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

async fn with(settings: Value) -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("mailerlite", settings).at("connect.mailerlite.com", &fake).mapping(&[
        ("email", "email"),
        ("fields.name", "first_name"),
        ("fields.last_name", "last_name"),
        ("fields.source", "source"),
        ("tier", "tier"),
        ("subscribed_at", "since"),
        ("ip_address", "ip"),
    ]);
    (subject, fake)
}

async fn start() -> (Subject, Fake<Tables>) {
    with(json!({ "api_key": KEY })).await
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    let why = "The selected groups.0 is invalid.";
    let refused = json!({ "message": why, "errors": { "groups.0": [why] } });
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls,
        is_repeatable: true,
        refused: (Fault::status(422, &refused.to_string()), why),
        slower: (
            Fault::status(429, r#"{"message":"Too Many Attempts."}"#).with("retry-after", "37"),
            Duration::from_secs(37),
        ),
        locked: (
            Fault::status(401, r#"{"message":"Unauthenticated."}"#),
            InactiveReason::AuthenticationInvalid,
        ),
    }
}

fn ada(tables: &Tables) -> Option<&Subscriber> {
    tables.subscribers.get("ada@example.com")
}

#[tokio::test]
async fn every_action_does_what_it_says_and_tells_what_goes_wrong() {
    let (mut subject, fake) = start().await;
    let has = |tables: &Tables, status: &str, groups: &[&str]| {
        ada(tables).is_some_and(|ada| {
            ada.fields == json!({ "name": "Ada", "last_name": "Lovelace", "source": "signup", "tier": "pro" })
                && ada.status == status
                && ada.groups.iter().map(|group| &group[..]).collect::<Vec<_>>() == groups
        })
    };
    let cases: [(&str, usize, IsDone<'_, Tables>); 3] = [
        ("upsert_subscriber", 1, &|tables| has(tables, "active", &[])),
        ("add_to_group", 1, &|tables| has(tables, "active", &["2"])),
        ("unsubscribe", 1, &|tables| has(tables, "unsubscribed", &["2"])),
    ];
    for (action, calls, is_done) in cases {
        let metadata = json!({ "action": action, "id": "2" });
        let name = format!("mailerlite_{action}");
        suite::ask(&name, &mut subject, &fake, &[KEY], case(metadata, calls, is_done)).await;
    }
    let is_out = |tables: &Tables| has(tables, "unsubscribed", &[]);
    let metadata = json!({ "action": "remove_from_group", "id": "2" });
    suite::ask("mailerlite_remove_from_group", &mut subject, &fake, &[KEY], case(metadata, 2, &is_out)).await;
}

#[tokio::test]
async fn who_unsubscribed_stays_so_and_who_is_not_there_is_out_already() {
    let (mut subject, fake) = start().await;
    let out = json!({ "action": "remove_from_group", "id": "2" });
    assert_eq!(subject.deliver(&out, &payload()).await.outcome, Outcome::Delivered, "nobody is there");
    assert_eq!(fake.seen().len(), 1);
    for action in ["unsubscribe", "add_to_group"] {
        subject.next_delivery();
        let metadata = json!({ "action": action, "id": "3" });
        assert_eq!(subject.deliver(&metadata, &payload()).await.outcome, Outcome::Delivered);
    }
    assert_eq!(ada(&fake.tables()).map(|ada| &ada.status[..]), Some("unsubscribed"));
    subject.next_delivery();
    assert_eq!(subject.deliver(&out, &payload()).await.outcome, Outcome::Delivered, "in another group alone");
    let id = ada(&fake.tables()).map(|ada| ada.id.clone()).unwrap_or_default();
    assert!(fake.seen().iter().any(|seen| seen.target == format!("/api/subscribers/{id}/groups/2")), "{id}");
}

#[tokio::test]
async fn values_are_spelled_as_the_service_has_them() {
    let (mut subject, fake) = with(json!({ "api_key": KEY, "api_version_date": "2026-01-01" })).await;
    let metadata = json!({ "action": "upsert_subscriber" });
    let payload = json!({ "email": "a+b c/d@example.com", "tier": 7, "last_name": null, "since": "2026-01-20T22:14:16+01:00", "ip": "192.0.2.7" });
    assert_eq!(subject.deliver(&metadata, &payload).await.outcome, Outcome::Delivered);
    assert_eq!(
        fake.tables().subscribers["a+b c/d@example.com"].body,
        json!({ "email": "a+b c/d@example.com", "fields": { "tier": 7 }, "subscribed_at": "2026-01-20 21:14:16", "ip_address": "192.0.2.7" })
    );
    assert_eq!(fake.seen()[0].headers["x-version"], "2026-01-01");
    subject.next_delivery();
    fake.tables()
        .subscribers
        .get_mut("a+b c/d@example.com")
        .expect("it is there")
        .groups
        .insert("2".to_owned());
    let out = json!({ "action": "remove_from_group", "id": "2" });
    assert_eq!(subject.deliver(&out, &payload).await.outcome, Outcome::Delivered);
    assert!(fake.tables().subscribers["a+b c/d@example.com"].groups.is_empty(), "found by an odd address");
    for date in ["2026-13-01", "yesterday", "20260101"] {
        let settings = json!({ "api_key": KEY, "api_version_date": date });
        let errors = Subject::new("mailerlite", settings).checked().expect_err("no date");
        assert_eq!(errors[0].param, "api_version_date");
    }
}

#[tokio::test]
async fn statuses_mean_what_the_service_says() {
    use Outcome::*;
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "upsert_subscriber" });
    for (status, outcome) in [
        (400, RejectedClientError),
        (403, AuthFailed),
        (404, RejectedClientError),
        (405, RejectedClientError),
        (408, RejectedServerError),
        (429, RateLimited),
        (500, RejectedServerError),
        (504, RejectedServerError),
        (202, Delivered),
    ] {
        subject.next_delivery();
        fake.fail([Fault::status(status, r#"{"message":"so it is"}"#)]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!(report.outcome, outcome, "{status}: {}", report.message);
        assert_eq!(report.retry_after, (status == 429).then_some(Duration::from_secs(60)), "{status}");
    }
}

#[tokio::test]
async fn what_is_missing_is_said_before_any_call() {
    let (subject, fake) = start().await;
    for (why, metadata, payload) in [
        ("no address", json!({ "action": "upsert_subscriber" }), json!({ "name": "Ada" })),
        ("no group", json!({ "action": "add_to_group" }), payload()),
        ("no id", json!({ "action": "remove_from_group", "id": "2/../3" }), payload()),
        ("no such address", json!({ "action": "remove_from_group", "id": "2" }), json!({ "email": ".." })),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_account_tells_what_is_in_it() {
    let (subject, fake) = start().await;
    let (prepared, wait) = (subject.prepared(), Duration::from_secs(5));
    for (tells_last_page, calls) in [(true, 3), (false, 4)] {
        fake.tables().groups = 203;
        fake.tables().tells_last_page = tells_last_page;
        fake.seen();
        let groups = prepared.items("groups", subject.http(), wait).await.expect("groups");
        assert_eq!((groups.len(), &groups[202].name[..]), (203, "Group 203"), "all pages");
        assert_eq!(fake.seen().len(), calls);
    }
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    let keys: Vec<_> = fields.iter().map(|field| &field.key[..]).collect();
    assert_eq!(keys[..3], ["email", "fields.name", "fields.last_name"]);
    assert_eq!(keys[keys.len() - 3..], ["fields.tier", "fields.seats", "fields.since"], "each once");
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().key = "another";
    let refused = subject.probe().await.expect_err("401");
    assert!(refused.contains("Unauthenticated."), "{refused}");
}
