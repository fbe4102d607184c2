//! Lists in sled: many short keys kept as few runs.
//!
//! The lists of events (`h` and `i` in [the layout](crate::store::state::keys)) have one short key per
//! event each. In sled a key costs microseconds whatever its size, so there neighbours of a list lie
//! together: a run is stored under its first key and holds up to [`RUN_ENTRIES_MAX`] entries, each the
//! 16 bytes of an id and the value. Runs of a list are disjoint and in order. Only the flusher writes them.

use bytes::Bytes;
use sled::{Batch, IVec, Result, Tree};

/// Entries of a run. A run is rewritten when one of its entries changes.
pub const RUN_ENTRIES_MAX: usize = 64;
const ID_BYTES: usize = 16;

/// An id, and the value it gets; `None` removes it.
pub type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

/// Bytes of the values of a table that is kept in runs.
pub fn value_bytes(key: &[u8]) -> Option<usize> {
    match key.first() {
        Some(b'h') => Some(16),
        Some(b'i') => Some(0),
        _ => None,
    }
}

/// The list a key belongs to, and the id it ends with.
pub fn split(key: &[u8]) -> (&[u8], &[u8]) {
    key.split_at(key.len().saturating_sub(ID_BYTES))
}

/// The value of a key that is kept in a run.
pub fn get(tree: &Tree, key: &[u8], value_bytes: usize) -> Result<Option<Bytes>> {
    let (list, id) = split(key);
    let Some(found) = tree.range(list..=key).next_back() else { return Ok(None) };
    let run = Run::new(found?, value_bytes);
    Ok(run.position(id).map(|index| Bytes::copy_from_slice(run.value(index))))
}

/// One run, as it lies in sled.
#[derive(Clone)]
pub struct Run {
    key: IVec,
    entries: IVec,
    entry_bytes: usize,
}

impl Run {
    pub fn new((key, entries): (IVec, IVec), value_bytes: usize) -> Self {
        Self { key, entries, entry_bytes: ID_BYTES + value_bytes }
    }

    pub fn len(&self) -> usize {
        self.entries.len() / self.entry_bytes
    }

    fn entry(&self, index: usize) -> &[u8] {
        &self.entries[index * self.entry_bytes..(index + 1) * self.entry_bytes]
    }

    fn id(&self, index: usize) -> &[u8] {
        &self.entry(index)[..ID_BYTES]
    }

    fn value(&self, index: usize) -> &[u8] {
        &self.entry(index)[ID_BYTES..]
    }

    fn position(&self, id: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.id(middle).cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The whole key and the value of an entry.
    pub fn pair(&self, index: usize) -> (IVec, IVec) {
        let (list, _) = split(&self.key);
        ([list, self.id(index)].concat().into(), self.value(index).into())
    }
}

/// The entries with `from` ≤ key < `to`, in order.
pub fn range<'a>(
    tree: &Tree,
    from: &'a [u8],
    to: &'a [u8],
    value_bytes: usize,
) -> impl DoubleEndedIterator<Item = Result<(IVec, IVec)>> + 'a {
    // The run that holds `from` may begin before it, in the same list.
    let list = split(from).0;
    let first = tree.range(list..=from).next_back().and_then(Result::ok).map(|(key, _)| key);
    let start = first.unwrap_or_else(|| from.into());
    let runs = tree.range::<&[u8], _>(&start[..]..to);
    runs.flat_map(move |found| {
        let (run, err) = match found {
            Ok(found) => (Some(Run::new(found, value_bytes)), None),
            Err(err) => (None, Some(Err(err))),
        };
        let entries = run.into_iter().flat_map(|run| (0..run.len()).map(move |index| run.pair(index)));
        entries.filter(move |(key, _)| &key[..] >= from && &key[..] < to).map(Ok).chain(err)
    })
}

