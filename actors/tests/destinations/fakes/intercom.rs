//! Intercom's API 2.14, as far as we use it.

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

pub const TOKEN: &str = "dG9rOjJj-of-intercom-12345678";
pub const TAG: &str = "123";

/// What the workspace has.
pub struct Tables {
    pub token: &'static str,
    pub region: &'static str,
    /// By Intercom's own id.
    pub contacts: BTreeMap<String, Value>,
    /// Contact and tag.
    pub tagged: BTreeSet<(String, String)>,
    /// By contact, name and second.
    pub events: BTreeMap<(String, String, i64), Value>,
    /// Contact and note.
    pub notes: Vec<(String, Value)>,
    /// By the id we gave it.
    pub companies: BTreeMap<String, Value>,
    /// Contact and company.
    pub employed: BTreeSet<(String, String)>,
    /// The search does not have what is new.
    pub search_lags: bool,
    next: u32,
}

impl Default for Tables {
    fn default() -> Self {
        let (contacts, tagged, events, notes, companies, employed) = Default::default();
        Self {
            token: TOKEN,
            region: "US",
            contacts,
            tagged,
            events,
            notes,
            companies,
            employed,
            search_lags: false,
            next: 0,
        }
    }
}

impl Tables {
    /// Somebody who is there already; the id.
    pub fn add(&mut self, contact: Value) -> String {
        self.next += 1;
        let id = format!("65f0a{:03}", self.next);
        self.put(&id, contact);
        id
    }

