//! Resend.

use crate::{
    fakes::{
        Fake, Fault,
        resend::{KEY, Tables, routes},
    },
    suite::{self, Case, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("resend", json!({ "api_key": KEY, "default_from": "Acme <hi@acme.com>" }));
    let subject = subject.at("api.resend.com", &fake).mapping(&[
        ("email", "email"),
        ("first_name", "first_name"),
        ("last_name", "last_name"),
        ("properties.tier", "tier"),
    ]);
    (subject, fake)
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    let error = |status: u16, name: &str, message: &str| {
        Fault::status(status, &json!({ "statusCode": status, "name": name, "message": message }).to_string())
    };
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls,
        is_repeatable: true,
        refused: (
            error(403, "validation_error", "The acme.com domain is not verified."),
            "validation_error: The acme.com domain is not verified.",
        ),
        slower: (
            error(429, "rate_limit_exceeded", "Too many requests.").with("retry-after", "2"),
            Duration::from_secs(2),
        ),
        locked: (
            error(401, "restricted_api_key", "This API key is restricted to only send emails"),
            InactiveReason::AuthenticationInvalid,
        ),
    }
}

#[tokio::test]
async fn contacts_go_into_segments_and_out() {
    let is_there = |tables: &Tables| {
        tables.contacts.get("ada@example.com").is_some_and(|contact| {
            contact["first_name"] == "Ada"
                && contact["properties"] == json!({ "tier": "pro" })
                && contact.get("unsubscribed").is_none()
        })
    };
    let (mut subject, fake) = start().await;
    subject.deliver(&json!({ "action": "upsert_contact" }), &payload()).await;
    assert!(is_there(&fake.tables()));
    assert_eq!(fake.seen().len(), 2, "nobody is there: it is made");
    subject.next_delivery();
    let upsert = json!({ "action": "upsert_contact" });
    suite::ask("resend_upsert_contact", &mut subject, &fake, &[KEY], case(upsert, 1, &is_there)).await;
    let add = json!({ "action": "add_to_segment", "id": "s1" });
    let inside = |tables: &Tables| is_there(tables) && tables.members.len() == 1;
    suite::ask("resend_add_to_segment", &mut subject, &fake, &[KEY], case(add, 2, &inside)).await;
    let remove = json!({ "action": "remove_from_segment", "id": "s1" });
    let outside = |tables: &Tables| is_there(tables) && tables.members.is_empty();
    suite::ask("resend_remove_from_segment", &mut subject, &fake, &[KEY], case(remove, 2, &outside)).await;
}

#[tokio::test]
async fn mail_is_sent_once_however_often_it_is_tried() {
    let by_template = |tables: &Tables| {
        tables.mails.values().all(|mail| {
            mail["template"] == json!({ "id": "t1", "variables": payload() })
                && mail["tags"] == json!([{ "name": "event", "value": "contact_created" }])
                && mail["from"] == "Acme <hi@acme.com>"
        })
    };
    let (mut subject, fake) = start().await;
    let template = json!({ "action": "send_email_template", "id": "t1", "subject": "Hi {{first_name}}" });
    suite::ask("resend_send_email_template", &mut subject, &fake, &[KEY], case(template, 1, &by_template))
        .await;

    let by_text = |tables: &Tables| {
        tables
            .mails
            .values()
            .all(|mail| mail["subject"] == "Hi Ada" && mail["html"] == "<b>pro &amp; more</b>")
    };
    let (mut subject, fake) = start().await;
    let text = json!({ "action": "send_email", "subject": "Hi {{first_name}}", "body": "<b>{{tier}} &amp; more</b>" });
    suite::ask("resend_send_email", &mut subject, &fake, &[KEY], case(text.clone(), 1, &by_text)).await;

    let (mut subject, fake) = start().await;
    subject.timeout = Duration::from_millis(600);
    fake.fail([Fault::Lost]);
    assert_eq!(subject.deliver(&text, &payload()).await.outcome, Outcome::Timeout);
    subject.timeout = Duration::from_secs(5);
    assert_eq!(subject.deliver(&text, &payload()).await.outcome, Outcome::Delivered);
    assert_eq!(fake.tables().mails.len(), 1);
}

#[tokio::test]
async fn the_name_says_what_a_status_does_not() {
    use Outcome::*;
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "send_email", "subject": "Hi", "body": "Hi" });
    for (status, name, outcome, wait_s) in [
        (403, "invalid_api_key", AuthFailed, None),
        (409, "invalid_idempotent_request", RejectedClientError, None),
        (409, "concurrent_idempotent_requests", RejectedServerError, None),
        (429, "daily_quota_exceeded", RateLimited, Some(3_600)),
        (451, "security_error", RejectedClientError, None),
        (500, "application_error", RejectedServerError, None),
    ] {
        subject.next_delivery();
        let body = json!({ "statusCode": status, "name": name, "message": "As it is." });
        fake.fail([Fault::status(status, &body.to_string())]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!(
            (report.outcome, report.retry_after),
            (outcome, wait_s.map(Duration::from_secs)),
            "{name}"
        );
        assert!(report.message.contains(name), "{}", report.message);
    }
}

#[tokio::test]
async fn what_is_missing_is_said_before_any_call() {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("resend", json!({ "api_key": KEY })).at("api.resend.com", &fake);
    for (why, metadata, payload) in [
        ("no address", json!({ "action": "upsert_contact" }), json!({ "name": "Ada" })),
        ("no segment", json!({ "action": "add_to_segment" }), payload()),
        ("no sender", json!({ "action": "send_email", "subject": "Hi", "body": "Hi" }), payload()),
        (
            "no subject",
            json!({ "action": "send_email", "subject": "{{gone}}", "body": "Hi", "from": "hi@acme.com" }),
            payload(),
        ),
        ("no template", json!({ "action": "send_email_template" }), payload()),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_team_tells_what_is_in_it() {
    let (subject, fake) = start().await;
    let (prepared, wait) = (subject.prepared(), Duration::from_secs(5));
    let segments = prepared.items("segments", subject.http(), wait).await.expect("segments");
    assert_eq!(
        segments.iter().map(|segment| &segment.id[..]).collect::<Vec<_>>(),
        ["s1", "s2"],
        "both pages"
    );
    let templates = prepared.items("templates", subject.http(), wait).await.expect("templates");
    assert_eq!(
        templates.iter().map(|template| &template.id[..]).collect::<Vec<_>>(),
        ["t1"],
        "published ones"
    );
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    assert_eq!(&fields.last().expect("fields").key, "properties.seats");
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().is_for_sending = true;
    assert_eq!(subject.probe().await, Ok(()), "a key that may only send is good");
    assert_eq!(prepared.fields(subject.http(), wait).await.map(|fields| fields.len()), Ok(4));
    fake.tables().key = "another";
    assert!(subject.probe().await.expect_err("403").contains("API key is invalid"));
}
