//! What conditions mean: by tables, by laws, and beside a plain reading of the same words.

use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn each_op_holds_as_its_table_says() {
    let payload = json!({
        "plan": "pro", "seats": 3, "price": 9.5, "big": 9_007_199_254_740_993_u64, "none": null,
        "tags": ["new", 7], "user": {"name": "Zoë", "roles": [{"id": "admin"}]},
    });
    #[rustfmt::skip]
    let cases = [
        (json!({"path": "plan", "op": "eq", "value": "pro"}),                     true),
        (json!({"path": "plan", "op": "eq", "value": "PRO"}),                     false),
        (json!({"path": "plan", "op": "ne", "value": "free"}),                    true),
        (json!({"path": "gone", "op": "ne", "value": "free"}),                    true),
        (json!({"path": "gone", "op": "eq", "value": null}),                      false),
        (json!({"path": "none", "op": "eq", "value": null}),                      true),
        (json!({"path": "seats", "op": "eq", "value": 3.0}),                      true),
        (json!({"path": "seats", "op": "eq", "value": "3"}),                      false),
        (json!({"path": "seats", "op": "gt", "value": 2}),                        true),
        (json!({"path": "seats", "op": "gte", "value": 3}),                       true),
        (json!({"path": "price", "op": "lt", "value": 10}),                       true),
        (json!({"path": "price", "op": "lte", "value": 9}),                       false),
        (json!({"path": "plan", "op": "gt", "value": 2}),                         false),
        (json!({"path": "plan", "op": "gt", "value": "or"}),                      true),
        (json!({"path": "big", "op": "eq", "value": 9_007_199_254_740_992_u64}),  false),
        (json!({"path": "plan", "op": "in", "value": ["free", "pro"]}),           true),
        (json!({"path": "plan", "op": "not_in", "value": ["free"]}),              true),
        (json!({"path": "gone", "op": "in", "value": [null]}),                    false),
        (json!({"path": "gone", "op": "not_in", "value": [null]}),                true),
        (json!({"path": "tags", "op": "contains", "value": 7.0}),                 true),
        (json!({"path": "plan", "op": "contains", "value": "r"}),                 true),
        (json!({"path": "seats", "op": "contains", "value": 3}),                  false),
        (json!({"path": "user.name", "op": "starts_with", "value": "Zo"}),        true),
        (json!({"path": "user.name", "op": "ends_with", "value": "ë"}),           true),
        (json!({"path": "user.roles.0.id", "op": "eq", "value": "admin"}),        true),
        (json!({"path": "user.roles.1.id", "op": "exists"}),                      false),
        (json!({"path": "none", "op": "exists", "value": true}),                  true),
        (json!({"path": "gone", "op": "exists", "value": false}),                 true),
        (json!({"path": "plan", "op": "matches", "value": "^p.o$"}),              true),
        (json!({"all": [{"path": "seats", "op": "gt", "value": 1}, {"not": {"path": "plan", "op": "eq", "value": "free"}}]}), true),
        (json!({"any": [{"path": "seats", "op": "gt", "value": 9}, {"path": "plan", "op": "eq", "value": "x"}]}), false),
    ];
    let payload = Json::from(&payload);
    for (condition, expected) in cases {
        let compiled = Condition::compile(&condition).unwrap_or_else(|err| panic!("{condition}: {err}"));
        assert_eq!(compiled.holds(&payload).is_ok(), expected, "{condition}: {:?}", compiled.holds(&payload));
    }
}

#[test]
fn a_malformed_condition_is_refused_with_the_place_named() {
    let nested = (0..DEPTH_MAX).fold(json!({"path": "a", "op": "exists"}), |inner, _| json!({"not": inner}));
    let many = json!({"all": vec![json!({"path": "a", "op": "exists"}); LEAVES_MAX + 1]});
    #[rustfmt::skip]
    let cases = [
        (json!("plan = pro"),                                            "conditions"),
        (json!({}),                                                      "conditions"),
        (json!({"all": []}),                                             "conditions.all"),
        (json!({"all": [{"path": "a", "op": "exists"}], "any": []}),     "conditions"),
        (json!({"any": [{"path": "a", "op": "exists"}, 7]}),             "conditions.any[1]"),
        (json!({"all": [{"path": "a", "op": "like", "value": 1}]}),      "conditions.all[0].op"),
        (json!({"path": "a", "op": "eq"}),                               "conditions.value"),
        (json!({"path": "a", "op": "eq", "value": {}}),                  "conditions.value"),
        (json!({"path": "a", "op": "in", "value": "x"}),                 "conditions.value"),
        (json!({"path": "a", "op": "gt", "value": true}),                "conditions.value"),
        (json!({"path": "a", "op": "exists", "value": 1}),               "conditions.value"),
        (json!({"path": "a", "op": "matches", "value": "("}),            "conditions.value"),
        (json!({"path": "a", "op": "matches", "value": "(a{999}){999}"}), "conditions.value"),
        (json!({"path": "a", "op": "matches", "value": "(a{50}){50}"}),   "conditions.value"),
        (json!({"any": vec![json!({"path": "a", "op": "matches", "value": "a"}); MATCHES_MAX + 1]}), "conditions.any[10]"),
        (json!({"path": "a", "op": "in", "value": vec!["x".repeat(100); 200]}), "conditions"),
        (json!({"path": "$.a", "op": "exists"}),                         "conditions.path"),
        (json!({"path": "0.a", "op": "exists"}),                         "conditions.path"),
        (json!({"path": "a..b", "op": "exists"}),                        "conditions.path"),
        (json!({"path": "a", "op": "exists", "case": "no"}),             "conditions"),
        (json!({"not": [1]}),                                            "conditions.not"),
        (many,                                                           "conditions.all[100]"),
    ];
    for (condition, place) in cases {
        assert_eq!(Condition::compile(&condition).expect_err("refused").param, place, "{condition}");
    }
    assert!(Condition::compile(&nested).expect_err("refused").msg.contains("deeper"));
}

