//! The audit log and the users outlive the segments they were first written in.

use super::*;
use crate::domain::{
    audit::{Actor, AuditFilter},
    ids::{AuditId, InvitationId, UserId},
    session::Role,
    user::{INVITATION_LIFE, Invitation, tests::user},
};
use crate::store::state::keys;

async fn done(home: &Home, store: &EmbeddedStore, change: Change) {
    let id = AuditId::from_uuid(home.ids.next(NOW));
    let act = Act { id, at: NOW, actor: Actor::operator("test") };
    store.configure(store.fence(), change, Some(act)).await.unwrap();
}

async fn log(store: &EmbeddedStore) -> Vec<AuditEntry> {
    let page = store.audit(ORGANIZATION, AuditFilter::default(), None, 1_000).await.unwrap();
    assert_eq!(page.next, None);
    page.records
}

/// I14: what was done stays on record when the record of its change is carried, or superseded and gone.
#[tokio::test]
async fn the_log_outlives_segments_and_the_index() {
    let home = Home::new();
    let store = home.open();
    let organization = Organization { id: ORGANIZATION, name: "one".to_owned(), created_at: NOW };
    done(&home, &store, Change::CreateOrganization(organization.clone())).await;
    for number in 0..20 {
        let renamed = Organization { name: format!("name {number}"), ..organization.clone() };
        done(&home, &store, Change::UpdateOrganization(renamed)).await;
    }
    let invitation = Invitation {
        id: InvitationId::from_uuid(home.ids.next(NOW)),
        organization_id: ORGANIZATION,
        email: "ada@example.com".to_owned(),
        role: Role::Owner,
        hash: [7; 32],
        created_by: "test".to_owned(),
        created_at: NOW,
        expires_at: NOW.after(INVITATION_LIFE),
    };
    let other = InvitationId::from_uuid(home.ids.next(NOW));
    let other = Invitation { id: other, email: "grace@example.com".to_owned(), ..invitation.clone() };
    for invitation in [&invitation, &other] {
        done(&home, &store, Change::CreateInvitation(invitation.clone())).await;
    }
    let ada = UserId::from_uuid(home.ids.next(NOW));
    let mut ada = crate::domain::user::User { id: ada, organization_id: ORGANIZATION, ..user(Role::Owner) };
    done(&home, &store, Change::AcceptInvitation(Box::new((invitation.id, ada.clone())))).await;
    (ada.version, ada.last_sign_in_at) = (2, Some(NOW));
    done(&home, &store, Change::UpdateUser(Box::new(ada.clone()))).await;
    let before = log(&store).await;
    assert_eq!(before.len(), 25);
    assert_eq!(
        (before[0].action.as_str(), before[24].action.as_str()),
        ("user.signed_in", "organization.created")
    );

    let gone = home.append(&store, 500, 500).await;
    let routings = gone.iter().map(|id| Routed { matched: Vec::new(), ..routed(*id, NOW) }).collect();
    store.record_routing(store.fence(), WORKSPACE, routings).await.unwrap();
    reclaim::forget(&store, gone);
    let store = reclaim::reopen(&home, store).await;
    let first = store.log.reader.first_sequence();
    store.log.reclaim(store.fence()).await.unwrap();
    assert!(store.log.reader.first_sequence() > first + 30, "the segment with all of it went");

    let is_all_there = async |store: &EmbeddedStore| {
        assert_eq!(log(store).await, before);
        assert_eq!(store.user_by_email("ada@example.com").await.unwrap().as_ref(), Some(&ada));
        let invitations = store.invitations(ORGANIZATION, None, 10).await.unwrap().records;
        assert_eq!(invitations, std::slice::from_ref(&other), "the other one was used up");
        let named = store.organization(ORGANIZATION).await.unwrap().expect("it is there").name;
        assert_eq!(named, "name 19");
    };
    is_all_there(&store).await;
    store.close().await.unwrap();
    drop(store);
    fs::remove_dir_all(home.index()).unwrap();
    fs::remove_file(home.path().join("CHECKPOINT")).unwrap();
    let store = home.open();
    is_all_there(&store).await;

    // What was forgotten stays so, whatever the index is built from.
    store.forget_audit(store.fence(), Timestamp(NOW.0 + 1)).await.unwrap();
    assert_eq!(log(&store).await, []);
    store.close().await.unwrap();
    drop(store);
    fs::remove_dir_all(home.index()).unwrap();
    fs::remove_file(home.path().join("CHECKPOINT")).unwrap();
    assert_eq!(log(&home.open()).await, []);
}

/// A change and its line are one record: no crash comes between. Journals of before there was a log are read.
#[test]
fn a_change_and_its_line_are_one_record() {
    let state = || State::new(crate::store::memory::MemoryView::default(), 1);
    let mut live = state();
    let organization = Organization { id: ORGANIZATION, name: "one".to_owned(), created_at: NOW };
    let act = Act { id: AuditId::from_bytes([1; 16]), at: NOW, actor: Actor::operator("test") };
    live.configure(&Change::CreateOrganization(organization.clone()), Some(act)).unwrap();
    let records = live.take_outbox();
    assert_eq!(records.len(), 1);
    let of_log = |state: &State<_>| {
        let page = state.audit(ORGANIZATION, &AuditFilter::default(), None, 10).unwrap();
        page.records.into_iter().map(|entry| (entry.action, entry.actor.id)).collect::<Vec<_>>()
    };
    let mut read_back = state();
    read_back.replay(Record::decode(&records[0]).unwrap(), Place::of(1)).unwrap();
    assert_eq!(of_log(&read_back), [("organization.created".to_owned(), "test".to_owned())]);

    // As it was written before: the third variant, the change as JSON, and no `since`.
    let json = serde_json::to_string(&Change::CreateOrganization(organization)).unwrap();
    let mut old = vec![2, (json.len() & 0x7f) as u8 | 0x80, (json.len() >> 7) as u8];
    old.extend_from_slice(json.as_bytes());
    old.push(0);
    let mut read_back = state();
    read_back.replay(Record::decode(&old).unwrap(), Place::of(1)).unwrap();
    assert_eq!(of_log(&read_back), []);
    let found: Option<Organization> = read_back.row(&keys::organization(ORGANIZATION)).unwrap();
    assert_eq!(found.map(|found| found.name), Some("one".to_owned()));
    assert_eq!(Record::Void.encode(), [10], "variants stay where they are");
}
