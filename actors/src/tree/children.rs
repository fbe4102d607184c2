//! Who is up, and when to start who fell again.
//!
//! A child that asks to leave may have been woken meanwhile. Its parent knows: it counts the wakes
//! it passed on, the child those it handled, and only if they agree the child goes.

use crate::domain::timestamp::Timestamp;
use ractor::ActorRef;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Falls within [`BUDGET_SPAN`] before a child is quarantined.
pub const BUDGET: usize = 5;
/// See [`BUDGET`].
pub const BUDGET_SPAN: Duration = Duration::from_secs(30);
/// The wait after the first fall; it doubles with each further one.
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// How long a quarantined child stays down.
pub const QUARANTINE: Duration = Duration::from_secs(60);

/// Tells a child that there is something to do, once until it looks: a hundred wakes before a look
/// say no more than one.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<AtomicBool>);

impl Bell {
    /// Rings it. `false`: it rings already, and whoever it wakes will see this reason too.
    pub fn ring(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Hears it: what comes from here on rings anew. To be called before looking.
    pub fn hear(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

/// One child: up, or down for a while.
pub struct Child<Msg> {
    actor: Option<ActorRef<Msg>>,
    bell: Bell,
    /// Wakes passed on since it was started; the start is the first.
    wakes: u64,
    falls: VecDeque<Instant>,
}

/// What is to be done about a child that fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallen {
    /// Start it again after this wait.
    Restart(Duration),
    /// It fell too often: leave it down for [`QUARANTINE`].
    Quarantine,
}

impl<Msg> Default for Child<Msg> {
    fn default() -> Self {
        Self { actor: None, bell: Bell::default(), wakes: 0, falls: VecDeque::new() }
    }
}

impl<Msg: ractor::Message> Child<Msg> {
    /// The bell of its next life, to start it with.
    pub fn new_bell(&mut self) -> Bell {
        self.bell = Bell::default();
        self.bell.clone()
    }

    /// It was started.
    pub fn started(&mut self, actor: ActorRef<Msg>) {
        (self.actor, self.wakes) = (Some(actor), 1);
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.actor.is_some()
    }

    /// Whether it fell and waits to be started again.
    pub fn is_down(&self) -> bool {
        self.actor.is_none() && !self.falls.is_empty()
    }

    /// Whether this actor is the child as it is now, and not an earlier life of it.
    pub fn is(&self, id: ractor::ActorId) -> bool {
        self.actor.as_ref().is_some_and(|actor| actor.get_id() == id)
    }

    /// Passes a wake on, if it is up, unless one is on its way to it already.
    pub fn ring(&mut self, wake: Msg) {
        if self.bell.ring() {
            self.tell(wake);
        }
    }

    /// Passes on what must not be left out, if it is up. It counts as a wake.
    pub fn tell(&mut self, msg: Msg) {
        if let Some(actor) = &self.actor {
            self.wakes += 1;
            // A child that is just falling loses its mail; its restart asks the store.
            let _ = actor.cast(msg);
        }
    }

    /// Whether it may leave, having handled so many wakes.
    pub fn may_leave(&self, handled: u64) -> bool {
        self.wakes == handled
    }

    /// Sends it away.
    pub fn leave(&mut self) {
        if let Some(actor) = self.actor.take() {
            actor.stop(None);
        }
    }

    /// It fell. Tells what to do about it.
    pub fn fell(&mut self) -> Fallen {
        self.actor = None;
        let now = Instant::now();
        self.falls.push_back(now);
        self.falls.retain(|fall| now.duration_since(*fall) < BUDGET_SPAN);
        if self.falls.len() > BUDGET {
            self.falls.clear();
            self.falls.push_back(now);
            return Fallen::Quarantine;
        }
        let doublings = u32::try_from(self.falls.len() - 1).unwrap_or(u32::MAX).min(16);
        Fallen::Restart(WAIT_FIRST * 2_u32.pow(doublings))
    }
}

/// Who was put away with something due later.
pub struct Waiting<Id> {
    by_due: BTreeSet<(Timestamp, Id)>,
    due: HashMap<Id, Timestamp>,
}

impl<Id> Default for Waiting<Id> {
    fn default() -> Self {
        Self { by_due: BTreeSet::new(), due: HashMap::new() }
    }
}

impl<Id: Copy + Ord + Hash> Waiting<Id> {
    /// `id` is to be woken at `due`, and no other time.
    pub fn insert(&mut self, id: Id, due: Timestamp) {
        self.remove(id);
        self.by_due.insert((due, id));
        self.due.insert(id, due);
    }

    /// `id` need not be woken.
    pub fn remove(&mut self, id: Id) {
        if let Some(due) = self.due.remove(&id) {
            self.by_due.remove(&(due, id));
        }
    }

    /// Whether `id` is to be woken some time.
    pub fn contains(&self, id: Id) -> bool {
        self.due.contains_key(&id)
    }

    /// Takes out the first that is due by `now`.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<Id> {
        let (_, id) = *self.by_due.first().filter(|(due, _)| *due <= now)?;
        self.remove(id);
        Some(id)
    }

    /// When the first is due.
    pub fn first_due(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_child_that_falls_too_often_is_quarantined() {
        let mut child = Child::<()>::default();
        let waits: Vec<_> = (0..BUDGET).map(|_| child.fell()).collect();
        let expected = [50, 100, 200, 400, 800].map(|ms| Fallen::Restart(Duration::from_millis(ms)));
        assert_eq!(waits, expected);
        assert_eq!(child.fell(), Fallen::Quarantine);
    }

    #[tokio::test(start_paused = true)]
    async fn falls_long_ago_are_forgiven() {
        let mut child = Child::<()>::default();
        for _ in 0..100 {
            assert!(matches!(child.fell(), Fallen::Restart(_)));
            tokio::time::advance(BUDGET_SPAN / 4).await;
        }
    }
}
