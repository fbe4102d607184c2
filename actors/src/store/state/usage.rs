//! What workspaces used, a row for each and day.
//!
//! A record counts by what it says and by nothing else, so that it counts the same in a rebuild that no longer
//! knows its event. What it counts is gathered in memory, and rows are written once for many records.

use super::*;
use crate::domain::{
    delivery::Outcome,
    replay::Replay,
    usage::{Day, USAGE_DAYS_KEPT, Usage, UsageRow},
};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// Workspaces a page of usage looks at before it comes back short.
const WORKSPACES_PER_PAGE_MAX: usize = 4_000;

/// What was counted and is not in its row yet.
pub(super) type Gathered = BTreeMap<(WorkspaceId, Day), Usage>;

/// The workspace and day of a row.
pub type UsageKey = (WorkspaceId, Day);

/// What a record counts, beside rows that it tells as they are.
pub fn counts(record: &Record) -> Option<(UsageKey, Usage)> {
    let none = Usage::default();
    match record {
        Record::Accepted(new) => count_of_event(&new.event),
        Record::Routed { workspace_id, routed } if !routed.event_id.is_test() => {
            let usage = Usage { deliveries: routed.matched.len() as u64, ..none };
            Some(((*workspace_id, Day::of(routed.at)), usage))
        }
        Record::Attempted { workspace_id, attempted } if !attempted.event_id.is_test() => {
            let delivered = u64::from(attempted.outcome == Outcome::Delivered);
            let usage = Usage { attempts: 1, delivered, ..none };
            Some(((*workspace_id, Day::of(attempted.finished_at)), usage))
        }
        Record::Replayed { replay, again, at } => {
            let workspace_id = serde_json::from_str::<Replay>(replay).ok()?.workspace_id;
            let deliveries = again.iter().filter(|again| !again.event_id.is_test()).count() as u64;
            Some(((workspace_id, Day::of(*at)), Usage { deliveries, ..none }))
        }
        _ => None,
    }
    .filter(|(_, usage)| *usage != none)
}

fn count_of_event(event: &Event) -> Option<(UsageKey, Usage)> {
    let usage = Usage { events: 1, ..Usage::default() };
    (!event.id.is_test()).then(|| ((event.workspace_id, Day::of(event.accepted_at)), usage))
}

impl<V: View> State<V> {
    pub(super) fn count_event(&mut self, event: &Event) {
        self.gather(count_of_event(event));
    }

    pub(super) fn gather(&mut self, counted: Option<(UsageKey, Usage)>) {
        if let Some((key, usage)) = counted {
            self.gathered.entry(key).or_default().add(&usage);
        }
    }

    /// Writes what was gathered to its rows: before they are read, and before a layer is complete. What cannot
    /// be read, and so not be added to, stays gathered; who finds that trusts the view no further.
    pub fn write_usage(&mut self) {
        while let Some(((workspace, day), more)) = self.gathered.pop_first() {
            let key = keys::usage(workspace, day);
            match self.load::<Usage>(&key) {
                Ok(known) => {
                    let mut usage = known.unwrap_or_default();
                    usage.add(&more);
                    self.save(key, &usage);
                }
                Err(_) => {
                    self.gathered.insert((workspace, day), more);
                    return;
                }
            }
        }
    }

    /// Rows as a record told them.
    pub(super) fn apply_usage(&mut self, rows: Vec<UsageRow>) {
        for UsageRow { workspace_id, day, usage } in rows {
            self.gathered.remove(&(workspace_id, day));
            self.save(keys::usage(workspace_id, day), &usage);
        }
    }

    /// Tells these rows anew, as far as they are kept. Nothing may be on its way in meanwhile: it would come
    /// before the new record and not be in it. Returns the sequence to wait for, if there is any.
    pub fn tell_usage(&mut self, rows: &[UsageKey]) -> Result<Option<u64>, StoreError> {
        self.write_usage();
        let mut told = Vec::with_capacity(rows.len());
        for (workspace_id, day) in rows.iter().copied() {
            let usage = self.load::<Usage>(&keys::usage(workspace_id, day))?;
            told.extend(usage.map(|usage| UsageRow { workspace_id, day, usage }));
        }
        if told.is_empty() { Ok(None) } else { self.commit(Record::Used(told)).map(Some) }
    }

