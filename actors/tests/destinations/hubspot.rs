//! HubSpot.

use crate::{
    fakes::{
        Fake, Fault,
        hubspot::{TOKEN, Tables, routes},
    },
    suite::{self, Case, Consented, IsDone, Subject, payload},
};
use actors::{
    destinations,
    domain::{catalog::CatalogFieldKind, connection::InactiveReason, delivery::Outcome},
};
use serde_json::{Value, json};
use std::time::Duration;

const FIELDS: [(&str, &str); 5] = [
    ("email", "email"),
    ("firstname", "first_name"),
    ("lastname", "last_name"),
    ("lead_source_x", "source"),
    ("tier", "tier"),
];

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("hubspot", json!({ "access_token": TOKEN, "hub_id": "62515" }));
    (subject.at("api.hubapi.com", &fake).mapping(&FIELDS), fake)
}

fn error(status: u16, category: &str, message: &str) -> Fault {
    let body = json!({ "status": "error", "category": category, "message": message, "correlationId": "c" });
    Fault::status(status, &body.to_string())
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    Case {
        is_repeatable: metadata["action"] != "create_deal",
        metadata,
        payload: payload(),
        is_done,
        calls,
        refused: (
            error(400, "VALIDATION_ERROR", "tier was not valid"),
            "VALIDATION_ERROR: tier was not valid",
        ),
        slower: (
            error(429, "RATE_LIMITS", "You have reached your ten_secondly_rolling limit.")
                .with("x-hubspot-ratelimit-interval-milliseconds", "10000"),
            Duration::from_secs(10),
        ),
        locked: (
            error(403, "MISSING_SCOPES", "This app hasn't been granted all required scopes"),
            InactiveReason::OauthReauthorizationRequired,
        ),
    }
}

#[tokio::test]
async fn every_action_does_what_it_says_and_tells_what_goes_wrong() {
    let (mut subject, fake) = start().await;
    let has_contact = |tables: &Tables| {
        let contact = tables.contacts.get("ada@example.com").map(|(_, properties)| properties);
        contact.is_some_and(|ada| ada["firstname"] == "Ada" && ada["lead_source_x"] == "signup")
    };
    let member = ("7".to_owned(), "151".to_owned());
    let deal = json!({ "action": "create_deal", "title": "{{first_name}} – {{tier}}", "amount": "1500.00" });
    let event = json!({ "action": "send_custom_event", "event_name": "pe62515_signup", "event_properties": "source, none" });
    let cases: [(&str, Value, usize, IsDone<'_, Tables>); 6] = [
        ("upsert_contact", json!({}), 1, &has_contact),
        ("add_to_list", json!({ "id": "7" }), 2, &|tables| {
            has_contact(tables) && tables.members.contains(&member)
        }),
        ("remove_from_list", json!({ "id": "7" }), 2, &|tables| tables.members.is_empty()),
        ("update_property", json!({ "id": "tier", "value": "free" }), 1, &|tables| {
            tables.contacts["ada@example.com"].1["tier"] == "free"
        }),
        ("create_deal", deal, 2, &|tables| tables.deals[0]["properties"]["dealname"] == "Ada – pro"),
        ("send_custom_event", event, 1, &|tables| {
            tables.events.values().all(|event| event["properties"] == json!({ "source": "signup" }))
        }),
    ];
    for (action, mut metadata, calls, is_done) in cases {
        metadata["action"] = action.into();
        let name = format!("hubspot_{action}");
        suite::ask(&name, &mut subject, &fake, &[TOKEN], case(metadata, calls, is_done)).await;
    }
}

#[tokio::test]
async fn a_batch_may_have_failed_although_it_was_answered() {
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "upsert_contact" });
    let error = json!({ "status": "error", "category": "VALIDATION_ERROR", "message": "Property \"tier\" does not exist", "context": { "objectWriteTraceId": ["t"] } });
    for (why, status, body, outcome, words) in [
        (
            "207",
            207,
            json!({ "status": "COMPLETE", "results": [], "numErrors": 1, "errors": [error] }),
            Outcome::RejectedClientError,
            "does not exist",
        ),
        (
            "200 with errors",
            200,
            json!({ "results": [], "errors": [error] }),
            Outcome::RejectedClientError,
            "does not exist",
        ),
        (
            "nothing said",
            200,
            json!({ "status": "COMPLETE", "results": [] }),
            Outcome::RejectedClientError,
            "took nothing",
        ),
        ("no batch", 200, json!({}), Outcome::RejectedServerError, "without the contact's id"),
        (
            "207 that took it",
            207,
            json!({ "results": [{ "id": "151" }], "errors": [] }),
            Outcome::Delivered,
            "",
        ),
    ] {
        subject.next_delivery();
        fake.fail([Fault::status(status, &body.to_string())]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!(report.outcome, outcome, "{why}: {}", report.message);
        assert!(report.message.contains(words), "{why}: {}", report.message);
    }
}

