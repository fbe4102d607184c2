//! From a ticket to a connected account.

pub use super::consents::consent_cookie;
use super::{
    Pair, app, app_keys,
    ask::{self, Given, Refused, plain},
    consents::{Back, LIFE, Stranger},
};
use crate::{
    destinations::{
        Destination,
        setup::{TokenError, Tokens},
        spec::{Auth, Consent, FieldKind, Spec},
    },
    domain::{
        access::{Permission, Subject},
        connection::{Connection, InactiveReason, Policy},
        grant::Grant,
        ids::{ConnectionId, SessionId, UserId, WorkspaceId},
        notice::Notice,
        plan::Limit,
        secret::Secret,
        timestamp::Timestamp,
        workspace::Workspace,
    },
    engine::{
        Engine, EngineError, FieldError, connections::PROBE_TIMEOUT, destination, invalid,
        seen_through::SeenThrough,
    },
    store::{Change, Refusal, Scope},
};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};
use url::Url;

/// How often a change is tried again when another one came between.
const CHANGE_TRIES: usize = 16;
/// Connections looked at in one go for one of the same name.
const NAMES_PAGE: usize = 500;

/// What a consent is for.
#[derive(Clone, Debug)]
pub enum ConsentFor {
    New {
        workspace_id: WorkspaceId,
        kind: String,
        name: String,
    },
    /// A connection that is there: it keeps its id, its rules and its mapping.
    Again(ConnectionId),
}

/// Who started a consent: they must be let in still when it comes back.
#[derive(Clone, Debug)]
pub enum Starter {
    /// By its access key.
    Machine(String),
    Session(SessionId),
    User(UserId),
}

/// What starts a consent.
#[derive(Clone, Debug)]
pub struct NewConsent {
    pub of: ConsentFor,
    /// Settings that are known before: those a consent goes by are kept, the account tells the others.
    pub settings: Map<String, Value>,
    pub by: Starter,
    pub created_by: String,
}

/// Where a browser goes to be asked, and what it keeps meanwhile.
#[derive(Clone, Debug)]
pub struct OpenedConsent {
    /// The vendor's page.
    pub url: String,
    pub cookie_name: String,
    pub cookie: Secret,
    pub cookie_life: Duration,
}

/// What came back with a browser from the vendor's page.
#[derive(Clone, Debug, Default)]
pub struct ConsentBack {
    pub state: String,
    /// The value of [`consent_cookie`].
    pub cookie: Option<String>,
    pub code: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
}

/// What came of a consent, for a person. `words` are the vendor's or ours, and hostile like all that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentEnd {
    Connected {
        service: &'static str,
        name: String,
        is_new: bool,
    },
    /// The person, or the vendor, said no.
    Denied {
        service: &'static str,
        words: String,
    },
    /// Nobody waits for it: not any more, or never.
    Expired,
    /// It was started in another browser.
    OtherBrowser,
    Failed {
        service: &'static str,
        words: String,
        next: String,
    },
}

/// Why nothing was connected.
struct Failure {
    words: String,
    next: String,
}

impl Failure {
    fn of(words: impl Into<String>, next: impl Into<String>) -> Self {
        Self { words: words.into(), next: next.into() }
    }
}

const AGAIN: &str = "Start again from where you came.";
const LATER: &str = "Try again in a few minutes.";

