//! Customer.io's Pipelines API, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, Uri},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

pub const KEY: &str = "a1b2c3d4e5-of-customer-io";

/// What the workspace has.
pub struct Tables {
    pub key: &'static str,
    /// Traits, by user or anonymous id.
    pub people: BTreeMap<String, Value>,
    /// Events and groups, by message id: a repetition is recognised.
    pub messages: BTreeMap<String, Value>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { key: KEY, people: BTreeMap::new(), messages: BTreeMap::new() }
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    Router::new()
        .route("/v1/identify", post(take))
        .route("/v1/track", post(take))
        .route("/v1/group", post(take))
        .with_state(tables)
}

/// 200 to everything, unless strict mode is asked for.
async fn take(State(tables): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let is_strict = headers.get("x-strict-mode").is_some_and(|mode| mode == "1");
    match refusal(&tables, uri.path(), &headers, &body) {
        Some(refused) if is_strict => refused,
        _ => json(200, json!({})),
    }
}

/// What is wrong with it; none: it is kept.
fn refusal(tables: &Shared, path: &str, headers: &HeaderMap, body: &Bytes) -> Option<Response<Body>> {
    let mut tables = tables.lock().expect("unpoisoned");
    let expected = format!("Basic {}", STANDARD.encode(format!("{}:", tables.key)));
    if headers.get("authorization").is_none_or(|found| *found != *expected) {
        let why = json!({ "errors": [{ "detail": "Invalid write key", "status": "401" }] });
        return Some(json(401, why));
    }
    if body.len() > 32 * 1_024 {
        return None; // and it is lost
    }
    let refused = |field: &str, reason: &str| {
        json(400, json!({ "errors": [{ "reason": "required", "field": field, "message": reason }] }))
    };
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| body[key].as_str().filter(|text| !text.is_empty());
    let Some(who) = text("userId").or_else(|| text("anonymousId")) else {
        return Some(refused("userId", "userId or anonymousId must be there"));
    };
    if path.ends_with("identify") {
        tables.people.insert(who.to_owned(), body["traits"].clone());
        return None;
    }
    let (is_track, id) = (path.ends_with("track"), text("messageId").unwrap_or_default());
    if is_track && (text("event").is_none() || text("type") != Some("track")) {
        return Some(refused("event", "event must be there"));
    }
    if !is_track && text("groupId").is_none() {
        return Some(refused("groupId", "groupId must be there"));
    }
    tables.messages.insert(id.to_owned(), body.clone());
    None
}
