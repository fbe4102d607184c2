//! Requests made from the API's document: such as it declares, and such as it does not.

use super::contract::{Contract, Operation};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
    string::string_regex,
};
use serde_json::{Map, Value, json};

/// Text that stands for an id of a kind until the request is sent: one that is there by then.
const KNOWN: &str = "known:";
/// How deep generated values go where a schema does not say.
const DEPTH_MAX: u32 = 4;

/// A request to one operation.
#[derive(Clone, Debug)]
pub struct Asked {
    pub operation: usize,
    /// For each name in its path.
    pub ids: Vec<String>,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub whose: Whose,
}

/// Whose credentials it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Machine,
    Sender,
    Nobody,
}

/// Any request to any operation. `valid`: as the document declares it, with ids that are there.
pub fn asked(contract: &'static Contract, valid: bool) -> impl Strategy<Value = Asked> {
    let count = contract.operations().count();
    let all: Vec<_> = (0..count).map(|number| asked_of(contract, number, valid)).collect();
    (0..count).no_shrink().prop_flat_map(move |number| all[number].clone())
}

/// The same of one operation.
pub fn asked_of(contract: &'static Contract, number: usize, valid: bool) -> BoxedStrategy<Asked> {
    let operation = contract.operations().nth(number).expect("it is one of them");
    let parameters: Vec<&Value> = operation.told["parameters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|parameter| contract.resolve(parameter))
        .collect();
    let of =
        |place: &str| parameters.iter().copied().filter(move |it| it["in"] == *place).collect::<Vec<_>>();
    let names: Vec<_> =
        operation.path.split('{').skip(1).map(|rest| rest.split('}').next().expect("its end")).collect();
    let ids: Vec<_> = names.iter().map(|name| id(name, valid)).collect();
    // Of what belongs together as often as not.
    let ids = prop_oneof![
        (0_usize..4)
            .prop_map(move |number| names.iter().map(|name| format!("{KNOWN}{name}/{number}")).collect()),
        ids,
    ];
    let query: Vec<_> = of("query").into_iter().map(|it| parameter(contract, it, valid)).collect();
    let headers: Vec<_> = of("header").into_iter().map(|it| parameter(contract, it, true)).collect();
    let body = body(contract, operation, valid);
    let whose = if valid {
        Just(Whose::Machine).boxed()
    } else {
        prop_oneof![12 => Just(Whose::Machine), 2 => Just(Whose::Sender), 1 => Just(Whose::Nobody)].boxed()
    };
    (ids, query, headers, body, whose)
        .prop_map(move |(ids, query, headers, body, whose)| Asked {
            operation: number,
            ids,
            query: query.into_iter().flatten().collect(),
            headers: headers.into_iter().flatten().filter(|(_, value)| is_header(value)).collect(),
            body,
            whose,
        })
        .boxed()
}

fn is_header(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// Puts ids that are there where [`KNOWN`] ones are asked for.
pub fn fill(text: &str, known: &impl Fn(&str, usize) -> Option<String>) -> String {
    let mut parts = text.split(KNOWN);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find('/').unwrap_or(part.len());
        let digits = part[end..]
            .strip_prefix('/')
            .map_or("", |rest| &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())]);
        let found = known(&part[..end], digits.parse().unwrap_or(0));
        filled.push_str(&found.unwrap_or_else(|| uuid::Uuid::nil().to_string()));
        filled.push_str(&part[(end + 1 + digits.len()).min(part.len())..]);
    }
    filled
}

fn known(kind: &str) -> BoxedStrategy<String> {
    let kind = kind.to_owned();
    (0_usize..8).prop_map(move |number| format!("{KNOWN}{kind}/{number}")).boxed()
}

