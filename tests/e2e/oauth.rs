//! Accounts that are connected in a browser: the way there and back, and everything that must not come of it.

use crate::support::{
    Browser, Vendor, Weft, acme,
    acme::{ENDLESS, KINDS, ROTATING},
    all_files, location, parameter, text, vendor,
};
use actors::engine::{Options, spec::Consent};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;
use weft::config::Config;

/// A server whose operator has an app at a vendor.
pub struct Acme {
    pub weft: Weft,
    pub vendor: Vendor,
    pub kind: &'static str,
}

impl Acme {
    pub async fn start(kind: &'static str) -> Self {
        Self::on(kind, |_| {}, |_| {}).await
    }

    pub async fn on(
        kind: &'static str,
        set: impl FnOnce(&mut Config),
        put: impl FnOnce(&mut Options),
    ) -> Self {
        let vendor = Vendor::start(acme::traits(kind)).await;
        let url = vendor.url();
        let set_up = |config: &mut Config| {
            acme::set_up(config, &url);
            set(config);
        };
        Self { weft: Weft::on(set_up, put).await, vendor, kind }
    }

    pub fn new_body(&self, name: &str) -> Value {
        json!({ "workspace": self.weft.workspace, "type": self.kind, "name": name })
    }

    /// The address that starts a consent.
    pub async fn begin(&self, body: Value) -> String {
        let begun = self.weft.post("/connections/oauth", body).await.answered(201, "a ticket");
        text(&begun["url"])
    }

    /// Connects an account; returns the connection's id.
    pub async fn connect(&self, name: &str) -> String {
        let url = self.begin(self.new_body(name)).await;
        Browser::default().follow(&url).await.page(200, "Connected", name);
        text(&self.named(name).await.expect("it is there")["id"])
    }

    /// Connects an account again.
    pub async fn connect_again(&self, id: &str) {
        let url = self.begin(json!({ "connection": id })).await;
        Browser::default().follow(&url).await.page(200, "is connected again", id);
    }

    pub async fn named(&self, name: &str) -> Option<Value> {
        let listed = self.weft.get("/connections").await.answered(200, "connections");
        let records = listed["records"].as_array().expect("a list").clone();
        records.into_iter().find(|connection| connection["name"] == name)
    }

    pub async fn connection(&self, id: &str) -> Value {
        self.weft.get(&format!("/connections/{id}")).await.answered(200, "a connection")
    }

    /// A rule that sends a message for each event of this name; returns its id.
    pub async fn rule(&self, event: &str, connection: &str) -> String {
        let body = json!({
            "workspace": self.weft.workspace, "event": event, "connection": connection,
            "metadata": { "action": "send" },
        });
        text(&self.weft.post("/rules", body).await.answered(201, "a rule")["rule"]["id"])
    }

    /// Sends an event about `to`; returns its id.
    pub async fn emit(&self, event: &str, to: &str) -> String {
        self.weft.send_event(event, json!({ "email": format!("{to}@a.example"), "nick": to })).await
    }

    /// Whom messages came for, in order.
    pub fn received(&self) -> Vec<String> {
        let tables = self.vendor.tables();
        let to = tables.messages.iter().map(|(_, body)| text(&body["to"]));
        to.map(|to| to.trim_end_matches("@a.example").to_owned()).collect()
    }

    /// Every secret there is by now.
    fn secrets(&self, browser: &Browser) -> Vec<String> {
        let mut secrets = self.vendor.tables().made.clone();
        secrets.extend(browser.cookies.iter().map(|(_, value)| value.clone()));
        secrets.push(vendor::CLIENT_SECRET.to_owned());
        secrets
    }
}

