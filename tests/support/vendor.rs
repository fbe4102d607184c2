//! A vendor whose accounts are connected by consent: an authorization server, and a little API behind it.
//!
//! It is as strict as the strictest, and differs in what vendors differ in ([`Traits`]): how the app says who it
//! is, whether refresh tokens rotate, whether there are any, whether a proof key is wanted, how it says no.
//! Only axum, base64, serde_json, sha2 and url are needed, so that any crate's tests can include this file.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{net::TcpListener, task::JoinHandle};

pub const CLIENT_ID: &str = "33366.5692";
pub const CLIENT_SECRET: &str = "client+secret/of=weft";

/// What vendors differ in.
#[derive(Clone, Debug)]
pub struct Traits {
    /// `Authorization: Basic`, and nothing else; otherwise in the form, and nothing else.
    pub is_basic: bool,
    pub wants_proof: bool,
    /// Gives refresh tokens.
    pub refreshes: bool,
    /// A refresh token is good once.
    pub rotates: bool,
    pub life_s: Option<u64>,
    /// Errors of the token endpoint come with 200 and `"ok": false`.
    pub errs_with_200: bool,
    /// What it wants to be asked for, as the address has it.
    pub scope: Option<&'static str>,
}

/// What the vendor has.
pub struct Tables {
    pub traits: Traits,
    /// By code: the address to come back to, and the challenge.
    codes: BTreeMap<String, (String, Option<String>)>,
    pub access: BTreeSet<String>,
    pub refresh: BTreeSet<String>,
    /// Every secret that was ever made.
    pub made: Vec<String>,
    /// The person says no, with these words.
    pub says_no: Option<(&'static str, &'static str)>,
    pub client_secret: &'static str,
    /// What the next token answers tell beside tokens.
    pub tells: Value,
    /// Answers in the place of the next ones of the token endpoint.
    pub script: VecDeque<(u16, Value)>,
    /// What the token endpoint was asked.
    pub asked: Vec<BTreeMap<String, String>>,
    /// What was sent to the account, and with which token.
    pub messages: Vec<(String, Value)>,
    /// Calls that were refused for their token.
    pub refused: usize,
}

impl Tables {
    fn secret(&mut self, kind: &str) -> String {
        let number = self.made.len();
        let hash = Sha256::digest(format!("{kind}{number}").as_bytes());
        let text = format!("{kind}-{}", general_purpose::URL_SAFE_NO_PAD.encode(hash));
        self.made.push(text.clone());
        text
    }

    /// How often it was asked for tokens in this way.
    pub fn asked_for(&self, grant_type: &str) -> usize {
        self.asked.iter().filter(|fields| fields["grant_type"] == grant_type).count()
    }

    fn pair(&mut self) -> Value {
        let access = self.secret("access");
        self.access.insert(access.clone());
        let mut answer = json!({ "access_token": access, "token_type": "bearer", "ok": true });
        if self.traits.refreshes {
            let refresh = self.secret("refresh");
            self.refresh.insert(refresh.clone());
            answer["refresh_token"] = refresh.into();
        }
        if let Some(life_s) = self.traits.life_s {
            answer["expires_in"] = life_s.into();
        }
        answer["scope"] = self.traits.scope.into();
        let told = self.tells.as_object().into_iter().flatten();
        answer
            .as_object_mut()
            .expect("an object")
            .extend(told.map(|(key, value)| (key.clone(), value.clone())));
        answer
    }

    /// The consent is over: nothing that was given is taken any more.
    pub fn forget_all(&mut self) {
        self.access.clear();
        self.refresh.clear();
    }
}

/// A vendor at work on loopback, until it is dropped.
pub struct Vendor {
    pub address: SocketAddr,
    tables: Arc<Mutex<Tables>>,
    serving: JoinHandle<()>,
}

impl Vendor {
    pub async fn start(traits: Traits) -> Self {
        Self::with(traits, "/authorize", "/token").await
    }

