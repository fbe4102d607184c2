//! What is replayed to one connection: a lane of its own, below what is live.
//!
//! It is looked at only when nothing live is due, and has only a part of the attempts that may be in flight, so
//! that whatever happens next finds most of them free.

use super::hand::Hand;
use crate::{
    domain::{
        ids::{ConnectionId, DeliveryId, WorkspaceId},
        timestamp::Timestamp,
    },
    store::{DueEntry, Store, StoreError},
};
use std::collections::{HashSet, VecDeque};

/// Of a connection's attempts in flight, one in so many may be a replay's; but one at any time.
const SHARE: usize = 4;

/// See the module's text.
#[derive(Default)]
pub struct Lower {
    window: VecDeque<DueEntry>,
    /// When something may be due that is not in the window.
    next_due: Option<Timestamp>,
    in_flight: HashSet<DeliveryId>,
}

impl Lower {
    /// What was read is out of date: look from `due` on, or not at all.
    pub fn look_again(&mut self, due: Option<Timestamp>) {
        self.window.clear();
        self.next_due = due;
    }

    /// Something may be due by then.
    pub fn wakes_by(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    /// Whether nothing that was read waits to be started.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// When to look again, if not by itself when an attempt comes back.
    pub fn next_due(&self, max_in_flight: usize) -> Option<Timestamp> {
        self.next_due.filter(|_| self.may_start(max_in_flight))
    }

    fn may_start(&self, max_in_flight: usize) -> bool {
        self.in_flight.len() < (max_in_flight / SHARE).max(1)
    }

    /// Whether one may start, after a look in the store if need be; `limit` are read at most.
    pub async fn has_next(
        &mut self,
        store: &dyn Store,
        (workspace, connection): (WorkspaceId, ConnectionId),
        now: Timestamp,
        hand: &Hand,
        (max_in_flight, limit): (usize, usize),
    ) -> Result<bool, StoreError> {
        if !self.may_start(max_in_flight) {
            return Ok(false);
        }
        if self.window.is_empty() && self.next_due.is_some_and(|due| due <= now) {
            let page = store.due_replayed(workspace, connection, now, limit).await?;
            self.next_due = page.next;
            self.window.extend(hand.without(page.entries));
        }
        Ok(!self.window.is_empty())
    }

    /// Takes the next one up.
    pub fn take(&mut self) -> Option<DueEntry> {
        let next = self.window.pop_front();
        self.in_flight.extend(next.map(|entry| entry.delivery_id));
        next
    }

    /// The attempt came back, if it was one of these.
    pub fn landed(&mut self, id: DeliveryId) {
        self.in_flight.remove(&id);
    }
}
