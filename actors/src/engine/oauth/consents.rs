//! Consents under way: in memory alone, few, and for minutes.
//!
//! A ticket starts one, in any browser and as often as its page is opened; the last one counts. From then on a
//! consent belongs to that browser: what comes back must have its state and its cookie, and is taken once.
//! Of ticket, state and cookie only hashes are kept. A restart forgets all; a person starts again.

use super::NewConsent;
use crate::domain::{audit::Actor, ids::WorkspaceId, secret::Secret, timestamp::Timestamp};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, time::Duration};

/// How long a ticket waits to be opened, and a vendor's page for its answer.
pub(super) const LIFE: Duration = Duration::from_secs(600);
/// Consents under way.
const CONSENTS_MAX: usize = 2_000;
/// The same of one workspace; beyond that its oldest is forgotten.
const OF_WORKSPACE_MAX: usize = 50;

type Hash = [u8; 32];

/// See the module's text.
#[derive(Default)]
pub(in crate::engine) struct Consents(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    by_ticket: HashMap<Hash, Waiting>,
    /// The ticket of each that was opened.
    by_state: HashMap<Hash, Hash>,
}

struct Waiting {
    workspace_id: WorkspaceId,
    kind: &'static str,
    new: NewConsent,
    settings: Map<String, Value>,
    /// Who is told to have connected it.
    actor: Actor,
    ends_at: Timestamp,
    opened: Option<Opened>,
}

struct Opened {
    state: Hash,
    cookie: Hash,
    verifier: Secret,
    redirect_uri: String,
}

/// What a browser is given as it opens a ticket.
pub(super) struct Handed {
    pub kind: &'static str,
    pub settings: Map<String, Value>,
    pub state: Secret,
    pub cookie: Secret,
    /// To be hashed for the vendor, which is shown it when the code is exchanged.
    pub verifier: Secret,
}

/// A consent that came back, to be gone on with.
pub(super) struct Back {
    pub workspace_id: WorkspaceId,
    pub kind: &'static str,
    pub new: NewConsent,
    /// What the consent goes by: it is asked for and exchanged where these say.
    pub settings: Map<String, Value>,
    pub actor: Actor,
    pub verifier: Secret,
    pub redirect_uri: String,
}

/// Why what came back is not gone on with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// Nobody waits for it: not any more, or never.
    Unknown,
    /// It was started in another browser.
    OtherBrowser,
}

impl Consents {
    /// A ticket for a new one; `None`: too many are under way.
    pub(super) fn add(
        &self,
        workspace_id: WorkspaceId,
        kind: &'static str,
        new: NewConsent,
        settings: Map<String, Value>,
        actor: Actor,
        now: Timestamp,
    ) -> Option<Secret> {
        let mut inner = self.0.lock();
        inner.forget(now);
        let of_workspace = inner.by_ticket.iter().filter(|(_, it)| it.workspace_id == workspace_id);
        let oldest = of_workspace.clone().min_by_key(|(_, it)| it.ends_at).map(|(ticket, _)| *ticket);
        if of_workspace.count() >= OF_WORKSPACE_MAX
            && let Some(oldest) = oldest
        {
            inner.remove(&oldest);
        }
        if inner.by_ticket.len() >= CONSENTS_MAX {
            return None;
        }
        let ticket = random();
        let ends_at = now.after(LIFE);
        let waiting = Waiting { workspace_id, kind, new, settings, actor, ends_at, opened: None };
        inner.by_ticket.insert(hash(&ticket), waiting);
        Some(ticket)
    }

    /// A browser opens a ticket: from here on the consent is its own.
    pub(super) fn open(&self, ticket: &str, redirect_uri: String, now: Timestamp) -> Option<Handed> {
        let mut inner = self.0.lock();
        inner.forget(now);
        let ticket = hash(&Secret::new(ticket));
        let waiting = inner.by_ticket.get_mut(&ticket)?;
        let (state, cookie, verifier) = (random(), random(), random());
        let opened =
            Opened { state: hash(&state), cookie: hash(&cookie), verifier: verifier.clone(), redirect_uri };
        waiting.ends_at = now.after(LIFE);
        let (kind, settings) = (waiting.kind, waiting.settings.clone());
        let earlier = waiting.opened.replace(opened);
        if let Some(earlier) = earlier {
            inner.by_state.remove(&earlier.state);
        }
        inner.by_state.insert(hash(&state), ticket);
        Some(Handed { kind, settings, state, cookie, verifier })
    }

    /// Takes the one that came back in this browser, once. In another browser it is left where it is.
    pub(super) fn take(&self, state: &str, cookie: Option<&str>, now: Timestamp) -> Result<Back, Stranger> {
        let mut inner = self.0.lock();
        inner.forget(now);
        let ticket = *inner.by_state.get(&hash(&Secret::new(state))).ok_or(Stranger::Unknown)?;
        let opened = inner.by_ticket.get(&ticket).and_then(|waiting| waiting.opened.as_ref());
        let expected = opened.ok_or(Stranger::Unknown)?.cookie;
        if cookie.is_none_or(|cookie| hash(&Secret::new(cookie)) != expected) {
            return Err(Stranger::OtherBrowser);
        }
        let taken = inner.remove(&ticket).ok_or(Stranger::Unknown)?;
        let Waiting { workspace_id, kind, new, settings, actor, opened, .. } = taken;
        let Opened { verifier, redirect_uri, .. } = opened.ok_or(Stranger::Unknown)?;
        Ok(Back { workspace_id, kind, new, settings, actor, verifier, redirect_uri })
    }
}