fn id(name: &str, valid: bool) -> BoxedStrategy<String> {
    if valid {
        return known(name);
    }
    prop_oneof![
        8 => known(name),
        1 => any::<[u8; 16]>().prop_map(|bytes| uuid::Uuid::from_bytes(bytes).to_string()),
        1 => "[!-~]{1,40}".prop_map(|text| text.replace(['/', '?', '#', '%'], "x")),
        1 => Just("%ff%fe".to_owned()),
    ]
    .boxed()
}

/// There with this probability.
fn maybe<S: Strategy + 'static>(probability: f64, inner: S) -> BoxedStrategy<Option<S::Value>>
where
    S::Value: Clone,
{
    if probability <= 0.0 {
        Just(None).boxed()
    } else if probability >= 1.0 {
        inner.prop_map(Some).boxed()
    } else {
        option::weighted(probability, inner).boxed()
    }
}

/// A parameter's name and value, where it is there.
fn parameter(
    contract: &'static Contract,
    told: &'static Value,
    valid: bool,
) -> BoxedStrategy<Vec<(String, String)>> {
    let name = told["name"].as_str().expect("a name").to_owned();
    let schema = &told["schema"];
    if told["explode"] == true {
        let path = string_regex("payload\\.[a-z]{1,3}(\\.[a-z0-9]{1,3}){0,2}").expect("a pattern");
        let pairs = vec((path, "[a-z0-9]{0,4}"), if valid { 0..3_usize } else { 0..12 });
        return prop_oneof![3 => Just(Vec::new()), 1 => pairs].boxed();
    }
    // What a page begins with is told by the page before.
    let fitting = if name == "cursor" {
        "[A-Za-z0-9_-]{1,60}".boxed()
    } else {
        value(contract, &name, schema, 0).prop_map(|it| plain(&it)).boxed()
    };
    let fitting = if valid { fitting } else { prop_oneof![4 => fitting, 1 => words()].boxed() };
    let is_there = match (told["required"] == true, valid && name == "cursor") {
        (_, true) => 0.0,
        (true, _) => {
            if valid {
                1.0
            } else {
                0.9
            }
        }
        _ => 0.2,
    };
    maybe(is_there, fitting)
        .prop_map(move |it| it.map(|value| (name.clone(), value)).into_iter().collect())
        .boxed()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn body(
    contract: &'static Contract,
    operation: Operation<'static>,
    valid: bool,
) -> BoxedStrategy<Option<String>> {
    let Some(told) = operation.told.get("requestBody") else { return Just(None).boxed() };
    let schema = &told["content"]["application/json"]["schema"];
    let fitting = value(contract, "", schema, 0);
    if valid {
        return fitting.prop_map(|it| Some(it.to_string())).boxed();
    }
    let changed = (fitting.clone(), any::<Index>(), anything(), any::<u8>())
        .prop_map(|(body, place, other, how)| Some(change(body, place, other, how).to_string()));
    prop_oneof![
        6 => fitting.prop_map(|it| Some(it.to_string())),
        8 => changed,
        1 => anything().prop_map(|it| Some(it.to_string())),
        1 => words().prop_map(Some),
        1 => Just(Some(r#"{"name":"a","name":"b"}"#.to_owned())),
        1 => (1..300_usize).prop_map(|depth| Some("[".repeat(depth))),
        1 => Just(None),
    ]
    .boxed()
}

/// A value with one of its parts replaced or gone.
fn change(mut value: Value, place: Index, other: Value, how: u8) -> Value {
    fn places(value: &Value, at: String, all: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, inner)| {
                places(inner, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), all);
            }),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, inner)| places(inner, format!("{at}/{index}"), all)),
            _ => {}
        }
        all.push(at);
    }
    let mut all = Vec::new();
    places(&value, String::new(), &mut all);
    let at = place.get(&all).clone();
    let (parent, name) = at.rsplit_once('/').unwrap_or_default();
    match (how % 4, value.pointer_mut(parent)) {
        (0, Some(Value::Object(members))) => drop(members.remove(name)),
        (1, Some(Value::Object(members))) => drop(members.insert("unknown".to_owned(), other)),
        _ => {
            if let Some(place) = value.pointer_mut(&at) {
                *place = other;
            }
        }
    }
    value
}

