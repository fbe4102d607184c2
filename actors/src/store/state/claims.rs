//! Who is in flight: not worth a disk write, so it is known only while this process lives.

use super::*;

/// What is in flight.
#[derive(Default)]
pub(super) struct Claims {
    pub deliveries: HashMap<DeliveryId, (ConnectionId, EventId)>,
    /// In flight of each event, with the event's place in lists.
    pub events: HashMap<EventId, (WorkspaceId, OrganizationId, u32)>,
    pub connections: HashMap<ConnectionId, HashSet<DeliveryId>>,
}

impl Claims {
    pub fn take(&mut self, event: &Event, connection: ConnectionId, delivery: DeliveryId) {
        self.deliveries.insert(delivery, (connection, event.id));
        self.connections.entry(connection).or_default().insert(delivery);
        self.events.entry(event.id).or_insert((event.workspace_id, event.organization_id, 0)).2 += 1;
    }

    pub fn release(&mut self, delivery: DeliveryId) {
        let Some((connection, event)) = self.deliveries.remove(&delivery) else { return };
        if let Some(claimed) = self.connections.get_mut(&connection) {
            claimed.remove(&delivery);
            if claimed.is_empty() {
                self.connections.remove(&connection);
            }
        }
        if let Some((_, _, count)) = self.events.get_mut(&event) {
            *count -= 1;
            if *count == 0 {
                self.events.remove(&event);
            }
        }
    }
}
