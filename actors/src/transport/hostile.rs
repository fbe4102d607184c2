//! What the client does when the other side means ill, over real sockets on loopback.

use super::{
    BODY_BYTES_MAX, Http, HttpArgs, Keep, Request, Response, SendError,
    address::{AddressError, AddressPolicy},
    loopback::{Loopback, Play, http, loopback_policy},
    resolve::{ResolveError, Scripted},
};
use bytes::Bytes;
use reqwest::{Method, Url, header::HeaderMap};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_millis(300);
/// A made-up authority, and its certificate for `hook.example` with the key; both valid for a century.
const AUTHORITY: &[u8] = include_bytes!("testdata/authority.pem");
const HOOK_EXAMPLE: &[u8] = include_bytes!("testdata/hook.example.pem");

async fn post(http: &Http, url: &Url, timeout: Duration, keep: Keep) -> Result<Response, SendError> {
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(b"{}"));
    http.send(Request { method: Method::POST, url, headers, body, timeout, keep }).await
}

fn local_http() -> Http {
    http(loopback_policy(), Scripted::default())
}

/// What came of a request, in short: status, body bytes, truncated; or the error.
fn brief(answer: Result<Response, SendError>) -> Result<(u16, usize, bool), SendError> {
    answer.map(|answer| (answer.status.as_u16(), answer.body.len(), answer.truncated))
}