    fn put(&mut self, id: &str, body: Value) {
        self.next += 1;
        let contact = self.contacts.entry(id.to_owned()).or_insert_with(|| json!({ "type": "contact" }));
        for (key, value) in body.as_object().into_iter().flatten() {
            contact[key] = value.clone();
        }
        contact["id"] = id.into();
        contact["updated_at"] = self.next.into();
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    Router::new()
        .route("/me", get(me))
        .route("/contacts", post(create))
        .route("/contacts/search", post(search))
        .route("/contacts/find_by_external_id/{id}", get(by_external_id))
        .route("/contacts/{id}", put(update))
        .route("/contacts/{id}/tags", post(tag))
        .route("/contacts/{id}/tags/{tag}", delete(untag))
        .route("/contacts/{id}/notes", post(note))
        .route("/contacts/{id}/companies", post(employ))
        .route("/companies", post(company))
        .route("/events", post(event))
        .route("/tags", get(tags))
        .route("/data_attributes", get(attributes))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

pub fn error(code: &str, message: &str) -> Value {
    json!({ "type": "error.list", "request_id": "b3c8", "errors": [{ "code": code, "message": message }] })
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let (is_usual, is_let_in) = {
        let is =
            |name: &str, expected: &str| request.headers().get(name).is_some_and(|found| found == expected);
        let token = format!("Bearer {}", tables.lock().expect("unpoisoned").token);
        let usual = [
            ("intercom-version", "2.14"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        (usual.iter().all(|(name, expected)| is(name, expected)), is("authorization", &token))
    };
    match (is_usual, is_let_in) {
        (false, _) => {
            json(400, error("intercom_version_invalid", "The requested version could not be found"))
        }
        (true, true) => next.run(request).await,
        (true, false) => json(401, error("unauthorized", "Access Token Invalid")),
    }
}

async fn me(State(tables): State<Shared>) -> Response<Body> {
    let region = tables.lock().expect("unpoisoned").region;
    let app = json!({ "type": "app", "id_code": "abcd1234", "name": "Acme", "region": region });
    json(
        200,
        json!({ "type": "admin", "id": "814860", "email": "admin@example.com", "name": "Admin", "app": app }),
    )
}

fn read(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Custom attributes have to be there before.
fn unknown(body: &Value) -> Option<Response<Body>> {
    let custom = body["custom_attributes"].as_object().into_iter().flatten();
    let name = custom
        .map(|(name, _)| name)
        .find(|name| !["source", "tier", "score", "trial_at"].contains(&&name[..]))?;
    Some(json(400, error("parameter_invalid", &format!("Custom attribute '{name}' does not exist"))))
}

async fn create(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body = read(&body);
    if let Some(answer) = unknown(&body) {
        return answer;
    }
    let mut tables = tables.lock().expect("unpoisoned");
    let same = |contact: &&Value, key: &str| body[key].is_string() && contact[key] == body[key];
    let is_same = |contact: &&Value| {
        let both = contact["external_id"].is_string() && body["external_id"].is_string();
        same(contact, "external_id") || (same(contact, "email") && !both && contact["role"] == "user")
    };
    if let Some(there) = tables.contacts.values().find(is_same) {
        let id = there["id"].as_str().unwrap_or_default();
        return json(
            409,
            error("conflict", &format!("A contact matching those details already exists with id={id}")),
        );
    }
    let id = tables.add(body);
    json(200, tables.contacts[&id].clone())
}

async fn search(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body = read(&body);
    let tables = tables.lock().expect("unpoisoned");
    if body["query"]["field"] != "email" || body["query"]["operator"] != "=" {
        return json(400, error("parameter_invalid", "the query is not known here"));
    }
    let found = tables.contacts.values().filter(|contact| contact["email"] == body["query"]["value"]);
    let found: Vec<_> = found.filter(|_| !tables.search_lags).cloned().collect();
    json(
        200,
        json!({ "type": "list", "total_count": found.len(), "data": found, "pages": { "type": "pages", "page": 1 } }),
    )
}

async fn by_external_id(State(tables): State<Shared>, Path(id): Path<String>) -> Response<Body> {
    let tables = tables.lock().expect("unpoisoned");
    match tables.contacts.values().find(|contact| contact["external_id"] == id[..]) {
        Some(contact) => json(200, contact.clone()),
        None => json(404, error("not_found", "User Not Found")),
    }
}

async fn update(State(tables): State<Shared>, Path(id): Path<String>, body: Bytes) -> Response<Body> {
    let body = read(&body);
    if let Some(answer) = unknown(&body) {
        return answer;
    }
    let mut tables = tables.lock().expect("unpoisoned");
    if !tables.contacts.contains_key(&id) {
        return json(404, error("not_found", "User Not Found"));
    }
    tables.put(&id, body);
    json(200, tables.contacts[&id].clone())
}

async fn tag(State(tables): State<Shared>, Path(id): Path<String>, body: Bytes) -> Response<Body> {
    let tag = read(&body)["id"].as_str().unwrap_or_default().to_owned();
    if tag != TAG {
        return json(404, error("tag_not_found", "Tag not found"));
    }
    tables.lock().expect("unpoisoned").tagged.insert((id, tag.clone()));
    json(200, json!({ "type": "tag", "id": tag, "name": "pro" }))
}

async fn untag(State(tables): State<Shared>, Path(pair): Path<(String, String)>) -> Response<Body> {
    match tables.lock().expect("unpoisoned").tagged.remove(&pair) {
        true => json(200, json!({ "type": "tag", "id": pair.1, "name": "pro" })),
        false => json(404, error("tag_not_found", "Tag not found")),
    }
}

async fn note(State(tables): State<Shared>, Path(id): Path<String>, body: Bytes) -> Response<Body> {
    tables.lock().expect("unpoisoned").notes.push((id, read(&body)));
    json(200, json!({ "type": "note", "id": "29" }))
}

async fn company(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body = read(&body);
    let Some(ours) = body["company_id"].as_str().map(str::to_owned) else {
        return json(400, error("parameter_not_found", "company_id is required"));
    };
    let id = format!("c0-{ours}");
    tables.lock().expect("unpoisoned").companies.insert(ours.clone(), body);
    json(200, json!({ "type": "company", "id": id, "company_id": ours }))
}

async fn employ(State(tables): State<Shared>, Path(id): Path<String>, body: Bytes) -> Response<Body> {
    let company = read(&body)["id"].as_str().unwrap_or_default().to_owned();
    let mut tables = tables.lock().expect("unpoisoned");
    if !company.strip_prefix("c0-").is_some_and(|ours| tables.companies.contains_key(ours)) {
        return json(404, error("company_not_found", "Company Not Found"));
    }
    tables.employed.insert((id, company.clone()));
    json(200, json!({ "type": "company", "id": company }))
}

/// Leads are known by their own id alone.
async fn event(State(tables): State<Shared>, body: Bytes) -> Response<Body> {
    let body = read(&body);
    let mut tables = tables.lock().expect("unpoisoned");
    let metadata = body["metadata"].as_object().cloned().unwrap_or_default();
    if metadata.len() > 10 || metadata.values().any(|value| value.is_object() || value.is_array()) {
        return json(400, error("parameter_invalid", "metadata is too much"));
    }
    let is_whose = |contact: &&Value| {
        let is = |key: &str, of: &str| body[key].is_string() && body[key] == contact[of];
        is("id", "id")
            || (contact["role"] == "user" && (is("user_id", "external_id") || is("email", "email")))
    };
    let Some(contact) = tables.contacts.values().find(is_whose) else {
        return json(404, error("not_found", "User Not Found"));
    };
    let contact = contact["id"].as_str().unwrap_or_default().to_owned();
    let (Some(name), Some(at)) = (body["event_name"].as_str(), body["created_at"].as_i64()) else {
        return json(400, error("parameter_not_found", "event_name and created_at are required"));
    };
    tables.events.insert((contact, name.to_owned(), at), body.clone());
    Response::builder().status(202).body(Body::empty()).expect("an answer")
}

async fn tags() -> Response<Body> {
    json(
        200,
        json!({ "type": "list", "data": [{ "type": "tag", "id": TAG, "name": "pro" }, { "type": "tag", "id": "124", "name": "trial" }] }),
    )
}

async fn attributes(Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    let attribute = |name: &str, kind: &str, custom: bool, writable: bool, archived: bool| json!({ "type": "data_attribute", "model": "contact", "name": name, "full_name": name, "label": name, "data_type": kind, "api_writable": writable, "custom": custom, "archived": archived });
    let mut tier = attribute("tier", "string", true, true, false);
    tier["options"] = json!(["free", "pro"]);
    let all = json!([
        attribute("email", "string", false, true, false),
        attribute("source", "string", true, true, false),
        tier,
        attribute("score", "integer", true, true, false),
        attribute("trial_at", "date", true, true, false),
        attribute("computed", "string", true, false, false),
        attribute("old", "string", true, true, true),
    ]);
    match query.get("model").map(String::as_str) {
        Some("contact") => json(200, json!({ "type": "list", "data": all })),
        _ => json(400, error("parameter_invalid", "model")),
    }
}
