//! Pipedrive.

use crate::{
    fakes::{
        Fake, Fault,
        pipedrive::{AGE, BUDGET, SOURCE, TIER, TOKEN, TOPICS, Tables, routes},
    },
    suite::{self, Case, Consented, IsDone, Subject, payload},
};
use actors::{
    destinations,
    domain::{catalog::CatalogFieldKind, connection::InactiveReason, delivery::Outcome},
};
use serde_json::{Value, json};
use std::time::Duration;

const ADA: &str = "ada@example.com";
const FIELDS: [(&str, &str); 5] = [
    ("email", "email"),
    ("first_name", "first_name"),
    ("last_name", "last_name"),
    (SOURCE, "source"),
    (TIER, "tier"),
];

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("pipedrive", json!({ "api_token": TOKEN })).mapping(&FIELDS);
    (subject.at("api.pipedrive.com", &fake), fake)
}

fn error(status: u16, code: &str, message: &str) -> Fault {
    Fault::status(
        status,
        &json!({ "success": false, "error": message, "code": code, "data": null }).to_string(),
    )
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls,
        is_repeatable: true,
        refused: (
            error(400, "ERR_SCHEMA_VALIDATION_FAILED", "Invalid name"),
            "ERR_SCHEMA_VALIDATION_FAILED: Invalid name",
        ),
        slower: (Fault::status(429, "").with("x-ratelimit-reset", "2"), Duration::from_secs(2)),
        locked: (error(403, "", "Scope and URL mismatch"), InactiveReason::OauthReauthorizationRequired),
    }
}

#[tokio::test]
async fn every_action_does_what_it_says_and_tells_what_goes_wrong() {
    let (mut subject, fake) = start().await;
    fake.tables().put(7, ADA, &[9, 10]);
    fake.tables().put(12, ADA, &[]);
    fake.tables().keeps_labels = false;
    let last = |tables: &Tables, body: Value| tables.patches.last() == Some(&body);
    let cases: [(&str, Value, usize, IsDone<'_, Tables>); 4] = [
        ("sync_person", json!({}), 5, &|tables| {
            let ada = &tables.persons[&7];
            ada["name"] == "Ada Lovelace"
                && ada["custom_fields"] == json!({ SOURCE: "signup", TIER: 191 })
                && ada["emails"][0]["value"] == ADA
        }),
        ("update_person_field", json!({ "id": TIER, "value": "190" }), 5, &|tables| {
            last(tables, json!({ "custom_fields": { TIER: 190 } }))
        }),
        ("add_label_to_person", json!({ "id": "8" }), 3, &|tables| {
            last(tables, json!({ "label_ids": [9, 10, 8] }))
        }),
        ("remove_label_from_person", json!({ "id": "9" }), 3, &|tables| {
            last(tables, json!({ "label_ids": [10] }))
        }),
    ];
    for (action, mut metadata, calls, is_done) in cases {
        metadata["action"] = action.into();
        let name = format!("pipedrive_{action}");
        // Nothing is remembered of the one before.
        subject.next_delivery();
        suite::ask(&name, &mut subject, &fake, &[TOKEN], case(metadata, calls, is_done)).await;
    }
    assert_eq!(fake.tables().persons[&12]["name"], "Old", "of two with one address it is the older one");
    assert_eq!(fake.tables().persons.len(), 2, "nobody was made");
}

#[tokio::test]
async fn a_person_who_is_not_there_is_made() {
    let (mut subject, fake) = start().await;
    fake.tables().finds = false;
    let is_done = |tables: &Tables| {
        let mut all = tables.persons.values();
        all.all(|one| one["name"] == "Ada Lovelace" && one["custom_fields"][TIER] == 191)
            && !tables.persons.is_empty()
    };
    let case = Case { is_repeatable: false, ..case(json!({ "action": "sync_person" }), 4, &is_done) };
    suite::ask("pipedrive_make_person", &mut subject, &fake, &[TOKEN], case).await;
    for (action, id, value, expected) in [
        ("add_label_to_person", "8", "", json!({ "label_ids": [8] })),
        (
            "update_person_field",
            TOPICS,
            "2",
            json!({ "custom_fields": { SOURCE: "signup", TIER: 191, TOPICS: [2] } }),
        ),
        ("update_person_field", "visible_to", "3", json!({ "visible_to": 3 })),
    ] {
        subject.next_delivery();
        fake.tables().persons.clear();
        let report =
            subject.deliver(&json!({ "action": action, "id": id, "value": value }), &payload()).await;
        assert_eq!(report.outcome, Outcome::Delivered, "{action}: {}", report.message);
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(&fake.tables().persons[&100][key], value, "{action}");
        }
    }
    subject.next_delivery();
    let removed =
        subject.deliver(&json!({ "action": "remove_label_from_person", "id": "8" }), &payload()).await;
    assert_eq!(removed.outcome, Outcome::Delivered, "nobody has the label: {}", removed.message);
    let subject = subject.mapping(&[("email", "email")]);
    fake.tables().persons.clear();
    subject.deliver(&json!({ "action": "sync_person" }), &payload()).await;
    assert_eq!(
        fake.tables().persons[&100]["name"],
        "ada",
        "without a name it is called as its address begins"
    );
}

