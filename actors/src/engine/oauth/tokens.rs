//! The tokens of one connection, for whoever needs one.
//!
//! The grant on disk is the only copy. A token that is about to end is replaced ahead of that, one that was
//! refused at once; of all who need it one asks the service, and the others get what it got, good or bad. What
//! the service gives is on disk before anybody uses it: many services take the old refresh token no more.
//!
//! An end in the middle cannot be avoided: the service may have given a new pair to nobody. That somebody asks
//! is therefore on disk before the question is, so that a refusal can be told as what it is.

use super::{
    Pair, Shared, app, app_keys,
    ask::{self, Given, Refused},
};
use crate::{
    destinations::{
        Destination,
        setup::{TokenError, Tokens},
        spec::Consent,
    },
    domain::{
        audit::Act,
        connection::{Connection, InactiveReason},
        grant::Grant,
        ids::{ConnectionId, WorkspaceId},
        secret::{SealingKey, Secret},
    },
    engine::{
        seen_through::SeenThrough,
        vault::{settings_of, settings_place},
    },
    store::{Change, Refusal, Scope, StoreError},
};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use tracing::{error, info, warn};

/// How long a service is left alone that could not be asked.
const REST: Duration = Duration::from_secs(5);
/// The same of one that refused for good: a person may have mended that meanwhile.
const LONG_REST: Duration = Duration::from_secs(60);
/// How often settings that a token answer changes are tried to be kept.
const KEEP_TRIES: usize = 5;

/// Who asks for a connection's next token: one at a time.
#[derive(Default)]
pub(super) struct Flight(Mutex<Last>);

/// What the one before learned.
#[derive(Default)]
struct Last {
    /// It got nothing: with which version of the grant, when, and why.
    failed: Option<(u64, Instant, TokenError)>,
    /// It got a pair that could not be stored. Nobody has used it.
    unsaved: Option<Grant>,
}

impl Flight {
    /// Whether something would be lost with it.
    pub(super) fn holds_something(&self) -> bool {
        self.0.try_lock().is_ok_and(|last| last.unsaved.is_some())
    }
}

/// See the module's text.
pub(super) struct OfConnection(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    id: ConnectionId,
    workspace_id: WorkspaceId,
    destination: &'static dyn Destination,
    consent: &'static Consent,
    key: SealingKey,
    flight: Arc<Flight>,
}

impl OfConnection {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: &Connection,
        destination: &'static dyn Destination,
        consent: &'static Consent,
        key: SealingKey,
        flight: Arc<Flight>,
    ) -> Self {
        let (id, workspace_id) = (connection.id, connection.workspace_id);
        Self(Arc::new(Inner { shared, id, workspace_id, destination, consent, key, flight }))
    }

    async fn token(&self, refused: Option<&Secret>) -> Result<Secret, TokenError> {
        let (grant, pair) = self.0.read().await?;
        if self.0.serves(&grant, &pair, refused) {
            return Ok(pair.access);
        }
        // Whoever waits may leave: what the service gives must be stored all the same.
        let (inner, refused, since) = (self.0.clone(), refused.cloned(), Instant::now());
        SeenThrough::new(async move { inner.renewed(refused, since).await }).await
    }
}

#[async_trait]
impl Tokens for OfConnection {
    async fn access(&self) -> Result<Secret, TokenError> {
        self.token(None).await
    }

    async fn instead_of(&self, refused: &Secret) -> Result<Secret, TokenError> {
        self.token(Some(refused)).await
    }
}

