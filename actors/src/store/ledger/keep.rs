//! What a ledger forgets, and whether what it keeps adds up.

use super::*;

impl<L: Log> Ledger<L> {
    pub(super) async fn go_on(
        &self,
        mut check: LogCheck,
        mut found: Verification,
    ) -> Result<(LogCheck, Verification), StoreError> {
        let state = self.state.clone();
        tokio::task::spawn_blocking(move || check.go_on(&state, &mut found).map(|()| (check, found)))
            .await
            .unwrap_or_else(|err| Err(StoreError::Damaged(format!("reading the journal failed: {err}"))))
    }

    /// How many keys there are under a prefix. Who writes need not wait for more than a part of it.
    pub(super) async fn count_under(&self, prefix: Key) -> Result<u64, StoreError> {
        let (mut count, mut from) = (0, None);
        loop {
            let prefix = prefix.clone();
            let (more, next) =
                self.read(move |state| state.count_under(&prefix, from.as_ref(), COUNT_BATCH)).await?;
            count += more;
            from = next;
            if from.is_none() {
                return Ok(count);
            }
        }
    }

    pub(super) async fn retain_workspace(
        &self,
        fence: Fence,
        id: WorkspaceId,
        now: Timestamp,
        days: u32,
    ) -> Result<u64, StoreError> {
        while self
            .transact(fence, |state| state.forget_sessions(id, now.before(SESSION_KEPT), RETAIN_BATCH))?
        {
            self.log.room().await?;
        }
        let cutoff = now.before(std::time::Duration::from_secs(u64::from(days) * 86_400));
        let (mut forgotten, mut from) = (0, None);
        let mut called_off = CalledOff::default();
        loop {
            self.log.room().await?;
            let found = self.read(move |state| state.past_retention(id, from, cutoff, RETAIN_BATCH)).await?;
            if !found.ended.is_empty() {
                forgotten += self.transact(fence, |state| state.expire(id, found.ended, cutoff))?;
            }
            for event in found.waiting {
                let more = self.transact(fence, |state| state.call_off_waiting(id, event, now, days))?;
                called_off.deliveries += more.deliveries;
                called_off.unrouted += more.unrouted;
            }
            from = found.next;
            if from.is_none() {
                break;
            }
        }
        if called_off != CalledOff::default() {
            let CalledOff { deliveries, unrouted } = called_off;
            metrics::counter!("weft_deliveries_expired_total").increment(deliveries);
            warn!(workspace_id = %id, deliveries, unrouted, days, "called off what waited longer than events are kept");
        }
        for replay in self.read(move |state| state.replays_past(id, cutoff)).await? {
            self.transact(fence, |state| state.configure(&Change::DeleteReplay(replay), None))?;
        }
        let settled = self.log.settled();
        let unmet = self.read(move |state| {
            let mut unmet = state.unmet_rule_versions(id, state.oldest_unrouted(id)?.min(settled))?;
            unmet.extend(state.usage_past_keeping(id, now)?);
            Ok(unmet)
        });
        // Nothing is lost by not doing so, and nothing by doing it again, so no record is made.
        for few in unmet.await?.chunks(RETAIN_BATCH) {
            self.transact(fence, |state| {
                few.iter().for_each(|key| state.view.delete(key.clone()));
                Ok(())
            })?;
        }
        Ok(forgotten)
    }
}