impl Inner {
    fn forget(&mut self, now: Timestamp) {
        self.by_ticket.retain(|_, waiting| now < waiting.ends_at);
        let by_ticket = &self.by_ticket;
        self.by_state.retain(|_, ticket| by_ticket.contains_key(ticket));
    }

    fn remove(&mut self, ticket: &Hash) -> Option<Waiting> {
        let removed = self.by_ticket.remove(ticket)?;
        if let Some(opened) = &removed.opened {
            self.by_state.remove(&opened.state);
        }
        Some(removed)
    }
}

/// 256 bits that nobody guesses, in base64url: 43 characters, as a proof key must have them.
fn random() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

fn hash(text: &Secret) -> Hash {
    Sha256::digest(text.expose().as_bytes()).into()
}

/// The cookie that a consent's browser keeps, by the state that the vendor brings back. Each has its own, so that
/// several can be under way in one browser.
pub fn consent_cookie(state: &str) -> String {
    let hash = Sha256::digest(state.as_bytes());
    format!("weft_consent_{}", URL_SAFE_NO_PAD.encode(&hash[..9]))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ConsentFor, Starter},
        *,
    };
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp(1_773_576_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn add(consents: &Consents, workspace: u8, now: Timestamp) -> Option<Secret> {
        let workspace_id = WorkspaceId::from_uuid(Uuid::from_bytes([workspace; 16]));
        let of = ConsentFor::New { workspace_id, kind: "acme".to_owned(), name: "Acme".to_owned() };
        let by = Starter::Machine("key".to_owned());
        let new = NewConsent { of, settings: Map::new(), by, created_by: "test".to_owned() };
        consents.add(workspace_id, "acme", new, Map::new(), Actor::system(), now)
    }

    fn open(consents: &Consents, ticket: &Secret, now: Timestamp) -> Option<Handed> {
        consents.open(ticket.expose(), "https://a.example/oauth/callback".to_owned(), now)
    }

    fn take(consents: &Consents, handed: &Handed, now: Timestamp) -> Result<Back, Stranger> {
        consents.take(handed.state.expose(), Some(handed.cookie.expose()), now)
    }

    #[test]
    fn what_comes_back_is_taken_once_in_its_own_browser_and_in_time() {
        let consents = Consents::default();
        let ticket = add(&consents, 1, NOW).expect("a ticket");
        assert!(open(&consents, &Secret::new("made up"), NOW).is_none());
        assert!(open(&consents, &ticket, NOW.after(LIFE)).is_none(), "too late");

        let ticket = add(&consents, 1, NOW).expect("a ticket");
        let first = open(&consents, &ticket, NOW).expect("it is opened");
        let second = open(&consents, &ticket, NOW.after(LIFE - SECOND)).expect("once more");
        assert_eq!(take(&consents, &first, NOW).err(), Some(Stranger::Unknown), "the last one counts");
        for cookie in [None, Some(first.cookie.expose()), Some("")] {
            let stranger = consents.take(second.state.expose(), cookie, NOW).err();
            assert_eq!(stranger, Some(Stranger::OtherBrowser));
        }
        let late = NOW.after(LIFE * 2 - SECOND * 2);
        let back = take(&consents, &second, late).expect("ten minutes from when it was opened");
        assert_eq!((back.kind, back.verifier), ("acme", second.verifier.clone()));
        assert_eq!(take(&consents, &second, late).err(), Some(Stranger::Unknown), "once");
        assert!(open(&consents, &ticket, late).is_none(), "nor is it started again");
        let inner = consents.0.lock();
        assert!(inner.by_state.is_empty() && inner.by_ticket.is_empty());
    }

    #[test]
    fn what_is_late_is_strange() {
        let consents = Consents::default();
        let ticket = add(&consents, 1, NOW).expect("a ticket");
        let handed = open(&consents, &ticket, NOW).expect("it is opened");
        assert_eq!(take(&consents, &handed, NOW.after(LIFE)).err(), Some(Stranger::Unknown));
    }

    #[test]
    fn few_are_remembered() {
        let consents = Consents::default();
        let tickets: Vec<_> = (0..=OF_WORKSPACE_MAX as u64)
            .filter_map(|n| add(&consents, 1, NOW.after(Duration::from_millis(n))))
            .collect();
        assert!(open(&consents, &tickets[0], NOW).is_none(), "the oldest of the workspace went");
        assert!(open(&consents, &tickets[1], NOW).is_some());
        let mut added = OF_WORKSPACE_MAX;
        for workspace in 2..60 {
            added += (0..OF_WORKSPACE_MAX).filter_map(|_| add(&consents, workspace, NOW)).count();
        }
        assert_eq!(added, CONSENTS_MAX, "and no more of all");
    }

    #[test]
    fn nothing_is_guessed_and_nothing_repeated() {
        let (one, other) = (random(), random());
        assert!(one != other && one.expose().len() == 43);
        assert_ne!(consent_cookie("a"), consent_cookie("b"));
    }
}
