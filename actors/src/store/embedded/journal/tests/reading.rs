//! Reading back, by position, by sequence and in order; retention; the bytes themselves.

use super::{
    super::format::{Parsed, SegmentHead, parse},
    *,
};
use proptest::prelude::*;
use std::{os::unix::fs::PermissionsExt, thread};

#[test]
fn records_are_found_by_position_sequence_and_scan() {
    let home = Home::new();
    let mut journal = home.open();
    let sizes = [0, 1, 31, 32, 33, 1000, 3500, 3904, 3905, 5000, 70_000, 200_000, 0];
    let mut all = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        let body = vec![number as u8; size];
        all.push((put(&mut journal, std::slice::from_ref(&body))[0], body));
    }
    for pass in ["as written", "opened again"] {
        let reader = journal.reader();
        for (sequence, (position, body)) in (1..).zip(&all) {
            let expected = Record { sequence, kind: 7, body: body.clone().into() };
            assert_eq!(reader.read_at(*position).unwrap(), expected, "{pass}");
            assert_eq!(reader.read(sequence).unwrap(), expected, "{pass}");
            assert_eq!(reader.locate(sequence).unwrap(), *position, "{pass}");
            let rest: Vec<_> = reader.scan(sequence).map(Result::unwrap).collect();
            assert_eq!(rest.len(), all.len() + 1 - sequence as usize, "{pass}");
            assert_eq!(rest[0], (*position, expected), "{pass}");
        }
        assert!(reader.scan(all.len() as u64 + 1).next().is_none(), "{pass}");
        for unknown in [0, all.len() as u64 + 1, u64::MAX] {
            assert!(matches!(reader.read(unknown), Err(ReadError::Unknown)), "{pass} {unknown}");
        }
        journal = home.open();
    }
}

#[test]
fn a_position_that_is_none_is_an_error() {
    let home = Home::new();
    let mut journal = home.open();
    let good = put(&mut journal, &bodies(1..4, 100))[1];
    let reader = journal.reader();
    for offset in (0..5000).chain([u32::MAX]).filter(|offset| (offset % 132) != good.offset % 132) {
        assert!(reader.read_at(Position { offset, ..good }).is_err(), "{offset}");
    }
    assert!(matches!(reader.read_at(Position { segment: 9, ..good }), Err(ReadError::Unknown)));
}

#[test]
fn batches_that_do_not_fit_go_on_in_the_next_segment() {
    let home = Home::new();
    let mut journal = home.open();
    let mut expected = Vec::new();
    for (start, records) in [(1, 3), (4, 29), (33, 200), (233, 1)] {
        let batch = bodies(start..start + records, 100);
        let positions = put(&mut journal, &batch);
        assert!(
            positions.iter().all(|position| position.segment == positions[0].segment),
            "a batch stays whole"
        );
        expected.extend(batch);
    }
    assert_eq!(contents(&journal), expected);
    let segments = journal.segments();
    assert_eq!(segments.iter().map(|one| one.first_sequence).collect::<Vec<_>>(), [1, 4, 33]);
    assert_eq!(segments[1].bytes, 4096);
    assert!(segments[2].bytes > 4096 && segments[2].bytes.is_multiple_of(4096), "one of its own length");
    assert_eq!(segments[2].last_sequence, Some(233));
    assert_eq!(journal.total_bytes(), segments.iter().map(|one| one.bytes).sum::<u64>());
    let journal = home.open();
    assert_eq!((contents(&journal), journal.segments()), (expected, segments));
}

#[test]
fn a_segment_filled_to_its_last_byte_is_sound() {
    let home = Home::new();
    let mut journal = home.open();
    let room = 4096 - SEGMENT_HEAD_BYTES - 96 - RECORD_HEAD_BYTES;
    put(&mut journal, &[vec![1; room]]);
    assert_eq!(journal.segments()[0].bytes, 4096);
    put(&mut journal, &[vec![2; room]]);
    assert_eq!(contents(&home.open()), [vec![1; room], vec![2; room]]);
}

#[test]
fn what_may_not_be_appended_is_refused_before_anything_is_written() {
    let home = Home::new();
    let mut journal = home.open();
    let before = home.disk.counts();
    let long = vec![0; BODY_BYTES_MAX + 1];
    let too_long = journal.append(&[Entry { kind: 1, body: &long }]);
    assert!(matches!(too_long, Err(AppendError::TooLarge { .. })));
    let reserved = journal.append(&[Entry { kind: 0, body: b"x" }]);
    assert!(matches!(reserved, Err(AppendError::ReservedKind)));
    assert_eq!(journal.append(&[]).unwrap(), []);
    assert_eq!((home.disk.counts(), journal.next_sequence()), (before, 1));
    for segment_bytes in [0, 4095, 4097, (1 << 30) + 4096] {
        let options = Options { segment_bytes, ..home.options() };
        assert!(matches!(Journal::open(options), Err(JournalError::Options(_))));
    }
}

