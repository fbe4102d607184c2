//! Ids: one newtype per thing, so that no two kinds can be confused.
//!
//! Ids are UUID v7 and so sort by creation; an organization's is v4, because a
//! public client refuses others. Text becomes an id once, at the edge.

use super::timestamp::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that is known to name this kind of thing.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bytes, which sort as the ids do.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::try_parse(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// Who owns workspaces and machine keys. UUID v4.
    OrganizationId
    /// A tenant: the isolation boundary.
    WorkspaceId
    /// A customer's account at a destination.
    ConnectionId
    /// Event name → connection and action.
    RuleId
    /// Something that happened.
    EventId
    /// One event × one rule, or that done again.
    DeliveryId
    /// One try at a delivery.
    AttemptId
    /// Past deliveries done again.
    ReplayId
    /// What an embedded page acts under. On the wire `sess_` goes before it.
    SessionId
    /// The fields of a connection's account, as they were listed.
    CatalogId
    /// A connection's mapping, the same in all its versions.
    MappingId
    /// One version of a mapping.
    MappingVersionId
    /// A name that events bear.
    NameId
    /// One line of the audit log.
    AuditId
    /// A person who signs in.
    UserId
    /// What makes somebody a user.
    InvitationId
}

impl OrganizationId {
    /// A new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl EventId {
    /// The same id as that of a test: UUID version 8, where all other events have 7. It sorts by time all the
    /// same, and whoever sees the id knows, without anything being looked up.
    pub fn of_test(uuid: Uuid) -> Self {
        Self(uuid::Builder::from_bytes(uuid.into_bytes()).with_version(uuid::Version::Custom).into_uuid())
    }

    /// Whether the event was made by [`Self::of_test`]: somebody tried whether it arrives.
    pub fn is_test(self) -> bool {
        self.0.get_version_num() == uuid::Version::Custom as usize
    }

    /// When the event was accepted, to the millisecond, as far as the id tells.
    pub fn time(self) -> Timestamp {
        let b = self.0.as_bytes();
        Timestamp::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// The id right after this one; none after the last.
    pub fn next(self) -> Option<Self> {
        self.0.as_u128().checked_add(1).map(|next| Self(Uuid::from_u128(next)))
    }

    /// The smallest id an event accepted at `moment` can have: a bound for scans.
    pub fn first_at(moment: Timestamp) -> Self {
        Self(first_at(moment))
    }
}

impl SessionId {
    /// The smallest id a session made at `moment` can have: a bound for scans.
    pub fn first_at(moment: Timestamp) -> Self {
        Self(first_at(moment))
    }
}

impl AuditId {
    /// The smallest id an entry made at `moment` can have: a bound for scans.
    pub fn first_at(moment: Timestamp) -> Self {
        Self(first_at(moment))
    }
}

fn first_at(moment: Timestamp) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&moment.to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
}

impl DeliveryId {
    /// The one delivery of this event by this rule. The same every time it is asked,
    /// so that routing repeated after a crash names the delivery as before.
    pub fn of(event: EventId, rule: RuleId) -> Self {
        Self(derived(b"delivery", event.as_bytes(), event.as_bytes(), rule.as_bytes()))
    }

    /// What a replay makes of a first delivery: never the same as that, and the same every time it is asked.
    pub fn again(self, replay: ReplayId) -> Self {
        Self(derived(b"replay", self.as_bytes(), self.as_bytes(), replay.as_bytes()))
    }
}

impl AttemptId {
    /// The `number`-th attempt (from 1) at this delivery.
    pub fn of(delivery: DeliveryId, number: u32) -> Self {
        Self(derived(b"attempt", delivery.as_bytes(), delivery.as_bytes(), &number.to_be_bytes()))
    }
}

impl CatalogId {
    /// A connection's one catalog, however often it is read anew.
    pub fn of(connection: ConnectionId) -> Self {
        Self(derived(b"catalog", connection.as_bytes(), connection.as_bytes(), &[]))
    }
}

impl MappingId {
    /// A connection's default mapping.
    pub fn of(connection: ConnectionId) -> Self {
        Self(derived(b"mapping", connection.as_bytes(), connection.as_bytes(), &[]))
    }
}

impl MappingVersionId {
    /// The `version`-th version of this mapping.
    pub fn of(mapping: MappingId, version: u64) -> Self {
        Self(derived(b"mapping version", mapping.as_bytes(), mapping.as_bytes(), &version.to_be_bytes()))
    }
}

impl NameId {
    /// The one id of this name, also of one that was never written down.
    pub fn of(workspace: WorkspaceId, kind: u8, key: &str) -> Self {
        let part = [&[kind], key.as_bytes()].concat();
        Self(derived(b"name", workspace.as_bytes(), workspace.as_bytes(), &part))
    }
}

