//! Doubles of the official clients: they refuse what those refuse, and say what those say, header by header.
//!
//! They speak HTTP by hand, since a client library adds headers that the official ones do not send.

use super::{Answer, Peer, Weft, contract::contract};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// Headers of a request, in their order.
type Headers = Vec<(String, String)>;

/// What Node's `fetch` adds to every request.
const RUNTIME: [(&str, &str); 5] = [
    ("accept-language", "*"),
    ("sec-fetch-mode", "cors"),
    ("user-agent", "node"),
    ("accept-encoding", "gzip, deflate"),
    ("connection", "keep-alive"),
];

/// Sends this and nothing else, on a connection of its own.
async fn say(weft: &Weft, method: &str, path: &str, headers: &Headers, body: Option<&str>) -> Answer {
    let host = weft.base.trim_start_matches("http://");
    let mut request = format!("{method} /api/v1{path} HTTP/1.1\r\nHost: {host}\r\n");
    headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    match body {
        Some(body) => request += &format!("content-length: {}\r\n\r\n{body}", body.len()),
        // As `fetch` and Go do: a POST without a body says so, other methods say nothing.
        None if ["POST", "PUT", "PATCH"].contains(&method) => request += "content-length: 0\r\n\r\n",
        None => request += "\r\n",
    }
    let mut peer = Peer::connect(weft).await;
    peer.send(request).await;
    let answer = peer.answer().await.expect("an answer");
    let target = format!("/api/v1{path}");
    let (method, path) = (method.parse().expect("a method"), target.split('?').next().expect("a path"));
    contract().assert_keeps(&method, path, &answer);
    answer
}

fn owned<const N: usize>(headers: [(&str, &str); N]) -> impl Iterator<Item = (String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Whether these are characters of base64url, at least so many.
fn is_base64url(text: &str, at_least: usize) -> bool {
    text.len() >= at_least && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// `^mesh_pub_([A-Za-z0-9\-.]+)_([A-Za-z0-9\-.]+)_([^_]+)$`
pub fn is_publishable_key(text: &str) -> bool {
    let parts: Option<Vec<&str>> = text.strip_prefix("mesh_pub_").map(|rest| rest.split('_').collect());
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    matches!(parts.as_deref(), Some([one, two, three])
        if ![one, two, three].iter().any(|part| part.is_empty()) && plain(one) && plain(two))
}

/// A token of this header and these claims, signed with HMAC-SHA256 and these bytes.
pub fn jwt(header: &Value, claims: &Value, secret: &[u8]) -> String {
    jwt_by::<Hmac<Sha256>>(header, claims, secret)
}

/// The same by another algorithm.
pub fn jwt_by<M: KeyInit + Mac>(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// A machine's credentials, as both management clients hold them.
#[derive(Clone)]
pub struct Credentials {
    pub organization: String,
    pub access_key: String,
    pub secret_key: String,
}

impl Credentials {
    /// The ones a server starts with.
    pub fn of(weft: &Weft) -> Self {
        let machine = &weft.machine;
        Self {
            organization: machine.organization_id.to_string(),
            access_key: machine.access_key.clone(),
            secret_key: machine.secret.expose().to_owned(),
        }
    }

    pub fn header(&self) -> Value {
        json!({ "alg": "HS256", "typ": "JWT", "kid": self.access_key })
    }

    /// The claims of a token that begins at this second since 1970 and lives for so many.
    pub fn claims(&self, iat: i64, life: i64) -> Value {
        let iss = format!("urn:meshes:m2m:{}", self.access_key);
        json!({ "org": self.organization, "iss": iss, "aud": "meshes-api", "iat": iat, "exp": iat + life })
    }

    /// Signed with the UTF-8 bytes of the secret.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        jwt(header, claims, self.secret_key.as_bytes())
    }

    /// A fresh one of 30 seconds, for one request.
    fn token(&self, weft: &Weft) -> String {
        self.sign(&self.header(), &self.claims(weft.seconds(), 30))
    }
}

/// `@mesheshq/events`.
pub struct NodeEvents<'w> {
    weft: &'w Weft,
    key: String,
}

impl<'w> NodeEvents<'w> {
    /// The constructor throws at a key of another form.
    pub fn new(weft: &'w Weft, key: &str) -> Result<Self, String> {
        is_publishable_key(key).then(|| Self { weft, key: key.to_owned() }).ok_or_else(|| key.to_owned())
    }

    /// With the publishable key that a server starts with.
    pub fn of(weft: &'w Weft) -> Self {
        Self::new(weft, &weft.publishable_key).expect("an issued key has the form that clients ask for")
    }

    pub async fn emit(&self, event: Value) -> Answer {
        Self::assert_valid(&event);
        self.send("/events", &event.to_string()).await
    }

    pub async fn emit_batch(&self, events: Value) -> Answer {
        let all = events.as_array().expect("a batch is an array");
        assert!((1..=100).contains(&all.len()), "the client sends from 1 to 100");
        all.iter().for_each(Self::assert_valid);
        self.send("/events/bulk", &events.to_string()).await
    }

    /// What the client would throw at without asking the server.
    fn assert_valid(event: &Value) {
        assert!(event["event"].as_str().is_some_and(|name| !name.trim().is_empty()), "{event}");
        let says = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(members) => !members.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        };
        assert!(event["payload"].as_object().is_some_and(|payload| payload.values().any(says)), "{event}");
    }

    /// The client's headers with any body, for what the client itself would not let through.
    pub async fn send(&self, path: &str, body: &str) -> Answer {
        let own = [
            ("X-Meshes-Client", "Meshes Events Client v1.0.0"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
            ("X-Meshes-Publishable-Key", self.key.as_str()),
        ];
        let headers = owned(own).chain(owned(RUNTIME)).collect();
        say(self.weft, "POST", path, &headers, Some(body)).await
    }
}

/// Headers that a caller of the management client cannot set.
const PROTECTED: [&str; 14] = [
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
    "transfer-encoding",
    "x-amz-date",
    "x-api-key",
    "x-amz-security-token",
    "x-amz-user-agent",
    "x-meshes-client",
    "x-meshes-publishable-key",
];

/// `@mesheshq/api`: a fresh token for each request, and a JSON content type even where there is no body.
#[derive(Clone)]
pub struct NodeManagement<'w> {
    weft: &'w Weft,
    pub credentials: Credentials,
    more: Headers,
}