/// Adds (`Some` value) and removes (`None`) entries of one list, in order of their ids.
pub fn write(
    tree: &Tree,
    batch: &mut Batch,
    list: &[u8],
    value_bytes: usize,
    changes: &[Entry<'_>],
) -> Result<()> {
    let mut rest = changes;
    while let Some((id, _)) = rest.first() {
        let key = [list, id].concat();
        let before = tree.range(list..=&key[..]).next_back().transpose()?;
        let after = tree.range::<&[u8], _>((
            std::ops::Bound::Excluded(&key[..]),
            std::ops::Bound::Excluded(&end_of(list)[..]),
        ));
        let next = after.map(|found| found.map(|(key, _)| key)).next().transpose()?;
        let next_id = next.as_ref().map(|key| split(key).1);
        let here = rest.iter().take_while(|(id, _)| next_id.is_none_or(|next| *id < next)).count();
        let (changes, others) = rest.split_at(here);
        rest = others;
        let run = before.map(|found| Run::new(found, value_bytes)).filter(|run| {
            let is_past = run.len() >= RUN_ENTRIES_MAX && run.id(run.len() - 1) < *id;
            !is_past // a full run that everything comes after stays as it is
        });
        rewrite(batch, list, value_bytes, run, changes);
    }
    Ok(())
}

fn rewrite(batch: &mut Batch, list: &[u8], value_bytes: usize, run: Option<Run>, changes: &[Entry<'_>]) {
    let mut entries: Vec<(&[u8], &[u8])> = Vec::new();
    let mut old =
        run.iter().flat_map(|run| (0..run.len()).map(|index| (run.id(index), run.value(index)))).peekable();
    for (id, value) in changes {
        while let Some(entry) = old.next_if(|(old, _)| old < id) {
            entries.push(entry);
        }
        let _ = old.next_if(|(old, _)| old == id);
        entries.extend(value.map(|value| (*id, value)));
    }
    entries.extend(old);
    let first = entries.first().map(|(id, _)| [list, id].concat());
    if let Some(run) = run.as_ref().filter(|run| first.as_deref() != Some(&run.key[..])) {
        batch.remove(&run.key);
    }
    for chunk in entries.chunks(RUN_ENTRIES_MAX) {
        let mut bytes = Vec::with_capacity(chunk.len() * (ID_BYTES + value_bytes));
        for (id, value) in chunk {
            bytes.extend_from_slice(id);
            bytes.extend_from_slice(value);
        }
        batch.insert([list, chunk[0].0].concat(), bytes);
    }
}

fn end_of(list: &[u8]) -> Vec<u8> {
    crate::store::state::keys::end_of(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn key(list: u8, id: u16) -> Vec<u8> {
        let mut key = vec![b'h', list];
        key.extend_from_slice(&[0; 14]);
        key.extend_from_slice(&id.to_be_bytes());
        key
    }

    proptest! {
        /// Whatever is added and removed in whatever layers, the runs hold just that, in order.
        #[test]
        fn runs_are_a_map(
            layers in prop::collection::vec(
                prop::collection::btree_map((0_u8..3, 0_u16..400), any::<bool>(), 0..150), 1..12),
            (from, to) in ((0_u8..3, 0_u16..400), (0_u8..3, 0_u16..400)),
        ) {
            let db = sled::Config::new().temporary(true).open().expect("opens");
            let mut model = Model::new();
            for layer in layers {
                let mut batch = Batch::default();
                for list in 0..3 {
                    let changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = layer.iter().filter(|((of, _), _)| *of == list)
                        .map(|((_, id), add)| (key(list, *id), add.then(|| vec![*id as u8; 16]))).collect();
                    for (key, value) in &changes {
                        match value {
                            Some(value) => model.insert(key.clone(), value.clone()),
                            None => model.remove(key),
                        };
                    }
                    let borrowed: Vec<_> = changes.iter().map(|(key, value)| (split(key).1, value.as_deref())).collect();
                    write(&db, &mut batch, &[b'h', list], 16, &borrowed).expect("writes");
                }
                db.apply_batch(batch).expect("applies");
            }
            for (from, to) in [(key(from.0, from.1), key(from.0, to.1)), (vec![b'h', from.0], vec![b'h', from.0 + 1])] {
                let expected: Vec<_> = model.iter().filter(|(key, _)| **key >= from && **key < to)
                    .map(|(key, value)| (key.clone(), value.clone())).collect();
                let pairs = |found: Result<(IVec, IVec)>| found.map(|(key, value)| (key.to_vec(), value.to_vec())).expect("reads");
                let found: Vec<_> = range(&db, &from, &to, 16).map(pairs).collect();
                prop_assert_eq!(&found, &expected);
                let mut backwards: Vec<_> = range(&db, &from, &to, 16).rev().map(pairs).collect();
                backwards.reverse();
                prop_assert_eq!(&backwards, &expected);
            }
            for id in 0..400 {
                let key = key(1, id);
                let found = get(&db, &key, 16).expect("reads").map(|value| value.to_vec());
                prop_assert_eq!(found, model.get(&key).cloned());
            }
        }
    }
}