#[tokio::test]
async fn an_account_is_connected_in_a_browser_of_each_kind() {
    for kind in KINDS {
        let acme = Acme::start(kind).await;
        let begun = acme.weft.post("/connections/oauth", acme.new_body("Ours")).await;
        let begun = begun.answered(201, kind);
        let url = text(&begun["url"]);
        assert!(url.starts_with(&format!("{}/oauth/start?ticket=", acme.weft.base)), "{kind}: {url}");
        assert!(begun["expires_at"].is_string(), "{kind}: {begun}");

        let mut browser = Browser::default();
        let started = browser.get(&url).await;
        started.is_for_a_window(kind);
        let set = started.header("set-cookie").expect("a cookie").to_owned();
        for attribute in ["Path=/oauth", "Max-Age=600", "HttpOnly", "SameSite=Lax"] {
            assert!(set.contains(attribute), "{kind}: {set}");
        }
        let at_vendor = location(&started).expect("the vendor's page");
        assert!(at_vendor.starts_with(&format!("{}/authorize?", acme.vendor.url())), "{kind}: {at_vendor}");
        let is_rotating = kind == ROTATING;
        assert_eq!(parameter(&at_vendor, "prompt").as_deref(), is_rotating.then_some("consent"), "{kind}");
        assert_eq!(parameter(&at_vendor, "code_challenge").is_some(), is_rotating, "{kind}");
        let back = location(&browser.get(&at_vendor).await).expect("it is sent back");
        let answer = browser.get(&back).await;
        answer.page(200, "Acme: \u{201c}Ours\u{201d} is connected.", kind);
        assert!(browser.cookies.is_empty(), "{kind}: the cookie has done its work");

        let connection = acme.named("Ours").await.expect("it is there");
        assert_eq!((&connection["active"], &connection["type"]), (&json!(true), &json!(kind)));
        assert_eq!(connection["metadata"]["account_id"], "acct-7", "{kind}: {connection}");
        assert_eq!(connection["metadata"]["api_domain"], format!("{}/api", acme.vendor.url()), "{kind}");
        let id = text(&connection["id"]);
        let audit = acme.weft.get(&format!("/audit?subject={id}")).await.answered(200, kind);
        let lines = audit["records"].as_array().expect("a list").iter();
        let lines: Vec<_> = lines.map(|line| (text(&line["action"]), text(&line["actor"]["id"]))).collect();
        let by_us = |action: &str| (action.to_owned(), acme.weft.machine.access_key.clone());
        let done = ["connection.updated", "connection.authorized", "connection.created"];
        assert_eq!(lines, done.map(by_us), "{kind}: who started it did it");
        acme.rule("a.b", &id).await;
        let event = acme.emit("a.b", "ada").await;
        acme.weft.event_as(&event, "completed").await;
        assert_eq!(acme.received(), ["ada"], "{kind}");
        let actions = acme.weft.get(&format!("/connections/{id}/actions")).await.answered(200, kind);
        assert_eq!(actions["send"]["data"]["lists"][0]["name"], "All", "{kind}: {actions}");

        // Only what the vendor must be told is in any address, and nothing is anywhere in clear.
        let secrets = acme.secrets(&browser);
        let shown =
            [answer.text, connection.to_string(), actions.to_string(), browser.visited[..2].join(" ")];
        for secret in &secrets {
            assert!(!shown.iter().any(|text| text.contains(secret)), "{kind}: {secret} is shown");
        }
        for (file, held) in all_files(&acme.weft.config.data) {
            for secret in &secrets {
                assert!(!held.contains(secret), "{kind}: {file} holds {secret}");
            }
        }
        acme.weft.stop().await;
    }
}

#[tokio::test]
async fn who_says_no_is_told_so_and_nothing_is_connected() {
    let acme = Acme::start(ROTATING).await;
    acme.vendor.tables().says_no = Some(("access_denied", "Ada <b>said</b> no"));
    let mut browser = Browser::default();
    let url = acme.begin(acme.new_body("Ours")).await;
    let answer = browser.follow(&url).await;
    answer.page(403, "access_denied: Ada &lt;b&gt;said&lt;/b&gt; no", "denied");
    assert!(acme.named("Ours").await.is_none());
    let callback = browser.visited.last().expect("it was there").clone();
    browser.get(&callback).await.page(400, "This link is over", "a denial is taken once, too");
    assert_eq!(acme.vendor.tables().asked.len(), 0, "no token was asked for");
    acme.weft.stop().await;
}

