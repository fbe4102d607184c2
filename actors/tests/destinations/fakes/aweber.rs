//! AWeber's API 1.0, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{Response, StatusCode},
    middleware::{Next, from_fn},
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

pub const TOKEN: &str = "token-of-today-of-aweber";
pub const ACCOUNT: &str = "123456";

/// What the account has.
pub struct Tables {
    pub token: &'static str,
    pub lists: usize,
    /// By list and e-mail address.
    pub subscribers: BTreeMap<(String, String), Subscriber>,
}

#[derive(Clone, Debug, Default)]
pub struct Subscriber {
    pub status: String,
    pub tags: Vec<String>,
    /// As it was added.
    pub body: Value,
}

impl Default for Tables {
    fn default() -> Self {
        Self { token: TOKEN, lists: 2, subscribers: BTreeMap::new() }
    }
}

type Shared = Arc<Mutex<Tables>>;
type Asked = Query<HashMap<String, String>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    Router::new()
        .route(
            "/1.0/accounts",
            get(async || {
                json(200, json!({ "entries": [{ "id": 123_456, "uuid": "u" }], "start": 0, "total_size": 1 }))
            }),
        )
        .route("/1.0/accounts/{account}/lists", get(lists))
        .route("/1.0/accounts/{account}/lists/{list}/custom_fields", get(custom_fields))
        .route("/1.0/accounts/{account}/lists/{list}/subscribers", post(add).patch(update))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

fn error(status: u16, kind: &str, message: &str) -> Response<Body> {
    let url = "https://api.aweber.com/#tag/Troubleshooting";
    json(
        status,
        json!({ "error": { "status": status, "message": message, "type": kind, "documentation_url": url } }),
    )
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let expected = format!("Bearer {}", tables.lock().expect("unpoisoned").token);
    let is_in = request.headers().get("authorization").is_some_and(|found| *found == *expected);
    let path = request.uri().path();
    let is_ours = path == "/1.0/accounts" || path.starts_with(&format!("/1.0/accounts/{ACCOUNT}/"));
    match (is_in, is_ours) {
        (false, _) => error(401, "UnauthorizedError", "Invalid Token"),
        (true, false) => error(401, "UnauthorizedError", "Invalid Account"),
        (true, true) => next.run(request).await,
    }
}

async fn add(
    State(tables): State<Shared>,
    Path((_, list)): Path<(String, String)>,
    body: Bytes,
) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let email = body["email"].as_str().unwrap_or_default().to_owned();
    let mut tables = tables.lock().expect("unpoisoned");
    if !list.parse::<usize>().is_ok_and(|list| list <= tables.lists) {
        return error(404, "NotFoundError", "Object: None, name: 'list'");
    }
    if !email.contains('@') || email.len() > 50 {
        return error(400, "WebServiceError", "email: Invalid email address.");
    }
    let flags = ["update_existing", "strict_custom_fields"];
    if flags.iter().any(|flag| !body[*flag].is_string()) {
        return error(400, "InvalidTypeError", "update_existing: must be a string");
    }
    let private = body["ip_address"].as_str().is_some_and(|ip| ip.starts_with("10.") || ip.contains(':'));
    if private {
        return error(400, "BadRequestError", "ip_address: must be a public IPv4 address");
    }
    let who = (list.clone(), email);
    if tables.subscribers.contains_key(&who) && body["update_existing"] != "true" {
        return error(400, "WebServiceError", "email: Subscriber already subscribed.");
    }
    let new = Subscriber { status: "subscribed".to_owned(), ..Subscriber::default() };
    let subscriber = tables.subscribers.entry(who).or_insert(new);
    tagged(subscriber, &body["tags"], &Value::Null);
    subscriber.body = body;
    let location = format!("https://api.aweber.com/1.0/accounts/{ACCOUNT}/lists/{list}/subscribers/1");
    (StatusCode::CREATED, [("location", location)]).into_response()
}

fn tagged(subscriber: &mut Subscriber, add: &Value, remove: &Value) {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let (add, remove) = (texts(add), texts(remove));
    subscriber.tags.retain(|tag| !remove.contains(tag) && !add.contains(tag));
    subscriber.tags.extend(add);
}

/// 209, which is no status of HTTP's.
async fn update(
    State(tables): State<Shared>,
    Path((_, list)): Path<(String, String)>,
    Query(query): Asked,
    body: Bytes,
) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let email = query.get("subscriber_email").cloned().unwrap_or_default();
    let mut tables = tables.lock().expect("unpoisoned");
    let Some(subscriber) = tables.subscribers.get_mut(&(list, email.clone())) else {
        return error(404, "NotFoundError", "Object: None, name: 'subscriber'");
    };
    if let Some(status) = body["status"].as_str() {
        subscriber.status = status.to_owned();
    }
    tagged(subscriber, &body["tags"]["add"], &body["tags"]["remove"]);
    json(209, json!({ "id": 1, "email": email, "status": subscriber.status, "tags": subscriber.tags }))
}

fn page(path: &str, all: Vec<Value>, query: &HashMap<String, String>) -> Response<Body> {
    let number =
        |key: &str, default: usize| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (start, size, total) = (number("ws.start", 0), number("ws.size", 100).min(100), all.len());
    let shown: Vec<_> = all.into_iter().skip(start).take(size).collect();
    let mut body = json!({ "entries": shown, "start": start, "total_size": total });
    if start + size < total {
        let next = start + size;
        body["next_collection_link"] =
            format!("https://api.aweber.com/1.0/{path}?ws.start={next}&ws.size={size}").into();
    }
    json(200, body)
}

async fn lists(State(tables): State<Shared>, Query(query): Asked) -> Response<Body> {
    let all = 1..=tables.lock().expect("unpoisoned").lists;
    let all = all.map(|n| json!({ "id": n, "name": format!("List {n}") })).collect();
    page("accounts/123456/lists", all, &query)
}

async fn custom_fields(Path((_, list)): Path<(String, String)>, Query(query): Asked) -> Response<Body> {
    let field = |name: &str| json!({ "id": 1, "name": name, "is_subscriber_updateable": true });
    let mut all = vec![field("source")];
    if list != "1" {
        all.push(field("Tier of it"));
    }
    page("accounts/123456/lists/1/custom_fields", all, &query)
}
