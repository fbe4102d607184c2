//! MailerLite's API of the newer platform, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{Response, StatusCode},
    middleware::{Next, from_fn},
    response::IntoResponse,
    routing::{delete, get, post},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

pub const KEY: &str = "eyJ0eXAiOiJKV1Qi.of.mailerlite";

/// What the account has.
pub struct Tables {
    pub key: &'static str,
    pub subscribers: BTreeMap<String, Subscriber>,
    pub groups: usize,
    /// Whether pages say which is the last one.
    pub tells_last_page: bool,
    next: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Subscriber {
    /// Beyond 2^53.
    pub id: String,
    pub status: String,
    pub fields: Value,
    pub body: Value,
    pub groups: BTreeSet<String>,
}

impl Default for Tables {
    fn default() -> Self {
        let (key, subscribers) = (KEY, BTreeMap::new());
        Self { key, subscribers, groups: 3, tells_last_page: true, next: 31_986_843_064_993_537 }
    }
}

type Shared = Arc<Mutex<Tables>>;
type Asked = Query<HashMap<String, String>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    Router::new()
        .route("/api/groups", get(groups))
        .route("/api/fields", get(fields))
        .route("/api/subscribers", post(upsert))
        .route("/api/subscribers/{email}", get(find))
        .route("/api/subscribers/{id}/groups/{group}", delete(leave))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let expected = format!("Bearer {}", tables.lock().expect("unpoisoned").key);
    let (is_in, is_json) = {
        let is = |name: &str, value: &str| request.headers().get(name).is_some_and(|found| *found == *value);
        let is_json = is("accept", "application/json") && is("content-type", "application/json");
        (is("authorization", &expected), is_json)
    };
    match (is_in, is_json) {
        (false, _) => json(401, json!({ "message": "Unauthenticated." })),
        (true, false) => json(400, json!({ "message": "Both headers are required." })),
        (true, true) => next.run(request).await,
    }
}

fn not_found() -> Response<Body> {
    json(404, json!({ "message": "Resource not found." }))
}

async fn upsert(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(email) = body["email"].as_str().filter(|email| email.contains('@')) else {
        let why = "The email must be a valid email address.";
        return json(422, json!({ "message": why, "errors": { "email": [why] } }));
    };
    let mut tables = tables.lock().expect("unpoisoned");
    let groups: Vec<_> = body["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect();
    if groups.iter().any(|id| !id.parse::<usize>().is_ok_and(|id| id <= tables.groups)) {
        let why = "The selected groups.0 is invalid.";
        return json(422, json!({ "message": why, "errors": { "groups.0": [why] } }));
    }
    let is_new = !tables.subscribers.contains_key(email);
    tables.next += 1;
    let new =
        Subscriber { id: tables.next.to_string(), status: "active".to_owned(), ..Subscriber::default() };
    let subscriber = tables.subscribers.entry(email.to_owned()).or_insert(new);
    if let Some(status) = body["status"].as_str() {
        subscriber.status = status.to_owned();
    }
    subscriber.groups.extend(groups);
    subscriber.fields = body["fields"].clone();
    subscriber.body = body.clone();
    let data = json!({ "id": subscriber.id, "email": email, "status": subscriber.status, "fields": subscriber.fields });
    json(if is_new { 201 } else { 200 }, json!({ "data": data }))
}

async fn find(State(tables): State<Shared>, Path(email): Path<String>) -> Response<Body> {
    match tables.lock().expect("unpoisoned").subscribers.get(&email) {
        Some(found) => json(200, json!({ "data": { "id": found.id, "email": email } })),
        None => not_found(),
    }
}

async fn leave(State(tables): State<Shared>, Path((id, group)): Path<(String, String)>) -> Response<Body> {
    let mut tables = tables.lock().expect("unpoisoned");
    let found = tables.subscribers.values_mut().find(|subscriber| subscriber.id == id);
    match found.is_some_and(|subscriber| subscriber.groups.remove(&group)) {
        true => StatusCode::NO_CONTENT.into_response(),
        false => not_found(),
    }
}

/// At most 100 a page.
fn page(all: Vec<Value>, query: &HashMap<String, String>, tells_last_page: bool) -> Response<Body> {
    let number =
        |key: &str, default: usize| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (limit, page, total) = (number("limit", 25).clamp(1, 100), number("page", 1).max(1), all.len());
    let shown: Vec<_> = all.into_iter().skip((page - 1) * limit).take(limit).collect();
    match tells_last_page {
        true => json(
            200,
            json!({ "data": shown, "links": {}, "meta": { "current_page": page, "last_page": total.div_ceil(limit), "total": total } }),
        ),
        false => json(200, json!({ "data": shown })),
    }
}

async fn groups(State(tables): State<Shared>, Query(query): Asked) -> Response<Body> {
    let tables = tables.lock().expect("unpoisoned");
    let all = 1..=tables.groups;
    let all = all.map(|n| json!({ "id": n.to_string(), "name": format!("Group {n}") })).collect();
    page(all, &query, tables.tells_last_page)
}

async fn fields(Query(query): Asked) -> Response<Body> {
    let field =
        |key: &str, name: &str, kind: &str| json!({ "id": "1", "key": key, "name": name, "type": kind });
    let all = vec![
        field("name", "Name", "text"),
        field("last_name", "Last name", "text"),
        field("tier", "Tier", "text"),
        field("seats", "Seats", "number"),
        field("since", "Since", "date"),
    ];
    page(all, &query, true)
}
