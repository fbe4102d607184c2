//! Workspaces over the API: made, listed, shown, renamed; and what no body may hold, on any route.

use crate::support::{Weft, assert_members, ids, send, text};
use actors::domain::timestamp::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

const WORKSPACE: [&str; 5] = ["id", "name", "description", "created_at", "updated_at"];

#[tokio::test]
async fn a_workspace_is_made_listed_shown_and_changed() {
    let weft = Weft::start().await;
    let body = json!({ "name": "My shop_1-b", "description": "Books, and more", "colour": "unknown fields are ignored" });
    let made = weft.post("/workspaces?shade=unknown", body).await.answered(201, "made");
    assert_members(&made, &["workspace"], "a create is wrapped");
    let made = &made["workspace"];
    assert_members(made, &WORKSPACE, "made, without its key");
    for time in ["created_at", "updated_at"] {
        let time = text(&made[time]);
        assert!(time.parse::<Timestamp>().is_ok() && time.ends_with('Z'), "RFC 3339 in UTC: {time}");
    }
    assert_eq!((&made["name"], &made["description"]), (&json!("My shop_1-b"), &json!("Books, and more")));
    let path = format!("/workspaces/{}", text(&made["id"]));

    let list = weft.get("/workspaces").await.answered(200, "list");
    assert_members(&list, &["count", "limit", "next_cursor", "records"], "the envelope");
    assert_eq!(
        (&list["count"], &list["limit"], &list["next_cursor"]),
        (&json!(2), &json!(1_000), &Value::Null)
    );
    assert_eq!(ids(&list), [weft.workspace.clone(), text(&made["id"])], "the oldest first");
    assert_eq!(list["records"][1], *made, "listed as it was made");

    let shown = weft.get(&path).await.answered(200, "shown");
    assert_members(&shown, &[&WORKSPACE[..], &["publishable_key"]].concat(), "shown with its key");
    assert_members(&shown["publishable_key"], &["public_key", "name"], "its key");
    // ^mesh_pub_([A-Za-z0-9\-.]+)_([A-Za-z0-9\-.]+)_([^_]+)$ is what a client takes for a key.
    let key = text(&shown["publishable_key"]["public_key"]);
    let parts: Vec<&str> = key.strip_prefix("mesh_pub_").expect(&key).split('_').collect();
    assert_eq!(parts.len(), 3, "{key}");
    assert!(
        parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric())),
        "{key}"
    );

    #[rustfmt::skip]
    let changes = [
        // why                               body                                           name      description
        ("without description: kept",        json!({ "name": "Renamed" }),                  "Renamed", json!("Books, and more")),
        ("null clears it",                   json!({ "name": "Renamed", "description": null }), "Renamed", Value::Null),
        ("its own name is free to it",       json!({ "name": "Renamed", "description": "" }), "Renamed", json!("")),
        ("the longest name and description", json!({ "name": "n".repeat(50), "description": "é".repeat(1_024) }), &"n".repeat(50), json!("é".repeat(1_024))),
    ];
    for (why, body, name, description) in changes {
        let changed = weft.put(&path, body).await.answered(200, why);
        assert_members(&changed, &WORKSPACE, "an update answers the bare workspace");
        assert_eq!((changed["name"].as_str(), &changed["description"]), (Some(name), &description), "{why}");
        assert_eq!(changed["created_at"], made["created_at"], "{why}");
        let shown = weft.get(&path).await.answered(200, why);
        assert_eq!((&shown["name"], &shown["description"]), (&changed["name"], &description), "{why}");
    }
    let unknown = format!("/workspaces/{}", uuid::Uuid::now_v7());
    weft.get(&unknown).await.refused(404, "workspace not found", "there is none");
    weft.put(&unknown, json!({ "name": "none" })).await.refused(404, "workspace not found", "there is none");
    weft.stop().await;
}

#[tokio::test]
async fn a_name_is_taken_once_in_an_organization() {
    let weft = Weft::start().await;
    weft.post("/workspaces", json!({ "name": "tests" })).await.refused(
        409,
        "already exists",
        "the first one's",
    );
    let (other, _) = weft.sibling("other").await;
    let other = format!("/workspaces/{other}");
    weft.put(&other, json!({ "name": "tests" })).await.refused(
        409,
        "already exists",
        "renamed to a taken one",
    );
    let shown = weft.get(&other).await.answered(200, "as it was");
    assert_eq!(shown["name"], "other");
    let (stranger, ..) = weft.stranger().await;
    let token = crate::support::token(&stranger);
    let made = weft.ask_as(&token, Method::POST, "/workspaces", Some(json!({ "name": "tests" }))).await;
    made.answered(201, "another organization's names are its own");
    weft.stop().await;
}

