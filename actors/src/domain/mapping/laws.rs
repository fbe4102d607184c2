//! What holds for every mapping and every payload.

use super::{
    tests::{parse, with_fields},
    *,
};
use crate::domain::payload::Json;
use proptest::{collection::vec, option, prelude::*, sample::Index};
use serde_json::{Map, Value, json};

/// A number as JSON spells it, of any size.
fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?"
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        number(),
        "[ \\t]?(true|no|T|0)[ \\n]?",
        "[0-9]{4}-[01][0-9]-[0-3][0-9]([Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,10})?([zZ]|[+-][0-2][0-9]:[0-6][0-9]))?",
    ]
}

/// What was sent to us: every key is one of a few, so that paths lead somewhere.
fn payload() -> impl Strategy<Value = Json<'static>> {
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number().prop_map(|digits| Json::Number(digits.into())),
        text().prop_map(|text| Json::String(text.into())),
    ];
    let value = scalar.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Json::Array), members(inner)]
    });
    members(value)
}

fn members(value: impl Strategy<Value = Json<'static>>) -> impl Strategy<Value = Json<'static>> {
    proptest::collection::btree_map("[abc0]", value, 0..5).prop_map(|members| {
        Json::Object(members.into_iter().map(|(key, value)| (key.into(), value)).collect())
    })
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[abc](\\.[abc01]){0,3}", 1 => "[a-zA-Z_][a-zA-Z0-9_]{0,20}(\\.[a-zA-Z0-9_]{1,20}){0,4}"]
}

fn scalar(chars_max: usize) -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_filter_map("1 to as many characters", move |text| {
            let text: String = text.chars().take(chars_max).collect();
            (!text.is_empty()).then(|| text.into())
        }),
    ]
}

fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![4 => scalar(2_000), 1 => Just(json!([])), 1 => Just(json!({})), 1 => Just(json!([{}, [1]]))]
}

fn zone() -> impl Strategy<Value = Option<&'static str>> {
    option::of(prop_oneof![
        Just("UTC"),
        Just("Europe/Prague"),
        Just("America/St_Johns"),
        Just("Pacific/Apia"),
        Just("Africa/Monrovia"),
    ])
}

fn object(members: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let present = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn transform() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![
        Just("to_string"),
        Just("to_number"),
        Just("to_boolean"),
        Just("trim"),
        Just("lower"),
        Just("upper")
    ];
    let time = (prop_oneof![Just("to_date"), Just("to_datetime")], zone());
    let length = option::of(prop_oneof![1_u64..9, 1..=u64::MAX]);
    prop_oneof![
        4 => plain.prop_map(|name| json!({"type": name})),
        3 => time.prop_map(|(name, zone)| in_zone(name, zone)),
        1 => scalar(DEFAULT_CHARS_MAX).prop_map(|value| json!({"type": "default", "value": value})),
        1 => (prop_oneof![0_u64..9, any::<u64>()], length).prop_map(|(start, length)| substring(start, length)),
    ]
}

fn source() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => path().prop_map(|path| json!({"type": "path", "value": path})),
        1 => scalar(LITERAL_CHARS_MAX).prop_map(|value| json!({"type": "literal", "value": value})),
    ]
}

fn field() -> impl Strategy<Value = Value> {
    let on_error = prop_oneof![5 => Just("skip_field"), 5 => Just("warn_action"), 1 => Just("fail_action")];
    let transforms = option::of(vec(transform(), 0..=TRANSFORMS_MAX));
    (source(), transforms, option::of(on_error), option::of(".{1,20}")).prop_map(
        |(source, transforms, on_error, notes)| {
            object([
                ("source", Some(source)),
                ("transforms", transforms.map(Value::from)),
                ("on_error", on_error.map(Value::from)),
                ("notes", notes.map(Value::from)),
            ])
        },
    )
}

/// Every shape of schema, all of them well formed.
fn schema() -> impl Strategy<Value = Value> {
    let meta = (option::of(".{1,64}"), option::of(".{1,80}")).prop_map(|(name, notes)| {
        object([("name", name.map(Value::from)), ("notes", notes.map(Value::from))])
    });
    (vec((field(), ".{1,100}"), 0..8), option::of(meta)).prop_map(|(fields, meta)| {
        let field = |(index, (mut field, dest)): (usize, (Value, String))| {
            field["dest"] = format!("{index}{dest}").into();
            field
        };
        let fields: Value = fields.into_iter().enumerate().map(field).collect();
        object([("schema_version", Some(1.into())), ("fields", Some(fields)), ("meta", meta)])
    })
}