#[test]
fn usual_regular_expressions_fit() {
    let patterns = [
        r"^[a-z0-9.+-]+@[a-z0-9-]+\.[a-z]{2,}$",
        r"(?i)^https?://[^/]+/\d+$",
        r"^(?-u:[\w.+-]+@[\w-]+\.\w+)$",
        r"\berror\b",
        r"^\w+$",
    ];
    for pattern in patterns {
        let condition = json!({"path": "a", "op": "matches", "value": pattern});
        assert!(Condition::compile(&condition).is_ok(), "{pattern}");
    }
}

#[test]
fn regular_expressions_are_counted_wherever_they_are() {
    let matches = json!({"path": "a", "op": "matches", "value": "x"});
    let none = json!({"path": "matches", "op": "eq", "value": "matches"});
    let condition = json!({"all": [matches, {"any": [{"not": matches}, none]}, {"not": {"all": [matches]}}]});
    assert!(Condition::compile(&condition).is_ok());
    assert_eq!(matches_in(&condition), 3);
}

#[test]
fn a_miss_says_where_and_what_was_found() {
    let condition =
        json!({"all": [{"path": "a", "op": "exists"}, {"path": "plan", "op": "eq", "value": "pro"}]});
    let condition = Condition::compile(&condition).expect("compiles");
    let miss = condition.holds(&Json::from(&json!({"a": 1, "plan": "free"}))).expect_err("misses");
    assert_eq!(miss, r#"conditions.all[1]: plan eq "pro" does not hold, found "free""#);
    let long =
        condition.holds(&Json::from(&json!({"a": 1, "plan": "é".repeat(10_000)}))).expect_err("misses");
    assert!(long.chars().count() <= MISS_CHARS_MAX);
}

fn leaf() -> impl Strategy<Value = Value> {
    let value =
        prop_oneof![Just(json!(1)), Just(json!(1.5)), Just(json!("a")), Just(json!(null)), Just(json!(true))];
    let path = prop_oneof![Just("a"), Just("b"), Just("c.d"), Just("c.0")];
    (path, prop_oneof![Just("eq"), Just("ne"), Just("contains")], value)
        .prop_map(|(path, op, value)| json!({"path": path, "op": op, "value": value}))
}

fn payload() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!(1)),
        Just(json!(1.5)),
        Just(json!("ab")),
        Just(json!(null)),
        Just(json!([1, "a"]))
    ];
    proptest::collection::btree_map(
        "[abc]",
        scalar.prop_recursive(2, 8, 2, |inner| {
            proptest::collection::btree_map("[d0]", inner, 0..2).prop_map(|map| json!(map))
        }),
        0..3,
    )
    .prop_map(|map| json!(map))
}

proptest! {
    #[test]
    fn not_any_is_all_not(a in leaf(), b in leaf(), payload in payload()) {
        let holds = |condition: Value| Condition::compile(&condition).expect("compiles").holds(&Json::from(&payload)).is_ok();
        let neither = holds(json!({"not": {"any": [a.clone(), b.clone()]}}));
        let both_not = holds(json!({"all": [{"not": a.clone()}, {"not": b.clone()}]}));
        prop_assert_eq!(neither, both_not);
        prop_assert_ne!(holds(a.clone()), holds(json!({"not": a})));
    }

    #[test]
    fn ne_is_not_eq(payload in payload(), path in "[abc]", value in prop_oneof![Just(json!(1)), Just(json!(null))]) {
        let holds = |op: &str| {
            let condition = json!({"path": path, "op": op, "value": value});
            Condition::compile(&condition).expect("compiles").holds(&Json::from(&payload)).is_ok()
        };
        prop_assert_ne!(holds("eq"), holds("ne"));
    }

    #[test]
    fn no_text_makes_it_panic(text in r#"[\[\]{}",:a-z0-9. ]{0,60}"#, payload in payload()) {
        if let Ok(condition) = serde_json::from_str(&text)
            && let Ok(condition) = Condition::compile(&condition) {
            let _ = condition.holds(&Json::from(&payload));
        }
    }
}

