//! Mailchimp.

use crate::{
    fakes::{
        Fake, Fault,
        mailchimp::{KEY, LIST, Member, Tables, routes},
    },
    suite::{self, Case, Consented, IsDone, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

/// MD5 of `ada@example.com`.
const ADA: &str = "3e3417d7ef77d5932a6734b916515ed5";

fn mapped(subject: Subject) -> Subject {
    subject.mapping(&[
        ("email_address", "email"),
        ("FNAME", "first_name"),
        ("LNAME", "last_name"),
        ("SOURCE", "source"),
        ("TIER", "tier"),
        ("ip_signup", "ip"),
        ("ADDRESS", "address"),
    ])
}

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("mailchimp", json!({ "api_key": KEY })).at("us19.api.mailchimp.com", &fake);
    (mapped(subject), fake)
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    let invalid = json!({ "type": "t", "title": "Invalid Resource", "status": 400, "detail": "Your merge fields were invalid.", "instance": "i", "errors": [{ "field": "ZIP", "message": "Please enter a zip code" }] });
    let disabled =
        json!({ "title": "User Disabled", "status": 403, "detail": "This account has been deactivated." });
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls,
        is_repeatable: true,
        refused: (
            Fault::status(400, &invalid.to_string()),
            "Invalid Resource: Please enter a zip code (ZIP)",
        ),
        slower: (
            Fault::status(
                429,
                r#"{"title":"Too Many Requests","status":429,"detail":"You have exceeded the limit of 10 simultaneous connections."}"#,
            ),
            Duration::from_secs(2),
        ),
        locked: (Fault::status(403, &disabled.to_string()), InactiveReason::AuthenticationInvalid),
    }
}

fn ada(tables: &Tables) -> Option<&Member> {
    tables.members.get(&(LIST.to_owned(), ADA.to_owned()))
}

#[tokio::test]
async fn every_action_does_what_it_says_and_tells_what_goes_wrong() {
    let (mut subject, fake) = start().await;
    let is_there = |tables: &Tables| {
        ada(tables).is_some_and(|ada| {
            ada.status == "subscribed"
                && ada.body["merge_fields"]
                    == json!({ "FNAME": "Ada", "LNAME": "Lovelace", "SOURCE": "signup", "TIER": "pro" })
        })
    };
    let tracked = |event: &Value| {
        event["name"] == "contact_created"
            && event["properties"]["tier"] == "pro"
            && event["occurred_at"] == "2026-01-20T21:14:16+00:00"
    };
    let cases: [(&str, usize, IsDone<'_, Tables>); 5] = [
        ("add_to_list", 1, &is_there),
        ("add_tag", 2, &|tables| is_there(tables) && ada(tables).is_some_and(|ada| ada.tags == ["vip"])),
        ("remove_tag", 1, &|tables| ada(tables).is_some_and(|ada| ada.tags.is_empty())),
        ("track_event", 2, &|tables| !tables.events.is_empty() && tables.events.iter().all(tracked)),
        ("remove_from_list", 1, &|tables| ada(tables).is_some_and(|ada| ada.status == "unsubscribed")),
    ];
    for (action, calls, is_done) in cases {
        let metadata = json!({ "action": action, "id": LIST, "tag": "vip" });
        let case = Case { is_repeatable: action != "track_event", ..case(metadata, calls, is_done) };
        suite::ask(&format!("mailchimp_{action}"), &mut subject, &fake, &[KEY], case).await;
    }
}

#[tokio::test]
async fn who_left_is_not_brought_back_and_who_is_not_there_is_not_made() {
    let (mut subject, fake) = start().await;
    for action in ["remove_from_list", "remove_tag"] {
        let metadata = json!({ "action": action, "id": LIST, "tag": "vip" });
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!(report.outcome, Outcome::Delivered, "{action}: {}", report.message);
        assert_eq!(fake.seen().len(), 1);
    }
    assert!(fake.tables().members.is_empty());
    for action in ["add_to_list", "remove_from_list", "add_to_list", "add_tag"] {
        subject.next_delivery();
        let metadata = json!({ "action": action, "id": LIST, "tag": "vip" });
        assert_eq!(subject.deliver(&metadata, &payload()).await.outcome, Outcome::Delivered);
    }
    assert_eq!(ada(&fake.tables()).map(|ada| &ada.status[..]), Some("unsubscribed"));
    subject.next_delivery();
    let elsewhere = json!({ "action": "add_to_list", "id": "gone" });
    let report = subject.deliver(&elsewhere, &payload()).await;
    assert_eq!(report.outcome, Outcome::RejectedClientError);
    assert!(report.message.contains("Resource Not Found"), "{}", report.message);
}

#[tokio::test]
async fn a_member_goes_by_its_address_in_any_case_and_values_keep_their_kind() {
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "add_to_list", "id": LIST });
    subject.deliver(&metadata, &payload()).await;
    subject.next_delivery();
    let address = json!({ "addr1": "12 St James's Square", "city": "London", "state": "", "zip": "SW1Y" });
    let other = json!({ "email": "Ada@Example.COM", "tier": 3, "ip": "192.0.2.9", "last_name": null, "address": address });
    assert_eq!(subject.deliver(&metadata, &other).await.outcome, Outcome::Delivered);
    let tables = fake.tables();
    assert_eq!(tables.members.len(), 1, "the same member");
    let body = &ada(&tables).expect("she is there").body;
    assert_eq!(body["merge_fields"]["TIER"], json!(3));
    assert_eq!(body["merge_fields"]["ADDRESS"], address);
    assert_eq!(body["ip_signup"], "192.0.2.9");
    assert!(body["merge_fields"].get("LNAME").is_none(), "nothing is wiped out");
}

