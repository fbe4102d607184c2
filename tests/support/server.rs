//! The real server in this process, with one organization and one workspace to start with.

use super::contract::contract;
use actors::{
    clock::Clock,
    domain::{ids::OrganizationId, secret::Secret},
    engine::{Engine, MachineKeyClear, Options},
};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use weft::{Server, config::Config};

/// The key that seals secrets in tests.
pub const MASTER_KEY: [u8; 32] = [7; 32];

/// A server at work on a data directory of its own. Loopback may be reached, plain http too, and retries are quick.
pub struct Weft {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    pub machine: MachineKeyClear,
    /// The workspace it starts with.
    pub workspace: String,
    pub publishable_key: String,
    pub config: Config,
    clock: Clock,
    server: Server,
    http: reqwest::Client,
    data: TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `Null` where the body was not JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// The one header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header is text"))
    }

    /// Fails the test unless this is an error of this status, told as all errors are, that names
    /// the field `param`, or none where that is empty.
    pub fn assert_error(&self, status: u16, param: &str, why: &str) {
        let (body, text) = (&self.body, &self.text);
        assert_eq!(self.status, status, "{why}: {text}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{why}");
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.len() > 5 && message.lines().count() == 1, "{why}: {text}");
        assert_eq!(body["error"]["message"], message, "{why}: {text}");
        let name = body["error"]["name"].as_str().unwrap_or_default();
        assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{why}: {text}");
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"), "{why}: {text}");
        let data = &body["error"]["data"];
        assert_eq!(data[0]["param"].as_str().unwrap_or_default(), param, "{why}: {text}");
        assert!(
            param.is_empty() || data[0]["msg"].as_str().is_some_and(|msg| !msg.is_empty()),
            "{why}: {text}"
        );
        for leak in [env!("CARGO_MANIFEST_DIR"), "panicked", "RUST_BACKTRACE", ".rs:"] {
            assert!(!text.contains(leak), "{why}: it tells of our inside: {text}");
        }
    }
}

impl Weft {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts with settings of the test's own.
    pub async fn with(set: impl FnOnce(&mut Config)) -> Self {
        Self::on(set, |_| {}).await
    }

    /// The same on an engine with something of the test's own in it, such as a disk that fails.
    /// That is gone after a [`Self::restart`].
    pub async fn on(set: impl FnOnce(&mut Config), put: impl FnOnce(&mut Options)) -> Self {
        Self::at(Clock::system(), set, put).await
    }

