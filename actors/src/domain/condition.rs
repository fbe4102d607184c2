//! Conditions: which payloads a rule is for, beyond the event's name.
//!
//! A condition is `{"all": […]}`, `{"any": […]}`, `{"not": {…}}` or `{"path": "user.plan", "op": "eq", "value": "pro"}`.
//!
//! | op | holds if the value at the path |
//! | --- | --- |
//! | `eq`, `ne` | is, or is not, `value` (any scalar). A missing one equals nothing, not even `null` |
//! | `gt` `gte` `lt` `lte` | is a number or string that compares so with `value`; strings by code point |
//! | `in`, `not_in` | is, or is not, one of the scalars in `value`. A missing one is in nothing |
//! | `contains` | is a string with `value` in it, or an array with the scalar `value` among its elements |
//! | `starts_with`, `ends_with` | is a string that does |
//! | `exists` | is there, even as `null`; with `"value": false`, is not there |
//! | `matches` | is a string that the regular expression finds; see <https://docs.rs/regex/#syntax> |
//!
//! Integers up to 64 bits compare exactly, and `1` equals `1.0`; other numbers compare as 64-bit floats,
//! where `1e400` is greater than all of them. A number that no path leads to has no say.

use super::{
    field::FieldError,
    payload::{Json, is_path},
};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::{cmp::Ordering, fmt::Write};

/// How deep `all`, `any` and `not` may nest.
pub const DEPTH_MAX: usize = 8;
/// Comparisons in one condition.
pub const LEAVES_MAX: usize = 100;
/// Regular expressions in one condition, and in all conditions of a workspace: each costs memory as
/// long as its workspace is at work, and time for each event.
pub const MATCHES_MAX: usize = 10;
pub const MATCHES_PER_WORKSPACE_MAX: usize = 200;
/// Bytes of a condition as JSON.
pub const CONDITION_BYTES_MAX: usize = 16 * 1_024;
/// Bytes of a path, and of a regular expression.
pub const PATH_BYTES_MAX: usize = 128;
pub const PATTERN_BYTES_MAX: usize = 512;
/// Characters of the sentence that says why a condition does not hold.
pub const MISS_CHARS_MAX: usize = 200;
/// Memory a compiled regular expression may take, in bytes.
const REGEX_BYTES_MAX: usize = 64 * 1_024;
/// Characters shown of a value.
const SHOWN_CHARS_MAX: usize = 40;

/// A condition, ready to be asked.
#[derive(Clone, Debug)]
pub struct Condition(Node);

#[derive(Clone, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Leaf(Leaf),
}

