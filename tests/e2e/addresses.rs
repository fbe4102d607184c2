//! I11: a destination is at a public address, judged when it is saved and again on the address that
//! is really connected to. The operator's list opens what it names and nothing else.

use crate::support::{NameServer, Receiver, Record, Reply, Weft, text};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const NOT_ALLOWED: &str = "destination address is not allowed";

#[tokio::test]
async fn a_url_that_leads_inside_is_refused_when_it_is_saved() {
    let weft = Weft::with(|config| config.outbound_allow.clear()).await;
    let kept = weft.webhook("https://hooks.example.com/kept").await;
    let path = format!("/connections/{kept}");
    let before = weft.get(&path).await.answered(200, "before");
    let long = format!("https://hooks.example.com/{}", "a".repeat(2_048));
    let label = format!("https://{}.example.com/", "a".repeat(64));
    #[rustfmt::skip]
    let urls = [
        // this host and its neighbours
        "http://127.0.0.1/", "https://127.0.0.1:8443/x", "https://127.255.255.254/", "https://0.0.0.0/", "https://0.1.2.3/",
        "https://10.0.0.1/", "https://10.255.255.255/", "https://172.16.0.1/", "https://172.31.255.255/", "https://192.168.1.1/",
        "https://100.64.0.1/", "https://100.100.100.200/latest/meta-data", "https://100.127.255.255/",
        "http://169.254.169.254/latest/meta-data/iam", "https://169.254.0.1/",
        "https://192.0.0.1/", "https://192.0.2.1/", "https://192.88.99.1/", "https://198.18.0.1/", "https://198.19.255.255/",
        "https://198.51.100.1/", "https://203.0.113.1/", "https://224.0.0.1/", "https://239.1.2.3/", "https://240.0.0.1/", "https://255.255.255.255/",
        // in IPv6, and IPv4 inside it
        "https://[::]/", "https://[::1]/", "https://[::1]:8080/", "https://[::7f00:1]/", "https://[::ffff:7f00:1]/", "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/", "https://[::ffff:0:7f00:1]/", "https://[64:ff9b::7f00:1]/", "https://[64:ff9b:1::1]/", "https://[100::1]/",
        "https://[2001::1]/", "https://[2001:0:7f00:1::]/", "https://[2001:db8::1]/", "https://[2002:7f00:1::]/", "https://[3fff::1]/",
        "https://[5f00::1]/", "https://[fc00::1]/", "https://[fd00:ec2::254]/", "https://[fe80::1]/", "https://[fec0::1]/", "https://[ff02::1]/",
        "https://[fe80::1%eth0]/", "https://[fe80::1%25eth0]/", "https://[0:0:0:0:0:0:0:1]/",
        // spelled otherwise
        "https://127.1/", "https://127.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0x7f.0.0.0x1/",
        "https://0177.0.0.1/", "https://017700000001/", "https://0/", "https://127.0.0.1./", "https://%31%32%37.0.0.1/", "https://127%2e0.0.1/",
        "https://127。0。0。1/", "https://１２７.0.0.1/", "https://①②⑦.⓪.⓪.①/", "https://exam\u{ad}ple.com/", "https://256.0.0.1/", "https://1.2.3.4.5/",
        // names that are no one's, or local
        "https://localhost/", "https://LOCALHOST:443/", "https://localhost./", "https://a.localhost/", "https://printer.local/",
        "https://metadata.google.internal/", "https://db.localdomain/", "https://home.arpa/", "https://nas.home.arpa/", "https://intranet/",
        "https://example.com./", "https://a..example.com/", "https://.example.com/", &label,
        // tricks with the form
        "https://public@127.0.0.1/", "https://user:pass@example.com/", "https://@example.com/", "https://127.0.0.1#@example.com/", "https://example.com/#x",
        "https:127.0.0.1", "https:/127.0.0.1/", "https:///127.0.0.1/", "//example.com/", "example.com/hook", "https://", "https://:443/",
        "https://example.com\\@127.0.0.1/", "https://exam\tple.com/", "https://127.0.0.1\n.example.com/", "https://example.com/\r\nHost: x", " https://example.com/",
        "https://example.com/a b", "https://example.com/\u{0}", "https://bücher.example/",
        "https://example.com:0/", "https://example.com:65536/", "https://example.com:/", "https://example.com:-1/", "https://example.com:0x50/",
        // other schemes
        "ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "data:text/html,x", "javascript://example.com/%0aalert(1)",
        "unix:///var/run/docker.sock", "ws://example.com/", "HTTPS2://example.com/", &long,
    ];
    for url in urls {
        let metadata = json!({ "url": url, "skip_test": true });
        let new =
            json!({ "workspace": weft.workspace, "type": "webhook", "name": "New", "metadata": metadata });
        let answers = [
            weft.post("/connections", new).await,
            weft.put(&path, json!({ "name": "Kept", "metadata": metadata })).await,
            weft.patch(&path, json!({ "metadata": metadata })).await,
        ];
        for answer in answers {
            answer.refused(400, NOT_ALLOWED, url);
            assert_eq!(answer.params(), ["metadata.url"], "{url}");
        }
    }
    #[rustfmt::skip]
    let no_urls = [("a number", json!(5)), ("null", Value::Null), ("empty", json!("")), ("a list", json!(["https://example.com/"]))];
    for (why, url) in no_urls {
        let metadata = json!({ "url": url, "skip_test": true });
        let new =
            json!({ "workspace": weft.workspace, "type": "webhook", "name": "New", "metadata": metadata });
        weft.post("/connections", new).await.refused(400, "metadata.url", why);
    }
    assert_eq!(weft.get(&path).await.answered(200, "after"), before, "nothing was changed");
    assert_eq!(weft.get("/connections").await.body["count"], 1, "and nothing made");
    weft.stop().await;
}

