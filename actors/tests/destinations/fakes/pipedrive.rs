//! Pipedrive's API v2, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::Response,
    middleware::{Next, from_fn},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

pub const TOKEN: &str = "f00dcafe-of-pipedrive";
/// A text, one option, several options, a number, and an amount of money.
pub const SOURCE: &str = "1f2e3d4c5b6a79888796a5b4c3d2e1f001234567";
pub const TIER: &str = "9dc80c50d78a15643bfc4ca79d76156a73a1ca0e";
pub const TOPICS: &str = "0000000000000000000000000000000000000001";
pub const AGE: &str = "0000000000000000000000000000000000000002";
pub const BUDGET: &str = "0000000000000000000000000000000000000003";

/// What the company has.
pub struct Tables {
    pub token: &'static str,
    pub persons: BTreeMap<u64, Value>,
    /// Bodies of changes.
    pub patches: Vec<Value>,
    /// Whether the search finds who is there.
    pub finds: bool,
    /// Whether labels stay as they are put; else each change of them is as good as the first.
    pub keeps_labels: bool,
    /// Whether no label at all is said as `null`.
    pub wants_null: bool,
}

impl Default for Tables {
    fn default() -> Self {
        let (persons, patches) = Default::default();
        Self { token: TOKEN, persons, patches, finds: true, keeps_labels: true, wants_null: false }
    }
}

