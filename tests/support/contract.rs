//! What the server says of itself at `/openapi.json`, and whether it keeps to it.
//!
//! Every answer that goes through [`super::send`] is held against it: its status must be declared for the
//! operation, its headers too, and its body must be as the schema says, without a member more.

use super::Answer;
use jsonschema::{Draft, Validator};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Map, Value, json, value::RawValue};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

/// Headers that are worth a promise; others belong to HTTP itself.
const PROMISED: [&str; 9] = [
    "x-request-id",
    "www-authenticate",
    "retry-after",
    "location",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "etag",
    "cache-control",
];
const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "options"];

/// Paths that are not of the API: their protocol tells by itself what is said there, or they are pages.
const OUTSIDE: [&str; 3] = ["/mcp", "/oauth/start", "/oauth/callback"];

/// The document, read for looking things up.
pub struct Contract {
    pub document: Value,
    paths: Vec<Vec<String>>,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// One operation of the document.
#[derive(Clone, Copy)]
pub struct Operation<'c> {
    pub id: &'c str,
    pub method: &'c str,
    pub path: &'c str,
    pub told: &'c Value,
}

/// What this build of the server says.
pub fn contract() -> &'static Contract {
    static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::of(weft::api::openapi::document()));
    &CONTRACT
}

impl Contract {
    pub fn of(document: Value) -> Self {
        let paths = document["paths"].as_object().expect("paths").keys();
        let paths = paths.map(|path| path.split('/').map(str::to_owned).collect()).collect();
        Self { document, paths, validators: Mutex::default() }
    }

    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let paths = self.document["paths"].as_object().expect("paths").iter();
        paths.flat_map(move |(path, item)| {
            METHODS.iter().filter_map(move |method| self.operation(path, item, method))
        })
    }

    fn operation<'c>(&'c self, path: &'c str, item: &'c Value, method: &'c str) -> Option<Operation<'c>> {
        let told = item.get(method)?;
        let id = told["operationId"].as_str().expect("an operation has an id");
        Some(Operation { id, method, path, told })
    }

    /// What `$ref` leads to, or the value itself.
    pub fn resolve<'c>(&'c self, value: &'c Value) -> &'c Value {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return value };
        let pointer = reference.strip_prefix('#').expect("references stay in the document");
        let found = self.document.pointer(pointer);
        self.resolve(found.unwrap_or_else(|| panic!("{reference} leads nowhere")))
    }

    /// The path of the document that this one is of. What has a name goes before what has an id there.
    fn template(&self, path: &str) -> Option<&str> {
        let asked: Vec<_> = path.split('/').collect();
        let is_name = |part: &String| part.starts_with('{');
        let fits = |parts: &&Vec<String>| {
            parts.len() == asked.len()
                && parts.iter().zip(&asked).all(|(part, asked)| is_name(part) || part == asked)
        };
        let found = self
            .paths
            .iter()
            .filter(fits)
            .min_by_key(|parts| parts.iter().filter(|part| is_name(part)).count());
        let found = found?.join("/");
        self.document["paths"]
            .as_object()
            .expect("paths")
            .keys()
            .map(String::as_str)
            .find(|path| **path == found)
    }

    /// Fails the test if the document has to object to an answer.
    #[track_caller]
    pub fn assert_keeps(&self, method: &Method, path: &str, answer: &Answer) {
        if let Some(why) = self.objection(method, path, answer) {
            panic!("{why}");
        }
    }

    /// What the document has to object to an answer.
    pub fn objection(&self, method: &Method, path: &str, answer: &Answer) -> Option<String> {
        if OUTSIDE.contains(&path) {
            return None;
        }
        let is_head = method == Method::HEAD;
        let name = if is_head { "GET" } else { method.as_str() };
        let item = self.template(path).map(|template| (template, &self.document["paths"][template]));
        let Some((template, item)) = item else {
            // What is no route is told so, and what is no request of ours before that.
            return self
                .objection_to_error(answer, &[400, 404, 405, 414], is_head)
                .map(|why| format!("no operation: {why}"));
        };
        let known = METHODS.iter().find(|known| known.to_uppercase() == name);
        let operation = known.and_then(|method| self.operation(template, item, method));
        let Some(operation) = operation else {
            return self
                .objection_to_error(answer, &[400, 404, 405, 414], is_head)
                .map(|why| format!("{template} has no {name}: {why}"));
        };
        let objection = self.objection_to(operation, answer, is_head);
        objection.map(|why| format!("{} ({name} {template}) answered {}: {why}", operation.id, answer.status))
    }

    fn objection_to_error(&self, answer: &Answer, statuses: &[u16], is_head: bool) -> Option<String> {
        if !statuses.contains(&answer.status) {
            return Some(format!("{} instead of {statuses:?}", answer.status));
        }
        if is_head {
            return None;
        }
        self.objection_to_body(
            "#/components/schemas/Error",
            &json!({ "$ref": "#/components/schemas/Error" }),
            answer,
        )
    }

    fn objection_to(&self, operation: Operation<'_>, answer: &Answer, is_head: bool) -> Option<String> {
        let Operation { id, told, .. } = operation;
        let declared = told["responses"].as_object().expect("responses");
        let Some(response) = declared.get(&answer.status.to_string()) else {
            return Some(format!("the document declares no such status; the body is {}", answer.text));
        };
        let response = self.resolve(response);
        if let Some(why) = self.objection_to_headers(declared, response, &answer.headers) {
            return Some(why);
        }
        let media = answer
            .header("content-type")
            .map(|media| media.split(';').next().unwrap_or(media).trim().to_owned());
        let content = response.get("content").and_then(Value::as_object);
        let Some(content) = content else {
            return (!answer.text.is_empty()).then(|| "a body, where the document declares none".to_owned());
        };
        if is_head {
            return None;
        }
        let Some(content) = media.as_deref().and_then(|media| content.get(media)) else {
            return Some(format!("the document declares no content of type {media:?}"));
        };
        let place = format!("{id} {}", answer.status);
        match media.as_deref() {
            Some("application/json") => self.objection_to_body(&place, &content["schema"], answer),
            Some("application/x-ndjson") => answer.text.lines().enumerate().find_map(|(number, line)| {
                let why = self.objection_to_text(&place, &content["schema"], line)?;
                Some(format!("line {number}: {why}"))
            }),
            _ => None,
        }
    }

    fn objection_to_headers(
        &self,
        declared: &Map<String, Value>,
        response: &Value,
        headers: &HeaderMap,
    ) -> Option<String> {
        let of = |response: &Value| response["headers"].as_object().cloned().unwrap_or_default();
        for (name, header) in of(response) {
            let header = self.resolve(&header).clone();
            let found = headers.get(&*name).map(|value| value.to_str().expect("a header is text"));
            match found {
                None if header["required"] == true => return Some(format!("the header {name} is missing")),
                Some(value) if header["schema"]["type"] == "integer" && value.parse::<u64>().is_err() => {
                    return Some(format!("the header {name} is no number: {value}"));
                }
                _ => {}
            }
        }
        // One that comes with some answers of an operation may come with its errors too.
        let all: Vec<_> =
            declared.values().flat_map(|response| of(self.resolve(response)).into_iter()).collect();
        let is_declared = |name: &str| all.iter().any(|(declared, _)| declared.eq_ignore_ascii_case(name));
        let promised = headers
            .keys()
            .map(|name| name.as_str())
            .filter(|name| PROMISED.contains(name) || name.starts_with("access-control-"));
        let mut undeclared = promised.filter(|name| !is_declared(name));
        undeclared.next().map(|name| format!("the document declares no header {name}"))
    }

    fn objection_to_body(&self, place: &str, schema: &Value, answer: &Answer) -> Option<String> {
        if answer.header("content-type") != Some("application/json") {
            return Some(format!("the content type is {:?}", answer.header("content-type")));
        }
        self.objection_to_text(place, schema, &answer.text)
    }

    fn objection_to_text(&self, place: &str, schema: &Value, text: &str) -> Option<String> {
        match serde_json::from_str::<Value>(text) {
            Ok(body) => self.objection_to_value(place, schema, &body),
            // A payload may have numbers that no program holds; it is JSON all the same.
            Err(_) if serde_json::from_str::<&RawValue>(text).is_ok() => None,
            Err(err) => Some(format!("not JSON: {err}: {text}")),
        }
    }

    /// What a schema has to object to a value; `place` names the schema.
    pub fn objection_to_value(&self, place: &str, schema: &Value, value: &Value) -> Option<String> {
        let known = self.validators.lock().expect("nobody panics with it").get(place).cloned();
        let validator = known.unwrap_or_else(|| {
            let made = Arc::new(self.validator(schema).unwrap_or_else(|err| panic!("{place}: {err}")));
            self.validators.lock().expect("nobody panics with it").insert(place.to_owned(), made.clone());
            made
        });
        let objections: Vec<_> =
            validator.iter_errors(value).map(|err| format!("{}: {err}", err.instance_path())).collect();
        (!objections.is_empty()).then(|| format!("{}; the body is {value}", objections.join("; ")))
    }

    /// All schemas that a value refers to, by their names.
    fn collect(&self, value: &Value, used: &mut Map<String, Value>) {
        match value {
            Value::Object(members) => {
                let name = members.get("$ref").and_then(Value::as_str).and_then(|it| it.rsplit('/').next());
                if let Some(name) = name.filter(|name| !used.contains_key(*name)) {
                    let schema = self.document["components"]["schemas"][name].clone();
                    used.insert(name.to_owned(), schema.clone());
                    self.collect(&schema, used);
                }
                members.values().for_each(|inner| self.collect(inner, used));
            }
            Value::Array(items) => items.iter().for_each(|inner| self.collect(inner, used)),
            _ => {}
        }
    }

    /// A schema of the document on its own.
    pub fn validator(&self, schema: &Value) -> Result<Validator, String> {
        let mut used = Map::new();
        self.collect(schema, &mut used);
        let whole = json!({ "allOf": [schema], "components": { "schemas": used } });
        let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
        options.build(&whole).map_err(|err| err.to_string())
    }
}
