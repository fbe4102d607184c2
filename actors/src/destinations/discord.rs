//! Discord: messages to the channels of a server.
//!
//! API v10 (<https://docs.discord.com/developers/reference>) by the operator's bot, or an incoming webhook's URL. A
//! nonce of the delivery's keeps a quick repetition from being posted twice.

use super::{
    FieldError, SettingsError,
    limits::Pace,
    live::Item,
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, text_at},
    setup::Setup,
    spec::{ActionSpec, Auth, ClientAuth, Consent, Field, Input, InputKind, Spec},
    template,
};
use crate::domain::connection::InactiveReason;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub struct Discord;

const API: &str = "https://discord.com/api/v10";
const HOOKS: [&str; 2] = ["https://discord.com/api/webhooks/", "https://discordapp.com/api/webhooks/"];
/// The form that Discord requires.
const USER_AGENT: &str = concat!("DiscordBot (weft, ", env!("CARGO_PKG_VERSION"), ")");

const TITLE_CHARS_MAX: usize = 256;
const MESSAGE_CHARS_MAX: usize = 4_096;
const NONCE_CHARS_MAX: usize = 25;
/// View channel, send messages, embed links.
const PERMISSIONS: &str = "19456";

const CHANNEL: Input = Input { required: false, ..Input::pick("channels", "Channel") };
const TITLE: Input = Input {
    key: "title",
    field: "title",
    label: "Title",
    required: false,
    kind: InputKind::Text { several_lines: false, placeholder: Some("New contact") },
};
const MESSAGE: Input = Input {
    key: "template",
    field: "template",
    label: "Message",
    required: true,
    kind: InputKind::Text {
        several_lines: true,
        placeholder: Some("{{first_name}} {{last_name}} ({{tier}})"),
    },
};

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "discord",
    name: "Discord",
    auth: Auth::OAuth(2),
    fields: &[
        Field { help: Some("Instead of a bot: Server settings, Integrations, Webhooks, Copy webhook URL."), ..Field::secret("webhook_url", "Webhook URL") },
        Field { help: Some("The token of a bot of your own that is on the server already."), ..Field::secret("bot_token", "Bot token") },
        Field { help: Some("Filled in by Discord when the server is connected in a browser."), ..Field::text("guild_id", "Server id") },
        Field { help: Some("Filled in by Discord."), ..Field::text("guild_name", "Server name") },
    ],
    actions: &[
        ActionSpec { key: "send_message", label: "Send message", noun: "channel", description: "Posts a message with a title to a channel.", inputs: &[CHANNEL, TITLE, MESSAGE], needs: &[], twice: "Within minutes Discord recognises the repetition and posts nothing; later the message is there twice." },
    ],
    consent: Some(&Consent {
        authorize: "https://discord.com/oauth2/authorize",
        token: "https://discord.com/api/oauth2/token",
        login: None,
        scopes: &["bot", "identify"],
        separator: ' ',
        client: ClientAuth::Basic,
        pkce: false,
        params: &[("permissions", PERMISSIONS)],
    }),
};

/// Of a bot, with all its servers.
const BOT_PACE: Pace = Pace::of(40, Duration::from_secs(1), 16);
/// Of a channel: one after the other, which keeps their order too.
const CHANNEL_PACE: Pace = Pace::of(5, Duration::from_secs(5), 1);
const REST: Duration = Duration::from_secs(5);

#[async_trait]
impl Service for Discord {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn check_settings(&self, settings: &Map<String, Value>) -> Vec<FieldError> {
        let text = |key: &str| settings.get(key).and_then(Value::as_str).unwrap_or_default();
        let url = text("webhook_url");
        let is_hook =
            url.is_empty() || HOOKS.iter().any(|hooks| url.starts_with(hooks) && url.len() > hooks.len());
        let mut errors = Vec::new();
        if !is_hook {
            errors.push(FieldError::new("webhook_url", format!("must begin with {}", HOOKS[0])));
        }
        if !text("guild_id").bytes().all(|b| b.is_ascii_digit()) {
            errors.push(FieldError::new("guild_id", "must be digits alone"));
        }
        if !text("bot_token").is_empty() && text("guild_id").is_empty() {
            errors.push(FieldError::new("guild_id", "is required beside bot_token"));
        }
        errors
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let headers = vec![("user-agent", USER_AGENT.to_owned())];
        if let Some(url) = setup.text("webhook_url") {
            let (base, name) = (url.to_owned(), url.to_owned());
            return Ok(Account { base, entry: Entry::Open, headers, name, pace: CHANNEL_PACE, rest: REST });
        }
        let own = setup.text("bot_token").map(crate::domain::secret::Secret::new);
        let (token, name) = match own {
            Some(token) => (token, format!("guild/{}", setup.text("guild_id").unwrap_or_default())),
            None => {
                let app = setup.operator.apps.get(SPEC.kind).and_then(|app| app.bot_token.clone());
                let msg = "is missing: give the operator's in the server's configuration (oauth.discord.bot_token), or use a webhook URL";
                let none = || SettingsError { param: "bot_token".to_owned(), msg: msg.to_owned() };
                // All servers of one bot share its budget.
                (app.ok_or_else(none)?, "bot".to_owned())
            }
        };
        let entry = Entry::Token("Bot", token);
        Ok(Account { base: API.to_owned(), entry, headers, name, pace: BOT_PACE, rest: REST })
    }

