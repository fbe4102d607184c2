//! What may happen to a store, and how often it does.
//!
//! A step names things by number: the nth connection there ever was, the nth delivery in flight. So any
//! sequence of steps makes sense, also a shorter one when a failing case is made smaller.

use proptest::prelude::*;

/// One of however many there are: counted from the first, over and over.
pub type Nth = u16;

/// Something that happens.
#[derive(Clone, Debug)]
#[rustfmt::skip]
pub enum Step {
    CreateOrganization,
    RenameOrganization { organization: Nth, name: u8 },
    Invite { organization: Nth, email: u8 },
    DeleteInvitation { invitation: Nth },
    AcceptInvitation { invitation: Nth },
    UpdateUser { user: Nth, how: u8, is_stale: bool },
    DeleteUser { user: Nth },
    ForgetAudit { days: u16 },
    CreateMachineKey { organization: Nth },
    UseMachineKey { key: Nth },
    DeleteMachineKey { key: Nth },
    CreateWorkspace { organization: Nth, name: u8 },
    RotatePublishableKey { workspace: Nth, is_stale: bool },
    CreateSession { workspace: Nth, is_about: bool },
    RefreshSession { session: Nth, is_stale: bool },
    RevokeSession { session: Nth },
    UpdateWorkspace { workspace: Nth, name: u8, retention_days: Option<u32> },
    CreateConnection { workspace: Nth, name: u8 },
    UpdateConnection { connection: Nth, name: u8, takes: Takes, is_stale: bool },
    DeleteConnection { connection: Nth, force: bool },
    SaveCatalog { connection: Nth, fields: u8, is_stale: bool },
    SaveMapping { connection: Nth, is_elsewhere: bool, is_stale: bool },
    SaveGrant { connection: Nth, is_elsewhere: bool, is_stale: bool },
    CreateRule { connection: Nth, event: u8, is_elsewhere: bool },
    UpdateRule { rule: Nth, event: u8, is_active: bool, is_stale: bool },
    DeleteRule { rule: Nth },
    /// An event type, or 3 the resource of the events.
    SaveName { workspace: Nth, name: u8, label: u8 },
    CreateReplay { workspace: Nth, filter: u8, is_now: bool },
    TellReplay { replay: Nth, to: u8, is_stale: bool },
    /// The next page of a replay, while one of its deliveries changes.
    ReplayPage { replay: Nth, limit: usize, disturbed: Option<Nth> },
    CancelReplayed { replay: Nth },
    Append(Vec<Sent>),
    /// As the tree does it: the oldest unrouted events meet the rules of their time.
    Route { workspace: Nth, limit: usize },
    /// An event that is routed already, or gone.
    RouteAgain { event: Nth },
    /// Takes up what is due by so many milliseconds from now.
    Begin { connection: Nth, in_ms: i64, limit: usize, is_stale: bool },
    /// Takes up again what was taken up before.
    BeginAgain,
    /// Attempts come back.
    Record { first: Nth, count: usize, next: Came, has_response: bool },
    /// A delivery is tried many times over.
    TryOften { connection: Nth, times: u32 },
    Release { connection: Nth },
    Retry { event: Nth, delivery: Nth, is_foreign: bool },
    Cancel { event: Nth, delivery: Option<Nth>, is_foreign: bool },
    CancelQueued { connection: Nth, limit: usize },
    Pace { connection: Nth, paused_ms: Option<i64> },
    Pass { ms: i64 },
    Retain { default_days: u32 },
    /// Somebody who no longer owns the store, or does not yet, tries everything.
    Usurp { ahead: bool },
    Look { limit: usize },
    Reopen(How),
}

/// An event on its way in.
#[derive(Clone, Debug)]
pub struct Sent {
    pub workspace: Nth,
    pub name: u8,
    pub resource: u8,
    pub key: Option<u8>,
    pub body: u8,
    pub body_bytes: usize,
}