#[tokio::test]
async fn refusals_without_a_body_mean_slower_and_for_good_means_for_good() {
    use Outcome::*;
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "add_to_list", "id": LIST });
    let titled = |status: u16, title: &str| {
        Fault::status(status, &json!({ "title": title, "status": status, "detail": "why" }).to_string())
    };
    let locked = Some(InactiveReason::AuthenticationInvalid);
    for (why, fault, outcome, inactive) in [
        ("403 in HTML", Fault::status(403, "<html>Access Denied</html>"), RateLimited, None),
        ("403 empty", Fault::status(403, ""), RateLimited, None),
        ("403 said", titled(403, "Wrong Datacenter"), AuthFailed, locked),
        // Another token may help, if a consent gave it.
        ("401", titled(401, "API Key Invalid"), AuthFailed, None),
        ("forgotten", titled(400, "Forgotten Email Not Subscribed"), RejectedClientError, None),
        ("in compliance", titled(400, "Member In Compliance State"), RejectedClientError, None),
        ("too old", titled(426, "Upgrade Required"), RejectedClientError, None),
        ("unwell", titled(500, "Internal Server Error"), RejectedServerError, None),
    ] {
        subject.next_delivery();
        fake.fail([fault]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!((report.outcome, report.inactive), (outcome, inactive), "{why}: {}", report.message);
    }
    assert!(fake.tables().members.is_empty());
}

