//! Zoom.

use crate::{
    fakes::{
        Fake, Fault,
        zoom::{MEETING, TOKEN, Tables, WEBINAR, routes},
    },
    suite::{self, Case, Consented, NOW, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Map, Value, json};
use std::time::Duration;

const FIELDS: [(&str, &str); 4] = [
    ("email", "email"),
    ("first_name", "first_name"),
    ("last_name", "last_name"),
    ("custom_questions.Source", "source"),
];

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("zoom", json!({ "access_token": TOKEN, "account_id": "A1" }));
    (subject.at("api.zoom.us", &fake).mapping(&FIELDS), fake)
}

fn to(action: &str, id: &str) -> Value {
    json!({ "action": action, "id": id })
}

fn case<'c>(
    metadata: Value,
    is_repeatable: bool,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    let refused = json!({ "code": 300, "message": "Validation Failed.", "errors": [{ "field": "email", "message": "Invalid field." }] });
    let slower = json!({ "code": 429, "message": "You have reached the maximum per-second rate limit for this API. Try again later." });
    let locked = json!({ "code": 4711, "message": "Invalid access token, does not contain scopes:[meeting:write:registrant]." });
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls: 1,
        is_repeatable,
        refused: (Fault::status(400, &refused.to_string()), "300: Invalid field."),
        slower: (
            Fault::status(429, &slower.to_string()).with("x-ratelimit-type", "Per-second-limit"),
            Duration::from_secs(1),
        ),
        locked: (Fault::status(400, &locked.to_string()), InactiveReason::OauthReauthorizationRequired),
    }
}

fn is_registered(tables: &Tables, id: &str) -> bool {
    let registrant = tables.registrants.get(&(id.to_owned(), "ada@example.com".to_owned()));
    tables.registrants.len() == 1
        && registrant.is_some_and(|registrant| {
            registrant["first_name"] == "Ada"
                && registrant["last_name"] == "Lovelace"
                && registrant["custom_questions"] == json!([{ "title": "Source", "value": "signup" }])
        })
}

#[tokio::test]
async fn people_are_registered_for_meetings_and_webinars_and_taken_off() {
    let (mut subject, fake) = start().await;
    let at_meeting = |tables: &Tables| is_registered(tables, MEETING);
    let asked = case(to("add_meeting_registrant", MEETING), false, &at_meeting);
    suite::ask("zoom_add_meeting_registrant", &mut subject, &fake, &[TOKEN], asked).await;

    let nobody = |tables: &Tables| tables.registrants.is_empty();
    let asked = case(to("cancel_meeting_registrant", MEETING), true, &nobody);
    suite::ask("zoom_cancel_meeting_registrant", &mut subject, &fake, &[TOKEN], asked).await;

    let (mut subject, fake) = start().await;
    let at_webinar = |tables: &Tables| is_registered(tables, WEBINAR);
    let asked = case(to("add_webinar_registrant", WEBINAR), false, &at_webinar);
    suite::ask("zoom_add_webinar_registrant", &mut subject, &fake, &[TOKEN], asked).await;
}