#[derive(Clone, Debug)]
struct Leaf {
    path: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equal { value: Json<'static>, wanted: bool },
    Compare { value: Json<'static>, op: &'static str, wanted: fn(Ordering) -> bool },
    In { values: Vec<Json<'static>>, wanted: bool },
    Contains(Json<'static>),
    StartsWith(String),
    EndsWith(String),
    Exists(bool),
    Matches(Regex),
}

const OPS: [&str; 13] = [
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "not_in",
    "contains",
    "starts_with",
    "ends_with",
    "exists",
    "matches",
];

impl Condition {
    /// Understands a condition, or says what is wrong where.
    pub fn compile(condition: &Value) -> Result<Self, FieldError> {
        let bytes = serde_json::to_vec(condition).map_or(usize::MAX, |text| text.len());
        if bytes > CONDITION_BYTES_MAX {
            let msg = format!("must be at most {CONDITION_BYTES_MAX} bytes of JSON");
            return Err(FieldError::new("conditions", msg));
        }
        Compiler { leaves: 0, matches: 0 }.node(condition, "conditions", 1).map(Self)
    }

    /// Whether it holds for a payload; if not, why, in a sentence of at most [`MISS_CHARS_MAX`] characters.
    pub fn holds(&self, payload: &Json<'_>) -> Result<(), String> {
        self.0.holds(payload, &mut String::from("conditions")).map_err(|miss| cut(&miss, MISS_CHARS_MAX))
    }
}

/// The regular expressions in a condition that compiles.
pub fn matches_in(condition: &Value) -> usize {
    let Some(object) = condition.as_object() else { return 0 };
    let own = usize::from(object.get("op").is_some_and(|op| op == "matches"));
    let listed = ["all", "any"].into_iter().filter_map(|key| object.get(key)?.as_array()).flatten();
    own + listed.chain(object.get("not")).map(matches_in).sum::<usize>()
}

struct Compiler {
    leaves: usize,
    matches: usize,
}

impl Compiler {
    fn node(&mut self, condition: &Value, place: &str, depth: usize) -> Result<Node, FieldError> {
        let Some(object) = condition.as_object() else {
            return Err(FieldError::new(place, "must be an object"));
        };
        if depth > DEPTH_MAX {
            return Err(FieldError::new(place, format!("must not nest deeper than {DEPTH_MAX}")));
        }
        match object.keys().next().map(String::as_str) {
            Some("all") => self.list(object, "all", place, depth).map(Node::All),
            Some("any") => self.list(object, "any", place, depth).map(Node::Any),
            Some("not") => {
                only(object, &["not"], place)?;
                let inner = self.node(&object["not"], &format!("{place}.not"), depth + 1)?;
                Ok(Node::Not(Box::new(inner)))
            }
            Some("path" | "op" | "value") => self.leaf(object, place).map(Node::Leaf),
            _ => Err(FieldError::new(place, "must have all, any, not, or path and op")),
        }
    }

    fn list(
        &mut self,
        object: &Map<String, Value>,
        key: &str,
        place: &str,
        depth: usize,
    ) -> Result<Vec<Node>, FieldError> {
        only(object, &[key], place)?;
        let place = format!("{place}.{key}");
        let Some(items) = object[key].as_array().filter(|items| !items.is_empty()) else {
            return Err(FieldError::new(place, "must be a list of at least one condition"));
        };
        let item = |(index, item)| self.node(item, &format!("{place}[{index}]"), depth + 1);
        items.iter().enumerate().map(item).collect()
    }

    fn leaf(&mut self, object: &Map<String, Value>, place: &str) -> Result<Leaf, FieldError> {
        self.leaves += 1;
        if self.leaves > LEAVES_MAX {
            return Err(FieldError::new(
                place,
                format!("is more than the {LEAVES_MAX} comparisons a rule may have"),
            ));
        }
        only(object, &["path", "op", "value"], place)?;
        let path = match object.get("path").and_then(Value::as_str) {
            Some(path) if path.len() <= PATH_BYTES_MAX && is_path(path) => path.to_owned(),
            _ => {
                return Err(FieldError::new(
                    format!("{place}.path"),
                    "must be a dotted path such as user.plan or items.0.sku",
                ));
            }
        };
        let Some(op) = object
            .get("op")
            .and_then(Value::as_str)
            .and_then(|op| OPS.into_iter().find(|known| *known == op))
        else {
            return Err(FieldError::new(format!("{place}.op"), format!("must be one of {}", OPS.join(", "))));
        };
        self.matches += usize::from(op == "matches");
        if self.matches > MATCHES_MAX {
            let msg = format!("is more than the {MATCHES_MAX} regular expressions a rule may have");
            return Err(FieldError::new(place, msg));
        }
        let test =
            test(op, object.get("value")).map_err(|msg| FieldError::new(format!("{place}.value"), msg))?;
        Ok(Leaf { path, test })
    }
}

fn test(op: &'static str, value: Option<&Value>) -> Result<Test, String> {
    if op == "exists" {
        return match value {
            None => Ok(Test::Exists(true)),
            Some(Value::Bool(wanted)) => Ok(Test::Exists(*wanted)),
            Some(_) => Err("must be true or false with exists".to_owned()),
        };
    }
    let Some(value) = value.map(Json::from) else {
        return Err(format!("is missing: {op} compares with it"));
    };
    let scalar = || match value.is_scalar() {
        true => Ok(value.clone()),
        false => Err(format!("must be a scalar with {op}")),
    };
    let text = || value.as_str().map(str::to_owned).ok_or_else(|| format!("must be a string with {op}"));
    let compare = |wanted: fn(Ordering) -> bool| match value {
        Json::Number(_) | Json::String(_) => Ok(Test::Compare { value: value.clone(), op, wanted }),
        _ => Err(format!("must be a number or a string with {op}")),
    };
    let list = || match &value {
        Json::Array(values) if !values.is_empty() && values.iter().all(Json::is_scalar) => Ok(values.clone()),
        _ => Err(format!("must be a list of scalars with {op}")),
    };
    match op {
        "eq" => Ok(Test::Equal { value: scalar()?, wanted: true }),
        "ne" => Ok(Test::Equal { value: scalar()?, wanted: false }),
        "gt" => compare(Ordering::is_gt),
        "gte" => compare(Ordering::is_ge),
        "lt" => compare(Ordering::is_lt),
        "lte" => compare(Ordering::is_le),
        "in" => Ok(Test::In { values: list()?, wanted: true }),
        "not_in" => Ok(Test::In { values: list()?, wanted: false }),
        "contains" => Ok(Test::Contains(scalar()?)),
        "starts_with" => Ok(Test::StartsWith(text()?)),
        "ends_with" => Ok(Test::EndsWith(text()?)),
        _ => {
            let pattern = text()?;
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(format!("must be at most {PATTERN_BYTES_MAX} bytes"));
            }
            let limited = RegexBuilder::new(&pattern)
                .size_limit(REGEX_BYTES_MAX)
                .dfa_size_limit(REGEX_BYTES_MAX)
                .build();
            limited.map(Test::Matches).map_err(|_| {
                "must be a regular expression, and not too large a one; (?-u:\\w) is smaller than \\w"
                    .to_owned()
            })
        }
    }
}

fn only(object: &Map<String, Value>, known: &[&str], place: &str) -> Result<(), FieldError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(other) => Err(FieldError::new(
            place,
            format!("must not have {} beside {}", cut(other, SHOWN_CHARS_MAX), known.join(", ")),
        )),
    }
}

