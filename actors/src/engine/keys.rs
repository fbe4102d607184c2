//! Keys: machine keys with their limits, and publishable keys that take each other's place.

use super::{Engine, EngineError};
use crate::{
    domain::{
        access::KeyLimits,
        ids::{OrganizationId, WorkspaceId},
        key::{MachineKey, OlderKey, PublishableKey, publishable_key_hash},
        secret::Secret,
        timestamp::Timestamp,
    },
    store::{Change, Page, Refusal, Scope},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::time::Duration;

/// How coarsely it is remembered when a key was last used: a record an hour, and not one a request.
const USED_EVERY: Duration = Duration::from_secs(3_600);

/// A machine key as it is shown once, and as tokens are checked with.
#[derive(Clone, Debug)]
pub struct MachineKeyClear {
    pub access_key: String,
    pub organization_id: OrganizationId,
    pub secret: Secret,
    pub limits: KeyLimits,
    /// To the hour.
    pub last_used_at: Option<Timestamp>,
}

/// What makes a new machine key.
#[derive(Clone, Debug, Default)]
pub struct NewMachineKey {
    pub name: Option<String>,
    pub limits: KeyLimits,
    pub created_by: Option<String>,
}

impl Engine {
    /// Makes a machine key without limits. Its secret is shown this once.
    pub async fn create_machine_key(
        &self,
        organization: OrganizationId,
    ) -> Result<MachineKeyClear, EngineError> {
        Ok(self.create_limited_machine_key(organization, NewMachineKey::default()).await?.1)
    }

    /// Makes a machine key. Its secret is shown this once.
    pub async fn create_limited_machine_key(
        &self,
        organization: OrganizationId,
        new: NewMachineKey,
    ) -> Result<(MachineKey, MachineKeyClear), EngineError> {
        for workspace in new.limits.workspaces.iter().flatten() {
            let found = self.workspace(organization, *workspace).await?;
            found.ok_or(Refusal::NotFound("workspace"))?;
        }
        let access_key = format!("mk_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()));
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        let sealed = self.0.vault.seal_machine_secret(&access_key, &secret);
        let mut key = MachineKey::new(access_key, organization, sealed, self.0.clock.now());
        (key.name, key.limits, key.created_by) = (new.name, new.limits, new.created_by);
        self.configure(Change::CreateMachineKey(key.clone())).await?;
        let clear = clear(&key, secret);
        Ok((key, clear))
    }

    /// What a token signed with this access key is checked with.
    pub async fn machine_key(&self, access_key: &str) -> Result<Option<MachineKeyClear>, EngineError> {
        let Some(key) = self.0.store.machine_key(access_key).await? else { return Ok(None) };
        let secret = self.0.vault.open_machine_secret(&key)?;
        Ok(Some(clear(&key, secret)))
    }

    /// Remembers that a key signed a token just now. Nobody waits for that, and seldom does it write.
    pub fn machine_key_used(&self, key: &MachineKeyClear) {
        let now = self.0.clock.now();
        let is_long_ago = |then: Option<Timestamp>| then.is_none_or(|then| now.since(then) >= USED_EVERY);
        if !is_long_ago(key.last_used_at) {
            return;
        }
        {
            let mut used = self.0.keys_used.lock();
            if !is_long_ago(used.get(&key.access_key).copied()) {
                return;
            }
            // What is remembered by now need not be here as well.
            used.retain(|_, then| now.since(*then) < USED_EVERY);
            used.insert(key.access_key.clone(), now);
        }
        let (engine, access_key) = (self.clone(), key.access_key.clone());
        tokio::spawn(async move {
            let found = engine.0.store.machine_key(&access_key).await;
            if let Ok(Some(key)) = found {
                // It says so again in an hour, if this fails.
                let used = MachineKey { last_used_at: Some(now), ..key };
                let _ = engine.configure(Change::UpdateMachineKey(used)).await;
            }
        });
    }

    /// An organization's machine keys, oldest first.
    pub async fn machine_keys(
        &self,
        organization: OrganizationId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Page<MachineKey, [u8; 16]>, EngineError> {
        Ok(self.0.store.machine_keys(organization, after, limit).await?)
    }

    /// Deletes a machine key: once this returns no token it signed is good.
    pub async fn delete_machine_key(
        &self,
        organization: OrganizationId,
        access_key: &str,
    ) -> Result<(), EngineError> {
        let found = self.0.store.machine_key(access_key).await?;
        let found = found.filter(|key| key.organization_id == organization);
        let key = found.ok_or(Refusal::NotFound("key"))?;
        self.configure(Change::DeleteMachineKey(key.access_key)).await
    }

    /// A publishable key, by its text: a workspace's own, or an older one for as long as that is good.
    pub async fn publishable_key(&self, public_key: &str) -> Result<Option<PublishableKey>, EngineError> {
        let found = self.0.store.publishable_key(publishable_key_hash(public_key)).await?;
        let Some(mut key) = found else { return Ok(None) };
        if key.public_key != public_key {
            let now = self.0.clock.now();
            let is_it = |old: &OlderKey| old.public_key == public_key && now < old.expires_at;
            if !key.older.iter().any(is_it) {
                return Ok(None);
            }
            public_key.clone_into(&mut key.public_key);
        }
        Ok(Some(key))
    }

    /// A workspace's publishable key.
    pub async fn publishable_key_of(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Option<PublishableKey>, EngineError> {
        Ok(self.0.store.publishable_key_of(workspace).await?)
    }

    /// Makes a new publishable key the workspace's own. No older one is good for longer than `overlap`.
    pub async fn rotate_publishable_key(
        &self,
        scope: Scope,
        workspace: WorkspaceId,
        overlap: Duration,
    ) -> Result<PublishableKey, EngineError> {
        let (store, now) = (&self.0.store, self.0.clock.now());
        let found = store.workspace(scope, workspace).await?;
        let workspace = found.ok_or(Refusal::NotFound("workspace"))?;
        let key = store.publishable_key_of(workspace.id).await?.ok_or(Refusal::NotFound("workspace"))?;
        let end = now.after(overlap);
        let mut older = key.older;
        older.retain(|old| old.expires_at > now);
        older.iter_mut().for_each(|old| old.expires_at = old.expires_at.min(end));
        older.retain(|old| old.expires_at > now);
        older.push(OlderKey { public_key: key.public_key, expires_at: end });
        let key = PublishableKey { public_key: new_publishable_key(), created_at: now, older, ..key };
        self.configure(Change::RotatePublishableKey(Box::new((workspace, key.clone())))).await?;
        Ok(key)
    }
}

fn clear(key: &MachineKey, secret: Secret) -> MachineKeyClear {
    let MachineKey { access_key, organization_id, limits, last_used_at, .. } = key.clone();
    MachineKeyClear { access_key, organization_id, secret, limits, last_used_at }
}

/// `mesh_pub_v1_<id>_<random>`: the id tells keys apart in logs, the rest is 128 random bits.
pub(super) fn new_publishable_key() -> String {
    format!("mesh_pub_v1_{:08x}_{:032x}", rand::random::<u32>(), rand::random::<u128>())
}
