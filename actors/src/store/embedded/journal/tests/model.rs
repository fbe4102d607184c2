//! Any mix of appends, faults, crashes and removals, against a plain list.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Append {
        records: u64,
        bytes: usize,
    },
    /// Close and open.
    Reopen,
    /// Cut the power; the bits say which unsynced sectors survive.
    PowerCut {
        survivors: u64,
    },
    /// Write a batch and crash before its sync.
    CrashInAppend {
        records: u64,
        bytes: usize,
        survivors: u64,
    },
    FailSync {
        nth: u32,
    },
    FailWrite {
        nth: u32,
        torn: usize,
    },
    Full(bool),
    MakeSpare,
    RemoveOldest,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..12_u64, 1..900_usize).prop_map(|(records, bytes)| Step::Append { records, bytes }),
        1 => (1..3_u64, 3000..9000_usize).prop_map(|(records, bytes)| Step::Append { records, bytes }),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(|survivors| Step::PowerCut { survivors }),
        2 => (1..12_u64, 1..900_usize, any::<u64>())
            .prop_map(|(records, bytes, survivors)| Step::CrashInAppend { records, bytes, survivors }),
        2 => (1..6_u32).prop_map(|nth| Step::FailSync { nth }),
        2 => (1..6_u32, 0..2000_usize).prop_map(|(nth, torn)| Step::FailWrite { nth, torn }),
        1 => any::<bool>().prop_map(Step::Full),
        1 => Just(Step::MakeSpare),
        1 => Just(Step::RemoveOldest),
    ]
}

/// What must be there, by sequence, and what may be there after it.
struct Model {
    home: Home,
    journal: Option<Journal>,
    acknowledged: BTreeMap<u64, Vec<u8>>,
    next_sequence: u64,
    next_body: u64,
    /// Batches that failed since the last success: one may turn up after a crash.
    pending: Vec<Vec<Vec<u8>>>,
}

impl Model {
    fn append(&mut self, records: u64, bytes: usize) {
        let batch = bodies(self.next_body..self.next_body + records, bytes);
        self.next_body += records;
        let journal = self.journal.as_mut().expect("it is open between steps");
        match try_put(journal, &batch) {
            Ok(_) => {
                self.acknowledged.extend((self.next_sequence..).zip(batch));
                self.next_sequence += records;
                self.pending.clear();
            }
            Err(_) => self.pending.push(batch),
        }
        assert_eq!(journal.next_sequence(), self.next_sequence);
    }

    /// Opens after a crash: all that was acknowledged, then perhaps the start of a failed batch.
    fn open_again(&mut self) {
        self.journal = None;
        self.home.disk.heal();
        let (journal, opening) = self.home.try_open().expect("a crash is never damage");
        let found: Vec<_> = journal.reader().scan(1).map(|found| found.expect("sound").1).collect();
        let more: Vec<_> = found.iter().filter(|record| record.sequence >= self.next_sequence).collect();
        let turned_up = |batch: &Vec<Vec<u8>>| {
            more.len() <= batch.len() && more.iter().zip(batch).all(|(record, body)| record.body == *body)
        };
        assert!(more.is_empty() || self.pending.iter().any(turned_up), "records nobody wrote");
        self.acknowledged.extend(more.iter().map(|record| (record.sequence, record.body.to_vec())));
        self.next_sequence += more.len() as u64;
        self.pending.clear();
        assert_eq!(opening.next_sequence, self.next_sequence);
        self.journal = Some(journal);
    }

    fn power_cut(&mut self, survivors: u64) {
        self.journal = None;
        let mut sector = 0;
        let survives = || {
            sector += 1;
            survivors >> (sector % 64) & 1 == 1
        };
        self.home.disk.power_cut(survives).expect("the files are there");
        self.open_again();
    }

    fn remove_oldest(&mut self) {
        let journal = self.journal.as_mut().expect("it is open between steps");
        let segments = journal.segments();
        let _ = journal.remove_oldest(segments[0].id); // refused, or a fault struck
        if journal.segments().len() < segments.len() {
            self.acknowledged = self.acknowledged.split_off(&segments[1].first_sequence);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { records, bytes } => self.append(records, bytes),
            Step::Reopen => self.open_again(),
            Step::PowerCut { survivors } => self.power_cut(survivors),
            Step::CrashInAppend { records, bytes, survivors } => {
                self.home.disk.heal();
                self.home.disk.fail_write(1, WriteFault::Torn(usize::MAX));
                self.append(records, bytes);
                self.power_cut(survivors);
            }
            Step::FailSync { nth } => self.home.disk.fail_sync(nth),
            Step::FailWrite { nth, torn } => self.home.disk.fail_write(nth, WriteFault::Torn(torn)),
            Step::Full(full) => self.home.disk.set_full(full),
            Step::MakeSpare => drop(self.journal.as_ref().expect("it is open").spare_maker().make()),
            Step::RemoveOldest => self.remove_oldest(),
        }
    }

    fn check(&self) {
        let reader = self.journal.as_ref().expect("it is open between steps").reader();
        let found = reader.scan(1).map(|found| found.expect("sound").1);
        let found: BTreeMap<_, _> = found.map(|record| (record.sequence, record.body.to_vec())).collect();
        assert!(found == self.acknowledged, "{:?} and {:?}", found.keys(), self.acknowledged.keys());
        for sequence in self.acknowledged.keys().step_by(7) {
            assert_eq!(reader.read(*sequence).expect("sound").body, self.acknowledged[sequence]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_was_acknowledged_survives_anything(steps in prop::collection::vec(step(), 1..40)) {
        let home = Home::new();
        let journal = Some(home.open());
        let (acknowledged, pending) = (BTreeMap::new(), Vec::new());
        let mut model = Model { home, journal, acknowledged, next_sequence: 1, next_body: 1, pending };
        for step in steps {
            model.take(step);
            model.check();
        }
        model.power_cut(0);
        model.check();
    }
}