impl<'w> NodeManagement<'w> {
    /// The constructor throws at credentials of another form.
    pub fn new(weft: &'w Weft, credentials: Credentials) -> Result<Self, &'static str> {
        let Credentials { organization, access_key, secret_key } = &credentials;
        let id = uuid::Uuid::try_parse(organization).ok();
        // A UUID of versions 1 to 5 and the usual variant.
        let versioned = |id: &uuid::Uuid| (1..=5).contains(&id.get_version_num());
        let usual = |id: &uuid::Uuid| id.get_variant() == uuid::Variant::RFC4122;
        if organization.len() != 36 || !id.is_some_and(|id| versioned(&id) && usual(&id)) {
            return Err("organization id");
        }
        if !access_key.strip_prefix("mk_").is_some_and(|rest| is_base64url(rest, 22)) {
            return Err("access key");
        }
        if !is_base64url(secret_key, 43) {
            return Err("secret key");
        }
        Ok(Self { weft, credentials, more: Vec::new() })
    }

    /// With the machine key that a server starts with.
    pub fn of(weft: &'w Weft) -> Self {
        Self::new(weft, Credentials::of(weft)).expect("issued credentials have the form that clients ask for")
    }

    /// With a header of the caller's own; one that is protected is dropped.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if !PROTECTED.contains(&name.to_lowercase().as_str()) {
            self.more.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Option<Value>>) -> Answer {
        self.request("POST", path, body.into()).await
    }

    pub async fn put(&self, path: &str, body: impl Into<Option<Value>>) -> Answer {
        self.request("PUT", path, body.into()).await
    }

    pub async fn patch(&self, path: &str, body: impl Into<Option<Value>>) -> Answer {
        self.request("PATCH", path, body.into()).await
    }

    pub async fn delete(&self, path: &str, body: impl Into<Option<Value>>) -> Answer {
        self.request("DELETE", path, body.into()).await
    }

    async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        // An object is made JSON, a text is sent as it is.
        let body = body.map(|body| body.as_str().map_or_else(|| body.to_string(), str::to_owned));
        self.request_as(&self.credentials.token(self.weft), method, path, body.as_deref()).await
    }

    /// With a token of the test's own.
    pub async fn request_as(&self, token: &str, method: &str, path: &str, body: Option<&str>) -> Answer {
        let bearer = format!("Bearer {token}");
        let own = [
            ("X-Meshes-Client", "Meshes API Client v1.0.0"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
            ("Authorization", bearer.as_str()),
        ];
        let headers = owned(own).chain(owned(RUNTIME)).chain(self.more.clone()).collect();
        say(self.weft, method, path, &headers, body).await
    }
}

/// `go-meshes`: no `Accept`, no `X-Meshes-Client`, and a content type only where there is a body.
pub enum Go<'w> {
    Management(&'w Weft, Credentials),
    Events(&'w Weft, String),
}

impl Go<'_> {
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let (weft, name, value) = match self {
            Self::Management(weft, credentials) => {
                (weft, "Authorization", format!("Bearer {}", credentials.token(weft)))
            }
            Self::Events(weft, key) => (weft, "X-Meshes-Publishable-Key", key.clone()),
        };
        let mut headers = vec![("User-Agent".to_owned(), "Go-http-client/1.1".to_owned())];
        headers.push((name.to_owned(), value));
        if body.is_some() {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        headers.push(("Accept-Encoding".to_owned(), "gzip".to_owned()));
        say(weft, method, path, &headers, body.map(Value::to_string).as_deref()).await
    }
}