#[tokio::test]
async fn deliveries_of_one_person_take_turns_and_remember() {
    let (mut subject, fake) = start().await;
    let sync = json!({ "action": "sync_person" });
    let again = subject.another();
    let (one, other) = (payload(), payload());
    let (first, second) = tokio::join!(subject.deliver(&sync, &one), again.deliver(&sync, &other));
    assert_eq!((first.outcome, second.outcome), (Outcome::Delivered, Outcome::Delivered));
    assert_eq!(fake.tables().persons.len(), 1, "who searched at once made nobody twice");
    fake.tables().finds = false;
    fake.seen();
    subject.another_delivery();
    subject.deliver(&sync, &payload()).await;
    let lines = |fake: &Fake<Tables>| {
        fake.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(&fake),
        ["GET /api/v2/persons/100", "PATCH /api/v2/persons/100"],
        "no search, no fields"
    );
    fake.tables().persons.get_mut(&100).expect("Ada")["is_deleted"] = true.into();
    subject.another_delivery();
    subject.deliver(&sync, &payload()).await;
    assert_eq!(fake.tables().persons.len(), 2, "who was deleted is searched and made again");
    // The person an attempt made is found by the next, although nothing else remembers it.
    subject.next_delivery();
    let notes = r#"{"person":"101"}"#;
    fake.seen();
    let report = subject
        .deliver_after(&json!({ "action": "add_label_to_person", "id": "8" }), &payload(), Some(notes))
        .await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(lines(&fake), ["GET /api/v2/persons/101", "PATCH /api/v2/persons/101"]);
}

#[tokio::test]
async fn lists_are_added_to_and_labels_taken_off_to_the_last() {
    let (mut subject, fake) = start().await;
    fake.tables().put(7, ADA, &[8]);
    let (on, off) = (
        json!({ "action": "add_label_to_person", "id": "8" }),
        json!({ "action": "remove_label_from_person", "id": "8" }),
    );
    fake.seen();
    subject.deliver(&on, &payload()).await;
    assert!(fake.tables().patches.is_empty(), "it is on already");
    for wants_null in [false, true] {
        subject.next_delivery();
        fake.tables().put(7, ADA, &[8]);
        fake.tables().wants_null = wants_null;
        let report = subject.deliver(&off, &payload()).await;
        assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
        let expected = if wants_null { Value::Null } else { json!([]) };
        assert_eq!(fake.tables().persons[&7]["label_ids"], expected);
    }
    subject.next_delivery();
    let full: Vec<u64> = (100..200).collect();
    fake.tables().put(7, ADA, &full);
    let report = subject.deliver(&on, &payload()).await;
    assert_eq!(report.outcome, Outcome::RejectedClientError);
    assert!(report.message.contains("100 labels"), "{}", report.message);
    let mut subject = subject.mapping(&[("email", "email"), ("phone", "phone")]);
    subject.next_delivery();
    let phoned = json!({ "email": ADA, "phone": "+2" });
    subject.deliver(&json!({ "action": "sync_person" }), &phoned).await;
    let phones = json!([{ "value": "+1", "primary": true, "label": "home" }, { "value": "+2", "primary": false, "label": "work" }]);
    assert_eq!(fake.tables().patches.last(), Some(&json!({ "phones": phones })), "what is there stays");
    let patches = fake.tables().patches.len();
    subject.next_delivery();
    subject.deliver(&json!({ "action": "sync_person" }), &phoned).await;
    assert_eq!(fake.tables().patches.len(), patches, "there is nothing to change");
}

