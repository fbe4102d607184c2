//! Receivers that mean ill, all of them at once: each attempt ends in time with the right outcome,
//! and the healthy receiver beside them notices nothing.

use crate::support::{Hostile, Play, Receiver, Reply, Weft, text};
use serde_json::{Value, json};

const TIMEOUT_MS: u64 = 1_500;
const NOT_HTTP: &str = "the endpoint's answer is not valid HTTP, or its headers are too large";
const CLOSED: &str = "the endpoint closed the connection before answering";
const LATE: &str = "the endpoint did not answer within 1.5s";

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// A head with these lines.
fn head(lines: &[&str]) -> Vec<u8> {
    bytes(&format!("HTTP/1.1 {}\r\n\r\n", lines.join("\r\n")))
}

/// What is kept of the answer: nothing, or a body of so many bytes and whether there was more.
type Kept = Option<(usize, bool)>;

#[tokio::test]
async fn every_hostile_answer_ends_in_time_with_the_right_outcome_and_others_are_unaffected() {
    use Play::*;
    const DELIVERED: &str = "delivered";
    const NETWORK: &str = "network_error";
    const BROKEN: &str = "rejected_server_error";
    const FULL: Kept = Some((16 * 1_024, true));
    let ten_mb = |line: &str| [head(&[line, "content-length: 10000000"]), vec![b'x'; 10_000_000]].concat();
    let endless = |line: &str| Endless(head(&[line]), vec![b'x'; 65_536]);
    let chunk = [bytes("1000\r\n"), vec![b'x'; 4_096], bytes("\r\n")].concat();
    let chunked = |line: &str| head(&[line, "transfer-encoding: chunked"]);
    // A gzip member begins like this; whoever expands it has already lost.
    let gzip = [
        head(&["500 No", "content-encoding: gzip", "content-length: 300000"]),
        bytes("\x1f"),
        vec![0x8b; 299_999],
    ]
    .concat();
    let early_hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let short = |line: &str| Close([head(&[line, "content-length: 1000"]), bytes("short")].concat());
    let not_text = [head(&["500 No", "content-length: 4"]), vec![0xff, 0xfe, 0x00, 0x80]].concat();
    type Case<'c> = (&'c str, Play, &'c str, Option<u64>, &'c str, Kept);
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        // why                            the receiver                                                   outcome     status      message                                  kept
        ("never answers",                 Hang(Vec::new()),                                              "timeout",  None,       LATE,                                    None),
        ("drips its head",                Drip(bytes("HTTP/1.1 200 OK\r\n"), bytes("a: b\r\n")),         "timeout",  None,       LATE,                                    None),
        ("interim answers without end",   Endless(Vec::new(), bytes(early_hints)),                       "timeout",  None,       LATE,                                    None),
        ("thousands of interim answers",  Answer([bytes(&early_hints.repeat(5_000)), head(&["200 OK", "content-length: 0"])].concat()), DELIVERED, Some(200), "", None),
        ("hangs after a success",         Hang(head(&["200 OK", "content-length: 10"])),                 DELIVERED,  Some(200),  "",                                      None),
        ("hangs after a failure",         Hang(head(&["500 No", "content-length: 10"])),                 BROKEN,     Some(500),  "the endpoint answered 500",             Some((0, true))),
        ("drips its body",                Drip(head(&["500 No", "content-length: 1000000"]), bytes("x")), BROKEN,    Some(500),  "the endpoint answered 500",             Some((1, true))),
        ("10 MB of success",              Answer(ten_mb("200 OK")),                                      DELIVERED,  Some(200),  "",                                      None),
        ("10 MB of failure",              Answer(ten_mb("500 No")),                                      BROKEN,     Some(500),  "the endpoint answered 500",             FULL),
        ("endless success",               endless("200 OK"),                                             DELIVERED,  Some(200),  "",                                      None),
        ("endless failure",               endless("503 No"),                                             BROKEN,     Some(503),  "the endpoint answered 503",             FULL),
        ("endless chunks",                Endless(chunked("500 No"), chunk),                             BROKEN,     Some(500),  "the endpoint answered 500",             FULL),
        ("a chunk that is none",          Close([chunked("500 No"), bytes("zz\r\n")].concat()),          BROKEN,     Some(500),  "the endpoint answered 500",             Some((0, true))),
        ("HTTP/1.0",                      Close(bytes("HTTP/1.0 200 OK\r\n\r\nfine")),                   DELIVERED,  Some(200),  "",                                      None),
        ("line feeds alone",              Close(bytes("HTTP/1.1 200 OK\ncontent-length: 0\n\n")),       DELIVERED,  Some(200),  "",                                      None),
        ("more than was announced",       Close([head(&["200 OK", "content-length: 1"]), bytes("and more")].concat()), DELIVERED, Some(200), "",                         None),
        ("no phrase, no headers",         Close(bytes("HTTP/1.1 200\r\n\r\n")),                          DELIVERED,  Some(200),  "",                                      None),
        ("closes at once",                Close(Vec::new()),                                             NETWORK,    None,       CLOSED,                                  None),
        ("closes in its head",            Close(bytes("HTTP/1.1 200 OK\r\ncontent-le")),                 NETWORK,    None,       CLOSED,                                  None),
        ("a failure cut short",           short("500 No"),                                               BROKEN,     Some(500),  "the endpoint answered 500",             Some((5, true))),
        ("a success cut short",           short("200 OK"),                                               DELIVERED,  Some(200),  "",                                      None),
        ("garbage",                       Close(vec![0x00, 0x01, 0xff, 0x16, 0x03, 0x0a, 0x0d]),         NETWORK,    None,       NOT_HTTP,                                None),
        ("another protocol",              Close(bytes("SSH-2.0-OpenSSH_9.6\r\n")),                       NETWORK,    None,       NOT_HTTP,                                None),
        ("HTTP/0.9",                      Close(bytes("<html>hello</html>\r\n")),                        NETWORK,    None,       NOT_HTTP,                                None),
        ("HTTP/9.9",                      Close(bytes("HTTP/9.9 200 OK\r\n\r\n")),                       NETWORK,    None,       NOT_HTTP,                                None),
        ("status 000",                    Close(head(&["000 Nothing"])),                                 NETWORK,    None,       NOT_HTTP,                                None),
        ("status 99",                     Close(head(&["99 Short"])),                                    NETWORK,    None,       NOT_HTTP,                                None),
        ("status 999",                    Close(head(&["999 Much", "content-length: 0"])),               BROKEN,     Some(999),  "the endpoint answered 999",             Some((0, false))),
        ("two lengths",                   Close(head(&["200 OK", "content-length: 5", "content-length: 6"])), NETWORK, None,     NOT_HTTP,                                None),
        ("a length below nothing",        Close(head(&["200 OK", "content-length: -1"])),                NETWORK,    None,       NOT_HTTP,                                None),
        ("200 headers",                   Close([bytes("HTTP/1.1 200 OK\r\n"), bytes(&"a: b\r\n".repeat(200)), bytes("\r\n")].concat()), NETWORK, None, NOT_HTTP, None),
        ("a header without end",          Endless(bytes("HTTP/1.1 200 OK\r\nx: "), vec![b'x'; 65_536]),  NETWORK,    None,       NOT_HTTP,                                None),
        ("headers without end",           Endless(bytes("HTTP/1.1 200 OK\r\n"), bytes(&"x-more: and more\r\n".repeat(500))), NETWORK, None, NOT_HTTP,               None),
        ("a body that is no text",        Answer(not_text),                                              BROKEN,     Some(500),  "the endpoint answered 500",             Some((10, false))),
        ("a gzip bomb",                   Answer(gzip),                                                  BROKEN,     Some(500),  "the endpoint answered 500",             FULL),
        ("switches protocols",            Close(head(&["101 Switching Protocols", "upgrade: h2c", "connection: upgrade"])), BROKEN, Some(101), "the endpoint answered 101", Some((0, false))),
    ];
    let weft = Weft::start().await;
    let mut hostiles = Vec::new();
    for (why, play, outcome, status, message, kept) in cases {
        let receiver = Hostile::start(vec![play]).await;
        let policy = json!({ "retry": [], "timeout_ms": TIMEOUT_MS });
        let connection = weft.webhook_with(&receiver.url("/"), json!({}), policy).await;
        let rule = weft.rule("an.event", &connection).await;
        hostiles.push((why, receiver, rule, outcome, status, message, kept));
    }
    let healthy = Receiver::start(Reply::ok).await;
    let connection = weft.webhook(&healthy.url("/")).await;
    let rule = weft.rule("an.event", &connection).await;

    let event = weft.send_event("an.event", json!({ "n": 1 })).await;
    let delivered = weft.attempts(&event, &rule, 1).await.remove(0);
    assert_eq!(delivered["outcome_code"], "delivered", "the healthy receiver");
    // While some of them still hang, the healthy one goes on.
    for n in 2..=20 {
        let answer = weft.emit(json!({ "event": "healthy", "payload": { "n": n } })).await;
        answer.answered(201, "accepted beside them");
    }
    weft.rule("healthy.too", &connection).await;
    let beside = weft.send_event("healthy.too", json!({ "n": 1 })).await;
    weft.event_as(&beside, "completed").await;

    let shown = weft.finished_event(&event).await;
    assert_eq!(shown["total_rules"], hostiles.len() + 1);
    for (why, receiver, rule, outcome, status, message, kept) in hostiles {
        assert_eq!(receiver.asked(), 1, "{why}: one attempt");
        let attempt = weft.attempts(&event, &rule, 1).await.remove(0);
        assert_eq!(attempt["outcome_code"], outcome, "{why}: {attempt}");
        assert_eq!(attempt["http_status"].as_u64(), status, "{why}: {attempt}");
        assert!(text(&attempt["message"]).starts_with(message), "{why}: {attempt}");
        let details = weft.response_details(&attempt).await;
        match kept {
            None => details.refused(404, "response of this attempt not found", why),
            Some((at_least, truncated)) => {
                let details = details.answered(200, why);
                let body = details["body"].as_str().expect("text");
                assert_eq!(
                    (&details["status"], &details["truncated"]),
                    (&json!(status), &json!(truncated)),
                    "{why}"
                );
                assert!(body.len() >= at_least && body.len() <= 16 * 1_024, "{why}: {} bytes", body.len());
                let headers = details["headers"].as_object().expect("an object");
                assert!(headers.values().all(Value::is_string), "{why}");
            }
        }
    }
    weft.stop().await;
}

