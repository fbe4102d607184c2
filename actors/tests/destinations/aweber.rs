//! AWeber.

use crate::{
    fakes::{
        Fake, Fault,
        aweber::{ACCOUNT, Subscriber, TOKEN, Tables, routes},
    },
    suite::{self, Case, Consented, IsDone, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

async fn with(settings: Value) -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("aweber", settings).at("api.aweber.com", &fake).mapping(&[
        ("email", "email"),
        ("ip_address", "ip"),
        ("misc_notes", "notes"),
        ("custom_fields.source", "source"),
        ("tier", "tier"),
        ("tags", "tags"),
    ]);
    (subject, fake)
}

async fn start() -> (Subject, Fake<Tables>) {
    with(json!({ "access_token": TOKEN, "account_id": ACCOUNT })).await
}

fn said(status: u16, kind: &str, message: &str) -> Fault {
    let url = "https://api.aweber.com/#tag/Troubleshooting";
    let error = json!({ "status": status, "type": kind, "message": message, "documentation_url": url });
    Fault::status(status, &json!({ "error": error }).to_string())
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
            said(400, "WebServiceError", "email: Invalid email address."),
            "WebServiceError: email: Invalid email address.",
        ),
        slower: (said(403, "ForbiddenError", "Rate Limit Error"), Duration::from_secs(60)),
        locked: (
            said(403, "ForbiddenError", "Account Temporarily Suspended"),
            InactiveReason::AuthenticationInvalid,
        ),
    }
}

fn ada(tables: &Tables) -> Option<&Subscriber> {
    tables.subscribers.get(&("2".to_owned(), "ada@example.com".to_owned()))
}

#[tokio::test]
async fn every_action_does_what_it_says_and_tells_what_goes_wrong() {
    let (mut subject, fake) = start().await;
    let is_there = |tables: &Tables| {
        ada(tables).is_some_and(|ada| {
            ada.status == "subscribed"
                && ada.body["name"] == "Ada Lovelace"
                && ada.body["custom_fields"] == json!({ "source": "signup", "tier": "pro" })
        })
    };
    let cases: [(&str, IsDone<'_, Tables>); 4] = [
        ("add_to_list", &is_there),
        ("add_tag", &|tables| ada(tables).is_some_and(|ada| ada.tags == ["vip"])),
        ("remove_tag", &|tables| ada(tables).is_some_and(|ada| ada.tags.is_empty())),
        ("remove_from_list", &|tables| ada(tables).is_some_and(|ada| ada.status == "unsubscribed")),
    ];
    for (action, is_done) in cases {
        let metadata = json!({ "action": action, "id": "2", "tag": "vip" });
        suite::ask(&format!("aweber_{action}"), &mut subject, &fake, &[TOKEN], case(metadata, 1, is_done))
            .await;
    }
}

#[tokio::test]
async fn a_tag_makes_its_subscriber_and_a_removal_nobody() {
    let (mut subject, fake) = start().await;
    for action in ["remove_from_list", "remove_tag"] {
        let metadata = json!({ "action": action, "id": "2", "tag": "vip" });
        assert_eq!(subject.deliver(&metadata, &payload()).await.outcome, Outcome::Delivered, "{action}");
        assert_eq!(fake.seen().len(), 1);
    }
    assert!(fake.tables().subscribers.is_empty());
    subject.next_delivery();
    let metadata = json!({ "action": "add_tag", "id": "2", "tag": "vip" });
    let sent = json!({ "email": "ada@example.com", "tags": "a, b,", "ip": "204.194.222.28" });
    assert_eq!(subject.deliver(&metadata, &sent).await.outcome, Outcome::Delivered);
    assert_eq!(
        ada(&fake.tables()).map(|ada| ada.tags.clone()),
        Some(["a", "b", "vip"].map(String::from).to_vec())
    );
    assert_eq!(fake.seen().len(), 2);
    subject.next_delivery();
    let nowhere = subject.deliver(&json!({ "action": "add_to_list", "id": "9" }), &payload()).await;
    assert_eq!(nowhere.outcome, Outcome::RejectedClientError, "{}", nowhere.message);
}

#[tokio::test]
async fn only_what_the_service_takes_is_sent() {
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "add_to_list", "id": "2" });
    for (ip, is_sent) in [
        ("204.194.222.28", true),
        ("10.0.0.7", false),
        ("127.0.0.1", false),
        ("2001:db8::1", false),
        ("2606:4700::1", false),
        ("nonsense", false),
    ] {
        subject.next_delivery();
        let long = "x".repeat(40);
        let sent = json!({ "email": "ada@example.com", "first_name": long, "last_name": long, "ip": ip, "tags": ["a", 7, null], "tier": 3.5 });
        assert_eq!(subject.deliver(&metadata, &sent).await.outcome, Outcome::Delivered, "{ip}");
        let body = ada(&fake.tables()).expect("she is there").body.clone();
        assert_eq!(body.get("ip_address").is_some(), is_sent, "{ip}");
        assert_eq!(body["name"].as_str().map(str::len), Some(60), "as far as there is room");
        assert_eq!((&body["tags"], &body["custom_fields"]["tier"]), (&json!(["a", "7"]), &json!("3.5")));
        assert_eq!(
            (&body["update_existing"], &body["strict_custom_fields"]),
            (&json!("true"), &json!("false"))
        );
    }
}