fn in_zone(name: &str, zone: Option<&str>) -> Value {
    object([("type", Some(name.into())), ("timezone", zone.map(Value::from))])
}

fn substring(start: u64, length: Option<u64>) -> Value {
    object([
        ("type", Some("substring".into())),
        ("start", Some(start.into())),
        ("length", length.map(Value::from)),
    ])
}

/// One field, `v`, from the payload's `path` by some transforms.
fn one_field(path: &str, transforms: Value) -> Schema {
    let source = json!({"type": "path", "value": path});
    with_fields(json!([{"dest": "v", "source": source, "transforms": transforms}]))
}

/// What a value becomes by some transforms.
fn through(transforms: Value, value: Json<'static>) -> Option<Json<'static>> {
    let schema = with_fields(
        json!([{"dest": "v", "source": {"type": "path", "value": "v"}, "transforms": transforms}]),
    );
    let payload = Json::Object(vec![("v".into(), value)]);
    let applied = schema.apply(&payload).expect("never fails");
    applied.fields.get("v").map(owned)
}

fn owned(value: &Json<'_>) -> Json<'static> {
    match value {
        Json::Null => Json::Null,
        Json::Bool(flag) => Json::Bool(*flag),
        Json::Number(digits) => Json::Number(digits.to_string().into()),
        Json::String(text) => Json::String(text.to_string().into()),
        Json::Array(items) => Json::Array(items.iter().map(owned).collect()),
        Json::Object(members) => {
            Json::Object(members.iter().map(|(key, value)| (key.to_string().into(), owned(value))).collect())
        }
    }
}

fn string(text: &str) -> Json<'static> {
    Json::String(text.to_owned().into())
}

proptest! {
    #[test]
    fn every_field_is_sent_left_out_or_told_of(schema in schema(), payload in payload()) {
        let schema = parse(&schema);
        let fails = |dest: &str| {
            let field = schema.fields().iter().find(|field| field.dest == dest);
            field.and_then(|field| field.on_error) == Some(OnError::FailAction)
        };
        match schema.apply(&payload) {
            Ok(applied) => {
                let told = applied.warnings.iter().chain(&applied.skipped);
                prop_assert!(told.clone().all(|told| applied.fields.get(&told.dest).is_none() && !fails(&told.dest)));
                prop_assert!(told.count() + applied.fields.len() <= schema.fields().len());
                // In the order of the mapping, each once.
                let mut dests = schema.fields().iter().map(|field| field.dest.as_str());
                prop_assert!(applied.fields.iter().all(|(dest, _)| dests.any(|known| known == dest)));
                let written = serde_json::to_string(&applied.fields).expect("JSON");
                prop_assert!(Json::parse(written.as_bytes()).is_ok(), "{written}");
            }
            Err(Failure::Field(why)) => prop_assert!(fails(&why.dest)),
            Err(Failure::TooMuch) => prop_assert!(false, "small things are not too much"),
        }
    }

    #[test]
    fn no_message_tells_a_value(mut schema in schema(), secret in "[g-z]{12}") {
        for field in schema["fields"].as_array_mut().expect("a list") {
            field["source"] = json!({"type": "path", "value": "a"});
        }
        let schema = parse(&schema);
        for value in [json!(secret), json!([secret]), json!({"b": secret})] {
            let payload = Json::from(&json!({"a": value}));
            let told: String = match schema.apply(&payload) {
                Ok(applied) => applied.warnings.iter().chain(&applied.skipped).map(ToString::to_string).collect(),
                Err(failure) => failure.to_string(),
            };
            prop_assert!(!told.contains(&secret), "{told}");
        }
    }

    #[test]
    fn a_number_survives_being_text(digits in number()) {
        let number = Json::Number(digits.clone().into());
        let twice = json!([{"type": "to_string"}, {"type": "to_number"}]);
        prop_assert_eq!(through(twice, number.clone()), Some(number.clone()));
        prop_assert_eq!(through(json!([]), number.clone()), Some(number.clone()));
        prop_assert_eq!(through(json!([{"type": "to_string"}]), number), Some(string(&digits)));
    }

    #[test]
    fn once_is_as_good_as_twice(text in text(), zone in zone(), name in prop_oneof![
        Just("to_string"), Just("to_number"), Just("to_boolean"), Just("to_date"), Just("to_datetime"),
        Just("trim"), Just("lower"), Just("upper"),
    ]) {
        let transform = in_zone(name, zone);
        if let Some(once) = through(json!([transform]), string(&text)) {
            prop_assert_eq!(through(json!([transform]), once.clone()), Some(once));
        }
    }

    #[test]
    fn a_datetime_is_on_its_date(seconds in -62_000_000_000_i64..99_999_999_999, zone in zone()) {
        let number = Json::Number(seconds.to_string().into());
        let datetime = through(json!([in_zone("to_datetime", zone)]), number.clone()).expect("a time");
        let date = through(json!([in_zone("to_date", zone)]), number).expect("a day");
        prop_assert_eq!(through(json!([in_zone("to_date", zone)]), datetime), Some(date));
    }

    #[test]
    fn a_substring_is_the_characters_it_names(
        text in any::<String>(), start in 0_u8..12, length in option::of(1_u8..12),
    ) {
        let transform = substring(start.into(), length.map(u64::from));
        let expected: String =
            text.chars().skip(start.into()).take(length.map_or(usize::MAX, usize::from)).collect();
        prop_assert_eq!(through(json!([transform]), string(&text)), Some(string(&expected)));
    }

    #[test]
    fn a_field_with_a_default_is_always_there(
        payload in payload(), path in path(), value in scalar(DEFAULT_CHARS_MAX),
    ) {
        let (with, without) =
            (one_field(&path, json!([{"type": "default", "value": value}])), one_field(&path, json!([])));
        let (with, without) = (with.apply(&payload).expect("applies"), without.apply(&payload).expect("applies"));
        let expected = without.fields.get("v").cloned().unwrap_or(Json::from(&value));
        prop_assert_eq!(with.fields.get("v"), Some(&expected));
    }

    #[test]
    fn a_schema_reads_as_it_was_written(schema in schema()) {
        let parsed = parse(&schema);
        let written = serde_json::to_string(&parsed).expect("JSON");
        let again = Schema::parse(&Json::parse(written.as_bytes()).expect("JSON")).expect("well formed");
        prop_assert_eq!(&again, &parsed);
        prop_assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), schema);
    }

    #[test]
    fn no_document_makes_parsing_panic(document in payload(), schema in schema(), at in any::<Index>(), odd in odd()) {
        let _ = Schema::parse(&document);
        // Something odd somewhere in something good.
        let mut places = Vec::new();
        walk(&schema, String::new(), &mut places);
        let mut schema = schema;
        *schema.pointer_mut(&places[at.index(places.len())]).expect("a place") = odd;
        if let Err(errors) = Schema::parse(&Json::from(&schema)) {
            prop_assert!((1..=ERRORS_MAX).contains(&errors.len()));
            prop_assert!(errors.iter().all(|error| error.param.starts_with("schema")));
        }
    }

    #[test]
    fn each_single_mistake_is_found_where_it_is(
        mut schema in schema(), mut field in field(), mistake in any::<Index>(), at in any::<Index>(),
    ) {
        let mistakes = mistakes();
        let mistake = mistakes[mistake.index(mistakes.len())].clone();
        let fields = schema["fields"].as_array_mut().expect("a list");
        let index = at.index(fields.len() + 1);
        field["dest"] = "a field of its own".into();
        fields.insert(index, field);
        let place = mistake.make(&mut schema, index);
        let errors = Schema::parse(&Json::from(&schema)).expect_err("one mistake");
        prop_assert_eq!(errors.iter().map(|error| &error.param).collect::<Vec<_>>(), [&place]);
    }
}