/// What an endpoint answers to a failed attempt can be read, up to 16 KiB of headers and of body.
#[tokio::test]
async fn an_answer_is_kept_as_text_cut_to_size() {
    let weft = Weft::start().await;
    let receiver = Receiver::start(|_, _| {
        let long = "h".repeat(9_000);
        let reply =
            Reply::status(400).header("x-plain", "as it is").header("via", "one").header("via", "two");
        let reply =
            reply.header("set-cookie", "sid=1").header("x-long-1", long.clone()).header("x-long-2", long);
        reply.body(format!("<script>alert(1)</script>{}", "é".repeat(20_000)))
    });
    let receiver = receiver.await;
    let rule = weft.rule("a.b", &weft.webhook(&receiver.url("/")).await).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let attempt = weft.attempts(&event, &rule, 1).await.remove(0);
    let details = weft.response_details(&attempt).await.answered(200, "kept");
    assert_eq!((&details["status"], &details["truncated"]), (&json!(400), &json!(true)));
    let headers = &details["headers"];
    assert_eq!((&headers["x-plain"], &headers["via"]), (&json!("as it is"), &json!("one, two")));
    assert_eq!(headers["set-cookie"], "[redacted]", "a credential, though not one of ours");
    let header_bytes: usize = headers
        .as_object()
        .expect("an object")
        .iter()
        .map(|(name, value)| name.len() + text(value).len())
        .sum();
    assert!(header_bytes <= 16 * 1_024, "{header_bytes}");
    let body = text(&details["body"]);
    assert!(
        body.starts_with("<script>alert(1)</script>é") && body.len() <= 16 * 1_024,
        "{} bytes",
        body.len()
    );
    weft.stop().await;
}
