//! Who may have how many attempts in flight: no more than leaves something for whoever comes next.
//!
//! A bound alone lets who comes first take all of it: a few connections that hang would hold every
//! slot of their workspace, and a few workspaces every slot there is. So what one may hold depends on
//! what is left: a workspace an eighth of that, and a connection twice what is left to its workspace.
//! Alone a connection has all that its policy may ask for; beside ten that hang it has as many as each
//! of them; and sixteen workspaces in which everything hangs leave six hundred slots. The first attempt
//! of a connection needs none of what its siblings hold, so that dozens of them leave it one.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Attempts in flight at a time, over all workspaces.
pub const IN_FLIGHT_MAX: usize = 4_096;
/// Attempts in flight at a time for one workspace, beside the first of each of its connections.
pub const IN_FLIGHT_PER_WORKSPACE_MAX: usize = 384;

/// All attempts there may be.
#[derive(Clone)]
pub struct Slots(Arc<Semaphore>);

/// A workspace's part of them.
#[derive(Clone)]
pub struct Share {
    own: Arc<Semaphore>,
    /// For those that are the first of their connection.
    firsts: Arc<Semaphore>,
    all: Slots,
}

/// The right to one attempt, given back when it is dropped.
pub struct Slot {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Default for Slots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(IN_FLIGHT_MAX)))
    }
}

impl Slots {
    /// Returns when no attempt is in flight any more.
    pub async fn all_landed(&self) {
        let all = u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX);
        drop(self.0.acquire_many(all).await);
    }
}

impl Share {
    /// The share of one more workspace.
    pub fn of(all: &Slots) -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self { own: slots(IN_FLIGHT_PER_WORKSPACE_MAX), firsts: slots(IN_FLIGHT_MAX), all: all.clone() }
    }

    /// Whether a connection that has so many in flight may start another.
    pub fn allows(&self, in_flight: usize) -> bool {
        let (free, free_firsts) = (self.own.available_permits(), self.firsts.available_permits());
        let of_workspace = IN_FLIGHT_PER_WORKSPACE_MAX - free + IN_FLIGHT_MAX - free_firsts;
        (in_flight == 0 || in_flight < 2 * free)
            && (of_workspace == 0 || of_workspace < self.all.0.available_permits() / 8)
    }

    /// A slot for a connection that has so many in flight, if there is one.
    pub fn take(&self, in_flight: usize) -> Option<Slot> {
        let own = if in_flight == 0 { &self.firsts } else { &self.own };
        let own = own.clone().try_acquire_owned().ok()?;
        Some(Slot { _own: own, _all: self.all.0.clone().try_acquire_owned().ok()? })
    }

    /// A slot for one that got none, waiting in turn for it. `None`: there will be none.
    pub async fn wait(&self) -> Option<Slot> {
        let own = self.firsts.clone().acquire_owned().await.ok()?;
        Some(Slot { _own: own, _all: self.all.0.clone().acquire_owned().await.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections, each with what it wants and what it holds.
    struct Greedy {
        share: Share,
        wants: usize,
        holds: Vec<Slot>,
    }

    impl Greedy {
        fn new(share: &Share, wants: usize) -> Self {
            Self { share: share.clone(), wants, holds: Vec::new() }
        }

        fn take(&mut self) -> bool {
            let may = self.holds.len() < self.wants && self.share.allows(self.holds.len());
            let slot = if may { self.share.take(self.holds.len()) } else { None };
            let took = slot.is_some();
            self.holds.extend(slot);
            took
        }
    }

    /// All take in turn until nobody gets any more.
    fn fill(connections: &mut [Greedy]) {
        while connections.iter_mut().map(Greedy::take).filter(|took| *took).count() > 0 {}
    }

    /// I10: connections of one workspace that hang, one after the other, leave enough for the next.
    #[test]
    fn a_connection_gets_its_part_beside_those_that_hang() {
        #[rustfmt::skip]
        let cases = [
            // why                                      hang  each wants  the first has  the newcomer has
            ("one alone has what it asks for",          0,    0,          0,             256),
            ("one that wants all there is leaves some", 1,    256,        256,           87),
            ("a few do not notice each other",          8,    32,         32,            92),
            ("at the last slots it has fewer",          12,   32,         32,            10),
            ("and where all is taken it has one",       30,   32,         32,            1),
        ];
        for (why, count, wants, first, newcomer) in cases {
            let share = Share::of(&Slots::default());
            let mut hanging: Vec<_> = (0..count).map(|_| Greedy::new(&share, wants)).collect();
            hanging.iter_mut().for_each(|connection| fill(std::slice::from_mut(connection)));
            assert_eq!(hanging.first().map_or(0, |connection| connection.holds.len()), first, "{why}");
            let mut late = Greedy::new(&share, 256);
            fill(std::slice::from_mut(&mut late));
            assert_eq!(late.holds.len(), newcomer, "{why}");
        }
    }

    /// I10: the same for workspaces, each with more connections that hang than it has slots.
    #[test]
    fn a_workspace_gets_its_part_beside_those_that_hang() {
        for (workspaces, newcomer) in [(0, 256), (1, 256), (16, 71), (32, 11)] {
            let slots = Slots::default();
            let mut hanging = Vec::new();
            for _ in 0..workspaces {
                let share = Share::of(&slots);
                let mut connections: Vec<_> = (0..20).map(|_| Greedy::new(&share, 32)).collect();
                fill(&mut connections);
                hanging.extend(connections);
            }
            let mut late = [Greedy::new(&Share::of(&slots), 256)];
            fill(&mut late);
            assert_eq!(late[0].holds.len(), newcomer, "beside {workspaces}");
        }
    }
}