/// Conditions of every shape, all of them well formed.
fn condition() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 3, |inner| {
        let several = proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            several.clone().prop_map(|list| json!({"all": list})),
            several.prop_map(|list| json!({"any": list})),
            inner.prop_map(|one| json!({"not": one})),
        ]
    })
}

/// The same words, read as plainly as can be.
fn means(condition: &Value, payload: &Value) -> bool {
    let list = |key: &str| condition[key].as_array().into_iter().flatten();
    if condition.get("all").is_some() {
        return list("all").all(|one| means(one, payload));
    }
    if condition.get("any").is_some() {
        return list("any").any(|one| means(one, payload));
    }
    if let Some(one) = condition.get("not") {
        return !means(one, payload);
    }
    let pointer = format!("/{}", condition["path"].as_str().expect("a path").replace('.', "/"));
    let (found, value) = (payload.pointer(&pointer), &condition["value"]);
    match condition["op"].as_str().expect("an op") {
        "eq" => found == Some(value),
        "ne" => found != Some(value),
        "contains" => match (found, value) {
            (Some(Value::String(text)), Value::String(part)) => text.contains(part.as_str()),
            (Some(Value::Array(elements)), value) => elements.contains(value),
            _ => false,
        },
        other => unreachable!("{other} is not made here"),
    }
}

fn holds(condition: &Value, payload: &Value) -> bool {
    Condition::compile(condition).expect("well formed").holds(&Json::from(payload)).is_ok()
}

/// Any document, with many of the words that conditions are made of.
fn document() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("eq"),
        Just("gt"),
        Just("in"),
        Just("exists"),
        Just("matches"),
        Just("a.b"),
        Just("("),
        Just("")
    ];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("all"),
        Just("any"),
        Just("not"),
        Just("path"),
        Just("op"),
        Just("value"),
        Just("x")
    ];
    scalar.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..4).prop_map(|members| {
                members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>().into()
            }),
        ]
    })
}

/// The places of all comparisons in a condition, each with a way to its `op`.
fn leaves(condition: &Value, place: &str, pointer: &str, found: &mut Vec<(String, String)>) {
    for key in ["all", "any"] {
        for (index, one) in condition[key].as_array().into_iter().flatten().enumerate() {
            leaves(one, &format!("{place}.{key}[{index}]"), &format!("{pointer}/{key}/{index}"), found);
        }
    }
    if let Some(one) = condition.get("not") {
        leaves(one, &format!("{place}.not"), &format!("{pointer}/not"), found);
    }
    if condition.get("op").is_some() {
        found.push((format!("{place}.op"), format!("{pointer}/op")));
    }
}

proptest! {
    #[test]
    fn a_condition_means_what_it_says(condition in condition(), payload in payload()) {
        prop_assert_eq!(holds(&condition, &payload), means(&condition, &payload));
    }

    #[test]
    fn the_laws_of_all_any_and_not_hold(list in proptest::collection::vec(condition(), 1..4), payload in payload()) {
        let nots = |list: &[Value]| -> Vec<Value> { list.iter().map(|one| json!({"not": one})).collect() };
        // One level of nesting is needed for each `not`, so these may be too deep to be rules.
        let both = |one: Value, other: Value| {
            match (Condition::compile(&one), Condition::compile(&other)) {
                (Ok(one), Ok(other)) => Some((one.holds(&Json::from(&payload)).is_ok(), other.holds(&Json::from(&payload)).is_ok())),
                _ => None,
            }
        };
        let pairs = [
            both(json!({"not": {"not": list[0]}}), list[0].clone()),
            both(json!({"not": {"all": list}}), json!({"any": nots(&list)})),
            both(json!({"not": {"any": list}}), json!({"all": nots(&list)})),
            both(json!({"all": [list[0], list[0]]}), list[0].clone()),
            both(json!({"any": [list[0]]}), list[0].clone()),
        ];
        for (one, other) in pairs.into_iter().flatten() {
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn a_miss_is_one_short_sentence(condition in condition(), payload in payload()) {
        if let Err(miss) = Condition::compile(&condition).expect("well formed").holds(&Json::from(&payload)) {
            prop_assert!(miss.starts_with("conditions") && miss.chars().count() <= MISS_CHARS_MAX, "{miss}");
        }
    }

    #[test]
    fn a_fault_anywhere_is_refused_with_its_place(condition in condition(), chosen: proptest::sample::Index) {
        let mut found = Vec::new();
        leaves(&condition, "conditions", "", &mut found);
        let (place, pointer) = chosen.get(&found);
        let mut faulty = condition.clone();
        *faulty.pointer_mut(pointer).expect("it is there") = json!("resembles");
        prop_assert_eq!(&Condition::compile(&faulty).expect_err("refused").param, place);
    }

    #[test]
    fn no_document_makes_it_panic(document in document(), payload in document()) {
        match Condition::compile(&document) {
            Ok(condition) => drop(condition.holds(&Json::from(&payload))),
            Err(err) => prop_assert!(err.param.starts_with("conditions"), "{err}"),
        }
    }
}
