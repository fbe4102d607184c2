//! The settings of a webhook connection: read once, strictly, with every fault named.
//!
//! `{"url": ..}` alone is enough. An empty text and `null` are as good as absent, because forms
//! send them. Unknown keys are refused: a misspelled one would leave a customer unauthenticated.

use super::{
    FieldError, MASK,
    signing::{HmacAlgorithm, standard_key},
};
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Where the HMAC goes unless the connection says otherwise.
pub const SIGNATURE_HEADER: &str = "X-Meshes-Signature";

/// Static headers a connection may have.
pub const HEADERS_MAX: usize = 5;

/// Secrets that may sign side by side.
pub const STANDARD_SECRETS_MAX: usize = 5;

/// The longest header value, secret, user name or token.
pub const VALUE_BYTES_MAX: usize = 1_024;

const HEADER_NAME_BYTES_MAX: usize = 128;

/// Set by us, by HTTP or by the payload format; and names that start like ours.
const RESERVED: [&str; 13] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "content-type",
    "content-encoding",
    "authorization",
    "http2-settings",
];
const RESERVED_PREFIXES: [&str; 4] = ["proxy-", "x-meshes-", "x-weft-", "webhook-"];

const KEYS: [&str; 17] = [
    "url",
    "http_method",
    "payload_mode",
    "auth_scheme",
    "username",
    "password",
    "bearer_token",
    "auth_header_name",
    "auth_header_value",
    "signing",
    "hmac_enabled",
    "hmac_algorithm",
    "hmac_secret",
    "hmac_header",
    "standard_secrets",
    "headers",
    "skip_test",
];

/// A webhook connection's settings. No `Debug`: they hold secrets.
pub struct Settings {
    pub url: String,
    pub method: Method,
    /// The payload alone, the rest in headers.
    pub raw: bool,
    pub auth: Auth,
    pub signing: Signing,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub skip_test: bool,
    /// The settings as they are kept: as sent, in canonical spelling, without what is empty.
    pub kept: Map<String, Value>,
}

pub enum Auth {
    None,
    Basic { username: String, password: String },
    Bearer(String),
    Header(HeaderName, String),
}

pub enum Signing {
    None,
    Hmac { algorithm: HmacAlgorithm, secret: String, header: HeaderName },
    Standard(Vec<String>),
}

impl Settings {
    /// Reads all there is, with defaults where something is missing, and the first thing wrong with each.
    /// The settings are good if no error comes with them.
    pub fn read(map: &Map<String, Value>) -> (Self, Vec<FieldError>) {
        let mut reader = Reader { map, kept: Map::new(), errors: Vec::new(), names: HashSet::new() };
        for key in map.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            reader.fault(shown_key(key), "is not a setting of a webhook");
        }
        let url = reader.required("url");
        let method = match reader.choice("http_method", &["POST", "PUT", "PATCH"]) {
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            _ => Method::POST,
        };
        let raw = reader.choice("payload_mode", &["wrapped", "raw"]) == "raw";
        let auth = reader.auth();
        let signing = reader.signing();
        let headers = reader.headers();
        let skip_test = reader.flag("skip_test").unwrap_or(false);
        reader.keep_the_rest();
        let Reader { kept, mut errors, .. } = reader;
        let mut named = HashSet::new();
        errors.retain(|err| named.insert(err.param.clone()));
        (Self { url, method, raw, auth, signing, headers, skip_test, kept }, errors)
    }
}

/// Reads values one by one, and remembers what is kept and what is wrong.
struct Reader<'a> {
    map: &'a Map<String, Value>,
    kept: Map<String, Value>,
    errors: Vec<FieldError>,
    /// Header names in use, in lower case.
    names: HashSet<String>,
}

impl<'a> Reader<'a> {
    fn fault(&mut self, param: impl Into<String>, msg: impl Into<String>) {
        self.errors.push(FieldError::new(param, msg));
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = self.value(key)?;
        let text = value.as_str();
        match text {
            None => self.fault(key, "must be a string"),
            Some(text) if text.starts_with(MASK) => self.fault(key, "must be sent, because none is stored"),
            Some(text) => drop(self.kept.insert(key.to_owned(), Value::from(text))),
        }
        text
    }