/// A UUID in version 7 layout with `time_of`'s time, the rest hashed from what names it.
fn derived(kind: &[u8], time_of: &[u8; 16], whole: &[u8], part: &[u8]) -> Uuid {
    let hash = Sha256::new().chain_update(kind).chain_update(whole).chain_update(part).finalize();
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&time_of[..6]);
    bytes[6..].copy_from_slice(&hash[..10]);
    uuid::Builder::from_bytes(bytes)
        .with_version(uuid::Version::SortRand)
        .with_variant(uuid::Variant::RFC4122)
        .into_uuid()
}

/// Makes version 7 ids that sort in the order they were made, also when the
/// wall clock stands still or is set back.
#[derive(Debug, Default)]
pub struct IdSource(parking_lot::Mutex<LastId>);

#[derive(Debug, Default)]
struct LastId {
    ms: u64,
    counter: u32,
}

/// Counter values a millisecond has room for before the source borrows from the next one.
const IDS_PER_MS: u32 = 1 << 18;

impl IdSource {
    /// A source whose ids all sort after those of `moment`.
    pub fn starting_after(moment: Timestamp) -> Self {
        Self(parking_lot::Mutex::new(LastId { ms: moment.as_unsigned(), counter: IDS_PER_MS }))
    }

    /// The next id, at `now` or right after the last one made if that was later.
    pub fn next(&self, now: Timestamp) -> Uuid {
        let mut last = self.0.lock();
        if now.as_unsigned() > last.ms {
            *last = LastId { ms: now.as_unsigned(), counter: 0 };
        } else if last.counter >= IDS_PER_MS {
            *last = LastId { ms: last.ms + 1, counter: 0 };
        }
        let (ms, counter) = (last.ms, last.counter);
        last.counter += 1;
        drop(last);
        // 48 bits of time, 18 of counter (12 beside the version, 6 beside the variant), 56 random.
        let random = rand::random::<u64>() & ((1 << 56) - 1);
        let high = (ms << 16) | u64::from(counter >> 6);
        let low = (u64::from(counter & 0x3f) << 56) | random;
        uuid::Builder::from_u128((u128::from(high) << 64) | u128::from(low))
            .with_version(uuid::Version::SortRand)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_in_the_order_they_were_made_whatever_the_clock_does() {
        let source = IdSource::default();
        let clock = [5, 5, 5, 900, 3, 3, 901].map(|s| Timestamp(1_773_576_000_000 + s));
        let ids: Vec<Uuid> = clock.iter().cycle().take(2_000).map(|now| source.next(*now)).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }

    #[test]
    fn a_full_millisecond_borrows_from_the_next() {
        let source = IdSource::default();
        let ids: Vec<Uuid> = (0..IDS_PER_MS + 10).map(|_| source.next(Timestamp(1_000))).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn an_event_id_tells_its_time() {
        let now = Timestamp(1_773_576_000_123);
        let id = EventId::from_uuid(IdSource::default().next(now));
        assert_eq!(id.time(), now);
        assert!(EventId::first_at(now) <= id && id < EventId::first_at(Timestamp(now.0 + 1)));
    }

    #[test]
    fn a_tests_id_says_so_and_sorts_by_time() {
        let source = IdSource::default();
        let ids = [1_000, 1_001, 1_002].map(|now| source.next(Timestamp(now)));
        let [before, test, after] =
            [EventId::from_uuid(ids[0]), EventId::of_test(ids[1]), EventId::from_uuid(ids[2])];
        assert_eq!([before, test, after].map(EventId::is_test), [false, true, false]);
        assert!(before < test && test < after && test.time() == Timestamp(1_001));
    }

    #[test]
    fn a_delivery_has_one_id() {
        let source = IdSource::default();
        let event = EventId::from_uuid(source.next(Timestamp(1_000)));
        let [one, two] = [(); 2].map(|()| RuleId::from_uuid(source.next(Timestamp(1_000))));
        assert_eq!(DeliveryId::of(event, one), DeliveryId::of(event, one));
        assert_ne!(DeliveryId::of(event, one), DeliveryId::of(event, two));
        let delivery = DeliveryId::of(event, one);
        assert_ne!(AttemptId::of(delivery, 1), AttemptId::of(delivery, 2));
        let [first, second] = [(); 2].map(|()| ReplayId::from_uuid(source.next(Timestamp(1_000))));
        let replayed = [delivery, delivery.again(first), delivery.again(second)];
        assert_eq!(replayed[1], delivery.again(first));
        assert!(replayed[0] != replayed[1] && replayed[1] != replayed[2] && replayed[2] != replayed[0]);
    }
}
