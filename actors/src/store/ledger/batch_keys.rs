//! Idempotency keys of one batch.

use super::*;

/// Remembers, within one batch, which idempotency keys were used: the state learns of them only
/// once the batch is durable.
#[derive(Default)]
pub struct BatchKeys(std::collections::HashMap<(WorkspaceId, String), ([u8; 32], Event)>);

impl BatchKeys {
    /// What an earlier event of the batch under the same key makes of this one, if there is any.
    pub fn earlier(&self, new: &NewEvent) -> Option<Result<Appended, StoreError>> {
        let idempotency = new.idempotency.as_ref()?;
        let (fingerprint, event) = self.0.get(&(new.event.workspace_id, idempotency.key.clone()))?;
        Some(if *fingerprint == idempotency.fingerprint {
            Ok(Appended::Repeated(Box::new(event.clone())))
        } else {
            Err(Refusal::IdempotencyMismatch.into())
        })
    }

    /// Remembers an event that goes in.
    pub fn remember(&mut self, new: &NewEvent) {
        if let Some(idempotency) = &new.idempotency {
            let key = (new.event.workspace_id, idempotency.key.clone());
            self.0.insert(key, (idempotency.fingerprint, new.event.clone()));
        }
    }
}