    fn required(&mut self, key: &str) -> String {
        if self.value(key).is_none() {
            self.fault(key, "is required");
        }
        self.text(key).unwrap_or_default().to_owned()
    }

    /// A required text that a header can carry.
    fn header_credential(&mut self, key: &str) -> String {
        let text = self.required(key);
        self.header_value(key, &text);
        text
    }

    /// A text short enough and without control characters.
    fn plain(&mut self, key: &str, text: String) -> String {
        if text.len() > VALUE_BYTES_MAX {
            self.fault(key, format!("must be at most {VALUE_BYTES_MAX} bytes"));
        }
        if text.chars().any(char::is_control) {
            self.fault(key, "must not hold control characters");
        }
        text
    }

    /// One of the options, in any case; the first by default.
    fn choice(&mut self, key: &str, options: &'static [&'static str]) -> &'static str {
        let Some(text) = self.text(key) else { return options[0] };
        match options.iter().find(|option| option.eq_ignore_ascii_case(text)) {
            Some(option) => {
                self.kept.insert(key.to_owned(), Value::from(*option));
                option
            }
            None => {
                self.fault(key, format!("must be one of: {}", options.join(", ")));
                options[0]
            }
        }
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        let flag = match self.value(key)? {
            Value::Bool(flag) => *flag,
            Value::String(text) if text == "true" => true,
            Value::String(text) if text == "false" => false,
            _ => {
                self.fault(key, "must be true or false");
                return None;
            }
        };
        self.kept.insert(key.to_owned(), Value::from(flag));
        Some(flag)
    }

    fn auth(&mut self) -> Auth {
        match self.choice("auth_scheme", &["none", "basic", "bearer", "header"]) {
            "basic" => {
                let username = self.required("username");
                let username = self.plain("username", username);
                let password = self.text("password").unwrap_or_default().to_owned();
                let password = self.plain("password", password);
                if username.contains(':') {
                    self.fault("username", "must not hold a colon");
                }
                self.names.insert("authorization".to_owned());
                Auth::Basic { username, password }
            }
            "bearer" => {
                self.names.insert("authorization".to_owned());
                Auth::Bearer(self.header_credential("bearer_token"))
            }
            "header" => {
                let name = self.required("auth_header_name");
                let name = self.header_name("auth_header_name", &name, &["authorization"]);
                let value = self.header_credential("auth_header_value");
                name.map_or(Auth::None, |name| Auth::Header(name, value))
            }
            _ => Auth::None,
        }
    }

    fn signing(&mut self) -> Signing {
        let named = self.value("signing").map(|_| self.choice("signing", &["none", "hmac", "standard"]));
        let enabled = self.flag("hmac_enabled");
        match (named, enabled) {
            (Some("hmac"), Some(false)) | (Some("none" | "standard"), Some(true)) => {
                self.fault("hmac_enabled", "contradicts signing: it is true for hmac only");
                Signing::None
            }
            (Some("hmac"), _) | (None, Some(true)) => self.hmac(),
            (Some("standard"), _) => Signing::Standard(self.standard_secrets()),
            _ => Signing::None,
        }
    }

    fn hmac(&mut self) -> Signing {
        let algorithm = match self.choice("hmac_algorithm", &["sha256", "sha512"]) {
            "sha512" => HmacAlgorithm::Sha512,
            _ => HmacAlgorithm::Sha256,
        };
        let secret = self.required("hmac_secret");
        let secret = self.plain("hmac_secret", secret);
        let name = self.text("hmac_header").unwrap_or(SIGNATURE_HEADER);
        match self.header_name("hmac_header", name, &["x-meshes-signature"]) {
            Some(header) => Signing::Hmac { algorithm, secret, header },
            None => Signing::None,
        }
    }

    fn standard_secrets(&mut self) -> Vec<String> {
        const KEY: &str = "standard_secrets";
        let listed = match self.value(KEY) {
            Some(Value::Array(listed)) => listed.clone(),
            Some(Value::String(only)) => vec![Value::from(only.as_str())],
            Some(_) => Vec::new(),
            None => {
                self.fault(KEY, "is required");
                return Vec::new();
            }
        };
        if !(1..=STANDARD_SECRETS_MAX).contains(&listed.len()) {
            self.fault(KEY, format!("must be a list of 1 to {STANDARD_SECRETS_MAX} secrets"));
        }
        let mut secrets = Vec::new();
        for (index, secret) in listed.iter().enumerate() {
            let param = format!("{KEY}[{index}]");
            match secret.as_str() {
                Some(text) if text.starts_with(MASK) => {
                    self.fault(param, "must be sent, because none is stored")
                }
                Some(text) if standard_key(text).is_some() => secrets.push(text.to_owned()),
                _ => self.fault(param, "must be whsec_ and the base64 of 24 to 64 bytes"),
            }
        }
        self.kept.insert(KEY.to_owned(), Value::from(secrets.clone()));
        secrets
    }

    fn headers(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        const MSG: &str = "must be an object of a name and a value";
        let listed = match self.value("headers") {
            None => return Vec::new(),
            Some(Value::Array(listed)) => listed,
            Some(_) => {
                self.fault("headers", "must be a list of names and values");
                return Vec::new();
            }
        };
        if listed.len() > HEADERS_MAX {
            self.fault("headers", format!("must be at most {HEADERS_MAX}"));
            return Vec::new();
        }
        let mut headers = Vec::new();
        for (index, header) in listed.iter().enumerate() {
            let pair =
                header.as_object().filter(|pair| pair.keys().all(|key| key == "name" || key == "value"));
            let texts = pair.map(|pair| ["name", "value"].map(|key| pair.get(key).and_then(Value::as_str)));
            let Some([Some(name), Some(value)]) = texts else {
                self.fault(format!("headers[{index}]"), MSG);
                continue;
            };
            let param = format!("headers[{index}].value");
            if value.starts_with(MASK) {
                self.fault(param, "must be sent, because none is stored");
                continue;
            }
            let name = self.header_name(&format!("headers[{index}].name"), name, &[]);
            if let (Some(name), Some(value)) = (name, self.header_value(&param, value)) {
                headers.push((name, value));
            }
        }
        self.kept.insert("headers".to_owned(), Value::from(listed.as_slice()));
        headers
    }

    /// A header name that is no one else's.
    fn header_name(&mut self, param: &str, text: &str, excepted: &[&str]) -> Option<HeaderName> {
        if text.is_empty() || text.len() > HEADER_NAME_BYTES_MAX {
            self.fault(param, format!("must be from 1 to {HEADER_NAME_BYTES_MAX} characters"));
            return None;
        }
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            self.fault(param, "must be letters, digits and dashes");
            return None;
        };
        if is_reserved(name.as_str()) && !excepted.contains(&name.as_str()) {
            self.fault(param, "is a reserved header name");
            return None;
        }
        if !self.names.insert(name.as_str().to_owned()) {
            self.fault(param, "is used for another header already");
            return None;
        }
        Some(name)
    }

    /// A value that a header can carry: printable ASCII and blanks.
    fn header_value(&mut self, param: &str, text: &str) -> Option<HeaderValue> {
        if text.len() > VALUE_BYTES_MAX {
            self.fault(param, format!("must be at most {VALUE_BYTES_MAX} bytes"));
            return None;
        }
        if !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            self.fault(param, "must be printable ASCII characters");
            return None;
        }
        HeaderValue::from_str(text).ok()
    }

    /// Values that are not in use now, such as the token of another scheme, are kept if they are texts.
    fn keep_the_rest(&mut self) {
        for key in KEYS {
            let is_faulty = self.errors.iter().any(|err| err.param.starts_with(key));
            if is_faulty || self.kept.contains_key(key) || self.value(key).is_none() {
                continue;
            }
            if key == "standard_secrets" {
                self.standard_secrets();
            } else if let Some(text) = self.text(key) {
                self.plain(key, text.to_owned());
            }
        }
    }
}

/// Whether a customer may not set a header of this name, in lower case.
fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A key someone made up, fit to be printed.
fn shown_key(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(64).collect()
}
