//! HubSpot's CRM API v3, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::Response,
    middleware::{Next, from_fn},
    routing::{get, post, put},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

pub const TOKEN: &str = "pat-na1-f00dcafe-of-hubspot";

/// What the account has.
pub struct Tables {
    pub token: &'static str,
    /// By e-mail address: id and properties.
    pub contacts: BTreeMap<String, (String, Value)>,
    pub lists: usize,
    /// List and contact.
    pub members: BTreeSet<(String, String)>,
    pub deals: Vec<Value>,
    /// By their `uuid`.
    pub events: BTreeMap<String, Value>,
}

impl Default for Tables {
    fn default() -> Self {
        let (contacts, members, deals, events) = Default::default();
        Self { token: TOKEN, contacts, lists: 203, members, deals, events }
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    let details = async || {
        json(200, json!({ "portalId": 62515, "accountType": "STANDARD", "uiDomain": "app.hubspot.com" }))
    };
    Router::new()
        .route("/account-info/v3/details", get(details))
        .route("/crm/v3/objects/contacts/batch/upsert", post(upsert))
        .route("/crm/v3/objects/contacts/{email}", get(find))
        .route("/crm/v3/lists/search", post(lists))
        .route("/crm/v3/lists/{list}/memberships/{how}", put(members))
        .route("/crm/v3/objects/deals", post(deal))
        .route("/events/v3/send", post(event))
        .route("/crm/v3/properties/contacts", get(properties))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

fn error(status: u16, category: &str, message: &str) -> Response<Body> {
    json(
        status,
        json!({ "status": "error", "message": message, "correlationId": "c0ffee", "category": category }),
    )
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let is_right = {
        let expected = format!("Bearer {}", tables.lock().expect("unpoisoned").token);
        request.headers().get("authorization").is_some_and(|token| *token == expected)
    };
    match is_right {
        true => next.run(request).await,
        false => error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found."),
    }
}

fn read(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Strict as the vendor is: every value of a property is a text.
async fn upsert(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let input = read(&body)["inputs"][0].clone();
    let is_text = input["properties"].as_object().is_some_and(|all| all.values().all(Value::is_string));
    let email = input["id"].as_str().filter(|email| email.contains('@'));
    let (Some(email), true, "email") = (email, is_text, input["idProperty"].as_str().unwrap_or_default())
    else {
        return error(400, "VALIDATION_ERROR", "Property values were not valid");
    };
    let mut tables = tables.lock().expect("unpoisoned");
    let next = 151 + tables.contacts.len();
    let is_new = !tables.contacts.contains_key(email);
    let contact = tables.contacts.entry(email.to_owned());
    let (id, properties) = contact.or_insert_with(|| (next.to_string(), json!({ "email": email })));
    for (name, value) in input["properties"].as_object().into_iter().flatten() {
        properties[name] = value.clone();
    }
    let result = json!({ "id": id, "new": is_new, "properties": properties, "archived": false });
    json(200, json!({ "status": "COMPLETE", "results": [result], "startedAt": "2026-01-20T21:14:16Z" }))
}

async fn find(State(tables): State<Shared>, Path(email): Path<String>) -> Response<Body> {
    match tables.lock().expect("unpoisoned").contacts.get(&email) {
        Some((id, _)) => json(200, json!({ "id": id, "properties": { "email": email } })),
        None => error(404, "OBJECT_NOT_FOUND", "resource not found"),
    }
}

async fn members(
    State(tables): State<Shared>,
    Path((list, how)): Path<(String, String)>,
    body: Bytes,
) -> Response<Body> {
    let Some(ids) = read(&body).as_array().cloned() else {
        return error(400, "VALIDATION_ERROR", "Invalid input JSON");
    };
    let mut tables = tables.lock().expect("unpoisoned");
    if !list.parse::<usize>().is_ok_and(|list| (1..=tables.lists).contains(&list)) {
        return error(404, "OBJECT_NOT_FOUND", &format!("List does not exist with ID {list}."));
    }
    let (mut added, mut removed, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids.iter().filter_map(Value::as_str) {
        let pair = (list.clone(), id.to_owned());
        match how.as_str() {
            _ if tables.contacts.values().all(|(known, _)| known != id) => missing.push(id),
            "add" if tables.members.insert(pair) => added.push(id),
            "remove" if tables.members.remove(&(list.clone(), id.to_owned())) => removed.push(id),
            _ => {}
        }
    }
    json(200, json!({ "recordsIdsAdded": added, "recordIdsRemoved": removed, "recordIdsMissing": missing }))
}

async fn deal(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let deal = read(&body);
    if !deal["associations"][0]["to"]["id"].is_string() || !deal["properties"]["dealname"].is_string() {
        return error(400, "VALIDATION_ERROR", "Invalid input JSON");
    }
    let mut tables = tables.lock().expect("unpoisoned");
    tables.deals.push(deal);
    json(201, json!({ "id": tables.deals.len().to_string() }))
}

async fn event(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let event = read(&body);
    if !event["properties"].is_object() || !event["email"].is_string() {
        return error(400, "VALIDATION_ERROR", "Invalid input JSON");
    }
    let uuid = event["uuid"].as_str().unwrap_or_default().to_owned();
    match tables.lock().expect("unpoisoned").events.insert(uuid, event) {
        None => Response::builder().status(204).body(Body::empty()).expect("an answer"),
        Some(_) => error(409, "CONFLICT", "Event with this uuid was already received"),
    }
}

async fn lists(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let query = read(&body);
    if !query["offset"].is_u64() || !query["additionalProperties"].is_array() {
        return error(400, "VALIDATION_ERROR", "offset and additionalProperties are required");
    }
    let (from, count) =
        (query["offset"].as_u64().unwrap_or(0) as usize, query["count"].as_u64().unwrap_or(20) as usize);
    let total = tables.lock().expect("unpoisoned").lists;
    // The second is of companies.
    let kind = |n: usize| if n == 2 { "0-2" } else { "0-1" };
    let list = |n: usize| json!({ "listId": n.to_string(), "name": format!("List {n}"), "objectTypeId": kind(n), "processingType": "MANUAL" });
    let shown: Vec<_> = (1..=total).skip(from).take(count).map(list).collect();
    let next = from + shown.len();
    json(200, json!({ "lists": shown, "hasMore": next < total, "offset": next, "total": total }))
}

async fn properties() -> Response<Body> {
    let property = |name: &str, kind: &str, field: &str, options: &[&str]| {
        let options: Vec<_> =
            options.iter().map(|value| json!({ "label": value.to_uppercase(), "value": value })).collect();
        json!({ "name": name, "label": format!("The {name}"), "type": kind, "fieldType": field, "groupName": "g", "options": options, "hidden": false, "calculated": false, "modificationMetadata": { "readOnlyValue": false } })
    };
    let mut all = vec![
        property("email", "string", "text", &[]),
        property("tier", "enumeration", "select", &["free", "pro"]),
        property("topics", "enumeration", "checkbox", &["rust", "tea"]),
        property("age", "number", "number", &[]),
        property("is_fan", "bool", "booleancheckbox", &["true", "false"]),
        property("score", "number", "number", &[]),
        property("createdate", "datetime", "date", &[]),
        property("secretive", "string", "text", &[]),
    ];
    all[5]["calculated"] = true.into();
    all[6]["modificationMetadata"]["readOnlyValue"] = true.into();
    all[7]["hidden"] = true.into();
    json(200, json!({ "results": all }))
}