    /// See [`Store::usage`]. What was gathered must have been written.
    pub fn usage(
        &self,
        scope: Scope,
        days: &RangeInclusive<Day>,
        after: Option<UsageKey>,
        limit: usize,
    ) -> Result<Page<UsageRow, UsageKey>, StoreError> {
        let organization = match scope {
            Scope::Organization(organization) => organization,
            Scope::Workspace(workspace) => {
                let mut page = Page { records: Vec::new(), next: None };
                self.usage_of(workspace, days, after, limit, &mut page)?;
                return Ok(page);
            }
        };
        let (mut workspaces, list) = (Vec::new(), keys::workspaces_of(organization));
        let start = after.map_or_else(|| list.clone(), |(id, _)| keys::workspace_of(organization, id));
        self.view.scan(&start, &keys::end_of(&list), Order::Ascending, &mut |key, _| {
            workspaces.push(WorkspaceId::from_bytes(keys::id_at_end(key)));
            Ok(workspaces.len() < WORKSPACES_PER_PAGE_MAX)
        })?;
        let mut page = Page { records: Vec::new(), next: None };
        for workspace in &workspaces {
            self.usage_of(*workspace, days, after.filter(|(id, _)| id == workspace), limit, &mut page)?;
            if page.next.is_some() {
                return Ok(page);
            }
        }
        let last = workspaces.last().filter(|_| workspaces.len() == WORKSPACES_PER_PAGE_MAX);
        page.next = last.map(|id| (*id, Day(u32::MAX)));
        Ok(page)
    }

    fn usage_of(
        &self,
        workspace_id: WorkspaceId,
        days: &RangeInclusive<Day>,
        after: Option<UsageKey>,
        limit: usize,
        page: &mut Page<UsageRow, UsageKey>,
    ) -> Result<(), StoreError> {
        let from = after.map_or(*days.start(), |(_, day)| Day(day.0.saturating_add(1)).max(*days.start()));
        let start = keys::usage(workspace_id, from);
        let end = keys::end_of(&keys::usage(workspace_id, *days.end()));
        self.view.scan(&start, &end, Order::Ascending, &mut |key, value| {
            if page.records.len() == limit {
                page.next = page.records.last().map(|row| (row.workspace_id, row.day));
                return Ok(false);
            }
            page.records.push(UsageRow { workspace_id, day: keys::day_at_end(key), usage: decode(value)? });
            Ok(true)
        })
    }

    /// Rows of a workspace that are not kept any longer. They need no record to go: read back, they are as old
    /// as before, and nobody is shown them.
    pub fn usage_past_keeping(&self, workspace: WorkspaceId, now: Timestamp) -> Result<Vec<Key>, StoreError> {
        let mut old = Vec::new();
        let end = keys::usage(workspace, Day::of(now).before(USAGE_DAYS_KEPT));
        self.view.scan(&keys::usage_of(workspace), &end, Order::Ascending, &mut |key, _| {
            old.push(key.to_vec());
            Ok(true)
        })?;
        Ok(old)
    }

    /// Some of what an organization has, under `prefix` from `from` on: how many, and where to go on.
    pub fn count_under(
        &self,
        prefix: &[u8],
        from: Option<&Key>,
        limit: usize,
    ) -> Result<(u64, Option<Key>), StoreError> {
        let (mut count, mut last) = (0, None);
        let start = from.map_or_else(|| prefix.to_vec(), |key| keys::end_of(key));
        self.view.scan(&start, &keys::end_of(prefix), Order::Ascending, &mut |key, _| {
            count += 1;
            last = (count == limit).then(|| key.to_vec());
            Ok(last.is_none())
        })?;
        Ok((count as u64, last))
    }
}
