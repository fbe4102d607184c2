//! Why the store did not do something.

use super::*;

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the store now.
    #[error("this process no longer owns the store")]
    Fenced,
    /// No room, or the disk fails: nothing was accepted. Reads and deliveries go on.
    #[error("{0}")]
    Unavailable(Unavailable),
    /// The change does not fit what is there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The data cannot be read. The text is for the operator's log, not for callers.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// Why nothing can be accepted at the moment. Each ends by itself once the cause is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the disk is full: nothing was accepted; try again once there is room")]
    DiskFull,
    #[error("the disk fails to write: nothing was accepted; try again later")]
    DiskFails,
    #[error("too much is waiting to be written: nothing was accepted; try again in a moment")]
    Busy,
    #[error("the server is shutting down: nothing was accepted; try again in a moment")]
    Closing,
}

/// Why a change does not fit what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A workspace or connection of that name is there already.
    #[error("{0} already exists")]
    NameTaken(&'static str),
    #[error("a rule with the same connection, event, resource and action already exists")]
    DuplicateRule,
    #[error("the connection has {0} rules; delete them first, or send force_delete")]
    HasRules(usize),
    #[error("{0} was changed meanwhile; read it again and repeat the change")]
    Stale(&'static str),
    #[error("a workspace has at most {0} {1}")]
    TooMany(usize, &'static str),
    /// The rules of a workspace have so many regular expressions at most.
    #[error("the rules of a workspace have at most {0} regular expressions together")]
    TooManyMatches(usize),
    #[error("the idempotency key was used for another event")]
    IdempotencyMismatch,
    #[error("the delivery is {}", .0.as_str())]
    Final(Status),
    /// Another one stands for its rule by now.
    #[error("the delivery was replayed; retry the delivery that its latest replay made")]
    Replayed,
    /// A replay cannot be told that.
    #[error("the replay is {}, so it cannot be {}", .0.as_str(), .1.as_str())]
    ReplayIs(ReplayState, ReplayState),
    #[error("an attempt is in flight or about to start")]
    InFlight,
    /// Nothing could come of a retry: the connection is gone.
    #[error("the delivery's connection was deleted")]
    ConnectionGone,
    #[error("the delivery's connection is inactive; mend it first, and what waits for it flows again")]
    ConnectionInactive,
    #[error("{0}")]
    SessionOver(Over),
    #[error("an organization has at most {0} machine keys")]
    TooManyKeys(usize),
    #[error("an organization has at most {0} {1}")]
    TooManyUsers(usize, &'static str),
    /// An organization that has owners keeps one.
    #[error("this is the organization's last owner; make somebody else an owner first")]
    LastOwner,
    #[error("the event's payload was damaged on disk and cannot be read any more; send the event again")]
    PayloadLost,
}
