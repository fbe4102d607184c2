//! A place with data on it, and the `weft` command run there as an operator runs it.

use super::{Answer, Exit, Process, http_client, send};
use actors::{clock::Clock, domain::secret::Secret, engine::MachineKeyClear};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An organization, exactly as `weft init --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub org_id: String,
    pub access_key: String,
    pub secret_key: String,
    pub workspaces: Vec<AccountWorkspace>,
}

/// See [`Account`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountWorkspace {
    pub id: String,
    pub name: String,
    pub publishable_key: String,
}

impl Account {
    /// One that was made in this process.
    pub fn of(machine: &MachineKeyClear, workspace: &str, publishable_key: &str) -> Self {
        let workspace = AccountWorkspace {
            id: workspace.to_owned(),
            name: "tests".to_owned(),
            publishable_key: publishable_key.to_owned(),
        };
        Self {
            org_id: machine.organization_id.to_string(),
            access_key: machine.access_key.clone(),
            secret_key: machine.secret.expose().to_owned(),
            workspaces: vec![workspace],
        }
    }

    /// A machine token, good for half a minute.
    pub fn token(&self) -> String {
        let organization = self.org_id.parse().expect("an organization's id");
        let secret = Secret::new(self.secret_key.clone());
        weft::auth::sign(&self.access_key, &secret, organization, Clock::system().now(), 30)
    }
}

/// What `weft init --json` prints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    orgs: Vec<Account>,
}

/// Reads what `weft init --json` printed.
pub fn accounts(lines: &[String]) -> Vec<Account> {
    let made: Made = serde_json::from_str(&printed(lines)).expect("what init prints is JSON of this form");
    made.orgs
}

/// The JSON a command printed, without its log, each line of which is a document of its own.
fn printed(lines: &[String]) -> String {
    lines.iter().filter(|line| !line.starts_with("{\"")).cloned().collect::<Vec<_>>().join("\n")
}

/// A data directory with organizations on it, and the variables every command there is run with.
/// Loopback may be reached, plain http too, retries are quick and segments small.
pub struct Place {
    pub accounts: Vec<Account>,
    data: PathBuf,
    variables: Vec<(String, String)>,
    // Gone when this is.
    _dir: TempDir,
}

impl Place {
    /// Makes organizations with `weft init`.
    pub async fn new(organizations: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        Self::at(dir, data, organizations).await
    }

    /// The same with the data somewhere of the test's own; `dir` is kept until the end.
    pub async fn at(dir: TempDir, data: PathBuf, organizations: u32) -> Self {
        let key = dir.path().join("master.key");
        let (data_text, key) = (data.display().to_string(), key.display().to_string());
        let variables = [
            ("WEFT_DATA", &*data_text),
            ("WEFT_MASTER_KEY_FILE", &*key),
            ("WEFT_LISTEN", "127.0.0.1:0"),
            ("WEFT_LOG_FORMAT", "json"),
            ("WEFT_OUTBOUND_ALLOW", "127.0.0.0/8"),
            ("WEFT_ALLOW_HTTP", "true"),
            ("WEFT_RETRY_SCHEDULE", "100ms*100"),
            ("WEFT_STORE__SEGMENT_BYTES", "1048576"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let mut place = Self { accounts: Vec::new(), data, variables, _dir: dir };
        if organizations > 0 {
            let made = place.run(&["init", "--json", "--organizations", &organizations.to_string()]).await;
            assert_eq!(made.code, Some(0), "{made:?}");
            place.accounts = accounts(&made.lines);
        }
        place
    }

    /// Sets a variable for the commands from here on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub fn unset(&mut self, name: &str) {
        self.variables.retain(|(set, _)| set != name);
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        Process::start(arguments, &variables)
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Exit {
        self.start(arguments).wait().await
    }

    /// Starts the server, and waits until it serves.
    pub async fn serve(&self) -> Served {
        let process = self.start(&["serve"]);
        let base = process.base().await;
        Served { process, base }
    }

    /// What `weft verify --json` finds, and how it exits.
    pub async fn verify(&self) -> (Option<i32>, Value) {
        let exit = self.run(&["verify", "--json"]).await;
        let found = serde_json::from_str(&printed(&exit.lines));
        (exit.code, found.unwrap_or_else(|err| panic!("{err}: {exit:#?}")))
    }
}

/// A server process that answers.
pub struct Served {
    pub process: Process,
    /// `http://127.0.0.1:PORT`
    pub base: String,
}

impl Served {
    /// Asks it to end, and expects it to end well.
    pub async fn stop(self) -> Vec<String> {
        self.process.terminate();
        let exit = self.process.wait().await;
        assert_eq!(exit.code, Some(0), "{exit:#?}");
        exit.lines
    }
}

/// One organization's way to a server.
#[derive(Clone)]
pub struct Caller {
    pub base: String,
    pub account: Account,
    http: reqwest::Client,
}

impl Caller {
    pub fn new(base: &str, account: &Account) -> Self {
        Self { base: base.to_owned(), account: account.clone(), http: http_client() }
    }

    pub fn workspace(&self) -> &AccountWorkspace {
        &self.account.workspaces[0]
    }

    /// A request to build on, to any path of the server.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Asks as the machine. `path` is below `/api/v1`.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method, &format!("/api/v1{path}")).bearer_auth(self.account.token());
        send(if let Some(body) = body { request.json(&body) } else { request }).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Sends one event, or with an array a bulk, with the publishable key.
    pub async fn emit(&self, body: Value) -> Answer {
        let path = if body.is_array() { "/api/v1/events/bulk" } else { "/api/v1/events" };
        let request = self.request(Method::POST, path);
        send(request.header("x-meshes-publishable-key", &self.workspace().publishable_key).json(&body)).await
    }

    /// Sends one event that is accepted; returns its id.
    pub async fn accepted(&self, body: Value) -> String {
        let answer = self.emit(body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["event"]["id"].as_str().expect("an id").to_owned()
    }

    /// Makes a webhook connection to `url`, with what else its settings need; returns its id.
    pub async fn webhook_with(&self, url: &str, mut settings: Value, policy: Value) -> String {
        settings["url"] = url.into();
        settings["skip_test"] = true.into();
        let name = format!("hook {}", uuid::Uuid::new_v4());
        let workspace = &self.workspace().id;
        let body = json!({ "workspace": workspace, "type": "webhook", "name": name, "metadata": settings, "policy": policy });
        let made = self.post("/connections", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["connection"]["id"].as_str().expect("an id").to_owned()
    }

    /// Makes a webhook connection to `url` and a rule that sends events of this name there; returns the connection's id.
    pub async fn route(&self, event: &str, url: &str) -> String {
        let connection = self.webhook_with(url, json!({}), json!({})).await;
        self.rule(event, &connection).await;
        connection
    }

    /// Makes a rule that sends events of this name to the connection; returns its id.
    pub async fn rule(&self, event: &str, connection: &str) -> String {
        let workspace = &self.workspace().id;
        let body = json!({
            "workspace": workspace, "event": event, "connection": connection, "metadata": { "action": "send_webhook" },
        });
        let made = self.post("/rules", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["rule"]["id"].as_str().expect("an id").to_owned()
    }

    /// The event once it is completed.
    pub async fn completed(&self, event: &str) -> Value {
        let path = format!("/events/{event}");
        super::until("the event is completed", async || {
            let shown = self.get(&path).await.body;
            (shown["status"] == "completed").then_some(shown)
        })
        .await
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> String {
        send(self.request(Method::GET, "/metrics")).await.text
    }
}
