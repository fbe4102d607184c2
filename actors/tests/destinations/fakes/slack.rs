//! Slack's Web API and incoming webhooks, as far as we use them.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

pub const TOKEN: &str = "xoxb-of-a-bot-12345678";

/// What the workspace has.
pub struct Tables {
    pub token: &'static str,
    /// Channel and body.
    pub messages: Vec<(String, Value)>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { token: TOKEN, messages: Vec::new() }
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    Router::new()
        .route("/api/auth.test", post(test))
        .route("/api/chat.postMessage", post(send))
        .route("/api/users.lookupByEmail", get(lookup))
        .route("/api/conversations.list", get(channels))
        .route("/services/T1/B1/hook", post(hook))
        .with_state(tables)
}

/// 200, whatever it is.
fn no(error: &str) -> Response<Body> {
    json(200, json!({ "ok": false, "error": error }))
}

fn is_let_in(tables: &Shared, headers: &HeaderMap) -> bool {
    let expected = format!("Bearer {}", tables.lock().expect("unpoisoned").token);
    headers.get("authorization").is_some_and(|found| found == &expected)
}

async fn test(State(tables): State<Shared>, headers: HeaderMap) -> Response<Body> {
    if !is_let_in(&tables, &headers) {
        return no("invalid_auth");
    }
    json(200, json!({ "ok": true, "team": "Acme", "team_id": "T1", "user_id": "U1", "bot_id": "B1" }))
}

async fn send(State(tables): State<Shared>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    if !is_let_in(&tables, &headers) {
        return no("invalid_auth");
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let channel = body["channel"].as_str().unwrap_or_default().to_owned();
    if !channel.starts_with(['C', 'U']) {
        return no("channel_not_found");
    }
    let blocks = body["blocks"].as_array().map_or(&[][..], Vec::as_slice);
    if blocks
        .iter()
        .any(|block| block["text"]["text"].as_str().is_none_or(|text| text.chars().count() > 3_000))
    {
        return no("invalid_blocks");
    }
    tables.lock().expect("unpoisoned").messages.push((channel.clone(), body));
    json(200, json!({ "ok": true, "channel": channel, "ts": "1503435956.000247", "message": {} }))
}

async fn lookup(
    State(tables): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response<Body> {
    match query.get("email").map(String::as_str) {
        _ if !is_let_in(&tables, &headers) => no("invalid_auth"),
        Some("ada@example.com") => json(200, json!({ "ok": true, "user": { "id": "U7" } })),
        _ => no("users_not_found"),
    }
}

/// Two pages.
async fn channels(
    State(tables): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response<Body> {
    if !is_let_in(&tables, &headers) {
        return no("invalid_auth");
    }
    let (channels, next) = match query.get("cursor").map(String::as_str) {
        None => (json!([{ "id": "C1", "name": "general" }]), "dGVhbTpDMQ=="),
        Some("dGVhbTpDMQ==") => (json!([{ "id": "C2", "name": "sales" }]), ""),
        Some(_) => return no("invalid_cursor"),
    };
    json(200, json!({ "ok": true, "channels": channels, "response_metadata": { "next_cursor": next } }))
}

/// Plain text, and statuses.
async fn hook(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, text) = match body["text"].as_str() {
        None => (400, "no_text"),
        Some(_) => {
            tables.lock().expect("unpoisoned").messages.push(("hook".to_owned(), body));
            (200, "ok")
        }
    };
    Response::builder().status(status).body(Body::from(text)).expect("an answer")
}
