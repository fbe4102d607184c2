//! Requests no client would send: one request is never taken for two, nor two for one.

use crate::support::{Answer, Peer, Weft, Witness};
use serde_json::json;

/// A request that sends an event, with these headers beside the usual ones, and this behind its head.
fn post(weft: &Weft, headers: &str, behind: &str) -> String {
    let key = &weft.publishable_key;
    format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: a\r\nx-meshes-publishable-key: {key}\r\ncontent-type: application/json\r\n{headers}\r\n{behind}"
    )
}

/// A whole request that sends an event of this name.
fn whole(weft: &Weft, name: &str) -> String {
    let body = event(name);
    post(weft, &format!("content-length: {}\r\n", body.len()), &body)
}

fn event(name: &str) -> String {
    json!({ "event": name, "payload": { "a": 1 } }).to_string()
}

/// As one chunk, with the end behind it.
fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// All answers until the server closes the connection. Nothing more is sent meanwhile.
async fn answers(weft: &Weft, request: impl AsRef<[u8]>) -> Vec<Answer> {
    let mut peer = Peer::connect(weft).await;
    peer.send(request).await;
    peer.finish().await;
    let mut answers = Vec::new();
    while let Some(answer) = peer.answer().await {
        answers.push(answer);
    }
    answers
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// I3: each of these carries an event that would be accepted were the framing plain, and behind it
/// a whole request that a lenient reader could come to see. Neither is.
#[tokio::test]
async fn a_body_of_doubtful_length_is_refused() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let body = event("bad");
    let (n, chunks) = (body.len(), chunked(&body));
    let whole_chunks = |size: &str| format!("{size}\r\n{body}\r\n0\r\n\r\n");
    let hex = format!("{n:x}");
    #[rustfmt::skip]
    let cases: Vec<(&str, String, String)> = vec![
        // why                                  headers                                                           body
        ("a negative length",                   "content-length: -1\r\n".to_owned(),                              body.clone()),
        ("a signed length",                     format!("content-length: +{n}\r\n"),                              body.clone()),
        ("a hexadecimal length",                format!("content-length: 0x{hex}\r\n"),                           body.clone()),
        ("a length with a fraction",            format!("content-length: {n}.0\r\n"),                             body.clone()),
        ("a length of two words",               format!("content-length: {n} {n}\r\n"),                           body.clone()),
        ("a list of lengths",                   format!("content-length: {n}, {n}\r\n"),                          body.clone()),
        ("a list of different lengths",         format!("content-length: 1, {n}\r\n"),                            body.clone()),
        ("different lengths",                   format!("content-length: {n}\r\ncontent-length: 1\r\n"),          body.clone()),
        ("different lengths, the other way",    format!("content-length: 1\r\ncontent-length: {n}\r\n"),          body.clone()),
        ("an empty length",                     "content-length: \r\n".to_owned(),                                body.clone()),
        ("a length beyond 64 bits",             "content-length: 18446744073709551616\r\n".to_owned(),            body.clone()),
        ("a length that wraps around",          format!("content-length: 1844674407370955{}\r\n", 161_600 + n),   body.clone()),
        ("the largest length",                  "content-length: 18446744073709551615\r\n".to_owned(),            body.clone()),
        ("another coding",                      "transfer-encoding: gzip\r\n".to_owned(),                         chunks.clone()),
        ("chunks, then another coding",         "transfer-encoding: chunked, gzip\r\n".to_owned(),                chunks.clone()),
        ("another coding under the chunks",     "transfer-encoding: gzip, chunked\r\n".to_owned(),                chunks.clone()),
        ("chunks in chunks",                    "transfer-encoding: chunked, chunked\r\n".to_owned(),             chunks.clone()),
        ("two headers of codings",              "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n".to_owned(), chunks.clone()),
        ("the other way round",                 "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(), chunks.clone()),
        ("identity",                            "transfer-encoding: identity\r\n".to_owned(),                     body.clone()),
        ("almost chunked",                      "transfer-encoding: xchunked\r\n".to_owned(),                     chunks.clone()),
        ("chunked in quotes",                   "transfer-encoding: \"chunked\"\r\n".to_owned(),                  chunks.clone()),
        ("chunked behind a vertical tab",       "transfer-encoding: \x0bchunked\r\n".to_owned(),                  chunks.clone()),
        ("chunked on a folded line",            "transfer-encoding:\r\n chunked\r\n".to_owned(),                  chunks.clone()),
        ("chunked with a parameter",            "transfer-encoding: chunked;q=1\r\n".to_owned(),                  chunks.clone()),
        ("no coding at all",                    "transfer-encoding: \r\n".to_owned(),                             chunks.clone()),
        ("a space before the colon",            "transfer-encoding : chunked\r\n".to_owned(),                     chunks.clone()),
        ("a space before the length's colon",   format!("content-length : {n}\r\n"),                              body.clone()),
        ("a space before the name",             format!(" content-length: {n}\r\n"),                              body.clone()),
        ("NUL in a header",                     format!("content-length: {n}\r\nx-a: b\0c\r\n"),                  body.clone()),
        ("NUL in a header's name",              format!("content-length: {n}\r\nx-\0a: b\r\n"),                   body.clone()),
        ("a bare carriage return",              format!("content-length: {n}\r\nx-a: b\rx-c: d\r\n"),             body.clone()),
        ("a header without a colon",            format!("content-length: {n}\r\nx-a\r\n"),                        body.clone()),
        ("a folded header",                     format!("content-length: {n}\r\nx-a: b\r\n c\r\n"),               body.clone()),
        ("a chunk size that is none",           "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks("zz")),
        ("a negative chunk size",               "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks(&format!("-{hex}"))),
        ("a signed chunk size",                 "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks(&format!("+{hex}"))),
        ("a chunk size with a prefix",          "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks(&format!("0x{hex}"))),
        ("a chunk size beyond 64 bits",         "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks("10000000000000000")),
        ("a chunk size that wraps around",      "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks(&format!("100000000000000{hex}"))),
        ("an empty chunk size",                 "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks("")),
        ("a chunk shorter than it says",        "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks(&format!("{:x}", n + 1))),
        ("a chunk longer than it says",         "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks(&format!("{:x}", n - 1))),
        ("a chunk with a NUL in its extension", "transfer-encoding: chunked\r\n".to_owned(),                      whole_chunks(&format!("{hex};a=\nb"))),
    ];
    for (why, headers, body) in cases {
        let request = post(&weft, &headers, &body) + &whole(&weft, "smuggled");
        let answers = answers(&weft, request).await;
        assert!(answers.len() <= 1, "{why}: one request, one answer: {answers:?}");
        for answer in &answers {
            assert!([400, 413, 431].contains(&answer.status), "{why}: {answer:?}");
            if !answer.text.is_empty() {
                answer.assert_error(answer.status, "", why);
            }
        }
    }
    witness.assert_saw(&weft, &[]).await;
    weft.stop().await;
}

/// I3: length and chunks at once. One reader could go by the one, and the next by the other; so
/// the connection ends with the answer, and what is behind it is nobody's request.
#[tokio::test]
async fn nothing_is_smuggled_behind_a_chunked_body() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let smuggled = whole(&weft, "smuggled");
    let (by_chunks, ended) = (chunked(&event("by.chunks")), format!("0\r\n\r\n{smuggled}"));
    let both = |length: usize| format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n");
    let reversed = |length: usize| format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n");
    let chunks = "transfer-encoding: chunked\r\n".to_owned();
    #[rustfmt::skip]
    let cases = [
        // why                                      headers                    behind                                 answered
        ("the length covers the hidden request",    both(ended.len()),         ended.clone(),                         400),
        ("also said in the other order",            reversed(ended.len()),     ended.clone(),                         400),
        ("the length ends before the chunks do",    both(4),                   format!("{by_chunks}{smuggled}"),      201),
        ("no length",                               chunks.clone(),            format!("{by_chunks}{smuggled}"),      201),
        ("a request in the trailers",               chunks.clone(),            format!("{}{smuggled}", by_chunks.replace("0\r\n\r\n", "0\r\nx-a: b\r\n\r\n")), 201),
        ("no chunks, and a request behind",         chunks,                    ended,                                 400),
    ];
    let mut accepted = Vec::new();
    for (why, headers, behind, status) in cases {
        let answers = answers(&weft, post(&weft, &headers, &behind)).await;
        assert_eq!(statuses(&answers), [status], "{why}: {answers:?}");
        assert_eq!(answers[0].header("connection"), Some("close"), "{why}");
        accepted.extend((status == 201).then_some("by.chunks"));
    }
    // HTTP/1.0 has no chunks.
    let old = post(&weft, "transfer-encoding: chunked\r\n", &by_chunks).replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(statuses(&answers(&weft, old + &smuggled).await), [400]);
    witness.assert_saw(&weft, &accepted).await;
    weft.stop().await;
}

/// I3: what a peer did not finish saying is not an event.
#[tokio::test]
async fn a_request_cut_short_is_none() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let (plain, body) = (whole(&weft, "bad"), event("bad"));
    let longer = post(&weft, &format!("content-length: {}\r\n", body.len() + 1), &body);
    let open = post(&weft, "transfer-encoding: chunked\r\n", &format!("{:x}\r\n{body}\r\n", body.len()));
    #[rustfmt::skip]
    let cases = [
        ("in the request line",          &plain[..10]),
        ("in the head",                  &plain[..80]),
        ("before the body",              &plain[..plain.len() - body.len()]),
        ("a byte before the end",        &plain[..plain.len() - 1]),
        ("a body that is all there, but was said to be longer", &longer),
        ("chunks without their last",    &open),
        ("chunks but for the last line", &format!("{open}0\r\n")),
    ];
    for (why, request) in cases {
        for answer in answers(&weft, request).await {
            assert_eq!(answer.status, 400, "{why}: {answer:?}");
        }
    }
    witness.assert_saw(&weft, &[]).await;
    weft.stop().await;
}

/// I20: heads are bounded, and of one form.
#[tokio::test]
async fn an_odd_head_is_refused() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let plain = whole(&weft, "bad");
    let line = |line: &str| plain.replacen("POST /api/v1/events HTTP/1.1", line, 1);
    let headers = |headers: String| plain.replacen("host: a\r\n", &format!("host: a\r\n{headers}"), 1);
    let many: String = (0..100).map(|n| format!("x-{n}: v\r\n")).collect();
    let query = |bytes: usize| line(&format!("POST /api/v1/events?{} HTTP/1.1", "q".repeat(bytes)));
    #[rustfmt::skip]
    let cases: Vec<(&str, String, &[u16])> = vec![
        // why                              request                                                         answered
        ("more than 100 headers",           headers(many.clone()),                                          &[431]),
        ("more than 16 KiB of headers",     headers(format!("x-a: {}\r\n", "v".repeat(17_000))),            &[431]),
        ("a megabyte of header",            headers(format!("x-a: {}\r\n", "v".repeat(1 << 20))),           &[431]),
        ("a head of names alone",           headers("x:\r\n".repeat(10_000)),                               &[431]),
        ("a target of more than 8 KiB",     query(9_000),                                                   &[414]),
        ("a target of more than 16 KiB",    query(20_000),                                                  &[414, 431]),
        ("a target of a megabyte",          query(1 << 20),                                                 &[414, 431]),
        ("a method nobody knows",           line("BREW /api/v1/events HTTP/1.1"),                           &[405]),
        ("a method in lower case",          line("post /api/v1/events HTTP/1.1"),                           &[405]),
        ("a method of a kilobyte",          line(&format!("{} /api/v1/events HTTP/1.1", "P".repeat(1_000))), &[405, 400]),
        ("TRACE",                           line("TRACE /api/v1/events HTTP/1.1"),                          &[405]),
        ("CONNECT",                         line("CONNECT example.com:443 HTTP/1.1"),                       &[405]),
        ("CONNECT to a path",               line("CONNECT /api/v1/events HTTP/1.1"),                        &[400, 405]),
        ("no method",                       line("/api/v1/events HTTP/1.1"),                                &[400, 405]),
        ("HTTP/0.9",                        "GET /api/v1/events\r\n".to_owned(),                            &[400, 505]),
        ("HTTP/1.2",                        line("POST /api/v1/events HTTP/1.2"),                           &[400, 505]),
        ("HTTP/9.9",                        line("POST /api/v1/events HTTP/9.9"),                           &[400, 505]),
        ("http/1.1",                        line("POST /api/v1/events http/1.1"),                           &[400, 505]),
        ("another protocol",                line("POST /api/v1/events ICY/1.1"),                            &[400, 505]),
        ("a word too many",                 line("POST /api/v1/events x HTTP/1.1"),                         &[400]),
        ("no target",                       line("POST HTTP/1.1"),                                          &[400]),
        ("for another host",                line("POST http://example.com/api/v1/events HTTP/1.1"),         &[400]),
        ("for another host, by https",      line("POST https://example.com/api/v1/events HTTP/1.1"),        &[400]),
        ("for this host, in full",          line("POST http://a/api/v1/events HTTP/1.1"),                   &[400]),
        ("a target of no form",             line("POST api/v1/events HTTP/1.1"),                            &[400]),
        ("a raw space in the target",       line("POST /api/v1/events /x HTTP/1.1"),                        &[400]),
        ("NUL in the target",               line("POST /api/v1/events\0 HTTP/1.1"),                         &[400]),
        ("TLS",                             "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned(),        &[400]),
        ("another protocol's greeting",     "EHLO a.example\r\nMAIL FROM:<a@a.example>\r\n".to_owned(),     &[400]),
    ];
    for (why, request, expected) in cases {
        let answers = answers(&weft, request).await;
        let [answer] = &answers[..] else { panic!("{why}: one answer, not {answers:?}") };
        assert!(expected.contains(&answer.status), "{why}: {answer:?}");
        if !answer.text.is_empty() {
            answer.assert_error(answer.status, "", why);
        }
    }
    // HTTP/2 without asking: hyper knows it, and closes without a word.
    assert_eq!(statuses(&answers(&weft, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await), [0_u16; 0]);
    // The last that is allowed, so that the table fails for its reason.
    let just_fits = query(8_000).replace("bad", "fit");
    assert_eq!(statuses(&answers(&weft, just_fits).await), [201]);
    witness.assert_saw(&weft, &["fit"]).await;
    weft.stop().await;
}

/// Requests sent without waiting for their answers are all answered, in order, also after a bad one.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let bad = post(&weft, "content-length: 2\r\n", "{}");
    let names: Vec<_> = (0..30).map(|n| format!("n{n}")).collect();
    let requests: String = names.iter().map(|name| whole(&weft, name) + &bad).collect();
    let answers = answers(&weft, requests).await;
    assert_eq!(answers.len(), 60);
    for (pair, name) in answers.chunks(2).zip(&names) {
        assert_eq!((pair[0].status, &pair[0].body["event"]["event"]), (201, &json!(name)));
        pair[1].assert_error(400, "event", name);
    }
    witness.assert_saw(&weft, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;

    // The same length said twice is one length (RFC 9110, 8.6), and the next request starts behind it.
    let body = event("twice");
    let length = format!("content-length: {}\r\n", body.len());
    let request = post(&weft, &length.repeat(2), &body) + &whole(&weft, "next");
    assert_eq!(statuses(&self::answers(&weft, request).await), [201, 201]);
    assert_eq!(weft.events().await.split_off(31), ["twice", "next"]);
    weft.stop().await;
}

/// A peer may say that it has said all, and still be told the answer.
#[tokio::test]
async fn a_peer_that_has_said_all_is_answered() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let names: Vec<_> = (0..20).map(|n| format!("n{n}")).collect();
    for name in &names {
        assert_eq!(statuses(&answers(&weft, whole(&weft, name)).await), [201], "{name}");
    }
    witness.assert_saw(&weft, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    weft.stop().await;
}
