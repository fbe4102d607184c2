//! ActiveCampaign.

use crate::{
    fakes::{
        Fake, Fault,
        activecampaign::{KEY, Tables, routes},
    },
    suite::{self, Case, IsDone, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject =
        Subject::new("activecampaign", json!({ "api_url": fake.url(), "api_key": KEY })).mapping(&[
            ("email", "email"),
            ("firstName", "first_name"),
            ("lastName", "last_name"),
            ("1", "source"),
            ("6", "tier"),
        ]);
    (subject, fake)
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    let title = json!({ "errors": [{ "title": "The list does not exist.", "code": "list_missing" }] });
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls,
        is_repeatable: true,
        refused: (Fault::status(422, &title.to_string()), "list_missing: The list does not exist."),
        slower: (Fault::status(429, "{}").with("retry-after", "3"), Duration::from_secs(3)),
        locked: (
            Fault::status(403, r#"{"message":"You do not have permission to access this resource"}"#),
            InactiveReason::AuthenticationInvalid,
        ),
    }
}

#[tokio::test]
async fn every_action_does_what_it_says_and_tells_what_goes_wrong() {
    let (mut subject, fake) = start().await;
    let has_contact = |tables: &Tables| {
        let fields = tables.contacts.get("ada@example.com").map(|contact| &contact.fields);
        fields.is_some_and(|fields| {
            fields["firstName"] == "Ada"
                && fields["fieldValues"][1] == json!({ "field": "6", "value": "pro" })
        })
    };
    let subscribed =
        |tables: &Tables, status: &str| tables.subscriptions.values().collect::<Vec<_>>() == [status];
    let cases: [(&str, usize, IsDone<'_, Tables>); 5] = [
        ("sync_contact", 1, &has_contact),
        ("add_to_list", 2, &|tables| has_contact(tables) && subscribed(tables, "1")),
        ("remove_from_list", 2, &|tables| subscribed(tables, "2")),
        ("add_tag", 2, &|tables| tables.tagged.len() == 1),
        ("remove_tag", 2, &|tables| tables.tagged.is_empty()),
    ];
    for (action, calls, is_done) in cases {
        if action == "remove_tag" {
            continue; // of what is tagged once only: below
        }
        let metadata = json!({ "action": action, "id": "20" });
        let name = format!("activecampaign_{action}");
        suite::ask(&name, &mut subject, &fake, &[KEY], case(metadata, calls, is_done)).await;
    }
}

#[tokio::test]
async fn a_tag_is_taken_off_and_whoever_is_not_there_has_none() {
    let (mut subject, fake) = start().await;
    let (add, remove) =
        (json!({ "action": "add_tag", "id": "20" }), json!({ "action": "remove_tag", "id": "20" }));
    for action in ["remove_tag", "remove_from_list"] {
        let report = subject.deliver(&json!({ "action": action, "id": "20" }), &payload()).await;
        assert_eq!(report.outcome, Outcome::Delivered, "nobody is there: {}", report.message);
        assert_eq!(fake.seen().len(), 1, "and nobody is made");
    }
    subject.deliver(&add, &payload()).await;
    subject.next_delivery();
    fake.seen();
    assert_eq!(subject.deliver(&remove, &payload()).await.outcome, Outcome::Delivered);
    assert!(fake.tables().tagged.is_empty());
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("activecampaign_remove_tag", fake.shown());
    });
    assert_eq!(subject.deliver(&remove, &payload()).await.outcome, Outcome::Delivered, "it is off already");
}

#[tokio::test]
async fn what_is_missing_is_said_before_any_call() {
    let (subject, fake) = start().await;
    for (why, metadata, payload) in [
        ("no address", json!({ "action": "sync_contact" }), json!({ "name": "Ada" })),
        ("no list", json!({ "action": "add_to_list" }), payload()),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_account_tells_what_is_in_it() {
    let (subject, fake) = start().await;
    let prepared = subject.prepared();
    let wait = Duration::from_secs(5);
    let lists = prepared.items("lists", subject.http(), wait).await.expect("lists");
    assert_eq!((lists.len(), &lists[102].name[..]), (103, "List 103"), "all pages");
    assert_eq!(fake.seen().len(), 2);
    let tags = prepared.items("tags", subject.http(), wait).await.expect("tags");
    assert_eq!((&tags[0].id[..], &tags[0].name[..]), ("20", "pro"));
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    let keys: Vec<_> = fields.iter().map(|field| &field.key[..]).collect();
    assert_eq!(keys, ["email", "firstName", "lastName", "phone", "1", "6"]);
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().key = "another";
    let refused = subject.probe().await.expect_err("403");
    assert!(refused.contains("You do not have permission"), "{refused}");
}
