//! Answers for a person: lists as tables, the rest as lines of name and value.
//!
//! What tenants wrote is shown without the characters that would move a terminal's cursor.

use super::actions::INSIDE;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Text without characters that control: those of terminals, and those that turn the direction of writing.
pub fn plain(text: &str) -> String {
    let controls = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if controls(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// An answer as text, with a line break at its end.
pub fn shown(answer: &Value, columns: &[&str]) -> String {
    match answer {
        Value::Array(records) => table(records, columns),
        Value::Object(members) => match (members.get("records"), only_object(members)) {
            (Some(Value::Array(records)), _) => table(records, columns),
            // `{"rule": {…}}`: the name says nothing that was not asked for.
            (_, Some(inner)) => lines(inner),
            _ => lines(members),
        },
        other => format!("{}\n", cell(other)),
    }
}

fn only_object(members: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let mut values = members.values();
    values.next().filter(|_| members.len() == 1).and_then(Value::as_object)
}

/// A line a member, those of objects in it by their path; lists of objects as tables below.
fn lines(members: &Map<String, Value>) -> String {
    let (mut rows, mut tables) = (Vec::new(), Vec::new());
    flatten("", members, &mut rows, &mut tables);
    let width = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        line(&mut text, &[(name, width), (value, 0)]);
    }
    for (name, records) in tables {
        let inside = INSIDE.iter().find(|(list, _)| *list == name).map_or(&[][..], |(_, columns)| columns);
        let _ = write!(text, "\n{}\n{}", plain(&name), table(records, inside));
    }
    text
}

fn flatten<'v>(
    before: &str,
    members: &'v Map<String, Value>,
    rows: &mut Vec<(String, String)>,
    tables: &mut Vec<(String, &'v [Value])>,
) {
    for (name, value) in members {
        let name = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        match value {
            Value::Object(inner) if !inner.is_empty() => flatten(&name, inner, rows, tables),
            Value::Array(records) if records.first().is_some_and(Value::is_object) => {
                tables.push((name, records));
            }
            value => rows.push((plain(&name), cell(value))),
        }
    }
}

/// Records in aligned columns. A column that none of them fills is left out.
fn table(records: &[Value], columns: &[&str]) -> String {
    if records.is_empty() {
        return "none\n".to_owned();
    }
    let columns: Vec<String> = if columns.is_empty() {
        let mut found: Vec<String> = Vec::new();
        for (name, value) in records.iter().filter_map(Value::as_object).flatten() {
            if !value.is_object() && !found.contains(name) {
                found.push(name.clone());
            }
        }
        found
    } else {
        columns.iter().map(|name| (*name).to_owned()).collect()
    };
    let filled = |name: &String| records.iter().any(|record| at(record, name).is_some_and(|v| !v.is_null()));
    let columns: Vec<String> = columns.into_iter().filter(filled).collect();
    let mut rows = vec![columns.iter().map(|name| plain(name)).collect::<Vec<_>>()];
    for record in records {
        rows.push(columns.iter().map(|name| at(record, name).map_or_else(|| "-".to_owned(), cell)).collect());
    }
    let widths: Vec<_> =
        (0..columns.len()).map(|i| rows.iter().map(|row| width(&row[i])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        line(&mut text, &row.into_iter().zip(widths.iter().copied()).collect::<Vec<_>>());
    }
    text
}

/// Cells, each filled up to its width but the last.
fn line(text: &mut String, cells: &[(String, usize)]) {
    let mut line = String::new();
    for (cell, wide) in cells {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', wide.saturating_sub(width(cell)) + 2));
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// The member at a path.
fn at<'v>(record: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(record, |value, name| value.get(name))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => plain(text),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let items: Vec<_> = items.iter().map(cell).collect();
            if items.is_empty() { "-".to_owned() } else { items.join(",") }
        }
        other => plain(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_tables_and_the_rest_lines() {
        let list = json!({ "count": 2, "next_cursor": null, "records": [
            { "id": "1", "name": "a", "gone": null, "metadata": { "action": "send" } },
            { "id": "22", "name": null, "metadata": { "action": "x" } },
        ]});
        #[rustfmt::skip]
        let cases = [
            ("a list", &list, &["id", "name", "gone", "metadata.action"][..],
             "id  name  metadata.action\n1   a     send\n22  -     x\n"),
            ("with no columns named", &list, &[], "id  name\n1   a\n22  -\n"),
            ("an empty list", &json!({ "records": [] }), &["id"], "none\n"),
            ("a bare list", &json!([{ "key": "k" }]), &["key"], "key\nk\n"),
            ("a wrapped thing", &json!({ "rule": { "id": "1", "active": true } }), &[],
             "id      1\nactive  true\n"),
            ("things in it", &json!({ "id": "1", "m": { "url": "u" }, "tags": ["a", "b"], "tries": [{ "n": 1 }] }), &[],
             "id     1\nm.url  u\ntags   a,b\n\ntries\nn\n1\n"),
        ];
        for (why, answer, columns, expected) in cases {
            assert_eq!(shown(answer, columns), expected, "{why}");
        }
    }

    #[test]
    fn a_preview_shows_what_is_sent() {
        let request =
            json!({ "method": "POST", "url": "https://a.example/", "headers": {}, "body": { "n": 1 } });
        let sends = json!({ "fields": null, "warnings": [], "request": request, "complete": true });
        let example = |sends| json!({ "event_id": "1", "event": "a.b", "sends": sends });
        let fails = json!({ "outcome_code": "mapping_error", "message": "email is missing" });
        let preview = json!({ "matched": 2, "examples": { "matched": [example(sends), example(fails)] } });
        let text = shown(&preview, &[]);
        let table: Vec<_> = text.lines().skip_while(|line| !line.starts_with("event_id")).collect();
        let cells = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            cells(table[1]),
            ["1", "a.b", "-", "-", "true", "POST", "https://a.example/", r#"{"n":1}"#],
            "{text}"
        );
        assert_eq!(cells(table[2])[..4], ["1", "a.b", "mapping_error", "email is missing"], "{text}");
    }

    #[test]
    fn no_tenant_moves_the_cursor() {
        let list = json!({ "records": [{ "name": "a\u{1b}[2Jb\nc\u{9b}\u{202e}" }] });
        let text = shown(&list, &[]);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }
}
