//! Intercom.

use crate::{
    fakes::{
        Fake, Fault,
        intercom::{TAG, TOKEN, Tables, error, routes},
    },
    suite::{self, Case, Consented, NOW, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

const HOSTS: [&str; 3] = ["api.intercom.io", "api.eu.intercom.io", "api.au.intercom.io"];
const FIELDS: [(&str, &str); 3] =
    [("email", "email"), ("source", "source"), ("custom_attributes.tier", "tier")];

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let settings = json!({ "access_token": TOKEN, "app_id": "abcd1234", "admin_id": "814860" });
    (Subject::new("intercom", settings).at(HOSTS[0], &fake).mapping(&FIELDS), fake)
}

/// The same, with our own id mapped too.
async fn start_with_ids() -> (Subject, Fake<Tables>) {
    let (subject, fake) = start().await;
    (subject.mapping(&[("email", "email"), ("external_id", "id"), ("tier", "tier")]), fake)
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_repeatable: bool,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    let fault = |status, code: &str, message: &str| Fault::status(status, &error(code, message).to_string());
    let reset = (NOW.0 / 1_000 + 9).to_string();
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls,
        is_repeatable,
        refused: (fault(422, "data_invalid", "event_name is invalid"), "data_invalid: event_name is invalid"),
        slower: (
            fault(429, "rate_limit_exceeded", "Exceeded rate limit of 1666 in 10_seconds")
                .with("x-ratelimit-reset", reset),
            Duration::from_secs(9),
        ),
        locked: (fault(401, "token_revoked", "Token revoked"), InactiveReason::OauthAuthorizationRevoked),
    }
}

fn is_there(tables: &Tables) -> bool {
    let contacts: Vec<_> = tables.contacts.values().collect();
    matches!(&contacts[..], [contact]
        if contact["email"] == "ada@example.com"
            && contact["role"] == "user"
            && contact["name"] == "Ada Lovelace"
            && contact["custom_attributes"] == json!({ "source": "signup", "tier": "pro" }))
}

#[tokio::test]
async fn contacts_are_made_and_tagged_and_what_goes_wrong_is_told() {
    let (mut subject, fake) = start().await;
    let asked = case(json!({ "action": "upsert_contact" }), 2, true, &is_there);
    suite::ask("intercom_upsert_contact", &mut subject, &fake, &[TOKEN], asked).await;

    let (mut subject, fake) = start().await;
    let tagged = |tables: &Tables| is_there(tables) && tables.tagged.len() == 1;
    let asked = case(json!({ "action": "add_tag", "id": TAG }), 3, true, &tagged);
    suite::ask("intercom_add_tag", &mut subject, &fake, &[TOKEN], asked).await;

    let untagged = |tables: &Tables| tables.tagged.is_empty();
    let asked = case(json!({ "action": "remove_tag", "id": TAG }), 2, true, &untagged);
    suite::ask("intercom_remove_tag", &mut subject, &fake, &[TOKEN], asked).await;
}

#[tokio::test]
async fn events_notes_and_companies_are_told() {
    let (mut subject, fake) = start().await;
    fake.tables().add(json!({ "role": "user", "email": "ada@example.com" }));
    let once = |tables: &Tables| {
        let events: Vec<_> = tables.events.iter().collect();
        matches!(&events[..], [((_, name, at), event)]
            if name == "contact-created"
                && *at == NOW.0 / 1_000
                && event["metadata"] == json!({ "source": "signup", "tier": "pro" }))
    };
    let asked = case(json!({ "action": "track_event" }), 1, true, &once);
    suite::ask("intercom_track_event", &mut subject, &fake, &[TOKEN], asked).await;

    let noted = |tables: &Tables| {
        let is_right =
            |(_, note): &(String, Value)| note["body"] == "By <b>signup</b>" && note["admin_id"] == "814860";
        tables.notes.iter().all(is_right) && !tables.notes.is_empty()
    };
    let metadata = json!({ "action": "add_note", "template": "By <b>{{source}}</b>" });
    let asked = case(metadata, 3, false, &noted);
    suite::ask("intercom_add_note", &mut subject, &fake, &[TOKEN], asked).await;

    let employed = |tables: &Tables| {
        let acme = json!({ "company_id": "acme", "name": "Acme signup", "plan": "pro" });
        tables.companies.get("acme") == Some(&acme) && tables.employed.len() == 1
    };
    let metadata = json!({ "action": "upsert_company", "company_id": "acme", "company_name": "Acme {{source}}", "plan": "{{tier}}" });
    let asked = case(metadata, 4, true, &employed);
    suite::ask("intercom_upsert_company", &mut subject, &fake, &[TOKEN], asked).await;
}