#[tokio::test]
async fn values_are_what_the_field_holds_or_nothing_is_called_but_the_fields() {
    let (subject, fake) = start().await;
    let mut subject = subject.mapping(&[
        ("email", "email"),
        (TIER, "tier"),
        (TOPICS, "topics"),
        (AGE, "age"),
        (BUDGET, "budget"),
        ("owner_id", "owner"),
    ]);
    fake.tables().put(7, ADA, &[]);
    let sync = json!({ "action": "sync_person" });
    let money = json!({ "value": 500, "currency": "USD" });
    let good = json!({ "email": ADA, "tier": "pro", "topics": ["rust", 2], "age": "36.5", "budget": money, "owner": "5" });
    let report = subject.deliver(&sync, &good).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    let custom = json!({ TIER: 191, TOPICS: [1, 2], AGE: 36.5, BUDGET: money });
    assert_eq!(fake.tables().patches.last(), Some(&json!({ "custom_fields": custom, "owner_id": 5 })));
    for (why, field, value) in [
        ("no option", "tier", json!("gold")),
        ("no option among several", "topics", json!("rust, coffee")),
        ("no number", "age", json!("old")),
        ("money without a currency", "budget", json!(500)),
        ("no whole number", "owner", json!("me")),
    ] {
        subject.next_delivery();
        fake.seen();
        let mut payload = good.clone();
        payload[field] = value;
        let report = subject.deliver(&sync, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
        assert!(fake.seen().iter().all(|seen| seen.target.starts_with("/api/v2/personFields")), "{why}");
    }
}

#[tokio::test]
async fn answers_mean_what_pipedrive_means_by_them() {
    use Outcome::*;
    let (mut subject, fake) = start().await;
    fake.tables().put(7, ADA, &[]);
    let metadata = json!({ "action": "add_label_to_person", "id": "8" });
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (why, fault, outcome, wait) in [
        (
            "success is false",
            Fault::status(200, r#"{"success":false,"error":"no"}"#),
            RejectedClientError,
            None,
        ),
        (
            "the day is used up",
            Fault::status(429, "{}")
                .with("x-daily-ratelimit-token-remaining", "0")
                .with("x-ratelimit-reset", "2"),
            RateLimited,
            seconds(900),
        ),
        (
            "Retry-After comes first",
            Fault::status(429, "{}").with("retry-after", "5").with("x-ratelimit-reset", "2"),
            RateLimited,
            seconds(5),
        ),
        ("no hint", Fault::status(429, ""), RateLimited, seconds(2)),
        ("blocked in front of it", Fault::status(403, "<html>Cloudflare</html>"), RateLimited, seconds(900)),
        (
            "a limit of the plan",
            error(403, "feature_capping_custom_fields", "limit"),
            RejectedClientError,
            None,
        ),
        ("no right to this one", error(403, "ERR_FORBIDDEN", "no permission"), RejectedClientError, None),
        ("unpaid", error(402, "", "trial is over"), AuthFailed, None),
        ("the token has ended", error(401, "", "unauthorized access"), AuthFailed, None),
        ("not there", Fault::status(501, "{}"), RejectedClientError, None),
        ("unwell", error(500, "ERR_UNKNOWN", "Internal Server Error"), RejectedServerError, None),
        (
            "gone between search and reading",
            error(404, "ERR_NOT_FOUND", "Person not found"),
            RejectedClientError,
            None,
        ),
    ] {
        subject.next_delivery();
        // What passes is asked once more at once.
        fake.fail([Fault::None, fault.clone(), fault]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!((report.outcome, report.retry_after), (outcome, wait), "{why}: {}", report.message);
        fake.forget_faults();
    }
}

#[tokio::test]
async fn a_token_that_ended_is_renewed_and_the_address_is_kept() {
    let fake = Fake::start(routes).await;
    fake.tables().put(7, ADA, &[]);
    let settings = json!({ "api_domain": "https://acme.pipedrive.com/", "company_id": "54235233" });
    let tokens = Consented::of(&["ended", TOKEN]);
    let subject = Subject::new("pipedrive", settings).tokens(&tokens).mapping(&FIELDS);
    let subject = subject.at("acme.pipedrive.com", &fake);
    let report = subject.deliver(&json!({ "action": "add_label_to_person", "id": "8" }), &payload()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(fake.seen().len(), 4, "the first call twice");
    let found = subject.discover().await.expect("who is asking");
    assert_eq!(Value::from(found), json!({ "company_id": "54235233", "user_id": "1" }));
    let pipedrive = destinations::find("pipedrive").expect("pipedrive");
    let told = pipedrive.told(&json!({ "access_token": "a", "api_domain": "https://new.pipedrive.com" }));
    assert_eq!(Value::from(told), json!({ "api_domain": "https://new.pipedrive.com" }));
}

#[tokio::test]
async fn what_is_missing_is_said_before_any_call() {
    let (subject, fake) = start().await;
    for (why, metadata, payload) in [
        ("no address", json!({ "action": "sync_person" }), json!({ "name": "Ada" })),
        ("no field", json!({ "action": "update_person_field", "value": "1" }), payload()),
        ("no value", json!({ "action": "update_person_field", "id": TIER }), payload()),
        ("no label", json!({ "action": "add_label_to_person" }), payload()),
        (
            "a label that is no number",
            json!({ "action": "remove_label_from_person", "id": "hot" }),
            payload(),
        ),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
    let unknown = subject
        .deliver(&json!({ "action": "update_person_field", "id": "gone", "value": "1" }), &payload())
        .await;
    assert_eq!(unknown.outcome, Outcome::MappingError, "{}", unknown.message);
}

#[tokio::test]
async fn the_company_tells_what_is_in_it() {
    let (subject, fake) = start().await;
    let (prepared, wait) = (subject.prepared(), Duration::from_secs(5));
    let labels = prepared.items("labels", subject.http(), wait).await.expect("labels");
    let named: Vec<_> = labels.iter().map(|item| (&item.id[..], &item.name[..])).collect();
    assert_eq!(named, [("8", "Hot"), ("9", "Cold")]);
    let properties = prepared.items("properties", subject.http(), wait).await.expect("properties");
    let ids: Vec<_> = properties.iter().map(|item| &item.id[..]).collect();
    assert_eq!(ids, [TIER, TOPICS]);
    assert_eq!(properties[0].options[1].value, "191");
    assert_eq!(fake.seen().len(), 4, "all pages");
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    let own: Vec<_> = fields[9..].iter().map(|field| (&field.key[..], field.kind)).collect();
    use CatalogFieldKind::{Enum, MultiEnum, Number, Object, String};
    assert_eq!(own, [(SOURCE, String), (TIER, Enum), (TOPICS, MultiEnum), (AGE, Number), (BUDGET, Object)]);
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().token = "another";
    let refused = subject.probe().await.expect_err("401");
    assert!(refused.contains("unauthorized access"), "{refused}");
}
