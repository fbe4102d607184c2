//! Plans: how much an organization may have and use. Without one, there is no limit.
//!
//! Decisions only: who asks brings the figures.

use super::{ids::OrganizationId, notice, timestamp::Timestamp, usage::Day, workspace::Workspace};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    EventsPerMonth,
    Workspaces,
    Connections,
    Rules,
    Members,
}

impl Limit {
    /// Its key in the configuration.
    pub const fn key(self) -> &'static str {
        match self {
            Self::EventsPerMonth => "events_per_month",
            Self::Workspaces => "workspaces",
            Self::Connections => "connections",
            Self::Rules => "rules",
            Self::Members => "members",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::EventsPerMonth => "events a month",
            limit => limit.key(),
        }
    }
}

/// What happens to events beyond those of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnEventsExceeded {
    /// They are accepted all the same, and the plan says that it is exceeded.
    #[default]
    Accept,
    /// They are refused until the next month.
    Refuse,
}

/// Limits, all together for one organization. What is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Events accepted in a calendar month, UTC.
    pub events_per_month: Option<u64>,
    pub on_events_exceeded: OnEventsExceeded,
    pub workspaces: Option<u64>,
    pub connections: Option<u64>,
    pub rules: Option<u64>,
    /// Days that finished events are kept at most, whatever a workspace or the server says.
    pub retention_days: Option<u32>,
    pub members: Option<u64>,
}

static UNLIMITED: Plan = Plan {
    events_per_month: None,
    on_events_exceeded: OnEventsExceeded::Accept,
    workspaces: None,
    connections: None,
    rules: None,
    retention_days: None,
    members: None,
};

impl Plan {
    /// How much there may be of something.
    pub const fn limit(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::EventsPerMonth => self.events_per_month,
            Limit::Workspaces => self.workspaces,
            Limit::Connections => self.connections,
            Limit::Rules => self.rules,
            Limit::Members => self.members,
        }
    }

    /// How many events a month are let in.
    pub const fn events_let_in(&self) -> Option<u64> {
        match self.on_events_exceeded {
            OnEventsExceeded::Accept => None,
            OnEventsExceeded::Refuse => self.events_per_month,
        }
    }

    /// Refuses one more where there are `used` of something already.
    pub const fn check(&self, limit: Limit, used: u64) -> Result<(), Exceeded> {
        match self.limit(limit) {
            Some(of) if used >= of => Err(Exceeded { limit, of, until: None }),
            _ => Ok(()),
        }
    }
}

/// A limit stands in the way. Says what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pub limit: Limit,
    pub of: u64,
    /// When there is room again by itself, if ever, and how long that is.
    pub until: Option<(Timestamp, Duration)>,
}

impl std::error::Error for Exceeded {}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, of, until } = self;
        write!(f, "the plan allows {of} {}, and there are so many already; ", limit.noun())?;
        match until {
            Some((until, _)) => {
                write!(f, "nothing was accepted: send it again from {until} on, or have the plan changed")
            }
            None => write!(f, "delete one that is not needed, or have the plan changed"),
        }
    }
}

/// The plans there are, and whose is which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plans {
    /// By name.
    pub plans: BTreeMap<String, Plan>,
    /// The name of the plan of whoever has none of their own; without, they have no limits.
    pub default: Option<String>,
    /// Names of plans.
    pub of: BTreeMap<OrganizationId, String>,
}

impl Plans {
    /// The name of an organization's plan. The operator's own, which operational events go through, has none
    /// unless it is named.
    pub fn name_of(&self, organization: OrganizationId) -> Option<&str> {
        let default = self.default.as_ref().filter(|_| organization != notice::ORGANIZATION);
        self.of.get(&organization).or(default).map(String::as_str)
    }

    /// An organization's plan.
    pub fn plan_of(&self, organization: OrganizationId) -> &Plan {
        self.name_of(organization).and_then(|name| self.plans.get(name)).unwrap_or(&UNLIMITED)
    }
}

/// How long finished events are kept.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Days, where a workspace says nothing.
    pub default_days: u32,
    pub plans: Arc<Plans>,
}

