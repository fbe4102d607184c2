//! The layout: one tree, one-byte prefixes, big-endian parts, so that every list is a range.
//!
//! | prefix | key | value |
//! | --- | --- | --- |
//! | `o` | organization | [`Organization`](crate::domain::workspace::Organization) |
//! | `m` | access key | machine key |
//! | `M` | organization, time made, hash of access key | access key: the list |
//! | `w` | workspace | workspace |
//! | `W` | organization, workspace | nothing: the list |
//! | `n` | organization, hash of name | workspace |
//! | `p` | hash of publishable key | publishable key |
//! | `P` | workspace | hash of its publishable key |
//! | `k` | hash of an older publishable key | hash of the one that took its place |
//! | `A` | organization, audit entry | audit entry |
//! | `U` | organization, user | user |
//! | `E` | hash of e-mail address | organization, user |
//! | `I` | organization, invitation | invitation |
//! | `s` | session | session |
//! | `T` | workspace, session | nothing: the list |
//! | `l` | workspace | how many sessions it has |
//! | `c` | connection | connection |
//! | `C` | workspace, connection | version, and whether it takes deliveries |
//! | `O` | organization, connection | nothing: the list |
//! | `N` | workspace, hash of name | connection |
//! | `f` | connection | its catalog of fields |
//! | `F` | connection | its default mapping |
//! | `K` | connection | what a consent gave it |
//! | `r` | rule | rule |
//! | `R` | workspace, rule | how many regular expressions it has |
//! | `S` | organization, rule | nothing: the list |
//! | `y` | connection, rule | hash of what the rule does: the connection's rules |
//! | `v` | workspace, rule, sequence | the rule from that sequence on, or nothing once deleted |
//! | `V` | workspace | sequence of the last change to its rules |
//! | `g` | connection | pace |
//! | `j` | workspace, kind, hash of name | an event type or resource |
//! | `e` | workspace, event | event and what became of it |
//! | `h` | organization, event | workspace |
//! | `i` | workspace, filter, event | nothing: the events that pass the filter |
//! | `t` | workspace, event | the only rule that an unrouted test is to meet |
//! | `u` | workspace, sequence | event: unrouted |
//! | `d` | workspace, event, delivery | delivery |
//! | `q` | workspace, connection, due, delivery | event: the queue |
//! | `Q` | workspace, connection | how many wait in the queue |
//! | `a` | workspace, connection, time made, delivery | nothing: those in the queue that are due later than when they were made |
//! | `z` | workspace, connection, due, delivery | event: the queue of what is replayed |
//! | `b` | replay | replay |
//! | `B` | workspace, replay | nothing: the list |
//! | `Y` | replay | nothing: those under way |
//! | `Z` | replay | how many deliveries it made, and where they stand |
//! | `U` | workspace, day | what was used |
//! | `x` | workspace, hash of idempotency key | event, fingerprint, time |
//! | `X` | time, workspace, hash | nothing: what to forget first |

use crate::{
    domain::{
        delivery::Delivery,
        event::Status,
        ids::{
            AuditId, ConnectionId, DeliveryId, EventId, InvitationId, OrganizationId, ReplayId, RuleId,
            SessionId, UserId, WorkspaceId,
        },
        names::NameKind,
        timestamp::Timestamp,
        usage::Day,
    },
    store::DueEntry,
};
use sha2::{Digest, Sha256};

pub type Key = Vec<u8>;

/// The epoch of the last owner.
pub const EPOCH: &[u8] = b"\0epoch";
/// The latest time on record.
pub const LATEST: &[u8] = b"\0latest";

fn key(prefix: u8, parts: &[&[u8]]) -> Key {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(prefix);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// Bytes of the prefixes that what is unrouted and queued is scanned by: all, a workspace's, a connection's.
pub const PREFIXES_SCANNED: [usize; 3] = [1, 17, 33];

/// The first key after all that start with `prefix`.
pub fn end_of(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; 64]
}

/// The last 16 bytes of a key, which in most tables are an id.
pub fn id_at_end(key: &[u8]) -> [u8; 16] {
    part_at(key, key.len().saturating_sub(16))
}

/// The 16 bytes of a key from `at`; zeros where it is shorter.
pub fn part_at(key: &[u8], at: usize) -> [u8; 16] {
    let mut id = [0; 16];
    if let Some(part) = key.get(at..at + 16) {
        id.copy_from_slice(part);
    }
    id
}

