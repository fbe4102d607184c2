//! `weft mcp`: the server's tools for a client that starts its servers as processes.
//!
//! A line in is a message to `/mcp`, a line out its answer. Each request is signed anew, since a token is
//! good for a minute and such clients run for days; without it they would have to sign by themselves.

use super::client::Client;
use crate::{Error, mcp};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, Write as _},
    sync::Arc,
};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

/// Messages that are asked about at a time; more wait in the pipe.
const AT_A_TIME: usize = 16;
const VERSION: &str = "mcp-protocol-version";
const PARSE_ERROR: i64 = -32_700;
const SERVER_ERROR: i64 = -32_000;

/// Answers messages until there are no more.
pub async fn run(client: Client) -> Result<(), Error> {
    let (sender, mut lines) = mpsc::channel(AT_A_TIME);
    // A thread, because reading standard input cannot be given up.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let version = Arc::new(Mutex::new(None));
    let mut asking = JoinSet::new();
    while let Some(line) = lines.recv().await {
        if line.trim().is_empty() {
            continue;
        }
        while asking.len() >= AT_A_TIME {
            asking.join_next().await;
        }
        let (client, version) = (client.clone(), version.clone());
        asking.spawn(async move {
            if let Some(answer) = answer(&client, &version, line).await {
                let mut out = std::io::stdout().lock();
                let written = out.write_all(format!("{answer}\n").as_bytes()).and_then(|()| out.flush());
                if let Err(err) = written {
                    tracing::debug!(%err, "nobody reads the answers");
                }
            }
        });
    }
    while asking.join_next().await.is_some() {}
    Ok(())
}

/// The line that answers a message, if it asks for one.
async fn answer(client: &Client, version: &Mutex<Option<String>>, line: String) -> Option<String> {
    let Ok(message) = serde_json::from_str::<Value>(&line) else {
        return Some(error(&Value::Null, PARSE_ERROR, "not a line of JSON"));
    };
    let (method, id) = (message["method"].as_str().unwrap_or_default(), message.get("id").cloned());
    let of_its_own = message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
    let spoken = match of_its_own {
        Some(own) => Some(own.to_owned()),
        None if method == "initialize" => None,
        None => version.lock().await.clone(),
    };
    let name = message["params"]["name"].as_str().map(str::to_owned);
    let mut request = client.request("POST", mcp::PATH).header(CONTENT_TYPE, "application/json");
    request = request.header(ACCEPT, "application/json, text/event-stream");
    for (header, value) in [(VERSION, spoken), ("mcp-method", Some(method.to_owned())), ("mcp-name", name)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            request = request.header(header, value);
        }
    }
    let refused = |text: &str| {
        let id = id.as_ref()?;
        Some(if method == "tools/call" {
            let content = json!([{ "type": "text", "text": text }]);
            json!({ "jsonrpc": "2.0", "id": id, "result": { "content": content, "isError": true } })
                .to_string()
        } else {
            error(id, SERVER_ERROR, text)
        })
    };
    let response = match client.send(request.body(line)).await {
        Ok(response) => response,
        Err(err) => return refused(&err.to_string()),
    };
    let status = response.status();
    let body = match client.text(response).await {
        Ok(body) => body,
        Err(err) => return refused(&err.to_string()),
    };
    let told: Value = serde_json::from_str(&body).unwrap_or_default();
    if told.get("jsonrpc").is_none() {
        return if status.is_success() { None } else { refused(&mcp::refusal(status.as_u16(), &body)) };
    }
    if let Some(agreed) = told["result"]["protocolVersion"].as_str() {
        *version.lock().await = Some(agreed.to_owned());
    }
    Some(body.replace(['\n', '\r'], " "))
}

fn error(id: &Value, code: i64, message: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string()
}
