//! ActiveCampaign's API v3, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::Response,
    middleware::{Next, from_fn},
    routing::{delete, get, post},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

pub const KEY: &str = "f00dcafe-of-activecampaign";

/// What the account has.
pub struct Tables {
    pub key: &'static str,
    /// By e-mail address: its fields, and those with a number.
    pub contacts: BTreeMap<String, Contact>,
    pub lists: usize,
    /// By list and contact: 1 subscribed, 2 unsubscribed.
    pub subscriptions: BTreeMap<(String, String), String>,
    /// By their own id: contact and tag.
    pub tagged: BTreeMap<String, (String, String)>,
    next: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Contact {
    pub id: String,
    pub fields: Value,
}

impl Default for Tables {
    fn default() -> Self {
        let (contacts, subscriptions, tagged) = Default::default();
        Self { key: KEY, contacts, lists: 103, subscriptions, tagged, next: 10 }
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    Router::new()
        .route("/api/3/users/me", get(async || json(200, json!({ "user": { "username": "ada" } }))))
        .route("/api/3/contact/sync", post(sync))
        .route("/api/3/contacts", get(find))
        .route("/api/3/contacts/{id}/contactTags", get(tags_of))
        .route("/api/3/contactLists", post(subscribe))
        .route("/api/3/contactTags", post(tag))
        .route("/api/3/contactTags/{id}", delete(untag))
        .route("/api/3/lists", get(lists))
        .route("/api/3/tags", get(tags))
        .route("/api/3/fields", get(fields))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

/// Wrong keys are answered 403, not 401.
async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let is_right = {
        let key = tables.lock().expect("unpoisoned").key;
        request.headers().get("api-token").is_some_and(|token| token == key)
    };
    match is_right {
        true => next.run(request).await,
        false => json(403, json!({ "message": "You do not have permission to access this resource" })),
    }
}

async fn sync(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(email) = body["contact"]["email"].as_str().filter(|email| email.contains('@')) else {
        let error = json!({ "title": "The email address is invalid.", "code": "email_invalid", "source": { "pointer": "/data/attributes/email" } });
        return json(422, json!({ "errors": [error] }));
    };
    let mut tables = tables.lock().expect("unpoisoned");
    let is_new = !tables.contacts.contains_key(email);
    if is_new {
        tables.next += 1;
        let id = tables.next.to_string();
        tables.contacts.insert(email.to_owned(), Contact { id, ..Contact::default() });
    }
    let contact = tables.contacts.get_mut(email).expect("it was put in");
    contact.fields = body["contact"].clone();
    let status = if is_new { 201 } else { 200 };
    json(status, json!({ "contact": { "id": contact.id, "email": email }, "fieldValues": [] }))
}

async fn find(State(tables): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    let tables = tables.lock().expect("unpoisoned");
    let found = query.get("email").and_then(|email| Some((email, tables.contacts.get(email)?)));
    let found: Vec<_> =
        found.iter().map(|(email, contact)| json!({ "id": contact.id, "email": email })).collect();
    json(200, json!({ "contacts": found, "meta": { "total": found.len().to_string() } }))
}

async fn subscribe(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| body["contactList"][key].as_str().unwrap_or_default().to_owned();
    let (list, contact, status) = (text("list"), text("contact"), text("status"));
    let mut tables = tables.lock().expect("unpoisoned");
    if list.parse::<usize>().is_ok_and(|list| (1..=tables.lists).contains(&list)) {
        tables.subscriptions.insert((list, contact), status);
        return json(200, json!({ "contacts": [], "contactList": {} }));
    }
    json(404, json!({ "message": format!("No Result found for Subscriber List with id {list}") }))
}

async fn tag(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| body["contactTag"][key].as_str().unwrap_or_default().to_owned();
    let pair = (text("contact"), text("tag"));
    if pair.1 == "404" {
        return json(404, json!({ "message": "No Result found for Tag with id 404" }));
    }
    let mut tables = tables.lock().expect("unpoisoned");
    let there = tables.tagged.iter().find(|(_, found)| **found == pair).map(|(id, _)| id.clone());
    let status = if there.is_some() { 200 } else { 201 };
    let id = there.unwrap_or_else(|| {
        tables.next += 1;
        tables.next.to_string()
    });
    tables.tagged.insert(id.clone(), pair.clone());
    json(status, json!({ "contactTag": { "id": id, "contact": pair.0, "tag": pair.1 } }))
}

async fn tags_of(State(tables): State<Shared>, Path(contact): Path<String>) -> Response<Body> {
    let tables = tables.lock().expect("unpoisoned");
    let of_it = tables.tagged.iter().filter(|(_, (of, _))| *of == contact);
    let found: Vec<_> = of_it.map(|(id, (of, tag))| json!({ "id": id, "contact": of, "tag": tag })).collect();
    json(200, json!({ "contactTags": found }))
}

async fn untag(State(tables): State<Shared>, Path(id): Path<String>) -> Response<Body> {
    match tables.lock().expect("unpoisoned").tagged.remove(&id) {
        Some(_) => json(200, json!({})),
        None => json(404, json!({ "message": format!("No Result found for SubscriberTag with id {id}") })),
    }
}

/// A page as the API has them: `limit`, at most 100, and `offset`.
fn page(name: &str, all: Vec<Value>, query: &HashMap<String, String>) -> Response<Body> {
    let number =
        |key: &str, default: usize| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (limit, offset, total) = (number("limit", 20).min(100), number("offset", 0), all.len());
    let shown: Vec<_> = all.into_iter().skip(offset).take(limit).collect();
    json(200, json!({ name: shown, "meta": { "total": total.to_string() } }))
}

async fn lists(State(tables): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    let count = tables.lock().expect("unpoisoned").lists;
    let all = (1..=count).map(|n| json!({ "id": n.to_string(), "name": format!("List {n}") })).collect();
    page("lists", all, &query)
}

async fn tags(Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    page("tags", vec![json!({ "id": "20", "tag": "pro", "tagType": "contact" })], &query)
}

async fn fields(Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    let field = |id: &str, title: &str, kind: &str| json!({ "id": id, "title": title, "type": kind, "isrequired": "0" });
    page("fields", vec![field("1", "Source", "text"), field("6", "Tier", "dropdown")], &query)
}
