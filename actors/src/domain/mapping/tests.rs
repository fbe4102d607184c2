//! What mappings say and do, by tables.

use super::*;
use crate::domain::payload::Json;
use serde_json::{Value, json};

pub(super) fn parse(schema: &Value) -> Schema {
    Schema::parse(&Json::from(schema)).unwrap_or_else(|errors| panic!("{schema}: {errors:?}"))
}

pub(super) fn with_fields(fields: Value) -> Schema {
    parse(&json!({"schema_version": 1, "fields": fields}))
}

/// One field, `v`, from JSON text by some transforms: as JSON text, or what the failure says.
fn transformed(transforms: &Value, value: &str) -> Result<Option<String>, String> {
    let field = json!({"dest": "v", "source": {"type": "path", "value": "v"}, "transforms": transforms, "on_error": "fail_action"});
    let schema = with_fields(json!([field]));
    let payload = if value.is_empty() { "{}".to_owned() } else { format!("{{\"v\":{value}}}") };
    let payload = Json::parse(payload.as_bytes()).expect(value);
    let applied = schema.apply(&payload).map_err(|failure| failure.to_string())?;
    Ok(applied.fields.get("v").map(|value| serde_json::to_string(value).expect("JSON")))
}

/// `-` stands for an error and the empty string for nothing, in values too.
fn assert_table(transform: Value, cases: &[(&str, &str)]) {
    for (value, expected) in cases {
        let found = transformed(&json!([transform]), value);
        match (&found, *expected) {
            (Err(_), "-") | (Ok(None), "") => {}
            (Ok(Some(found)), expected) if found == expected => {}
            _ => panic!("{transform} of {value}: expected {expected}, found {found:?}"),
        }
    }
}