/// Whether a connection takes deliveries.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    Deliveries,
    NoneWhilePaused,
    NoneWhileInactive,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Came {
    Delivered,
    Again { in_ms: i64, counts: bool },
    GivenUp,
}

/// How a store is opened again. One that keeps nothing on disk is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was closed.
    Closed,
    /// It was dropped as it was.
    Dropped,
    /// The index is as it was when the store was opened last.
    OlderIndex,
    /// There is no index any more.
    NoIndex,
}

/// Any sequence of so many steps.
pub fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), count)
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        7 => configuration(),
        3 => people(),
        5 => prop::collection::vec(sent(), 1..5).prop_map(Append),
        8 => (nth(), 1..6_usize).prop_map(|(workspace, limit)| Route { workspace, limit }),
        1 => nth().prop_map(|event| RouteAgain { event }),
        9 => (nth(), span(), 1..4_usize, rarely())
            .prop_map(|(connection, in_ms, limit, is_stale)| Begin { connection, in_ms, limit, is_stale }),
        1 => Just(BeginAgain),
        8 => (nth(), 1..3_usize, came(), any::<bool>())
            .prop_map(|(first, count, next, has_response)| Record { first, count, next, has_response }),
        1 => (nth(), prop_oneof![3 => 1..4_u32, 1 => 49..53_u32])
            .prop_map(|(connection, times)| TryOften { connection, times }),
        1 => nth().prop_map(|connection| Release { connection }),
        6 => (nth(), nth(), rarely())
            .prop_map(|(event, delivery, is_foreign)| Retry { event, delivery, is_foreign }),
        3 => (nth(), prop::option::of(nth()), rarely())
            .prop_map(|(event, delivery, is_foreign)| Cancel { event, delivery, is_foreign }),
        2 => (nth(), 0..12_u8, any::<bool>())
            .prop_map(|(workspace, filter, is_now)| CreateReplay { workspace, filter, is_now }),
        2 => (nth(), 0..5_u8, rarely())
            .prop_map(|(replay, to, is_stale)| TellReplay { replay, to, is_stale }),
        6 => (nth(), 1..5_usize, prop::option::weighted(0.4, nth()))
            .prop_map(|(replay, limit, disturbed)| ReplayPage { replay, limit, disturbed }),
        1 => nth().prop_map(|replay| CancelReplayed { replay }),
        1 => (nth(), 1..4_usize).prop_map(|(connection, limit)| CancelQueued { connection, limit }),
        1 => (nth(), prop::option::of(1..9_000_i64))
            .prop_map(|(connection, paused_ms)| Pace { connection, paused_ms }),
        2 => span().prop_map(|ms| Pass { ms }),
        2 => (0..9_u32).prop_map(|default_days| Retain { default_days }),
        1 => any::<bool>().prop_map(|ahead| Usurp { ahead }),
        1 => (1..5_usize).prop_map(|limit| Look { limit }),
        2 => how().prop_map(Reopen),
    ]
}

