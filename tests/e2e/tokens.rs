//! Who is asking: one form of machine token is accepted, every other answer is the same 401.

use crate::support::{Answer, Peer, Weft, Witness, send};
use actors::engine::MachineKeyClear;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};

/// What every refusal says.
const TEXT: &str = "invalid or missing credentials";

/// Headers of a request, by name.
type Headers<'h> = Vec<(&'h str, &'h str)>;

/// Makes tokens for a machine key, right ones and all others.
struct Forge<'m> {
    machine: &'m MachineKeyClear,
    now: i64,
}

impl Forge<'_> {
    fn access_key(&self) -> &str {
        &self.machine.access_key
    }

    fn header(&self) -> Value {
        json!({ "alg": "HS256", "typ": "JWT", "kid": self.access_key() })
    }

    fn claims(&self) -> Value {
        json!({
            "iss": format!("urn:meshes:m2m:{}", self.access_key()),
            "aud": "meshes-api",
            "org": self.machine.organization_id,
            "iat": self.now,
            "exp": self.now + 30,
        })
    }

    /// Signed as it should be, whatever it says.
    fn sign(&self, header: &str, claims: &str) -> String {
        signed_with::<Hmac<Sha256>>(self.secret(), &unsigned(header, claims))
    }

    fn secret(&self) -> &[u8] {
        self.machine.secret.expose().as_bytes()
    }

    fn good(&self) -> String {
        self.sign(&self.header().to_string(), &self.claims().to_string())
    }

    /// Right but for one header field (`null`: without it).
    fn header_with(&self, name: &str, value: Value) -> String {
        self.sign(&with(self.header(), name, value).to_string(), &self.claims().to_string())
    }

    /// Right but for one claim (`null`: without it).
    fn claim_with(&self, name: &str, value: Value) -> String {
        self.sign(&self.header().to_string(), &with(self.claims(), name, value).to_string())
    }

    /// Right but for text written into the claims as it is.
    fn claims_and(&self, text: &str) -> String {
        let claims = self.claims().to_string();
        self.sign(&self.header().to_string(), &format!("{}{text}", claims.trim_end_matches('}')))
    }
}

/// Header and claims as a token has them.
fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn signed_with<M: KeyInit + Mac>(secret: &[u8], signed: &str) -> String {
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    let members = object.as_object_mut().expect("an object");
    match value {
        Value::Null => drop(members.remove(name)),
        value => drop(members.insert(name.to_owned(), value)),
    }
    object
}

fn now() -> i64 {
    actors::clock::Clock::system().now().0.div_euclid(1_000)
}

