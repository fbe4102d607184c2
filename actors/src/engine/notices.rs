//! Where operational events go: the operator's own workspace, with one webhook to the operator's URL.
//!
//! It is made at the first start that has a URL, with ids that are the same everywhere, and follows the
//! configuration at each start. No key reaches it. From there on an operational event is an event as all
//! others are: on disk, signed, tried again, and in the history.

use super::{Engine, EngineError, Options, invalid, keys::new_publishable_key, vault::Vault};
use crate::{
    clock::Clock,
    destinations::{Destination, webhook},
    domain::{
        audit::Act,
        connection::{Connection, Policy},
        field::FieldError,
        key::PublishableKey,
        notice::{self, Notice},
        rule::Rule,
        secret::Secret,
        workspace::{Organization, Workspace},
    },
    store::{Change, Scope, Store},
    transport::address::AddressPolicy,
    tree::Notices,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tracing::error;

/// Who made what is made here.
const CREATED_BY: &str = "weft";
/// Days that operational events are kept: what is on record is not told twice.
const RETENTION_DAYS: u32 = 90;

/// Where to tell the operator of what needs an eye.
#[derive(Clone, Debug)]
pub struct OperationalWebhook {
    pub url: String,
    /// As Standard Webhooks have it: `whsec_` and the base64 of 24 to 64 bytes.
    pub secret: Secret,
}

impl OperationalWebhook {
    /// Refuses what cannot be delivered to, as `url` or `secret`.
    pub fn check(&self, outbound_allow: &[ipnet::IpNet], allow_http: bool) -> Result<(), FieldError> {
        let policy = AddressPolicy { allow: outbound_allow.to_vec(), allow_http };
        self.settings(Map::new(), &policy).map(drop)
    }

    /// The settings of the webhook, with what else was set before.
    fn settings(
        &self,
        before: Map<String, Value>,
        policy: &AddressPolicy,
    ) -> Result<Map<String, Value>, FieldError> {
        let mut settings = before;
        settings.insert("url".to_owned(), json!(self.url));
        settings.insert("signing".to_owned(), json!("standard"));
        settings.insert("standard_secrets".to_owned(), json!([self.secret.expose()]));
        settings.insert("skip_test".to_owned(), json!(true));
        settings.remove("hmac_enabled");
        webhook::Webhook.check(&settings, policy).map_err(|errors| {
            let first = errors.iter().find(|err| err.param == "url").or(errors.first()).cloned();
            let FieldError { param, msg } = first.unwrap_or_else(|| FieldError::new("url", "is not usable"));
            FieldError::new(if param.starts_with("standard_secrets") { "secret" } else { &param }, msg)
        })
    }
}

impl Engine {
    /// Tells the operator, if there is somewhere to tell. Takes no time, and fails nobody: it is
    /// dropped when too much is to be told already.
    pub fn notify(&self, notice: Notice) {
        self.0.notices.notify(notice, self.0.clock.now());
    }
}

/// Makes the operator's workspace what the configuration says, before anything is delivered. What
/// cannot be made for now, such as on a full disk, keeps no server from starting.
pub(super) async fn arrange(
    options: &Options,
    store: &Arc<dyn Store>,
    vault: &Vault,
    clock: &Clock,
    policy: &AddressPolicy,
) -> Result<Notices, EngineError> {
    let arrangement = Arrangement { store, vault, clock, policy };
    let arranged = match &options.operational_webhook {
        Some(webhook) => {
            let wrong = |err| invalid("operational_webhook", vec![err]);
            webhook.settings(Map::new(), policy).map_err(wrong)?;
            arrangement.point_to(webhook).await.map(|()| Notices::on())
        }
        None => arrangement.pause().await.map(|()| Notices::default()),
    };
    Ok(arranged.unwrap_or_else(|err| {
        error!(%err, "the operational webhook cannot be set up: nobody is told of anything until the next start");
        Notices::default()
    }))
}

struct Arrangement<'a> {
    store: &'a Arc<dyn Store>,
    vault: &'a Vault,
    clock: &'a Clock,
    policy: &'a AddressPolicy,
}

