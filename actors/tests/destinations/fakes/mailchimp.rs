//! Mailchimp's Marketing API 3.0 and its login host, as far as we use them.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{Response, StatusCode},
    middleware::{Next, from_fn},
    response::IntoResponse,
    routing::{get, post, put},
};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

pub const KEY: &str = "0123456789abcdef-of-mailchimp-us19";
pub const LIST: &str = "aud00001";

/// What the account has.
pub struct Tables {
    pub key: &'static str,
    pub lists: usize,
    /// By audience and hash.
    pub members: BTreeMap<(String, String), Member>,
    pub events: Vec<Value>,
}

#[derive(Clone, Debug, Default)]
pub struct Member {
    pub status: String,
    pub body: Value,
    pub tags: Vec<String>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { key: KEY, lists: 2, members: BTreeMap::new(), events: Vec::new() }
    }
}

type Shared = Arc<Mutex<Tables>>;
type Who = Path<(String, String)>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    let api = Router::new()
        .route("/3.0/ping", get(async || json(200, json!({ "health_status": "Everything's Chimpy!" }))))
        .route("/3.0/lists", get(lists))
        .route("/3.0/lists/{list}/merge-fields", get(merge_fields))
        .route("/3.0/lists/{list}/members/{hash}", put(upsert).patch(update))
        .route("/3.0/lists/{list}/members/{hash}/tags", post(tag))
        .route("/3.0/lists/{list}/members/{hash}/events", post(event))
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)));
    api.route("/oauth2/metadata", get(metadata)).with_state(tables)
}

fn problem(status: u16, title: &str, detail: &str) -> Response<Body> {
    let body = json!({ "type": "https://mailchimp.com/developer/marketing/docs/errors/", "title": title, "status": status, "detail": detail, "instance": "i" });
    json(status, body)
}

fn not_found() -> Response<Body> {
    problem(404, "Resource Not Found", "The requested resource could not be found.")
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let expected = format!("Bearer {}", tables.lock().expect("unpoisoned").key);
    match request.headers().get("authorization").is_some_and(|found| *found == *expected) {
        true => next.run(request).await,
        false => problem(401, "API Key Invalid", "Your API key may be invalid."),
    }
}

/// 200, whatever the token.
async fn metadata(State(tables): State<Shared>, request: Request) -> Response<Body> {
    let expected = format!("OAuth {}", tables.lock().expect("unpoisoned").key);
    match request.headers().get("authorization").is_some_and(|found| *found == *expected) {
        true => json(
            200,
            json!({ "dc": "us6", "user_id": 4_242, "login_url": "https://login.mailchimp.com", "api_endpoint": "https://us6.api.mailchimp.com" }),
        ),
        false => {
            json(200, json!({ "error": "invalid_token", "error_description": "The access token is invalid" }))
        }
    }
}

fn is_hash_of(hash: &str, email: &str) -> bool {
    let digest = Md5::digest(email.to_lowercase());
    hash == digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
}

async fn upsert(
    State(tables): State<Shared>,
    Path((list, hash)): Who,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let email = body["email_address"].as_str().unwrap_or_default();
    if !list.starts_with("aud") {
        return not_found();
    }
    if !email.contains('@') || !is_hash_of(&hash, email) || body["status_if_new"] != "subscribed" {
        return problem(400, "Invalid Resource", "Please provide a valid email address.");
    }
    let skips = query.get("skip_merge_validation").is_some_and(|skips| skips == "true");
    if !skips && body["merge_fields"]["COMPANY"].is_null() {
        return json(
            400,
            json!({ "title": "Invalid Resource", "status": 400, "detail": "Your merge fields were invalid.", "errors": [{ "field": "COMPANY", "message": "Please enter a value" }] }),
        );
    }
    let mut tables = tables.lock().expect("unpoisoned");
    let member = tables.members.entry((list, hash)).or_insert_with(|| Member {
        status: body["status_if_new"].as_str().unwrap_or_default().to_owned(),
        ..Member::default()
    });
    if let Some(status) = body["status"].as_str() {
        member.status = status.to_owned();
    }
    member.body = body.clone();
    json(200, json!({ "id": "x", "email_address": email, "status": member.status }))
}

async fn update(State(tables): State<Shared>, Path(who): Who, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut tables = tables.lock().expect("unpoisoned");
    let Some(member) = tables.members.get_mut(&who) else { return not_found() };
    member.status = body["status"].as_str().unwrap_or_default().to_owned();
    json(200, json!({ "status": member.status }))
}

async fn tag(State(tables): State<Shared>, Path(who): Who, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut tables = tables.lock().expect("unpoisoned");
    let Some(member) = tables.members.get_mut(&who) else { return not_found() };
    for tag in body["tags"].as_array().into_iter().flatten() {
        let name = tag["name"].as_str().unwrap_or_default().to_owned();
        member.tags.retain(|found| *found != name);
        if tag["status"] == "active" {
            member.tags.push(name);
        }
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn event(State(tables): State<Shared>, Path(who): Who, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut tables = tables.lock().expect("unpoisoned");
    if !tables.members.contains_key(&who) {
        return not_found();
    }
    let texts = body["properties"].as_object().is_some_and(|all| all.values().all(Value::is_string));
    if !texts || !(2..=30).contains(&body["name"].as_str().unwrap_or_default().len()) {
        return problem(400, "Invalid Resource", "The resource submitted could not be validated.");
    }
    tables.events.push(body);
    StatusCode::NO_CONTENT.into_response()
}

async fn lists(State(tables): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    let number =
        |key: &str, default: usize| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (count, offset) = (number("count", 10).min(1_000), number("offset", 0));
    let all = 1..=tables.lock().expect("unpoisoned").lists;
    let page = all.skip(offset).take(count);
    let page: Vec<_> =
        page.map(|n| json!({ "id": format!("aud{n:05}"), "name": format!("Audience {n}") })).collect();
    json(200, json!({ "lists": page }))
}

async fn merge_fields(Path(list): Path<String>) -> Response<Body> {
    let field = |tag: &str, name: &str, kind: &str, required: bool, options: Value| json!({ "merge_id": 1, "tag": tag, "name": name, "type": kind, "required": required, "options": options });
    let mut fields = vec![
        field("FNAME", "First Name", "text", false, json!({ "size": 25 })),
        field("ADDRESS", "Address", "address", false, json!({ "default_country": 164 })),
        field("COMPANY", "Company", "text", true, json!({})),
    ];
    if list != LIST {
        fields.push(field("TIER", "Tier", "dropdown", false, json!({ "choices": ["pro", "free"] })));
    }
    json(200, json!({ "merge_fields": fields }))
}
