//! The API as OpenAPI 3.1: `/openapi.json`, and what `weft openapi` prints.
//!
//! An operation is a row in one of the files below: [`Operation`] says the common parts. Schemas are derived from
//! the very types that handlers read and write. `tests/e2e/openapi.rs` compares the rows with the table of routes,
//! and every answer that any end-to-end test gets is held against what its row says.

mod access;
mod connections;
mod events;
mod operation;
mod ops;
mod rules;
pub(super) mod schema;
mod users;
mod workspaces;

use self::operation::{Describe, Operation, of};
use super::error::Whole;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use schemars::{SchemaGenerator, generate::SchemaSettings, transform::Transform};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, sync::LazyLock};

const SCHEMAS: &str = "/components/schemas";

/// Operations about one thing.
struct Tag {
    name: &'static str,
    description: &'static str,
    operations: Vec<Operation>,
}

fn tags() -> Vec<Tag> {
    [
        workspaces::tags(),
        connections::tags(),
        rules::tags(),
        events::tags(),
        access::tags(),
        users::tags(),
        ops::tags(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The document.
pub fn document() -> Value {
    let mut generators = Generators::default();
    let mut paths = Map::new();
    let mut told = Vec::new();
    for Tag { name, description, operations } in tags() {
        told.push(json!({ "name": name, "description": description }));
        for operation in operations {
            let (method, path) = (operation.method, operation.path);
            let place = paths.entry(path).or_insert_with(|| json!({}));
            place[method] = operation.describe(name, &mut generators);
        }
    }
    let error = generators.of_answer(of::<Whole<'_>>);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weft",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Your app emits an event once; Weft carries it to every endpoint your customers configured.",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": told,
        "paths": paths,
        "components": {
            "securitySchemes": security_schemes(),
            "parameters": operation::parameters(),
            "headers": headers(),
            "responses": operation::responses(&error),
        },
    });
    generators.finish(&mut document);
    document
}

const ABOUT: &str = "\
JSON both ways. Every answer has an `X-Request-Id`; every error is an `Error`, whose `message` is for a person and \
whose `error.data` names the parameters that are wrong. Members and parameters that are not known are ignored.

Lists are pages: send `next_cursor` back as `cursor` until it is null. Times are RFC 3339 in UTC, ids are UUIDs in \
lower case. What belongs to others cannot be told from what is not there: both are 404.

A request that is no operation of this document is 404, one with a method that its path does not have 405, with \
`Allow`. What is no HTTP is answered before any of this, with a bare 400 or 431.";

fn security_schemes() -> Value {
    json!({
        "bearerAuth": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "A machine key's token, signed by the caller: HS256 with the secret key as text; header `kid` the access key; claims `iss` `urn:meshes:m2m:` and the access key, `aud` `meshes-api`, `org` the organization, `iat`, and `exp` at most 60 seconds later. `weft token` prints one. The roles are permissions of the key.",
        },
        "sessionToken": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "The `access_token` of a session. A `member` may read; `admin` and `owner` may write; payloads need the scope `events.payload:read` too.",
        },
        "userToken": {
            "type": "http", "scheme": "bearer",
            "description": "The `access_token` of who signed in. A `member` may read, retry and cancel, an `admin` change what is in workspaces too, an `owner` everything; none may send events.",
        },
        "publishableKey": {
            "type": "apiKey", "in": "header", "name": "X-Meshes-Publishable-Key",
            "description": "A workspace's publishable key: it may send events into that workspace, also from browsers, and nothing else.",
        },
    })
}

/// Headers of answers, by their names.
#[rustfmt::skip] // the columns are the point
fn headers() -> Value {
    let all: [(&str, &str, bool, &str); 15] = [
        ("X-Request-Id",                  "string",  true,  "The request's `X-Request-Id`, or a new one. Support can find the request by it."),
        ("WWW-Authenticate",              "string",  true,  "`Bearer`."),
        ("Retry-After",                   "integer", true,  "Seconds to wait."),
        ("Location",                      "string",  true,  "Where to read what was made."),
        ("RateLimit-Limit",               "integer", false, "Events the workspace may send at once."),
        ("RateLimit-Remaining",           "integer", false, "Of these, how many it may still send now."),
        ("RateLimit-Reset",               "integer", false, "Seconds until it may send all of them again."),
        ("ETag",                          "string",  true,  "Names this version."),
        ("Cache-Control",                 "string",  true,  "How long it may be kept."),
        ("Allow",                         "string",  true,  "The methods a page may use."),
        ("Access-Control-Allow-Origin",   "string",  true,  "`*`: pages from anywhere may read the answer."),
        ("Access-Control-Expose-Headers", "string",  true,  "Headers that such a page may read."),
        ("Access-Control-Allow-Methods",  "string",  true,  "Methods that such a page may use."),
        ("Access-Control-Allow-Headers",  "string",  true,  "Headers that such a page may send."),
        ("Access-Control-Max-Age",        "integer", true,  "Seconds for which the browser need not ask again."),
    ];
    let shown = |(name, kind, required, description): (&str, &str, bool, &str)| {
        (name.to_owned(), json!({ "description": description, "required": required, "schema": { "type": kind } }))
    };
    all.into_iter().map(shown).collect()
}