#[tokio::test]
async fn a_403_may_mean_anything() {
    use InactiveReason::*;
    use Outcome::*;
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "add_to_list", "id": "2" });
    for (status, kind, message, outcome, inactive) in [
        (403, "ForbiddenError", "Rate Limit Error", RateLimited, None),
        (403, "ForbiddenError", "Your account is on hold", AuthFailed, Some(AuthenticationInvalid)),
        (
            403,
            "ForbiddenError",
            "You are not authorized to access this",
            AuthFailed,
            Some(OauthReauthorizationRequired),
        ),
        (
            403,
            "ForbiddenError",
            "Subscriber limit of the plan reached",
            AuthFailed,
            Some(AuthenticationInvalid),
        ),
        (403, "ForbiddenError", "This email cannot be accepted at this time", RejectedClientError, None),
        (400, "WebServiceError", "email: Subscriber already subscribed.", Delivered, None),
        (400, "WebServiceError", "email: Email address blocked.", RejectedClientError, None),
        (400, "BadRequestError", "already subscribed", RejectedClientError, None),
        (401, "UnauthorizedError", "Invalid Account", AuthFailed, Some(AuthenticationInvalid)),
        (401, "UnauthorizedError", "Invalid Token", AuthFailed, None),
        (409, "ConflictError", "try again", RejectedServerError, None),
        (410, "BlockedError", "blocked", RejectedClientError, None),
        (415, "UnsupportedMediaType", "no", RejectedClientError, None),
        (503, "ServiceUnavailableError", "later", RejectedServerError, None),
    ] {
        subject.next_delivery();
        fake.fail([said(status, kind, message)]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!((report.outcome, report.inactive), (outcome, inactive), "{message}: {}", report.message);
    }
}

#[tokio::test]
async fn two_connections_to_an_account_slow_down_together() {
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "add_to_list", "id": "2" });
    fake.fail([said(403, "ForbiddenError", "Rate Limit Error")]);
    let limited = subject.deliver(&metadata, &payload()).await;
    assert_eq!((limited.outcome, limited.pauses), (Outcome::RateLimited, true));
    subject.another_delivery();
    fake.seen();
    assert_eq!(subject.deliver(&metadata, &payload()).await.outcome, Outcome::RateLimited);
    assert!(fake.seen().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn a_token_that_ended_is_renewed_once_and_one_that_is_lost_parks() {
    for (tokens, outcome, asked) in [
        (&["yesterdays-token", TOKEN][..], Outcome::Delivered, 2),
        (&["yesterdays-token", "not-yet-known", TOKEN], Outcome::AuthFailed, 2),
        (&["yesterdays-token"], Outcome::AuthFailed, 1),
    ] {
        let (subject, fake) = with(json!({ "account_id": ACCOUNT })).await;
        let subject = subject.tokens(&Consented::of(tokens));
        let report = subject.deliver(&json!({ "action": "add_to_list", "id": "2" }), &payload()).await;
        assert_eq!(report.outcome, outcome, "{}", report.message);
        assert_eq!(fake.seen().len(), asked);
        let told = format!("{report:?}");
        assert!(tokens.iter().all(|token| !told.contains(token)), "{told}");
        let lost = (asked == 1).then_some(InactiveReason::OauthAuthorizationRevoked);
        assert_eq!(report.inactive, lost);
    }
}

#[tokio::test]
async fn the_account_is_found_by_its_token() {
    let (subject, fake) = with(json!({})).await;
    let subject = subject.tokens(&Consented::of(&[TOKEN]));
    let told = subject.discover().await.expect("it tells");
    assert_eq!(Value::Object(told), json!({ "account_id": ACCOUNT }));
    fake.seen();
    let report = subject.deliver(&json!({ "action": "add_to_list", "id": "2" }), &payload()).await;
    assert_eq!(
        (report.outcome, fake.seen().len()),
        (Outcome::Delivered, 2),
        "asked for where it is not known"
    );
    fake.fail([Fault::status(200, r#"{"entries":[]}"#)]);
    assert!(subject.discover().await.expect_err("none").contains("account's id"));
    let (other, _fake) = with(json!({ "access_token": TOKEN, "account_id": "9" })).await;
    let wrong = other.probe().await.expect_err("another account");
    assert!(wrong.contains("account 9"), "{wrong}");
    let nobody = Subject::new("aweber", json!({})).probe().await.expect_err("no token");
    assert!(nobody.contains("access_token is missing"), "{nobody}");
    let odd = Subject::new("aweber", json!({ "account_id": "../1" })).checked().expect_err("no id");
    assert_eq!(odd[0].param, "account_id");
}

#[tokio::test]
async fn what_does_not_fit_is_said_before_any_call() {
    let (subject, fake) = start().await;
    let long = format!("{}@example.com", "x".repeat(40));
    let add = json!({ "action": "add_to_list", "id": "2" });
    for (why, metadata, payload) in [
        ("no address", add.clone(), json!({ "name": "Ada" })),
        ("a long address", add.clone(), json!({ "email": long })),
        ("long notes", add, json!({ "email": "ada@example.com", "notes": "x".repeat(61) })),
        ("no list", json!({ "action": "add_to_list" }), payload()),
        ("no id", json!({ "action": "add_to_list", "id": "2/../3" }), payload()),
        ("no tag", json!({ "action": "add_tag", "id": "2" }), payload()),
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
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    let keys: Vec<_> = fields.iter().map(|field| &field.key[..]).collect();
    #[rustfmt::skip]
    assert_eq!(keys, ["email", "name", "misc_notes", "ad_tracking", "ip_address", "tags", "custom_fields.source", "custom_fields.Tier of it"]);
    fake.tables().lists = 203;
    fake.seen();
    let lists = prepared.items("lists", subject.http(), wait).await.expect("lists");
    assert_eq!((lists.len(), &lists[202].name[..]), (203, "List 203"), "all pages");
    assert_eq!(fake.seen().len(), 3);
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().token = "another";
    let refused = subject.probe().await.expect_err("401");
    assert!(refused.contains("Invalid Token"), "{refused}");
}