fn configuration() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        1 => Just(CreateOrganization),
        1 => nth().prop_map(|organization| CreateMachineKey { organization }),
        1 => nth().prop_map(|key| UseMachineKey { key }),
        1 => nth().prop_map(|key| DeleteMachineKey { key }),
        1 => (nth(), 0..4_u8).prop_map(|(organization, name)| CreateWorkspace { organization, name }),
        1 => (nth(), rarely())
            .prop_map(|(workspace, is_stale)| RotatePublishableKey { workspace, is_stale }),
        2 => (nth(), any::<bool>()).prop_map(|(workspace, is_about)| CreateSession { workspace, is_about }),
        2 => (nth(), rarely()).prop_map(|(session, is_stale)| RefreshSession { session, is_stale }),
        1 => nth().prop_map(|session| RevokeSession { session }),
        2 => (nth(), 0..4_u8, prop::option::of(prop_oneof![Just(0), Just(1), Just(30)])).prop_map(
            |(workspace, name, retention_days)| UpdateWorkspace { workspace, name, retention_days }
        ),
        3 => (nth(), 0..3_u8).prop_map(|(workspace, name)| CreateConnection { workspace, name }),
        3 => (nth(), 0..3_u8, takes(), rarely()).prop_map(
            |(connection, name, takes, is_stale)| UpdateConnection { connection, name, takes, is_stale }
        ),
        1 => (nth(), any::<bool>()).prop_map(|(connection, force)| DeleteConnection { connection, force }),
        1 => (nth(), 0..3_u8, rarely())
            .prop_map(|(connection, fields, is_stale)| SaveCatalog { connection, fields, is_stale }),
        1 => (nth(), rarely(), rarely()).prop_map(
            |(connection, is_elsewhere, is_stale)| SaveMapping { connection, is_elsewhere, is_stale }
        ),
        2 => (nth(), rarely(), rarely()).prop_map(
            |(connection, is_elsewhere, is_stale)| SaveGrant { connection, is_elsewhere, is_stale }
        ),
        4 => (nth(), 0..3_u8, rarely())
            .prop_map(|(connection, event, is_elsewhere)| CreateRule { connection, event, is_elsewhere }),
        2 => (nth(), 0..3_u8, any::<bool>(), rarely())
            .prop_map(|(rule, event, is_active, is_stale)| UpdateRule { rule, event, is_active, is_stale }),
        1 => nth().prop_map(|rule| DeleteRule { rule }),
        1 => (nth(), 0..4_u8, any::<u8>())
            .prop_map(|(workspace, name, label)| SaveName { workspace, name, label }),
    ]
}

fn people() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        1 => (nth(), 0..2_u8).prop_map(|(organization, name)| RenameOrganization { organization, name }),
        3 => (nth(), 0..5_u8).prop_map(|(organization, email)| Invite { organization, email }),
        1 => nth().prop_map(|invitation| DeleteInvitation { invitation }),
        3 => nth().prop_map(|invitation| AcceptInvitation { invitation }),
        4 => (nth(), 0..7_u8, rarely())
            .prop_map(|(user, how, is_stale)| UpdateUser { user, how, is_stale }),
        1 => nth().prop_map(|user| DeleteUser { user }),
        1 => prop_oneof![Just(0), Just(1), Just(10)].prop_map(|days| ForgetAudit { days }),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let body_bytes = prop_oneof![8 => 0..60_usize, 1 => 1_000..3_000_usize];
    (nth(), 0..3_u8, 0..6_u8, prop::option::weighted(0.4, 0..4_u8), 0..3_u8, body_bytes).prop_map(
        |(workspace, name, resource, key, body, body_bytes)| Sent {
            workspace,
            name,
            resource,
            key,
            body,
            body_bytes,
        },
    )
}

fn takes() -> impl Strategy<Value = Takes> {
    prop_oneof![
        4 => Just(Takes::Deliveries),
        1 => Just(Takes::NoneWhilePaused),
        1 => Just(Takes::NoneWhileInactive),
    ]
}

fn came() -> impl Strategy<Value = Came> {
    prop_oneof![
        2 => Just(Came::Delivered),
        3 => (span(), any::<bool>()).prop_map(|(in_ms, counts)| Came::Again { in_ms, counts }),
        3 => Just(Came::GivenUp),
    ]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![Just(How::Closed), Just(How::Dropped), Just(How::OlderIndex), Just(How::NoIndex)]
}

/// From no time at all to more than a week, in milliseconds.
fn span() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0),
        1..2_000_i64,
        Just(3_600_000),
        Just(24 * 3_600_000 - 1),
        Just(24 * 3_600_000),
        Just(9 * 24 * 3_600_000),
    ]
}

fn nth() -> impl Strategy<Value = Nth> {
    0..60_u16
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.15)
}