// Made once: a pattern takes its time to be read.
thread_local! {
    static WORDS: BoxedStrategy<String> = string_regex("\\PC{0,20}").expect("a pattern").boxed();
    static ANYTHING: BoxedStrategy<Value> = all_json();
}

/// Any text that can be printed, none of it long.
fn words() -> BoxedStrategy<String> {
    WORDS.with(Clone::clone)
}

/// Any JSON, none of it large.
fn anything() -> BoxedStrategy<Value> {
    ANYTHING.with(Clone::clone)
}

fn all_json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        words().prop_map(Value::from),
        select(
            &[
                "",
                " ",
                "\u{0}",
                "\u{feff}",
                "-1",
                "1e400",
                "null",
                "../..",
                "*",
                "<b>",
                "𝒳",
                "mesh_pub_v1_x_y"
            ][..]
        )
        .prop_map(Value::from),
        (200_usize..1_100).prop_map(|length| Value::from("x".repeat(length))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((words(), inner), 0..4).prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
    .boxed()
}

/// What makes sense where a schema says only that it is text or an object.
fn sense(name: &str) -> Option<BoxedStrategy<Value>> {
    let texts = |all: &'static [&'static str]| select(all).prop_map(Value::from).boxed();
    Some(match name {
        "type" => texts(&["webhook", "webhook", "webhook", "slack"]),
        "action" => texts(&["send_webhook"]),
        "event" => texts(&["order.paid", "order.*", "contact.created"]),
        "metadata" => (0..1_000_u32)
            .prop_map(|n| json!({ "url": format!("{KNOWN}url/0{n}"), "skip_test": n % 4 > 0 }))
            .boxed(),
        "email" => texts(&["ada@example.com"]),
        "url" => known("url").prop_map(Value::from).boxed(),
        "allowed_origins" => Just(json!(["https://app.example.com"])).boxed(),
        "launch_path" => texts(&["/workspace/events"]),
        "access_key" | "session" | "user" | "invitation" => known(name).prop_map(Value::from).boxed(),
        _ => return None,
    })
}

/// A value as the schema says; `name` is what it is called where it stands.
fn value(
    contract: &'static Contract,
    name: &str,
    schema: &'static Value,
    depth: u32,
) -> BoxedStrategy<Value> {
    let schema = contract.resolve(schema);
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if let Some(only) = schema.get("const") {
        return Just(only.clone()).boxed();
    }
    if let Some(all) = schema["enum"].as_array() {
        return select(all.as_slice()).prop_map(|it: Value| it).boxed();
    }
    for branches in ["oneOf", "anyOf"] {
        if let Some(branches) = schema[branches].as_array() {
            let shallow =
                |branch: &&'static Value| depth < DEPTH_MAX || branch["properties"].get("op").is_some();
            let all: Vec<_> =
                branches.iter().filter(shallow).map(|it| value(contract, name, it, depth + 1)).collect();
            return if all.is_empty() {
                Just(Value::Null).boxed()
            } else {
                proptest::strategy::Union::new(all).boxed()
            };
        }
    }
    // A bare object's members are told by what knows them, such as a destination's settings.
    let is_bare = schema["properties"].is_null();
    if is_bare && let Some(sensible) = sense(name) {
        return sensible;
    }
    let all: Vec<_> = kinds.iter().map(|kind| typed(contract, name, kind, schema, depth)).collect();
    if all.is_empty() { anything() } else { proptest::strategy::Union::new(all).boxed() }
}

