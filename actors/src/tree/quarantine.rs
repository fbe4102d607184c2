//! Who fell too often and is left down for a while, for the operator's gauge and whoever asks the API.

use crate::domain::{
    ids::{ConnectionId, WorkspaceId},
    timestamp::Timestamp,
};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Somebody who can be left down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Connection(ConnectionId),
    /// The rules of this workspace.
    Rule(WorkspaceId),
    /// A workspace with all that is in it.
    Workspace(WorkspaceId),
    Retention,
    Replays,
    Notices,
}

impl Who {
    const fn actor(self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::Rule(_) => "rule",
            Self::Workspace(_) => "workspace",
            Self::Retention => "retention",
            Self::Replays => "replays",
            Self::Notices => "notices",
        }
    }
}

/// Who is left down, and until when.
#[derive(Debug, Default)]
pub struct Quarantine(Mutex<HashMap<Who, Timestamp>>);

impl Quarantine {
    /// Leaves somebody down.
    pub fn hold(&self, who: Who, until: Timestamp, now: Timestamp) {
        let mut held = self.0.lock();
        // The parent of some may be gone, and nobody is left to let them go.
        held.retain(|_, until| *until > now);
        held.insert(who, until);
        for actor in ["connection", "rule", "workspace", "retention", "replays", "notices"] {
            tell(&held, actor);
        }
    }

    /// It is started again.
    pub fn let_go(&self, who: Who) {
        let mut held = self.0.lock();
        if held.remove(&who).is_some() {
            tell(&held, who.actor());
        }
    }

    /// Until when one of these keeps the first from working, if at all.
    pub fn until(&self, any_of: &[Who], now: Timestamp) -> Option<Timestamp> {
        let held = self.0.lock();
        any_of.iter().filter_map(|who| held.get(who).copied()).filter(|until| *until > now).max()
    }
}

fn tell(held: &HashMap<Who, Timestamp>, actor: &'static str) {
    let count = held.keys().filter(|who| who.actor() == actor).count();
    metrics::gauge!("weft_quarantined", "actor" => actor).set(count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn it_knows_who_is_left_down_and_until_when() {
        let [one, other] = [1, 2].map(|number| WorkspaceId::from_uuid(Uuid::from_u128(number)));
        let quarantine = Quarantine::default();
        quarantine.hold(Who::Rule(one), Timestamp(100), Timestamp(40));
        quarantine.hold(Who::Workspace(one), Timestamp(120), Timestamp(60));
        let any = |workspace| [Who::Rule(workspace), Who::Workspace(workspace)];
        #[rustfmt::skip]
        let cases = [
            // why                             who          when  until
            ("its workspace is down longer",   one,         60,   Some(Timestamp(120))),
            ("another has nothing to do with it", other,    60,   None),
            ("its time is over",               one,         120,  None),
        ];
        for (why, who, now, expected) in cases {
            assert_eq!(quarantine.until(&any(who), Timestamp(now)), expected, "{why}");
        }
        quarantine.let_go(Who::Workspace(one));
        assert_eq!(quarantine.until(&any(one), Timestamp(60)), Some(Timestamp(100)));
        quarantine.hold(Who::Rule(other), Timestamp(300), Timestamp(200));
        assert_eq!(quarantine.0.lock().len(), 1, "those whose time is over are forgotten");
    }
}
