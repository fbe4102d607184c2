//! Configuration: what a change must fit, what it writes, and how it is read.

use super::*;
use crate::domain::{
    condition::MATCHES_PER_WORKSPACE_MAX, key::publishable_key_hash, mapping::GENERATED_VERSION,
};
use serde::de::DeserializeOwned;

/// Rows a list reads at most for one page.
pub(super) const ROWS_PER_PAGE_MAX: usize = 10_000;

impl<V: View> State<V> {
    /// Checks a change against what is there, and makes it. Returns the sequence to wait for.
    pub fn configure(&mut self, change: &Change, act: Option<Act>) -> Result<u64, StoreError> {
        self.check_change(change)?;
        let done = act.zip(self.described(change)?);
        self.commit_done(Record::configured(change, None), done)
    }

    fn check_change(&self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::CreateOrganization(_) => {}
            Change::CreateMachineKey(key) => {
                self.row::<Organization>(&keys::organization(key.organization_id))?
                    .ok_or(Refusal::NotFound("organization"))?;
                self.check_machine_keys(key.organization_id)?;
            }
            Change::CreateWorkspace(created) => {
                let workspace = &created.0;
                self.row::<Organization>(&keys::organization(workspace.organization_id))?
                    .ok_or(Refusal::NotFound("organization"))?;
                self.check_name(
                    &keys::workspace_name(workspace.organization_id, &workspace.name),
                    None,
                    "workspace",
                )?;
            }
            Change::UpdateWorkspace(workspace) => {
                self.row::<Workspace>(&keys::workspace(workspace.id))?
                    .ok_or(Refusal::NotFound("workspace"))?;
                let name = keys::workspace_name(workspace.organization_id, &workspace.name);
                self.check_name(&name, Some(workspace.id.as_bytes()), "workspace")?;
            }
            Change::CreateConnection(connection) => {
                let workspace = connection.workspace_id;
                self.row::<Workspace>(&keys::workspace(workspace))?.ok_or(Refusal::NotFound("workspace"))?;
                self.check_name(&keys::connection_name(workspace, &connection.name), None, "connection")?;
                self.check_count(
                    &keys::connections_of(workspace),
                    CONNECTIONS_PER_WORKSPACE_MAX,
                    "connections",
                )?;
            }
            Change::UpdateConnection(connection) => {
                let stored: Connection =
                    self.row(&keys::connection(connection.id))?.ok_or(Refusal::NotFound("connection"))?;
                if connection.version != stored.version + 1 {
                    return Err(Refusal::Stale("connection").into());
                }
                let name = keys::connection_name(connection.workspace_id, &connection.name);
                self.check_name(&name, Some(connection.id.as_bytes()), "connection")?;
            }
            Change::DeleteConnection { id, force } => {
                self.row::<Connection>(&keys::connection(*id))?.ok_or(Refusal::NotFound("connection"))?;
                let rules = self.rules_of_connection(*id)?.len();
                if rules > 0 && !force {
                    return Err(Refusal::HasRules(rules).into());
                }
            }
            Change::CreateRule(rule) => {
                self.check_connection(rule.connection_id, rule.workspace_id)?;
                self.check_count(&keys::rules_of(rule.workspace_id), RULES_PER_WORKSPACE_MAX, "rules")?;
                self.check_duplicate(rule)?;
                self.check_matches(rule)?;
            }
            Change::UpdateRule(rule) => {
                let stored: Rule = self.row(&keys::rule(rule.id))?.ok_or(Refusal::NotFound("rule"))?;
                if rule.version != stored.version + 1 {
                    return Err(Refusal::Stale("rule").into());
                }
                self.check_duplicate(rule)?;
                self.check_matches(rule)?;
            }
            Change::DeleteRule(id) => {
                self.row::<Rule>(&keys::rule(*id))?.ok_or(Refusal::NotFound("rule"))?;
            }
            Change::SaveCatalog(catalog) => {
                let stored = self.row::<Catalog>(&keys::catalog(catalog.connection_id))?;
                let version = stored.map_or(0, |stored| stored.version);
                self.check_connection(catalog.connection_id, catalog.workspace_id)?;
                check_version("catalog", version, catalog.version)?;
            }
            Change::SaveMapping(mapping) => {
                let stored = self.row::<DefaultMapping>(&keys::mapping(mapping.connection_id))?;
                let version = stored.map_or(GENERATED_VERSION, |stored| stored.version);
                self.check_connection(mapping.connection_id, mapping.workspace_id)?;
                check_version("mapping", version, mapping.version)?;
            }
            Change::SaveGrant(grant) => {
                let stored = self.row::<Grant>(&keys::grant(grant.connection_id))?;
                let version = stored.map_or(0, |stored| stored.version);
                self.check_connection(grant.connection_id, grant.workspace_id)?;
                check_version("grant", version, grant.version)?;
            }
            Change::SaveName(name) => self.check_name_saved(name)?,
            Change::SaveReplay(replay) => self.check_replay_saved(replay)?,
            Change::DeleteReplay(_) => {}
            Change::TestOne { workspace_id, rule_id, .. } => {
                let rule = self.row::<Rule>(&keys::rule(*rule_id))?;
                rule.filter(|rule| rule.workspace_id == *workspace_id).ok_or(Refusal::NotFound("rule"))?;
            }
            access => self.check_access(access)?,
        }
        Ok(())
    }

    /// Refuses a name that another one has.
    pub(super) fn check_name(
        &self,
        key: &[u8],
        own: Option<&[u8]>,
        what: &'static str,
    ) -> Result<(), StoreError> {
        match self.view.get(key)? {
            Some(owner) if own != Some(&owner[..]) => Err(Refusal::NameTaken(what).into()),
            _ => Ok(()),
        }
    }

    pub(super) fn check_count(
        &self,
        prefix: &[u8],
        max: usize,
        what: &'static str,
    ) -> Result<(), StoreError> {
        let mut count = 0;
        self.view.scan(prefix, &keys::end_of(prefix), Order::Ascending, &mut |_, _| {
            count += 1;
            Ok(count < max)
        })?;
        if count < max { Ok(()) } else { Err(Refusal::TooMany(max, what).into()) }
    }

    fn check_connection(&self, id: ConnectionId, workspace: WorkspaceId) -> Result<(), StoreError> {
        let connection = self.row::<Connection>(&keys::connection(id))?;
        let same = connection.is_some_and(|connection| connection.workspace_id == workspace);
        if same { Ok(()) } else { Err(Refusal::NotFound("connection").into()) }
    }

    fn check_duplicate(&self, rule: &Rule) -> Result<(), StoreError> {
        let (prefix, likeness) = (keys::rules_of_connection(rule.connection_id), rule.likeness());
        let mut is_new = true;
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |key, value| {
            is_new = *value != likeness || keys::id_at_end(key) == *rule.id.as_bytes();
            Ok(is_new)
        })?;
        if is_new { Ok(()) } else { Err(Refusal::DuplicateRule.into()) }
    }

    /// Refuses regular expressions beyond what a workspace may have, counting those the rule would have.
    fn check_matches(&self, rule: &Rule) -> Result<(), StoreError> {
        let mut count = rule.matches() as u64;
        if count == 0 {
            return Ok(());
        }
        let prefix = keys::rules_of(rule.workspace_id);
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |key, value| {
            if keys::id_at_end(key) != *rule.id.as_bytes() {
                count += decode::<u64>(value)?;
            }
            Ok(true)
        })?;
        if count <= MATCHES_PER_WORKSPACE_MAX as u64 {
            return Ok(());
        }
        Err(Refusal::TooManyMatches(MATCHES_PER_WORKSPACE_MAX).into())
    }

    fn rules_of_connection(&self, id: ConnectionId) -> Result<Vec<RuleId>, StoreError> {
        let mut rules = Vec::new();
        let prefix = keys::rules_of_connection(id);
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |key, _| {
            rules.push(RuleId::from_bytes(keys::id_at_end(key)));
            Ok(true)
        })?;
        Ok(rules)
    }

    /// Makes a change that passed. `at` is the record it is from, `since` when a rule began to apply.
    pub(super) fn apply_change(&mut self, change: Change, at: u64, since: u64) -> Result<(), StoreError> {
        match change {
            Change::CreateOrganization(row) | Change::UpdateOrganization(row) => {
                self.save_row(keys::organization(row.id), at, &row);
            }
            Change::CreateMachineKey(row) => self.apply_machine_key(&row, at),
            // A new key says all of its workspace again: the record it was created by may go.
            Change::CreateWorkspace(created) | Change::RotatePublishableKey(created) => {
                let (workspace, key) = *created;
                self.view.put(keys::workspace_of(workspace.organization_id, workspace.id), Vec::new());
                self.apply_publishable_key(&key, at)?;
                self.apply_workspace(&workspace, at)?;
            }
            Change::UpdateWorkspace(workspace) => self.apply_workspace(&workspace, at)?,
            Change::CreateConnection(connection) | Change::UpdateConnection(connection) => {
                let Connection { id, organization_id, workspace_id, .. } = connection;
                if let Some(old) = self.row::<Connection>(&keys::connection(id))? {
                    self.view.delete(keys::connection_name(workspace_id, &old.name));
                }
                self.view.put(keys::connection_name(workspace_id, &connection.name), id.as_bytes().to_vec());
                self.view.put(keys::connection_of_organization(organization_id, id), Vec::new());
                let state = (connection.version, connection.takes_deliveries());
                self.save(keys::connection_of(workspace_id, id), &state);
                self.save_row(keys::connection(id), at, &connection);
            }
            Change::DeleteConnection { id, .. } => {
                for rule in self.rules_of_connection(id)? {
                    self.delete_rule(rule, since)?;
                }
                // Read back, its creation may be gone with its segment, and what was said of it since not.
                self.view.delete(keys::pace(id));
                self.view.delete(keys::catalog(id));
                self.view.delete(keys::mapping(id));
                self.view.delete(keys::grant(id));
                let Some(old) = self.row::<Connection>(&keys::connection(id))? else { return Ok(()) };
                self.view.delete(keys::connection_name(old.workspace_id, &old.name));
                self.view.delete(keys::connection_of_organization(old.organization_id, id));
                self.view.delete(keys::connection_of(old.workspace_id, id));
                self.view.delete(keys::connection(id));
            }
            Change::CreateRule(rule) | Change::UpdateRule(rule) => {
                self.save(keys::rule_of(rule.workspace_id, rule.id), &(rule.matches() as u64));
                self.view.put(keys::rule_of_organization(rule.organization_id, rule.id), Vec::new());
                let likeness = rule.likeness().to_vec();
                self.view.put(keys::rule_of_connection(rule.connection_id, rule.id), likeness);
                self.save_rule_version(rule.workspace_id, rule.id, since, Some(&rule))?;
                self.save_row(keys::rule(rule.id), at, &rule);
            }
            Change::DeleteRule(id) => self.delete_rule(id, since)?,
            Change::SaveCatalog(row) => self.save_row(keys::catalog(row.connection_id), at, &row),
            Change::SaveMapping(row) => self.save_row(keys::mapping(row.connection_id), at, &row),
            Change::SaveGrant(row) => self.save_row(keys::grant(row.connection_id), at, &row),
            Change::SaveName(name) => {
                self.save_row(keys::name(name.workspace_id, name.kind, &name.key), at, &name);
            }
            Change::SaveReplay(replay) => self.apply_replay(&replay, at),
            Change::DeleteReplay(id) => self.delete_replay(id)?,
            Change::TestOne { workspace_id, event_id, rule_id } => {
                self.save(keys::tested_rule(workspace_id, event_id), &rule_id);
            }
            access => self.apply_access(access, at)?,
        }
        Ok(())
    }

    fn apply_workspace(&mut self, workspace: &Workspace, at: u64) -> Result<(), StoreError> {
        if let Some(old) = self.row::<Workspace>(&keys::workspace(workspace.id))? {
            self.view.delete(keys::workspace_name(old.organization_id, &old.name));
        }
        let name = keys::workspace_name(workspace.organization_id, &workspace.name);
        self.view.put(name, workspace.id.as_bytes().to_vec());
        self.save_row(keys::workspace(workspace.id), at, workspace);
        Ok(())
    }

    fn delete_rule(&mut self, id: RuleId, since: u64) -> Result<(), StoreError> {
        let Some(rule) = self.row::<Rule>(&keys::rule(id))? else { return Ok(()) };
        self.view.delete(keys::rule_of(rule.workspace_id, id));
        self.view.delete(keys::rule_of_organization(rule.organization_id, id));
        self.view.delete(keys::rule_of_connection(rule.connection_id, id));
        self.view.delete(keys::rule(id));
        self.save_rule_version(rule.workspace_id, id, since, None)
    }

    /// Keeps what the rule was until now for events accepted until now, as long as there are any.
    fn save_rule_version(
        &mut self,
        workspace: WorkspaceId,
        id: RuleId,
        since: u64,
        rule: Option<&Rule>,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_vec(&rule).expect("a rule has string keys and no failing serializer");
        self.view.put(keys::rule_version(workspace, id, since), text);
        let changed = self.load::<u64>(&keys::rules_changed(workspace))?.unwrap_or(0).max(since);
        self.save(keys::rules_changed(workspace), &changed);
        Ok(())
    }

    /// See [`Store::tested_rule`].
    pub fn tested_rule(&self, workspace: WorkspaceId, event: EventId) -> Result<Option<RuleId>, StoreError> {
        self.load(&keys::tested_rule(workspace, event))
    }

    /// See [`Store::rules_as_of`].
    pub fn rules_as_of(&self, workspace: WorkspaceId, sequence: u64) -> Result<RulesAsOf, StoreError> {
        let (mut rules, prefix) = (Vec::<(RuleId, Option<Rule>)>::new(), keys::rule_versions(workspace));
        let mut until: Option<u64> = None;
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |key, value| {
            let (id, since) = version_key(key);
            if since > sequence {
                until = Some(until.map_or(since, |until| until.min(since)));
            } else {
                let rule = decode_json(value)?;
                match rules.last_mut() {
                    Some(last) if last.0 == id => last.1 = rule,
                    _ => rules.push((id, rule)),
                }
            }
            Ok(true)
        })?;
        Ok(RulesAsOf { rules: rules.into_iter().filter_map(|(_, rule)| rule).collect(), until })
    }

    /// Rule versions that no unrouted event can meet any more, nor any event to come.
    pub fn unmet_rule_versions(
        &self,
        workspace: WorkspaceId,
        oldest_unrouted: u64,
    ) -> Result<Vec<Key>, StoreError> {
        let (mut last, mut old): (Option<(RuleId, Key)>, Vec<Key>) = (None, Vec::new());
        let prefix = keys::rule_versions(workspace);
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |key, value| {
            let (id, since) = version_key(key);
            if since <= oldest_unrouted {
                old.extend(last.take().filter(|(last_id, _)| *last_id == id).map(|(_, key)| key));
                last = Some((id, key.to_vec()));
                if value == b"null" {
                    old.push(key.to_vec());
                }
            }
            Ok(true)
        })?;
        Ok(old)
    }

    /// A row of configuration.
    pub fn row<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let row: Option<Row<T>> = self.view.get(key)?.map(|bytes| decode_json(&bytes)).transpose()?;
        Ok(row.map(|row| row.row))
    }

    /// What a change made by the record `sequence` still says today: `None` if it is superseded.
    pub fn still_says(&self, change: &str, sequence: u64) -> Result<Option<Change>, StoreError> {
        let change: Change = decode_json(change.as_bytes())?;
        Ok(match change {
            Change::CreateOrganization(row) | Change::UpdateOrganization(row) => {
                self.row_of(&keys::organization(row.id), sequence)?.map(Change::CreateOrganization)
            }
            Change::CreateMachineKey(row) | Change::UpdateMachineKey(row) => {
                self.row_of(&keys::machine_key(&row.access_key), sequence)?.map(Change::CreateMachineKey)
            }
            Change::CreateWorkspace(created) | Change::RotatePublishableKey(created) => {
                let (workspace, key) = *created;
                let key =
                    self.row_of(&keys::publishable_key(&publishable_key_hash(&key.public_key)), sequence)?;
                let workspace = self.row(&keys::workspace(workspace.id))?;
                workspace.zip(key).map(|created| Change::CreateWorkspace(Box::new(created)))
            }
            Change::UpdateWorkspace(row) => {
                self.row_of(&keys::workspace(row.id), sequence)?.map(Change::UpdateWorkspace)
            }
            Change::CreateConnection(row) | Change::UpdateConnection(row) => {
                self.row_of(&keys::connection(row.id), sequence)?.map(Change::CreateConnection)
            }
            Change::CreateRule(row) | Change::UpdateRule(row) => {
                self.row_of(&keys::rule(row.id), sequence)?.map(Change::CreateRule)
            }
            Change::SaveCatalog(row) => {
                self.row_of(&keys::catalog(row.connection_id), sequence)?.map(Change::SaveCatalog)
            }
            Change::SaveMapping(row) => {
                self.row_of(&keys::mapping(row.connection_id), sequence)?.map(Change::SaveMapping)
            }
            Change::SaveGrant(row) => {
                self.row_of(&keys::grant(row.connection_id), sequence)?.map(Change::SaveGrant)
            }
            Change::SaveName(row) => self
                .row_of(&keys::name(row.workspace_id, row.kind, &row.key), sequence)?
                .map(Change::SaveName),
            Change::SaveReplay(row) => {
                self.row_of(&keys::replay(row.id), sequence)?.map(|row| Change::SaveReplay(Box::new(row)))
            }
            Change::TestOne { workspace_id, event_id, rule_id } => self
                .tested_rule(workspace_id, event_id)?
                .map(|_| Change::TestOne { workspace_id, event_id, rule_id }),
            Change::CreateSession(row) | Change::UpdateSession(row) => {
                self.row_of(&keys::session(row.id), sequence)?.map(Change::CreateSession)
            }
            Change::CreateInvitation(row) => self
                .row_of(&keys::invitation(row.organization_id, row.id), sequence)?
                .map(Change::CreateInvitation),
            Change::CreateUser(row) | Change::UpdateUser(row) => self.user_of(&row, sequence)?,
            Change::AcceptInvitation(accepted) => self.user_of(&accepted.1, sequence)?,
            Change::DeleteConnection { .. }
            | Change::DeleteRule(_)
            | Change::DeleteReplay(_)
            | Change::DeleteInvitation { .. }
            | Change::DeleteUser { .. }
            | Change::ForgetAudit { .. }
            | Change::DeleteMachineKey(_)
            | Change::ForgetSessions { .. } => None,
        })
    }

    /// Whether an unrouted event may still have to meet a rule as this superseded change left it.
    /// Events after `settled` may be on their way in.
    pub fn is_met_by_unrouted(&self, change: &str, settled: u64) -> Result<bool, StoreError> {
        let (Change::CreateRule(rule) | Change::UpdateRule(rule)) = decode_json(change.as_bytes())? else {
            return Ok(false);
        };
        let changed = self.load::<u64>(&keys::rules_changed(rule.workspace_id))?.unwrap_or(0);
        Ok(self.oldest_unrouted(rule.workspace_id)?.min(settled + 1) < changed)
    }

    /// A row, if it is from the record `sequence`.
    pub(super) fn row_of<T: DeserializeOwned>(
        &self,
        key: &[u8],
        sequence: u64,
    ) -> Result<Option<T>, StoreError> {
        let row: Option<Row<T>> = self.view.get(key)?.map(|bytes| decode_json(&bytes)).transpose()?;
        Ok(row.filter(|row| row.at == sequence).map(|row| row.row))
    }

    pub(super) fn save_row<T: Serialize>(&mut self, key: Key, at: u64, row: &T) {
        let text =
            serde_json::to_vec(&Row { at, row }).expect("rows have string keys and no failing serializer");
        self.view.put(key, text);
    }

    /// The publishable key of a workspace.
    pub fn publishable_key_of(&self, workspace: WorkspaceId) -> Result<Option<PublishableKey>, StoreError> {
        let Some(hash) = self.view.get(&keys::publishable_key_of(workspace))? else { return Ok(None) };
        let hash: [u8; 32] =
            hash[..].try_into().map_err(|_| StoreError::Damaged("a key hash is cut".to_owned()))?;
        self.row(&keys::publishable_key(&hash))
    }

    /// Rows that a list names, oldest first, after `after`.
    pub fn list<T: DeserializeOwned>(
        &self,
        list: &[u8],
        row_key: impl Fn([u8; 16]) -> Key,
        after: Option<&[u8; 16]>,
        limit: usize,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<T, [u8; 16]>, StoreError> {
        let (mut page, mut last, mut looked_at) = (Page { records: Vec::new(), next: None }, None, 0);
        let from = after.map_or_else(|| list.to_vec(), |id| keys::end_of(&[list, &id[..]].concat()));
        self.view.scan(&from, &keys::end_of(list), Order::Ascending, &mut |key, _| {
            if page.records.len() == limit || looked_at == ROWS_PER_PAGE_MAX {
                page.next = last;
                return Ok(false);
            }
            let id = keys::id_at_end(key);
            page.records.extend(self.row::<T>(&row_key(id))?.filter(&keep));
            (last, looked_at) = (Some(id), looked_at + 1);
            Ok(true)
        })?;
        Ok(page)
    }
}

/// Refuses a change that was made from another version than the stored one.
fn check_version(what: &'static str, stored: u64, new: u64) -> Result<(), StoreError> {
    if new == stored + 1 { Ok(()) } else { Err(Refusal::Stale(what).into()) }
}

/// The rule and the sequence a version key is about.
fn version_key(key: &[u8]) -> (RuleId, u64) {
    let mut since = [0; 8];
    if let Some(part) = key.get(33..41) {
        since.copy_from_slice(part);
    }
    (RuleId::from_bytes(keys::part_at(key, 17)), u64::from_be_bytes(since))
}

pub(super) fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|err| StoreError::Damaged(format!("unreadable row: {err}")))
}