#[test]
fn to_string_makes_text_of_anything() {
    #[rustfmt::skip]
    let cases = [
        ("",                         ""),
        ("null",                     ""),
        ("true",                     r#""true""#),
        ("false",                    r#""false""#),
        ("7",                        r#""7""#),
        ("1.50",                     r#""1.50""#),
        ("-0",                       r#""-0""#),
        ("1E+2",                     r#""1E+2""#),
        ("1e400",                    r#""1e400""#),
        ("9007199254740993",         r#""9007199254740993""#),
        ("0.10000000000000000000000000000000000000001", r#""0.10000000000000000000000000000000000000001""#),
        (r#""""#,                    r#""""#),
        (r#""é\n""#,                 r#""é\n""#),
        ("[]",                       r#""[]""#),
        (r#"[1.0, {"b":null,"a":true}]"#, r#""[1.0,{\"a\":true,\"b\":null}]""#),
        (r#"{ "x" : 1e400 }"#,       r#""{\"x\":1e400}""#),
    ];
    assert_table(json!({"type": "to_string"}), &cases);
}

#[test]
fn to_number_takes_what_json_would() {
    let long = "123456789".repeat(100);
    #[rustfmt::skip]
    let cases = [
        ("",                       ""),
        ("null",                   ""),
        ("true",                   "1"),
        ("false",                  "0"),
        ("1.50",                   "1.50"),
        ("1e400",                  "1e400"),
        (r#""42""#,                "42"),
        (r#"" -1.50\n""#,          "-1.50"),
        (r#""\u00a02e9\u2003""#,   "2e9"),
        (r#""9007199254740993""#,  "9007199254740993"),
        (&format!("\"{long}\""),   &long),
        (r#""""#,                  "-"),
        (r#""007""#,               "-"),
        (r#""+1""#,                "-"),
        (r#"".5""#,                "-"),
        (r#""5.""#,                "-"),
        (r#""1,000""#,             "-"),
        (r#""1 2""#,               "-"),
        (r#""0x10""#,              "-"),
        (r#""NaN""#,               "-"),
        (r#""Infinity""#,          "-"),
        (r#""٣""#,                 "-"),
        (r#""[1]""#,               "-"),
        (r#""true""#,              "-"),
        ("[1]",                    "-"),
        ("{}",                     "-"),
    ];
    assert_table(json!({"type": "to_number"}), &cases);
}

#[test]
fn to_boolean_knows_its_words() {
    for (words, expected) in
        [(["true", "t", "yes", "y", "on", "1"], "true"), (["false", "f", "no", "n", "off", "0"], "false")]
    {
        for word in words {
            assert_table(
                json!({"type": "to_boolean"}),
                &[
                    (&format!("\"{word}\""), expected),
                    (&format!("\" {}\\t\"", word.to_uppercase()), expected),
                ],
            );
        }
    }
    #[rustfmt::skip]
    let cases = [
        ("",          ""),
        ("null",      ""),
        ("true",      "true"),
        ("false",     "false"),
        ("1",         "true"),
        ("1.0",       "true"),
        ("0",         "false"),
        ("-0",        "false"),
        ("0e5",       "false"),
        ("2",         "-"),
        ("1e400",     "-"),
        (r#""""#,     "-"),
        (r#""2""#,    "-"),
        (r#""maybe""#, "-"),
        ("[true]",    "-"),
        ("{}",        "-"),
    ];
    assert_table(json!({"type": "to_boolean"}), &cases);
}

#[test]
fn to_date_tells_days() {
    #[rustfmt::skip]
    let cases = [
        ("",                               ""),
        ("null",                           ""),
        ("true",                           "-"),
        (r#""2026-03-15""#,                r#""2026-03-15""#),
        (r#"" 2026-03-15 ""#,              r#""2026-03-15""#),
        (r#""0000-01-01""#,                r#""0000-01-01""#),
        (r#""9999-12-31""#,                r#""9999-12-31""#),
        (r#""2024-02-29""#,                r#""2024-02-29""#),
        (r#""2026-03-15T23:30:00-05:00""#, r#""2026-03-15""#), // as written, where no zone is given
        (r#""2026-03-15t23:30:00z""#,      r#""2026-03-15""#),
        (r#""2026-03-15 23:30:00.5Z""#,    r#""2026-03-15""#),
        (r#""2016-12-31T23:59:60Z""#,      r#""2016-12-31""#), // a leap second
        ("0",                              r#""1970-01-01""#),
        ("-1",                             r#""1969-12-31""#),
        ("1773576000",                     r#""2026-03-15""#), // seconds
        ("1773576000.999",                 r#""2026-03-15""#),
        ("1.773576e9",                     r#""2026-03-15""#),
        ("1773576000123",                  r#""2026-03-15""#), // milliseconds
        ("99999999999",                    r#""5138-11-16""#), // the last second
        ("100000000000",                   r#""1973-03-03""#), // the first millisecond
        ("-100000000000",                  r#""1966-10-31""#),
        (r#""1773576000""#,                r#""2026-03-15""#),
        (r#""1773576000123""#,             r#""2026-03-15""#),
        (r#""-300000000""#,                r#""1960-06-29""#),
        (r#""2026-02-29""#,                "-"),
        (r#""2026-13-01""#,                "-"),
        (r#""2026-3-5""#,                  "-"),
        (r#""03/15/2026""#,                "-"),
        (r#""15.03.2026""#,                "-"),
        (r#""20260315""#,                  "-"), // no epoch time either
        (r#""2026""#,                      "-"),
        (r#""2026-03-15T12:00:00""#,       "-"), // where?
        (r#""2026-03-15T12:00Z""#,         "-"),
        (r#""2026-03-15T24:00:00Z""#,      "-"),
        (r#""2026-03-15T12:00:00.Z""#,     "-"),
        (r#""2026-03-15T12:00:00+1:00""#,  "-"),
        (r#""2026-03-15T12:00:00+01:00[Europe/Prague]""#, "-"),
        (r#""2026-03-15T12:00:00é""#,      "-"),
        (r#""éééééééééééééé""#,            "-"),
        (r#""+002026-03-15""#,             "-"),
        (r#""yesterday""#,                 "-"),
        (r#""""#,                          "-"),
        ("1773576000123456",               "-"), // microseconds are beyond the year 9999
        ("-1e14",                          "-"), // before the year 0
        ("1e400",                          "-"),
        ("[]",                             "-"),
        ("{}",                             "-"),
    ];
    assert_table(json!({"type": "to_date"}), &cases);
    #[rustfmt::skip]
    let cases = [
        (r#""2026-03-15""#,                r#""2026-03-15""#), // a day is a day everywhere
        (r#""2026-03-15T23:30:00-05:00""#, r#""2026-03-16""#),
        (r#""2026-03-15T23:30:00Z""#,      r#""2026-03-16""#),
        ("1773617400",                     r#""2026-03-16""#),
    ];
    assert_table(json!({"type": "to_date", "timezone": "Europe/Prague"}), &cases);
}

#[test]
fn to_datetime_tells_instants() {
    #[rustfmt::skip]
    let cases = [
        ("",                                          ""),
        ("null",                                      ""),
        ("false",                                     "-"),
        (r#""2026-03-15""#,                           r#""2026-03-15T00:00:00Z""#),
        (r#""2026-03-15T12:00:00Z""#,                 r#""2026-03-15T12:00:00Z""#),
        (r#""2026-03-15T12:00:00+00:00""#,            r#""2026-03-15T12:00:00Z""#),
        (r#""2026-03-15T12:00:00-00:00""#,            r#""2026-03-15T12:00:00Z""#),
        (r#""2026-03-15T12:00:00+05:45""#,            r#""2026-03-15T12:00:00+05:45""#),
        (r#""2026-03-15T12:00:00.123456789-08:00""#,  r#""2026-03-15T12:00:00.123456789-08:00""#),
        (r#""2026-03-15T12:00:00.1234567891Z""#,      "-"),
        (r#""2026-03-15T12:00:00+25:00""#,            "-"),
        (r#""2026-03-15T12:00:00+01:60""#,            "-"),
        (r#""0000-01-01T00:00:00+01:00""#,            r#""0000-01-01T00:00:00+01:00""#),
        ("0",                                         r#""1970-01-01T00:00:00Z""#),
        ("1773576000",                                r#""2026-03-15T12:00:00Z""#),
        ("1773576000.123456789",                      r#""2026-03-15T12:00:00.123456789Z""#),
        ("1773576000123",                             r#""2026-03-15T12:00:00.123Z""#),
        ("1773576000123.4",                           r#""2026-03-15T12:00:00.1234Z""#),
        (r#""1773576000.5""#,                         r#""2026-03-15T12:00:00.5Z""#),
        (r#""12345678""#,                             "-"),
        (r#""123456789""#,                            r#""1973-11-29T21:33:09Z""#),
        (r#""noon""#,                                 "-"),
        ("[1]",                                       "-"),
        ("{}",                                        "-"),
    ];
    assert_table(json!({"type": "to_datetime"}), &cases);
    #[rustfmt::skip]
    let cases = [
        (r#""2026-03-15""#,                r#""2026-03-15T00:00:00+01:00""#),
        (r#""2026-07-15""#,                r#""2026-07-15T00:00:00+02:00""#),
        (r#""2026-03-15T12:00:00Z""#,      r#""2026-03-15T13:00:00+01:00""#),
        ("1784116800",                     r#""2026-07-15T14:00:00+02:00""#),
    ];
    assert_table(json!({"type": "to_datetime", "timezone": "Europe/Prague"}), &cases);
    #[rustfmt::skip]
    let odd_days = [
        // why                                  zone                 value                         expected
        ("clocks skip midnight",               "America/Sao_Paulo", r#""2018-11-04""#,            r#""2018-11-04T01:00:00-02:00""#),
        ("clocks strike midnight twice",       "America/Havana",    r#""2025-11-02""#,            r#""2025-11-02T00:00:00-04:00""#),
        ("a day that was skipped",             "Pacific/Apia",      r#""2011-12-30""#,            r#""2011-12-31T00:00:00+14:00""#),
        ("an offset with seconds, same instant", "Europe/Paris",    r#""1900-01-01T00:00:00Z""#,  r#""1900-01-01T00:09:00+00:09""#),
        ("no offset is Z",                     "Europe/London",     r#""2026-01-01""#,            r#""2026-01-01T00:00:00Z""#),
        ("capitals do not matter",             "europe/london",     r#""2026-07-01""#,            r#""2026-07-01T00:00:00+01:00""#),
        ("before the year 0, there",           "America/New_York",  r#""0000-01-01T00:00:00Z""#,  "-"),
        ("after the year 9999, somewhere",     "America/New_York",  r#""9999-12-31""#,            "-"),
    ];
    for (why, zone, value, expected) in odd_days {
        let found = transformed(&json!([{"type": "to_datetime", "timezone": zone}]), value);
        assert_eq!(found.map(Option::unwrap).unwrap_or("-".into()), expected, "{why}");
    }
}

#[test]
fn default_fills_what_is_missing() {
    #[rustfmt::skip]
    let cases = [
        ("",        r#""d""#),
        ("null",    r#""d""#),
        ("false",   "false"),
        ("0",       "0"),
        (r#""""#,   r#""""#),
        ("[]",      "[]"),
        ("{}",      "{}"),
    ];
    assert_table(json!({"type": "default", "value": "d"}), &cases);
    assert_table(json!({"type": "default", "value": null}), &[("", "null"), ("null", "null"), ("1", "1")]);
    assert_table(json!({"type": "default", "value": 0.5}), &[("", "0.5"), ("null", "0.5"), ("1", "1")]);
}

#[test]
fn trim_lower_and_upper_change_strings_alone() {
    let same = [
        ("", ""),
        ("null", ""),
        ("true", "true"),
        ("1E2", "1E2"),
        ("[\" a\"]", "-"),
        ("{\"a\":\" b\"}", "-"),
    ];
    for transform in ["trim", "lower", "upper"] {
        assert_table(json!({"type": transform}), &same);
    }
    assert_table(
        json!({"type": "trim"}),
        &[
            (r#""\t a b\u00a0\u2028\n""#, r#""a b""#),
            (r#""\u200b""#, "\"\u{200b}\""), // not white space, in Unicode
            (r#"" ""#, r#""""#),
        ],
    );
    assert_table(json!({"type": "lower"}), &[(r#""ÀB ΣΑΣ""#, r#""àb σας""#), (r#""İ""#, "\"i\u{307}\"")]);
    assert_table(json!({"type": "upper"}), &[(r#""àb ß ŉ""#, "\"ÀB SS ʼN\""), (r#""ﬃ""#, r#""FFI""#)]);
}

#[test]
fn substring_counts_characters() {
    let cut = |start: u64, length: Option<u64>| match length {
        Some(length) => json!({"type": "substring", "start": start, "length": length}),
        None => json!({"type": "substring", "start": start}),
    };
    let text = r#""aé😀e\u0301z""#;
    #[rustfmt::skip]
    let cases = [
        (cut(0, None),                    "\"aé😀e\u{301}z\""),
        (cut(0, Some(3)),                 "\"aé😀\""),
        (cut(2, Some(2)),                 "\"😀e\""), // a scalar value, not what looks like one letter
        (cut(5, None),                    "\"z\""),
        (cut(6, None),                    "\"\""),
        (cut(7, Some(1)),                 "\"\""),
        (cut(u64::MAX, Some(u64::MAX)),   "\"\""),
        (cut(1, Some(u64::MAX)),          "\"é😀e\u{301}z\""),
    ];
    for (transform, expected) in cases {
        assert_table(transform, &[(text, expected)]);
    }
    assert_table(
        cut(0, Some(1)),
        &[("", ""), ("null", ""), ("true", "-"), ("12", "-"), (r#""""#, r#""""#), ("[1]", "-"), ("{}", "-")],
    );
}

#[test]
fn null_that_the_mapping_said_passes_all_but_default() {
    for transform in Transform::NAMES {
        let field = json!({"dest": "v", "source": {"type": "literal", "value": null},
                           "transforms": [{"type": transform, "value": 1, "start": 0}], "on_error": "fail_action"});
        let schema = with_fields(json!([field]));
        let payload = Json::Object(Vec::new());
        let applied = schema.apply(&payload).expect(transform);
        let expected = if transform == "default" { Json::Number("1".into()) } else { Json::Null };
        assert_eq!(applied.fields.get("v"), Some(&expected), "{transform}");
    }
}

#[test]
fn transforms_follow_each_other() {
    #[rustfmt::skip]
    let cases = [
        // why                           transforms                                                                 value        expected
        ("default, then upper",          json!([{"type": "default", "value": "pro"}, {"type": "upper"}]),           "",          r#""PRO""#),
        ("upper, then default",          json!([{"type": "upper"}, {"type": "default", "value": "pro"}]),           "",          r#""pro""#),
        ("default null, then default",   json!([{"type": "default", "value": null}, {"type": "default", "value": 1}]), "",       "1"),
        ("a number by its first digits", json!([{"type": "to_string"}, {"type": "substring", "start": 0, "length": 4}, {"type": "to_number"}]), "20260315", "2026"),
        ("a compact day, with help",     json!([{"type": "to_date"}, {"type": "to_datetime"}]),                     "0",         r#""1970-01-01T00:00:00Z""#),
        ("a default is transformed",     json!([{"type": "default", "value": "0"}, {"type": "to_boolean"}, {"type": "to_string"}]), "null", r#""false""#),
    ];
    for (why, transforms, value, expected) in cases {
        assert_eq!(transformed(&transforms, value), Ok(Some(expected.to_owned())), "{why}");
    }
}

#[test]
fn paths_lead_through_members_and_elements() {
    let payload = br#"{"email":"a@b.c","user":{"name":"Ada","0":"zero","tags":["x",["y",null]]},"_a1":1.10,"n":null,"big":1e400}"#;
    let payload = Json::parse(payload).expect("JSON");
    #[rustfmt::skip]
    let cases = [
        ("email",           r#""a@b.c""#),
        ("user.name",       r#""Ada""#),
        ("user.0",          r#""zero""#),
        ("user.tags.0",     r#""x""#),
        ("user.tags.1.0",   r#""y""#),
        ("user.tags",       r#"["x",["y",null]]"#),
        ("_a1",             "1.10"),
        ("big",             "1e400"),
        ("n",               ""),
        ("n.x",             ""),
        ("user.tags.1.1",   ""),
        ("user.tags.2",     ""),
        ("user.tags.name",  ""),
        ("user.tags.99999999999999999999999999", ""),
        ("email.0",         ""),
        ("Email",           ""),
    ];
    for (path, expected) in cases {
        let schema = with_fields(
            json!([{"dest": "v", "source": {"type": "path", "value": path}, "on_error": "fail_action"}]),
        );
        let applied = schema.apply(&payload).expect(path);
        let found = applied.fields.get("v").map(|value| serde_json::to_string(value).expect("JSON"));
        assert_eq!(found.unwrap_or_default(), expected, "{path}");
        assert!(applied.warnings.is_empty() && applied.skipped.is_empty(), "{path}");
    }
}

#[test]
fn fields_come_in_the_order_of_the_mapping_with_flat_keys() {
    let schema = with_fields(json!([
        {"dest": "template_variables.z", "source": {"type": "path", "value": "z"}},
        {"dest": "Email", "source": {"type": "path", "value": "email"}},
        {"dest": "gone", "source": {"type": "path", "value": "gone"}},
        {"dest": "template_variables.a", "source": {"type": "literal", "value": true}},
    ]));
    let payload = Json::parse(br#"{"email":"a@b.c","z":123456789012345678901234567890}"#).expect("JSON");
    let applied = schema.apply(&payload).expect("applies");
    let expected = r#"{"template_variables.z":123456789012345678901234567890,"Email":"a@b.c","template_variables.a":true}"#;
    assert_eq!(serde_json::to_string(&applied.fields).expect("JSON"), expected);
    assert_eq!((applied.fields.len(), applied.fields.is_empty()), (3, false));
}

#[test]
fn on_error_decides_about_a_field_that_a_transform_has_no_use_for() {
    let field = |dest: &str, on_error: Option<&str>| json!({"dest": dest, "source": {"type": "path", "value": "user.born"}, "transforms": [{"type": "trim"}, {"type": "to_date"}], "on_error": on_error});
    let rest = json!({"dest": "rest", "source": {"type": "literal", "value": 1}});
    let payload = Json::from(&json!({"user": {"born": "around Easter 1815"}}));
    let why = "to_date cannot use the string from user.born: it must be a day such as 2026-03-15";

    let schema = with_fields(json!([
        field("a", None),
        field("b", Some("skip_field")),
        field("c", Some("warn_action")),
        rest
    ]));
    let applied = schema.apply(&payload).expect("goes on");
    assert_eq!(applied.fields.iter().map(|(dest, _)| dest).collect::<Vec<_>>(), ["rest"]);
    assert_eq!(applied.skipped.iter().map(|skipped| skipped.dest.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(applied.warnings.len(), 1);
    assert!(applied.warnings[0].to_string().starts_with(&format!("c: {why}")), "{}", applied.warnings[0]);

    let schema = with_fields(json!([field("a", None), field("d", Some("fail_action")), rest]));
    let failure = schema.apply(&payload).expect_err("fails");
    assert!(failure.to_string().starts_with(&format!("d: {why}")), "{failure}");

    let literal = json!({"dest": "e", "source": {"type": "literal", "value": "x"}, "transforms": [{"type": "to_number"}], "on_error": "fail_action"});
    let schema = with_fields(json!([literal]));
    let failure = schema.apply(&payload).expect_err("fails");
    assert_eq!(
        failure.to_string(),
        "e: to_number cannot use the string of the literal: it must spell a number as JSON does, such as 42 or -1.50"
    );
}

#[test]
fn hostile_payloads_are_bounded() {
    let many = |path: &str, transforms: Value| {
        let field = |index| json!({"dest": format!("f{index}"), "source": {"type": "path", "value": path}, "transforms": transforms});
        with_fields((0..FIELDS_MAX).map(field).collect())
    };
    let text = "é".repeat(128 * 1_024);
    let list = vec![0; 100_000];
    let digits = format!("{{\"v\":{}}}", "7".repeat(256 * 1_024));
    let texts = Json::from(&json!({"v": text}));
    let lists = Json::from(&json!({"v": list}));
    let digits = Json::parse(digits.as_bytes()).expect("JSON");
    let all = json!([{"type": "to_string"}, {"type": "trim"}, {"type": "upper"}, {"type": "lower"}, {"type": "substring", "start": 9_999}]);
    for payload in [&texts, &lists, &digits] {
        for transforms in
            [json!([]), json!([{"type": "to_number"}]), json!([{"type": "to_datetime"}]), all.clone()]
        {
            let once = with_fields(
                json!([{"dest": "v", "source": {"type": "path", "value": "v"}, "transforms": transforms}]),
            );
            assert!(once.apply(payload).is_ok(), "{transforms}");
            assert_eq!(many("v", transforms).apply(payload), Err(Failure::TooMuch));
        }
        // Small values beside large ones cost nothing.
        assert!(many("v.0", json!([])).apply(payload).is_ok());
    }
    let deep = "a".to_owned() + &".a".repeat(63);
    let nested = (0..63).fold(json!("end"), |inner, _| json!({"a": inner}));
    let payload = Json::from(&json!({"a": nested}));
    assert_eq!(many(&deep, json!([])).apply(&payload).expect("applies").fields.len(), FIELDS_MAX);
}

#[test]
fn a_schema_is_written_as_it_was_read() {
    let text = r#"{"schema_version":1,"fields":[
        {"dest":"a","source":{"type":"literal","value":12345678901234567890.10},"transforms":[
            {"type":"to_date"},{"type":"to_datetime","timezone":"europe/Prague"},
            {"type":"default","value":1e400},{"type":"default","value":null},
            {"type":"substring","start":0},{"type":"substring","start":2,"length":5}
        ],"on_error":"warn_action","notes":"n"},
        {"dest":"b","source":{"type":"path","value":"x.0"},"transforms":[]},
        {"dest":"c","source":{"type":"literal","value":null}}
    ],"meta":{"name":"m","notes":"o"}}"#;
    let text: String = text.lines().map(str::trim).collect();
    let read = Schema::parse(&Json::parse(text.as_bytes()).expect("JSON")).expect("a schema");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), text);
    assert_eq!(read.fields().len(), 3);
    assert_eq!(read.meta().and_then(|meta| meta.name.as_deref()), Some("m"));

    let more = json!({"schema_version": 1.0, "extra": {}, "meta": null, "fields": [
        {"dest": "a", "extra": 1, "source": {"type": "path", "value": "x", "extra": []}, "on_error": null, "notes": null,
         "transforms": [{"type": "trim", "timezone": 7}, {"type": "to_date", "timezone": null}]},
        {"dest": "b", "source": {"type": "path", "value": "x"}, "transforms": null},
    ]});
    let less = json!({"schema_version": 1, "fields": [
        {"dest": "a", "source": {"type": "path", "value": "x"}, "transforms": [{"type": "trim"}, {"type": "to_date"}]},
        {"dest": "b", "source": {"type": "path", "value": "x"}},
    ]});
    assert_eq!(serde_json::to_value(parse(&more)).expect("JSON"), less);
}

#[test]
fn all_mistakes_are_named_at_once() {
    let schema = json!({"schema_version": 2, "meta": {"name": ""}, "fields": [
        {"dest": "a", "source": {"type": "path", "value": "$.a"}, "transforms": [{"type": "to_date", "timezone": "Mars/Olympus"}, {"type": "to_upper"}]},
        {"source": {"type": "literal"}},
        7,
        {"dest": "a", "source": {"type": "path", "value": "a"}, "on_error": "explode"},
    ]});
    let errors = Schema::parse(&Json::from(&schema)).expect_err("refused");
    let places: Vec<_> = errors.iter().map(|error| error.param.as_str()).collect();
    let expected = [
        "schema.schema_version",
        "schema.fields[0].source.value",
        "schema.fields[0].transforms[0].timezone",
        "schema.fields[0].transforms[1].type",
        "schema.fields[1].dest",
        "schema.fields[1].source.value",
        "schema.fields[2]",
        "schema.fields[3].dest",
        "schema.fields[3].on_error",
        "schema.meta.name",
    ];
    assert_eq!(places, expected);
    assert_eq!(errors[7].msg, "is the dest of fields[0] already: map each field once");

    let errors = Schema::parse(&Json::from(&json!({"schema_version": 1, "fields": vec![7; 200]})))
        .expect_err("refused");
    assert_eq!(errors.len(), ERRORS_MAX);
}
