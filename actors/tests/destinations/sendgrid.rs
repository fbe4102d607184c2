//! SendGrid.

use crate::{
    fakes::{
        Fake, Fault,
        sendgrid::{KEY, Tables, routes},
    },
    suite::{self, Case, NOW, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("sendgrid", json!({ "api_key": KEY, "default_from": "hi@acme.com" }));
    let subject = subject.at("api.sendgrid.com", &fake).mapping(&[
        ("email", "email"),
        ("first_name", "first_name"),
        ("last_name", "last_name"),
        ("e1_T", "source"),
    ]);
    (subject, fake)
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_repeatable: bool,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    let error = |message: &str| {
        json!({ "errors": [{ "field": null, "message": message, "help": null }] }).to_string()
    };
    let reset = (NOW.0 / 1_000 + 9).to_string();
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls,
        is_repeatable,
        refused: (Fault::status(400, &error("email 'ada' is not valid")), "email 'ada' is not valid"),
        slower: (
            Fault::status(429, &error("too many requests")).with("x-ratelimit-reset", reset),
            Duration::from_secs(9),
        ),
        locked: (Fault::status(403, &error("access forbidden")), InactiveReason::AuthenticationInvalid),
    }
}

#[tokio::test]
async fn mail_is_sent_with_a_template_or_a_text() {
    let template =
        json!({ "action": "send_email_template", "id": "d-1", "from": "Acme, Inc. <hi@acme.com>" });
    let by_template = |tables: &Tables| {
        tables.mails.iter().all(|mail| {
            let person = &mail["personalizations"][0];
            mail["template_id"] == "d-1"
                && mail["from"] == json!({ "email": "hi@acme.com", "name": "Acme, Inc." })
                && person["dynamic_template_data"]["tier"] == "pro"
                && person["to"][0] == json!({ "email": "ada@example.com", "name": "Ada Lovelace" })
                && person["custom_args"]["delivery_id"].is_string()
        })
    };
    let (mut subject, fake) = start().await;
    let asked = case(template, 1, false, &by_template);
    suite::ask("sendgrid_send_email_template", &mut subject, &fake, &[KEY], asked).await;

    let text = json!({ "action": "send_email", "subject": "Hi {{first_name}}", "body": "<b>{{tier}}</b>" });
    let by_text = |tables: &Tables| {
        tables.mails.iter().all(|mail| {
            mail["subject"] == "Hi Ada"
                && mail["content"] == json!([{ "type": "text/html", "value": "<b>pro</b>" }])
        })
    };
    let (mut subject, fake) = start().await;
    suite::ask("sendgrid_send_email", &mut subject, &fake, &[KEY], case(text, 1, false, &by_text)).await;
}

#[tokio::test]
async fn contacts_are_made_and_put_on_lists_and_off() {
    let is_there = |tables: &Tables| {
        tables.contacts.get("ada@example.com").is_some_and(|contact| {
            contact["first_name"] == "Ada" && contact["custom_fields"] == json!({ "e1_T": "signup" })
        })
    };
    let (mut subject, fake) = start().await;
    let upsert = json!({ "action": "upsert_contact" });
    suite::ask("sendgrid_upsert_contact", &mut subject, &fake, &[KEY], case(upsert, 1, true, &is_there))
        .await;
    let add = json!({ "action": "add_to_list", "id": "l1" });
    let on_list = |tables: &Tables| is_there(tables) && tables.members.len() == 1;
    suite::ask("sendgrid_add_to_list", &mut subject, &fake, &[KEY], case(add, 1, true, &on_list)).await;
    let remove = json!({ "action": "remove_from_list", "id": "l1" });
    let off_list = |tables: &Tables| tables.members.is_empty();
    suite::ask("sendgrid_remove_from_list", &mut subject, &fake, &[KEY], case(remove, 2, true, &off_list))
        .await;
}

#[tokio::test]
async fn who_is_not_there_is_on_no_list() {
    let (subject, fake) = start().await;
    let report = subject.deliver(&json!({ "action": "remove_from_list", "id": "l1" }), &payload()).await;
    assert_eq!((report.outcome, fake.seen().len()), (Outcome::Delivered, 1), "{}", report.message);
}

#[tokio::test]
async fn what_is_filled_in_is_escaped_and_a_sender_must_be_one() {
    let (mut subject, fake) = start().await;
    let hostile = json!({ "email": "ada@example.com", "first_name": "<script>&\r\nBcc: x" });
    let metadata =
        json!({ "action": "send_email", "subject": "Hi {{first_name}}", "body": "<p>{{first_name}}</p>" });
    assert_eq!(subject.deliver(&metadata, &hostile).await.outcome, Outcome::Delivered);
    {
        let tables = fake.tables();
        assert_eq!(tables.mails[0]["subject"], "Hi <script>&  Bcc: x");
        assert_eq!(tables.mails[0]["content"][0]["value"], "<p>&lt;script&gt;&amp;\r\nBcc: x</p>");
    }
    fake.seen();
    for (why, metadata, payload) in [
        ("no address", metadata.clone(), json!({ "first_name": "Ada" })),
        (
            "no sender",
            json!({ "action": "send_email", "subject": "Hi", "body": "Hi", "from": "Acme" }),
            payload(),
        ),
        ("no subject", json!({ "action": "send_email", "subject": "{{gone}}", "body": "Hi" }), payload()),
        ("no template", json!({ "action": "send_email_template" }), payload()),
        ("no list", json!({ "action": "add_to_list" }), payload()),
    ] {
        subject.next_delivery();
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
    let stranger =
        json!({ "action": "send_email", "subject": "Hi", "body": "Hi", "from": "stranger@example.com" });
    let report = subject.deliver(&stranger, &payload()).await;
    assert_eq!((report.outcome, report.inactive), (Outcome::RejectedClientError, None), "{}", report.message);
}

#[tokio::test]
async fn the_account_tells_what_is_in_it() {
    let (subject, fake) = start().await;
    let (prepared, wait) = (subject.prepared(), Duration::from_secs(5));
    let lists = prepared.items("lists", subject.http(), wait).await.expect("lists");
    assert_eq!(lists.iter().map(|list| &list.id[..]).collect::<Vec<_>>(), ["l1", "l2"], "both pages");
    let templates = prepared.items("templates", subject.http(), wait).await.expect("templates");
    assert_eq!(&templates[0].name[..], "Welcome");
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    assert_eq!(fields.iter().rev().take(2).map(|field| &field.key[..]).collect::<Vec<_>>(), ["e2_N", "e1_T"]);
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().key = "another";
    assert!(subject.probe().await.expect_err("401").contains("authorization required"));
}