/// Ways to every value in a document.
fn walk(value: &Value, pointer: String, places: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| walk(item, format!("{pointer}/{index}"), places));
        }
        Value::Object(members) => {
            members.iter().for_each(|(key, member)| walk(member, format!("{pointer}/{key}"), places));
        }
        _ => {}
    }
    places.push(pointer);
}

/// One thing wrong in a schema that is well formed but for it.
#[derive(Clone, Debug)]
struct Mistake {
    /// The object it is in, as a JSON pointer; `#` is the field.
    object: &'static str,
    key: &'static str,
    /// What the member is made; `None` takes it away.
    value: Option<Value>,
    /// The place that is named, from the object on.
    place: &'static str,
}

impl Mistake {
    /// Makes it, in that field, and says what place has to be named.
    fn make(self, schema: &mut Value, field: usize) -> String {
        let pointer = self.object.replace('#', &field.to_string());
        let object = schema.pointer_mut(&pointer).and_then(Value::as_object_mut).expect("an object");
        match self.value {
            Some(value) => object.insert(self.key.to_owned(), value),
            None => object.remove(self.key),
        };
        let object =
            if self.object.is_empty() { "schema".to_owned() } else { format!("schema.fields[{field}]") };
        format!("{object}.{}", self.place)
    }
}

