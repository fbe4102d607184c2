//! How a ledger gets at its state, and at records on disk.

use super::*;

impl<L: Log> Ledger<L> {
    /// One transaction under a fence.
    pub(super) fn transact<T>(
        &self,
        fence: Fence,
        work: impl FnOnce(&mut State<L::View>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state.write();
        state.check(fence)?;
        let result = work(&mut state);
        self.log.committed(&mut state);
        result
    }

    /// Reads that may look at a lot, off the async threads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State<L::View>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let state = self.state.clone();
        tokio::task::spawn_blocking(move || look(&state.read()))
            .await
            .unwrap_or_else(|err| Err(StoreError::Damaged(format!("reading the index failed: {err}"))))
    }

    /// An event's payload; `None` if the event is gone meanwhile.
    pub(super) async fn payload_of(&self, stored: &StoredEvent) -> Result<Option<Bytes>, StoreError> {
        match self.log.recent_payload(stored.place.sequence) {
            Some(payload) => Ok(Some(payload)),
            None => self.payload_on_disk(stored, None).await,
        }
    }

    /// The same for several, one answer each. What is not in memory is read together.
    pub(super) async fn payloads_of(&self, stored: &[StoredEvent]) -> Vec<Result<Option<Bytes>, StoreError>> {
        let recent = stored.iter().map(|stored| self.log.recent_payload(stored.place.sequence));
        let recent: Vec<_> = recent.collect();
        let missed = stored.iter().zip(&recent).filter(|(_, recent)| recent.is_none());
        let places: Vec<_> = missed.map(|(stored, _)| stored.place).collect();
        if places.is_empty() {
            return recent.into_iter().map(Ok).collect();
        }
        let mut read = self.log.read(places).await.into_iter().map(Result::ok);
        let mut payloads = Vec::with_capacity(stored.len());
        for (stored, recent) in stored.iter().zip(recent) {
            payloads.push(match recent {
                Some(payload) => Ok(Some(payload)),
                None => self.payload_on_disk(stored, read.next().flatten()).await,
            });
        }
        payloads
    }

    /// Reads a payload from where it is by now; `read` is what was found where it was, if anything was.
    pub(super) async fn payload_on_disk(
        &self,
        stored: &StoredEvent,
        mut read: Option<Record>,
    ) -> Result<Option<Bytes>, StoreError> {
        let (workspace, id) = (stored.event.workspace_id, stored.event.id);
        let mut place = stored.place;
        loop {
            let found = match read.take() {
                Some(record) => Ok(record),
                None => {
                    // One that was carried just now may be on its way to the disk still.
                    self.log.durable(place.sequence).await?;
                    self.record(place).await
                }
            };
            let unread = match found {
                Ok(Record::Accepted(new)) => return Ok(Some(new.payload)),
                Ok(Record::Carried(carried)) => return Ok(Some(carried.new.payload)),
                Ok(_) => Unread::Lost("there is another record where it should be".to_owned()),
                Err(unread) => unread,
            };
            // It may just have been carried elsewhere, and its segment dropped.
            match (self.state.read().stored_event(workspace, id)?, unread) {
                (None, _) => return Ok(None),
                (Some(now), _) if now.place != place => place = now.place,
                (Some(_), Unread::Lost(why)) => {
                    error!(workspace_id = %workspace, event_id = %id, why, "an event's payload is lost");
                    return Err(Refusal::PayloadLost.into());
                }
                (Some(_), unread) => return Err(unread.into()),
            }
        }
    }

    pub(super) async fn record(&self, place: Place) -> Result<Record, Unread> {
        self.log.read(vec![place]).await.pop().expect("one answer for each place")
    }

    /// A record that may be on its way to the disk still. `None`: it is not to be had, because the disk
    /// does not take it for now or because it is damaged, which must not keep anybody from reading the rest.
    /// `moved_to` says where the state has it by now: it may have been carried there, and its segment dropped.
    pub(super) async fn written(
        &self,
        mut sequence: u64,
        moved_to: impl Fn() -> Result<Option<u64>, StoreError>,
    ) -> Result<Option<Record>, StoreError> {
        loop {
            match self.log.durable(sequence).await {
                Ok(()) => {}
                Err(StoreError::Unavailable(_)) => return Ok(None),
                Err(err) => return Err(err),
            }
            let unread = match self.record(Place::of(sequence)).await {
                Ok(record) => return Ok(Some(record)),
                Err(unread) => unread,
            };
            match (moved_to()?, unread) {
                (None, _) => return Ok(None),
                (Some(now), _) if now != sequence => sequence = now,
                (Some(_), Unread::Lost(why)) => {
                    warn!(sequence, why, "a journal record is lost; what depends on it shows without it");
                    return Ok(None);
                }
                (Some(_), unread) => return Err(unread.into()),
            }
        }
    }

    /// The delivery and number of an attempt whose response is kept, and the record it is in.
    pub(super) fn response_at(
        &self,
        scope: Scope,
        event: EventId,
        attempt: AttemptId,
    ) -> Result<Option<(DeliveryId, u32, u64)>, StoreError> {
        let Some((details, _)) = self.details(scope, event)? else { return Ok(None) };
        Ok(details.deliveries.iter().find_map(|delivery| {
            let is_it = |kept: &&Attempt| AttemptId::of(delivery.id, kept.number) == attempt;
            let kept = delivery.attempts.iter().find(is_it)?;
            Some((delivery.id, kept.number, kept.response_at?))
        }))
    }

    pub(super) fn details(
        &self,
        scope: Scope,
        id: EventId,
    ) -> Result<Option<(EventDetails, Option<u64>)>, StoreError> {
        let state = self.state.read();
        let Some(stored) = state.event_in(scope, id)? else { return Ok(None) };
        let deliveries = state.deliveries_shown(&stored.event)?;
        let unmatched_at = stored.unmatched_at;
        let details = EventDetails { summary: state.summary(stored), deliveries, unmatched: Vec::new() };
        Ok(Some((details, unmatched_at)))
    }
}
