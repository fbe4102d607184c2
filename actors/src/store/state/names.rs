//! Names that events bear, written down the first time one is routed.
//!
//! A name that is known costs a look into memory and nothing else, and so does one that a workspace has
//! no more room for.

use super::{change::decode_json, *};
use crate::domain::names::{NAMES_MAX, Name, NameKind};

/// Names remembered at most, all workspaces together; beyond, they are looked up again.
const REMEMBERED_MAX: usize = 100_000;

/// What needs not be looked up: names that are written down.
#[derive(Default)]
pub(super) struct Registered {
    of: HashMap<(WorkspaceId, NameKind), OfKind>,
    count: usize,
}

#[derive(Default)]
struct OfKind {
    keys: HashSet<String>,
    /// There is no room for more.
    is_full: bool,
}

impl Registered {
    fn has(&self, workspace: WorkspaceId, kind: NameKind, key: &str) -> bool {
        let of = self.of.get(&(workspace, kind));
        of.is_some_and(|of| of.is_full || of.keys.contains(key))
    }

    fn remember(&mut self, workspace: WorkspaceId, kind: NameKind) -> &mut OfKind {
        if self.count >= REMEMBERED_MAX {
            *self = Self::default();
        }
        self.count += 1;
        self.of.entry((workspace, kind)).or_default()
    }
}

impl<V: View> State<V> {
    /// Writes down what an event is called, if nobody has before and there is room.
    pub(super) fn register_names(&mut self, event: &Event) -> Result<(), StoreError> {
        let workspace = event.workspace_id;
        for (kind, key) in [(NameKind::EventType, &event.name), (NameKind::Resource, &event.resource)] {
            if key == kind.default_key() || self.registered.has(workspace, kind, key) {
                continue;
            }
            if self.view.get(&keys::name(workspace, kind, key))?.is_none() {
                let mut name = Name::new(workspace, kind, key, event.accepted_at);
                name.created_by = Some(event.created_by.clone());
                match self.check_room(workspace, kind) {
                    Ok(()) => {}
                    Err(StoreError::Refused(_)) => {
                        self.registered.remember(workspace, kind).is_full = true;
                        continue;
                    }
                    Err(err) => return Err(err),
                }
                self.commit(Record::configured(&Change::SaveName(name), None))?;
            }
            self.registered.remember(workspace, kind).keys.insert(key.clone());
        }
        Ok(())
    }

    pub(super) fn check_name_saved(&self, name: &Name) -> Result<(), StoreError> {
        self.row::<Workspace>(&keys::workspace(name.workspace_id))?.ok_or(Refusal::NotFound("workspace"))?;
        let is_new = self.view.get(&keys::name(name.workspace_id, name.kind, &name.key))?.is_none();
        if is_new { self.check_room(name.workspace_id, name.kind) } else { Ok(()) }
    }

    fn check_room(&self, workspace: WorkspaceId, kind: NameKind) -> Result<(), StoreError> {
        self.check_count(&keys::names_of(workspace, kind), NAMES_MAX, kind.plural())
    }

    /// See [`Store::names`].
    pub fn names(&self, workspace: WorkspaceId, kind: NameKind) -> Result<Vec<Name>, StoreError> {
        let (prefix, mut names) = (keys::names_of(workspace, kind), Vec::new());
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |_, value| {
            names.push(decode_json::<Row<Name>>(value)?.row);
            Ok(true)
        })?;
        Ok(names)
    }
}