/// Every kind of wrong token, and why it is one.
fn wrong(forge: &Forge<'_>, stranger: &MachineKeyClear) -> Vec<(String, String)> {
    let (now, good, key) = (forge.now, forge.good(), forge.access_key());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (header, claims) = signed.split_once('.').expect("three parts");
    let strangers = Forge { machine: stranger, now };
    let of = |algorithm: &str| {
        unsigned(&with(forge.header(), "alg", json!(algorithm)).to_string(), &forge.claims().to_string())
    };
    let without = |algorithm: &str| format!("{}.", of(algorithm));
    let keyed = |secret: &[u8]| signed_with::<Hmac<Sha256>>(secret, signed);
    let flipped = {
        let first = if signature.starts_with('A') { "B" } else { "A" };
        format!("{signed}.{first}{}", &signature[1..])
    };
    // The last character of 43 carries two bits that mean nothing, and must be zero.
    let respelled = {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = signature.as_bytes()[signature.len() - 1];
        let at = ALPHABET.iter().position(|byte| *byte == last).expect("base64url");
        format!("{signed}.{}{}", &signature[..signature.len() - 1], char::from(ALPHABET[at | 1]))
    };
    let decoded = URL_SAFE_NO_PAD.decode(forge.secret()).expect("secrets are base64url");
    let padded_header = URL_SAFE.encode(format!("{} ", forge.header()));
    assert!(padded_header.ends_with('='), "it would be no other without padding");
    let issuer = |text: &str| forge.claim_with("iss", json!(text));

    #[rustfmt::skip]
    let mut cases: Vec<(&str, String)> = vec![
        // why                                        token
        ("nothing",                                   String::new()),
        ("a word",                                    "token".to_owned()),
        ("dots",                                      "..".to_owned()),
        ("two parts",                                 signed.to_owned()),
        ("four parts",                                format!("{good}.{signature}")),
        ("five parts, as if encrypted",               format!("{good}.a.b")),
        ("as JSON",                                   json!({ "payload": claims, "signatures": [{ "protected": header, "signature": signature }] }).to_string()),
        ("unsigned, none",                            without("none")),
        ("unsigned, None",                            without("None")),
        ("unsigned, NONE",                            without("NONE")),
        ("unsigned, nOnE",                            without("nOnE")),
        ("unsigned, HS256",                           format!("{signed}.")),
        ("none, but signed",                          forge.header_with("alg", json!("none"))),
        ("HS384 by the right secret",                 signed_with::<Hmac<Sha384>>(forge.secret(), &of("HS384"))),
        ("HS512 by the right secret",                 signed_with::<Hmac<Sha512>>(forge.secret(), &of("HS512"))),
        ("hs256",                                     forge.header_with("alg", json!("hs256"))),
        ("HS256 and a space",                         forge.header_with("alg", json!("HS256 "))),
        ("no alg",                                    forge.header_with("alg", Value::Null)),
        ("a list of alg",                             forge.header_with("alg", json!(["HS256"]))),
        ("a number for alg",                          forge.header_with("alg", json!(256))),
        ("an empty alg",                              forge.header_with("alg", json!(""))),
        ("alg twice",                                 forge.sign(&format!(r#"{{"alg":"none","alg":"HS256","kid":"{key}"}}"#), &forge.claims().to_string())),
        ("alg twice, by escapes",                     forge.sign(&format!(r#"{{"alg":"HS256","\u0061lg":"HS256","kid":"{key}"}}"#), &forge.claims().to_string())),
        ("kid twice",                                 forge.sign(&format!(r#"{{"alg":"HS256","kid":"{key}","kid":"{key}"}}"#), &forge.claims().to_string())),
        ("a header that is no object",                forge.sign("[]", &forge.claims().to_string())),
        ("a header that is no JSON",                  forge.sign("alg=HS256", &forge.claims().to_string())),
        ("claims that are no object",                 forge.sign(&forge.header().to_string(), "[]")),
        ("claims that are no JSON",                   forge.sign(&forge.header().to_string(), "iss")),
        ("no kid",                                    forge.header_with("kid", Value::Null)),
        ("a kid that is a number",                    forge.header_with("kid", json!(1))),
        ("another type of token",                     forge.header_with("typ", json!("at+jwt"))),
        ("another secret",                            keyed(b"0123456789012345678901234567890123456789012")),
        ("an empty secret",                           keyed(b"")),
        ("the secret decoded first",                  keyed(&decoded)),
        ("the access key for a secret",               keyed(key.as_bytes())),
        ("a bit of the signature turned",             flipped),
        ("the signature cut short",                   good[..good.len() - 4].to_owned()),
        ("the signature padded",                      format!("{good}=")),
        ("the signature spelled otherwise",           respelled),
        ("the signature in plain base64",             format!("{signed}.{}", STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).expect("base64url")))),
        ("a padded header",                           signed_with::<Hmac<Sha256>>(forge.secret(), &format!("{padded_header}.{claims}"))),
        ("the claims of another token",               format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(with(forge.claims(), "exp", json!(now + 31)).to_string()))),
        ("without iss",                               forge.claim_with("iss", Value::Null)),
        ("without aud",                               forge.claim_with("aud", Value::Null)),
        ("without org",                               forge.claim_with("org", Value::Null)),
        ("without iat",                               forge.claim_with("iat", Value::Null)),
        ("without exp",                               forge.claim_with("exp", Value::Null)),
        ("an issuer without its prefix",              issuer(key)),
        ("an issuer of another key",                  issuer(&format!("urn:meshes:m2m:{}", stranger.access_key))),
        ("a longer issuer",                           issuer(&format!("urn:meshes:m2m:{key}x"))),
        ("a list of issuers",                         forge.claim_with("iss", json!([format!("urn:meshes:m2m:{key}")]))),
        ("another audience",                          forge.claim_with("aud", json!("meshes"))),
        ("a list of audiences",                       forge.claim_with("aud", json!(["meshes-api"]))),
        ("another organization, by our key",          forge.claim_with("org", json!(stranger.organization_id))),
        ("our organization, by another's key",        strangers.claim_with("org", json!(forge.machine.organization_id))),
        ("an organization that is not there",         forge.claim_with("org", json!(uuid::Uuid::new_v4()))),
        ("an organization in braces",                 forge.claim_with("org", json!(format!("{{{}}}", forge.machine.organization_id)))),
        ("a list of organizations",                   forge.claim_with("org", json!([forge.machine.organization_id]))),
        ("expired",                                   forge.sign(&forge.header().to_string(), &with(with(forge.claims(), "iat", json!(now - 60)), "exp", json!(now - 10)).to_string())),
        ("not issued yet",                            forge.sign(&forge.header().to_string(), &with(with(forge.claims(), "iat", json!(now + 60)), "exp", json!(now + 90)).to_string())),
        ("not valid yet",                             forge.claim_with("nbf", json!(now + 60))),
        ("a life of 61 s",                            forge.claim_with("exp", json!(now + 61))),
        ("a life of a year",                          forge.claim_with("exp", json!(now + 31_536_000))),
        ("no life",                                   forge.claim_with("exp", json!(now))),
        ("exp before iat",                            forge.claim_with("exp", json!(now - 1))),
        ("exp in milliseconds",                       forge.claim_with("exp", json!((now + 30) * 1_000))),
        ("exp as a string",                           forge.claim_with("exp", json!((now + 30).to_string()))),
        ("exp as a fraction",                         forge.claim_with("exp", json!(now as f64 + 30.5))),
        ("nbf as a whole float",                      forge.claims_and(&format!(r#","nbf":{now}.0}}"#))),
        ("exp as a boolean",                          forge.claim_with("exp", json!(true))),
        ("exp beyond 64 bits",                        forge.claim_with("exp", json!(u64::MAX))),
        ("iat at the beginning of time",              forge.claim_with("iat", json!(i64::MIN))),
        ("iat negative",                              forge.claim_with("iat", json!(-1))),
        ("iat as a boolean",                          forge.claim_with("iat", json!(false))),
        ("nbf as a string",                           forge.claim_with("nbf", json!("0"))),
        ("exp twice",                                 forge.claims_and(&format!(r#","exp":{}}}"#, now + 30))),
        ("org twice, by escapes",                     forge.claims_and(&format!(r#","\u006frg":"{}"}}"#, forge.machine.organization_id))),
        ("an unknown claim twice",                    forge.claims_and(r#","x":1,"x":1}"#)),
        ("NaN among the claims",                      forge.claims_and(r#","x":NaN}"#)),
        ("two sets of claims",                        forge.claims_and("}{}")),
        ("a token of 7 KB",                           forge.claim_with("x", json!("x".repeat(5_000)))),
    ];
    for algorithm in ["RS256", "RS512", "ES256", "PS256", "EdDSA", "HS1", "dir"] {
        cases.push((algorithm, forge.header_with("alg", json!(algorithm))));
    }
    // Fields that would have a lenient reader fetch a key, or read the token otherwise.
    let key_set = json!({ "kty": "oct", "k": "", "kid": key });
    for (name, value) in [
        ("jwk", key_set),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/certificate")),
        ("x5c", json!([])),
        ("crit", json!(["exp"])),
        ("zip", json!("DEF")),
        ("b64", json!(false)),
    ] {
        cases.push((name, forge.header_with(name, value)));
    }
    // Keys that are not there, also where the issuer agrees and the secret is what a default would be.
    let long = format!("mk_{}", "x".repeat(2_000));
    for kid in ["", "mk_", "mk_0123456789012345678901", "../../../dev/null", "' OR '1'='1", "a\0b", &long] {
        let nobody = MachineKeyClear { access_key: kid.to_owned(), ..forge.machine.clone() };
        cases.push(("an unknown key", Forge { machine: &nobody, now }.good()));
        let defaulted = MachineKeyClear { secret: actors::domain::secret::Secret::new(""), ..nobody };
        cases.push(("an unknown key with an empty secret", Forge { machine: &defaulted, now }.good()));
    }
    cases.into_iter().map(|(why, token)| (why.to_owned(), token)).collect()
}

/// Fails unless it is the one refusal there is.
fn assert_refused(answer: &Answer, why: &str) {
    answer.assert_error(401, "", why);
    assert_eq!(answer.body["message"], TEXT, "{why}: the same text for all");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{why}");
}

/// I3, I9: no wrong token reads anything or sends anything; the right one does, before and after.
#[tokio::test]
async fn every_wrong_token_is_refused_alike() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let (stranger, ..) = weft.stranger().await;
    let forge = Forge { machine: &weft.machine, now: now() };
    let own = format!("/workspaces/{}", weft.workspace);
    let event = json!({ "event": "x", "payload": { "a": 1 }, "workspace": weft.workspace });
    for (why, token) in wrong(&forge, &stranger) {
        assert_refused(&weft.ask_as(&token, Method::GET, &own, None).await, &why);
        assert_refused(&weft.ask_as(&token, Method::POST, "/events", Some(event.clone())).await, &why);
    }

    // What the official clients send, and what differs without mattering.
    let forge = Forge { machine: &weft.machine, now: now() };
    let upper = weft.machine.organization_id.to_string().to_uppercase();
    #[rustfmt::skip]
    let right = [
        ("as it should be",          forge.good()),
        ("a life of a minute",       forge.claim_with("exp", json!(forge.now + 60))),
        ("without typ",              forge.header_with("typ", Value::Null)),
        ("the organization in capitals", forge.claim_with("org", json!(upper))),
        ("claims nobody asks for",   forge.claim_with("jti", json!("once"))),
        ("a clock 3 s ahead",        Forge { now: forge.now + 3, ..forge }.good()),
    ];
    for (why, token) in right {
        for _ in 0..2 {
            let answer = weft.ask_as(&token, Method::GET, &own, None).await;
            assert_eq!(answer.status, 200, "{why}, and again: {answer:?}");
        }
    }
    let answer = weft.ask_as(&weft.token(), Method::POST, "/events", Some(event)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    witness.assert_saw(&weft, &["x"]).await;
    weft.stop().await;
}

/// I3: a token counts in its own header, alone, and nowhere else.
#[tokio::test]
async fn a_token_is_read_from_one_header_only() {
    let weft = Weft::start().await;
    let token = weft.token();
    let (bearer, lower) = (format!("Bearer {token}"), format!("bearer {token}"));
    let basic = format!("Basic {}", STANDARD.encode(format!("{token}:")));
    let cookies =
        [format!("authorization=Bearer {token}"), format!("token={token}"), format!("Bearer={token}")];
    let raw_token = format!("Bearer  {token}");
    #[rustfmt::skip]
    let cases: Vec<(&str, Headers<'_>, String, u16)> = vec![
        // why                       headers                                                       query                               status
        ("its header",               vec![("authorization", &bearer)],                             String::new(),                      200),
        ("its scheme in lower case", vec![("authorization", &lower)],                              String::new(),                      200),
        ("nothing",                  vec![],                                                       String::new(),                      401),
        ("the query",                vec![],                                                       format!("?access_token={token}"),   401),
        ("the query, by its name",   vec![],                                                       format!("?authorization=Bearer%20{token}"), 401),
        ("cookies",                  cookies.iter().map(|text| ("cookie", text.as_str())).collect(), String::new(),                    401),
        ("another header",           vec![("x-authorization", &bearer)],                           String::new(),                      401),
        ("a proxy's header",         vec![("proxy-authorization", &bearer)],                       String::new(),                      401),
        ("the publishable key's",    vec![("x-meshes-publishable-key", &token)],                   String::new(),                      401),
        ("no scheme",                vec![("authorization", &token)],                              String::new(),                      401),
        ("another scheme",           vec![("authorization", &basic)],                              String::new(),                      401),
        ("two spaces",               vec![("authorization", &raw_token)],                          String::new(),                      401),
        ("twice",                    vec![("authorization", &bearer), ("authorization", &bearer)], String::new(),                      401),
        ("beside another",           vec![("authorization", &basic), ("authorization", &bearer)],  String::new(),                      401),
    ];
    for (why, headers, query, status) in cases {
        let mut request = weft.request(Method::GET, &format!("/api/v1/workspaces{query}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = send(request).await;
        assert_eq!(answer.status, status, "{why}: {answer:?}");
        if status == 401 {
            assert_refused(&answer, why);
        }
    }
    let body = json!({ "authorization": bearer, "access_token": token, "name": "smuggled" });
    assert_refused(&send(weft.request(Method::POST, "/api/v1/workspaces").json(&body)).await, "the body");

    // I20: a megabyte of it is not even read.
    let mut peer = Peer::connect(&weft).await;
    let long = "x".repeat(1 << 20);
    peer.send(format!("GET /api/v1/workspaces HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {long}\r\n\r\n"))
        .await;
    let answer = peer.answer().await.expect("an answer, and not a cut connection");
    assert_eq!(answer.status, 431, "{answer:?}");
    weft.stop().await;
}

/// I3, I9: a publishable key is public: exactly it, from its header, sends events and does nothing else.
#[tokio::test]
async fn a_publishable_key_counts_as_it_is_and_in_its_header() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let key = weft.publishable_key.as_str();
    let (short, suffixed, upper) = (&key[..key.len() - 1], format!("{key}0"), key.to_uppercase());
    let (listed, cookie) = (format!("{key}, {key}"), format!("x-meshes-publishable-key={key}"));
    let bearer = format!("Bearer {key}");
    let wrong = Forge { machine: &weft.machine, now: now() - 3_600 }.good();
    let expired = format!("Bearer {wrong}");
    let (basic, long) = (format!("Basic {}", STANDARD.encode("a:b")), "k".repeat(4_000));
    const KEY: &str = "x-meshes-publishable-key";
    #[rustfmt::skip]
    let cases: Vec<(&str, Headers<'_>, u16)> = vec![
        // why                              headers                                            status
        ("no key",                          vec![],                                            401),
        ("an empty key",                    vec![(KEY, "")],                                   401),
        ("an unknown key",                  vec![(KEY, "mesh_pub_v1_0123456789abcdef_0123456789abcdef")], 401),
        ("cut short",                       vec![(KEY, short)],                                401),
        ("suffixed",                        vec![(KEY, &suffixed)],                            401),
        ("in capitals",                     vec![(KEY, &upper)],                               401),
        ("twice in one header",             vec![(KEY, &listed)],                              401),
        ("two headers",                     vec![(KEY, key), (KEY, key)],                      401),
        ("very long",                       vec![(KEY, &long)],                                401),
        ("as a cookie",                     vec![("cookie", &cookie)],                         401),
        ("as a bearer token",               vec![("authorization", &bearer)],                  401),
        ("in another header",               vec![("x-publishable-key", key)],                  401),
        ("beside a token that has expired", vec![("authorization", &expired), (KEY, key)],     401),
        ("beside another scheme",           vec![("authorization", &basic), (KEY, key)],       201),
        ("alone",                           vec![(KEY, key)],                                  201),
    ];
    let mut accepted = Vec::new();
    for (why, headers, status) in cases {
        for path in ["/events", "/events/bulk"] {
            let event = json!({ "event": why, "payload": { "a": 1 }, KEY: key, "publishable_key": key });
            let body = if path == "/events" { event } else { json!([event]) };
            // The query says it every time: it never counts.
            let target = format!("/api/v1{path}?{KEY}={key}&publishable_key={key}");
            let mut request = weft.request(Method::POST, &target);
            for (name, value) in &headers {
                request = request.header(*name, *value);
            }
            let answer = send(request.json(&body)).await;
            match status {
                201 => {
                    assert_eq!(answer.status, 201, "{why}: {answer:?}");
                    accepted.push(why);
                }
                _ => assert_refused(&answer, why),
            }
        }
    }
    witness.assert_saw(&weft, &accepted).await;

    let sent = weft.emit(json!({ "event": "x", "payload": { "a": 1 } })).await;
    let event = sent.body["event"]["id"].as_str().expect("an id");
    let own = &weft.workspace;
    let connection = weft.webhook("http://127.0.0.1:9/").await;
    let rule = weft.rule("nothing", &connection).await;
    #[rustfmt::skip]
    let elsewhere = [
        ("GET",    "/workspaces".to_owned()),
        ("POST",   "/workspaces".to_owned()),
        ("GET",    format!("/workspaces/{own}")),
        ("PUT",    format!("/workspaces/{own}")),
        ("GET",    format!("/workspaces/{own}/connections")),
        ("GET",    format!("/workspaces/{own}/rules")),
        ("GET",    format!("/workspaces/{own}/events")),
        ("GET",    "/connections".to_owned()),
        ("POST",   "/connections".to_owned()),
        ("GET",    format!("/connections/{connection}")),
        ("PUT",    format!("/connections/{connection}")),
        ("PATCH",  format!("/connections/{connection}")),
        ("DELETE", format!("/connections/{connection}")),
        ("POST",   format!("/connections/{connection}/pause")),
        ("POST",   format!("/connections/{connection}/resume")),
        ("GET",    "/rules".to_owned()),
        ("POST",   "/rules".to_owned()),
        ("GET",    format!("/rules/{rule}")),
        ("PATCH",  format!("/rules/{rule}")),
        ("DELETE", format!("/rules/{rule}")),
        ("GET",    "/events".to_owned()),
        ("GET",    format!("/events/{event}")),
        ("GET",    format!("/events/{event}/payload")),
        ("POST",   format!("/events/{event}/cancel")),
        ("POST",   format!("/events/{event}/rules/{rule}/retry")),
        ("POST",   format!("/events/{event}/rules/{rule}/cancel")),
        ("GET",    format!("/events/{event}/rules/{rule}/attempts")),
        ("GET",    format!("/events/{event}/rules/{rule}/attempts/{event}")),
        ("GET",    format!("/events/{event}/rules/{rule}/attempts/{event}/response-details")),
    ];
    for (method, path) in elsewhere {
        let method: Method = method.parse().expect("a method");
        let request = weft.request(method.clone(), &format!("/api/v1{path}")).header(KEY, key);
        let answer = send(request.json(&json!({ "name": "taken over", "url": "http://127.0.0.1:9/" }))).await;
        assert_refused(&answer, &format!("{method} {path}"));
    }
    assert_eq!(weft.get(&format!("/rules/{rule}")).await.status, 200, "nothing was deleted");
    weft.stop().await;
}

/// I9: who is wrong too often is slowed down by address; who is right is never held back.
#[tokio::test]
async fn wrong_credentials_are_counted_by_source() {
    let weft = Weft::with(|config| {
        (config.auth.failures_per_minute, config.auth.failures_burst) = (1, 3);
    });
    let weft = weft.await;
    let ask = async |source: u8, bearer: &str| {
        let mut peer = Peer::from(&weft, [127, 0, 0, source].into()).await;
        peer.send(format!(
            "GET /api/v1/workspaces HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {bearer}\r\n\r\n"
        ))
        .await;
        peer.answer().await.expect("an answer")
    };
    for _ in 0..3 {
        assert_refused(&ask(2, "wrong").await, "so many are looked at");
    }
    // One a minute comes back: of these at most one.
    let answers = [ask(2, "wrong").await, ask(2, "wrong").await, ask(2, "wrong").await];
    let held: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(held.len() >= 2, "{answers:?}");
    for answer in held {
        answer.assert_error(429, "", "too often");
        let seconds: u32 = answer.header("retry-after").expect("when").parse().expect("seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    let right = weft.token();
    assert_eq!(ask(2, &right).await.status, 200, "who is right is not held back");
    assert_refused(&ask(3, "wrong").await, "another address has its own count");
    weft.stop().await;
}
