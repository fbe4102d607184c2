//! A server in a process of its own, whose every word can be looked at.

use super::{Answer, Process, http_client, send, text};
use actors::{
    clock::Clock,
    domain::{ids::OrganizationId, secret::Secret},
};
use reqwest::Method;
use serde_json::Value;
use std::path::Path;

/// A server in a process of its own, so that all it writes can be looked at.
pub struct Operated {
    pub process: Process,
    pub base: String,
    /// What `weft init` told.
    pub made: Value,
    pub http: reqwest::Client,
}

impl Operated {
    /// Loopback may be reached, plain http too; what failed is not tried again soon.
    pub async fn start(data: &Path, variables: &[(&str, &str)]) -> Self {
        let data = data.display().to_string();
        // Small files, so that all of them can be read.
        let small = ("WEFT_STORE__SEGMENT_BYTES", "1048576");
        let exit = Process::start(&["init", "--json", "--data", &data], &[small]).wait().await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let made: Value = serde_json::from_str(&exit.lines.join("\n")).expect("JSON");
        let flags =
            ["serve", "--data", &data, "--listen", "127.0.0.1:0", "--log-format", "json", "--allow-http"];
        let reach = ["--outbound-allow", "127.0.0.0/8", "--retry-schedule", "1h"];
        let variables = [&[small, ("WEFT_LOG", "debug")], variables].concat();
        let process = Process::start(&[&flags[..], &reach].concat(), &variables);
        let base = process.base().await;
        Self { process, base, made: made["orgs"][0].clone(), http: http_client() }
    }

    pub fn secret_key(&self) -> String {
        text(&self.made["secret_key"])
    }

    pub fn token(&self) -> String {
        let organization: OrganizationId = text(&self.made["org_id"]).parse().expect("an id");
        let secret = Secret::new(self.secret_key());
        weft::auth::sign(&text(&self.made["access_key"]), &secret, organization, Clock::system().now(), 30)
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request =
            self.http.request(method, format!("{}/api/v1{path}", self.base)).bearer_auth(self.token());
        send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }
}

/// All files below a directory, with all they hold; what is no text does not matter for what is.
pub fn all_files(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("it can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            let bytes = std::fs::read(&path).expect("it can be read");
            found.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found
}
