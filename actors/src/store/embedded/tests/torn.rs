//! A write that a crash interrupted: whatever of the last segment is whole counts, and nothing else.

use super::*;
use crate::store::memory::MemoryView;
use std::collections::BTreeMap;
use tempfile::TempDir;

/// A store whose last segment holds a dozen records and nothing else, as it is on disk.
struct History {
    embedded: Embedded,
    /// The segments' names and bytes, oldest first.
    image: Vec<(String, Vec<u8>)>,
    /// What there is to see after each record, by its sequence; also before the first of the dozen.
    models: BTreeMap<u64, Model>,
    /// Where each of the dozen ends, and its sequence.
    ends: Vec<(usize, u64)>,
}

impl History {
    async fn new() -> Self {
        let mut run = Run::new(Embedded::new());
        run.furnish().await;
        // Known already, so that routing makes no record of it.
        run.take(Step::SaveName { workspace: 0, name: 3, label: 1 }).await;
        run.take(append(FILLING_BYTES)).await;
        let mut last = settle(run.subject.store()).await;
        let mut models = BTreeMap::from([(last, run.model.clone())]);
        for step in dozen() {
            run.take(step.clone()).await;
            let now = settle(run.subject.store()).await;
            assert!(now <= last + 1, "{step:?} is meant to make one record");
            last = now;
            models.insert(now, run.model.clone());
        }
        let reader = &run.subject.store().log.reader;
        let segment = reader.segments().last().unwrap().id;
        let records = reader.scan(1).map(Result::unwrap).filter(|(position, _)| position.segment == segment);
        let end = |(position, record): (Position, journal::Record)| {
            (position.offset as usize + RECORD_HEAD_BYTES + record.body.len(), record.sequence)
        };
        let ends: Vec<_> = records.map(end).collect();
        assert!(ends.len() >= 12 && ends.len() + 1 == models.len(), "the last segment holds the dozen");
        models.values_mut().for_each(|model| model.in_flight.clear());
        let mut embedded = run.subject;
        embedded.drop_store();
        let paths = segments(embedded.path()).into_iter();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let image = paths.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
        Self { embedded, image, models, ends }
    }

    /// The journal as it was, but for what `harm` does to the last segment; and the sequence of the last
    /// record that is whole.
    fn with(&self, harm: impl FnOnce(&mut Vec<u8>)) -> (TempDir, u64) {
        let directory = TempDir::new().unwrap();
        let mut image = self.image.clone();
        harm(&mut image.last_mut().unwrap().1);
        fs::create_dir(directory.path().join("journal")).unwrap();
        for (name, bytes) in &image {
            fs::write(directory.path().join("journal").join(name), bytes).unwrap();
        }
        let (mut harmed, unharmed) = (image.pop().unwrap().1, &self.image.last().unwrap().1);
        harmed.resize(unharmed.len(), 0); // what is missing reads as zeros, as do records' own last zeros
        let is_whole = |(end, _): &&(usize, u64)| harmed[..*end] == unharmed[..*end];
        let whole = self.ends.iter().take_while(is_whole).map(|(_, sequence)| *sequence).last();
        (directory, whole.unwrap_or(self.models.keys().next().copied().unwrap()))
    }

    fn end(&self) -> usize {
        self.ends.last().unwrap().0
    }
}

/// What these records of a journal add up to, beside what was there before.
fn add_up(journal: &Journal, before: &[Pair], records: RangeInclusive<u64>) -> Vec<Pair> {
    let mut view = MemoryView::default();
    before.iter().for_each(|(key, value)| view.put(key.clone(), value.clone()));
    let mut state = State::new(view, *records.start());
    for found in journal.reader().scan(*records.start()) {
        let (position, record) = found.unwrap();
        if records.contains(&record.sequence) {
            let place = place_of(record.sequence, position);
            state.replay(Record::decode(&record.body).unwrap(), place).unwrap();
        }
    }
    state.write_usage();
    dump(&state)
}

type Tear = fn(&mut Vec<u8>, usize);
const TEARS: [(&str, Tear); 3] = [
    ("zeros from here on", |bytes, at| bytes[at..].fill(0)),
    ("garbage from here on", |bytes, at| bytes[at..].iter_mut().for_each(|byte| *byte ^= 0x5a)),
    ("a file that ends here", |bytes, at| bytes.truncate(at)),
];