/// Each rule of a schema, broken once.
fn mistakes() -> Vec<Mistake> {
    let long = |chars: usize| json!("é".repeat(chars));
    let field = |n| json!({"dest": format!("{n}"), "source": {"type": "literal", "value": 1}});
    let many_fields: Value = (0..=FIELDS_MAX).map(field).collect();
    #[rustfmt::skip]
    let of_schema = [
        ("schema_version", None,                                  "schema_version"),
        ("schema_version", Some(json!(2)),                        "schema_version"),
        ("schema_version", Some(json!("1")),                      "schema_version"),
        ("fields",         None,                                  "fields"),
        ("fields",         Some(json!({})),                       "fields"),
        ("fields",         Some(many_fields),                     "fields"),
        ("meta",           Some(json!([])),                       "meta"),
        ("meta",           Some(json!({"name": ""})),             "meta.name"),
        ("meta",           Some(json!({"name": long(65)})),       "meta.name"),
        ("meta",           Some(json!({"name": 1})),              "meta.name"),
        ("meta",           Some(json!({"notes": ""})),            "meta.notes"),
        ("meta",           Some(json!({"notes": long(1_025)})),   "meta.notes"),
    ];
    #[rustfmt::skip]
    let of_field = [
        ("dest",       None,                                             "dest"),
        ("dest",       Some(json!("")),                                  "dest"),
        ("dest",       Some(long(129)),                                  "dest"),
        ("dest",       Some(json!(5)),                                   "dest"),
        ("source",     None,                                             "source"),
        ("source",     Some(json!("email")),                             "source"),
        ("source",     Some(json!({"value": "email"})),                  "source.type"),
        ("source",     Some(json!({"type": "script", "value": "a"})),    "source.type"),
        ("source",     Some(json!({"type": "literal"})),                 "source.value"),
        ("source",     Some(json!({"type": "literal", "value": ""})),    "source.value"),
        ("source",     Some(json!({"type": "literal", "value": []})),    "source.value"),
        ("source",     Some(json!({"type": "literal", "value": {}})),    "source.value"),
        ("source",     Some(json!({"type": "literal", "value": long(257)})), "source.value"),
        ("source",     Some(json!({"type": "path"})),                    "source.value"),
        ("source",     Some(json!({"type": "path", "value": 1})),        "source.value"),
        ("transforms", Some(json!({})),                                  "transforms"),
        ("transforms", Some(json!(vec![json!({"type": "trim"}); 11])),   "transforms"),
        ("transforms", Some(json!([{"type": "trim"}, "trim"])),          "transforms[1]"),
        ("on_error",   Some(json!("ignore")),                            "on_error"),
        ("on_error",   Some(json!(true)),                                "on_error"),
        ("notes",      Some(json!("")),                                  "notes"),
        ("notes",      Some(long(1_025)),                                "notes"),
        ("notes",      Some(json!(["a"])),                               "notes"),
    ];
    let too_long = "a".repeat(129);
    let paths = [
        "",
        "$.payload.email",
        "0.email",
        "user..email",
        ".email",
        "email.",
        "items[0]",
        "first-name",
        "first name",
        "email\n",
        "jméno",
        &too_long,
    ];
    #[rustfmt::skip]
    let of_transform = [
        (json!({}),                                                     "transforms[2].type"),
        (json!({"type": "capitalize"}),                                 "transforms[2].type"),
        (json!({"type": "TRIM"}),                                       "transforms[2].type"),
        (json!({"type": "to_date", "timezone": "Mars/Olympus"}),        "transforms[2].timezone"),
        (json!({"type": "to_date", "timezone": ""}),                    "transforms[2].timezone"),
        (json!({"type": "to_datetime", "timezone": "+02:00"}),          "transforms[2].timezone"),
        (json!({"type": "to_datetime", "timezone": "Etc/Unknown"}),     "transforms[2].timezone"),
        (json!({"type": "to_datetime", "timezone": "../../a"}),         "transforms[2].timezone"),
        (json!({"type": "to_datetime", "timezone": 2}),                 "transforms[2].timezone"),
        (json!({"type": "to_datetime", "timezone": long(65)}),          "transforms[2].timezone"),
        (json!({"type": "default"}),                                    "transforms[2].value"),
        (json!({"type": "default", "value": ""}),                       "transforms[2].value"),
        (json!({"type": "default", "value": long(129)}),                "transforms[2].value"),
        (json!({"type": "default", "value": []}),                       "transforms[2].value"),
        (json!({"type": "substring"}),                                  "transforms[2].start"),
        (json!({"type": "substring", "start": -1}),                     "transforms[2].start"),
        (json!({"type": "substring", "start": 0.5}),                    "transforms[2].start"),
        (json!({"type": "substring", "start": "0"}),                    "transforms[2].start"),
        (json!({"type": "substring", "start": 0, "length": 0}),         "transforms[2].length"),
        (json!({"type": "substring", "start": 0, "length": -3}),        "transforms[2].length"),
        (json!({"type": "substring", "start": 0, "length": 1.5}),       "transforms[2].length"),
        (json!({"type": "substring", "start": 0, "length": "1"}),       "transforms[2].length"),
    ];
    let of_schema =
        of_schema.into_iter().map(|(key, value, place)| Mistake { object: "", key, value, place });
    let in_field = |key, value, place| Mistake { object: "/fields/#", key, value, place };
    let of_field = of_field.into_iter().map(|(key, value, place)| in_field(key, value, place));
    let of_path =
        paths.map(|path| in_field("source", Some(json!({"type": "path", "value": path})), "source.value"));
    let of_transform = of_transform.into_iter().map(|(transform, place)| {
        in_field("transforms", Some(json!([{"type": "trim"}, {"type": "lower"}, transform])), place)
    });
    of_schema.chain(of_field).chain(of_path).chain(of_transform).collect()
}