impl Tables {
    pub fn put(&mut self, id: u64, email: &str, labels: &[u64]) {
        let emails = json!([{ "value": email, "primary": true, "label": "work" }]);
        let phones = json!([{ "value": "+1", "primary": true, "label": "home" }]);
        self.persons.insert(id, json!({ "id": id, "name": "Old", "emails": emails, "phones": phones, "label_ids": labels, "custom_fields": {}, "is_deleted": false }));
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    let me =
        async || fine(json!({ "id": 1, "name": "Me", "company_id": 54235233, "company_domain": "acme" }));
    Router::new()
        .route("/api/v1/users/me", get(me))
        .route("/api/v2/persons/search", get(search))
        .route("/api/v2/persons", post(make))
        .route("/api/v2/persons/{id}", get(read).patch(change))
        .route("/api/v2/personFields", get(fields))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

fn fine(data: Value) -> Response<Body> {
    json(200, json!({ "success": true, "data": data }))
}

fn invalid(message: &str) -> Response<Body> {
    json(
        400,
        json!({ "success": false, "error": message, "code": "ERR_SCHEMA_VALIDATION_FAILED", "data": null }),
    )
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let is_right = {
        let token = tables.lock().expect("unpoisoned").token;
        let headers = request.headers();
        let bearer = format!("Bearer {token}");
        headers.get("x-api-token").is_some_and(|sent| sent == token)
            || headers.get("authorization").is_some_and(|sent| *sent == bearer)
    };
    match is_right {
        true => next.run(request).await,
        false => json(
            401,
            json!({ "success": false, "error": "unauthorized access", "errorCode": 401, "error_info": "Please check developers.pipedrive.com" }),
        ),
    }
}

async fn search(
    State(tables): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
) -> Response<Body> {
    let tables = tables.lock().expect("unpoisoned");
    let term = query.get("term").cloned().unwrap_or_default();
    if query.get("fields").is_none_or(|fields| fields != "email") || !query.contains_key("exact_match") {
        return invalid("fields");
    }
    let emails = |person: &Value| -> Vec<String> {
        let all = person["emails"].as_array().into_iter().flatten();
        all.filter_map(|email| email["value"].as_str().map(str::to_owned)).collect()
    };
    let hits = tables
        .persons
        .values()
        .rev()
        .filter(|person| emails(person).iter().any(|email| email.eq_ignore_ascii_case(&term)));
    let mut items: Vec<_> = hits.map(|person| json!({ "result_score": 0.5, "item": { "id": person["id"], "type": "person", "emails": emails(person) } })).collect();
    // One who only looks alike.
    items.push(json!({ "result_score": 0.1, "item": { "id": 1, "type": "person", "emails": ["other@example.com"] } }));
    if !tables.finds {
        items.clear();
    }
    json(
        200,
        json!({ "success": true, "data": { "items": items }, "additional_data": { "next_cursor": null } }),
    )
}

/// As strict as v2 is.
fn wrong(body: &Value) -> Option<String> {
    let custom = body["custom_fields"].as_object().cloned().unwrap_or_default();
    for (code, value) in &custom {
        let is_right = value.is_null()
            || match code.as_str() {
                SOURCE => value.is_string(),
                TIER => value.as_u64().is_some_and(|id| [190, 191].contains(&id)),
                TOPICS => value.as_array().is_some_and(|ids| ids.iter().all(Value::is_u64)),
                AGE => value.is_number(),
                BUDGET => value["currency"].is_string(),
                _ => false,
            };
        if !is_right {
            return Some(format!("Invalid custom field {code}"));
        }
    }
    let labels = body["label_ids"].as_array().cloned().unwrap_or_default();
    (!labels.iter().all(Value::is_u64)).then(|| "label_ids must be integers".to_owned())
}

async fn make(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let mut person: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !person["name"].is_string() {
        return invalid("Name must be given.");
    }
    if let Some(message) = wrong(&person) {
        return invalid(&message);
    }
    let mut tables = tables.lock().expect("unpoisoned");
    let id = 100 + tables.persons.len() as u64;
    person["id"] = id.into();
    person["is_deleted"] = false.into();
    tables.persons.insert(id, person.clone());
    fine(person)
}

fn not_found() -> Response<Body> {
    json(404, json!({ "success": false, "error": "Person not found", "code": "ERR_NOT_FOUND" }))
}

async fn read(State(tables): State<Shared>, Path(id): Path<u64>) -> Response<Body> {
    tables.lock().expect("unpoisoned").persons.get(&id).cloned().map_or_else(not_found, fine)
}

async fn change(State(tables): State<Shared>, Path(id): Path<u64>, body: Bytes) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut tables = tables.lock().expect("unpoisoned");
    if let Some(message) = wrong(&body) {
        return invalid(&message);
    }
    if tables.wants_null && body["label_ids"] == json!([]) {
        return invalid("label_ids must not be empty");
    }
    tables.patches.push(body.clone());
    let keeps_labels = tables.keeps_labels;
    let Some(person) = tables.persons.get_mut(&id) else { return not_found() };
    let before = person["label_ids"].clone();
    for (key, value) in body.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(members) => members.iter().for_each(|(code, value)| person[key][code] = value.clone()),
            None => person[key] = value.clone(),
        }
    }
    let answer = person.clone();
    if !keeps_labels {
        person["label_ids"] = before;
    }
    fine(answer)
}

/// Pages of four.
async fn fields(Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    let field = |code: &str, kind: &str, options: &[(u64, &str)]| {
        let options: Vec<_> = options.iter().map(|(id, label)| json!({ "id": id, "label": label })).collect();
        let options = if options.is_empty() { Value::Null } else { options.into() };
        json!({ "field_name": format!("The {}", &code[..code.len().min(4)]), "field_code": code, "field_type": kind, "options": options, "is_custom_field": code.len() == 40 })
    };
    let all = [
        field("name", "varchar", &[]),
        field("email", "varchar", &[]),
        field("label_ids", "set", &[(8, "Hot"), (9, "Cold")]),
        field(SOURCE, "varchar", &[]),
        field(TIER, "enum", &[(190, "Free"), (191, "Pro")]),
        field(TOPICS, "set", &[(1, "Rust"), (2, "Tea")]),
        field(AGE, "double", &[]),
        field(BUDGET, "monetary", &[]),
    ];
    let from: usize = query.get("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let next = (from + 4 < all.len()).then(|| (from + 4).to_string());
    let page: Vec<_> = all.into_iter().skip(from).take(4).collect();
    json(200, json!({ "success": true, "data": page, "additional_data": { "next_cursor": next } }))
}