    /// A bot has to be told where to; a webhook posts to its own channel.
    fn check_inputs(&self, settings: &Map<String, Value>, metadata: &Map<String, Value>) -> Vec<FieldError> {
        let has_channel = metadata.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
        let lacks = !settings.contains_key("webhook_url") && !has_channel;
        lacks.then(|| FieldError::new("id", "is required: the channel")).into_iter().collect()
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let code = answer.json.pointer("/code").and_then(Value::as_u64).unwrap_or_default();
        let wait = answer.json.pointer("/retry_after").and_then(Value::as_f64);
        let wait = wait.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match (answer.status, code) {
            (429, _) | (_, 20016 | 20028 | 20029 | 40062) => {
                let is_global = answer.json.pointer("/global") == Some(&Value::Bool(true));
                Verdict::Slower { wait, over: if is_global { Over::Account } else { Over::Part } }
            }
            (_, 40004 | 40006 | 130_000) => Verdict::Unwell,
            (401, _) => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            // Cloudflare's, about our own headers.
            (403, 40333) => Verdict::Refused,
            (403, 50001 | 50013) => Verdict::Locked(InactiveReason::OauthReauthorizationRequired),
            (403, 200_000 | 240_000) => Verdict::Refused,
            (403, _) => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            (404, 10004 | 10015) => Verdict::Locked(InactiveReason::OauthAuthorizationRevoked),
            (status, _) => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        match api.base() == API {
            true => api.get("/users/@me").send().await.map(drop),
            false => api.get("").send().await.map(drop),
        }
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let text = template::filled(work.input("template")?, work.payload, template::plain);
        let title =
            template::filled(work.input_if_any("title").unwrap_or_default(), work.payload, template::plain);
        template::fits("template", &text, MESSAGE_CHARS_MAX).map_err(Stop::mapping)?;
        template::fits("title", &title, TITLE_CHARS_MAX).map_err(Stop::mapping)?;
        if text.trim().is_empty() {
            return Err(Stop::mapping(
                "the message is empty: its places are filled from the payload, edit the rule",
            ));
        }
        let mut embed = json!({ "description": text, "timestamp": work.out.event.accepted_at.to_string() });
        if !title.trim().is_empty() {
            embed["title"] = title.into();
        }
        let mut body = json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } });
        if api.base() != API {
            let call = api.post("").query("wait", "true").json(&body);
            return call.once().send().await.map(drop);
        }
        let channel = work.input("id")?;
        if !channel.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Stop::mapping("the rule's channel is no Discord channel: edit the rule"));
        }
        let nonce: String = api.token().chars().filter(|c| *c != '-').collect();
        body["nonce"] = nonce[nonce.len().saturating_sub(NONCE_CHARS_MAX)..].into();
        body["enforce_nonce"] = true.into();
        let call = api.post(format!("/channels/{channel}/messages")).json(&body);
        call.part(format!("channel/{channel}"), CHANNEL_PACE).once().send().await.map(drop)
    }

    async fn items(&self, api: &Api<'_>, _: &str) -> Result<Vec<Item>, Stop> {
        let Some(guild) = api.setting("guild_id").filter(|_| api.base() == API) else {
            return Ok(Vec::new()); // the webhook's own channel, and no other
        };
        let answer = api.get(format!("/guilds/{guild}/channels")).send().await?;
        let is_ours =
            |channel: &&Value| matches!(channel.pointer("/type").and_then(Value::as_u64), Some(0 | 5));
        let item = |channel: &Value| {
            let name = format!("#{}", text_at(channel, "/name")?);
            Some(Item { id: text_at(channel, "/id")?, name, options: Vec::new() })
        };
        Ok(answer.list("").iter().filter(is_ours).filter_map(item).collect())
    }

    fn told(&self, token_answer: &Value) -> Map<String, Value> {
        let places = [("guild_id", "/guild/id"), ("guild_name", "/guild/name")];
        let told = places
            .iter()
            .filter_map(|(key, place)| Some(((*key).to_owned(), text_at(token_answer, place)?.into())));
        told.collect()
    }
}