fn typed(
    contract: &'static Contract,
    name: &str,
    kind: &str,
    schema: &'static Value,
    depth: u32,
) -> BoxedStrategy<Value> {
    let bound = |key: &str| schema[key].as_u64().map(|it| it as usize);
    match kind {
        "null" => Just(Value::Null).boxed(),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" | "number" => {
            let (least, most) =
                (schema["minimum"].as_f64().unwrap_or(-9e9), schema["maximum"].as_f64().unwrap_or(9e9));
            let (least, most) = (least.ceil() as i64, most.floor() as i64);
            prop_oneof![2 => least..=most, 1 => Just(least), 1 => Just(most)].prop_map(Value::from).boxed()
        }
        "string" => text(name, schema),
        "array" => {
            let least = bound("minItems").unwrap_or(0);
            let most = bound("maxItems").unwrap_or(3).min(least + 3);
            vec(value(contract, name.trim_end_matches('s'), &schema["items"], depth + 1), least..=most)
                .prop_map(Value::from)
                .boxed()
        }
        _ => object(contract, schema, depth),
    }
}

fn text(name: &str, schema: &'static Value) -> BoxedStrategy<Value> {
    let bound = |key: &str| schema[key].as_u64().map(|it| it as usize);
    if schema["format"] == "uuid" {
        let kind = name.trim_end_matches("_id");
        return known(kind).prop_map(Value::from).boxed();
    }
    if schema["format"] == "date-time" {
        let times = [
            "2026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2999-01-01T00:00:00.5+14:00",
            "0001-01-01T00:00:00Z",
        ];
        return select(times.to_vec()).prop_map(Value::from).boxed();
    }
    if schema["format"] == "date" {
        return select(&["2026-01-01", "1970-01-01", "9999-12-31"][..]).prop_map(Value::from).boxed();
    }
    let (least, most) = (bound("minLength").unwrap_or(0), bound("maxLength").unwrap_or(40));
    let made = match schema["pattern"].as_str() {
        Some(pattern) => {
            // What is only forbidden is not all sensible.
            let pattern = if pattern.starts_with("^[^") { "^[a-zA-Z0-9 _-]+$" } else { pattern };
            let inner = pattern.trim_start_matches('^').trim_end_matches('$');
            // A repetition without an end is as long as it may be.
            let bounded = inner.strip_suffix(']').map_or_else(|| inner.to_owned(), |_| inner.to_owned());
            let bounded = bounded
                .strip_suffix("]+")
                .map_or(bounded.clone(), |set| format!("{set}]{{{},{}}}", least.max(1), most.min(60)));
            string_regex(&bounded).unwrap_or_else(|err| panic!("{pattern}: {err}")).boxed()
        }
        None => string_regex(&format!("[a-zA-Z0-9 éß._-]{{{least},{}}}", most.min(40)))
            .expect("a pattern")
            .boxed(),
    };
    let longest = made.clone().prop_map(move |text| {
        let one = text.chars().last().unwrap_or('x');
        text.chars().chain(std::iter::repeat(one)).take(most).collect::<String>()
    });
    prop_oneof![6 => made, 1 => longest].prop_map(Value::from).boxed()
}

fn object(contract: &'static Contract, schema: &'static Value, depth: u32) -> BoxedStrategy<Value> {
    let Some(properties) = schema["properties"].as_object() else {
        return vec((words(), anything()), 0..3)
            .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into())
            .boxed();
    };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let members: Vec<_> = properties
        .iter()
        .map(|(name, schema)| {
            let is_there = if required.contains(&&**name) {
                1.0
            } else if name == "workspace" {
                0.9
            } else {
                0.3
            };
            let name = name.clone();
            maybe(is_there, value(contract, &name, schema, depth + 1))
                .prop_map(move |it| it.map(|value| (name.clone(), value)))
        })
        .collect();
    let least = schema["minProperties"].as_u64().unwrap_or(0);
    members
        .prop_map(move |members| {
            let mut object: Map<String, Value> = members.into_iter().flatten().collect();
            if (object.len() as u64) < least {
                object.insert("n".to_owned(), 1.into());
            }
            object.into()
        })
        .boxed()
}
