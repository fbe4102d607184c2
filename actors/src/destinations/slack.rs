//! Slack: messages to channels and people.
//!
//! Web API as <https://docs.slack.dev/reference/methods> has it, by a bot's token, or an incoming webhook's URL
//! (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>). Slack answers 200 to almost
//! everything: what it means is in `ok` and `error`. It has no way to recognise a repeated message.

use super::{
    FieldError, SettingsError,
    limits::Pace,
    live::Item,
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, text_at},
    setup::Setup,
    spec::{ActionSpec, Auth, ClientAuth, Consent, Field, Input, InputKind, Spec},
    template,
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub struct Slack;

const API: &str = "https://slack.com/api";
const HOOKS: &str = "https://hooks.slack.com/";
const TWICE: &str = "The message is there twice: Slack cannot tell a repetition.";

const CHANNEL: Input = Input { required: false, ..Input::pick("channels", "Channel") };
const MESSAGE: Input = Input {
    key: "template",
    field: "template",
    label: "Message",
    required: true,
    kind: InputKind::Text {
        several_lines: true,
        placeholder: Some("New contact: {{first_name}} {{last_name}}"),
    },
};

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "slack",
    name: "Slack",
    auth: Auth::OAuth(2),
    fields: &[
        Field { help: Some("Of an app of your own: OAuth & Permissions, Bot User OAuth Token (xoxb-…). Not needed when the workspace is connected in a browser."), ..Field::secret("access_token", "Bot token") },
        Field { help: Some("Instead of a token: posts to the one channel the webhook was made for."), ..Field::secret("webhook_url", "Incoming webhook URL") },
        Field { help: Some("Filled in by Slack."), ..Field::text("team_id", "Workspace id") },
        Field { help: Some("Filled in by Slack."), ..Field::text("team_name", "Workspace name") },
    ],
    actions: &[
        ActionSpec { key: "send_message", label: "Send message",        noun: "channel", description: "Posts a message to a channel.",                              inputs: &[CHANNEL, MESSAGE], needs: &[],        twice: TWICE },
        ActionSpec { key: "send_dm",      label: "Send direct message", noun: "person",  description: "Sends a message to the person with the mapped e-mail address.", inputs: &[MESSAGE],          needs: &["email"], twice: TWICE },
    ],
    consent: Some(&Consent {
        authorize: "https://slack.com/oauth/v2/authorize",
        token: "https://slack.com/api/oauth.v2.access",
        login: None,
        scopes: &["chat:write", "chat:write.public", "channels:read", "groups:read", "users:read", "users:read.email"],
        separator: ',',
        client: ClientAuth::Basic,
        pkce: false,
        params: &[],
    }),
};

/// Of a workspace; listing has fifty a minute.
const PACE: Pace = Pace::of(50, Duration::from_secs(60), 8);
/// Of a channel: about one message a second, one after the other.
const CHANNEL_PACE: Pace = Pace { every: Duration::from_secs(1), burst: 3, in_flight: 1 };
/// Of all that is posted to a workspace.
const POST_PACE: Pace = Pace::of(100, Duration::from_secs(10), 16);
const REST: Duration = Duration::from_secs(30);
/// Characters of a block of text, and of all blocks of a message.
const SECTION_CHARS_MAX: usize = 3_000;
const MESSAGE_CHARS_MAX: usize = 12_000;
/// Characters of the text that notifications show.
const NOTIFICATION_CHARS_MAX: usize = 4_000;
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 50;

#[async_trait]
impl Service for Slack {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn check_settings(&self, settings: &Map<String, Value>) -> Vec<FieldError> {
        let url = settings.get("webhook_url").and_then(Value::as_str);
        let is_hook = url.is_none_or(|url| url.starts_with(HOOKS) && url.len() > HOOKS.len());
        let wrong = (!is_hook).then(|| FieldError::new("webhook_url", format!("must begin with {HOOKS}")));
        wrong.into_iter().collect()
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let hook = setup.text("webhook_url");
        let (base, entry, name) = match hook {
            Some(url) => (url, Entry::Open, url),
            None => (API, Entry::bearer(setup, "access_token")?, setup.text("team_id").unwrap_or("team")),
        };
        // Whose workspace a pasted token is of is not known: its end tells tokens apart.
        let token = setup.text("access_token").unwrap_or_default();
        let tail = token.char_indices().rev().nth(7).map_or(token, |(at, _)| &token[at..]);
        let name = if name == "team" { format!("token/{tail}") } else { name.to_owned() };
        let pace = if hook.is_some() { CHANNEL_PACE } else { POST_PACE };
        Ok(Account { base: base.to_owned(), entry, headers: Vec::new(), name, pace, rest: REST })
    }

