//! Discord's API v10 and its webhooks, as far as we use them.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

pub const TOKEN: &str = "MTk4.of-a-discord-bot";
pub const GUILD: &str = "290926792226357250";

/// What the server has.
pub struct Tables {
    pub token: &'static str,
    /// Channel and body.
    pub messages: Vec<(String, Value)>,
    /// Answers by nonce.
    nonces: HashMap<String, Value>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { token: TOKEN, messages: Vec::new(), nonces: HashMap::new() }
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    Router::new()
        .route("/api/v10/users/@me", get(me))
        .route("/api/v10/guilds/{guild}/channels", get(channels))
        .route("/api/v10/channels/{channel}/messages", post(send))
        .route("/api/webhooks/{id}/{token}", get(hook).post(send_by_hook))
        .with_state(tables)
}

/// Wrong tokens, and requests that do not say who they are.
fn refused(tables: &Shared, headers: &HeaderMap) -> Option<Response<Body>> {
    let agent = headers.get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if !agent.starts_with("DiscordBot (") {
        return Some(json(403, json!({ "message": "internal network error", "code": 40333 })));
    }
    let expected = format!("Bot {}", tables.lock().expect("unpoisoned").token);
    let is_right = headers.get("authorization").is_some_and(|found| found == &expected);
    (!is_right).then(|| json(401, json!({ "message": "401: Unauthorized", "code": 0 })))
}

async fn me(State(tables): State<Shared>, headers: HeaderMap) -> Response<Body> {
    refused(&tables, &headers).unwrap_or_else(|| json(200, json!({ "id": "1", "username": "weft" })))
}

async fn channels(
    State(tables): State<Shared>,
    headers: HeaderMap,
    Path(guild): Path<String>,
) -> Response<Body> {
    let channel = |id: &str, name: &str, kind: u8| json!({ "id": id, "name": name, "type": kind });
    match refused(&tables, &headers) {
        Some(refused) => refused,
        None if guild != GUILD => json(404, json!({ "message": "Unknown Guild", "code": 10004 })),
        None => json(
            200,
            json!([channel("11", "general", 0), channel("12", "Voice", 2), channel("13", "news", 5)]),
        ),
    }
}

fn is_fine(body: &Value) -> bool {
    let embed = &body["embeds"][0];
    let fits = |text: &Value, most: usize| text.as_str().is_none_or(|text| text.chars().count() <= most);
    embed["description"].is_string()
        && fits(&embed["description"], 4_096)
        && fits(&embed["title"], 256)
        && fits(&body["nonce"], 25)
        && body["allowed_mentions"]["parse"] == json!([])
}

async fn send(
    State(tables): State<Shared>,
    headers: HeaderMap,
    Path(channel): Path<String>,
    body: Bytes,
) -> Response<Body> {
    if let Some(refused) = refused(&tables, &headers) {
        return refused;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !is_fine(&body) {
        return json(400, json!({ "message": "Invalid Form Body", "code": 50035 }));
    }
    let mut tables = tables.lock().expect("unpoisoned");
    let nonce = body["nonce"].as_str().unwrap_or_default().to_owned();
    if let Some(before) = tables.nonces.get(&nonce) {
        return json(200, before.clone());
    }
    let message = json!({ "id": tables.messages.len().to_string(), "channel_id": channel });
    tables.nonces.insert(nonce, message.clone());
    tables.messages.push((channel, body));
    json(200, message)
}

async fn hook(Path((id, token)): Path<(String, String)>) -> Response<Body> {
    match &token[..] {
        "hook-token" => json(200, json!({ "id": id, "type": 1, "channel_id": "11", "guild_id": GUILD })),
        _ => json(404, json!({ "message": "Unknown Webhook", "code": 10015 })),
    }
}

async fn send_by_hook(
    State(tables): State<Shared>,
    Path((_, token)): Path<(String, String)>,
    body: Bytes,
) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if token != "hook-token" {
        return json(404, json!({ "message": "Unknown Webhook", "code": 10015 }));
    }
    if !is_fine(&body) {
        return json(400, json!({ "message": "Invalid Form Body", "code": 50035 }));
    }
    tables.lock().expect("unpoisoned").messages.push(("hook".to_owned(), body));
    json(200, json!({ "id": "1" }))
}