#[tokio::test]
async fn what_is_missing_is_said_before_any_call() {
    let (subject, fake) = start().await;
    let long = json!({ "action": "track_event", "id": LIST, "event_name_override": "x".repeat(31) });
    for (why, metadata, payload) in [
        ("no address", json!({ "action": "add_to_list", "id": LIST }), json!({ "name": "Ada" })),
        ("no audience", json!({ "action": "add_to_list" }), payload()),
        ("no id", json!({ "action": "add_to_list", "id": "../campaigns" }), payload()),
        ("no tag", json!({ "action": "add_tag", "id": LIST }), payload()),
        ("a long name", long, payload()),
        (
            "a short name",
            json!({ "action": "track_event", "id": LIST, "event_name_override": "x" }),
            payload(),
        ),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_data_center_is_the_keys() {
    for (settings, wrong) in [
        (json!({ "api_key": "abc" }), Some("does not end in one")),
        (json!({ "api_key": "abc-us19", "data_center": "us6" }), Some("must be us19")),
        (json!({ "api_key": "abc", "data_center": "evil.example/" }), Some("like us19")),
        (json!({ "api_key": "abc", "data_center": "us6" }), None),
        (json!({ "api_key": "abc-us19", "data_center": "us19" }), None),
        (json!({}), None), // connected in a browser
    ] {
        let checked = Subject::new("mailchimp", settings.clone()).checked();
        match wrong {
            None => assert!(checked.is_ok(), "{settings}: {checked:?}"),
            Some(words) => {
                let errors = checked.expect_err("wrong");
                assert_eq!(errors[0].param, "data_center");
                assert!(errors[0].msg.contains(words), "{}", errors[0].msg);
            }
        }
    }
    let nothing = Subject::new("mailchimp", json!({})).probe().await.expect_err("no key");
    assert!(nothing.contains("api_key is missing"), "{nothing}");
}

#[tokio::test]
async fn an_account_connected_in_a_browser_tells_where_it_is() {
    let fake = Fake::start(routes).await;
    let at = |settings, tokens: &[&'static str]| {
        let subject = Subject::new("mailchimp", settings).tokens(&Consented::of(tokens));
        mapped(subject.at("login.mailchimp.com", &fake).at("us6.api.mailchimp.com", &fake))
    };
    let told = at(json!({}), &[KEY]).discover().await.expect("it tells");
    assert_eq!(Value::Object(told.clone()), json!({ "data_center": "us6", "account_id": "4242" }));
    fake.fail([Fault::status(200, r#"{"api_endpoint":"https://us7.api.mailchimp.com"}"#)]);
    assert_eq!(at(json!({}), &[KEY]).discover().await.expect("it tells")["data_center"], "us7");
    for (why, fault) in [
        ("a bad token is answered 200", Fault::None),
        ("nothing is told", Fault::status(200, "{}")),
        ("no data center", Fault::status(200, r#"{"dc":"evil.example/x"}"#)),
    ] {
        fake.fail([fault]);
        let failed = at(json!({}), &["bad"]).discover().await.expect_err(why);
        assert!(failed.len() > 10, "{why}: {failed}");
    }
    let metadata = json!({ "action": "add_to_list", "id": LIST });
    let connected = at(Value::Object(told), &[KEY]);
    assert_eq!(connected.probe().await, Ok(()));
    assert_eq!(connected.deliver(&metadata, &payload()).await.outcome, Outcome::Delivered);
    fake.seen();
    let lost = at(json!({}), &[KEY]).deliver(&metadata, &payload()).await;
    assert_eq!(lost.inactive, Some(InactiveReason::OauthReauthorizationRequired), "{}", lost.message);
    assert!(fake.seen().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn the_account_tells_what_is_in_it() {
    let (subject, fake) = start().await;
    let (prepared, wait) = (subject.prepared(), Duration::from_secs(5));
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    let keys: Vec<_> = fields.iter().map(|field| &field.key[..]).collect();
    assert_eq!(keys, ["email_address", "ip_signup", "FNAME", "ADDRESS", "COMPANY", "TIER"]);
    let constraints = |at: usize| fields[at].constraints.clone().unwrap_or_default();
    assert_eq!((constraints(2).max_length, constraints(4).required), (Some(25), Some(true)));
    assert_eq!(constraints(5).allowed_values, Some(vec!["pro".to_owned(), "free".to_owned()]));
    fake.tables().lists = 1_002;
    fake.seen();
    let lists = prepared.items("lists", subject.http(), wait).await.expect("lists");
    assert_eq!((lists.len(), &lists[1_001].name[..]), (1_002, "Audience 1002"), "all pages");
    assert_eq!(fake.seen().len(), 2);
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().key = "another";
    let refused = subject.probe().await.expect_err("401");
    assert!(refused.contains("API Key Invalid"), "{refused}");
}