    /// A bot has to be told where to; a webhook posts to one channel, and to nobody.
    fn check_inputs(&self, settings: &Map<String, Value>, metadata: &Map<String, Value>) -> Vec<FieldError> {
        let is_hook = settings.contains_key("webhook_url");
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        match (is_hook, text("action")) {
            (true, "send_dm") => {
                vec![FieldError::new("action", "needs a bot's token: a webhook writes to nobody")]
            }
            (false, "send_message") if text("id").is_empty() => {
                vec![FieldError::new("id", "is required: the channel")]
            }
            _ => Vec::new(),
        }
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let error = answer.text("/error").unwrap_or_default();
        match answer.status {
            200 if answer.json.get("ok") == Some(&Value::Bool(true)) => Verdict::Fine,
            200 if answer.json.get("ok") == Some(&Value::Bool(false)) => verdict_of(&error),
            // An incoming webhook's.
            200 if answer.body == b"ok" => Verdict::Fine,
            200 => Verdict::Unwell,
            403 | 410 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            404 if answer.says("channel_not_found") => Verdict::Refused,
            404 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            429 => Verdict::Slower { wait: None, over: Over::Part },
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        if api.base().starts_with(API) {
            return api.post("/auth.test").send().await.map(drop);
        }
        // A webhook has nothing to ask: what it refuses, it refuses before it posts.
        let asked = api.post("").json(&json!({})).fine(&[400]).send().await?;
        let is_there = asked.status == 400 && (asked.says("no_text") || asked.says("invalid_payload"));
        if is_there {
            Ok(())
        } else {
            Err(Stop::refused("the incoming webhook does not answer as Slack's do"))
        }
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let text = template::filled(work.input("template")?, work.payload, escaped);
        template::fits("message", &text, MESSAGE_CHARS_MAX).map_err(Stop::mapping)?;
        if text.trim().is_empty() {
            return Err(Stop::mapping(
                "the message is empty: its places are filled from the payload, edit the rule",
            ));
        }
        if work.action == "send_dm" {
            let email = work.required("email")?;
            let person = api.get("/users.lookupByEmail").query("email", email).send().await?;
            let id =
                person.text("/user/id").ok_or_else(|| Stop::odd("slack answered without the person's id"))?;
            return post(api, &id, &text, work).await;
        }
        match api.base().starts_with(API) {
            true => post(api, work.input("id")?, &text, work).await,
            false => api.post("").json(&message(&text)).once().send().await.map(drop),
        }
    }

    async fn items(&self, api: &Api<'_>, _: &str) -> Result<Vec<Item>, Stop> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        if !api.base().starts_with(API) {
            return Ok(items); // the webhook's own channel, and no other
        }
        for _ in 0..PAGES_MAX {
            let call = api.get("/conversations.list").query("types", "public_channel,private_channel");
            let call = call.query("exclude_archived", "true").query("limit", "200").part("list", PACE);
            let answer = match cursor.is_empty() {
                true => call.send().await?,
                false => call.query("cursor", cursor).send().await?,
            };
            let item = |channel: &Value| {
                let name = format!("#{}", text_at(channel, "/name")?);
                Some(Item { id: text_at(channel, "/id")?, name, options: Vec::new() })
            };
            items.extend(answer.list("/channels").iter().filter_map(item));
            cursor = answer.text("/response_metadata/next_cursor").unwrap_or_default();
            if cursor.is_empty() {
                break;
            }
        }
        Ok(items)
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let constraints = Constraints { format: Some(Format::Email), ..Constraints::default() };
        vec![CatalogField {
            key: "email".to_owned(),
            label: Some("E-mail".to_owned()),
            kind: CatalogFieldKind::String,
            description: Some("Whom a direct message is for.".to_owned()),
            constraints: Some(constraints),
        }]
    }

    fn told(&self, token_answer: &Value) -> Map<String, Value> {
        let places = [("team_id", "/team/id"), ("team_name", "/team/name")];
        let told = places
            .iter()
            .filter_map(|(key, place)| Some(((*key).to_owned(), text_at(token_answer, place)?.into())));
        told.collect()
    }
}

/// What `error` means, beside an `ok` of false.
fn verdict_of(error: &str) -> Verdict {
    match error {
        "token_expired" => Verdict::Expired,
        "invalid_auth" | "not_authed" => Verdict::Locked(InactiveReason::AuthenticationInvalid),
        "account_inactive" | "token_revoked" => Verdict::Locked(InactiveReason::OauthAuthorizationRevoked),
        "team_access_not_granted"
        | "org_login_required"
        | "two_factor_setup_required"
        | "missing_scope"
        | "no_permission"
        | "not_allowed_token_type"
        | "ekm_access_denied"
        | "access_denied" => Verdict::Locked(InactiveReason::OauthReauthorizationRequired),
        error if error.starts_with("restricted_action") => {
            Verdict::Locked(InactiveReason::OauthReauthorizationRequired)
        }
        "rate_limited" | "ratelimited" | "message_limit_exceeded" => {
            Verdict::Slower { wait: None, over: Over::Part }
        }
        "fatal_error"
        | "internal_error"
        | "request_timeout"
        | "service_unavailable"
        | "team_added_to_org" => Verdict::Unwell,
        _ => Verdict::Refused,
    }
}

async fn post(api: &Api<'_>, channel: &str, text: &str, work: &Work<'_>) -> Result<(), Stop> {
    let mut body = message(text);
    body["channel"] = channel.into();
    // Who wants to can find a message that came twice.
    let id = work.out.delivery_id.to_string();
    body["metadata"] = json!({ "event_type": "delivery", "event_payload": { "id": id } });
    let call =
        api.post("/chat.postMessage").json(&body).header("content-type", "application/json; charset=utf-8");
    call.part(format!("channel/{channel}"), CHANNEL_PACE).once().send().await.map(drop)
}

fn message(text: &str) -> Value {
    let chars: Vec<char> = text.chars().collect();
    let section = |chars: &[char]| json!({ "type": "section", "text": { "type": "mrkdwn", "text": chars.iter().collect::<String>() } });
    let blocks: Vec<Value> = chars.chunks(SECTION_CHARS_MAX).map(section).collect();
    let notification: String = chars.iter().take(NOTIFICATION_CHARS_MAX).collect();
    json!({ "text": notification, "blocks": blocks, "unfurl_links": false, "unfurl_media": false })
}

/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