    /// The same by a clock of the test's own.
    pub async fn at(clock: Clock, set: impl FnOnce(&mut Config), put: impl FnOnce(&mut Options)) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut config = Config::defaults();
        config.data = data.path().join("data");
        config.listen = ([127, 0, 0, 1], 0).into();
        config.outbound_allow = vec!["127.0.0.0/8".parse().expect("a network")];
        config.allow_http = true;
        config.retry_schedule = "20ms*3".parse().expect("a schedule");
        config.store.segment_bytes = 1 << 20;
        set(&mut config);
        config.check().expect("it can work");
        let mut options = weft::engine_options(&config, MASTER_KEY, clock.clone());
        put(&mut options);
        weft::telemetry::metrics();
        let engine = Engine::start(options).await.expect("it starts");
        let server = weft::serve_engine(&config, engine, clock.clone()).await.expect("it serves");
        let engine = server.engine();
        let organization = engine.create_organization("Tests").await.expect("it is made").id;
        let machine = engine.create_machine_key(organization).await.expect("it is made");
        let (workspace, key) = workspace(engine, organization, "tests").await;
        let base = format!("http://{}", server.address());
        let http = http_client();
        Self { base, machine, workspace, publishable_key: key, config, clock, server, http, data }
    }

    pub fn engine(&self) -> &Engine {
        self.server.engine()
    }

    /// One more workspace of the organization it starts with, and its publishable key.
    pub async fn another_workspace(&self, name: &str) -> (String, String) {
        workspace(self.engine(), self.machine.organization_id, name).await
    }

    /// Another organization with a workspace: its machine key, workspace and publishable key.
    pub async fn stranger(&self) -> (MachineKeyClear, String, String) {
        let organization = self.engine().create_organization("Strangers").await.expect("it is made").id;
        let machine = self.engine().create_machine_key(organization).await.expect("it is made");
        let (workspace, key) = workspace(self.engine(), organization, "strangers").await;
        (machine, workspace, key)
    }

    /// Ends well, and stops on the same data what was begun.
    pub async fn stop(self) {
        self.server.shut_down().await.expect("it ends well");
    }

    /// Ends well and starts again on the same data.
    pub async fn restart(self) -> Self {
        let Self { machine, workspace, publishable_key, config, clock, server, http, data, .. } = self;
        server.shut_down().await.expect("it ends well");
        let server = weft::serve(&config, MASTER_KEY, clock.clone()).await.expect("it starts");
        let base = format!("http://{}", server.address());
        Self { base, machine, workspace, publishable_key, config, clock, server, http, data }
    }

    /// A machine token of the organization it starts with.
    pub fn token(&self) -> String {
        self.token_of(&self.machine)
    }

    /// A machine token of any key, by the server's clock.
    pub fn token_of(&self, machine: &MachineKeyClear) -> String {
        let MachineKeyClear { access_key, organization_id, secret, .. } = machine;
        weft::auth::sign(access_key, secret, *organization_id, self.clock.wall(), 30)
    }

    /// Seconds since 1970 by the server's clock, as tokens have them.
    pub fn seconds(&self) -> i64 {
        self.clock.wall().0.div_euclid(1_000)
    }

    /// Asks as the machine. `path` is below `/api/v1`.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_as(&self.token(), method, path, body).await
    }

    /// Asks with this bearer token.
    pub async fn ask_as(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request(method, &format!("/api/v1{path}")).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, None).await
    }

    /// Sends one event, or with an array a bulk, with the publishable key.
    pub async fn emit(&self, body: Value) -> Answer {
        let path = if body.is_array() { "/api/v1/events/bulk" } else { "/api/v1/events" };
        let request = self.request(Method::POST, path);
        send(request.header("x-meshes-publishable-key", &self.publishable_key).json(&body)).await
    }

    /// Sends these bytes as one event, or with a path of its own as what belongs there, with the publishable key.
    pub async fn emit_bytes(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.request(Method::POST, &format!("/api/v1{path}"));
        let request = request.header("x-meshes-publishable-key", &self.publishable_key);
        send(request.header("content-type", "application/json").body(body)).await
    }

    /// The names of all events on record in the workspace, oldest first. A connection of its own asks.
    pub async fn events(&self) -> Vec<String> {
        let (http, mut names, mut cursor) = (http_client(), Vec::new(), String::new());
        loop {
            let url = format!("{}/api/v1/workspaces/{}/events?limit=200{cursor}", self.base, self.workspace);
            let page = send(http.get(url).bearer_auth(self.token())).await;
            let records = page.body["records"].as_array().unwrap_or_else(|| panic!("{page:?}"));
            let name = |record: &Value| record["event"].as_str().expect("a name").to_owned();
            names.extend(records.iter().map(name));
            let Some(next) = page.body["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        names.reverse();
        names
    }

    /// A request to build on, to any path of the server.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Makes a webhook connection to `url`, with what else its settings need; returns its id.
    pub async fn webhook_with(&self, url: &str, mut settings: Value, policy: Value) -> String {
        settings["url"] = url.into();
        settings["skip_test"] = true.into();
        let name = format!("hook {}", uuid::Uuid::new_v4());
        let body = json!({ "workspace": self.workspace, "type": "webhook", "name": name, "metadata": settings, "policy": policy });
        let made = self.post("/connections", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["connection"]["id"].as_str().expect("an id").to_owned()
    }

    /// Makes a webhook connection to `url`; returns its id.
    pub async fn webhook(&self, url: &str) -> String {
        self.webhook_with(url, json!({}), json!({})).await
    }

    /// Makes a rule that sends events of this name to the connection; returns its id.
    pub async fn rule(&self, event: &str, connection: &str) -> String {
        self.rule_with(json!({ "event": event, "connection": connection })).await
    }

    /// Makes a webhook rule from what is not usual; returns its id.
    pub async fn rule_with(&self, mut body: Value) -> String {
        body["workspace"] = self.workspace.as_str().into();
        body["metadata"] = json!({ "action": "send_webhook" });
        let made = self.post("/rules", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["rule"]["id"].as_str().expect("an id").to_owned()
    }
}

/// Sends a request and reads all of the answer, which must be one that the API's document declares.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let (client, request) = request.build_split();
    let request = request.expect("a request");
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("the answer is text");
    let answer = Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text };
    contract().assert_keeps(&method, &path, &answer);
    answer
}

/// A client that reaches loopback and nothing else would be asked of it.
pub fn http_client() -> reqwest::Client {
    // Fails only when a provider is there already, which then does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
    client.redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

/// A machine token, good for half a minute.
pub fn token(machine: &MachineKeyClear) -> String {
    let MachineKeyClear { access_key, organization_id, secret, .. } = machine;
    sign(access_key, secret, *organization_id)
}

fn sign(access_key: &str, secret: &Secret, organization: OrganizationId) -> String {
    weft::auth::sign(access_key, secret, organization, Clock::system().now(), 30)
}

async fn workspace(engine: &Engine, organization: OrganizationId, name: &str) -> (String, String) {
    let made = engine.create_workspace(organization, name.to_owned(), None).await;
    let (workspace, key) = made.expect("it is made");
    (workspace.id.to_string(), key.public_key)
}