/// What has schemas: answers as they are written, requests as they are read.
pub struct Generators {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Default for Generators {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.meta_schema = None;
            settings.definitions_path = SCHEMAS.into();
        });
        let answers = settings.clone().for_serialize().with_transform(schema::of_answer).into_generator();
        let requests = settings.for_deserialize().with_transform(schema::of_request).into_generator();
        Self { answers, requests }
    }
}

impl Generators {
    fn of_answer(&mut self, describe: Describe) -> Value {
        let mut schema = describe(&mut self.answers);
        schema::of_answer.transform(&mut schema);
        schema.to_value()
    }

    /// Its references are told apart until [`Self::finish`].
    fn of_request(&mut self, describe: Describe) -> Value {
        let mut schema = describe(&mut self.requests);
        schema::of_request.transform(&mut schema);
        let mut schema = schema.to_value();
        refer(&mut schema, &|name| format!("{name}{REQUEST}"));
        schema
    }

    /// Puts all schemas into the document. One that is read as it is written is there once.
    fn finish(mut self, document: &mut Value) {
        let mut schemas = self.answers.take_definitions(true);
        let mut of_requests = self.requests.take_definitions(true);
        // Two that refer to what differs are different themselves, so again until nothing is.
        let mut differing: Vec<String> = Vec::new();
        loop {
            let refers = |schema: &Value| {
                let text = schema.to_string();
                differing.iter().any(|name| text.contains(&format!("{SCHEMAS}/{name}\"")))
            };
            let differs = |name: &String, schema: &Value| {
                schemas.get(name).is_some_and(|other| other != schema || refers(schema))
            };
            let new: Vec<_> = of_requests
                .iter()
                .filter(|(name, schema)| !differing.contains(name) && differs(name, schema))
                .map(|(name, _)| name.clone())
                .collect();
            if new.is_empty() {
                break;
            }
            differing.extend(new);
        }
        let named = |name: &str| {
            if differing.iter().any(|it| it == name) { format!("{name}Input") } else { name.to_owned() }
        };
        for schema in of_requests.values_mut() {
            refer(schema, &named);
        }
        schemas.extend(of_requests.into_iter().map(|(name, schema)| (named(&name), schema)));
        refer(document, &|name| name.strip_suffix(REQUEST).map_or_else(|| name.to_owned(), named));
        document["components"]["schemas"] = schemas.into();
        // Types are called after what they are for, unless another one is called so already.
        let Some(Value::Object(schemas)) = document["components"].get_mut("schemas") else { return };
        let names: BTreeSet<String> = schemas.keys().cloned().collect();
        let named = |name: &str| match name.replace("Json", "") {
            short if names.contains(&short) => name.to_owned(),
            short => short,
        };
        *schemas = std::mem::take(schemas).into_iter().map(|(name, schema)| (named(&name), schema)).collect();
        schemas.sort_keys();
        refer(document, &named);
    }
}

/// Marks a reference from a request.
const REQUEST: &str = "~request";

/// Renames what is referred to.
fn refer(value: &mut Value, named: &impl Fn(&str) -> String) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(&format!("#{SCHEMAS}/"))
            {
                *reference = format!("#{SCHEMAS}/{}", named(name));
            }
            members.values_mut().for_each(|value| refer(value, named));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| refer(value, named)),
        _ => {}
    }
}

/// The document as it is sent, with its tag.
static SERVED: LazyLock<(Bytes, HeaderValue)> = LazyLock::new(|| {
    let bytes = Bytes::from(document().to_string());
    let hash: String = Sha256::digest(&bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = HeaderValue::try_from(format!("\"{hash}\"")).expect("hex digits are a header value");
    (bytes, tag)
});

/// `GET /openapi.json`.
pub(super) async fn serve(headers: HeaderMap) -> Response {
    let (bytes, tag) = &*SERVED;
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known =
        asked.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == "*" || one == tag);
    let caching = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (caching, [json], bytes.clone()).into_response()
}
