//! SendGrid's API v3, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::Response,
    middleware::{Next, from_fn},
    routing::{delete, get, post, put},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

pub const KEY: &str = "SG.key-id.secret-of-sendgrid";

/// What the account has.
pub struct Tables {
    pub key: &'static str,
    pub mails: Vec<Value>,
    /// By e-mail address.
    pub contacts: BTreeMap<String, Value>,
    /// List and e-mail address.
    pub members: BTreeSet<(String, String)>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { key: KEY, mails: Vec::new(), contacts: BTreeMap::new(), members: BTreeSet::new() }
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    Router::new()
        .route("/v3/scopes", get(async || json(200, json!({ "scopes": ["mail.send", "marketing.read"] }))))
        .route("/v3/mail/send", post(send))
        .route("/v3/marketing/contacts", put(upsert))
        .route("/v3/marketing/contacts/search/emails", post(search))
        .route("/v3/marketing/lists", get(lists))
        .route("/v3/marketing/lists/{list}/contacts", delete(remove))
        .route("/v3/marketing/field_definitions", get(fields))
        .route("/v3/templates", get(templates))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

fn error(status: u16, message: &str) -> Response<Body> {
    json(status, json!({ "errors": [{ "field": null, "message": message, "help": null }] }))
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let expected = format!("Bearer {}", tables.lock().expect("unpoisoned").key);
    match request.headers().get("authorization").is_some_and(|found| found == &expected) {
        true => next.run(request).await,
        false => error(401, "authorization required"),
    }
}

async fn send(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let mail: Value = serde_json::from_slice(&body).unwrap_or_default();
    let has_content =
        mail["template_id"].is_string() || (mail["subject"].is_string() && mail["content"].is_array());
    if !mail["from"]["email"].is_string()
        || !mail["personalizations"][0]["to"][0]["email"].is_string()
        || !has_content
    {
        return error(400, "The from object must be provided for every email send.");
    }
    if mail["from"]["email"] == "stranger@example.com" {
        return error(403, "The from address does not match a verified Sender Identity.");
    }
    tables.lock().expect("unpoisoned").mails.push(mail);
    Response::builder().status(202).header("x-message-id", "m1").body(Body::empty()).expect("an answer")
}

async fn upsert(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let contact = &body["contacts"][0];
    let Some(email) = contact["email"].as_str().filter(|email| email.contains('@')) else {
        return error(400, "email is not valid");
    };
    let mut tables = tables.lock().expect("unpoisoned");
    tables.contacts.insert(email.to_owned(), contact.clone());
    for list in body["list_ids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        tables.members.insert((list.to_owned(), email.to_owned()));
    }
    json(202, json!({ "job_id": "j1" }))
}

async fn search(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let email = body["emails"][0].as_str().unwrap_or_default();
    match tables.lock().expect("unpoisoned").contacts.contains_key(email) {
        true => json(200, json!({ "result": { email: { "contact": { "id": format!("id-of-{email}") } } } })),
        false => error(404, "no contacts found"),
    }
}

async fn remove(
    State(tables): State<Shared>,
    Path(list): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response<Body> {
    let id = query.get("contact_ids").cloned().unwrap_or_default();
    let email = id.strip_prefix("id-of-").unwrap_or_default().to_owned();
    tables.lock().expect("unpoisoned").members.remove(&(list, email));
    json(202, json!({ "job_id": "j2" }))
}

/// Two pages; the next one is told as a whole URL.
async fn lists(Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    match query.get("page_token").map(String::as_str) {
        None => json(
            200,
            json!({ "result": [{ "id": "l1", "name": "One" }],
            "_metadata": { "next": "https://api.sendgrid.com/v3/marketing/lists?page_size=1000&page_token=2" } }),
        ),
        Some(_) => json(200, json!({ "result": [{ "id": "l2", "name": "Two" }], "_metadata": {} })),
    }
}

async fn templates(Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    match (query.get("page_size"), query.get("generations").map(String::as_str)) {
        (Some(_), Some("dynamic")) => json(
            200,
            json!({ "result": [{ "id": "d-1", "name": "Welcome", "generation": "dynamic" }], "_metadata": {} }),
        ),
        _ => error(400, "page_size is required"),
    }
}

async fn fields() -> Response<Body> {
    json(
        200,
        json!({
            "custom_fields": [{ "id": "e1_T", "name": "source", "field_type": "Text" }, { "id": "e2_N", "name": "seats", "field_type": "Number" }],
            "reserved_fields": [{ "id": "_rf2_T", "name": "email", "field_type": "Text" }],
        }),
    )
}