#[test]
fn every_mistake_is_tried() {
    for mistake in mistakes() {
        let told = format!("{mistake:?}");
        let mut schema =
            json!({"schema_version": 1, "fields": [{"dest": "a", "source": {"type": "path", "value": "a"}}]});
        let place = mistake.make(&mut schema, 0);
        let errors = Schema::parse(&Json::from(&schema)).expect_err(&told);
        assert_eq!(errors.iter().map(|error| &error.param).collect::<Vec<_>>(), [&place], "{told}");
    }
    for odd in [json!(null), json!([]), json!("{}"), json!(1)] {
        assert_eq!(Schema::parse(&Json::from(&odd)).expect_err("no object")[0].param, "schema");
    }
}

#[test]
fn limits_themselves_are_allowed() {
    let long = |chars: usize| "é".repeat(chars);
    let transforms = json!([
        {"type": "default", "value": long(DEFAULT_CHARS_MAX)}, {"type": "default", "value": "x"},
        {"type": "substring", "start": u64::MAX, "length": u64::MAX}, {"type": "substring", "start": 0, "length": 1},
        {"type": "to_date", "timezone": "America/Argentina/ComodRivadavia"}, {"type": "trim"}, {"type": "trim"},
        {"type": "trim"}, {"type": "trim"}, {"type": "trim"},
    ]);
    let field = |index: usize| {
        let source = match index {
            0 => json!({"type": "path", "value": "a".repeat(PATH_CHARS_MAX)}),
            1 => json!({"type": "path", "value": format!("_{}", ".0".repeat(63))}),
            _ => json!({"type": "literal", "value": long(LITERAL_CHARS_MAX)}),
        };
        let dest = format!("{index:03}{}", long(DEST_CHARS_MAX - 3));
        json!({"dest": dest, "source": source, "transforms": transforms, "notes": long(NOTES_CHARS_MAX)})
    };
    let fields: Value = (0..FIELDS_MAX).map(field).collect();
    let meta = json!({"name": long(META_NAME_CHARS_MAX), "notes": long(NOTES_CHARS_MAX)});
    assert_eq!(
        parse(&json!({"schema_version": 1, "fields": fields, "meta": meta})).fields().len(),
        FIELDS_MAX
    );
    assert!(parse(&json!({"schema_version": 1, "fields": []})).fields().is_empty());
}

#[test]
fn changing_the_case_of_any_character_twice_is_as_once() {
    for character in (0..=0x10_FFFF).filter_map(char::from_u32) {
        let (lower, upper) = (character.to_lowercase().to_string(), character.to_uppercase().to_string());
        assert_eq!(lower.to_lowercase(), lower, "{character:?}");
        assert_eq!(upper.to_uppercase(), upper, "{character:?}");
    }
}