/// I1, I2, I14: wherever the last segment is torn, what its journal adds up to is what it added up to after
/// the last whole record.
#[tokio::test]
async fn torn_at_any_byte_it_adds_up_to_what_is_whole() {
    let history = History::new().await;
    let (before, mut known) = (*history.models.keys().next().unwrap(), BTreeMap::new());
    let mut base = Vec::new();
    for at in SEGMENT_HEAD_BYTES..=history.end() {
        let (why, tear) = TEARS[at % TEARS.len()];
        let (directory, whole) = history.with(|bytes| tear(bytes, at));
        let options = journal::Options {
            segment_bytes: history.embedded.segment_bytes,
            disk: Arc::new(history.embedded.disk.clone()),
            ..journal::Options::new(directory.path().join("journal"))
        };
        let (journal, opening) = Journal::open(options).unwrap_or_else(|err| panic!("{why} {at}: {err}"));
        assert_eq!(opening.next_sequence, whole + 1, "{why} {at}");
        if base.is_empty() {
            base = add_up(&journal, &[], 1..=before);
        }
        let adds_up_to = add_up(&journal, &base, before + 1..=u64::MAX);
        let expected = known.entry(whole).or_insert_with(|| adds_up_to.clone());
        assert!(*expected == adds_up_to, "{why} {at}");
    }
    assert_eq!(known.len(), history.models.len(), "each record is the last one once");
}

/// I1, I2, I14: torn within, before or after any record, all there is to see is as it was after the last
/// whole one; and it goes on from there.
#[tokio::test]
async fn torn_at_any_record_it_shows_what_is_whole_and_goes_on() {
    let history = History::new().await;
    let starts = history.ends.iter().map(|(end, _)| *end);
    for (number, start) in std::iter::once(SEGMENT_HEAD_BYTES).chain(starts).enumerate() {
        for at in [start, start + RECORD_HEAD_BYTES + 5] {
            let (why, tear) = TEARS[number % TEARS.len()];
            let (directory, whole) = history.with(|bytes| tear(bytes, at.min(history.end())));
            let mut run = Run::new(Embedded::at(directory));
            run.model = history.models[&whole].clone();
            assert_eq!(run.subject.store().state.read().next_sequence(), whole + 2, "{why} {at}");
            run.look(2).await;
            run.take(append(20)).await;
            run.take(Step::Reopen(How::NoIndex)).await;
        }
    }
}

/// I14: a byte that is not what it was in the last record is a torn write; in one before it, which a later
/// one proves to have been durable, it is damage: nothing opens, nothing changes, and the repair is named.
#[tokio::test]
async fn a_flipped_byte_is_a_torn_write_at_the_end_and_damage_before_it() {
    let history = History::new().await;
    let (mut torn, mut damaged) = (0, 0);
    for window in history.ends.windows(2) {
        let (start, end) = (window[0].0, window[1].0);
        for at in [start, start + 17, start + RECORD_HEAD_BYTES, end - 1] {
            let (directory, whole) = history.with(|bytes| bytes[at] ^= 0x40);
            let before = files(directory.path());
            match history.embedded.try_open(directory.path()) {
                Ok(store) => {
                    drop(store);
                    let mut run = Run::new(Embedded::at(directory));
                    run.model = history.models[&whole].clone();
                    run.look(2).await;
                    assert_eq!(end, history.end(), "flipped at {at}");
                    torn += 1;
                }
                Err(err) => {
                    let said = err.to_string();
                    assert!(said.contains("weft repair --data DIR"), "{said}");
                    assert!(said.contains(&format!("at byte {start}")), "{at}: {said}");
                    let unchanged = files(directory.path());
                    let is_lock = |(path, _): &(PathBuf, Vec<u8>)| path.ends_with("LOCK");
                    assert!(
                        unchanged.into_iter().filter(|file| !is_lock(file)).eq(before),
                        "nothing was changed"
                    );
                    damaged += 1;
                }
            }
        }
    }
    assert_eq!((torn, damaged), (4, 4 * (history.ends.len() - 2)));
}

/// I14: a journal that ends before what the index vouches for lost what was acknowledged. It says so.
#[tokio::test]
async fn a_journal_that_was_cut_behind_the_index_is_refused() {
    let history = History::new().await;
    let (directory, _) = history.with(|_| ());
    let mut embedded = Embedded::at(directory);
    embedded.close().await;
    let last = segments(embedded.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[history.ends[3].0..].fill(0);
    fs::write(&last, bytes).unwrap();
    let refused = embedded.try_open(embedded.path()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::JournalCut(..)), "{refused}");
    assert!(refused.to_string().contains("weft repair --data DIR"), "{refused}");
}
