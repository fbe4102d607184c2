//! An event: what happened. It never changes; only what became of it does.

use super::{
    ids::{EventId, OrganizationId, WorkspaceId},
    timestamp::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The resource of an event that names none.
pub const RESOURCE_DEFAULT: &str = "global";

/// What happened, without its payload, which the store keeps byte for byte beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    /// Dot-separated by custom, such as `contact.created`; compared byte for byte.
    pub name: String,
    pub resource: String,
    pub resource_id: Option<String>,
    /// The key that sent it.
    pub created_by: String,
    pub accepted_at: Timestamp,
}

/// What has become of an event, or of one of its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted; nothing was tried yet.
    Pending,
    /// An attempt is in flight.
    Processing,
    /// Tried, and waiting to be tried again.
    Retrying,
    /// Delivered, everywhere it had to go.
    Completed,
    /// Given up, at one destination at least.
    Failed,
    /// Called off: by a person, because its connection was deleted, or because it waited for too long.
    Canceled,
}

impl Status {
    /// All, in the order of a delivery's life.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Retrying, Self::Completed, Self::Failed, Self::Canceled];

    /// Nothing more will happen by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

impl std::str::FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// How many of an event's deliveries stand where. Its status follows from this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub total: u32,
    pub retrying: u32,
    pub completed: u32,
    pub failed: u32,
    pub canceled: u32,
}

impl Tally {
    /// Moves one delivery from a status to another.
    pub fn shift(&mut self, from: Status, to: Status) {
        if let Some(count) = self.of(from) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.of(to) {
            *count += 1;
        }
    }

    fn of(&mut self, status: Status) -> Option<&mut u32> {
        match status {
            Status::Retrying => Some(&mut self.retrying),
            Status::Completed => Some(&mut self.completed),
            Status::Failed => Some(&mut self.failed),
            Status::Canceled => Some(&mut self.canceled),
            Status::Pending | Status::Processing => None,
        }
    }

    /// The status of a routed event. One whose rules all let it pass is completed.
    pub fn status(&self) -> Status {
        let finished = self.completed + self.failed + self.canceled;
        if finished < self.total {
            if self.retrying > 0 { Status::Retrying } else { Status::Pending }
        } else if self.failed > 0 {
            Status::Failed
        } else if self.canceled > 0 {
            Status::Canceled
        } else {
            Status::Completed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_status_follows_from_its_deliveries() {
        let tally = |total, retrying, completed, failed, canceled| Tally {
            total,
            retrying,
            completed,
            failed,
            canceled,
        };
        #[rustfmt::skip]
        let cases = [
            ("no rule matched",                        tally(0, 0, 0, 0, 0), Status::Completed),
            ("nothing tried yet",                      tally(2, 0, 0, 0, 0), Status::Pending),
            ("one waits for a retry",                  tally(2, 1, 1, 0, 0), Status::Retrying),
            ("one failed, one still has to be tried",  tally(2, 0, 0, 1, 0), Status::Pending),
            ("all delivered",                          tally(2, 0, 2, 0, 0), Status::Completed),
            ("one failed for good",                    tally(2, 0, 1, 1, 0), Status::Failed),
            ("one called off",                         tally(2, 0, 1, 0, 1), Status::Canceled),
        ];
        for (why, tally, expected) in cases {
            assert_eq!(tally.status(), expected, "{why}");
        }
    }

    #[test]
    fn status_names_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("done".parse::<Status>().is_err());
    }
}
