//! Discord.

use crate::{
    fakes::{
        Fake, Fault,
        discord::{GUILD, TOKEN, Tables, routes},
    },
    suite::{self, Case, Subject, payload},
};
use actors::domain::{connection::InactiveReason, delivery::Outcome};
use serde_json::{Value, json};
use std::time::Duration;

const HOOK: &str = "https://discord.com/api/webhooks/77/hook-token";

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let subject = Subject::new("discord", json!({ "bot_token": TOKEN, "guild_id": GUILD }));
    (subject.at("discord.com", &fake), fake)
}

fn metadata(channel: &str) -> Value {
    json!({ "action": "send_message", "id": channel, "title": "New: {{source}}", "template": "{{first_name}} <{{email}}> @everyone" })
}

fn case<'c>(metadata: Value, is_done: &'c (dyn Fn(&Tables) -> bool + Sync)) -> Case<'c, Tables> {
    Case {
        metadata,
        payload: payload(),
        is_done,
        calls: 1,
        is_repeatable: false,
        refused: (
            Fault::status(404, r#"{"message":"Unknown Channel","code":10003}"#),
            "10003: Unknown Channel",
        ),
        slower: (
            Fault::status(
                429,
                r#"{"message":"You are being rate limited.","retry_after":64.57,"global":false}"#,
            ),
            Duration::from_millis(64_570),
        ),
        locked: (
            Fault::status(403, r#"{"message":"Missing Permissions","code":50013}"#),
            InactiveReason::OauthReauthorizationRequired,
        ),
    }
}

#[tokio::test]
async fn a_message_is_posted_and_pings_nobody() {
    let (mut subject, fake) = start().await;
    let is_done = |tables: &Tables| {
        let is_right = |(channel, body): &(String, Value)| {
            channel == "11"
                && body["embeds"][0]["title"] == "New: signup"
                && body["embeds"][0]["description"] == "Ada <ada@example.com> @everyone"
        };
        !tables.messages.is_empty() && tables.messages.iter().all(is_right)
    };
    suite::ask("discord_send_message", &mut subject, &fake, &[TOKEN], case(metadata("11"), &is_done)).await;
}

#[tokio::test]
async fn a_quick_repetition_is_posted_once() {
    let (mut subject, fake) = start().await;
    subject.timeout = Duration::from_millis(600);
    fake.fail([Fault::Lost]);
    let lost = subject.deliver(&metadata("11"), &payload()).await;
    assert_eq!(lost.outcome, Outcome::Timeout);
    subject.timeout = Duration::from_secs(5);
    assert_eq!(subject.deliver(&metadata("11"), &payload()).await.outcome, Outcome::Delivered);
    assert_eq!(fake.tables().messages.len(), 1, "the nonce is the delivery's");
}

#[tokio::test]
async fn a_webhook_posts_to_its_own_channel() {
    let fake = Fake::start(routes).await;
    let mut subject = Subject::new("discord", json!({ "webhook_url": HOOK })).at("discord.com", &fake);
    let is_done = |tables: &Tables| tables.messages.iter().all(|(_, body)| body.get("nonce").is_none());
    let case = Case {
        locked: (
            Fault::status(404, r#"{"message":"Unknown Webhook","code":10015}"#),
            InactiveReason::OauthAuthorizationRevoked,
        ),
        ..case(json!({ "action": "send_message", "template": "{{first_name}}" }), &is_done)
    };
    suite::ask("discord_webhook", &mut subject, &fake, &["api/webhooks/77/hook-token"], case).await;
    assert_eq!(subject.probe().await, Ok(()));
    let gone = Subject::new("discord", json!({ "webhook_url": format!("{HOOK}x") })).at("discord.com", &fake);
    assert!(gone.probe().await.expect_err("404").contains("Unknown Webhook"));
}

#[tokio::test]
async fn a_global_limit_holds_the_bot_and_another_its_channel() {
    for (is_global, pauses) in [(true, true), (false, false)] {
        let (mut subject, fake) = start().await;
        let body =
            json!({ "message": "You are being rate limited.", "retry_after": 5.5, "global": is_global });
        fake.fail([Fault::status(429, &body.to_string())]);
        let limited = subject.deliver(&metadata("11"), &payload()).await;
        assert_eq!((limited.outcome, limited.pauses), (Outcome::RateLimited, pauses));
        subject.another_delivery();
        let other = subject.deliver(&metadata("13"), &payload()).await;
        let expected = if is_global { Outcome::RateLimited } else { Outcome::Delivered };
        assert_eq!(other.outcome, expected, "{is_global}: {}", other.message);
    }
}

#[tokio::test]
async fn settings_and_inputs_are_judged_before_any_call() {
    let fake = Fake::start(routes).await;
    for (settings, param) in [
        (json!({ "webhook_url": "https://example.com/api/webhooks/1/2" }), "webhook_url"),
        (json!({ "bot_token": TOKEN }), "guild_id"),
        (json!({ "bot_token": TOKEN, "guild_id": "x" }), "guild_id"),
    ] {
        let errors = Subject::new("discord", settings).at("discord.com", &fake).checked().expect_err("wrong");
        assert_eq!(errors[0].param, param);
    }
    let (subject, fake) = start().await;
    for (why, metadata, payload) in [
        ("no channel", json!({ "action": "send_message", "template": "Hi" }), payload()),
        (
            "no Discord channel",
            json!({ "action": "send_message", "id": "../users/@me", "template": "Hi" }),
            payload(),
        ),
        ("nothing in it", json!({ "action": "send_message", "id": "11", "template": "{{gone}}" }), payload()),
        (
            "too long",
            json!({ "action": "send_message", "id": "11", "template": "{{t}}" }),
            json!({ "t": "x".repeat(4_097) }),
        ),
        (
            "a long title",
            json!({ "action": "send_message", "id": "11", "title": "{{t}}", "template": "Hi" }),
            json!({ "t": "x".repeat(257) }),
        ),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_server_tells_its_text_channels() {
    let (subject, fake) = start().await;
    let items =
        subject.prepared().items("channels", subject.http(), Duration::from_secs(5)).await.expect("channels");
    let names: Vec<_> = items.iter().map(|item| (&item.id[..], &item.name[..])).collect();
    assert_eq!(names, [("11", "#general"), ("13", "#news")]);
    assert_eq!(subject.probe().await, Ok(()));
    fake.tables().token = "another";
    assert!(subject.probe().await.expect_err("401").contains("401: Unauthorized"));
}
