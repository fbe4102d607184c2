//! Keys and sessions: who may ask, as it is kept.

use super::{change::ROWS_PER_PAGE_MAX, *};
use crate::domain::{
    key::{OlderKey, publishable_key_hash},
    session::LIFE_MAX,
};
use std::time::Duration;

/// How long a session is kept, over or not: as long as it may live, and a day to look at it.
pub const SESSION_KEPT: Duration = LIFE_MAX.saturating_add(Duration::from_secs(24 * 3_600));

impl<V: View> State<V> {
    /// Checks a change of keys or sessions.
    pub(super) fn check_access(&self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::CreateSession(session) => {
                self.row::<Workspace>(&keys::workspace(session.workspace_id))?
                    .ok_or(Refusal::NotFound("workspace"))?;
                if self.session_count(session.workspace_id)? >= SESSIONS_PER_WORKSPACE_MAX as u64 {
                    let what = "sessions made within two days; refresh those there are";
                    return Err(Refusal::TooMany(SESSIONS_PER_WORKSPACE_MAX, what).into());
                }
            }
            Change::UpdateSession(session) => {
                let stored: Session =
                    self.row(&keys::session(session.id))?.ok_or(Refusal::NotFound("session"))?;
                if session.version != stored.version + 1 {
                    return Err(Refusal::Stale("session").into());
                }
            }
            Change::DeleteMachineKey(access_key)
            | Change::UpdateMachineKey(MachineKey { access_key, .. }) => {
                self.row::<MachineKey>(&keys::machine_key(access_key))?.ok_or(Refusal::NotFound("key"))?;
            }
            Change::RotatePublishableKey(rotated) => {
                let (workspace, key) = &**rotated;
                let stored = self.publishable_key_of(key.workspace_id)?;
                let stored = stored.ok_or(Refusal::NotFound("workspace"))?;
                if self.row(&keys::workspace(workspace.id))?.as_ref() != Some(workspace) {
                    return Err(Refusal::Stale("workspace").into());
                }
                // Of two at once the later would lose what the first made.
                if !key.older.iter().any(|older| older.public_key == stored.public_key) {
                    return Err(Refusal::Stale("publishable key").into());
                }
                if key.older.len() > OLDER_KEYS_MAX {
                    let what = "older publishable keys at a time; wait until one has ended";
                    return Err(Refusal::TooMany(OLDER_KEYS_MAX, what).into());
                }
            }
            user => self.check_user(user)?,
        }
        Ok(())
    }

    pub(super) fn check_machine_keys(&self, organization: OrganizationId) -> Result<(), StoreError> {
        let full = self.machine_keys(organization, None, MACHINE_KEYS_MAX)?.records.len() == MACHINE_KEYS_MAX;
        if full { Err(Refusal::TooManyKeys(MACHINE_KEYS_MAX).into()) } else { Ok(()) }
    }

    /// Makes a change of keys or sessions.
    pub(super) fn apply_access(&mut self, change: Change, at: u64) -> Result<(), StoreError> {
        match change {
            Change::CreateSession(session) | Change::UpdateSession(session) => {
                let (workspace, id) = (session.workspace_id, session.id);
                if self.view.get(&keys::session(id))?.is_none() {
                    self.add_sessions(workspace, 1)?;
                }
                self.view.put(keys::session_of(workspace, id), Vec::new());
                self.save_row(keys::session(id), at, &session);
            }
            Change::ForgetSessions { workspace_id, through } => {
                for id in self.sessions_through(workspace_id, through, usize::MAX)? {
                    self.view.delete(keys::session_of(workspace_id, id));
                    self.view.delete(keys::session(id));
                    self.add_sessions(workspace_id, -1)?;
                }
            }
            Change::UpdateMachineKey(key) => self.apply_machine_key(&key, at),
            Change::DeleteMachineKey(access_key) => {
                let Some(key) = self.row::<MachineKey>(&keys::machine_key(&access_key))? else {
                    return Ok(());
                };
                self.view.delete(keys::machine_key_of(key.organization_id, key.created_at, &access_key));
                self.view.delete(keys::machine_key(&access_key));
            }
            user => self.apply_user(user, at)?,
        }
        Ok(())
    }

    pub(super) fn apply_machine_key(&mut self, key: &MachineKey, at: u64) {
        let listed = keys::machine_key_of(key.organization_id, key.created_at, &key.access_key);
        self.view.put(listed, key.access_key.as_bytes().to_vec());
        self.save_row(keys::machine_key(&key.access_key), at, key);
    }

    /// Makes a key the workspace's own: found by its text, and by those of the older ones that it names.
    pub(super) fn apply_publishable_key(&mut self, key: &PublishableKey, at: u64) -> Result<(), StoreError> {
        let hash = publishable_key_hash(&key.public_key);
        if let Some(old) = self.publishable_key_of(key.workspace_id)? {
            self.view.delete(keys::publishable_key(&publishable_key_hash(&old.public_key)));
            for older in &old.older {
                self.view.delete(Self::older(older));
            }
        }
        for older in &key.older {
            self.view.put(Self::older(older), hash.to_vec());
        }
        self.view.put(keys::publishable_key_of(key.workspace_id), hash.to_vec());
        self.save_row(keys::publishable_key(&hash), at, key);
        Ok(())
    }

    fn older(key: &OlderKey) -> Key {
        keys::older_publishable_key(&publishable_key_hash(&key.public_key))
    }

    /// The publishable key of this hash, or the one that took the place of that.
    pub fn publishable_key(&self, hash: &[u8; 32]) -> Result<Option<PublishableKey>, StoreError> {
        let is_it = |text: &str| publishable_key_hash(text) == *hash;
        let mut found: Option<PublishableKey> = self.row(&keys::publishable_key(hash))?;
        if found.is_none()
            && let Some(newer) = self.view.get(&keys::older_publishable_key(hash))?
        {
            let newer = newer[..].try_into();
            let newer = newer.map_err(|_| StoreError::Damaged("a key hash is cut".to_owned()))?;
            found = self.row(&keys::publishable_key(newer))?;
        }
        Ok(found.filter(|key| is_it(&key.public_key) || key.older.iter().any(|old| is_it(&old.public_key))))
    }

    /// An organization's machine keys, oldest first, after the place `after`.
    pub fn machine_keys(
        &self,
        organization: OrganizationId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Page<MachineKey, [u8; 16]>, StoreError> {
        let list = keys::machine_keys_of(organization);
        let from = after.map_or_else(|| list.clone(), |id| keys::end_of(&[&list[..], &id].concat()));
        let (mut page, mut last) = (Page { records: Vec::new(), next: None }, None);
        self.view.scan(&from, &keys::end_of(&list), Order::Ascending, &mut |key, access_key| {
            if page.records.len() == limit {
                page.next = last;
                return Ok(false);
            }
            let access_key = String::from_utf8_lossy(access_key);
            page.records.extend(self.row::<MachineKey>(&keys::machine_key(&access_key))?);
            last = Some(keys::id_at_end(key));
            Ok(true)
        })?;
        Ok(page)
    }

    /// A workspace's sessions, newest first, after (that is, older than) `after`.
    pub fn sessions(
        &self,
        workspace: WorkspaceId,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Page<Session, SessionId>, StoreError> {
        let list = keys::sessions_of(workspace);
        let end = after.map_or_else(|| keys::end_of(&list), |id| keys::session_of(workspace, id));
        let (mut page, mut last, mut looked_at) = (Page { records: Vec::new(), next: None }, None, 0);
        self.view.scan(&list, &end, Order::Descending, &mut |key, _| {
            if page.records.len() == limit || looked_at == ROWS_PER_PAGE_MAX {
                page.next = last;
                return Ok(false);
            }
            let id = SessionId::from_bytes(keys::id_at_end(key));
            page.records.extend(self.row(&keys::session(id))?.filter(|session| filter.shows(session)));
            (last, looked_at) = (Some(id), looked_at + 1);
            Ok(true)
        })?;
        Ok(page)
    }

    /// Forgets some sessions made before `cutoff`; `true` if there may be more.
    pub fn forget_sessions(
        &mut self,
        workspace: WorkspaceId,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let ids = self.sessions_through(workspace, SessionId::first_at(cutoff), limit)?;
        if let Some(through) = ids.last() {
            let change = Change::ForgetSessions { workspace_id: workspace, through: *through };
            self.commit(Record::configured(&change, None))?;
        }
        Ok(ids.len() == limit)
    }

    /// The oldest sessions up to this one, and with it.
    fn sessions_through(
        &self,
        workspace: WorkspaceId,
        through: SessionId,
        limit: usize,
    ) -> Result<Vec<SessionId>, StoreError> {
        let (list, end) = (keys::sessions_of(workspace), keys::end_of(&keys::session_of(workspace, through)));
        let mut ids = Vec::new();
        self.view.scan(&list, &end, Order::Ascending, &mut |key, _| {
            ids.push(SessionId::from_bytes(keys::id_at_end(key)));
            Ok(ids.len() < limit)
        })?;
        Ok(ids)
    }

    fn session_count(&self, workspace: WorkspaceId) -> Result<u64, StoreError> {
        Ok(self.load::<u64>(&keys::session_count(workspace))?.unwrap_or(0))
    }

    fn add_sessions(&mut self, workspace: WorkspaceId, by: i64) -> Result<(), StoreError> {
        let key = keys::session_count(workspace);
        match self.session_count(workspace)?.saturating_add_signed(by) {
            0 => self.view.delete(key),
            count => self.save(key, &count),
        }
        Ok(())
    }
}
