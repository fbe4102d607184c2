//! Salesforce's REST API, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::Response,
    middleware::{Next, from_fn},
    routing::{get, patch, post},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

pub const TOKEN: &str = "00Df00dcafe!AQM.of-salesforce";
const DATA: &str = "/services/data/v60.0";

/// What the org has.
pub struct Tables {
    pub token: &'static str,
    /// Of each kind, such as `Contact`: by id.
    pub records: BTreeMap<String, BTreeMap<String, Value>>,
    /// Whether a query finds contacts and leads.
    pub finds: bool,
    /// Whether members who are taken out stay, so that each time is as good as the first.
    pub keeps_members: bool,
    pub deleted: Vec<String>,
    pub campaigns: usize,
}

impl Default for Tables {
    fn default() -> Self {
        let (records, deleted) = Default::default();
        Self { token: TOKEN, records, finds: true, keeps_members: false, deleted, campaigns: 5 }
    }
}

impl Tables {
    pub fn put(&mut self, kind: &str, id: &str, record: Value) {
        self.records.entry(kind.to_owned()).or_default().insert(id.to_owned(), record);
    }

    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.records.get(kind).into_iter().flat_map(BTreeMap::values).collect()
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    let limits = async || json(200, json!({ "DailyApiRequests": { "Max": 100_000, "Remaining": 99_000 } }));
    let objects = |rest: &str| format!("{DATA}/sobjects/{rest}");
    Router::new()
        .route(&format!("{DATA}/limits"), get(limits))
        .route(&format!("{DATA}/query"), get(query))
        .route(&format!("{DATA}/query/{{next}}"), get(more))
        .route(&objects("Contact/describe"), get(describe))
        .route(&objects("{kind}"), post(make))
        .route(&objects("{kind}/{id}"), patch(change).delete(remove))
        .route(&objects("{kind}/{field}/{value}"), patch(upsert))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

fn error(status: u16, code: &str, message: &str) -> Response<Body> {
    json(status, json!([{ "message": message, "errorCode": code, "fields": [] }]))
}

fn empty() -> Response<Body> {
    Response::builder().status(204).body(Body::empty()).expect("an answer")
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let is_right = {
        let expected = format!("Bearer {}", tables.lock().expect("unpoisoned").token);
        request.headers().get("authorization").is_some_and(|token| *token == expected)
    };
    match is_right {
        true => next.run(request).await,
        false => error(401, "INVALID_SESSION_ID", "Session expired or invalid"),
    }
}

fn records(found: Vec<Value>, next: Option<&str>) -> Response<Body> {
    let mut answer = json!({ "totalSize": found.len(), "done": next.is_none(), "records": found });
    if let Some(next) = next {
        answer["nextRecordsUrl"] = format!("{DATA}/query/{next}").into();
    }
    json(200, answer)
}

fn campaign(n: usize) -> Value {
    json!({ "attributes": { "type": "Campaign" }, "Id": format!("701{n}"), "Name": format!("Campaign {n}") })
}

/// Knows the few queries we ask, and texts in quotes.
async fn query(State(tables): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    let tables = tables.lock().expect("unpoisoned");
    let soql = query.get("q").cloned().unwrap_or_default();
    let kind = soql.split(" FROM ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    if kind == "Campaign" {
        return records((1..=3).map(campaign).collect(), (tables.campaigns > 3).then_some("01g-3"));
    }
    let condition = soql.split(" WHERE ").nth(1).unwrap_or_default();
    let condition = condition.split(" ORDER BY ").next().unwrap_or_default();
    let pairs: Vec<(String, String)> = condition
        .split(" AND ")
        .filter_map(|pair| pair.split_once(" = "))
        .map(|(field, text)| {
            let text = text.trim_matches('\'').replace("\\'", "'").replace("\\\\", "\\");
            (field.to_owned(), text)
        })
        .collect();
    let matches = |record: &&Value| pairs.iter().all(|(field, text)| record[field] == **text);
    let found = tables.of(kind).into_iter().filter(matches).take(2).cloned().collect();
    records(if tables.finds || kind == "CampaignMember" { found } else { Vec::new() }, None)
}

async fn more(State(tables): State<Shared>) -> Response<Body> {
    let count = tables.lock().expect("unpoisoned").campaigns;
    records((4..=count).map(campaign).collect(), None)
}

async fn make(State(tables): State<Shared>, Path(kind): Path<String>, body: Bytes) -> Response<Body> {
    let mut record: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut tables = tables.lock().expect("unpoisoned");
    let needed: &[&str] = match kind.as_str() {
        "Contact" => &["LastName"],
        "Lead" => &["LastName", "Company"],
        _ => &["CampaignId", "ContactId"],
    };
    if let Some(lacks) = needed.iter().find(|field| !record[**field].is_string()) {
        return error(400, "REQUIRED_FIELD_MISSING", &format!("Required fields are missing: [{lacks}]"));
    }
    let is_same =
        |one: &&Value| one["CampaignId"] == record["CampaignId"] && one["ContactId"] == record["ContactId"];
    if kind == "CampaignMember" && tables.of(&kind).iter().any(is_same) {
        return error(400, "DUPLICATE_VALUE", "Already a campaign member.");
    }
    let id = format!("{}{:03}", &kind[..1], tables.of(&kind).len());
    record["Id"] = id.clone().into();
    tables.put(&kind, &id, record);
    json(201, json!({ "id": id, "success": true, "errors": [] }))
}

fn write(record: &mut Value, body: &Bytes) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    for (key, value) in body.as_object().into_iter().flatten() {
        record[key] = value.clone();
    }
}