#[tokio::test]
async fn what_comes_back_is_taken_once_and_in_its_own_browser() {
    let acme = Acme::start(ROTATING).await;
    let (mut browser, url) = (Browser::default(), acme.begin(acme.new_body("Ours")).await);
    let callback = browser.up_to_callback(&url).await;
    let (state, code) = (parameter(&callback, "state"), parameter(&callback, "code"));
    let (state, code) = (state.expect("a state"), code.expect("a code"));
    let base = format!("{}/oauth/callback", acme.weft.base);
    let hostile = "error=access_denied&error_description=call+0800+123";
    #[rustfmt::skip]
    let cases = [
        // why                              address                                              says
        ("no state",                        format!("{base}?code={code}"),                       "This link is over"),
        ("nothing at all",                  base.clone(),                                        "This link is over"),
        ("another state",                   format!("{base}?code={code}&state=x{state}"),        "This link is over"),
        ("two states",                      format!("{base}?code={code}&state={state}&state=x"), "This link is over"),
        ("words of a stranger",             format!("{base}?state=x&{hostile}"),                 "This link is over"),
        ("no cookie",                       callback.clone(),                                    "another browser"),
        ("words without a cookie",          format!("{base}?state={state}&{hostile}"),           "another browser"),
    ];
    for (why, address, says) in &cases {
        let answer = Browser::default().get(address).await;
        answer.page(400, says, why);
        assert!(!answer.text.contains("0800"), "{why}: a stranger's words are shown");
    }
    // Another consent's cookie, in a browser that has one.
    let mut other = Browser::default();
    let theirs = acme.begin(acme.new_body("Theirs")).await;
    other.up_to_callback(&theirs).await;
    other.get(&callback).await.page(400, "another browser", "another consent's cookie");
    let (name, _) = browser.cookies[0].clone();
    other.cookies[0].0 = name;
    other.get(&callback).await.page(400, "another browser", "that cookie by the right name");
    assert_eq!(acme.vendor.tables().asked.len(), 0, "no code was exchanged");

    browser.get(&callback).await.page(200, "Connected", "and then in its own");
    browser.get(&callback).await.page(400, "This link is over", "once");
    browser.get(&url).await.page(400, "This link is over", "nor is the ticket good any more");
    assert_eq!(acme.vendor.tables().asked.len(), 1);
    assert!(acme.named("Theirs").await.is_none());
    acme.weft.stop().await;
}

#[tokio::test]
async fn a_ticket_may_be_opened_again_and_the_last_window_counts() {
    let acme = Acme::start(ENDLESS).await;
    let url = acme.begin(acme.new_body("Ours")).await;
    let (mut first, mut second) = (Browser::default(), Browser::default());
    let callback = first.up_to_callback(&url).await;
    second.follow(&url).await.page(200, "Connected", "the last one");
    first.get(&callback).await.page(400, "This link is over", "an earlier one");
    Browser::default().get(&format!("{}x", acme.begin(acme.new_body("Other")).await)).await.page(
        400,
        "This link is over",
        "a ticket that nobody made",
    );
    acme.weft.stop().await;
}

/// Ten minutes for the ticket, and ten for the vendor's page.
#[tokio::test]
async fn what_comes_back_late_is_not_taken() {
    let acme = Acme::start(ENDLESS).await;
    let (mut browser, url) = (Browser::default(), acme.begin(acme.new_body("Ours")).await);
    pass(Duration::from_secs(590)).await;
    let callback = browser.up_to_callback(&url).await;
    pass(Duration::from_secs(601)).await;
    browser.get(&callback).await.page(400, "This link is over", "the state is late");
    let url = acme.begin(acme.new_body("Ours")).await;
    pass(Duration::from_secs(601)).await;
    browser.get(&url).await.page(400, "This link is over", "the ticket is late");
    assert!(acme.named("Ours").await.is_none());
    acme.weft.stop().await;
}

