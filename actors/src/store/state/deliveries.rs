//! Deliveries as the view keeps them: each a row, and behind it, of one that is a replay, what it is a replay
//! of. So the rows of others are as they always were.

use super::*;
use crate::domain::replay::{self, ReplayOf};

impl<V: View> State<V> {
    pub(super) fn load_delivery(
        &self,
        workspace: WorkspaceId,
        event: EventId,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        let found = self.view.get(&keys::delivery(workspace, event, id))?;
        let decoded = found.map(|bytes| decode_delivery(&bytes)).transpose();
        decoded.inspect_err(|err| self.view.distrust(&err.to_string()))
    }

    pub(super) fn save_delivery(&mut self, delivery: &Delivery) {
        let Delivery { workspace_id, event_id, id, .. } = *delivery;
        self.view.put(keys::delivery(workspace_id, event_id, id), encode_delivery(delivery));
    }

    /// The same for one that is known not to be there.
    pub(super) fn save_new_delivery(&mut self, delivery: &Delivery) {
        let Delivery { workspace_id, event_id, id, .. } = *delivery;
        self.view.put_new(keys::delivery(workspace_id, event_id, id), encode_delivery(delivery));
    }

    /// All deliveries of an event, in rule order; of each rule first the one that stands.
    pub(super) fn deliveries(
        &self,
        workspace: WorkspaceId,
        event: EventId,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut deliveries: Vec<Delivery> = Vec::new();
        let prefix = keys::deliveries_of(workspace, event);
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |_, value| {
            deliveries.push(decode_delivery(value)?);
            Ok(true)
        })?;
        replay::put_in_order(&mut deliveries);
        Ok(deliveries)
    }

    /// The delivery of a rule that stands; `rule` may also be the own id of any.
    pub(super) fn delivery_of_rule(
        &self,
        workspace: WorkspaceId,
        event: EventId,
        rule: RuleId,
    ) -> Result<Option<Delivery>, StoreError> {
        let is_it =
            |delivery: &Delivery| delivery.rule_id == rule || delivery.id.as_bytes() == rule.as_bytes();
        Ok(self.deliveries(workspace, event)?.into_iter().find(is_it))
    }
}

fn encode_delivery(delivery: &Delivery) -> Vec<u8> {
    let mut row = postcard::to_stdvec(delivery).expect("writing to memory does not fail");
    if let Some(replay) = &delivery.replay {
        row = postcard::to_extend(replay, row).expect("writing to memory does not fail");
    }
    row
}

fn decode_delivery(row: &[u8]) -> Result<Delivery, StoreError> {
    let unreadable = |err: postcard::Error| StoreError::Damaged(format!("unreadable row: {err}"));
    let (mut delivery, rest): (Delivery, _) = postcard::take_from_bytes(row).map_err(unreadable)?;
    if !rest.is_empty() {
        delivery.replay = Some(postcard::from_bytes::<ReplayOf>(rest).map_err(unreadable)?);
    }
    Ok(delivery)
}