async fn change(
    State(tables): State<Shared>,
    Path((kind, id)): Path<(String, String)>,
    body: Bytes,
) -> Response<Body> {
    let mut tables = tables.lock().expect("unpoisoned");
    match tables.records.entry(kind).or_default().get_mut(&id) {
        Some(record) => {
            write(record, &body);
            empty()
        }
        None => error(404, "NOT_FOUND", "The requested resource does not exist"),
    }
}

async fn remove(State(tables): State<Shared>, Path((kind, id)): Path<(String, String)>) -> Response<Body> {
    let mut tables = tables.lock().expect("unpoisoned");
    tables.deleted.push(id.clone());
    if tables.keeps_members {
        return empty();
    }
    match tables.records.entry(kind).or_default().remove(&id) {
        Some(_) => empty(),
        None => error(404, "ENTITY_IS_DELETED", "entity is deleted"),
    }
}

async fn upsert(
    State(tables): State<Shared>,
    Path((kind, field, value)): Path<(String, String, String)>,
    body: Bytes,
) -> Response<Body> {
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    if sent.get(&field).is_some() {
        return error(400, "INVALID_FIELD", "The field is in the path and in the body");
    }
    let mut tables = tables.lock().expect("unpoisoned");
    let all = tables.records.entry(kind).or_default();
    let id = format!("x-{value}");
    let is_new = !all.contains_key(&id);
    let record = all.entry(id.clone()).or_insert_with(|| json!({ "Id": id, field: value }));
    write(record, &body);
    json(
        if is_new { 201 } else { 200 },
        json!({ "id": id, "success": true, "created": is_new, "errors": [] }),
    )
}

async fn describe() -> Response<Body> {
    let field = |name: &str, kind: &str, length: u64, writable: bool, values: &[&str]| {
        let values: Vec<_> = values
            .iter()
            .map(|value| json!({ "value": value, "label": value.to_uppercase(), "active": *value != "old" }))
            .collect();
        json!({ "name": name, "label": format!("The {name}"), "type": kind, "length": length, "nillable": true, "createable": writable, "updateable": writable, "defaultedOnCreate": false, "externalId": false, "picklistValues": values })
    };
    let mut all = vec![
        field("Id", "id", 18, false, &[]),
        field("LastName", "string", 80, true, &[]),
        field("Email", "email", 80, true, &[]),
        field("LeadSource", "picklist", 255, true, &["signup", "Web"]),
        field("MailingAddress", "address", 0, true, &[]),
        field("Tier__c", "picklist", 255, true, &["free", "pro", "old"]),
        field("Topics__c", "multipicklist", 4099, true, &["Rust", "Tea"]),
        field("Age__c", "double", 0, true, &[]),
        field("Code__c", "string", 20, true, &[]),
    ];
    all[8]["nillable"] = false.into();
    json(200, json!({ "name": "Contact", "fields": all }))
}