impl Arrangement<'_> {
    async fn change(&self, change: Change) -> Result<(), EngineError> {
        let act = Act::of_system(self.clock.now());
        Ok(self.store.configure(self.store.fence(), change, Some(act)).await?)
    }

    async fn point_to(&self, webhook: &OperationalWebhook) -> Result<(), EngineError> {
        let workspace = self.workspace().await?;
        match self.connection().await? {
            Some(connection) => self.update(&workspace, connection, webhook).await?,
            None => self.connect(&workspace, webhook).await?,
        }
        // Whoever changed the rule means to be told of less.
        if self.store.rule(Scope::Workspace(notice::WORKSPACE), notice::RULE).await?.is_none() {
            self.rule().await?;
        }
        Ok(())
    }

    async fn connection(&self) -> Result<Option<Connection>, EngineError> {
        Ok(self.store.connection(Scope::Workspace(notice::WORKSPACE), notice::CONNECTION).await?)
    }

    /// What waits is kept for the day there is a URL again.
    async fn pause(&self) -> Result<(), EngineError> {
        match self.connection().await? {
            Some(connection) if !connection.paused => {
                self.change_connection(Connection { paused: true, ..connection }).await
            }
            _ => Ok(()),
        }
    }

    async fn change_connection(&self, connection: Connection) -> Result<(), EngineError> {
        let (updated_at, version) = (self.clock.now(), connection.version + 1);
        self.change(Change::UpdateConnection(Connection { updated_at, version, ..connection })).await
    }

    async fn update(
        &self,
        workspace: &Workspace,
        connection: Connection,
        webhook: &OperationalWebhook,
    ) -> Result<(), EngineError> {
        let before = self.vault.open_settings(workspace, &connection)?;
        let settings = self.settings(webhook, before.clone())?;
        if settings == before && connection.takes_deliveries() {
            return Ok(());
        }
        let settings = self.vault.seal_settings(workspace, notice::CONNECTION, &settings)?;
        self.change_connection(Connection { settings, inactive: None, paused: false, ..connection }).await
    }

    fn settings(
        &self,
        webhook: &OperationalWebhook,
        before: Map<String, Value>,
    ) -> Result<Map<String, Value>, EngineError> {
        let settings = webhook.settings(before, self.policy);
        settings.map_err(|err| invalid("operational_webhook", vec![err]))
    }

    async fn workspace(&self) -> Result<Workspace, EngineError> {
        let (organization, created_at) = (notice::ORGANIZATION, self.clock.now());
        if let Some(found) =
            self.store.workspace(Scope::Organization(organization), notice::WORKSPACE).await?
        {
            return Ok(found);
        }
        if self.store.organization(organization).await?.is_none() {
            let name = "Weft".to_owned();
            let organization = Organization { id: organization, name, created_at };
            self.change(Change::CreateOrganization(organization)).await?;
        }
        let workspace = Workspace {
            id: notice::WORKSPACE,
            organization_id: organization,
            name: "Operational events".to_owned(),
            description: Some("What Weft tells its operator".to_owned()),
            retention_days: Some(RETENTION_DAYS),
            data_key: self.vault.new_data_key(notice::WORKSPACE),
            created_at,
            updated_at: created_at,
        };
        let key = PublishableKey {
            public_key: new_publishable_key(),
            name: "Default".to_owned(),
            organization_id: organization,
            workspace_id: notice::WORKSPACE,
            created_at,
            older: Vec::new(),
        };
        self.change(Change::CreateWorkspace(Box::new((workspace.clone(), key)))).await?;
        Ok(workspace)
    }

    async fn connect(&self, workspace: &Workspace, webhook: &OperationalWebhook) -> Result<(), EngineError> {
        let (id, now) = (notice::CONNECTION, self.clock.now());
        let settings = self.settings(webhook, Map::new())?;
        let connection = Connection {
            id,
            organization_id: notice::ORGANIZATION,
            workspace_id: notice::WORKSPACE,
            kind: webhook::Webhook.spec().kind.to_owned(),
            name: "Operational webhook".to_owned(),
            settings: self.vault.seal_settings(workspace, id, &settings)?,
            policy: Policy::default(),
            inactive: None,
            refusal: None,
            paused: false,
            hidden: false,
            created_by: CREATED_BY.to_owned(),
            created_at: now,
            updated_at: now,
            version: 1,
        };
        self.change(Change::CreateConnection(connection)).await
    }

    async fn rule(&self) -> Result<(), EngineError> {
        let now = self.clock.now();
        let metadata = Map::from_iter([("action".to_owned(), json!("send_webhook"))]);
        let rule = Rule {
            id: notice::RULE,
            organization_id: notice::ORGANIZATION,
            workspace_id: notice::WORKSPACE,
            connection_id: notice::CONNECTION,
            kind: webhook::Webhook.spec().kind.to_owned(),
            event: "*".to_owned(),
            resource: None,
            resource_id: None,
            metadata,
            conditions: None,
            active: true,
            hidden: false,
            created_by: CREATED_BY.to_owned(),
            created_at: now,
            updated_at: now,
            version: 1,
        };
        self.change(Change::CreateRule(rule)).await
    }
}
