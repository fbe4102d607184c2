//! Who may do what: permissions, what they are asked for, and the limits of a machine key.
//!
//! One matrix for all callers, so that a route says what it asks for and nothing else decides.

use super::ids::WorkspaceId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// See what is configured, and what became of events.
    Read,
    /// Change what is configured; retry and cancel.
    Write,
    /// See payloads, and what destinations answered.
    Payload,
    /// Send events.
    Send,
    /// Mint sessions, and look after them.
    Sessions,
    /// Make machine keys, and look after them.
    Keys,
}

impl Permission {
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Payload, Self::Send, Self::Sessions, Self::Keys];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Payload => "payload",
            Self::Send => "send",
            Self::Sessions => "sessions",
            Self::Keys => "keys",
        }
    }

    /// The permission of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == name)
    }
}

/// What a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What no workspace holds: new workspaces, machine keys. For machines that no workspace limits.
    Organization,
    /// Workspaces themselves, their sessions, and lists across them. For machines.
    Workspaces,
    Connections,
    Rules,
    Events,
    /// Names that any page needs to show something: kinds of destinations, event types, resources.
    Catalogue,
}

/// What a machine key is limited to; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLimits {
    #[serde(default)]
    pub workspaces: Option<Vec<WorkspaceId>>,
    #[serde(default)]
    pub permissions: Option<Vec<Permission>>,
}

impl KeyLimits {
    /// Whether a key with these limits may do this at all.
    pub fn may(&self, permission: Permission, subject: Subject) -> bool {
        let permitted = self.permissions.as_ref().is_none_or(|all| all.contains(&permission));
        permitted && (subject != Subject::Organization || self.workspaces.is_none())
    }

    /// Whether the key knows of this workspace.
    pub fn includes(&self, workspace: WorkspaceId) -> bool {
        self.workspaces.as_ref().is_none_or(|all| all.contains(&workspace))
    }

    /// The workspace, where there is only one.
    pub fn only_workspace(&self) -> Option<WorkspaceId> {
        match self.workspaces.as_deref() {
            Some([only]) => Some(*only),
            _ => None,
        }
    }

    /// Whether a key with these limits could do all that one with the `other` could.
    pub fn covers(&self, other: &Self) -> bool {
        fn within<T: PartialEq>(ours: &Option<Vec<T>>, theirs: &Option<Vec<T>>) -> bool {
            match (ours, theirs) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(ours), Some(theirs)) => theirs.iter().all(|one| ours.contains(one)),
            }
        }
        within(&self.workspaces, &other.workspaces) && within(&self.permissions, &other.permissions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: WorkspaceId = WorkspaceId::from_bytes([1; 16]);
    const TWO: WorkspaceId = WorkspaceId::from_bytes([2; 16]);

    fn limits(workspaces: Option<&[WorkspaceId]>, permissions: Option<&[Permission]>) -> KeyLimits {
        let permissions = permissions.map(<[_]>::to_vec);
        KeyLimits { workspaces: workspaces.map(<[_]>::to_vec), permissions }
    }

    #[test]
    fn a_key_may_what_its_limits_leave() {
        use Permission::*;
        use Subject::*;
        #[rustfmt::skip]
        let cases = [
            // why                            workspaces    permissions           asks for   about         may it?
            ("no limit",                      None,         None,                 Keys,      Organization, true),
            ("nothing is permitted",          None,         Some(&[][..]),        Read,      Catalogue,    false),
            ("it is permitted",               None,         Some(&[Read][..]),    Read,      Organization, true),
            ("something else is permitted",   None,         Some(&[Read][..]),    Write,     Rules,        false),
            ("in a workspace",                Some(&[ONE][..]), None,             Write,     Rules,        true),
            ("beyond its workspace",          Some(&[ONE][..]), None,             Write,     Organization, false),
            ("its workspace itself",          Some(&[ONE][..]), None,             Write,     Workspaces,   true),
        ];
        for (why, workspaces, permissions, permission, subject, expected) in cases {
            assert_eq!(limits(workspaces, permissions).may(permission, subject), expected, "{why}");
        }
    }

    #[test]
    fn limits_are_covered_by_wider_ones() {
        use Permission::*;
        let all = KeyLimits::default();
        let one = limits(Some(&[ONE]), None);
        let both = limits(Some(&[ONE, TWO]), None);
        let reads = limits(Some(&[ONE]), Some(&[Read]));
        for (wider, narrower) in [(&all, &one), (&both, &one), (&one, &reads), (&all, &reads)] {
            assert!(wider.covers(narrower) && wider.covers(wider));
            assert!(!narrower.covers(wider), "{narrower:?} covers {wider:?}");
        }
        assert!(one.includes(ONE) && !one.includes(TWO) && all.includes(TWO));
        assert_eq!(
            (one.only_workspace(), both.only_workspace(), all.only_workspace()),
            (Some(ONE), None, None)
        );
    }

    #[test]
    fn a_permission_has_one_name() {
        for permission in Permission::ALL {
            assert_eq!(Permission::named(permission.as_str()), Some(permission));
            assert_eq!(serde_json::to_value(permission).expect("JSON"), permission.as_str());
        }
        assert_eq!(Permission::named("Read"), None);
    }
}