impl Engine {
    /// A ticket that starts a consent when it is opened in a browser, and when that ends. Whoever has it
    /// can connect an account of theirs in the place it was made for, and nothing else.
    pub async fn begin_consent(
        &self,
        scope: Scope,
        new: NewConsent,
    ) -> Result<(Secret, Timestamp), EngineError> {
        let (workspace_id, destination, consent, mut settings) = match &new.of {
            ConsentFor::New { workspace_id, kind, name } => {
                let destination = destination(kind)?;
                let consent = consent_of(destination.spec()).map_err(|msg| one("type", msg))?;
                let found = self.0.store.workspace(scope, *workspace_id).await?;
                found.ok_or(Refusal::NotFound("workspace"))?;
                self.check_name_free(*workspace_id, name).await?;
                (*workspace_id, destination, consent, Map::new())
            }
            ConsentFor::Again(id) => {
                let connection = self.stored_connection(scope, *id).await?;
                let destination = destination(&connection.kind)?;
                let consent = consent_of(destination.spec()).map_err(|msg| one("connection", msg))?;
                let workspace = self.workspace_of(&connection).await?;
                let settings = self.0.vault.open_settings(&workspace, &connection)?;
                (connection.workspace_id, destination, consent, consent.settings(&settings))
            }
        };
        settings.extend(consent.settings(&new.settings));
        let settings = destination
            .check(&settings, self.0.http.policy())
            .map_err(|errors| invalid("metadata", errors))?;
        let spec = destination.spec();
        if app(self.0.vault.operator(), spec.kind).is_none() {
            let param = if matches!(new.of, ConsentFor::Again(_)) { "connection" } else { "type" };
            let msg = format!(
                "cannot be connected in a browser here until the operator sets {}",
                app_keys(spec.kind)
            );
            return Err(EngineError::Meaningless(vec![FieldError::new(param, msg)]));
        }
        let ticket = self.0.consents.add(
            workspace_id,
            spec.kind,
            new,
            settings,
            (*self.1).clone(),
            self.0.clock.now(),
        );
        let ticket = ticket.ok_or(EngineError::TooMany("consents under way; try again in a few minutes"))?;
        Ok((ticket, self.0.clock.wall().after(LIFE)))
    }

    async fn check_name_free(&self, workspace: WorkspaceId, name: &str) -> Result<(), EngineError> {
        let mut after = None;
        loop {
            let page = self.0.store.connections(Scope::Workspace(workspace), after, NAMES_PAGE).await?;
            if page.records.iter().any(|connection| connection.name == name) {
                return Err(Refusal::NameTaken("connection").into());
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// A browser opens a ticket. `public_url` is what comes before the path of this server's own pages.
    /// `None`: there is no such ticket, or no more.
    pub fn open_consent(&self, ticket: &str, public_url: &str) -> Option<OpenedConsent> {
        let redirect_uri = format!("{public_url}/oauth/callback");
        let handed = self.0.consents.open(ticket, redirect_uri.clone(), self.0.clock.now())?;
        let spec = destination(handed.kind).ok()?.spec();
        let (consent, operator) = (spec.consent?, self.0.vault.operator());
        let app = app(operator, spec.kind)?;
        let mut url = Url::parse(&operator.at(&consent.at(consent.authorize, &handed.settings))).ok()?;
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("response_type", "code").append_pair("client_id", &app.client_id);
            query.append_pair("redirect_uri", &redirect_uri).append_pair("state", handed.state.expose());
            if !consent.scopes.is_empty() {
                let scopes = consent.scopes.join(&consent.separator.to_string());
                query.append_pair("scope", &scopes);
            }
            if consent.pkce {
                let hash = Sha256::digest(handed.verifier.expose().as_bytes());
                query.append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(hash));
                query.append_pair("code_challenge_method", "S256");
            }
            query.extend_pairs(consent.params);
        }
        Some(OpenedConsent {
            url: url.into(),
            cookie_name: consent_cookie(handed.state.expose()),
            cookie: handed.cookie,
            cookie_life: LIFE,
        })
    }

    /// A browser comes back from the vendor. Goes on to its end also when that browser leaves.
    pub async fn end_consent(&self, back: ConsentBack) -> ConsentEnd {
        let now = self.0.clock.now();
        let taken = match self.0.consents.take(&back.state, back.cookie.as_deref(), now) {
            Ok(taken) => taken,
            Err(Stranger::Unknown) => return ConsentEnd::Expired,
            Err(Stranger::OtherBrowser) => return ConsentEnd::OtherBrowser,
        };
        let Ok(destination) = destination(taken.kind) else { return ConsentEnd::Expired };
        let service = destination.spec().name;
        if let Some(error) = back.error {
            let words = match back.error_description.filter(|text| !text.is_empty()) {
                Some(description) => format!("{error}: {description}"),
                None => error,
            };
            return ConsentEnd::Denied { service, words: plain(&words) };
        }
        let engine = self.by(taken.actor.clone());
        let connected = SeenThrough::new(async move { engine.connect(taken, destination, back.code).await });
        match connected.await {
            Ok((name, is_new)) => ConsentEnd::Connected { service, name, is_new },
            Err(Failure { words, next }) => {
                warn!(destination = destination.spec().kind, "an account was not connected");
                ConsentEnd::Failed { service, words: plain(&words), next }
            }
        }
    }

    async fn connect(
        &self,
        taken: Back,
        destination: &'static dyn Destination,
        code: Option<String>,
    ) -> Result<(String, bool), Failure> {
        let (spec, vault) = (destination.spec(), &self.0.vault);
        if !self.is_let_in(&taken).await.map_err(ours)? {
            return Err(Failure::of("whoever started this may not connect accounts any more", ""));
        }
        let code = code.filter(|code| !code.is_empty());
        let code = code.ok_or_else(|| Failure::of(format!("{} sent no code", spec.name), AGAIN))?;
        let (Some(consent), Some(app)) = (spec.consent, app(vault.operator(), spec.kind)) else {
            return Err(Failure::of(format!("{} is not set up here", spec.name), operators(spec)));
        };
        let code = Secret::new(code);
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", &taken.redirect_uri),
        ];
        if consent.pkce {
            fields.push(("code_verifier", taken.verifier.expose()));
        }
        let secrets = [code.expose(), taken.verifier.expose()];
        let given = ask::ask(vault.grants(), spec, consent, &taken.settings, app, &fields, &secrets).await;
        let given = given.map_err(|refused| {
            let next = match &refused {
                Refused::App(_) => operators(spec),
                Refused::Later(_) => LATER.to_owned(),
                Refused::Over(..) | Refused::No(_) => AGAIN.to_owned(),
            };
            Failure::of(refused.words(), next)
        })?;
        match &taken.new.of {
            ConsentFor::New { workspace_id, kind, name } => {
                let workspace = self.workspace_to_connect_in(*workspace_id).await?;
                let learned = self.learned(destination, taken.settings, &given).await?;
                let new = (&workspace, kind.as_str(), name.as_str(), taken.new.created_by.as_str());
                self.connect_new(new, learned, &given).await.map_err(ours)?;
                Ok((name.clone(), true))
            }
            ConsentFor::Again(id) => {
                let workspace = self.workspace_to_connect_in(taken.workspace_id).await?;
                let name = self.connect_again(&workspace, *id, destination, (taken.settings, &given)).await?;
                Ok((name, false))
            }
        }
    }