impl Inner {
    fn name(&self) -> &'static str {
        self.destination.spec().name
    }

    async fn read(&self) -> Result<(Grant, Pair), TokenError> {
        let scope = Scope::Workspace(self.workspace_id);
        let found = self.shared.store.grant(scope, self.id).await.map_err(not_now)?;
        let grant = found.ok_or_else(|| TokenError::Lost {
            reason: InactiveReason::OauthReauthorizationRequired,
            message: format!("{} was never connected: connect the account in a browser", self.name()),
        })?;
        match Pair::open(&grant.tokens, &self.key, self.workspace_id, self.id) {
            Ok(pair) => Ok((grant, pair)),
            Err(err) => {
                error!(connection_id = %self.id, why = %err, "a grant cannot be read");
                Err(TokenError::Later("the stored tokens cannot be read; see the server's log".to_owned()))
            }
        }
    }

    /// Whether this is the token to use.
    fn serves(&self, grant: &Grant, pair: &Pair, refused: Option<&Secret>) -> bool {
        match refused {
            Some(refused) => pair.access != *refused,
            None => pair.refresh.is_none() || grant.is_fresh(self.shared.clock.now()),
        }
    }

    /// Another token, got by whoever comes first. `since`: when this one began to wait.
    async fn renewed(&self, refused: Option<Secret>, since: Instant) -> Result<Secret, TokenError> {
        let mut last = self.flight.0.lock().await;
        if let Some(grant) = last.unsaved.take()
            && let Err(err) = self.save(&grant).await
        {
            // Refused is what another consent has overtaken.
            if !matches!(err, StoreError::Refused(_)) {
                last.unsaved = Some(grant);
                return Err(not_now(err));
            }
        }
        let (grant, pair) = self.read().await?;
        if self.serves(&grant, &pair, refused.as_ref()) {
            return Ok(pair.access);
        }
        let is_usable = refused.is_none() && !grant.has_ended(self.shared.clock.now());
        let or_old = |err: TokenError, old: Secret| match err {
            TokenError::Later(_) if is_usable => Ok(old),
            err => Err(err),
        };
        let Some(refresh) = pair.refresh else { return Err(self.ended(&grant)) };
        if let Some((version, at, err)) = &last.failed
            && *version == grant.version
        {
            let rest = if matches!(err, TokenError::Lost { .. }) { LONG_REST } else { REST };
            if *at >= since || at.elapsed() < rest {
                return or_old(err.clone(), pair.access);
            }
        }
        match self.ask(grant, &pair.access, &refresh, &mut last).await {
            Ok(token) => {
                last.failed = None;
                Ok(token)
            }
            Err((version, err)) => {
                last.failed = Some((version, Instant::now(), err.clone()));
                or_old(err, pair.access)
            }
        }
    }

    /// Asks the service for another pair, and stores it. The error says of which version of the grant it is.
    async fn ask(
        &self,
        mut grant: Grant,
        access: &Secret,
        refresh: &Secret,
        last: &mut Last,
    ) -> Result<Secret, (u64, TokenError)> {
        let (spec, asked_before) = (self.destination.spec(), grant.asked_at);
        let Some(app) = app(&self.shared.operator, spec.kind) else {
            let message =
                format!("{} cannot be asked for another token: set {}", spec.name, app_keys(spec.kind));
            return Err((grant.version, TokenError::Later(message)));
        };
        if asked_before.is_none() {
            let now = self.shared.clock.now();
            let version = grant.version;
            grant = Grant { asked_at: Some(now), updated_at: now, version: version + 1, ..grant };
            self.save(&grant).await.map_err(|err| (version, not_now(err)))?;
        }
        let version = grant.version;
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
        let secrets = [refresh.expose(), access.expose()];
        let settings = self.settings().await.map_err(|err| (version, err))?;
        let answer = ask::ask(&self.shared, spec, self.consent, &settings, app, &fields, &secrets).await;
        self.shared.faults.at("oauth.answered");
        match answer {
            Ok(given) => self.take(grant, given, refresh, last).await.map_err(|err| (version, err)),
            Err(refused) => {
                // Another consent may have come while this was asked.
                if let Ok((now, pair)) = self.read().await
                    && now.version != version
                {
                    return Ok(pair.access);
                }
                warn!(connection_id = %self.id, destination = spec.kind, "no other token was given");
                Err((version, self.refused(refused, asked_before.is_some())))
            }
        }
    }

    /// Stores what was given, and only then hands the token out.
    async fn take(
        &self,
        grant: Grant,
        given: Given,
        refresh: &Secret,
        last: &mut Last,
    ) -> Result<Secret, TokenError> {
        let now = self.shared.clock.now();
        let pair = Pair { access: given.access, refresh: given.refresh.or_else(|| Some(refresh.clone())) };
        let (expires_at, renew_at) = Grant::ends(given.life_s, now);
        let grant = Grant {
            tokens: pair.seal(&self.key, self.workspace_id, self.id),
            scopes: if given.scopes.is_empty() { grant.scopes } else { given.scopes },
            expires_at,
            renew_at,
            asked_at: None,
            updated_at: now,
            version: grant.version + 1,
            ..grant
        };
        match self.save(&grant).await {
            Ok(()) => {}
            // Another consent came meanwhile, or the connection is gone.
            Err(StoreError::Refused(_)) => return self.read().await.map(|(_, pair)| pair.access),
            Err(err) => {
                last.unsaved = Some(grant);
                return Err(not_now(err));
            }
        }
        info!(connection_id = %self.id, destination = self.destination.spec().kind, "has another token");
        let told = self.destination.told(&given.answer);
        if !told.is_empty()
            && let Err(why) = self.keep(&told).await
        {
            warn!(connection_id = %self.id, %why, "what came with a token is not kept");
        }
        Ok(pair.access)
    }

    /// Keeps what a token answer tells of the account with the connection's settings, where it is news.
    async fn keep(&self, told: &Map<String, Value>) -> Result<(), String> {
        let (shared, scope) = (&self.shared, Scope::Workspace(self.workspace_id));
        for _ in 0..KEEP_TRIES {
            let found = shared.store.connection(scope, self.id).await.map_err(|err| err.to_string())?;
            let Some(mut connection) = found else { return Ok(()) };
            let mut settings = settings_of(&connection, &self.key)?;
            if told.iter().all(|(key, value)| settings.get(key) == Some(value)) {
                return Ok(());
            }
            settings.extend(told.clone());
            let checked = self.destination.check(&settings, shared.http.policy());
            let settings = checked.map_err(|errors| {
                errors.first().map_or_else(String::new, |err| format!("{} {}", err.param, err.msg))
            })?;
            let text = zeroize::Zeroizing::new(serde_json::to_vec(&settings).map_err(|err| err.to_string())?);
            connection.settings = self.key.seal(&text, &settings_place(self.workspace_id, self.id));
            connection.updated_at = shared.clock.now();
            connection.version += 1;
            let act = Some(Act::of_system(connection.updated_at));
            match shared.store.configure(shared.fence, Change::UpdateConnection(connection), act).await {
                Err(StoreError::Refused(Refusal::Stale(_))) => {}
                done => return done.map_err(|err| err.to_string()),
            }
        }
        Err("the connection is being changed".to_owned())
    }

    /// The settings that say where the service is asked, if any do.
    async fn settings(&self) -> Result<Map<String, Value>, TokenError> {
        if self.consent.login.is_none() {
            return Ok(Map::new());
        }
        let found = self.shared.store.connection(Scope::Workspace(self.workspace_id), self.id).await;
        let connection = found.map_err(not_now)?;
        let connection = connection.ok_or_else(|| TokenError::Later("the connection is gone".to_owned()))?;
        settings_of(&connection, &self.key).map_err(|why| {
            error!(connection_id = %self.id, %why, "settings cannot be read");
            TokenError::Later("the stored settings cannot be read; see the server's log".to_owned())
        })
    }

    async fn save(&self, grant: &Grant) -> Result<(), StoreError> {
        // Nobody did it: it is not for the audit log.
        self.shared.store.configure(self.shared.fence, Change::SaveGrant(grant.clone()), None).await
    }

    /// The token was refused, and there is nothing to ask for another one with.
    fn ended(&self, grant: &Grant) -> TokenError {
        let name = self.name();
        let (reason, why) = match grant.expires_at {
            Some(_) => (InactiveReason::OauthReauthorizationRequired, "has ended, and cannot be renewed"),
            None => {
                (InactiveReason::OauthAuthorizationRevoked, "is not taken any more: access was taken back")
            }
        };
        let message =
            format!("the token {name} gave {why}; connect the account again, and what waits is sent");
        TokenError::Lost { reason, message }
    }

    fn refused(&self, refused: Refused, asked_before: bool) -> TokenError {
        match refused {
            Refused::Over(reason, words) => {
                let lost = match asked_before {
                    true => {
                        "; an earlier renewal was cut short, and the new token may have been lost with it"
                    }
                    false => "",
                };
                let message = format!("{words}{lost}; connect the account again, and what waits is sent");
                TokenError::Lost { reason, message }
            }
            Refused::App(words) => {
                error!(
                    destination = self.destination.spec().kind,
                    "the operator's app is refused: check its client id and secret"
                );
                TokenError::Later(words)
            }
            Refused::No(words) | Refused::Later(words) => TokenError::Later(words),
        }
    }
}

fn not_now(err: StoreError) -> TokenError {
    TokenError::Later(match err {
        StoreError::Unavailable(why) => format!("another token could not be stored: {why}"),
        _ => "the stored tokens could not be read or written; see the server's log".to_owned(),
    })
}