fn short_hash(text: &str) -> [u8; 16] {
    part_at(&Sha256::digest(text.as_bytes()), 0)
}

pub fn organization(id: OrganizationId) -> Key {
    key(b'o', &[id.as_bytes()])
}
pub fn machine_key(access_key: &str) -> Key {
    key(b'm', &[access_key.as_bytes()])
}
pub fn workspace(id: WorkspaceId) -> Key {
    key(b'w', &[id.as_bytes()])
}
pub fn machine_keys_of(organization: OrganizationId) -> Key {
    key(b'M', &[organization.as_bytes()])
}
pub fn machine_key_of(organization: OrganizationId, made: Timestamp, access_key: &str) -> Key {
    key(b'M', &[organization.as_bytes(), &made.to_be_bytes(), &short_hash(access_key)[..8]])
}
pub fn workspaces_of(organization: OrganizationId) -> Key {
    key(b'W', &[organization.as_bytes()])
}
pub fn workspace_of(organization: OrganizationId, id: WorkspaceId) -> Key {
    key(b'W', &[organization.as_bytes(), id.as_bytes()])
}
pub fn workspace_name(organization: OrganizationId, name: &str) -> Key {
    key(b'n', &[organization.as_bytes(), &short_hash(name)])
}
pub fn publishable_key(hash: &[u8; 32]) -> Key {
    key(b'p', &[hash])
}
pub fn publishable_key_of(workspace: WorkspaceId) -> Key {
    key(b'P', &[workspace.as_bytes()])
}
pub fn older_publishable_key(hash: &[u8; 32]) -> Key {
    key(b'k', &[hash])
}
pub fn audit_of(organization: OrganizationId) -> Key {
    key(b'A', &[organization.as_bytes()])
}
pub fn audit(organization: OrganizationId, id: AuditId) -> Key {
    key(b'A', &[organization.as_bytes(), id.as_bytes()])
}
pub fn users_of(organization: OrganizationId) -> Key {
    key(b'U', &[organization.as_bytes()])
}
pub fn user(organization: OrganizationId, id: UserId) -> Key {
    key(b'U', &[organization.as_bytes(), id.as_bytes()])
}
pub fn email(email: &str) -> Key {
    key(b'E', &[&Sha256::digest(email.as_bytes())])
}
pub fn invitations_of(organization: OrganizationId) -> Key {
    key(b'I', &[organization.as_bytes()])
}
pub fn invitation(organization: OrganizationId, id: InvitationId) -> Key {
    key(b'I', &[organization.as_bytes(), id.as_bytes()])
}
pub fn session(id: SessionId) -> Key {
    key(b's', &[id.as_bytes()])
}
pub fn sessions_of(workspace: WorkspaceId) -> Key {
    key(b'T', &[workspace.as_bytes()])
}
pub fn session_of(workspace: WorkspaceId, id: SessionId) -> Key {
    key(b'T', &[workspace.as_bytes(), id.as_bytes()])
}
pub fn session_count(workspace: WorkspaceId) -> Key {
    key(b'l', &[workspace.as_bytes()])
}
pub fn connection(id: ConnectionId) -> Key {
    key(b'c', &[id.as_bytes()])
}
pub fn connections_of(workspace: WorkspaceId) -> Key {
    key(b'C', &[workspace.as_bytes()])
}
pub fn connection_of(workspace: WorkspaceId, id: ConnectionId) -> Key {
    key(b'C', &[workspace.as_bytes(), id.as_bytes()])
}
pub fn connections_of_organization(organization: OrganizationId) -> Key {
    key(b'O', &[organization.as_bytes()])
}
pub fn connection_of_organization(organization: OrganizationId, id: ConnectionId) -> Key {
    key(b'O', &[organization.as_bytes(), id.as_bytes()])
}
pub fn connection_name(workspace: WorkspaceId, name: &str) -> Key {
    key(b'N', &[workspace.as_bytes(), &short_hash(name)])
}
pub fn catalog(connection: ConnectionId) -> Key {
    key(b'f', &[connection.as_bytes()])
}
pub fn mapping(connection: ConnectionId) -> Key {
    key(b'F', &[connection.as_bytes()])
}
pub fn grant(connection: ConnectionId) -> Key {
    key(b'K', &[connection.as_bytes()])
}
pub fn rule(id: RuleId) -> Key {
    key(b'r', &[id.as_bytes()])
}
pub fn rules_of(workspace: WorkspaceId) -> Key {
    key(b'R', &[workspace.as_bytes()])
}
pub fn rule_of(workspace: WorkspaceId, id: RuleId) -> Key {
    key(b'R', &[workspace.as_bytes(), id.as_bytes()])
}
pub fn rules_of_organization(organization: OrganizationId) -> Key {
    key(b'S', &[organization.as_bytes()])
}
pub fn rule_of_organization(organization: OrganizationId, id: RuleId) -> Key {
    key(b'S', &[organization.as_bytes(), id.as_bytes()])
}
pub fn rules_of_connection(connection: ConnectionId) -> Key {
    key(b'y', &[connection.as_bytes()])
}
pub fn rule_of_connection(connection: ConnectionId, id: RuleId) -> Key {
    key(b'y', &[connection.as_bytes(), id.as_bytes()])
}
pub fn rule_versions(workspace: WorkspaceId) -> Key {
    key(b'v', &[workspace.as_bytes()])
}
pub fn rule_version(workspace: WorkspaceId, id: RuleId, sequence: u64) -> Key {
    key(b'v', &[workspace.as_bytes(), id.as_bytes(), &sequence.to_be_bytes()])
}
pub fn rules_changed(workspace: WorkspaceId) -> Key {
    key(b'V', &[workspace.as_bytes()])
}
pub fn pace(connection: ConnectionId) -> Key {
    key(b'g', &[connection.as_bytes()])
}
pub fn names_of(workspace: WorkspaceId, kind: NameKind) -> Key {
    key(b'j', &[workspace.as_bytes(), &[kind as u8]])
}
pub fn name(workspace: WorkspaceId, kind: NameKind, name: &str) -> Key {
    key(b'j', &[workspace.as_bytes(), &[kind as u8], &short_hash(name)])
}
pub fn tested_rule(workspace: WorkspaceId, event: EventId) -> Key {
    key(b't', &[workspace.as_bytes(), event.as_bytes()])
}
pub fn events_of(workspace: WorkspaceId) -> Key {
    key(b'e', &[workspace.as_bytes()])
}
pub fn event(workspace: WorkspaceId, id: EventId) -> Key {
    key(b'e', &[workspace.as_bytes(), id.as_bytes()])
}
pub fn events_of_organization(organization: OrganizationId) -> Key {
    key(b'h', &[organization.as_bytes()])
}
pub fn event_of_organization(organization: OrganizationId, id: EventId) -> Key {
    key(b'h', &[organization.as_bytes(), id.as_bytes()])
}
pub fn unrouted_of(workspace: WorkspaceId) -> Key {
    key(b'u', &[workspace.as_bytes()])
}
pub fn unrouted(workspace: WorkspaceId, sequence: u64) -> Key {
    key(b'u', &[workspace.as_bytes(), &sequence.to_be_bytes()])
}
pub fn deliveries_of(workspace: WorkspaceId, event: EventId) -> Key {
    key(b'd', &[workspace.as_bytes(), event.as_bytes()])
}
pub fn delivery(workspace: WorkspaceId, event: EventId, id: DeliveryId) -> Key {
    key(b'd', &[workspace.as_bytes(), event.as_bytes(), id.as_bytes()])
}
pub fn queues_of(workspace: WorkspaceId) -> Key {
    key(b'q', &[workspace.as_bytes()])
}
pub fn queue(workspace: WorkspaceId, connection: ConnectionId) -> Key {
    key(b'q', &[workspace.as_bytes(), connection.as_bytes()])
}
pub fn queued(workspace: WorkspaceId, connection: ConnectionId, due: Timestamp, id: DeliveryId) -> Key {
    key(b'q', &[workspace.as_bytes(), connection.as_bytes(), &due.to_be_bytes(), id.as_bytes()])
}
/// Where a delivery waits that is due then.
pub fn waiting(delivery: &Delivery, due: Timestamp) -> Key {
    let Delivery { workspace_id, connection_id, id, .. } = *delivery;
    match delivery.replay {
        None => queued(workspace_id, connection_id, due, id),
        Some(_) => lower_queued(workspace_id, connection_id, due, id),
    }
}
/// Of what is replayed; otherwise as [`queue`].
pub fn lower_queue(workspace: WorkspaceId, connection: ConnectionId) -> Key {
    key(b'z', &[workspace.as_bytes(), connection.as_bytes()])
}
pub fn lower_queues_of(workspace: WorkspaceId) -> Key {
    key(b'z', &[workspace.as_bytes()])
}
pub fn lower_queued(workspace: WorkspaceId, connection: ConnectionId, due: Timestamp, id: DeliveryId) -> Key {
    key(b'z', &[workspace.as_bytes(), connection.as_bytes(), &due.to_be_bytes(), id.as_bytes()])
}
pub fn replay(id: ReplayId) -> Key {
    key(b'b', &[id.as_bytes()])
}
pub fn replays_of(workspace: WorkspaceId) -> Key {
    key(b'B', &[workspace.as_bytes()])
}
pub fn replay_of(workspace: WorkspaceId, id: ReplayId) -> Key {
    key(b'B', &[workspace.as_bytes(), id.as_bytes()])
}
pub fn replay_under_way(id: ReplayId) -> Key {
    key(b'Y', &[id.as_bytes()])
}
pub fn replay_tally(id: ReplayId) -> Key {
    key(b'Z', &[id.as_bytes()])
}
pub fn queue_depth(workspace: WorkspaceId, connection: ConnectionId) -> Key {
    key(b'Q', &[workspace.as_bytes(), connection.as_bytes()])
}
pub fn put_off_of(workspace: WorkspaceId, connection: ConnectionId) -> Key {
    key(b'a', &[workspace.as_bytes(), connection.as_bytes()])
}
pub fn put_off(workspace: WorkspaceId, connection: ConnectionId, made: Timestamp, id: DeliveryId) -> Key {
    key(b'a', &[workspace.as_bytes(), connection.as_bytes(), &made.to_be_bytes(), id.as_bytes()])
}
/// The time in a key of a queue, or of what was [`put_off`].
pub fn time_of(key: &[u8]) -> Timestamp {
    due_entry(key, &[]).due
}
pub fn usage_of(workspace: WorkspaceId) -> Key {
    key(b'U', &[workspace.as_bytes()])
}
pub fn usage(workspace: WorkspaceId, day: Day) -> Key {
    key(b'U', &[workspace.as_bytes(), &day.0.to_be_bytes()])
}
/// The day in a key of [`usage`].
pub fn day_at_end(key: &[u8]) -> Day {
    Day(key.last_chunk().copied().map_or(0, u32::from_be_bytes))
}
pub fn idempotency(workspace: WorkspaceId, text: &str) -> Key {
    key(b'x', &[workspace.as_bytes(), &short_hash(text)])
}
/// Where the idempotency entry under `key` stands in the order of forgetting.
pub fn idempotency_age(at: Timestamp, entry: &[u8]) -> Key {
    key(b'X', &[&at.to_be_bytes(), entry.get(1..).unwrap_or_default()])
}
/// The idempotency entry that an age key is about.
pub fn idempotency_of_age(age: &[u8]) -> Key {
    key(b'x', &[age.get(9..).unwrap_or_default()])
}