#[tokio::test]
async fn statuses_mean_what_hubspot_means_by_them() {
    use Outcome::*;
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "upsert_contact" });
    let daily =
        json!({ "status": "error", "policyName": "DAILY", "message": "You have reached your daily limit." });
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (why, fault, outcome, wait) in [
        ("locked for a moment", error(423, "LOCKED", "locked"), RateLimited, seconds(2)),
        (
            "the day is used up",
            Fault::status(429, &daily.to_string()).with("retry-after", "1"),
            RateLimited,
            seconds(3_600),
        ),
        (
            "Retry-After comes first",
            error(429, "RATE_LIMITS", "slow").with("retry-after", "3"),
            RateLimited,
            seconds(3),
        ),
        ("no hint", error(429, "RATE_LIMITS", "slow"), RateLimited, seconds(10)),
        ("migrating", Fault::status(477, "").with("retry-after", "600"), RateLimited, seconds(600)),
        (
            "a race",
            error(409, "CONFLICT", "Contact already exists. Existing ID: 151"),
            RejectedServerError,
            None,
        ),
        ("too long an address", Fault::status(414, ""), RejectedClientError, None),
        ("timeout in front of it", Fault::status(524, "<html>"), RejectedServerError, None),
        (
            "an expired token that was pasted",
            error(401, "EXPIRED_AUTHENTICATION", "The OAuth token expired"),
            AuthFailed,
            None,
        ),
    ] {
        subject.next_delivery();
        fake.fail([fault]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!((report.outcome, report.retry_after), (outcome, wait), "{why}: {}", report.message);
    }
}

