//! Slack.

use crate::{
    fakes::{
        Fake, Fault,
        slack::{TOKEN, Tables, routes},
    },
    suite::{self, Case, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

const HOOK: &str = "https://hooks.slack.com/services/T1/B1/hook";

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("slack", json!({ "access_token": TOKEN, "team_id": "T1" }));
    (subject.at("slack.com", &fake), fake)
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
        is_repeatable: false,
        refused: (Fault::status(200, r#"{"ok":false,"error":"channel_not_found"}"#), "channel_not_found"),
        slower: (
            Fault::status(429, r#"{"ok":false,"error":"ratelimited"}"#).with("retry-after", "11"),
            Duration::from_secs(11),
        ),
        locked: (
            Fault::status(200, r#"{"ok":false,"error":"token_revoked"}"#),
            InactiveReason::OauthAuthorizationRevoked,
        ),
    }
}

#[tokio::test]
async fn a_message_is_posted_and_what_goes_wrong_is_told() {
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "send_message", "id": "C1", "template": "New: *{{first_name}}* <{{email}}> {{none}}" });
    let is_done = |tables: &Tables| {
        tables.messages.iter().all(|(channel, body)| {
            channel == "C1"
                && body["text"] == "New: *Ada* <ada@example.com> "
                && body["blocks"][0]["text"]["type"] == "mrkdwn"
        }) && !tables.messages.is_empty()
    };
    suite::ask("slack_send_message", &mut subject, &fake, &[TOKEN], case(metadata, 1, &is_done)).await;
}

#[tokio::test]
async fn a_person_is_found_by_address() {
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "send_dm", "template": "Hello {{first_name}}" });
    let is_done = |tables: &Tables| tables.messages.iter().all(|(channel, _)| channel == "U7");
    suite::ask("slack_send_dm", &mut subject, &fake, &[TOKEN], case(metadata, 2, &is_done)).await;
}

#[tokio::test]
async fn a_webhook_posts_to_its_own_channel() {
    let fake = Fake::start(routes).await;
    let mut subject = Subject::new("slack", json!({ "webhook_url": HOOK })).at("hooks.slack.com", &fake);
    let metadata = json!({ "action": "send_message", "template": "Hello {{first_name}}" });
    let is_done = |tables: &Tables| {
        tables.messages.iter().all(|(_, body)| body["text"] == "Hello Ada" && body.get("channel").is_none())
    };
    let case = Case {
        refused: (Fault::status(400, "invalid_blocks"), "400"),
        slower: (Fault::status(429, "").with("retry-after", "1"), Duration::from_secs(1)),
        locked: (Fault::status(410, "channel_is_archived"), InactiveReason::AuthenticationInvalid),
        ..case(metadata, 1, &is_done)
    };
    suite::ask("slack_webhook", &mut subject, &fake, &["services/T1/B1/hook"], case).await;
    fake.seen();
    assert_eq!(subject.probe().await, Ok(()));
    let elsewhere = Subject::new("slack", json!({ "webhook_url": "https://hooks.slack.com.evil.example/x" }));
    let errors = elsewhere.checked().expect_err("another host");
    assert_eq!(errors[0].param, "webhook_url");
}

#[tokio::test]
async fn two_hundred_says_nothing_by_itself() {
    use InactiveReason::*;
    use Outcome::*;
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "send_message", "id": "C1", "template": "Hi" });
    for (error, outcome, inactive) in [
        ("invalid_auth", AuthFailed, Some(AuthenticationInvalid)),
        ("account_inactive", AuthFailed, Some(OauthAuthorizationRevoked)),
        ("missing_scope", AuthFailed, Some(OauthReauthorizationRequired)),
        ("restricted_action_read_only_channel", AuthFailed, Some(OauthReauthorizationRequired)),
        ("token_expired", AuthFailed, None),
        ("is_archived", RejectedClientError, None),
        ("msg_too_long", RejectedClientError, None),
        ("something_new", RejectedClientError, None),
        ("internal_error", RejectedServerError, None),
        ("message_limit_exceeded", RateLimited, None),
    ] {
        subject.next_delivery();
        fake.fail([Fault::status(200, &json!({ "ok": false, "error": error }).to_string())]);
        let report = subject.deliver(&metadata, &payload()).await;
        assert_eq!((report.outcome, report.inactive), (outcome, inactive), "{error}: {}", report.message);
        assert!(report.message.contains(error), "{}", report.message);
    }
    assert!(fake.tables().messages.is_empty());
}

#[tokio::test]
async fn a_channels_limit_holds_up_nobody_else() {
    let (mut subject, fake) = start().await;
    let to = |channel: &str| json!({ "action": "send_message", "id": channel, "template": "Hi" });
    fake.fail([Fault::status(429, r#"{"ok":false,"error":"ratelimited"}"#).with("retry-after", "30")]);
    let limited = subject.deliver(&to("C1"), &payload()).await;
    assert_eq!((limited.outcome, limited.pauses), (Outcome::RateLimited, false));
    subject.another_delivery();
    fake.seen();
    let held = subject.deliver(&to("C1"), &payload()).await;
    assert_eq!((held.outcome, held.pauses), (Outcome::RateLimited, false), "{}", held.message);
    assert!(fake.seen().is_empty(), "nobody was asked");
    assert_eq!(subject.deliver(&to("C2"), &payload()).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn what_does_not_fit_is_said_before_any_call() {
    let (subject, fake) = start().await;
    let long = "x".repeat(12_001);
    for (why, metadata, payload) in [
        ("no channel", json!({ "action": "send_message", "template": "Hi" }), payload()),
        ("no message", json!({ "action": "send_message", "id": "C1" }), payload()),
        ("nothing in it", json!({ "action": "send_message", "id": "C1", "template": "{{gone}}" }), payload()),
        (
            "too long",
            json!({ "action": "send_message", "id": "C1", "template": "{{text}}" }),
            json!({ "text": long }),
        ),
        ("nobody to send to", json!({ "action": "send_dm", "template": "Hi" }), json!({ "id": "7" })),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
    let metadata = json!({ "action": "send_message", "id": "C1", "template": "{{text}}" });
    let report = subject.deliver(&metadata, &json!({ "text": "<&>".repeat(800) })).await;
    assert_eq!(report.outcome, Outcome::Delivered, "in several blocks: {}", report.message);
    assert!(
        fake.tables().messages[0].1["text"].as_str().is_some_and(|text| text.starts_with("&lt;&amp;&gt;"))
    );
}

#[tokio::test]
async fn the_workspace_tells_its_channels() {
    let (subject, fake) = start().await;
    let wait = Duration::from_secs(5);
    let items = subject.prepared().items("channels", subject.http(), wait).await.expect("channels");
    let names: Vec<_> = items.iter().map(|item| (&item.id[..], &item.name[..])).collect();
    assert_eq!(names, [("C1", "#general"), ("C2", "#sales")]);
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().token = "another";
    assert!(subject.probe().await.expect_err("no").contains("invalid_auth"));
}