    /// Whether who started it may still.
    async fn is_let_in(&self, taken: &Back) -> Result<bool, EngineError> {
        let (permission, subject) = (Permission::Write, Subject::Connections);
        let scope = Scope::Workspace(taken.workspace_id);
        Ok(match &taken.new.by {
            Starter::Machine(access_key) => {
                let found = self.0.store.machine_key(access_key).await?;
                found.is_some_and(|key| key.limits.may(permission, subject))
            }
            Starter::Session(id) => {
                let found = self.session(scope, *id).await?.filter(|it| it.may(permission, subject));
                found.is_some_and(|session| session.refreshed(self.0.clock.wall()).is_ok())
            }
            Starter::User(id) => match self.0.store.workspace(scope, taken.workspace_id).await? {
                Some(workspace) => {
                    let found = self.user(workspace.organization_id, *id).await?;
                    found.is_some_and(|user| !user.disabled && user.may(permission, subject))
                }
                None => false,
            },
        })
    }

    async fn workspace_to_connect_in(&self, id: WorkspaceId) -> Result<Workspace, Failure> {
        let found = self.0.store.workspace(Scope::Workspace(id), id).await.map_err(EngineError::from);
        found.map_err(ours)?.ok_or_else(|| Failure::of("the workspace is gone", ""))
    }