impl Retention {
    /// So many days, but for workspaces that say otherwise.
    pub fn of_days(default_days: u32) -> Self {
        Self { default_days, plans: Arc::default() }
    }

    /// Days that a workspace's events are kept.
    pub fn days(&self, workspace: &Workspace) -> u32 {
        let most = self.plans.plan_of(workspace.organization_id).retention_days;
        workspace.retention_days.unwrap_or(self.default_days).min(most.unwrap_or(u32::MAX))
    }
}

/// What of a limit is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// 80 %.
    Near,
    /// All of it.
    Reached,
}

/// What is passed on the way from `before` to `after` of a limit, the most that is.
pub const fn crossing(before: u64, after: u64, of: u64) -> Option<Crossing> {
    let near = of - of / 5; // four fifths, rounded up
    if before < of && after >= of {
        Some(Crossing::Reached)
    } else if before < near && after >= near {
        Some(Crossing::Near)
    } else {
        None
    }
}

/// The calendar month, UTC, of a moment: its first day, and when the next one begins.
pub fn month_of(moment: Timestamp) -> (Day, Timestamp) {
    let today = Day::of(moment);
    (today.first_of_month(), today.first_of_next_month().start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_passed_once_on_the_way_up() {
        use Crossing::{Near, Reached};
        #[rustfmt::skip]
        let cases = [
            // before  after  of    expected
            (0,        79,    100,  None),
            (79,       80,    100,  Some(Near)),
            (80,       99,    100,  None),
            (99,       100,   100,  Some(Reached)),
            (100,      300,   100,  None),
            (0,        100,   100,  Some(Reached)),
            (0,        1,     1,    Some(Reached)),
            (0,        1,     2,    None),
            (1,        2,     2,    Some(Reached)),
            (2,        3,     3,    Some(Reached)),
            (7,        8,     9,    Some(Near)),
            (0,        5,     0,    None),
            (90,       85,    100,  None),
            (u64::MAX - 1, u64::MAX, u64::MAX, Some(Reached)),
        ];
        for (before, after, of, expected) in cases {
            assert_eq!(crossing(before, after, of), expected, "{before} to {after} of {of}");
        }
        for of in 1..200_u64 {
            let all: Vec<_> = (0..300).filter_map(|used| crossing(used, used + 1, of)).collect();
            assert!(all == [Near, Reached] || all == [Reached], "{of}: {all:?}");
            let near = (0..300).find(|used| crossing(*used, used + 1, of).is_some()).map(|used| used + 1);
            assert_eq!(near, Some((of * 4).div_ceil(5)), "{of}");
        }
    }

    #[test]
    fn one_more_fits_until_the_limit_is_there() {
        let plan = Plan { rules: Some(2), ..Plan::default() };
        for (limit, used, fits) in [
            (Limit::Rules, 0, true),
            (Limit::Rules, 1, true),
            (Limit::Rules, 2, false),
            (Limit::Rules, 9, false),
            (Limit::Members, u64::MAX, true),
        ] {
            assert_eq!(plan.check(limit, used).is_ok(), fits, "{used} {limit:?}");
        }
        let said = plan.check(Limit::Rules, 2).expect_err("it is full").to_string();
        assert!(said.contains("2 rules") && said.contains("delete one"), "{said}");
    }

    #[test]
    fn an_organization_has_its_own_plan_or_the_default_or_none() {
        let [own, other] = [1, 2].map(|n| OrganizationId::from_bytes([n; 16]));
        let plan = |rules| Plan { rules: Some(rules), ..Plan::default() };
        let plans = [("small".to_owned(), plan(1)), ("large".to_owned(), plan(9))];
        let mut plans = Plans { plans: plans.into(), default: None, of: [(own, "large".to_owned())].into() };
        assert_eq!([own, other].map(|id| plans.plan_of(id).rules), [Some(9), None]);
        plans.default = Some("small".to_owned());
        assert_eq!([own, other].map(|id| plans.plan_of(id).rules), [Some(9), Some(1)]);
        assert_eq!([own, other].map(|id| plans.name_of(id)), [Some("large"), Some("small")]);
        assert_eq!(plans.name_of(notice::ORGANIZATION), None, "nobody stands in the operator's way");
    }
}
