//! Lists: `limit` and `cursor` in, the envelope out.
//!
//! A cursor names the last record seen, and the list it was made for: in another list, another
//! workspace or another organization it is refused instead of pointing somewhere.

use super::error::ApiError;
use crate::auth::Caller;
use actors::{
    domain::ids::{OrganizationId, WorkspaceId},
    engine::{Page, Scope},
};
use axum::{extract::FromRequestParts, http::request::Parts};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{borrow::Cow, convert::Infallible};

/// Lists that grow without end.
pub const HISTORY: Sizes = Sizes { default: 50, max: 200 };
/// Lists the official clients cannot page through.
pub const CONFIGURED: Sizes = Sizes { default: 1_000, max: 1_000 };

/// How many records a page has where nothing is asked for, and at most.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub default: usize,
    pub max: usize,
}

/// Which list a cursor belongs to.
#[derive(Clone, Copy)]
pub enum List {
    Workspaces,
    Connections,
    Rules,
    Events,
    Attempts,
    Sessions,
    Keys,
    Integrations,
    Users,
    Invitations,
    Audit,
    Usage,
    Replays,
}

/// The query string. What nobody asks for is ignored; of a name that comes twice the first counts.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    fn parse(text: &str) -> Self {
        let own = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
        Self(url::form_urlencoded::parse(text.as_bytes()).map(own).collect())
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All parameters whose name begins so.
    pub fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let named = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        named.filter(move |(name, _)| name.starts_with(prefix))
    }

    /// The value of a parameter, as a filter has it.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// The resource and its id that a list is looked through by: those asked for, or of a caller who is
    /// about one, those.
    pub fn about(&self, caller: &Caller) -> (Option<String>, Option<String>) {
        match caller.pair() {
            Some((resource, id)) => (Some(resource.to_owned()), Some(id.to_owned())),
            None => (self.text("resource"), self.text("resource_id")),
        }
    }

    /// Whether a row about this is among those asked for.
    pub fn asks_about(&self, resource: Option<&str>, resource_id: Option<&str>) -> bool {
        self.get("resource").is_none_or(|asked| Some(asked) == resource)
            && self.get("resource_id").is_none_or(|asked| Some(asked) == resource_id)
    }

    /// Which page is asked for: its size, and the id of the record before it.
    pub fn page<Id, const N: usize>(
        &self,
        list: List,
        place: &[u8],
        sizes: Sizes,
        id: fn([u8; N]) -> Id,
    ) -> Result<(usize, Option<Id>), ApiError> {
        let limit = match self.get("limit") {
            None => sizes.default,
            Some(text) => {
                let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
                let limit = digits.then(|| text.parse().ok()).flatten();
                limit.filter(|limit| (1..=sizes.max).contains(limit)).ok_or_else(|| {
                    ApiError::field("limit", format!("must be a number from 1 to {}", sizes.max))
                })?
            }
        };
        let after = match self.get("cursor") {
            None => None,
            Some(text) => {
                let bytes = open_cursor(list, place, text);
                Some(id(bytes.ok_or_else(|| ApiError::field("cursor", "is not a cursor of this list"))?))
            }
        };
        Ok((limit, after))
    }
}

/// The bytes that tell an organization's lists from others'.
pub fn place_of(scope: Scope) -> [u8; 17] {
    let (kind, id) = match scope {
        Scope::Organization(id) => (b'o', *OrganizationId::as_bytes(&id)),
        Scope::Workspace(id) => (b'w', *WorkspaceId::as_bytes(&id)),
    };
    let mut place = [kind; 17];
    place[1..].copy_from_slice(&id);
    place
}

const CURSOR_VERSION: u8 = 1;
const SEAL_BYTES: usize = 8;

fn seal(list: List, place: &[u8]) -> [u8; SEAL_BYTES] {
    let hash = Sha256::new().chain_update([list as u8]).chain_update(place).finalize();
    hash[..SEAL_BYTES].try_into().expect("a hash is longer")
}

fn cursor(list: List, place: &[u8], id: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([&[CURSOR_VERSION][..], &seal(list, place), id].concat())
}