    /// Settings, and what the account tells once it lets us in: asked, and tried out. With the names of those
    /// that it told.
    async fn learned(
        &self,
        destination: &'static dyn Destination,
        mut settings: Map<String, Value>,
        given: &Given,
    ) -> Result<(Map<String, Value>, Vec<String>), Failure> {
        let (http, now, spec) = (&self.0.http, self.0.clock.wall(), destination.spec());
        let check = |settings: &Map<String, Value>| {
            destination.check(settings, http.policy()).map_err(|errors| {
                let said =
                    errors.first().map_or_else(String::new, |err| format!(": {} {}", err.param, err.msg));
                Failure::of(format!("what {} tells of the account cannot be used{said}", spec.name), AGAIN)
            })
        };
        let told = destination.told(&given.answer);
        let mut keys: Vec<String> = told.keys().cloned().collect();
        settings.extend(told);
        let mut settings = check(&settings)?;
        let token: Arc<dyn Tokens> = Arc::new(JustGiven(given.access.clone(), spec.name));
        let told = {
            let mut setup = self.0.vault.setup(&settings);
            setup.tokens = Some(token.clone());
            destination.discover(setup, http, now, PROBE_TIMEOUT).await
        };
        let told = told.map_err(|words| Failure::of(words, AGAIN))?;
        keys.extend(told.keys().cloned());
        settings.extend(told);
        let settings = check(&settings)?;
        let checked = self.check_urls(destination, &settings).await;
        checked.map_err(|err| Failure::of(err.to_string(), AGAIN))?;
        let mut setup = self.0.vault.setup(&settings);
        setup.tokens = Some(token);
        let tried = destination.probe(setup, http, now, PROBE_TIMEOUT).await;
        tried.map_err(|words| Failure::of(words, AGAIN))?;
        keys.retain(|key| settings.contains_key(key));
        keys.sort_unstable();
        keys.dedup();
        Ok((settings, keys))
    }

    /// Inactive until its grant is stored: whatever happens between, what is on record is true.
    async fn connect_new(
        &self,
        (workspace, kind, name, created_by): (&Workspace, &str, &str, &str),
        (settings, told): (Map<String, Value>, Vec<String>),
        given: &Given,
    ) -> Result<(), EngineError> {
        let now = self.0.clock.now();
        let id = ConnectionId::from_uuid(self.0.ids.next(now));
        let connection = Connection {
            id,
            organization_id: workspace.organization_id,
            workspace_id: workspace.id,
            kind: kind.to_owned(),
            name: name.to_owned(),
            settings: self.0.vault.seal_settings(workspace, id, &settings)?,
            policy: Policy::default(),
            inactive: Some(InactiveReason::OauthReauthorizationRequired),
            refusal: None,
            paused: false,
            hidden: false,
            created_by: created_by.to_owned(),
            created_at: now,
            updated_at: now,
            version: 1,
        };
        let change = Change::CreateConnection(connection.clone());
        self.configure_within(workspace.organization_id, Limit::Connections, change).await?;
        self.configure(Change::SaveGrant(self.grant(workspace, id, given, told, None)?)).await?;
        let active = Connection { inactive: None, version: 2, ..connection };
        self.configure_connection(workspace.id, id, Change::UpdateConnection(active)).await?;
        info!(workspace_id = %workspace.id, connection_id = %id, destination = kind, "connected in a browser");
        Ok(())
    }