    /// The same, with the vendor's own paths for the two.
    pub async fn with(traits: Traits, authorize_path: &str, token_path: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let tables = Tables {
            traits,
            codes: BTreeMap::new(),
            access: BTreeSet::new(),
            refresh: BTreeSet::new(),
            made: Vec::new(),
            says_no: None,
            client_secret: CLIENT_SECRET,
            tells: json!({ "api_domain": format!("http://{address}/api") }),
            script: VecDeque::new(),
            asked: Vec::new(),
            messages: Vec::new(),
            refused: 0,
        };
        let tables = Arc::new(Mutex::new(tables));
        let app = Router::new()
            .route(authorize_path, get(authorize))
            .route(token_path, post(token))
            .route("/api/me", get(me))
            .route("/api/moved/me", get(me))
            .route("/api/messages", post(message))
            .route("/api/moved/messages", post(message))
            .with_state(tables.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, tables, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("no test panicked")
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Shared = State<Arc<Mutex<Tables>>>;

fn answer(status: u16, body: Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::from_u16(status).expect("a status"), headers, body.to_string()).into_response()
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, value) in url::form_urlencoded::parse(text.as_bytes()) {
        let earlier = found.insert(key.into_owned(), value.into_owned());
        assert_eq!(earlier, None, "a parameter comes once: RFC 6749, section 3");
    }
    found
}

/// The consent page, with a person who decides at once.
async fn authorize(State(tables): Shared, uri: Uri) -> Response {
    let mut tables = tables.lock().expect("no test panicked");
    let query = pairs(uri.query().unwrap_or_default());
    let get = |key: &str| query.get(key).map(String::as_str);
    let challenge = get("code_challenge").map(str::to_owned);
    let is_right = get("client_id") == Some(CLIENT_ID)
        && get("response_type") == Some("code")
        && get("scope") == tables.traits.scope
        && challenge.is_some() == tables.traits.wants_proof
        && get("code_challenge_method") == challenge.as_ref().map(|_| "S256");
    let (Some(redirect_uri), Some(state), true) = (get("redirect_uri"), get("state"), is_right) else {
        return answer(400, json!({ "error": "invalid_request", "you_sent": query }));
    };
    let mut back = url::Url::parse(redirect_uri).expect("a URL");
    match tables.says_no {
        Some((error, description)) => {
            back.query_pairs_mut().append_pair("error", error).append_pair("error_description", description);
        }
        None => {
            let code = tables.secret("code");
            tables.codes.insert(code.clone(), (redirect_uri.to_owned(), challenge));
            back.query_pairs_mut().append_pair("code", &code);
        }
    }
    back.query_pairs_mut().append_pair("state", state);
    (StatusCode::FOUND, [(header::LOCATION, back.to_string())]).into_response()
}

async fn token(State(tables): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let mut tables = tables.lock().expect("no test panicked");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    let fields = pairs(std::str::from_utf8(&body).expect("a form"));
    tables.asked.push(fields.clone());
    if let Some((status, body)) = tables.script.pop_front() {
        return answer(status, body);
    }
    let no = |tables: &Tables, status: u16, error: &str, description: &str| {
        let said = json!({ "ok": false, "error": error, "error_description": description });
        answer(if tables.traits.errs_with_200 { 200 } else { status }, said)
    };
    let get = |key: &str| fields.get(key).map_or("", String::as_str);
    let basic = headers.get("authorization").map(|value| {
        let text = value.to_str().expect("text").strip_prefix("Basic ").expect("Basic");
        let text = general_purpose::STANDARD.decode(text).expect("base64");
        let text = String::from_utf8(text).expect("text");
        let (id, secret) = text.split_once(':').expect("a pair");
        let part = |text: &str| pairs(&format!("x={text}"))["x"].clone();
        (part(id), part(secret))
    });
    let in_form = fields.get("client_id").cloned().zip(fields.get("client_secret").cloned());
    let (shown, other) = if tables.traits.is_basic { (basic, in_form) } else { (in_form, basic) };
    if shown != Some((CLIENT_ID.to_owned(), tables.client_secret.to_owned())) || other.is_some() {
        return no(&tables, 401, "invalid_client", "the client is not known");
    }
    match get("grant_type") {
        "authorization_code" => {
            let Some((redirect_uri, challenge)) = tables.codes.remove(get("code")) else {
                return no(&tables, 400, "invalid_grant", "the code is not known");
            };
            let verifier = get("code_verifier");
            let hash = general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
            let is_proven = match challenge {
                Some(challenge) => challenge == hash && (43..=128).contains(&verifier.len()),
                None => verifier.is_empty(),
            };
            if redirect_uri != get("redirect_uri") || !is_proven {
                return no(&tables, 400, "invalid_grant", "the code is somebody else's");
            }
            let pair = tables.pair();
            answer(200, pair)
        }
        "refresh_token" => {
            let sent = get("refresh_token");
            if !tables.refresh.contains(sent) {
                return no(&tables, 400, "invalid_grant", "the refresh token is not known");
            }
            let rotates = tables.traits.rotates;
            tables.traits.refreshes = rotates;
            if rotates {
                tables.refresh.remove(sent);
            }
            let pair = tables.pair();
            tables.traits.refreshes = true;
            answer(200, pair)
        }
        _ => no(&tables, 400, "unsupported_grant_type", "no such grant"),
    }
}

/// The token, if it is good.
fn let_in(tables: &mut Tables, headers: &HeaderMap) -> Option<String> {
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = shown.strip_prefix("Bearer ").unwrap_or_default().to_owned();
    let is_good = tables.access.contains(&token);
    tables.refused += usize::from(!is_good);
    is_good.then_some(token)
}

/// Echoes what it was shown, as services do.
fn expired(headers: &HeaderMap) -> Response {
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    answer(401, json!({ "error": { "code": "token_expired", "message": format!("not good: {shown}") } }))
}

async fn me(State(tables): Shared, headers: HeaderMap) -> Response {
    let mut tables = tables.lock().expect("no test panicked");
    match let_in(&mut tables, &headers) {
        Some(_) => answer(200, json!({ "id": "acct-7", "lists": [{ "id": "1", "name": "All" }] })),
        None => expired(&headers),
    }
}

async fn message(State(tables): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let mut tables = tables.lock().expect("no test panicked");
    match let_in(&mut tables, &headers) {
        Some(token) => {
            let body = serde_json::from_slice(&body).expect("JSON");
            tables.messages.push((token, body));
            answer(200, json!({}))
        }
        None => expired(&headers),
    }
}
