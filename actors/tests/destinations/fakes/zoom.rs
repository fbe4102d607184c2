//! Zoom's API v2, as far as we use it.

use super::json;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::Response,
    middleware::{Next, from_fn},
    routing::{get, post, put},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

pub const TOKEN: &str = "eyJzdiI6IjAwMDAwMSJ9.of-zoom-12345678";
/// Longer than 32 bits.
pub const MEETING: &str = "85746065123";
pub const WEBINAR: &str = "97871060099";

/// What the account has.
pub struct Tables {
    pub token: &'static str,
    /// By meeting or webinar and address.
    pub registrants: BTreeMap<(String, String), Value>,
    /// How often somebody was registered.
    pub times: HashMap<(String, String), usize>,
    /// How often one person may be, in a day.
    pub times_max: usize,
    pub has_webinars: bool,
    pub may_see_questions: bool,
}

impl Default for Tables {
    fn default() -> Self {
        let (registrants, times) = Default::default();
        Self {
            token: TOKEN,
            registrants,
            times,
            times_max: usize::MAX,
            has_webinars: true,
            may_see_questions: true,
        }
    }
}

type Shared = Arc<Mutex<Tables>>;

pub fn routes(tables: Shared) -> Router {
    let held = tables.clone();
    let me = async || {
        json(
            200,
            json!({ "id": "KDcuGIm1QgePTO8WbOqwIQ", "account_id": "EAAAbbbbbCCCCHMA", "email": "host@example.com", "type": 2 }),
        )
    };
    Router::new()
        .route("/v2/users/me", get(me))
        .route("/v2/users/me/meetings", get(meetings))
        .route("/v2/users/me/webinars", get(webinars))
        .route("/v2/{kind}/{id}/registrants", post(register))
        .route("/v2/{kind}/{id}/registrants/status", put(cancel))
        .route("/v2/{kind}/{id}/registrants/questions", get(questions))
        .with_state(tables)
        .layer(from_fn(move |request, next| enter(held.clone(), request, next)))
}

async fn enter(tables: Shared, request: Request, next: Next) -> Response<Body> {
    let expected = format!("Bearer {}", tables.lock().expect("unpoisoned").token);
    match request.headers().get("authorization").is_some_and(|found| found == &expected) {
        true => next.run(request).await,
        false => json(401, json!({ "code": 124, "message": "Invalid access token." })),
    }
}

fn not_there(kind: &str, id: &str) -> Option<Response<Body>> {
    match (kind, id) {
        ("meetings", MEETING) | ("webinars", WEBINAR) => None,
        ("meetings", _) => {
            Some(json(404, json!({ "code": 3001, "message": format!("Meeting does not exist: {id}.") })))
        }
        _ => Some(json(404, json!({ "code": 3001, "message": format!("Webinar does not exist: {id}.") }))),
    }
}

async fn register(
    State(tables): State<Shared>,
    Path((kind, id)): Path<(String, String)>,
    body: Bytes,
) -> Response<Body> {
    if let Some(answer) = not_there(&kind, &id) {
        return answer;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    for (field, most) in [("email", 128), ("first_name", 64), ("last_name", 64)] {
        let text = body[field].as_str().unwrap_or_default();
        if text.is_empty() || text.chars().count() > most || (field == "email" && !text.contains('@')) {
            let errors = json!([{ "field": field, "message": "Invalid field." }]);
            return json(400, json!({ "code": 300, "message": "Validation Failed.", "errors": errors }));
        }
    }
    let email = body["email"].as_str().unwrap_or_default().to_owned();
    let key = (id.clone(), email.clone());
    let mut tables = tables.lock().expect("unpoisoned");
    let most = tables.times_max;
    let times = tables.times.entry(key.clone()).or_default();
    *times += 1;
    if *times > most {
        let message = format!(
            "You have exceeded the daily rate limit of ({most}) for Add meeting registrant API requests for the registrant ({email}). You may resume these requests at GMT 00:00:00."
        );
        return json(429, json!({ "code": 429, "message": message }));
    }
    tables.registrants.insert(key, body);
    json(
        201,
        json!({ "id": id.parse::<u64>().unwrap_or(0), "registrant_id": "fdgsfh2ey82fuh", "topic": "Launch", "start_time": "2026-02-01T10:00:00Z", "join_url": "https://example.com/j/1" }),
    )
}

async fn cancel(
    State(tables): State<Shared>,
    Path((kind, id)): Path<(String, String)>,
    body: Bytes,
) -> Response<Body> {
    if let Some(answer) = not_there(&kind, &id) {
        return answer;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if body["action"] != "cancel" {
        return json(400, json!({ "code": 300, "message": "Invalid action." }));
    }
    let email = body["registrants"][0]["email"].as_str().unwrap_or_default().to_owned();
    tables.lock().expect("unpoisoned").registrants.remove(&(id, email));
    Response::builder().status(204).body(Body::empty()).expect("an answer")
}

/// Two pages; what recurs is there for each time.
async fn meetings(Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    let meeting = |id: &str, topic: &str, start: &str| json!({ "id": id.parse::<u64>().expect("a number"), "topic": topic, "type": 2, "start_time": start });
    if query.get("type").map(String::as_str) != Some("upcoming") {
        return json(400, json!({ "code": 300, "message": "Invalid type." }));
    }
    let (meetings, next) = match query.get("next_page_token").map(String::as_str) {
        None => (
            json!([
                meeting(MEETING, "Launch", "2026-02-01T10:00:00Z"),
                meeting(MEETING, "Launch", "2026-02-08T10:00:00Z")
            ]),
            "w7587w4eiyfsudgf",
        ),
        Some("w7587w4eiyfsudgf") => {
            (json!([{ "id": 98_000_000_001_u64, "topic": "Open house", "type": 3 }]), "")
        }
        Some(_) => {
            return json(
                400,
                json!({ "code": 300, "message": "The next page token is invalid or expired." }),
            );
        }
    };
    json(200, json!({ "page_size": 300, "next_page_token": next, "meetings": meetings }))
}

async fn webinars(State(tables): State<Shared>) -> Response<Body> {
    if !tables.lock().expect("unpoisoned").has_webinars {
        return json(
            400,
            json!({ "code": 200, "message": "Webinar plan is missing. You must subscribe to the webinar plan and enable webinars for this user." }),
        );
    }
    let webinar = json!({ "id": WEBINAR.parse::<u64>().expect("a number"), "topic": "Analytics", "start_time": "2026-03-01T10:00:00Z" });
    json(200, json!({ "page_size": 300, "next_page_token": "", "webinars": [webinar] }))
}

async fn questions(State(tables): State<Shared>, Path((kind, _)): Path<(String, String)>) -> Response<Body> {
    if !tables.lock().expect("unpoisoned").may_see_questions {
        return json(
            400,
            json!({ "code": 4711, "message": "Invalid access token, does not contain scopes:[meeting:read:list_registration_questions]." }),
        );
    }
    let custom = match &kind[..] {
        "meetings" => json!([{ "title": "Source", "type": "short", "required": false, "answers": [] }]),
        _ => json!([
            { "title": "Source", "type": "short", "required": false },
            { "title": "Size?", "type": "single_dropdown", "required": true, "answers": ["small", "large"] },
        ]),
    };
    json(
        200,
        json!({ "custom_questions": custom, "questions": [{ "field_name": "last_name", "required": true }] }),
    )
}