    /// The connection stays what it is, but for what the new consent tells. What a person turned off stays off.
    async fn connect_again(
        &self,
        workspace: &Workspace,
        id: ConnectionId,
        destination: &'static dyn Destination,
        (asked, given): (Map<String, Value>, &Given),
    ) -> Result<String, Failure> {
        let (scope, vault) = (Scope::Workspace(workspace.id), &self.0.vault);
        let stored = || async {
            let connection = self.stored_connection(scope, id).await?;
            let mut settings = vault.open_settings(workspace, &connection)?;
            // A token that was pasted would go before the one that the consent gave.
            for field in destination.spec().fields.iter().filter(|field| field.secret && !field.required) {
                if field.kind == FieldKind::Password {
                    settings.remove(field.key);
                }
            }
            Ok((connection, settings))
        };
        let (_, before) = stored().await.map_err(ours)?;
        let known = before.clone().into_iter().chain(asked).collect();
        let (learned, told) = self.learned(destination, known, given).await?;
        let news: Vec<_> =
            learned.into_iter().filter(|(key, value)| before.get(key) != Some(value)).collect();
        let mut is_saved = false;
        for _ in 0..CHANGE_TRIES {
            let (mut connection, mut settings) = stored().await.map_err(ours)?;
            let earlier = connection.clone();
            if !is_saved {
                let found = self.0.store.grant(scope, id).await.map_err(EngineError::from).map_err(ours)?;
                let grant = self.grant(workspace, id, given, told.clone(), found).map_err(ours)?;
                match self.configure(Change::SaveGrant(grant)).await {
                    Err(EngineError::Refused(Refusal::Stale(_))) => continue,
                    saved => saved.map_err(ours)?,
                }
                is_saved = true;
            }
            settings.extend(news.iter().cloned());
            connection.settings = vault.seal_settings(workspace, id, &settings).map_err(ours)?;
            connection.inactive =
                connection.inactive.filter(|reason| *reason == InactiveReason::ManuallyInactivated);
            connection.updated_at = self.0.clock.now();
            connection.version += 1;
            let (name, kind) = (connection.name.clone(), connection.kind.clone());
            let notice = Notice::of_change(&earlier, &connection);
            match self.configure_connection(workspace.id, id, Change::UpdateConnection(connection)).await {
                Err(EngineError::Refused(Refusal::Stale(_))) => continue,
                saved => saved.map_err(ours)?,
            }
            notice.into_iter().for_each(|notice| self.notify(notice));
            info!(workspace_id = %workspace.id, connection_id = %id, destination = kind, "connected again");
            return Ok(name);
        }
        Err(Failure::of("the connection is being changed", LATER))
    }

    fn grant(
        &self,
        workspace: &Workspace,
        id: ConnectionId,
        given: &Given,
        told: Vec<String>,
        stored: Option<Grant>,
    ) -> Result<Grant, EngineError> {
        let (key, now) = (self.0.vault.data_key(workspace)?, self.0.clock.now());
        let (expires_at, renew_at) = Grant::ends(given.life_s, now);
        let pair = Pair { access: given.access.clone(), refresh: given.refresh.clone() };
        Ok(Grant {
            connection_id: id,
            organization_id: workspace.organization_id,
            workspace_id: workspace.id,
            tokens: pair.seal(&key, workspace.id, id),
            scopes: given.scopes.clone(),
            told,
            expires_at,
            renew_at,
            asked_at: None,
            created_at: stored.as_ref().map_or(now, |stored| stored.created_at),
            updated_at: now,
            version: stored.map_or(0, |stored| stored.version) + 1,
        })
    }
}

/// How consents of this kind are asked for, or why there are none.
fn consent_of(spec: &'static Spec) -> Result<&'static Consent, String> {
    let msg =
        || format!("{} is not connected in a browser: make it with POST /api/v1/connections", spec.name);
    match (spec.auth, spec.consent) {
        (_, Some(consent)) => Ok(consent),
        (Auth::OAuth(_) | Auth::None | Auth::ApiKey | Auth::Basic, None) => Err(msg()),
    }
}

fn one(param: &str, msg: String) -> EngineError {
    EngineError::Invalid(vec![FieldError::new(param, msg)])
}

fn operators(spec: &Spec) -> String {
    format!("Whoever runs this server must check {}.", app_keys(spec.kind))
}

/// A failure that is not the vendor's.
fn ours(err: EngineError) -> Failure {
    match err {
        EngineError::Internal(why) => {
            warn!(%why, "an account could not be connected");
            Failure::of("an unexpected error; it has been logged", LATER)
        }
        EngineError::Refused(Refusal::NameTaken(_)) => {
            Failure::of("a connection of that name is there already", "Start again with another name.")
        }
        err => Failure::of(err.to_string(), AGAIN),
    }
}

/// The token that a consent gave a moment ago.
struct JustGiven(Secret, &'static str);

#[async_trait]
impl Tokens for JustGiven {
    async fn access(&self) -> Result<Secret, TokenError> {
        Ok(self.0.clone())
    }

    async fn instead_of(&self, _refused: &Secret) -> Result<Secret, TokenError> {
        let reason = InactiveReason::OauthReauthorizationRequired;
        let message = format!("{} does not take the token that it gave just now", self.1);
        Err(TokenError::Lost { reason, message })
    }
}