#[tokio::test]
async fn a_search_that_lags_behind_makes_nobody_twice() {
    let (mut subject, fake) = start().await;
    fake.tables().search_lags = true;
    let metadata = json!({ "action": "add_tag", "id": TAG });
    // Made, and then the service is gone: the next attempt knows whom it made.
    fake.fail([Fault::None, Fault::None, Fault::status(503, "").with("retry-after", "7")]);
    let report = subject.deliver(&metadata, &payload()).await;
    assert_eq!(report.outcome, Outcome::RejectedServerError);
    fake.seen();
    let report = subject.deliver_after(&metadata, &payload(), report.notes.as_deref()).await;
    assert_eq!((report.outcome, fake.seen().len()), (Outcome::Delivered, 1), "{}", report.message);

    // Another delivery does not, and is told by the 409.
    subject.next_delivery();
    let report = subject.deliver(&metadata, &payload()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    let lines: Vec<_> =
        fake.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let id = fake.tables().contacts.keys().next().cloned().expect("one");
    let expected = [
        "POST /contacts/search".to_owned(),
        "POST /contacts".to_owned(),
        format!("PUT /contacts/{id}"),
        format!("POST /contacts/{id}/tags"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(fake.tables().contacts.len(), 1);

    // One that names nobody: later the search has it.
    subject.next_delivery();
    fake.fail([Fault::None, Fault::status(409, &error("conflict", "It exists already").to_string())]);
    let report = subject.deliver(&metadata, &payload()).await;
    assert_eq!(report.outcome, Outcome::RejectedServerError, "{}", report.message);
}

#[tokio::test]
async fn of_several_the_newest_user_is_meant_and_nobody_with_another_id() {
    let (mut subject, fake) = start().await;
    let (older, newer) = {
        let mut tables = fake.tables();
        let older = tables.add(json!({ "role": "user", "email": "ada@example.com" }));
        let newer = tables.add(json!({ "role": "user", "email": "ada@example.com", "external_id": "usr_9" }));
        tables.add(json!({ "role": "lead", "email": "ada@example.com" }));
        (older, newer)
    };
    let metadata = json!({ "action": "add_tag", "id": TAG });
    assert_eq!(subject.deliver(&metadata, &payload()).await.outcome, Outcome::Delivered);
    assert_eq!(fake.tables().tagged.iter().next().map(|(who, _)| who), Some(&newer));

    subject.next_delivery();
    let subject = subject.mapping(&[("email", "email"), ("external_id", "id")]);
    fake.tables().tagged.clear();
    fake.seen();
    let report = subject.deliver(&metadata, &payload()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(fake.seen()[0].target, "/contacts/find_by_external_id/usr_123");
    assert_eq!(
        fake.tables().tagged.iter().next().map(|(who, _)| who),
        Some(&older),
        "usr_9 is somebody else"
    );
    assert_eq!(fake.tables().contacts[&older]["external_id"], "usr_123");
    assert_eq!(fake.tables().contacts[&newer]["external_id"], "usr_9");
}

#[tokio::test]
async fn our_own_id_is_enough() {
    let (mut subject, fake) = start_with_ids().await;
    let nobody_known = json!({ "id": "a b/../ü" });
    let metadata = json!({ "action": "add_tag", "id": TAG });
    let report = subject.deliver(&metadata, &nobody_known).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    let targets: Vec<_> = fake.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets[..2], ["/contacts/find_by_external_id/a%20b%2F..%2F%C3%BC", "/contacts"], "no search");
    subject.next_delivery();
    assert_eq!(subject.deliver(&metadata, &nobody_known).await.outcome, Outcome::Delivered);
    assert_eq!((fake.tables().contacts.len(), fake.seen().len()), (1, 3), "found, changed, tagged");
    subject.next_delivery();
    assert_eq!(subject.deliver(&metadata, &json!({ "id": ".." })).await.outcome, Outcome::Delivered);
    assert_eq!(fake.tables().contacts.len(), 2);
}

#[tokio::test]
async fn an_event_of_somebody_new_makes_them_first() {
    let (mut subject, fake) = start_with_ids().await;
    let lead = fake.tables().add(json!({ "role": "lead", "email": "ada@example.com" }));
    let metadata = json!({ "action": "track_event", "event_name_override": "plan.changed" });
    let many = json!({
        "email": "ada@example.com", "id": "usr_123", "nested": { "a": 1 }, "list": [1], "none": null, "a.b": 1, "a_date": "2026-02-01T00:00:00Z",
        "bad_date": "soon", "b_date": 1769904000, "k1": 1, "k2": true, "k3": "x", "k4": "x", "k5": "x", "k6": "x", "k7": "x", "k8": "x", "k9": "x",
    });
    let report = subject.deliver(&metadata, &many).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    let lines: Vec<_> =
        fake.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let expected = [
        "POST /events".to_owned(),
        "GET /contacts/find_by_external_id/usr_123".to_owned(),
        "POST /contacts/search".to_owned(),
        format!("PUT /contacts/{lead}"),
        "POST /events".to_owned(),
    ];
    assert_eq!(lines, expected);
    {
        let tables = fake.tables();
        let event = &tables.events[&(lead, "plan-changed".to_owned(), NOW.0 / 1_000)];
        let metadata = json!({
            "a_date": 1769904000, "b_date": 1769904000, "k1": "1", "k2": "true", "k3": "x", "k4": "x", "k5": "x", "k6": "x", "k7": "x", "k8": "x",
        });
        assert_eq!(event["metadata"], metadata, "ten, none of them nested");
    }
    subject.next_delivery();
    assert_eq!(subject.deliver(&metadata, &many).await.outcome, Outcome::Delivered);
    assert_eq!((fake.seen().len(), fake.tables().events.len()), (1, 1), "the same second is the same event");
}

#[tokio::test]
async fn values_are_sent_as_intercom_reads_them() {
    let (subject, fake) = start().await;
    let subject = subject.mapping(&[
        ("email", "email"),
        ("name", "name"),
        ("signed_up_at", "at"),
        ("owner_id", "owner"),
        ("unsubscribed_from_emails", "no_mail"),
        ("custom_attributes.score", "score"),
        ("custom_attributes.trial_at", "at"),
        ("tier", "tiers"),
    ]);
    let payload = json!({ "email": "ada@example.com", "name": "Ada", "at": "2026-02-01T00:00:00Z", "owner": "814860", "no_mail": true, "score": 7, "tiers": ["a", "b"] });
    let report = subject.deliver(&json!({ "action": "upsert_contact" }), &payload).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    let sent = fake.seen()[1].json();
    let expected = json!({
        "role": "user", "email": "ada@example.com", "name": "Ada", "signed_up_at": 1769904000, "owner_id": 814860, "unsubscribed_from_emails": true,
        "custom_attributes": { "score": 7, "trial_at": 1769904000, "tier": "a, b" },
    });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn refusals_are_told_as_what_they_are() {
    use InactiveReason::*;
    use Outcome::*;
    let (mut subject, fake) = start().await;
    fake.tables().add(json!({ "role": "user", "email": "ada@example.com" }));
    for (status, code, outcome, inactive) in [
        (400, "parameter_invalid", RejectedClientError, None),
        (401, "unauthorized", AuthFailed, Some(AuthenticationInvalid)),
        (401, "token_not_found", AuthFailed, Some(AuthenticationInvalid)),
        (401, "token_revoked", AuthFailed, Some(OauthAuthorizationRevoked)),
        (403, "api_plan_restricted", AuthFailed, Some(AuthenticationInvalid)),
        (403, "forbidden", AuthFailed, Some(OauthReauthorizationRequired)),
        (429, "rate_limit_exceeded", RateLimited, None),
        (500, "server_error", RejectedServerError, None),
    ] {
        subject.next_delivery();
        fake.fail([Fault::status(status, &error(code, "The vendor's words").to_string())]);
        let report = subject.deliver(&json!({ "action": "track_event" }), &payload()).await;
        assert_eq!((report.outcome, report.inactive), (outcome, inactive), "{code}: {}", report.message);
        assert!(report.message.contains(&format!("{code}: The vendor's words")), "{}", report.message);
        let rest = (outcome == RateLimited).then_some(Duration::from_secs(10));
        assert_eq!(report.retry_after, rest, "{code}");
    }
    subject.next_delivery();
    let report = subject.deliver(&json!({ "action": "add_tag", "id": "999" }), &payload()).await;
    assert_eq!(report.outcome, RejectedClientError, "a tag that is gone: {}", report.message);
    assert!(report.message.contains("tag_not_found"), "{}", report.message);
    subject.next_delivery();
    fake.tables().contacts.clear();
    let report = subject.deliver(&json!({ "action": "remove_tag", "id": TAG }), &payload()).await;
    assert_eq!(report.outcome, Delivered, "who is not there has none: {}", report.message);
    assert!(fake.tables().contacts.is_empty(), "and is not made");
}

#[tokio::test]
async fn what_is_missing_is_said_before_any_call() {
    let (subject, fake) = start_with_ids().await;
    let company = |id: &str| json!({ "action": "upsert_company", "company_id": id });
    for (why, metadata, payload) in [
        ("nobody", json!({ "action": "upsert_contact" }), json!({ "name": "Ada" })),
        ("no tag", json!({ "action": "add_tag" }), payload()),
        ("no tag to take off", json!({ "action": "remove_tag" }), payload()),
        ("no id of a tag", json!({ "action": "remove_tag", "id": "1/../2" }), payload()),
        ("no note", json!({ "action": "add_note" }), payload()),
        ("an empty note", json!({ "action": "add_note", "template": "{{gone}}" }), payload()),
        ("no company", json!({ "action": "upsert_company" }), payload()),
        ("an empty company", company("{{gone}}"), payload()),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_note_is_escaped_and_in_the_name_of_who_connected() {
    let fake = Fake::start(routes).await;
    let subject =
        Subject::new("intercom", json!({ "access_token": TOKEN })).at(HOSTS[0], &fake).mapping(&FIELDS);
    let metadata = json!({ "action": "add_note", "template": "<p>{{first_name}}</p>" });
    let report =
        subject.deliver(&metadata, &json!({ "email": "ada@example.com", "first_name": "<b>&" })).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    let note = fake.tables().notes[0].1.clone();
    assert_eq!(note, json!({ "body": "<p>&lt;b&gt;&amp;</p>", "admin_id": "814860" }));
}

#[tokio::test]
async fn the_workspace_tells_what_is_in_it_and_where_it_is() {
    let (subject, fake) = start().await;
    let (prepared, wait) = (subject.prepared(), Duration::from_secs(5));
    let tags = prepared.items("tags", subject.http(), wait).await.expect("tags");
    assert_eq!(
        tags.iter().map(|tag| (&tag.id[..], &tag.name[..])).collect::<Vec<_>>(),
        [("123", "pro"), ("124", "trial")]
    );
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    let custom: Vec<_> = fields.iter().skip(9).map(|field| &field.key[..]).collect();
    let attributes = ["source", "tier", "score", "trial_at"].map(|name| format!("custom_attributes.{name}"));
    assert_eq!(custom, attributes, "neither computed nor archived ones");

    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().region = "EU";
    let refused = subject.probe().await.expect_err("another region");
    assert!(refused.contains("region eu"), "{refused}");
    fake.tables().token = "another";
    assert!(subject.probe().await.expect_err("401").contains("Access Token Invalid"));
}

#[tokio::test]
async fn a_consent_finds_the_region_that_takes_its_token() {
    let (us, eu) = (Fake::start(routes).await, Fake::start(routes).await);
    us.tables().token = "another";
    eu.tables().region = "EU";
    let connected = || {
        let subject =
            Subject::new("intercom", json!({})).at(HOSTS[0], &us).at(HOSTS[1], &eu).at(HOSTS[2], &us);
        subject.tokens(&Consented::of(&[TOKEN]))
    };
    let found = connected().discover().await.map(Value::Object);
    assert_eq!(found, Ok(json!({ "region": "eu", "app_id": "abcd1234", "admin_id": "814860" })));
    assert_eq!((us.seen().len(), eu.seen().len()), (1, 1));
    eu.tables().token = "another";
    let lost = connected().discover().await.expect_err("nobody takes it");
    assert!(lost.contains("connect the workspace again"), "{lost}");
    // There is nothing to renew it with, so it is not tried.
    let report = connected().deliver(&json!({ "action": "upsert_contact" }), &payload()).await;
    assert_eq!(report.inactive, Some(InactiveReason::AuthenticationInvalid), "{}", report.message);
}

#[tokio::test]
async fn a_question_that_is_refused_for_a_while_holds_deliveries_up_no_longer_than_that() {
    let (subject, fake) = start().await;
    let slower = error("rate_limit_exceeded", "Exceeded rate limit").to_string();
    let reset = (NOW.0 / 1_000 + 30).to_string();
    let date = "Tue, 20 Jan 2026 21:14:16 GMT";
    fake.fail([Fault::status(429, &slower).with("x-ratelimit-reset", reset).with("date", date)]);
    let wait = Duration::from_secs(5);
    assert!(subject.prepared().items("tags", subject.http(), wait).await.is_err());
    let report = subject.deliver(&json!({ "action": "upsert_contact" }), &payload()).await;
    assert_eq!(report.outcome, Outcome::RateLimited, "{}", report.message);
    let held = report.retry_after.expect("a wait");
    assert!(held > Duration::from_secs(20) && held <= Duration::from_secs(30), "{held:?}, not a day");
}