#[test]
fn the_oldest_segment_can_be_removed_and_no_other() {
    let home = Home::new();
    let mut journal = home.open();
    for number in 1..6 {
        put(&mut journal, &bodies(number..number + 1, 3000));
    }
    let reader = journal.reader();
    let mut midway = reader.scan(1);
    assert_eq!(midway.next().unwrap().unwrap().1.sequence, 1);
    for refused in [0, 2, 5, 6] {
        assert!(matches!(journal.remove_oldest(refused), Err(JournalError::NotRemovable(_))));
    }
    journal.remove_oldest(1).unwrap();
    journal.remove_oldest(2).unwrap();
    assert!(!home.segment_path(1).exists());
    assert!(matches!(reader.read(2), Err(ReadError::Unknown)));
    assert!(matches!(reader.read_at(Position { segment: 1, offset: 64 }), Err(ReadError::Unknown)));
    let rest: Vec<_> = midway.map(|found| found.unwrap().1.sequence).collect();
    assert_eq!(rest, [3, 4, 5], "a scan steps over what is gone");
    assert_eq!(reader.first_sequence(), 3);
    drop(journal);
    let mut journal = home.open();
    assert_eq!(sequences(&journal), [3, 4, 5]);
    journal.remove_oldest(3).unwrap();
    journal.remove_oldest(4).unwrap();
    assert!(matches!(journal.remove_oldest(5), Err(JournalError::NotRemovable(5))), "it is written to");
    assert_eq!((sequences(&journal), journal.next_sequence()), (vec![5], 6));
}

#[test]
fn readers_see_only_whole_durable_records_while_others_are_appended() {
    let home = Home::new();
    let mut journal = home.open();
    let reader = journal.reader();
    let records = 3000;
    thread::scope(|scope| {
        for _ in 0..2 {
            let reader = reader.clone();
            scope.spawn(move || {
                let mut scan = reader.scan(1);
                let mut seen = 0;
                while seen < records {
                    match scan.next() {
                        Some(found) => {
                            let (position, record) = found.unwrap();
                            seen += 1;
                            assert_eq!(record.sequence, seen);
                            assert_eq!(&record.body[..], bodies(seen..seen + 1, 90)[0]);
                            assert_eq!(reader.read_at(position).unwrap(), record);
                            assert!(
                                seen % 64 > 0 || reader.read(seen / 2 + 1).unwrap().sequence == seen / 2 + 1
                            );
                        }
                        None => thread::yield_now(),
                    }
                }
            });
        }
        let mut next = 1;
        while next <= records {
            let to = (next + 1 + next % 7).min(records + 1);
            put(&mut journal, &bodies(next..to, 90));
            next = to;
        }
    });
}

#[test]
fn the_index_leads_to_every_record_of_a_long_segment() {
    let home = Home::new();
    let options = || Options { segment_bytes: 1 << 20, ..home.options() };
    let mut journal = Journal::open(options()).unwrap().0;
    for start in (0..4000).step_by(100) {
        put(&mut journal, &bodies(start + 1..start + 101, 400));
    }
    let reader = Journal::open(options()).unwrap().0.reader();
    for step in [1999, 977, 61] {
        for sequence in (1..=4000).rev().step_by(step) {
            assert_eq!(reader.read(sequence).unwrap().body, bodies(sequence..sequence + 1, 400)[0]);
        }
    }
}

#[test]
fn files_are_for_their_owner_only() {
    let home = Home::new();
    let dir = home.path().join("data/journal");
    let options = Options { dir: dir.clone(), disk: Arc::new(RealDisk), ..home.options() };
    let journal = Journal::open(options).unwrap().0;
    journal.spare_maker().make().unwrap();
    journal.reserve().restore().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(dir.parent().unwrap())), (0o700, 0o700));
    for name in ["0000000000000001.seg", "spare.seg", "reserve.bin"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
}

#[test]
fn the_bytes_of_another_place_are_never_a_record() {
    let home = Home::new();
    let mut journal = home.open();
    let position = put(&mut journal, &bodies(1..2, 50))[0];
    let bytes = fs::read(home.segment_path(1)).unwrap();
    let head = SegmentHead::decode(&bytes).unwrap();
    let record = &bytes[position.offset as usize..];
    let accepted = |bytes: &[u8], seed, offset| matches!(parse(bytes, seed, offset), Parsed::Record(..));
    assert!(accepted(record, head.seed(), position.offset));
    assert!(!accepted(record, head.seed(), position.offset + 4096), "another place");
    assert!(!accepted(record, SegmentHead { id: 2, ..head }.seed(), position.offset), "another segment");
    let salt = head.salt ^ 1;
    assert!(!accepted(record, SegmentHead { salt, ..head }.seed(), position.offset), "another journal");
}

proptest! {
    #[test]
    fn zeros_and_noise_are_never_a_record(seed: u32, offset: u32, noise: [u8; 64]) {
        prop_assert!(!matches!(parse(&[0; 64], seed, offset), Parsed::Record(..)));
        prop_assert!(!matches!(parse(&noise, seed, offset), Parsed::Record(..)));
    }
}