#[tokio::test]
async fn a_hostile_answer_ends_in_time_with_the_right_outcome() {
    use Play::*;
    const NOT_HTTP: &str = "the endpoint's answer is not valid HTTP, or its headers are too large";
    const CLOSED: &str = "the endpoint closed the connection before answering";
    let late = || Err(SendError::Timeout(TIMEOUT));
    let broken = |phrase| Err(SendError::Network(phrase));
    let head = |line: &str| format!("HTTP/1.1 {line}\r\n").into_bytes();
    let raw = |text: &str| text.as_bytes().to_vec();
    let endless = |line: &str| Endless([head(line), raw("\r\n")].concat(), vec![b'x'; 65_536]);
    let chunked = raw("HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n");
    let gzip =
        [raw("HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ncontent-length: 10\r\n\r\n"), vec![0x1f; 10]]
            .concat();
    let thousand_1xx = "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n".repeat(5_000);
    let many_headers = [head("200 OK"), raw(&"a: b\r\n".repeat(200)), raw("\r\n")].concat();
    let full = BODY_BYTES_MAX;
    #[rustfmt::skip]
    let cases = [
        ("an endless body",               endless("500 No"),                                              Ok((500, full, true))),
        ("an endless success",            endless("200 OK"),                                              Ok((200, 0, false))),
        ("endless chunks",                Endless(chunked.clone(), raw("1000\r\n").into_iter().chain(vec![b'x'; 4096]).chain(raw("\r\n")).collect()), Ok((500, full, true))),
        ("a bad chunk",                   Answer([chunked, raw("zz\r\n")].concat()),                      Ok((500, 0, true))),
        ("endless headers",               Endless(head("200 OK"), raw("x-more: and more\r\n")),           broken(NOT_HTTP)),
        ("one endless header",            Endless([head("200 OK"), raw("x: ")].concat(), vec![b'x'; 9_999]), broken(NOT_HTTP)),
        ("200 headers",                   Answer(many_headers),                                           broken(NOT_HTTP)),
        ("dripping headers",              Drip(head("200 OK"), raw("a: b\r\n")),                          late()),
        ("a dripping status line",        Drip(vec![], raw("HTTP/1.1 200 OKKKKKKKKKKKKKKKKKKKKKKKKKK")),  late()),
        ("a dripping failure",            Drip(raw("HTTP/1.1 500 No\r\ncontent-length: 999\r\n\r\nwhy"), raw("")), Ok((500, 3, true))),
        ("a hanging success",             Hang(raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")),    Ok((200, 0, false))),
        ("no answer",                     Hang(vec![]),                                                   late()),
        ("closed at once",                Close(vec![]),                                                  broken(CLOSED)),
        ("closed within the headers",     Close(raw("HTTP/1.1 200 OK\r\nconte")),                         broken(CLOSED)),
        ("a body cut short",              Close(raw("HTTP/1.1 500 No\r\ncontent-length: 99\r\n\r\nabc")), Ok((500, 3, true))),
        ("a success cut short",           Close(raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nabc")), Ok((200, 0, false))),
        ("garbage",                       Close(vec![0xff; 100]),                                         broken(NOT_HTTP)),
        ("another protocol",              Close(raw("SSH-2.0-OpenSSH_9.6\r\n")),                          broken(NOT_HTTP)),
        ("status 000",                    Close(raw("HTTP/1.1 000 Nothing\r\n\r\n")),                     broken(NOT_HTTP)),
        ("status 99",                     Close(raw("HTTP/1.1 99 Short\r\n\r\n")),                        broken(NOT_HTTP)),
        ("status 1000",                   Close(raw("HTTP/1.1 1000 Long\r\n\r\n")),                       broken(NOT_HTTP)),
        ("status 999",                    Close(raw("HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n")),    Ok((999, 0, false))),
        ("status 600",                    Close(raw("HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n")),    Ok((600, 0, false))),
        ("another HTTP version",          Close(raw("HTTP/7.3 200 OK\r\n\r\n")),                          broken(NOT_HTTP)),
        ("two lengths",                   Close(raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab")), broken(NOT_HTTP)),
        ("a negative length",             Close(raw("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n")),    broken(NOT_HTTP)),
        ("thousands of 1xx",              Answer([raw(&thousand_1xx), raw("HTTP/1.1 204 No Content\r\n\r\n")].concat()), Ok((204, 0, false))),
        ("a gzip bomb stays as it is",    Answer(gzip),                                                   Ok((500, 10, false))),
        ("bytes that are no text",        Answer(raw("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n\u{7f}\u{1}")), Ok((500, 2, false))),
        ("a full body",                   Play::status("500 No", &"x".repeat(full)),                      Ok((500, full, false))),
        ("a byte more",                   Play::status("500 No", &"x".repeat(full + 1)),                  Ok((500, full, true))),
        ("400 MB announced",              Hang(raw("HTTP/1.1 200 OK\r\ncontent-length: 400000000\r\n\r\n")), Ok((200, 0, false))),
    ];
    let http = local_http();
    for (why, play, expected) in cases {
        // Short only where nothing else ends it, so that a busy machine fails no other case.
        let timeout = if matches!(play, Hang(_) | Drip(..)) { TIMEOUT } else { TIMEOUT * 20 };
        let endpoint = Loopback::start(vec![play]).await;
        let started = Instant::now();
        let answer = post(&http, &endpoint.url("http", "127.0.0.1"), timeout, Keep::Failures).await;
        assert_eq!(brief(answer), expected, "{why}");
        assert!(started.elapsed() < TIMEOUT * 20, "{why}: took {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn endless_interim_answers_end_at_the_deadline() {
    let endpoint =
        Loopback::start(vec![Play::Endless(vec![], b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())]).await;
    let answer = post(&local_http(), &endpoint.url("http", "127.0.0.1"), TIMEOUT, Keep::Every).await;
    assert_eq!(brief(answer), Err(SendError::Timeout(TIMEOUT)));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let inner = Loopback::start(vec![Play::status("200 OK", "secret")]).await;
    let inside = inner.url("http", "127.0.0.1");
    for location in [inside.as_str(), "//127.0.0.1/", "/", "file:///etc/passwd", "http://[::1", "foo://", ""]
    {
        for line in ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"] {
            let head = format!("HTTP/1.1 {line}\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            let outer = Loopback::start(vec![Play::Answer(head.into_bytes())]).await;
            let answer = post(&local_http(), &outer.url("http", "127.0.0.1"), TIMEOUT, Keep::Every).await;
            let expected: u16 = line[..3].parse().expect("a status");
            assert_eq!(brief(answer), Ok((expected, 0, false)), "{line} to {location}");
            assert_eq!(outer.seen().len(), 1);
        }
    }
    assert_eq!(inner.accepted(), 0);
}

#[tokio::test]
async fn connections_are_used_again_after_small_answers_of_any_status() {
    let large = "x".repeat(4 * 1_024 * 1_024);
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec();
    #[rustfmt::skip]
    let cases = [
        ("success with a body",    vec![Play::status("200 OK", "thanks")],   1),
        ("success, chunked",       vec![Play::Answer(chunked)],              1),
        ("success without a body", vec![Play::status("204 No Content", "")], 1),
        ("redirect",               vec![Play::status("302 Found", "there")], 1),
        ("failure",                vec![Play::status("500 No", "sorry")],    1),
        ("failure, then success",  vec![Play::status("429 No", "slow"), Play::status("200 OK", "")], 1),
        ("a large success",        vec![Play::status("200 OK", &large)],     5),
        ("a large failure",        vec![Play::status("500 No", &large)],     5),
    ];
    for (why, plays, connections) in cases {
        let endpoint = Loopback::start(plays).await;
        let (http, url) = (local_http(), endpoint.url("http", "127.0.0.1"));
        for _ in 0..5 {
            post(&http, &url, Duration::from_secs(5), Keep::Failures).await.expect("an answer");
        }
        assert_eq!((endpoint.seen().len(), endpoint.accepted()), (5, connections), "{why}");
    }
}

#[tokio::test]
async fn no_spelling_of_a_forbidden_address_is_connected_to() {
    let endpoint = Loopback::start(vec![Play::status("200 OK", "")]).await;
    let strict = http(AddressPolicy { allow_http: true, ..Default::default() }, Scripted::default());
    #[rustfmt::skip]
    let hosts = [
        "127.0.0.1", "127.1", "127.0.0.1.", "0x7f.1", "0177.0.0.1", "2130706433", "0", "0.0.0.0", "%31%32%37.0.0.1",
        "127。0。0。1", "①②⑦.⓪.⓪.①", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
        "localhost", "LOCALHOST", "localhost.", "a.localhost", "public@127.0.0.1", "user:word@127.0.0.1",
    ];
    for host in hosts {
        let answer = post(&strict, &endpoint.url("http", host), TIMEOUT, Keep::Every).await;
        assert!(matches!(answer, Err(SendError::Address(_))), "{host}");
    }
    assert_eq!(endpoint.accepted(), 0);
    let https_only = http(AddressPolicy::default(), Scripted::default());
    let plain = post(&https_only, &endpoint.url("http", "8.8.8.8"), TIMEOUT, Keep::Every).await;
    assert_eq!(brief(plain), Err(SendError::Address(AddressError::Scheme)));
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

#[tokio::test]
async fn a_name_is_asked_for_at_each_connection_and_refused_when_one_answer_is_bad() {
    let endpoint = Loopback::start(vec![Play::Close(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec(),
    )])
    .await;
    let url = endpoint.url("http", "rebind.example");
    for k in 1..=8 {
        let mut answers = vec![ips(&["127.0.0.1"]); k];
        answers.push(ips(&["127.0.0.2"]));
        let http = http(loopback_policy(), Scripted::default().name("rebind.example", answers));
        let before = endpoint.accepted();
        for _ in 0..k {
            assert_eq!(brief(post(&http, &url, TIMEOUT, Keep::Every).await), Ok((200, 0, false)));
        }
        let refused = post(&http, &url, TIMEOUT, Keep::Every).await;
        assert_eq!(brief(refused), Err(SendError::Name(ResolveError::NotPublic)), "after {k}");
        assert_eq!(endpoint.accepted() - before, k);
    }
    let before = endpoint.accepted();
    for answers in [&["127.0.0.1", "10.0.0.1"][..], &["10.0.0.1", "127.0.0.1"], &["127.0.0.1", "::1"], &[]] {
        let http = http(loopback_policy(), Scripted::default().name("rebind.example", vec![ips(answers)]));
        let refused = post(&http, &url, TIMEOUT, Keep::Every).await;
        assert!(matches!(refused, Err(SendError::Name(_))), "{answers:?}");
    }
    let unknown = post(&local_http(), &url, TIMEOUT, Keep::Every).await;
    assert_eq!(brief(unknown), Err(SendError::Name(ResolveError::NotFound)));
    assert_eq!(endpoint.accepted(), before);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_a_network_error_without_its_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port_of_no_one = listener.local_addr().expect("bound").port();
    drop(listener);
    let url = Url::parse(&format!("http://127.0.0.1:{port_of_no_one}/")).expect("a URL");
    let err = post(&local_http(), &url, Duration::from_secs(5), Keep::Every).await.err().expect("refused");
    assert_eq!(err.to_string(), "the endpoint refused the connection");
}

fn tls() -> tokio_rustls::TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(HOOK_EXAMPLE).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(HOOK_EXAMPLE).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key and certificate match");
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn certificates_are_checked_against_the_name_that_was_asked_for() {
    let endpoint = Loopback::start_tls(vec![Play::status("200 OK", "")], tls()).await;
    let plain = Loopback::start(vec![Play::Close(b"HTTP/1.1 400 Not TLS\r\n\r\n".to_vec())]).await;
    let names = || {
        let name = |script: Scripted, name| script.name(name, vec![ips(&["127.0.0.1"])]);
        ["hook.example", "other.example"].into_iter().fold(Scripted::default(), name)
    };
    let trusting = |pem: Option<&[u8]>| {
        let extra_roots_pem = pem.map(<[u8]>::to_vec);
        Http::new(HttpArgs { policy: loopback_policy(), resolver: Arc::new(names()), extra_roots_pem })
            .expect("a client")
    };
    let refused = |phrase| Err(SendError::Network(phrase));
    #[rustfmt::skip]
    let cases = [
        ("trusted",        Some(AUTHORITY), &endpoint, "hook.example",  Ok((200, 0, false))),
        ("another name",   Some(AUTHORITY), &endpoint, "other.example", refused("the endpoint's certificate is for another name")),
        ("an address",     Some(AUTHORITY), &endpoint, "127.0.0.1",     refused("the endpoint's certificate is for another name")),
        ("not trusted",    None,            &endpoint, "hook.example",  refused("the endpoint's certificate is not signed by a trusted authority")),
    ];
    for (why, roots, endpoint, host, expected) in cases {
        let answer =
            post(&trusting(roots), &endpoint.url("https", host), Duration::from_secs(5), Keep::Every).await;
        assert_eq!(brief(answer), expected, "{why}");
    }
    let not_tls = post(&trusting(None), &plain.url("https", "hook.example"), TIMEOUT, Keep::Every).await;
    assert!(matches!(not_tls, Err(SendError::Timeout(_) | SendError::Network(_))), "plain HTTP on the port");
    let broken = b"-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n";
    for pem in [&broken[..], b"", b"no certificate"] {
        let args = HttpArgs {
            policy: loopback_policy(),
            resolver: Arc::new(names()),
            extra_roots_pem: Some(pem.to_vec()),
        };
        assert!(Http::new(args).is_err(), "roots that cannot be read are refused at start");
    }
}

/// Runs the test above in a process of its own, on a machine that has no root certificates.
#[test]
fn a_machine_without_root_certificates_trusts_the_extra_ones_only() {
    let this = std::env::current_exe().expect("a test binary");
    let test = "transport::hostile::certificates_are_checked_against_the_name_that_was_asked_for";
    let mut command = std::process::Command::new(this);
    command.args(["--exact", test]).env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    let output = command.output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