#[tokio::test]
async fn a_token_that_ended_is_replaced_once() {
    let fake = Fake::start(routes).await;
    let connected = |tokens: &[&'static str]| {
        let subject = Subject::new("zoom", json!({ "account_id": "A1" })).at("api.zoom.us", &fake);
        subject.tokens(&Consented::of(tokens))
    };
    let metadata = to("add_meeting_registrant", MEETING);
    let authorizations = || {
        let text =
            |seen: &crate::fakes::Seen| seen.headers["authorization"].to_str().expect("text").to_owned();
        fake.seen().iter().map(text).collect::<Vec<_>>()
    };

    let report = connected(&["an-older-token", TOKEN]).deliver(&metadata, &payload()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(authorizations(), ["Bearer an-older-token".to_owned(), format!("Bearer {TOKEN}")]);
    assert_eq!(fake.tables().times.values().sum::<usize>(), 1, "registered once");

    let report = connected(&["an-older-token", "another"]).deliver(&metadata, &payload()).await;
    assert_eq!(report.outcome, Outcome::AuthFailed, "{}", report.message);
    assert_eq!(authorizations().len(), 2, "and no more than once");
    assert!(report.message.contains("124: Invalid access token."), "{}", report.message);

    let report = connected(&["an-older-token"]).deliver(&metadata, &payload()).await;
    assert_eq!(report.outcome, Outcome::AuthFailed, "{}", report.message);
    assert_eq!(report.inactive, Some(InactiveReason::OauthAuthorizationRevoked));
    authorizations();

    let lacks =
        json!({ "code": 4700, "message": "Invalid access token, does not contain scopes." }).to_string();
    fake.fail([Fault::status(401, &lacks)]);
    let report = connected(&[TOKEN, TOKEN]).deliver(&metadata, &payload()).await;
    assert_eq!(report.inactive, Some(InactiveReason::OauthReauthorizationRequired), "{}", report.message);
    assert_eq!(authorizations().len(), 1, "another token would not have them either");
}

#[tokio::test]
async fn a_days_limit_ends_at_midnight() {
    let until_midnight =
        Duration::from_millis(86_400_000 - u64::try_from(NOW.0).expect("later") % 86_400_000);
    let daily = |message: &str| Fault::status(429, &json!({ "code": 429, "message": message }).to_string());
    let metadata = to("add_meeting_registrant", MEETING);
    for (why, fault, wait, holds_up_all) in [
        (
            "until the time it says",
            daily("You have reached the maximum daily rate limit for this API.")
                .with("x-ratelimit-type", "Daily-limit")
                .with("retry-after", "2026-01-20T22:14:16Z"),
            Duration::from_secs(3_600),
            true,
        ),
        (
            "it says no time",
            daily("Slow down.").with("x-ratelimit-type", "Daily-limit"),
            until_midnight,
            true,
        ),
        ("the user's", daily("You may resume these requests at GMT 00:00:00"), until_midnight, true),
        ("a second's", daily("Slow down.").with("x-ratelimit-type", "QPS"), Duration::from_secs(1), true),
        ("it says nothing", daily("Slow down."), Duration::from_secs(1), true),
        (
            "one person's",
            daily(
                "You have exceeded the daily rate limit (3) for the registrant (ada@example.com). You may resume these requests at GMT 00:00:00.",
            ),
            until_midnight,
            false,
        ),
    ] {
        let (subject, fake) = start().await;
        fake.fail([fault]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!((report.outcome, report.retry_after), (Outcome::RateLimited, Some(wait)), "{why}");
        assert_eq!(report.pauses, holds_up_all, "{why}");
    }
}

#[tokio::test]
async fn who_registers_too_often_holds_up_nobody_else() {
    let (mut subject, fake) = start().await;
    fake.tables().times_max = 3;
    let metadata = to("add_meeting_registrant", MEETING);
    for _ in 0..3 {
        assert_eq!(subject.deliver(&metadata, &payload()).await.outcome, Outcome::Delivered);
        subject.next_delivery();
    }
    let report = subject.deliver(&metadata, &payload()).await;
    assert_eq!((report.outcome, report.pauses), (Outcome::RateLimited, false), "{}", report.message);
    fake.seen();
    subject.another_delivery();
    let report = subject.deliver(&metadata, &payload()).await;
    assert_eq!((report.outcome, fake.seen().len()), (Outcome::RateLimited, 0), "nobody is asked");
    let grace = json!({ "email": "grace@example.com", "first_name": "Grace", "last_name": "Hopper" });
    assert_eq!(subject.deliver(&metadata, &grace).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn a_meeting_that_is_gone_is_told_and_who_is_there_already_is_fine() {
    let (mut subject, fake) = start().await;
    let report = subject.deliver(&to("add_meeting_registrant", "85746065124"), &payload()).await;
    assert_eq!(report.outcome, Outcome::RejectedClientError);
    assert!(report.message.contains("3001: Meeting does not exist"), "{}", report.message);
    let report = subject.deliver(&to("cancel_meeting_registrant", "85746065124"), &payload()).await;
    assert_eq!(report.outcome, Outcome::RejectedClientError, "{}", report.message);
    for (action, status, message, outcome) in [
        ("add_meeting_registrant", 409, "The registrant is already registered.", Outcome::Delivered),
        ("cancel_meeting_registrant", 404, "Registrant does not exist: ada@example.com.", Outcome::Delivered),
        (
            "add_meeting_registrant",
            400,
            "Registration has not been enabled for this meeting.",
            Outcome::RejectedClientError,
        ),
    ] {
        subject.next_delivery();
        fake.fail([Fault::status(status, &json!({ "code": 3027, "message": message }).to_string())]);
        let report = subject.deliver(&to(action, MEETING), &payload()).await;
        assert_eq!(report.outcome, outcome, "{message}: {}", report.message);
    }
    subject.next_delivery();
    fake.fail([Fault::status(403, r#"{"code":403,"message":"No permission."}"#)]);
    let report = subject.deliver(&to("add_meeting_registrant", MEETING), &payload()).await;
    assert_eq!(report.inactive, Some(InactiveReason::AuthenticationInvalid), "{}", report.message);
}

#[tokio::test]
async fn what_is_missing_or_too_long_is_said_before_any_call() {
    let (mut subject, fake) = start().await;
    let metadata = to("add_meeting_registrant", MEETING);
    let named = |name: String| json!({ "email": "ada@example.com", "first_name": name });
    let addressed =
        |local: usize| json!({ "email": format!("{}@example.com", "a".repeat(local)), "first_name": "Ada" });
    for (why, metadata, payload) in [
        ("no address", metadata.clone(), json!({ "first_name": "Ada" })),
        ("no first name", metadata.clone(), json!({ "email": "ada@example.com" })),
        ("no meeting", json!({ "action": "add_meeting_registrant" }), payload()),
        ("no number", to("add_meeting_registrant", "../users"), payload()),
        ("nothing but blanks", to("cancel_meeting_registrant", " - "), payload()),
        ("a long name", metadata.clone(), named("x".repeat(65))),
        ("a long address", metadata.clone(), addressed(117)),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
    // At the edge, and an id as it is written down or as a number.
    let ids = [json!("857 4606-5123"), json!(85_746_065_123_u64)];
    for (id, payload) in ids.into_iter().zip([named("ü".repeat(64)), addressed(116)]) {
        subject.next_delivery();
        let metadata = json!({ "action": "add_meeting_registrant", "id": id });
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    }
    assert_eq!(fake.tables().registrants.len(), 2);
    assert!(fake.tables().registrants.values().all(|registrant| registrant["last_name"] == "-"));
}

#[tokio::test]
async fn the_account_tells_what_is_in_it() {
    let (subject, fake) = start().await;
    let (prepared, wait) = (subject.prepared(), Duration::from_secs(5));
    let items = prepared.items("meetings", subject.http(), wait).await.expect("meetings");
    let names: Vec<_> = items.iter().map(|item| (&item.id[..], &item.name[..])).collect();
    assert_eq!(names, [(MEETING, "Launch (2026-02-01T10:00:00Z)"), ("98000000001", "Open house")]);
    let targets: Vec<_> = fake.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        targets,
        [
            "/v2/users/me/meetings?type=upcoming&page_size=300",
            "/v2/users/me/meetings?type=upcoming&page_size=300&next_page_token=w7587w4eiyfsudgf"
        ]
    );
    let items = prepared.items("webinars", subject.http(), wait).await.expect("webinars");
    assert_eq!((items.len(), &items[0].id[..]), (1, WEBINAR));

    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    assert_eq!(fields.len(), 18, "{fields:?}");
    let questions: Vec<_> = fields.iter().rev().take(2).map(|field| &field.key[..]).collect();
    assert_eq!(questions, ["custom_questions.Size?", "custom_questions.Source"]);
    fake.tables().may_see_questions = false;
    fake.tables().has_webinars = false;
    let fields = prepared.fields(subject.http(), wait).await.expect("the standard ones");
    assert_eq!(fields.len(), 16);
    let refused = prepared.items("webinars", subject.http(), wait).await.expect_err("no plan");
    assert!(refused.contains("Webinar plan is missing"), "{refused}");

    assert_eq!(subject.probe().await, Ok(()));
    let found = json!({ "user_id": "KDcuGIm1QgePTO8WbOqwIQ", "account_id": "EAAAbbbbbCCCCHMA" });
    assert_eq!(subject.discover().await.map(Value::Object), Ok(found));
    fake.tables().token = "another";
    assert!(subject.probe().await.expect_err("401").contains("124: Invalid access token."));
    let bare = Subject::new("zoom", Value::Object(Map::new()));
    assert!(bare.probe().await.expect_err("no token").contains("access_token is missing"));
}
