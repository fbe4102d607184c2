//! The API's document: complete, sound in itself, and the same wherever it is asked for.

use crate::{
    isolation::{For, ROUTES, table},
    support::{
        Place, Weft,
        contract::{Contract, contract},
        send,
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Routes that are no operations of the document, each with the reason.
const NOT_DESCRIBED: [(&str, &str, &str); 3] = [
    ("POST", "/mcp", "its methods are told by the Model Context Protocol itself"),
    ("GET", "/oauth/start", "it sends a browser on"),
    ("GET", "/oauth/callback", "it is a page"),
];

/// A path of the document as the table of routes has it.
fn route(path: &str) -> &str {
    path.strip_prefix("/api/v1").unwrap_or(path)
}

/// All values in the document with their pointers.
fn walk<'v>(value: &'v Value, place: String, visit: &mut impl FnMut(&str, &'v Value)) {
    visit(&place, value);
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                walk(inner, format!("{place}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                walk(inner, format!("{place}/{index}"), visit);
            }
        }
        _ => {}
    }
}

#[test]
fn every_route_is_an_operation_and_every_operation_a_route() {
    let described: BTreeSet<_> =
        contract().operations().map(|it| (it.method.to_uppercase(), route(it.path).to_owned())).collect();
    let mut routes: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    for (method, path, why) in NOT_DESCRIBED {
        assert!(
            routes.remove(&(method.to_owned(), path.to_owned())),
            "{method} {path} is no route, {why} or not"
        );
    }
    assert_eq!(described, routes, "src/api/openapi has a row for each route");
}

/// What the table of routes asks of callers is what the document says of them.
#[test]
fn every_operation_asks_for_what_its_route_asks_for() {
    let asked: BTreeMap<_, _> =
        table().into_iter().map(|(method, path, asks)| ((method, path), asks)).collect();
    let of_sessions: BTreeMap<_, _> =
        ROUTES.iter().map(|(method, path, whom, of)| ((*method, *path), (*whom, of.is_some()))).collect();
    for operation in contract().operations() {
        let (method, path) = (operation.method.to_uppercase(), route(operation.path));
        let security = operation.told["security"].as_array().expect("a list");
        let roles = |scheme: &str| security.iter().find_map(|one| one.get(scheme)).cloned();
        let (whom, is_for_sessions) = of_sessions[&(method.as_str(), path)];
        let why = operation.id;
        match &asked[&(method, path.to_owned())] {
            Some(permission) => {
                let role = json!([permission.to_lowercase()]);
                assert_eq!(roles("userToken"), Some(role.clone()), "{why}");
                assert_eq!(roles("bearerAuth"), (whom != For::User).then(|| role.clone()), "{why}");
                assert_eq!(roles("sessionToken"), is_for_sessions.then_some(role), "{why}");
                assert_eq!(roles("publishableKey"), None, "{why}");
            }
            None if whom == For::Sender => {
                assert_eq!(roles("publishableKey"), Some(json!([])), "{why}");
                assert_eq!(roles("bearerAuth"), Some(json!(["send"])), "{why}");
            }
            None => assert!(security.is_empty() && whom.is_open(), "{why}"),
        }
    }
}

#[test]
fn the_document_is_sound() {
    let Contract { document, .. } = contract();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let tags: BTreeSet<_> =
        document["tags"].as_array().expect("tags").iter().map(|tag| tag["name"].as_str()).collect();
    let mut ids = BTreeSet::new();
    for operation in contract().operations() {
        let (id, told) = (operation.id, operation.told);
        assert!(ids.insert(id), "two operations are {id}");
        assert!(
            id.starts_with(|c: char| c.is_ascii_lowercase()) && id.bytes().all(|b| b.is_ascii_alphanumeric()),
            "{id}"
        );
        assert!(told["summary"].as_str().is_some_and(|text| (5..=80).contains(&text.len())), "{id}");
        assert!(tags.contains(&told["tags"][0].as_str()), "{id}");
        let parameters: Vec<_> =
            told["parameters"].as_array().expect("a list").iter().map(|it| contract().resolve(it)).collect();
        let mut named = BTreeSet::new();
        for parameter in &parameters {
            let place = (parameter["in"].as_str(), parameter["name"].as_str());
            assert!(named.insert(place), "{id} has two parameters {place:?}");
            assert!(
                parameter["description"].is_string() && !parameter["schema"].is_null(),
                "{id}: {parameter}"
            );
        }
        let in_path: BTreeSet<_> = parameters
            .iter()
            .filter(|it| it["in"] == "path")
            .map(|it| it["name"].as_str().expect("a name"))
            .collect();
        let in_template: BTreeSet<_> =
            operation.path.split('{').skip(1).map(|rest| rest.split('}').next().expect("its end")).collect();
        assert_eq!(in_path, in_template, "{id}");
        let responses = told["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{id} never succeeds");
        for (status, response) in responses {
            let response = contract().resolve(response);
            assert!(response["description"].as_str().is_some_and(|text| text.len() > 5), "{id} {status}");
            assert!(response["headers"]["X-Request-Id"].is_object(), "{id} {status}");
            if status.starts_with(['4', '5']) {
                let schema = &response["content"]["application/json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Error", "{id} {status}");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_nothing_is_there_in_vain() {
    let Contract { document, .. } = contract();
    let mut used = BTreeSet::new();
    walk(document, String::new(), &mut |place, value| {
        if let Some(Value::String(reference)) = value.get("$ref") {
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{place}: {reference}"));
            assert!(document.pointer(pointer).is_some(), "{place}: {reference} leads nowhere");
            used.insert(pointer.to_owned());
        }
    });
    for kind in ["schemas", "parameters", "headers", "responses"] {
        for name in document["components"][kind].as_object().expect("components").keys() {
            assert!(used.contains(&format!("/components/{kind}/{name}")), "nothing refers to {kind}/{name}");
            assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "two types are called {name}; rename one");
            assert!(!name.contains("Json"), "two types are called {name}, but for Json; rename one");
        }
    }
}

#[test]
fn every_schema_is_one_and_its_examples_are_as_it_says() {
    let Contract { document, .. } = contract();
    let mut schemas: Vec<(String, &Value)> = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        schemas.push((format!("/components/schemas/{name}"), schema));
    }
    walk(document, String::new(), &mut |place, value| {
        if place.ends_with("/schema") && !place.contains("/properties/") {
            schemas.push((place.to_owned(), value));
        }
    });
    assert!(schemas.len() > 100, "{}", schemas.len());
    let mut examples = 0;
    for (place, schema) in schemas {
        jsonschema::meta::validate(schema).unwrap_or_else(|err| panic!("{place}: {err}"));
        let validator = contract().validator(schema).unwrap_or_else(|why| panic!("{place}: {why}"));
        for example in schema["examples"].as_array().into_iter().flatten() {
            examples += 1;
            let errors: Vec<_> = validator.iter_errors(example).map(|err| err.to_string()).collect();
            assert!(errors.is_empty(), "{place}: {errors:?}");
        }
    }
    assert!(examples > 0, "there are examples");
}

/// Answers tell of every member, so that a new one cannot go out without being described.
#[test]
fn no_answer_has_members_that_are_not_described() {
    // What comes from elsewhere: payloads, settings, conditions, what services said.
    const OPEN: [&str; 0] = [];
    for operation in contract().operations() {
        for (status, response) in operation.told["responses"].as_object().expect("responses") {
            let response = contract().resolve(response);
            for content in response["content"].as_object().into_iter().flat_map(|content| content.values()) {
                let schema = contract().resolve(&content["schema"]);
                if schema["properties"].is_object() {
                    let closed = [&schema["additionalProperties"], &schema["unevaluatedProperties"]];
                    assert!(
                        closed.contains(&&json!(false)) || OPEN.contains(&operation.id),
                        "{} {status}",
                        operation.id
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn the_document_is_served_to_anybody_and_kept_by_whoever_has_it() {
    let weft = Weft::start().await;
    let ask = || weft.request(Method::GET, "/openapi.json");
    let told = send(ask()).await;
    assert_eq!(told.status, 200);
    assert_eq!(told.header("content-type"), Some("application/json"));
    assert_eq!(told.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(told.body, contract().document);
    let tag = told.header("etag").expect("a tag").to_owned();
    #[rustfmt::skip]
    let cases = [
        ("the same",       tag.clone(),                  304),
        ("weak",           format!("W/{tag}"),           304),
        ("among others",   format!("\"other\", {tag}"),  304),
        ("any",            "*".to_owned(),               304),
        ("another",        "\"other\"".to_owned(),       200),
    ];
    for (why, known, status) in cases {
        let answer = send(ask().header("if-none-match", known)).await;
        assert_eq!((answer.status, answer.text.is_empty()), (status, status == 304), "{why}");
        assert_eq!(answer.header("etag"), Some(&*tag), "{why}");
    }
    weft.stop().await;
}

#[tokio::test]
async fn the_command_prints_the_same_document() {
    let printed = Place::new(0).await.run(&["openapi"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let printed: Value = serde_json::from_str(&printed.lines.join("\n")).expect("JSON");
    assert_eq!(printed, contract().document);
}
