//! A server on the other end: where it is, who asks, and what it answers.

use crate::{Error, auth, config::Config};
use actors::{
    clock::Clock,
    domain::{ids::OrganizationId, secret::Secret},
};
use clap::Args;
use serde::Deserialize;
use std::{fmt, net::IpAddr, time::Duration};
use url::Url;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may say nothing.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// What a token for one request is good for, in seconds.
const TOKEN_SECONDS: i64 = 30;

/// The machine key to sign with.
#[derive(Args, Clone)]
pub struct Keys {
    /// The machine key's public half, mk_…
    #[arg(long, env = "WEFT_ACCESS_KEY", value_name = "KEY")]
    pub access_key: String,
    /// The machine key's secret half; better given as the variable, which others cannot see
    #[arg(long, env = "WEFT_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    pub secret_key: String,
    /// The organization the key belongs to
    #[arg(long, env = "WEFT_ORG_ID", value_name = "UUID")]
    pub org: OrganizationId,
}

impl Keys {
    /// A token good for so many seconds from now.
    pub fn token(&self, seconds: i64) -> String {
        let secret = Secret::new(self.secret_key.clone());
        auth::sign(&self.access_key, &secret, self.org, Clock::system().now(), seconds)
    }
}

/// Which server to ask, and as whom.
#[derive(Args, Clone)]
pub struct Reach {
    /// The server [default: where the configuration says that one listens on this machine]
    #[arg(long, env = "WEFT_SERVER", value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    keys: Keys,
}

/// A way to one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    base: String,
    keys: Keys,
}

/// What a server refused, as it said it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub body: String,
}

/// The body of a refusal.
#[derive(Default, Deserialize)]
struct Told {
    message: Option<String>,
    #[serde(default)]
    error: Details,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default)]
    data: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    param: String,
    msg: String,
}

impl fmt::Display for Refused {
    /// The message, and a line for each field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { message, error } = serde_json::from_str(&self.body).unwrap_or_default();
        let message = message.unwrap_or_else(|| "the server did not say why".to_owned());
        write!(f, "{} {}", self.status, super::show::plain(&message))?;
        for Field { param, msg } in error.data {
            write!(f, "\n  {}: {}", super::show::plain(&param), super::show::plain(&msg))?;
        }
        Ok(())
    }
}

impl Client {
    pub fn new(reach: Reach) -> Result<Self, Error> {
        let base = match reach.server {
            Some(server) => server,
            None => own_server(&Config::load(config_file().as_deref())?)?,
        };
        let wrong = |why: &str| Error::Told(format!("--server {base}: {why}, such as http://127.0.0.1:4100"));
        let url = Url::parse(&base).map_err(|_| wrong("must be a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("must be an http or https URL"));
        }
        // Fails only when a provider is there already, which then does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let http = http.connect_timeout(CONNECT_TIMEOUT).read_timeout(SILENCE_TIMEOUT).build();
        let http = http.map_err(|err| Error::Told(format!("cannot make requests: {}", cause(&err))))?;
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix("/api/v1").unwrap_or(base).to_owned();
        Ok(Self { http, base, keys: reach.keys })
    }

    /// A request to build on, signed. `path` begins at the server's root.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a row names a method that there is");
        let request = self.http.request(method, format!("{}{path}", self.base));
        request.bearer_auth(self.keys.token(TOKEN_SECONDS))
    }

    /// Sends it, and waits for the head of an answer of any status.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Error> {
        let told = |err: reqwest::Error| {
            let advice = if err.is_connect() { "; is it running there? `weft serve` starts one" } else { "" };
            Error::Told(format!("cannot reach {}: {}{advice}", self.base, cause(&err)))
        };
        request.send().await.map_err(told)
    }

    /// The rest of an answer.
    pub async fn text(&self, response: reqwest::Response) -> Result<String, Error> {
        response.text().await.map_err(|err| self.broken(&err))
    }

    pub fn broken(&self, err: &reqwest::Error) -> Error {
        Error::Told(format!("the answer of {} broke off: {}", self.base, cause(err)))
    }
}

/// The innermost reason, which is the one that tells something.
fn cause(err: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn config_file() -> Option<std::path::PathBuf> {
    std::env::var_os("WEFT_CONFIG").map(Into::into)
}

/// Where a server with this configuration listens, as this machine sees it.
fn own_server(config: &Config) -> Result<String, Error> {
    let mut address = config.listen;
    if address.port() == 0 {
        return Err(Error::Told("the configuration names no port; say --server URL".to_owned()));
    }
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
        address.set_ip(loopback.parse::<IpAddr>().expect("an address"));
    }
    Ok(format!("http://{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_its_message_and_a_line_a_field() {
        let body = r#"{"message":"name is required","error":{"name":"BadRequest","data":[{"param":"name","msg":"is required"},{"param":"a\u001b[2J","msg":"b\nc"}]}}"#;
        let refused = Refused { status: 400, body: body.to_owned() };
        let told = refused.to_string();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[..2], ["400 name is required", "  name: is required"]);
        assert!(lines.len() == 3 && !told.contains('\u{1b}'), "{told:?}");
        let refused = Refused { status: 502, body: "<html>".to_owned() };
        assert_eq!(refused.to_string(), "502 the server did not say why");
    }

    #[test]
    fn the_server_of_the_configuration_is_on_this_machine() {
        let at = |listen: &str| {
            let mut config = Config::defaults();
            config.listen = listen.parse().expect("an address");
            own_server(&config).ok()
        };
        assert_eq!(own_server(&Config::defaults()).ok(), Some("http://127.0.0.1:4100".to_owned()));
        assert_eq!(at("0.0.0.0:80"), Some("http://127.0.0.1:80".to_owned()));
        assert_eq!(at("[::]:80"), Some("http://[::1]:80".to_owned()));
        assert_eq!(at("10.0.0.7:80"), Some("http://10.0.0.7:80".to_owned()));
        assert_eq!(at("127.0.0.1:0"), None);
    }
}