#[tokio::test]
async fn neighbours_of_what_is_refused_and_plain_names_are_taken() {
    let weft = Weft::with(|config| {
        config.outbound_allow.clear();
        config.allow_http = false;
    });
    let weft = weft.await;
    for url in [
        "https://hooks.example.com/services/T000/B000/xyz?a=b%20c&d=@e",
        "https://Example.COM:8443",
        "https://xn--bcher-kva.example/",
        "https://mylocal.example.com/localhost",
        "https://notlocalhost.com/",
        "https://9.255.255.255/",
        "https://11.0.0.0/",
        "https://172.15.255.255/",
        "https://172.32.0.0/",
        "https://100.63.255.255/",
        "https://100.128.0.0/",
        "https://192.167.255.255/",
        "https://169.253.255.255/",
        "https://128.0.0.0/",
        "https://223.255.255.255/",
        "https://[2606:4700::1111]/",
        "https://[2003::1]/",
    ] {
        weft.webhook(url).await;
    }
    let metadata = json!({ "url": "http://hooks.example.com/", "skip_test": true });
    let plain =
        json!({ "workspace": weft.workspace, "type": "webhook", "name": "New", "metadata": metadata });
    let answer = weft.post("/connections", plain).await;
    answer.refused(
        400,
        "destination address is not allowed: it must start with https://",
        "plain http is switched on by the operator",
    );
    weft.stop().await;
}

/// A redirect is an answer. The receiver it points to may even be one that is allowed.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let weft = Weft::start().await;
    let inside = Receiver::start(Reply::ok).await;
    for (n, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
        let location = inside.url("/metadata");
        let receiver =
            Receiver::start(move |_, _| Reply::status(status).header("location", location.clone())).await;
        let rule = weft.rule(&format!("to.{status}"), &weft.webhook(&receiver.url("/")).await).await;
        let event = weft.send_event(&format!("to.{status}"), json!({ "n": n })).await;
        weft.event_as(&event, "completed").await;
        let attempt = weft.attempts(&event, &rule, 1).await.remove(0);
        assert_eq!(
            (&attempt["outcome_code"], &attempt["http_status"]),
            (&json!("delivered"), &json!(status))
        );
    }
    assert!(inside.so_far().is_empty(), "{:?}", inside.so_far());
    weft.stop().await;
}

/// 127.0.0.1 plays a public address here, because the operator lists it; 127.0.0.2 is inside.
const PUBLIC: Record = Record::A(Ipv4Addr::LOCALHOST);
const INSIDE: Record = Record::A(Ipv4Addr::new(127, 0, 0, 2));
const REFUSED: &str =
    "destination address is not allowed: its host name does not lead to public addresses only";

