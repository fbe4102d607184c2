//! Destinations that exist in tests alone: one vendor, in the ways that vendors differ in.

use super::vendor::{CLIENT_ID, CLIENT_SECRET, Traits};
use actors::{
    destinations::{
        self, Destination, SettingsError,
        limits::Pace,
        live::Item,
        service::{Account, Answer, Api, Entry, Service, Stop, Verdict, Work, text_at},
        setup::Setup,
        spec::{ActionSpec, Auth, ClientAuth, Consent, Field, FieldKind, Input, InputKind, Spec},
    },
    domain::{
        catalog::{CatalogField, CatalogFieldKind},
        connection::InactiveReason,
        secret::Secret,
    },
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::time::Duration;
use weft::config::{Config, Registration};

/// Basic, a proof key, refresh tokens that rotate, scopes with blanks, and something more in the address.
pub const ROTATING: &str = "acme_rotating";
/// In the form, steady refresh tokens, scopes with commas, errors with 200.
pub const STEADY: &str = "acme_steady";
/// No refresh token and no end; scopes are the app's.
pub const ENDLESS: &str = "acme_endless";

pub const KINDS: [&str; 3] = [ROTATING, STEADY, ENDLESS];

/// What the vendor of this kind is like.
pub fn traits(kind: &str) -> Traits {
    Traits {
        is_basic: kind == ROTATING,
        wants_proof: kind == ROTATING,
        refreshes: kind != ENDLESS,
        rotates: kind == ROTATING,
        life_s: (kind != ENDLESS).then_some(3_600),
        errs_with_200: kind == STEADY,
        scope: match kind {
            ROTATING => Some("read write"),
            STEADY => Some("read,write"),
            _ => None,
        },
    }
}

/// Makes them known to this process, and reached where their vendor is.
pub fn set_up(config: &mut Config, vendor: &str) {
    destinations::also(&ALL);
    config.hosts.insert("login.acme.example".to_owned(), vendor.to_owned());
    config.hosts.insert("api.acme.example".to_owned(), format!("{vendor}/api"));
    for kind in KINDS {
        let client_secret = Some(Secret::new(CLIENT_SECRET));
        let app = Registration { client_id: CLIENT_ID.to_owned(), client_secret, bot_token: None };
        config.oauth.insert(kind.to_owned(), app);
    }
}

struct Acme(&'static Spec);

static ALL: [&dyn Destination; 3] = [&Acme(&ROTATING_SPEC), &Acme(&STEADY_SPEC), &Acme(&ENDLESS_SPEC)];

const FIELDS: &[Field] = &[
    Field::secret("access_token", "Access token"),
    Field::text("api_domain", "API address"),
    Field::text("account_id", "Account"),
    Field { kind: FieldKind::Text, ..Field::text("note", "Note") },
];
const LIST: Input =
    Input { key: "lists", field: "id", label: "List", required: false, kind: InputKind::Pick };
const ACTIONS: &[ActionSpec] = &[ActionSpec {
    key: "send",
    label: "Send",
    noun: "message",
    description: "Sends a message.",
    inputs: &[LIST],
    needs: &["email"],
    twice: "It is sent twice.",
}];
const CONSENT: Consent = Consent {
    authorize: "https://login.acme.example/authorize",
    token: "https://login.acme.example/token",
    login: None,
    scopes: &["read", "write"],
    separator: ' ',
    client: ClientAuth::Basic,
    pkce: true,
    params: &[("prompt", "consent")],
};

const fn spec(kind: &'static str, consent: &'static Consent) -> Spec {
    Spec {
        kind,
        name: "Acme",
        auth: Auth::OAuth(2),
        fields: FIELDS,
        actions: ACTIONS,
        consent: Some(consent),
    }
}

static ROTATING_SPEC: Spec = spec(ROTATING, &CONSENT);
static STEADY_SPEC: Spec =
    spec(STEADY, &Consent { separator: ',', client: ClientAuth::Form, pkce: false, params: &[], ..CONSENT });
static ENDLESS_SPEC: Spec =
    spec(ENDLESS, &Consent { scopes: &[], client: ClientAuth::Form, pkce: false, params: &[], ..CONSENT });

#[async_trait]
impl Service for Acme {
    fn spec(&self) -> &'static Spec {
        self.0
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let base = setup.text("api_domain").unwrap_or("https://api.acme.example").to_owned();
        Ok(Account {
            name: setup.text("account_id").unwrap_or("?").to_owned(),
            base,
            entry: Entry::bearer(setup, "access_token")?,
            headers: Vec::new(),
            pace: Pace::of(1_000, Duration::from_secs(1), 8),
            rest: Duration::from_secs(1),
        })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        match answer.status {
            403 => Verdict::Locked(InactiveReason::OauthAuthorizationRevoked),
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        api.get("/me").send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let body = json!({ "to": work.required("email")?, "fields": work.text("nick") });
        api.post("/messages").json(&body).once().send().await.map(drop)
    }

    async fn items(&self, api: &Api<'_>, _key: &str) -> Result<Vec<Item>, Stop> {
        let answer = api.get("/me").send().await?;
        let item = |found: &Value| {
            Some(Item { id: text_at(found, "/id")?, name: text_at(found, "/name")?, options: Vec::new() })
        };
        Ok(answer.list("/lists").iter().filter_map(item).collect())
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |key: &str| CatalogField {
            key: key.to_owned(),
            label: None,
            kind: CatalogFieldKind::String,
            description: None,
            constraints: None,
        };
        vec![field("email"), field("nick")]
    }

    fn told(&self, token_answer: &Value) -> Map<String, Value> {
        let domain = text_at(token_answer, "/api_domain");
        domain.map(|domain| ("api_domain".to_owned(), domain.into())).into_iter().collect()
    }

    async fn discover(&self, api: &Api<'_>) -> Result<Map<String, Value>, Stop> {
        let answer = api.get("/me").send().await?;
        let id = answer.text("/id").ok_or_else(|| Stop::odd("acme answered without the account's id"))?;
        Ok([("account_id".to_owned(), id.into())].into_iter().collect())
    }
}
