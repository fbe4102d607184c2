//! What no event may look like: refused with the field named, and never delivered.

use crate::support::{Answer, Peer, Weft, Witness, send};
use reqwest::Method;
use serde_json::{Value, json};

/// An event whose payload has this as the value of one member.
fn around(value: impl AsRef<[u8]>) -> Vec<u8> {
    [br#"{"event":"bad","payload":{"a":"#, value.as_ref(), b"}}"].concat()
}

/// An event with this name and a payload that is fine.
fn named(name: &str) -> Value {
    json!({ "event": name, "payload": { "a": 1 } })
}

/// `levels` containers in all, those of the event and its payload included.
fn nested(levels: usize, closed: bool) -> Vec<u8> {
    let inner = levels - 2;
    let mut body = format!(r#"{{"event":"deep","payload":{{"a":{}1"#, "[".repeat(inner));
    if closed {
        body += &"]".repeat(inner);
        body += "}}";
    }
    body.into_bytes()
}

/// I3, I8: what parsers read differently, or cannot keep, is refused whole.
#[tokio::test]
async fn a_body_that_is_not_plain_json_is_refused() {
    let good = named("bad").to_string();
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf32: Vec<u8> = good.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
    let many_keys: String = (0..40).map(|n| format!("\"k{n}\":{n},")).collect();
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<u8>)> = vec![
        // why                                body
        ("nothing",                           b"".to_vec()),
        ("white space",                       b" \r\n\t ".to_vec()),
        ("null",                              b"null".to_vec()),
        ("a number",                          b"17".to_vec()),
        ("a string",                          b"\"event\"".to_vec()),
        ("true",                              b"true".to_vec()),
        ("a list on the route for one",       format!("[{good}]").into_bytes()),
        ("cut short",                         good.as_bytes()[..good.len() - 1].to_vec()),
        ("two documents",                     format!("{good}{good}").into_bytes()),
        ("two lines of documents",            format!("{good}\n{good}").into_bytes()),
        ("trailing bytes",                    format!("{good}x").into_bytes()),
        ("a trailing NUL",                    format!("{good}\0").into_bytes()),
        ("a byte order mark",                 format!("\u{feff}{good}").into_bytes()),
        ("a line comment",                    format!("{good} // a").into_bytes()),
        ("a block comment",                   around("/* a */ 1")),
        ("a form",                            b"event=bad&payload[a]=1".to_vec()),
        ("a comma too many",                  around("1,")),
        ("single quotes",                     b"{'event':'bad','payload':{'a':1}}".to_vec()),
        ("keys without quotes",               b"{event:\"bad\",payload:{a:1}}".to_vec()),
        ("NaN",                               around("NaN")),
        ("Infinity",                          around("Infinity")),
        ("-Infinity",                         around("-Infinity")),
        ("undefined",                         around("undefined")),
        ("a leading zero",                    around("01")),
        ("a negative leading zero",           around("-007")),
        ("hexadecimal",                       around("0x1F")),
        ("octal",                             around("0o17")),
        ("a plus sign",                       around("+1")),
        ("a dot first",                       around(".5")),
        ("a dot last",                        around("5.")),
        ("an exponent of nothing",            around("1e")),
        ("digits with separators",            around("1_000")),
        ("a raw line break in a string",      around("\"a\nb\"")),
        ("a raw NUL in a string",             around("\"a\0b\"")),
        ("a raw escape character",            around("\"\u{1b}[31m\"")),
        ("a raw control character in a key",  b"{\"event\":\"bad\",\"payload\":{\"a\x01\":1}}".to_vec()),
        ("an escape JSON does not have",      around(r#""\x41""#)),
        ("an escaped single quote",           around(r#""\'""#)),
        ("three digits of four",              around(r#""\u12""#)),
        ("a sign among the digits",           around(r#""\u+123""#)),
        ("a lone high surrogate",             around(r#""\ud800""#)),
        ("a lone low surrogate",              around(r#""\udc00""#)),
        ("surrogates the wrong way round",    around(r#""\udc00\ud800""#)),
        ("a surrogate before a letter",       around(r#""\ud83dx""#)),
        ("a lone surrogate in a key",         br#"{"event":"bad","payload":{"\udfff":1}}"#.to_vec()),
        ("a lone surrogate in the name",      br#"{"event":"bad\ud800","payload":{"a":1}}"#.to_vec()),
        ("bytes that are no UTF-8",           around(b"\"\xff\xfe\"")),
        ("an overlong slash",                 around(b"\"\xc0\xaf\"")),
        ("an overlong NUL",                   around(b"\"\xe0\x80\x80\"")),
        ("a surrogate as CESU-8",             around(b"\"\xed\xa0\xbd\xed\xb8\x80\"")),
        ("beyond Unicode",                    around(b"\"\xf4\x90\x80\x80\"")),
        ("a character cut short",             around(b"\"\xe2\x82\"")),
        ("Latin-1",                           around(b"\"caf\xe9\"")),
        ("Latin-1 in the name",               b"{\"event\":\"caf\xe9\",\"payload\":{\"a\":1}}".to_vec()),
        ("UTF-16",                            utf16.clone()),
        ("UTF-16 with its mark",              [&b"\xff\xfe"[..], &utf16].concat()),
        ("UTF-32",                            utf32),
        ("the event twice",                   br#"{"event":"bad","event":"worse","payload":{"a":1}}"#.to_vec()),
        ("the payload twice",                 br#"{"event":"bad","payload":{"a":1},"payload":{"a":2}}"#.to_vec()),
        ("twice, once by escapes",            br#"{"event":"bad","\u0065vent":"worse","payload":{"a":1}}"#.to_vec()),
        ("an unknown member twice",           br#"{"event":"bad","payload":{"a":1},"x":1,"x":1}"#.to_vec()),
        ("a key twice in the payload",        br#"{"event":"bad","payload":{"a":1,"a":1}}"#.to_vec()),
        ("by escapes in the payload",         br#"{"event":"bad","payload":{"a/b":1,"a\/b":1}}"#.to_vec()),
        ("by a pair of escapes",              "{\"event\":\"bad\",\"payload\":{\"😀\":1,\"\\ud83d\\ude00\":1}}".into()),
        ("a key twice, deep down",            around(r#"[{"b":{"c":1,"d":[],"c":2}}]"#)),
        ("a key twice among many",            around(format!("{{{many_keys}\"k7\":0}}"))),
        ("65 levels",                         nested(65, true)),
        ("65 levels, never closed",           nested(65, false)),
        ("1,000 levels",                      nested(1_000, true)),
        ("20,000 levels",                     nested(20_000, true)),
        ("20,000 levels, never closed",       nested(20_000, false)),
        ("20,000 objects",                    around(r#"{"a":"#.repeat(20_000))),
        ("65 levels where nobody looks",      format!(r#"{{"event":"bad","payload":{{"a":1}},"x":{}}}"#,
                                                      "[".repeat(64) + &"]".repeat(64)).into_bytes()),
    ];
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    for (why, body) in cases {
        weft.emit_bytes("/events", body).await.assert_error(400, "body", why);
    }
    // Far beyond what one event may have in bytes, so asked where more is taken.
    for closed in [true, false] {
        let body = [&b"["[..], &nested(400_000, closed), b"]"].concat();
        weft.emit_bytes("/events/bulk", body).await.assert_error(400, "body", "400,000 levels");
    }
    // The last that are allowed, so that the tables above fail for their reason.
    assert_eq!(weft.emit_bytes("/events", nested(64, true)).await.status, 201);
    assert_eq!(weft.emit_bytes("/events", good.replace("bad", "good")).await.status, 201);
    witness.assert_saw(&weft, &["deep", "good"]).await;
    weft.stop().await;
}

/// I3: an event that does not say what happened is refused, and the field named.
#[tokio::test]
async fn an_event_that_breaks_a_rule_is_refused_by_its_field() {
    let with = |field: &str, value: Value| {
        let mut event = named("bad");
        event[field] = value;
        event
    };
    let payload = |payload: Value| with("payload", payload);
    let (long, very_long) = ("é".repeat(256), "x".repeat(10_000));
    #[rustfmt::skip]
    let cases = [
        // why                                 event                                              names
        ("no name",                            json!({ "payload": { "a": 1 } }),                  "event"),
        ("null for a name",                    with("event", Value::Null),                        "event"),
        ("an empty name",                      named(""),                                         "event"),
        ("a blank name",                       named(" \u{a0}\u{2003} "),                         "event"),
        ("a name that is a number",            with("event", json!(5)),                           "event"),
        ("a name that is a list",              with("event", json!(["bad"])),                     "event"),
        ("256 characters",                     named(&long),                                      "event"),
        ("10 KB of name",                      named(&very_long),                                 "event"),
        ("a line break in the name",           named("bad\r\nx-injected: 1"),                     "event"),
        ("NUL in the name",                    named("bad\0"),                                    "event"),
        ("DEL in the name",                    named("bad\u{7f}"),                                "event"),
        ("a C1 control in the name",           named("bad\u{9b}"),                                "event"),
        ("no payload",                         json!({ "event": "bad" }),                         "payload"),
        ("null for a payload",                 payload(Value::Null),                              "payload"),
        ("a list for a payload",               payload(json!([{ "a": 1 }])),                      "payload"),
        ("a string for a payload",             payload(json!("{\"a\":1}")),                       "payload"),
        ("a number for a payload",             payload(json!(1)),                                 "payload"),
        ("an empty payload",                   payload(json!({})),                                "payload"),
        ("a payload of empty values",          payload(json!({ "a": null, "b": " ", "c": [], "d": {} })), "payload"),
        ("an e-mail that is a number",         payload(json!({ "email": 1 })),                    "payload.email"),
        ("an e-mail that is none",             payload(json!({ "email": "ada" })),                "payload.email"),
        ("an e-mail with a line break",        payload(json!({ "email": "a@b.example\nc" })),     "payload.email"),
        ("a first name that is a list",        payload(json!({ "first_name": ["Ada"] })),         "payload.first_name"),
        ("an id that is a number",             payload(json!({ "id": 7 })),                       "payload.id"),
        ("a resource that is a number",        with("resource", json!(7)),                        "resource"),
        ("an empty resource",                  with("resource", json!("")),                       "resource"),
        ("256 characters of resource",         with("resource", json!(long)),                     "resource"),
        ("a control character in it",          with("resource", json!("a\tb")),                   "resource"),
        ("a resource id that is an object",    with("resource_id", json!({})),                    "resource_id"),
        ("256 characters of resource id",      with("resource_id", json!(long)),                  "resource_id"),
        ("a line break in it",                 with("resource_id", json!("a\nb")),                "resource_id"),
        ("another type",                       with("type", json!("rule")),                       "type"),
        ("a type that is a number",            with("type", json!(1)),                            "type"),
        ("a workspace that is no id",          with("workspace", json!("mine")),                  "workspace"),
        ("a workspace in braces",              with("workspace", json!(format!("{{{}}}", uuid::Uuid::nil()))), "workspace"),
        ("a workspace that is a number",       with("workspace", json!(1)),                       "workspace"),
    ];
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    for (why, event, param) in cases {
        weft.emit(event).await.assert_error(400, param, why);
    }
    // What is just allowed is taken as it is: nothing is trimmed, folded or normalised.
    let (longest, spaced) = ("é".repeat(255), " Two  words ");
    let kept = [&longest, spaced, "e\u{301}", "\u{e9}", "ﬁ", "*", "a.*", "😀"];
    for name in kept {
        let answer = weft.emit(named(name)).await;
        assert_eq!((answer.status, &answer.body["event"]["event"]), (201, &json!(name)), "{answer:?}");
    }
    witness.assert_saw(&weft, &kept).await;
    weft.stop().await;
}

/// I20: too much is 413, told before it is read, and the connection ends with it.
#[tokio::test]
async fn too_much_is_refused_without_reading_it() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let (single, bulk) = (262_144 + 12_288 + 1, 4_194_304 + 1);
    #[rustfmt::skip]
    let cases = [
        // why                                path                    framing                                                   sent
        ("announced",                         "/api/v1/events",       format!("content-length: {single}"),                      Vec::new()),
        ("an absurd length",                  "/api/v1/events",       "content-length: 9223372036854775807".to_owned(),         Vec::new()),
        ("announced, and asked beforehand",   "/api/v1/events",       format!("content-length: {single}\r\nexpect: 100-continue"), Vec::new()),
        ("a bulk, announced",                 "/api/v1/events/bulk",  format!("content-length: {bulk}"),                        Vec::new()),
        ("one chunk after the other",         "/api/v1/events",       "transfer-encoding: chunked".to_owned(),                  chunks(5)),
        ("a bulk in chunks",                  "/api/v1/events/bulk",  "transfer-encoding: chunked".to_owned(),                  chunks(65)),
    ];
    for (why, path, framing, sent) in cases {
        let mut peer = Peer::connect(&weft).await;
        let key = &weft.publishable_key;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nx-meshes-publishable-key: {key}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"
        );
        peer.send(head).await;
        peer.send(sent).await;
        let answer = peer.answer().await.unwrap_or_else(|| panic!("{why}: closed without a word"));
        answer.assert_error(413, "", why);
        assert_eq!(answer.header("connection"), Some("close"), "{why}");
        assert_eq!(peer.rest().await, b"", "{why}: nothing more is said");
    }

    // By the payload alone, to the byte.
    let event = |name: &str, bytes: usize| {
        let payload = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        assert_eq!(payload.len(), bytes);
        format!(r#"{{"event":"{name}","payload":{payload}}}"#)
    };
    weft.emit_bytes("/events", event("bad", 262_145)).await.assert_error(413, "", "a byte too many");
    assert_eq!(weft.emit_bytes("/events", event("just.fits", 262_144)).await.status, 201);
    witness.assert_saw(&weft, &["just.fits"]).await;
    weft.stop().await;
}

/// So many chunks of 64 KiB, with no end.
fn chunks(count: usize) -> Vec<u8> {
    [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat().repeat(count)
}

/// I3: the content type says JSON in UTF-8 as it is, or nothing is looked at.
#[tokio::test]
async fn other_content_is_refused_by_its_name() {
    const TYPE: &str = "content-type";
    const CODING: &str = "content-encoding";
    type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], u16);
    let json = (TYPE, "application/json");
    #[rustfmt::skip]
    let cases: [Case<'_>; 23] = [
        // why                              headers                                               status
        ("no content type",                 &[],                                                  415),
        ("text",                            &[(TYPE, "text/plain")],                              415),
        ("a form",                          &[(TYPE, "application/x-www-form-urlencoded")],       415),
        ("a form with files",               &[(TYPE, "multipart/form-data; boundary=x")],         415),
        ("almost",                          &[(TYPE, "application/jsonp")],                       415),
        ("JSON by another name",            &[(TYPE, "text/json")],                               415),
        ("several documents",               &[(TYPE, "application/x-ndjson")],                    415),
        ("a list of types",                 &[(TYPE, "application/json, text/plain")],            415),
        ("two types",                       &[json, (TYPE, "text/plain")],                        415),
        ("the same twice",                  &[json, json],                                        415),
        ("Latin-1",                         &[(TYPE, "application/json; charset=iso-8859-1")],    415),
        ("UTF-16",                          &[(TYPE, "application/json; charset=utf-16")],        415),
        ("two charsets",                    &[(TYPE, "application/json; charset=utf-8; charset=utf-7")], 415),
        ("gzip",                            &[json, (CODING, "gzip")],                            415),
        ("deflate",                         &[json, (CODING, "deflate")],                         415),
        ("br",                              &[json, (CODING, "br")],                              415),
        ("a coding nobody knows",           &[json, (CODING, "rot13")],                           415),
        ("chained codings",                 &[json, (CODING, "gzip, gzip")],                      415),
        ("chained by two headers",          &[json, (CODING, "identity"), (CODING, "gzip")],      415),
        ("JSON",                            &[json],                                              201),
        ("in capitals, with its charset",   &[(TYPE, "Application/JSON; Charset=UTF-8")],         201),
        ("its charset in quotes",           &[(TYPE, "application/json;charset=\"utf-8\"")],      201),
        ("no coding, said aloud",           &[json, (CODING, "identity")],                        201),
    ];
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let mut accepted = Vec::new();
    for (why, headers, status) in cases {
        let mut request = weft.request(Method::POST, "/api/v1/events");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("x-meshes-publishable-key", &weft.publishable_key);
        let answer = send(request.body(named(why).to_string())).await;
        if status == 201 {
            assert_eq!(answer.status, 201, "{why}: {answer:?}");
            accepted.push(why);
        } else {
            answer.assert_error(status, "", why);
        }
    }
    witness.assert_saw(&weft, &accepted).await;
    weft.stop().await;
}

/// I9, I3: a key speaks for its workspace and no other, and only from its header.
#[tokio::test]
async fn an_event_goes_to_the_workspace_of_who_sends_it() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let (other, _) = weft.another_workspace("other").await;
    let (_, foreign, _) = weft.stranger().await;
    let unknown = uuid::Uuid::now_v7().to_string();
    let own = weft.workspace.as_str();
    let sent_by = async |machine: bool, name: &str, workspace: Option<&str>| -> Answer {
        let mut event = named(name);
        if let Some(workspace) = workspace {
            event["workspace"] = workspace.into();
        }
        if machine { weft.post("/events", event).await } else { weft.emit(event).await }
    };
    #[rustfmt::skip]
    let cases = [
        // why                                            by machine  workspace            status  names
        ("another of the same organization",              false,      Some(other.as_str()),   400, "workspace"),
        ("one of another organization",                   false,      Some(&foreign),         400, "workspace"),
        ("one that is not there",                         false,      Some(&unknown),         400, "workspace"),
        ("a machine says none",                           true,       None,                   400, "workspace"),
        ("a machine says no id",                          true,       Some("default"),        400, "workspace"),
        ("a machine says a foreign one",                  true,       Some(&foreign),         404, ""),
        ("a machine says one that is not there",          true,       Some(&unknown),         404, ""),
        ("the key's own",                                 false,      Some(own),              201, ""),
        ("the key's own, unsaid",                         false,      None,                   201, ""),
        ("a machine says one of its organization",        true,       Some(own),              201, ""),
    ];
    let mut accepted = Vec::new();
    for (why, machine, workspace, status, param) in cases {
        let answer = sent_by(machine, why, workspace).await;
        if status == 201 {
            assert_eq!(
                (answer.status, &answer.body["event"]["workspace"]),
                (201, &json!(own)),
                "{why}: {answer:?}"
            );
            accepted.push(why);
        } else {
            answer.assert_error(status, param, why);
        }
    }
    let (foreign, unknown) =
        (sent_by(true, "x", Some(&foreign)).await, sent_by(true, "x", Some(&unknown)).await);
    assert_eq!(foreign.body["message"], unknown.body["message"], "what is foreign is not there");
    witness.assert_saw(&weft, &accepted).await;
    let there = weft.get(&format!("/workspaces/{other}/events")).await;
    assert_eq!(there.body["count"], 0, "{there:?}");
    weft.stop().await;
}