/// A receiver at the public address, and one inside on the same port that must never be asked.
async fn outside_and_inside() -> (Receiver, Receiver) {
    for _ in 0..20 {
        // A connection for each request: so each has the name looked up anew.
        let outside = Receiver::start(|_, _| Reply::status(200).header("connection", "close")).await;
        let address = SocketAddr::from(([127, 0, 0, 2], outside.address.port()));
        if std::net::TcpListener::bind(address).is_ok() {
            return (outside, Receiver::on(address, Reply::ok).await);
        }
    }
    panic!("no port is free on both addresses");
}

async fn strict(names: &NameServer) -> Weft {
    let address = names.address.to_string();
    Weft::with(|config| {
        config.outbound_allow = vec!["127.0.0.1/32".parse().expect("a network")];
        config.dns = Some(address.parse().expect("an address"));
    })
    .await
}

#[tokio::test]
async fn a_name_is_judged_by_every_address_it_leads_to() {
    let many_and_one_bad = || [vec![PUBLIC; 24], vec![INSIDE]].concat();
    type Case<'c> = (&'c str, &'c str, Option<Vec<Record>>, Option<&'c str>);
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        // why                              name                  its records                                      refused
        ("a public address",                "public.example",     Some(vec![PUBLIC]),                              None),
        ("a private one",                   "private.example",    Some(vec![INSIDE]),                              Some(REFUSED)),
        ("public, then private",            "mixed.example",      Some(vec![PUBLIC, INSIDE]),                      Some(REFUSED)),
        ("private, then public",            "mixed2.example",     Some(vec![INSIDE, PUBLIC]),                      Some(REFUSED)),
        ("25 addresses, one of them bad",   "many.example",       Some(many_and_one_bad()),                        Some(REFUSED)),
        ("33 addresses",                    "more.example",       Some(vec![PUBLIC; 33]),                          Some("the endpoint's host name has more than 32 addresses")),
        ("a private IPv6 address beside",   "v6.example",         Some(vec![PUBLIC, Record::Aaaa("fd00::1".parse().expect("an address"))]), Some(REFUSED)),
        ("IPv4 inside IPv6 beside",         "mapped.example",     Some(vec![PUBLIC, Record::Aaaa("::ffff:127.0.0.1".parse().expect("an address"))]), Some(REFUSED)),
        ("IPv6 loopback alone",             "v6only.example",     Some(vec![Record::Aaaa("::1".parse().expect("an address"))]), Some(REFUSED)),
        ("another name for a public one",   "alias.example",      Some(vec![Record::Cname("public.example")]),     None),
        ("another name for a private one",  "alias2.example",     Some(vec![Record::Cname("private.example")]),    Some(REFUSED)),
        ("a chain of names to one",         "chain.example",      Some(vec![Record::Cname("alias2.example")]),     Some(REFUSED)),
        ("a name for localhost",            "local.example",      Some(vec![Record::Cname("localhost")]),          Some("")),
        ("names in a circle",               "circle.example",     Some(vec![Record::Cname("circle2.example")]),    Some("the endpoint's host name")),
        ("and back",                        "circle2.example",    Some(vec![Record::Cname("circle.example")]),     Some("the endpoint's host name")),
        ("no address",                      "empty.example",      Some(vec![]),                                    Some("the endpoint's host name does not exist")),
        ("no such name",                    "gone.example",       None,                                            Some("the endpoint's host name does not exist")),
    ];
    let zone: HashMap<String, Option<Vec<Record>>> =
        cases.iter().map(|(_, name, records, _)| ((*name).to_owned(), records.clone())).collect();
    // Each is saved while it leads outside: what is asked here is what happens when it is sent to.
    let saved = Arc::new(AtomicBool::new(false));
    let is_saved = saved.clone();
    let names = NameServer::start(move |name| match name {
        _ if !is_saved.load(Ordering::SeqCst) => Some(vec![PUBLIC]),
        "localhost" => Some(vec![INSIDE]),
        name => zone.get(name).cloned().flatten(),
    });
    let names = names.await;
    let (weft, (outside, inside)) = (strict(&names).await, outside_and_inside().await);
    let mut stories = Vec::new();
    for (why, name, _, refused) in &cases {
        let url = format!("http://{name}:{}/", outside.address.port());
        let connection = weft.webhook_with(&url, json!({}), json!({ "retry": [] })).await;
        stories.push((why, name, weft.rule(name, &connection).await, url, refused));
    }
    saved.store(true, Ordering::SeqCst);
    let mut delivered = 0;
    for (why, name, rule, url, refused) in stories {
        if *refused == Some(REFUSED) {
            let metadata = json!({ "url": url, "skip_test": true });
            let new = json!({ "workspace": weft.workspace, "type": "webhook", "name": "New", "metadata": metadata });
            weft.post("/connections", new).await.refused(400, NOT_ALLOWED, why);
        }
        let event = weft.send_event(name, json!({ "n": 1 })).await;
        let attempt = weft.attempts(&event, &rule, 1).await.remove(0);
        let message = text(&attempt["message"]);
        match refused {
            None => {
                assert_eq!(attempt["outcome_code"], "delivered", "{why}: {message}");
                delivered += 1;
            }
            Some(says) => {
                assert_eq!(attempt["outcome_code"], "network_error", "{why}: {message}");
                assert!(message.starts_with(says), "{why}: {message}");
                let told = weft.get(&format!("/events/{event}")).await.text + &attempt.to_string();
                for internal in ["127.0.0", "fd00::", "::1", name] {
                    let told = told.replace(&format!(r#""event":"{name}""#), "");
                    assert!(!told.contains(internal), "{why}: {told} names {internal}");
                }
            }
        }
    }
    assert_eq!(outside.so_far().len(), delivered);
    assert!(inside.so_far().is_empty(), "nobody inside was asked: {:?}", inside.so_far());
    weft.stop().await;
}

/// A name whose owner changes his mind after it was saved, or after k deliveries.
#[tokio::test]
async fn a_name_that_turns_private_is_refused_from_then_on_and_tried_again() {
    let leads_to = Arc::new(Mutex::new(PUBLIC));
    let zone = leads_to.clone();
    let names =
        NameServer::start(move |name| (name == "rebind.example").then(|| vec![zone.lock().clone()])).await;
    let (weft, (outside, inside)) = (strict(&names).await, outside_and_inside().await);
    let url = format!("http://rebind.example:{}/", outside.address.port());
    let connection = weft.webhook_with(&url, json!({}), json!({ "retry": [3_600_000] })).await;
    let rule = weft.rule("a.b", &connection).await;
    for round in 1..=4 {
        *leads_to.lock() = PUBLIC;
        for n in 0..round {
            let event = weft.send_event("a.b", json!({ "n": n })).await;
            weft.event_as(&event, "completed").await;
        }
        let (before, asked) = (outside.so_far().len(), names.asked());
        *leads_to.lock() = INSIDE;
        let event = weft.send_event("a.b", json!({ "round": round })).await;
        let attempt = weft.attempts(&event, &rule, 1).await.remove(0);
        assert_eq!(
            (&attempt["outcome_code"], &attempt["message"]),
            (&json!("network_error"), &json!(REFUSED))
        );
        assert!(names.asked() > asked, "the name was looked up for this very attempt");
        assert_eq!(outside.so_far().len(), before);
        weft.event_as(&event, "retrying").await;
        *leads_to.lock() = PUBLIC;
        let again = format!("/events/{event}/rules/{rule}/retry");
        weft.ask(Method::POST, &again, None).await.answered(200, "the name leads outside again");
        weft.event_as(&event, "completed").await;
    }
    assert!(inside.so_far().is_empty(), "nobody inside was asked: {:?}", inside.so_far());
    weft.stop().await;
}

/// The test request of a save goes by the same rule.
#[tokio::test]
async fn a_url_test_does_not_reach_inside_either() {
    let names = NameServer::start(|name| (name == "inside.example").then(|| vec![INSIDE])).await;
    let (weft, (outside, inside)) = (strict(&names).await, outside_and_inside().await);
    let metadata = json!({ "url": format!("http://inside.example:{}/", outside.address.port()) });
    let new = json!({ "workspace": weft.workspace, "type": "webhook", "name": "New", "metadata": metadata });
    let answer = weft.post("/connections", new).await;
    answer.refused(400, NOT_ALLOWED, "refused before it is tried out");
    assert!(!answer.text.contains("127.0.0"), "{}", answer.text);
    assert!(inside.so_far().is_empty());
    weft.stop().await;
}