/// Reads an entry back out of a queue's key and value.
pub fn due_entry(queue_key: &[u8], value: &[u8]) -> DueEntry {
    let mut due = [0; 8];
    if let Some(part) = queue_key.get(33..41) {
        due.copy_from_slice(part);
    }
    DueEntry {
        due: Timestamp::from_be_bytes(due),
        delivery_id: DeliveryId::from_bytes(part_at(queue_key, 41)),
        event_id: EventId::from_bytes(part_at(value, 0)),
    }
}

/// A property of events that has an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter<'a> {
    Name(&'a str),
    Resource(&'a str),
    ResourceId(&'a str),
    Status(Status),
}

/// The events of a workspace that pass a filter (up to hash collisions, so look again).
pub fn filtered(workspace: WorkspaceId, filter: Filter<'_>) -> Key {
    let hashed = |kind: u8, text: &str| key(b'i', &[workspace.as_bytes(), &[kind], &short_hash(text)[..8]]);
    match filter {
        Filter::Name(name) => hashed(1, name),
        Filter::Resource(resource) => hashed(2, resource),
        Filter::ResourceId(id) => hashed(3, id),
        Filter::Status(status) => key(b'i', &[workspace.as_bytes(), &[4, status as u8]]),
    }
}

/// One event under a prefix such as [`filtered`].
pub fn under(prefix: &[u8], event: EventId) -> Key {
    [prefix, event.as_bytes()].concat()
}
