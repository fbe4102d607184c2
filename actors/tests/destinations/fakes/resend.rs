//! Resend's API, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{HeaderMap, Response},
    middleware::{Next, from_fn},
    routing::{get, patch, post},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

pub const KEY: &str = "re_123456_of_resend";

/// What the team has.
pub struct Tables {
    pub key: &'static str,
    pub is_for_sending: bool,
    pub contacts: BTreeMap<String, Value>,
    /// Contact and segment.
    pub members: BTreeSet<(String, String)>,
    /// By idempotency key.
    pub mails: BTreeMap<String, Value>,
}

impl Default for Tables {
    fn default() -> Self {
        let (contacts, members, mails) = Default::default();
        Self { key: KEY, is_for_sending: false, contacts, members, mails }
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    Router::new()
        .route("/domains", get(async || json(200, json!({ "data": [{ "id": "d1", "name": "acme.com" }] }))))
        .route("/contacts", post(create))
        .route("/contacts/{contact}", patch(update))
        .route("/contacts/{contact}/segments/{segment}", post(add).delete(remove))
        .route("/emails", post(send))
        .route("/segments", get(segments))
        .route("/templates", get(templates))
        .route("/contact-properties", get(properties))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

fn error(status: u16, name: &str, message: &str) -> Response<Body> {
    json(status, json!({ "statusCode": status, "name": name, "message": message }))
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let (expected, is_for_sending) = {
        let tables = tables.lock().expect("unpoisoned");
        (format!("Bearer {}", tables.key), tables.is_for_sending)
    };
    if request.headers().get("authorization").is_none_or(|found| found != &expected) {
        return error(403, "invalid_api_key", "API key is invalid");
    }
    if is_for_sending && request.uri().path() != "/emails" {
        return error(401, "restricted_api_key", "This API key is restricted to only send emails");
    }
    next.run(request).await
}

async fn create(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let contact: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(email) = contact["email"].as_str().filter(|email| email.contains('@')) else {
        return error(422, "validation_error", "Invalid `email` field");
    };
    tables.lock().expect("unpoisoned").contacts.insert(email.to_owned(), contact.clone());
    json(201, json!({ "object": "contact", "id": "479e3145" }))
}

async fn update(State(tables): State<Shared>, Path(email): Path<String>, body: Bytes) -> Response<Body> {
    let changes: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut tables = tables.lock().expect("unpoisoned");
    let Some(contact) = tables.contacts.get_mut(&email) else {
        return error(404, "not_found", "Contact not found");
    };
    for (name, value) in changes.as_object().into_iter().flatten() {
        contact[name] = value.clone();
    }
    json(200, json!({ "object": "contact", "id": "479e3145" }))
}

async fn add(State(tables): State<Shared>, Path(pair): Path<(String, String)>) -> Response<Body> {
    let mut tables = tables.lock().expect("unpoisoned");
    if !tables.contacts.contains_key(&pair.0) || pair.1 == "gone" {
        return error(404, "not_found", "Segment not found");
    }
    tables.members.insert(pair);
    json(200, json!({ "object": "contact_segment" }))
}

async fn remove(State(tables): State<Shared>, Path(pair): Path<(String, String)>) -> Response<Body> {
    match tables.lock().expect("unpoisoned").members.remove(&pair) {
        true => json(200, json!({ "object": "contact_segment", "deleted": true })),
        false => error(404, "not_found", "Contact is not in the segment"),
    }
}

async fn send(State(tables): State<Shared>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mail: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_whole = mail["template"]["id"].is_string()
        || (mail["from"].is_string() && mail["subject"].is_string() && mail["html"].is_string());
    if !mail["to"][0].is_string() || !is_whole {
        return error(422, "missing_required_field", "Missing `from` field.");
    }
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let mut tables = tables.lock().expect("unpoisoned");
    if tables.mails.get(&key).is_some_and(|before| *before != mail) {
        return error(
            409,
            "invalid_idempotent_request",
            "Same idempotency key used with a different request payload.",
        );
    }
    tables.mails.insert(key, mail);
    json(200, json!({ "id": "m1" }))
}

/// Two pages.
async fn segments(Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    match query.get("after").map(String::as_str) {
        None => {
            json(200, json!({ "object": "list", "has_more": true, "data": [{ "id": "s1", "name": "One" }] }))
        }
        Some("s1") => {
            json(200, json!({ "object": "list", "has_more": false, "data": [{ "id": "s2", "name": "Two" }] }))
        }
        Some(_) => error(422, "validation_error", "Invalid cursor"),
    }
}

async fn templates() -> Response<Body> {
    let template =
        |id: &str, status: &str| json!({ "id": id, "name": format!("Template {id}"), "status": status });
    json(
        200,
        json!({ "object": "list", "has_more": false, "data": [template("t1", "published"), template("t2", "draft")] }),
    )
}

async fn properties() -> Response<Body> {
    json(
        200,
        json!({ "object": "list", "has_more": false, "data": [{ "id": "p1", "key": "tier", "type": "string" }, { "id": "p2", "key": "seats", "type": "number" }] }),
    )
}