/// Nothing that is refused leaves a trace.
#[tokio::test]
async fn a_malformed_workspace_is_refused_by_field() {
    let weft = Weft::start().await;
    let path = format!("/workspaces/{}", weft.workspace);
    let before = weft.get("/workspaces").await.answered(200, "before");
    let name_long = format!(r#"{{"name":"{}"}}"#, "n".repeat(51));
    let description_long = format!(r#"{{"name":"fine","description":"{}"}}"#, "d".repeat(1_025));
    #[rustfmt::skip]
    let cases = [
        // why                       body                                       parameter
        ("no name",                  "{}",                                      "name"),
        ("null",                     r#"{"name":null}"#,                        "name"),
        ("a number",                 r#"{"name":7}"#,                           "name"),
        ("a list",                   r#"{"name":["shop"]}"#,                    "name"),
        ("an object",                r#"{"name":{"en":"shop"}}"#,               "name"),
        ("a boolean",                r#"{"name":true}"#,                        "name"),
        ("empty",                    r#"{"name":""}"#,                          "name"),
        ("two characters",           r#"{"name":"ab"}"#,                        "name"),
        ("51 characters",            &name_long,                                "name"),
        ("markup",                   r#"{"name":"<b>shop</b>"}"#,               "name"),
        ("beyond ASCII",             r#"{"name":"Café au lait"}"#,              "name"),
        ("a line break",             r#"{"name":"my\nshop"}"#,                  "name"),
        ("NUL",                      r#"{"name":"my\u0000shop"}"#,              "name"),
        ("a description in numbers", r#"{"name":"fine","description":5}"#,      "description"),
        ("a list of them",           r#"{"name":"fine","description":["d"]}"#,  "description"),
        ("1,025 characters",         &description_long,                         "description"),
    ];
    for (why, body, param) in cases {
        for (method, path) in [(Method::POST, "/workspaces"), (Method::PUT, path.as_str())] {
            let answer = weft.ask_raw(method, path, body).await;
            answer.refused(400, param, why);
            assert_eq!(answer.params(), [param], "{why}");
        }
    }
    assert_eq!(weft.get("/workspaces").await.answered(200, "after"), before, "nothing was made or changed");
    weft.stop().await;
}

/// Holds for every route with a body: all use the one reader.
#[tokio::test]
async fn a_body_is_one_json_object_in_utf8() {
    let weft = Weft::start().await;
    let deep = format!(r#"{{"name":"fine","x":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
    let large = format!(r#"{{"name":"fine","x":"{}"}}"#, "x".repeat(weft.config.http.body_bytes_max));
    #[rustfmt::skip]
    let bodies: [(&str, &[u8], u16); 13] = [
        ("nothing",                  b"",                                              400),
        ("blanks",                   b" \n ",                                          400),
        ("null",                     b"null",                                          400),
        ("a list",                   br#"["fine"]"#,                                   400),
        ("a scalar",                 br#""fine""#,                                     400),
        ("cut off",                  br#"{"name":"fine""#,                             400),
        ("two documents",            br#"{"name":"fine"}{}"#,                          400),
        ("a name that comes twice",  br#"{"name":"fine","name":"other"}"#,             400),
        ("the same by an escape",    br#"{"name":"fine","n\u0061me":"other"}"#,        400),
        ("a lone surrogate",         br#"{"name":"fine","x":"\ud800"}"#,               400),
        ("not UTF-8",                b"{\"name\":\"fine\",\"x\":\"\xff\"}",            400),
        ("nested a hundred deep",    deep.as_bytes(),                                  400),
        ("more than a body may be",  large.as_bytes(),                                 413),
    ];
    let post = |body: &[u8]| {
        let request = weft.request(Method::POST, "/api/v1/workspaces").bearer_auth(weft.token());
        request.body(body.to_vec())
    };
    for (why, body, status) in bodies {
        send(post(body).header("content-type", "application/json")).await.refused(status, "", why);
    }
    let fine = br#"{"name":"fine"}"#;
    #[rustfmt::skip]
    let types = [
        ("no content type",     None,                                     415),
        ("text",                Some("text/plain"),                       415),
        ("a form",              Some("application/x-www-form-urlencoded"), 415),
        ("another charset",     Some("application/json; charset=latin1"), 415),
        ("utf-8 by name",       Some("application/json; charset=utf-8"),  201),
    ];
    for (why, content_type, status) in types {
        let request = post(fine);
        let request = match content_type {
            Some(content_type) => request.header("content-type", content_type),
            None => request,
        };
        assert_eq!(send(request).await.status, status, "{why}");
    }
    weft.stop().await;
}