#[tokio::test]
async fn a_token_that_ended_is_renewed_once() {
    let fake = Fake::start(routes).await;
    let tokens = Consented::of(&["ended", TOKEN]);
    let subject = Subject::new("hubspot", json!({ "hub_id": "62515" })).tokens(&tokens).mapping(&FIELDS);
    let subject = subject.at("api.hubapi.com", &fake);
    let metadata = json!({ "action": "add_to_list", "id": "7" });
    let report = subject.deliver(&metadata, &payload()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(fake.seen().len(), 3, "the first call twice");
    fake.tables().token = "another";
    let report = subject.deliver(&metadata, &payload()).await;
    assert_eq!(
        (report.outcome, report.inactive),
        (Outcome::AuthFailed, Some(InactiveReason::OauthAuthorizationRevoked))
    );
    let known = destinations::find("hubspot")
        .expect("hubspot")
        .told(&json!({ "hub_id": 62515, "access_token": "a" }));
    assert_eq!(Value::from(known), json!({ "hub_id": "62515" }));
}

#[tokio::test]
async fn whoever_is_not_there_is_on_no_list() {
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "remove_from_list", "id": "7" });
    let report = subject.deliver(&metadata, &json!({ "email": "ada+a/b?c@example.com" })).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    let seen = fake.seen();
    let target = "/crm/v3/objects/contacts/ada%2Ba%2Fb%3Fc%40example.com?idProperty=email&properties=email";
    assert_eq!((seen.len(), &seen[0].target[..]), (1, target), "and nobody is made");
    subject.next_delivery();
    let report = subject.deliver(&json!({ "action": "add_to_list", "id": "999" }), &payload()).await;
    assert_eq!(report.outcome, Outcome::RejectedClientError);
    assert!(report.message.contains("List does not exist with ID 999."), "{}", report.message);
    subject.next_delivery();
    fake.fail([Fault::None, Fault::status(200, r#"{"recordsIdsAdded":[],"recordIdsMissing":["151"]}"#)]);
    let report = subject.deliver(&json!({ "action": "add_to_list", "id": "7" }), &payload()).await;
    assert_eq!(report.outcome, Outcome::RejectedServerError, "it comes later: {}", report.message);
}

#[tokio::test]
async fn an_event_that_hubspot_knows_is_told_already() {
    let (subject, fake) = start().await;
    let metadata = json!({ "action": "send_custom_event", "event_name": "pe62515_signup" });
    for _ in 0..2 {
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    }
    assert_eq!((fake.seen().len(), fake.tables().events.len()), (2, 1));
}

#[tokio::test]
async fn what_is_missing_is_said_before_any_call() {
    let (subject, fake) = start().await;
    for (why, metadata, payload) in [
        ("no address", json!({ "action": "upsert_contact" }), json!({ "name": "Ada" })),
        ("no list", json!({ "action": "add_to_list" }), payload()),
        ("a list that is a path", json!({ "action": "add_to_list", "id": "7/../8" }), payload()),
        ("no value", json!({ "action": "update_property", "id": "tier" }), payload()),
        ("no event", json!({ "action": "send_custom_event" }), payload()),
        ("a deal without a name", json!({ "action": "create_deal", "title": "{{none}}" }), payload()),
        (
            "no address to look for",
            json!({ "action": "remove_from_list", "id": "7" }),
            json!({ "email": ".." }),
        ),
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
    let lists = prepared.items("lists", subject.http(), wait).await.expect("lists");
    assert_eq!(
        (lists.len(), &lists[201].name[..]),
        (202, "List 203"),
        "all pages, and lists of contacts alone"
    );
    assert_eq!(fake.seen().len(), 3);
    let properties = prepared.items("properties", subject.http(), wait).await.expect("properties");
    let ids: Vec<_> = properties.iter().map(|item| &item.id[..]).collect();
    assert_eq!(ids, ["tier", "topics", "is_fan"]);
    assert_eq!(
        (&properties[0].options[1].value[..], properties[0].options[1].label.as_deref()),
        ("pro", Some("PRO"))
    );
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    let own: Vec<_> = fields[11..].iter().map(|field| (&field.key[..], field.kind)).collect();
    use CatalogFieldKind::{Boolean, Enum, MultiEnum, Number};
    assert_eq!(own, [("tier", Enum), ("topics", MultiEnum), ("age", Number), ("is_fan", Boolean)]);
    assert_eq!(subject.probe().await, Ok(()));
    let unknown = Subject::new("hubspot", json!({ "access_token": TOKEN })).at("api.hubapi.com", &fake);
    assert_eq!(Value::from(unknown.discover().await.expect("details")), json!({ "hub_id": "62515" }));
    fake.tables().token = "another";
    let refused = subject.probe().await.expect_err("401");
    assert!(refused.contains("INVALID_AUTHENTICATION"), "{refused}");
}

#[tokio::test]
async fn several_values_are_one_text() {
    let (subject, fake) = start().await;
    let subject =
        subject.mapping(&[("email", "email"), ("topics", "topics"), ("age", "age"), ("gone", "nothing")]);
    let payload =
        json!({ "email": "ada@example.com", "topics": ["rust", "tea"], "age": 36.50, "nothing": null });
    let report = subject.deliver(&json!({ "action": "upsert_contact" }), &payload).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    let expected = json!({ "email": "ada@example.com", "topics": "rust;tea", "age": "36.5" });
    assert_eq!(fake.tables().contacts["ada@example.com"].1, expected);
}