fn open_cursor<const N: usize>(list: List, place: &[u8], text: &str) -> Option<[u8; N]> {
    if text.len() > 2 * (1 + SEAL_BYTES + N) {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (sealed, id) = rest.split_at_checked(SEAL_BYTES)?;
    (*version == CURSOR_VERSION && sealed == seal(list, place)).then(|| id.try_into().ok()).flatten()
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct Envelope<T> {
    /// Records in this page.
    count: usize,
    limit: usize,
    /// To be sent as `cursor` for the next page; null on the last.
    next_cursor: Option<String>,
    records: Vec<T>,
}

impl<T> Envelope<T> {
    /// A page, its records as the wire shows them.
    pub fn new<R, Id, const N: usize>(
        list: List,
        place: &[u8],
        limit: usize,
        page: Page<R, Id>,
        id: impl Fn(&Id) -> [u8; N],
        show: impl Fn(R) -> T,
    ) -> Self {
        let next_cursor = page.next.map(|next| cursor(list, place, &id(&next)));
        let records: Vec<T> = page.records.into_iter().map(show).collect();
        Self { count: records.len(), limit, next_cursor, records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actors::domain::ids::EventId;

    fn page(query: &str, place: &[u8]) -> Result<(usize, Option<EventId>), ApiError> {
        Query::parse(query).page(List::Events, place, HISTORY, EventId::from_bytes)
    }

    #[test]
    fn a_limit_is_a_number_in_its_bounds() {
        #[rustfmt::skip]
        let cases = [
            ("",                 Some(50)),
            ("limit=1",          Some(1)),
            ("limit=200",        Some(200)),
            ("limit=7&limit=9",  Some(7)),
            ("other=x&limit=9",  Some(9)),
            ("limit=0",          None),
            ("limit=201",        None),
            ("limit=",           None),
            ("limit=-1",         None),
            ("limit=%2B5",       None),
            ("limit=5.0",        None),
            ("limit=1e2",        None),
            ("limit=99999999999999999999", None),
        ];
        for (query, expected) in cases {
            assert_eq!(page(query, b"here").ok().map(|(limit, _)| limit), expected, "{query}");
        }
    }

    #[test]
    fn a_cursor_works_only_in_the_list_it_was_made_for() {
        let [ours, theirs] = [1, 2].map(|n| place_of(Scope::Workspace(WorkspaceId::from_bytes([n; 16]))));
        let organization = place_of(Scope::Organization(OrganizationId::from_bytes([1; 16])));
        let id = EventId::from_bytes([7; 16]);
        let made = cursor(List::Events, &ours, id.as_bytes());
        assert!(made.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{made}");
        assert_eq!(page(&format!("cursor={made}"), &ours).ok(), Some((50, Some(id))));

        let rules = cursor(List::Rules, &ours, id.as_bytes());
        let broken = [
            ("another workspace's", made.clone(), &theirs[..]),
            ("an organization's", made.clone(), &organization[..]),
            ("another list's", rules, &ours[..]),
            ("cut", made[..made.len() - 1].to_owned(), &ours[..]),
            ("longer", format!("{made}AA"), &ours[..]),
            ("padded", format!("{made}="), &ours[..]),
            ("empty", String::new(), &ours[..]),
            ("not base64url", "%00%ff/+".to_owned(), &ours[..]),
            ("an id", id.to_string(), &ours[..]),
            ("very long", "A".repeat(7_000), &ours[..]),
        ];
        for (why, text, place) in broken {
            let refused = page(&format!("cursor={text}"), place).expect_err(why);
            assert_eq!(refused.status, 400, "{why}");
        }
    }

    #[test]
    fn the_envelope_counts_what_it_holds_and_always_tells_the_next() {
        let show = |next: Option<EventId>| {
            let page = Page { records: vec![1, 2], next };
            let envelope = Envelope::new(List::Events, b"here", 50, page, |id| *id.as_bytes(), |n| n);
            serde_json::to_value(envelope).expect("it serializes")
        };
        let last = serde_json::json!({"count": 2, "limit": 50, "next_cursor": null, "records": [1, 2]});
        assert_eq!(show(None), last);
        assert!(show(Some(EventId::from_bytes([1; 16])))["next_cursor"].is_string());
    }
}
