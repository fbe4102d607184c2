use super::*;
use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::{collections::HashSet, fmt};

#[test]
fn takes_what_every_parser_reads_alike() {
    let many_keys =
        format!("{{{}}}", (0..1_000).map(|n| format!("\"k{n}\":{n},")).collect::<String>() + "\"z\":0");
    #[rustfmt::skip]
    let cases: &[(&str, &[u8])] = &[
        ("a scalar",                           b"1"),
        ("white space around and within",      b" \t\r\n{ \"a\" : [ 1 , { } , [ ] ] } \n"),
        ("text beyond ASCII",                  "\"žluť 😀 \u{7f} \u{fffe}\"".as_bytes()),
        ("every escape",                       br#""\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00""#),
        ("NUL is data",                        br#"{"a\u0000":"\u0000"}"#),
        ("a number no float holds",            b"1e400"),
        ("a number no u64 holds",              b"123456789012345678901234567890"),
        ("a long decimal",                     b"-0.1000000000000000055511151231257827e-10"),
        ("zeros",                              b"[0,-0,0.0,0e0,0E+00]"),
        ("equal keys in different objects",    br#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#),
        ("a key again after its object ended", br#"{"x":{"a":1},"a":1}"#),
        ("keys that differ in case or form",   "{\"a\":1,\"A\":1,\"\u{e9}\":1,\"e\u{301}\":1}".as_bytes()),
        ("an empty key",                       br#"{"":1}"#),
        ("a thousand keys",                    many_keys.as_bytes()),
    ];
    for (why, bytes) in cases {
        assert_eq!(check_document(bytes), Ok(()), "{why}");
    }
}

#[test]
fn refuses_what_parsers_disagree_on() {
    let key_again_after_many =
        format!("{{{}\"k3\":0}}", (0..40).map(|n| format!("\"k{n}\":{n},")).collect::<String>());
    #[rustfmt::skip]
    let cases: &[(&str, &[u8], usize, &str)] = &[
        // why                          bytes                         offset  msg
        ("nothing",                     b"",                          0, "expected a value"),
        ("only white space",            b" \n",                       2, "expected a value"),
        ("white space of other kinds",  b"\x0c1",                     0, "expected a value"),
        ("a byte order mark",           b"\xef\xbb\xbf{}",            0, "expected a value"),
        ("two documents",               b"{} {}",                     3, "something after the document"),
        ("trailing bytes",              b"{}x",                       2, "something after the document"),
        ("a trailing NUL",              b"{}\0",                      2, "something after the document"),
        ("a line comment",              b"{} // no",                  3, "something after the document"),
        ("a block comment",             b"[/**/1]",                   1, "expected a value"),
        ("NaN",                         b"[NaN]",                     1, "expected a value"),
        ("Infinity",                    b"Infinity",                  0, "expected a value"),
        ("-Infinity",                   b"-Infinity",                 1, "expected a digit"),
        ("a word cut short",            b"tru",                       0, "expected a value"),
        ("a word in capitals",          b"True",                      0, "expected a value"),
        ("a leading zero",              b"[01]",                      2, "a number with a leading zero"),
        ("a negative leading zero",     b"-01",                       2, "a number with a leading zero"),
        ("hex",                         b"0x1",                       1, "something after the document"),
        ("a plus sign",                 b"+1",                        0, "expected a value"),
        ("a dot first",                 b".5",                        0, "expected a value"),
        ("a dot last",                  b"5.",                        2, "expected a digit"),
        ("an exponent without digits",  b"1e+",                       3, "expected a digit"),
        ("a lone minus",                b"-",                         1, "expected a digit"),
        ("a comma too many in a list",  b"[1,]",                      3, "expected a value"),
        ("a comma first",               b"[,1]",                      1, "expected a value"),
        ("a comma missing in a list",   b"[1 2]",                     3, "expected ',' or ']'"),
        ("a comma too many",            br#"{"a":1,}"#,               7, "expected a key"),
        ("a comma missing",             br#"{"a":1 "b":2}"#,          7, "expected ',' or '}'"),
        ("a colon missing",             br#"{"a" 1}"#,                5, "expected ':'"),
        ("a value missing",             br#"{"a":}"#,                 5, "expected a value"),
        ("a key without quotes",        b"{a:1}",                     1, "expected a key"),
        ("a number as key",             b"{1:1}",                     1, "expected a key"),
        ("single quotes",               b"{'a':1}",                   1, "expected a key"),
        ("brackets that do not match",  b"[1}",                       2, "expected ',' or ']'"),
        ("an object that does not end", br#"{"a":1"#,                 6, "expected ',' or '}'"),
        ("a string that does not end",  br#""abc"#,                   4, "a string that does not end"),
        ("an escape that does not end", br#""abc\"#,                  4, "an escape JSON does not have"),
        ("a raw newline",               b"\"a\nb\"",                  2, "a raw control character in a string"),
        ("a raw NUL",                   b"\"12345678\0\"",            9, "a raw control character in a string"),
        ("a raw control in a key",      b"{\"\x1f\":1}",              2, "a raw control character in a string"),
        ("an unknown escape",           br#""\x41""#,                 1, "an escape JSON does not have"),
        ("three hex digits",            br#""\u00e""#,                1, "\\u without four hex digits"),
        ("a sign among hex digits",     br#""\u+0e9""#,               1, "\\u without four hex digits"),
        ("a lone high surrogate",       br#""\ud800""#,               1, "half a surrogate pair"),
        ("a lone low surrogate",        br#""\udc00""#,               1, "half a surrogate pair"),
        ("a high one before a letter",  br#""\ud800\u0041""#,         1, "half a surrogate pair"),
        ("two high ones",               br#""\ud800\ud800""#,         1, "half a surrogate pair"),
        ("a lone surrogate in a key",   br#"{"\udfff":1}"#,           2, "half a surrogate pair"),
        ("an overlong form",            b"\"\xc0\xaf\"",              1, "invalid UTF-8"),
        ("a surrogate as CESU-8",       b"\"\xed\xa0\x80\"",          1, "invalid UTF-8"),
        ("beyond Unicode",              b"\"\xf4\x90\x80\x80\"",      1, "invalid UTF-8"),
        ("Latin-1",                     b"\"caf\xe9\"",               4, "invalid UTF-8"),
        ("UTF-16",                      b"{\0}\0",                    1, "expected a key"),
        ("equal keys",                  br#"{"a":1,"a":1}"#,          7, "duplicate key"),
        ("equal keys, deeper",          br#"[{"x":{"a":1,"a":2}}]"#, 13, "duplicate key"),
        ("equal keys, one by escape",   br#"{"a":1,"\u0061":1}"#,     7, "duplicate key"),
        ("equal keys, both by escape",  br#"{"\/":1,"\u002F":1}"#,    8, "duplicate key"),
        ("equal keys, a pair by escape", "{\"😀\":1,\"\\ud83d\\ude00\":1}".as_bytes(), 10, "duplicate key"),
        ("equal empty keys",            br#"{"":1,"":1}"#,            6, "duplicate key"),
        ("equal keys around an object", br#"{"a":{"b":1},"a":1}"#,   13, "duplicate key"),
        ("equal keys among many",       key_again_after_many.as_bytes(), 341, "duplicate key"),
    ];
    for (why, bytes, offset, msg) in cases {
        assert_eq!(check_document(bytes), Err(JsonError { offset: *offset, msg }), "{why}");
    }
}

#[test]
fn nests_to_a_limit_whatever_comes() {
    let too_deep = |offset| Err(JsonError { offset, msg: "nested too deeply" });
    let nested = |open: &str, count, close: &str| format!("{}1{}", open.repeat(count), close.repeat(count));
    assert_eq!(check_document(nested("[", NESTING_MAX, "]").as_bytes()), Ok(()));
    assert_eq!(check_document(nested("{\"a\":", NESTING_MAX, "}").as_bytes()), Ok(()));
    for count in [NESTING_MAX + 1, 1_000, 20_000, 400_000] {
        for close in ["]", ""] {
            assert_eq!(
                check_document(nested("[", count, close).as_bytes()),
                too_deep(NESTING_MAX),
                "{count}"
            );
        }
        let objects = nested("{\"a\":", count, "}");
        assert_eq!(check_document(objects.as_bytes()), too_deep(5 * NESTING_MAX), "{count}");
        let event = format!(r#"{{"event":"e","payload":{objects}}}"#);
        assert_eq!(parse_event(event.as_bytes()).unwrap_err().param, "body", "{count}");
        assert_eq!(parse_bulk(format!("[{event}]").as_bytes()).unwrap_err().param, "body", "{count}");
    }
    let side_by_side = format!("[{}[]]", "[[[]]],".repeat(10_000));
    assert_eq!(check_document(side_by_side.as_bytes()), Ok(()), "width is no depth");
}

#[test]
fn an_event_is_read() {
    let full = r#" {"type":"event","workspace":"w","resource":"form","resource_id":"7","other":[{}],
        "event":"a\u002eb \ud83d\ude00","payload": { "email" : "a@b.cz", "n":1e400,"name":null } } "#;
    assert_eq!(
        parse_event(full.as_bytes()).unwrap(),
        EventBody {
            event: "a.b 😀".into(),
            payload: br#"{ "email" : "a@b.cz", "n":1e400,"name":null }"#,
            resource: Some("form".into()),
            resource_id: Some("7".into()),
            workspace: Some("w".into()),
        }
    );
    let nulls = br#"{"p\u0061yload":{"x":0},"event":" e ","resource":null,"resource_id":null,"type":null,"workspace":null}"#;
    assert_eq!(
        parse_event(nulls).unwrap(),
        EventBody {
            event: " e ".into(),
            payload: br#"{"x":0}"#,
            resource: None,
            resource_id: None,
            workspace: None,
        }
    );
}

#[test]
fn an_event_that_breaks_a_rule_is_told_which() {
    let body = |members: &str| format!("{{{members}}}");
    let event = |json: &str| format!(r#"{{"event":{json},"payload":{{"x":1}}}}"#);
    let payload = |json: &str| format!(r#"{{"event":"e","payload":{json}}}"#);
    let also = |member: &str| format!(r#"{{"event":"e","payload":{{"x":1}},{member}}}"#);
    let long = |chars| format!("\"{}\"", "é".repeat(chars));
    let email = |domain| payload(&format!(r#"{{"email":"a@{}"}}"#, "d".repeat(domain)));
    const OK: &str = "";
    #[rustfmt::skip]
    let cases = [
        ("a scalar",                       "1".into(),                                   "body"),
        ("null",                           "null".into(),                                "body"),
        ("an array",                       "[]".into(),                                  "body"),
        ("nothing",                        "".into(),                                    "body"),
        ("broken JSON before all else",    body(r#""event":1,"payload":1,"#),            "body"),
        ("two documents",                  also(r#""a":1}{"b":1"#),                      "body"),
        ("equal members",                  also(r#""\u0065vent":"f""#),                  "body"),
        ("equal members in the payload",   payload(r#"{"x":1,"x":1}"#),                  "body"),
        ("no event",                       body(r#""payload":{"x":1}"#),                 "event"),
        ("event null",                     event("null"),                                "event"),
        ("event empty",                    event(r#""""#),                               "event"),
        ("event blank",                    event(r#"" \u00a0""#),                        "event"),
        ("event a number",                 event("7"),                                   "event"),
        ("event a list",                   event(r#"["e"]"#),                            "event"),
        ("event of 255 characters",        event(&long(255)),                            OK),
        ("event of 256 characters",        event(&long(256)),                            "event"),
        ("event with NUL",                 event(r#""a\u0000b""#),                       "event"),
        ("event with a newline",           event(r#""a\nb""#),                           "event"),
        ("event with DEL",                 event("\"a\u{7f}\""),                         "event"),
        ("event with a C1 control",        event(r#""a\u0085b""#),                       "event"),
        ("no payload",                     body(r#""event":"e""#),                       "payload"),
        ("payload null",                   payload("null"),                              "payload"),
        ("payload a list",                 payload(r#"[{"x":1}]"#),                      "payload"),
        ("payload text",                   payload(r#""{}""#),                           "payload"),
        ("payload empty",                  payload("{}"),                                "payload"),
        ("payload of empty values",        payload(r#"{"a":null,"b":" \t","c":[ ],"d":{ },"e":""}"#), "payload"),
        ("payload with zero",              payload(r#"{"a":null,"b":0}"#),               OK),
        ("payload with false",             payload(r#"{"a":false}"#),                    OK),
        ("payload with a list of null",    payload(r#"{"a":[null]}"#),                   OK),
        ("payload with NUL as data",       payload(r#"{"a":"\u0000"}"#),                 OK),
        ("id a number",                    payload(r#"{"id":1}"#),                       "payload.id"),
        ("ip_address a list",              payload(r#"{"ip_address":[]}"#),              "payload"),
        ("ip_address a list among others", payload(r#"{"x":1,"ip_address":[]}"#),        "payload.ip_address"),
        ("name an object",                 payload(r#"{"name":{"a":1}}"#),               "payload.name"),
        ("first_name false",               payload(r#"{"first_name":false}"#),           "payload.first_name"),
        ("last_name a number",             payload(r#"{"last_name":0}"#),                "payload.last_name"),
        ("phone a number",                 payload(r#"{"phone":420}"#),                  "payload.phone"),
        ("resource_url a number",          payload(r#"{"resource_url":1}"#),             "payload.resource_url"),
        ("a known key deeper is free",     payload(r#"{"x":{"email":1}}"#),              OK),
        ("known keys null",                payload(r#"{"x":1,"email":null,"id":null}"#), OK),
        ("email a number, key by escape",  payload(r#"{"\u0065mail":1}"#),               "payload.email"),
        ("email without @",                payload(r#"{"email":"a.b.cz"}"#),             "payload.email"),
        ("email with two @",               payload(r#"{"email":"a@b@c"}"#),              "payload.email"),
        ("email without a name",           payload(r#"{"email":"@b.cz"}"#),              "payload.email"),
        ("email without a domain",         payload(r#"{"email":"a@"}"#),                 "payload.email"),
        ("email with a space",             payload(r#"{"email":"a@b .cz"}"#),            "payload.email"),
        ("email with a newline",           payload(r#"{"email":"a@b.cz\n"}"#),           "payload.email"),
        ("email empty",                    payload(r#"{"x":1,"email":""}"#),             "payload.email"),
        ("email with an accent and a +",   payload(r#"{"email":"ž+1@b.cz"}"#),           OK),
        ("email of 320 characters",        email(318),                                   OK),
        ("email of 321 characters",        email(319),                                   "payload.email"),
        ("resource a number",              also(r#""resource":1"#),                      "resource"),
        ("resource empty",                 also(r#""resource":"""#),                     "resource"),
        ("resource with a control",        also(r#""resource":"a\tb""#),                 "resource"),
        ("resource of 256 characters",     also(&format!("\"resource\":{}", long(256))), "resource"),
        ("resource_id false",              also(r#""resource_id":false"#),               "resource_id"),
        ("resource_id of 255 characters",  also(&format!("\"resource_id\":{}", long(255))), OK),
        ("resource_id of 256 characters",  also(&format!("\"resource_id\":{}", long(256))), "resource_id"),
        ("type event",                     also(r#""type":"event""#),                    OK),
        ("type rule",                      also(r#""type":"rule""#),                     "type"),
        ("type a number",                  also(r#""type":1"#),                          "type"),
        ("workspace a list",               also(r#""workspace":[]"#),                    "workspace"),
    ];
    for (why, body, param) in cases {
        let result = parse_event(body.as_bytes());
        assert_eq!(result.err().map_or(OK.into(), |err| err.param), param, "{why}");
    }
}

#[test]
fn a_refusal_reads_as_a_sentence() {
    let said = |body: &str| parse_event(body.as_bytes()).unwrap_err().to_string();
    assert_eq!(said(r#"{"event":1,"payload":{"x":1}}"#), "event must be a string");
    assert_eq!(said(r#"{"event":"e","payload":{"email":"x"}}"#), "payload.email must be an e-mail address");
    assert_eq!(said(r#"{"event":"e",}"#), "body is not valid JSON at byte 13: expected a key");
}

#[test]
fn a_bulk_request_is_cut_into_items() {
    let items = |count: usize| format!("[{}{{}}]", "{},".repeat(count - 1));
    let deepest = format!("{}1{}", "[".repeat(NESTING_MAX), "]".repeat(NESTING_MAX));
    #[rustfmt::skip]
    let cases = [
        ("one",                              "[{}]".into(),                    Ok(1)),
        ("a hundred",                        items(BULK_ITEMS_MAX),            Ok(100)),
        ("one too many",                     items(BULK_ITEMS_MAX + 1),        Err("must have at most 100 items")),
        ("none",                             "[ ]".into(),                     Err("must have at least one item")),
        ("a wrapper object",                 r#"{"events":[{}]}"#.into(),      Err("must be a JSON array")),
        ("null",                             "null".into(),                    Err("must be a JSON array")),
        ("items that are no objects",        r#"[[],1,null,"a"]"#.into(),      Ok(4)),
        ("equal keys are the item's affair", r#"[{"a":1,"a":1},{}]"#.into(),   Ok(2)),
        ("an item may nest as if alone",     format!("[{deepest}]"),           Ok(1)),
        ("but no deeper",                    format!("[[{deepest}]]"),         Err("is not valid JSON at byte 65: nested too deeply")),
        ("broken within an item",            r#"[{},{"a":01}]"#.into(),        Err("is not valid JSON at byte 10: a number with a leading zero")),
        ("never closed",                     "[{}".into(),                     Err("is not valid JSON at byte 3: expected ',' or ']'")),
        ("two documents",                    "[{}][{}]".into(),                Err("is not valid JSON at byte 4: something after the document")),
    ];
    for (why, body, expected) in cases {
        let result = parse_bulk(body.as_bytes()).map(|items| items.len());
        assert_eq!(result.map_err(|err| err.msg), expected.map_err(String::from), "{why}");
    }
}

#[test]
fn an_item_of_a_bulk_request_fails_by_itself() {
    let body = br#"[ {"event":"e","payload":{"x":1}} , [], {"event":"e","event":"f","payload":{"x":1}}, {"event":""}]"#;
    let items = parse_bulk(body).unwrap();
    assert_eq!(items[0], br#"{"event":"e","payload":{"x":1}}"#);
    let params: Vec<_> = items
        .iter()
        .map(|item| parse_event(item).map_or_else(|err| err.param, |event| event.event))
        .collect();
    assert_eq!(params, ["e", "body", "body", "event"]);
}

/// What serde_json reads, refusing equal keys as we do.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, _)) = map.next_entry::<String, Self>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(self)
    }
}

/// Ours must say what serde_json says, but for numbers beyond an f64, which we keep as text.
fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (ours, theirs) = (check_document(bytes), serde_json::from_slice::<Strict>(bytes));
    if theirs.as_ref().is_err_and(|err| err.to_string().contains("number out of range")) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(bytes);
    prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {:?}, {:?}", text, ours, theirs.err());
    Ok(())
}

/// A document as text, oddly spelled; equal keys happen.
fn document() -> impl Strategy<Value = String> {
    let string = r#""([a-c]|é|😀|\\["\\/bfnrt]|\\u00[46][1-3]|\\ud83d\\ude0[0-2]|[a-z ]{9}){0,4}""#;
    let number = r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?";
    let scalar = prop_oneof![string, number, "null|true|false"];
    scalar.prop_recursive(5, 60, 24, move |inner| {
        let member =
            (string, "[ \n]?", inner.clone()).prop_map(|(key, space, value)| key + &space + ":" + &value);
        let join = |(members, space): (Vec<String>, String)| members.join(&(space.clone() + "," + &space));
        prop_oneof![
            (prop::collection::vec(inner, 0..6), "[ \t\r\n]{0,2}")
                .prop_map(move |list| format!("[{}]", join(list))),
            (prop::collection::vec(member, 0..24), "[ \t\r\n]{0,2}")
                .prop_map(move |list| format!("{{{}}}", join(list))),
        ]
    })
}

/// The bytes that mean something to a parser, and a few that should not.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        prop::sample::select(b"{}[]\",:\\0123456789eE+-.abdfnrtu/ \n\x00\x1f\x7f\xed\xa0\x80".to_vec()),
        any::<u8>(),
    ]
}

proptest! {
    #[test]
    fn documents_are_read_as_by_serde_json(document in document()) {
        agrees(document.as_bytes())?;
    }

    #[test]
    fn altered_documents_are_read_as_by_serde_json(
        document in document(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), byte(), 0..3), 1..4),
    ) {
        let mut bytes = document.into_bytes();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len() + 1);
            match edit {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.truncate(at / 2),
            }
        }
        agrees(&bytes)?;
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(byte(), 0..200)) {
        agrees(&bytes)?;
        let _ = (parse_event(&bytes), parse_bulk(&bytes));
    }

    #[test]
    fn a_payload_stays_byte_for_byte(value in document(), before in "[ \n]{0,3}", after in "[ \n]{0,3}") {
        let payload = format!("{{{before}\"a\":1,\"b\" :{value}{after}}}");
        prop_assume!(check_document(payload.as_bytes()).is_ok());
        let item = format!("{{\"x\":{payload},\"payload\":{before}{payload}{after},\"event\":\"e\"}}");
        let body = format!("[1,{after}{item}{before},{{}}]");
        let items = parse_bulk(body.as_bytes())?;
        prop_assert_eq!(items[1], item.as_bytes());
        prop_assert_eq!(parse_event(items[1])?.payload, payload.as_bytes());
    }

    #[test]
    fn strings_say_what_they_say_to_serde_json(value in document()) {
        if let Ok(text) = serde_json::from_str::<String>(&value) {
            prop_assert_eq!(Value(value.as_bytes()).text(), Some(Cow::Owned(text)));
        }
    }
}