impl Node {
    /// `place` is where this node stands; it is put back as it was.
    fn holds(&self, payload: &Json<'_>, place: &mut String) -> Result<(), String> {
        let at = |place: &mut String, part: std::fmt::Arguments<'_>, node: &Self| {
            let before = place.len();
            let _ = place.write_fmt(part);
            let result = node.holds(payload, place);
            place.truncate(before);
            result
        };
        match self {
            Self::All(nodes) => {
                nodes.iter().enumerate().try_for_each(|(i, node)| at(place, format_args!(".all[{i}]"), node))
            }
            Self::Any(nodes) => {
                let holds = |(i, node)| at(place, format_args!(".any[{i}]"), node).is_ok();
                let any = nodes.iter().enumerate().any(holds);
                if any { Ok(()) } else { Err(format!("{place}.any: none of its {} holds", nodes.len())) }
            }
            Self::Not(node) => match at(place, format_args!(".not"), node) {
                Ok(()) => Err(format!("{place}.not: what it excludes holds")),
                Err(_) => Ok(()),
            },
            Self::Leaf(leaf) => {
                let found = payload.at_path(&leaf.path);
                if leaf.test.holds(found) {
                    return Ok(());
                }
                let found = found.map_or_else(|| "nothing".to_owned(), shown);
                Err(format!("{place}: {} {} does not hold, found {found}", leaf.path, leaf.test.shown()))
            }
        }
    }
}

impl Test {
    fn holds(&self, found: Option<&Json<'_>>) -> bool {
        match self {
            Self::Equal { value, wanted } => found.is_some_and(|found| found.says(value)) == *wanted,
            Self::Compare { value, wanted, .. } => {
                found.and_then(|found| found.compare(value)).is_some_and(wanted)
            }
            Self::In { values, wanted } => {
                found.is_some_and(|found| values.iter().any(|value| found.says(value))) == *wanted
            }
            Self::Contains(value) => match found {
                Some(Json::String(text)) => value.as_str().is_some_and(|part| text.contains(part)),
                Some(Json::Array(elements)) => elements.iter().any(|element| element.says(value)),
                _ => false,
            },
            Self::StartsWith(part) => found.and_then(Json::as_str).is_some_and(|text| text.starts_with(part)),
            Self::EndsWith(part) => found.and_then(Json::as_str).is_some_and(|text| text.ends_with(part)),
            Self::Exists(wanted) => found.is_some() == *wanted,
            Self::Matches(regex) => found.and_then(Json::as_str).is_some_and(|text| regex.is_match(text)),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Equal { value, wanted } => {
                format!("{} {}", if *wanted { "eq" } else { "ne" }, shown(value))
            }
            Self::Compare { value, op, .. } => format!("{op} {}", shown(value)),
            Self::In { values, wanted } => {
                format!("{} {}", if *wanted { "in" } else { "not_in" }, shown(&Json::Array(values.clone())))
            }
            Self::Contains(value) => format!("contains {}", shown(value)),
            Self::StartsWith(part) => format!("starts_with {}", quoted(part)),
            Self::EndsWith(part) => format!("ends_with {}", quoted(part)),
            Self::Exists(wanted) => format!("exists {wanted}"),
            Self::Matches(regex) => format!("matches {}", quoted(regex.as_str())),
        }
    }
}

fn shown(value: &Json<'_>) -> String {
    match value {
        Json::Object(_) => "an object".to_owned(),
        Json::Array(elements) if !elements.iter().all(Json::is_scalar) => "a list".to_owned(),
        Json::Array(elements) => {
            let elements: Vec<_> = elements.iter().take(8).map(shown).collect();
            cut(&format!("[{}]", elements.join(",")), SHOWN_CHARS_MAX)
        }
        Json::String(text) => quoted(text),
        Json::Number(number) => cut(number, SHOWN_CHARS_MAX),
        Json::Bool(flag) => flag.to_string(),
        Json::Null => "null".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    Value::from(cut(text, SHOWN_CHARS_MAX)).to_string()
}

/// The first `chars` characters, with a sign that there was more.
fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars.saturating_sub(1)) {
        Some((at, last)) if text.len() > at + last.len_utf8() => format!("{}…", &text[..at]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