/// Time passes for the server, which lives in this runtime.
pub async fn pass(span: Duration) {
    tokio::time::pause();
    tokio::time::advance(span).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_vendor_that_gives_no_token_is_told_in_its_words_with_the_next_step() {
    let acme = Acme::start(ROTATING).await;
    #[rustfmt::skip]
    let cases = [
        // why                   status  answer                                                                  says                                    next
        ("it is unwell",         503,    json!({ "message": "come back <later>" }),                              "come back &lt;later&gt;",              "Try again in a few minutes."),
        ("the code is old",      400,    json!({ "error": "invalid_grant", "error_description": "too old" }),    "invalid_grant: too old",               "Start again"),
        ("our secret is wrong",  401,    json!({ "error": "invalid_client" }),                                   "invalid_client",                       "oauth.acme_rotating.client_secret"),
        ("no token",             200,    json!({ "ok": true }),                                                  "answered 200",                         "Try again"),
        ("a bad token",          200,    json!({ "access_token": "a\nb" }),                                      "a token that cannot be used",          "Try again"),
        ("a token of another",   200,    json!({ "access_token": "made-up" }),                                   "does not take the token that it gave", "Start again"),
    ];
    for (why, status, answer, says, next) in cases {
        acme.vendor.tables().script.push_back((status, answer));
        let url = acme.begin(acme.new_body("Ours")).await;
        let page = Browser::default().follow(&url).await;
        page.page(502, says, why);
        assert!(page.text.contains(next), "{why}: {}", page.text);
        assert!(acme.named("Ours").await.is_none(), "{why}");
    }
    acme.weft.stop().await;
}

/// Whoever started it must be let in still when it ends; and the name must be free.
#[tokio::test]
async fn what_changed_meanwhile_counts() {
    let acme = Acme::start(ENDLESS).await;
    let session = acme.weft.mint(json!({ "role": "admin", "external_user_id": "ada" })).await;
    let begin = async |name: &str| {
        let body = Some(acme.new_body(name));
        let begun = acme.weft.ask_in(&session, Method::POST, "/connections/oauth", body).await;
        text(&begun.answered(201, "a session may")["url"])
    };
    let (url, late) = (begin("Of a session").await, begin("Late").await);
    Browser::default().follow(&url).await.page(200, "Connected", "in a session");
    let made = acme.named("Of a session").await.expect("it is there");
    assert_eq!(made["created_by"], "ada");

    let mut browser = Browser::default();
    let callback = browser.up_to_callback(&late).await;
    let revoked = acme.weft.delete(&format!("/sessions/{}", text(&session["session_id"]))).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    browser.get(&callback).await.page(502, "may not connect accounts any more", "a revoked session");

    let urls = [acme.begin(acme.new_body("Twice")).await, acme.begin(acme.new_body("Twice")).await];
    Browser::default().follow(&urls[0]).await.page(200, "Connected", "the first");
    Browser::default().follow(&urls[1]).await.page(502, "Start again with another name", "the second");
    acme.weft.stop().await;
}

#[tokio::test]
async fn what_cannot_start_a_consent_is_refused_by_name() {
    let acme = Acme::start(ROTATING).await;
    acme.connect("Taken").await;
    let weft = &acme.weft;
    let webhook = weft.webhook("http://127.0.0.1:9/").await;
    let with = |name: &str, value: Value| {
        let mut body = acme.new_body("Ours");
        body[name] = value;
        body
    };
    let without = |name: &str| {
        let mut body = acme.new_body("Ours");
        body.as_object_mut().expect("an object").remove(name);
        body
    };
    let (long, fits) = ("é".repeat(129), "é".repeat(128));
    let nobody = uuid::Uuid::now_v7().to_string();
    #[rustfmt::skip]
    let cases = [
        // why                          body                                            status  field
        ("no workspace",                without("workspace"),                           400,    "workspace"),
        ("null",                        with("workspace", Value::Null),                 400,    "workspace"),
        ("a number",                    with("workspace", json!(7)),                    400,    "workspace"),
        ("no id",                       with("workspace", json!("mine")),               400,    "workspace"),
        ("empty",                       with("workspace", json!("")),                   400,    "workspace"),
        ("nobody's",                    with("workspace", json!(nobody)),               404,    ""),
        ("no type",                     without("type"),                                400,    "type"),
        ("null",                        with("type", Value::Null),                      400,    "type"),
        ("a list",                      with("type", json!([])),                        400,    "type"),
        ("an unknown type",             with("type", json!("fax")),                     400,    "type"),
        ("no consent there",            with("type", json!("webhook")),                 400,    "type"),
        ("no name",                     without("name"),                                400,    "name"),
        ("null",                        with("name", Value::Null),                      400,    "name"),
        ("a number",                    with("name", json!(1)),                         400,    "name"),
        ("empty",                       with("name", json!("")),                        400,    "name"),
        ("too long",                    with("name", json!(long)),                      400,    "name"),
        ("markup",                      with("name", json!("<b>")),                     400,    "name"),
        ("a name that is taken",        with("name", json!("Taken")),                   409,    ""),
        ("both ways",                   with("connection", json!(webhook)),             400,    "workspace"),
        ("no id of a connection",       json!({ "connection": "mine" }),                400,    "connection"),
        ("a number",                    json!({ "connection": 7 }),                     400,    "connection"),
        ("nobody's connection",         json!({ "connection": nobody }),                404,    ""),
        ("no consent there",            json!({ "connection": webhook }),               400,    "connection"),
        ("nothing",                     json!({}),                                      400,    "workspace"),
    ];
    for (why, body, status, field) in cases {
        weft.post("/connections/oauth", body).await.assert_error(status, field, why);
    }
    weft.post("/connections/oauth", with("name", json!(fits))).await.answered(201, "at the limit");
    weft.post("/connections/oauth", json!([])).await.assert_error(400, "", "a list");
    acme.weft.stop().await;
}

#[tokio::test]
async fn without_an_app_it_is_said_what_to_set() {
    let acme = Acme::on(ROTATING, |config| drop(config.oauth.remove(ROTATING)), |_| {}).await;
    let answer = acme.weft.post("/connections/oauth", acme.new_body("Ours")).await;
    answer.assert_error(422, "type", "no app");
    assert!(answer.message().contains("oauth.acme_rotating.client_id"), "{}", answer.message());
    acme.weft.stop().await;
}

/// Over the API a token can be pasted; without one it is said how to go on.
#[tokio::test]
async fn a_token_may_be_pasted_instead() {
    let acme = Acme::start(ENDLESS).await;
    let body = |metadata: Value| {
        let mut body = acme.new_body("Pasted");
        body["metadata"] = metadata;
        body
    };
    let answer = acme.weft.post("/connections", body(json!({}))).await;
    answer.assert_error(400, "metadata.access_token", "no token");
    for way in ["paste one", "connect the account in a browser", "POST /api/v1/connections/oauth"] {
        assert!(answer.message().contains(way), "{way}: {}", answer.message());
    }
    let refused = acme.weft.post("/connections", body(json!({ "access_token": "wrong-token" }))).await;
    refused.assert_error(422, "", "a wrong token");
    acme.vendor.tables().access.insert("pasted-token".to_owned());
    let made = acme.weft.post("/connections", body(json!({ "access_token": "pasted-token" }))).await;
    let made = made.answered(201, "a pasted token")["connection"].clone();
    let id = text(&made["id"]);
    assert_eq!(made["metadata"]["access_token"], "••••••••");

    // A consent takes its place.
    acme.rule("a.b", &id).await;
    acme.connect_again(&id).await;
    acme.vendor.tables().access.remove("pasted-token");
    let event = acme.emit("a.b", "ada").await;
    acme.weft.event_as(&event, "completed").await;
    assert_eq!(acme.connection(&id).await["metadata"].get("access_token"), None);

    // What the account told of itself nobody need send back, nor can change; other settings can be.
    let body = json!({ "name": "Renamed", "metadata": { "note": "ours", "account_id": "somebody-elses" } });
    let changed = acme.weft.put(&format!("/connections/{id}"), body).await.answered(200, "changed");
    assert_eq!(changed["metadata"]["account_id"], "acct-7", "{changed}");
    assert_eq!(changed["metadata"]["note"], "ours", "{changed}");
    acme.weft.stop().await;
}

/// Every destination that is connected by consent can be asked for one as it declares it.
#[tokio::test]
async fn what_destinations_declare_can_be_asked_for() {
    for destination in actors::destinations::ALL {
        let spec = destination.spec();
        let Some(Consent { authorize, token, scopes, separator, .. }) = spec.consent else {
            continue;
        };
        for url in [authorize, token] {
            let url = Url::parse(url).unwrap_or_else(|err| panic!("{}: {url}: {err}", spec.kind));
            assert_eq!(url.scheme(), "https", "{}", spec.kind);
        }
        assert!(scopes.iter().all(|scope| !scope.contains(*separator)), "{}", spec.kind);
    }
}
