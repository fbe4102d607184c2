//! A tool's call as a request to the API, and the API's answer as the tool's result.

use super::{
    arguments::{self, To},
    tools::{EMIT, Method, Tool},
};
use axum::http::StatusCode;
use serde_json::{Map, Value, value::RawValue};
use std::collections::BTreeMap;
use url::form_urlencoded;

/// Arguments as they were sent, so that a payload keeps its bytes.
pub(super) type Given = BTreeMap<String, Box<RawValue>>;

/// What to ask of the API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub method: axum::http::Method,
    /// Path and query.
    pub target: String,
    pub body: Option<String>,
}

/// `Err` names the argument that cannot be used.
pub(super) fn ask(tool: &Tool, given: &Given) -> Result<Asked, String> {
    let mut values = Map::new();
    for (name, raw) in given {
        let value = serde_json::from_str(raw.get()).map_err(|_| format!("{name} is not usable"))?;
        values.insert(name.clone(), value);
    }
    arguments::check(tool.arguments, &values)?;

    let mut path = format!("/api/v1{}", tool.path);
    let mut query = form_urlencoded::Serializer::new(String::new());
    let mut members: Vec<(&str, String)> = Vec::new();
    let mut metadata = Map::new();
    let mut whole = None;
    for argument in tool.arguments {
        let Some((value, raw)) = values.get(argument.name).zip(given.get(argument.name)) else { continue };
        match argument.to {
            // Ids alone, whose form leaves nothing to escape.
            To::Path => path = path.replace(&format!("{{{}}}", argument.name), &plain(value)),
            To::Query => drop(query.append_pair(argument.name, &plain(value))),
            To::Body => members.push((argument.name, raw.get().to_owned())),
            To::QueryIfTrue if *value == Value::Bool(true) => drop(query.append_pair(argument.name, "true")),
            To::BodyIfTrue if *value == Value::Bool(true) => {
                members.push((argument.name, raw.get().to_owned()))
            }
            To::QueryIfTrue | To::BodyIfTrue => {}
            To::Metadata => drop(metadata.insert(argument.name.to_owned(), value.clone())),
            To::MetadataMembers => metadata.extend(value.as_object().cloned().into_iter().flatten()),
            To::WholeBody => whole = Some(raw.get().to_owned()),
        }
    }
    if !metadata.is_empty() {
        members.push(("metadata", Value::Object(metadata).to_string()));
    }
    let query = query.finish();
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    let object = || {
        let members: Vec<_> = members.iter().map(|(name, raw)| format!("\"{name}\":{raw}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let body = whole.or_else(|| (!members.is_empty()).then(object));
    let method = match tool.method {
        Method::Get => axum::http::Method::GET,
        Method::Post => axum::http::Method::POST,
        Method::Put => axum::http::Method::PUT,
        Method::Delete => axum::http::Method::DELETE,
    };
    Ok(Asked { method, target, body })
}

/// Text as it is, other values as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What a tool says of the API's answer: `Err` if it is a refusal.
pub(super) fn tell(tool: &Tool, status: StatusCode, body: &str) -> Result<String, String> {
    if !status.is_success() {
        let reason = status.canonical_reason().unwrap_or("no reason was given");
        return Err(refusal(status.as_u16(), if body.is_empty() { reason } else { body }));
    }
    let pretty = indented(body);
    if tool.name != EMIT {
        return Ok(pretty);
    }
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let id = answer["event"]["id"].as_str().unwrap_or_default();
    Ok(format!("Accepted: event {id}\nmeshes_get_event tells what became of it.\n\n{pretty}"))
}

/// How a tool tells that the API refused.
pub(crate) fn refusal(status: u16, body: &str) -> String {
    format!("Meshes API {status}: {body}")
}

/// JSON with two spaces a level, each value spelled as it was: parsing it would cut long numbers.
fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 3 / 2);
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut rest = json.chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = rest.next() {
        if in_string {
            text.push(c);
            (in_string, is_escaped) = (is_escaped || c != '"', !is_escaped && c == '\\');
            continue;
        }
        match c {
            '{' | '[' => {
                text.push(c);
                while rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(end) = rest.next_if(|c| matches!(c, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                in_string = c == '"';
                text.push(c);
            }
        }
    }
    text
}

/// Whether a row's arguments and path speak of the same things. Asked by a test.
#[cfg(test)]
fn fits(tool: &Tool) -> bool {
    let in_path = tool.path.matches('{').count();
    let to_path: Vec<_> = tool.arguments.iter().filter(|argument| argument.to == To::Path).collect();
    let are_ids = to_path
        .iter()
        .all(|one| one.is_required && matches!(one.form, arguments::Form::Uuid | arguments::Form::SessionId));
    let are_there = to_path.iter().all(|one| tool.path.contains(&format!("{{{}}}", one.name)));
    in_path == to_path.len() && are_ids && are_there
}

#[cfg(test)]
mod tests {
    use super::{super::tools::TOOLS, *};
    use serde_json::json;

    const ID: &str = "018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f";

    fn asked(name: &str, arguments: &str) -> Result<(String, Option<String>), String> {
        let tool = TOOLS.iter().find(|tool| tool.name == name).expect("a tool");
        let given: Given = serde_json::from_str(arguments).expect("an object");
        ask(tool, &given).map(|asked| (format!("{} {}", asked.method, asked.target), asked.body))
    }

    #[test]
    fn the_table_is_well_formed() {
        let mut names: Vec<_> = TOOLS.iter().map(|tool| tool.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TOOLS.len(), "no name comes twice");
        for tool in TOOLS {
            assert!(fits(tool), "{}", tool.name);
            assert!(tool.about.ends_with('.'), "{}", tool.name);
        }
    }

    #[test]
    fn arguments_go_where_the_api_wants_them_and_nothing_else_does() {
        let id = |path: &str| path.replace("ID", ID);
        #[rustfmt::skip]
        let cases = [
            ("meshes_list_workspaces",       "{}",                                                    "GET /api/v1/workspaces", None),
            ("meshes_get_workspace",         r#"{"workspace_id":"ID"}"#,                              "GET /api/v1/workspaces/ID", None),
            ("meshes_update_workspace",      r#"{"workspace_id":"ID","name":"New"}"#,                 "PUT /api/v1/workspaces/ID", Some(r#"{"name":"New"}"#)),
            ("meshes_update_workspace",      r#"{"workspace_id":"ID","name":"New","description":null}"#, "PUT /api/v1/workspaces/ID", Some(r#"{"name":"New","description":null}"#)),
            ("meshes_list_rules",            r#"{"event":"a b&c"}"#,                                  "GET /api/v1/rules?event=a+b%26c", None),
            ("meshes_list_events",           r#"{"limit":7,"cursor":"abc"}"#,                         "GET /api/v1/events?limit=7&cursor=abc", None),
            ("meshes_get_connection_fields", r#"{"connection_id":"ID","refresh":true}"#,              "GET /api/v1/connections/ID/fields?refresh=true", None),
            ("meshes_get_connection_fields", r#"{"connection_id":"ID","refresh":false}"#,             "GET /api/v1/connections/ID/fields", None),
            ("meshes_delete_connection",     r#"{"connection_id":"ID","force_delete":true}"#,         "DELETE /api/v1/connections/ID", Some(r#"{"force_delete":true}"#)),
            ("meshes_delete_connection",     r#"{"connection_id":"ID","force_delete":false}"#,        "DELETE /api/v1/connections/ID", None),
            ("meshes_create_rule",           r#"{"workspace":"ID","connection":"ID","event":"a","action":"b","metadata_extra":{"id":"5","action":"c"}}"#,
             "POST /api/v1/rules", Some(r#"{"workspace":"ID","connection":"ID","event":"a","metadata":{"action":"c","id":"5"}}"#)),
            ("meshes_emit_event",            r#"{"workspace":"ID","event":"a","payload":{ "n": 1.00000000000000000000001 }}"#,
             "POST /api/v1/events", Some(r#"{"workspace":"ID","event":"a","payload":{ "n": 1.00000000000000000000001 }}"#)),
            ("meshes_emit_bulk_events",      r#"{"events":[{"workspace":"ID","event":"a","payload":{}}]}"#,
             "POST /api/v1/events/bulk", Some(r#"[{"workspace":"ID","event":"a","payload":{}}]"#)),
            ("meshes_retry_event_rule",      r#"{"event_id":"ID","rule_id":"ID"}"#,                   "POST /api/v1/events/ID/rules/ID/retry", None),
            ("meshes_refresh_session",       r#"{"session_id":"sess_7"}"#,                            "POST /api/v1/sessions/sess_7/refresh", None),
            ("meshes_list_sessions",         r#"{"workspace_id":"ID","status":"active"}"#,            "GET /api/v1/sessions?workspace_id=ID&status=active", None),
        ];
        for (name, arguments, target, body) in cases {
            let expected = (id(target), body.map(id));
            assert_eq!(asked(name, &id(arguments)), Ok(expected), "{name} {arguments}");
        }
    }

    #[test]
    fn an_answer_is_shown_as_json_stringify_shows_it() {
        let tool = |name: &str| TOOLS.iter().find(|tool| tool.name == name).expect("a tool");
        let body = json!({"a": [1, {"b": "x\\\"{,:}"}], "c": {}, "d": [], "e": null});
        let pretty = serde_json::to_string_pretty(&body).expect("JSON");
        let list = tool("meshes_list_workspaces");
        assert_eq!(tell(list, StatusCode::OK, &body.to_string()), Ok(pretty.clone()));
        assert_eq!(indented(&pretty), pretty, "it is already");
        assert_eq!(indented("{\"n\":1.00000000000000000000001}"), "{\n  \"n\": 1.00000000000000000000001\n}");
        let told = tell(tool(EMIT), StatusCode::CREATED, r#"{"event":{"id":"e1"}}"#).expect("a success");
        let lines: Vec<_> = told.lines().collect();
        assert!(lines[0].ends_with(" e1") && lines[3] == "{", "{told}");
    }

    /// Check 50, where an answer becomes a tool's.
    #[test]
    fn a_refusal_is_told_with_its_status_and_body() {
        let list = &TOOLS[0];
        let body = r#"{"message":"invalid or missing credentials"}"#;
        let told = tell(list, StatusCode::UNAUTHORIZED, body);
        assert_eq!(told, Err(r#"Meshes API 401: {"message":"invalid or missing credentials"}"#.to_owned()));
        let told = tell(list, StatusCode::SERVICE_UNAVAILABLE, "");
        assert_eq!(told, Err("Meshes API 503: Service Unavailable".to_owned()));
    }
}
