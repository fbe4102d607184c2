//! After a crash: what was acknowledged is there, what was torn is cut, and it goes on.

use super::*;

/// Two segments, the last with three batches; where each record of the last one ends.
fn two_segments(home: &Home) -> (Vec<Vec<u8>>, Vec<usize>) {
    let mut journal = home.open();
    put(&mut journal, &bodies(1..4, 1100));
    put(&mut journal, &bodies(4..7, 300));
    put(&mut journal, &bodies(7..8, 41));
    let positions = [put(&mut journal, &bodies(8..11, 57))].concat();
    assert_eq!(journal.segments().len(), 2, "the records are meant for two segments");
    let in_last = journal.reader().scan(1).map(Result::unwrap);
    let ends = in_last.filter(|(position, _)| position.segment == positions[0].segment);
    let ends =
        ends.map(|(position, record)| position.offset as usize + RECORD_HEAD_BYTES + record.body.len());
    (contents(&journal), ends.collect())
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_back_to_a_whole_record() {
    let home = Home::new();
    let (all, ends) = two_segments(&home);
    let image = home.image();
    let end = *ends.last().unwrap();
    type Tear = fn(&mut Vec<u8>, usize, usize);
    let tears: [(&str, Tear); 3] = [
        ("zeros from here on", |bytes, at, end| bytes[at..end].fill(0)),
        ("garbage from here on", |bytes, at, end| bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a)),
        ("a file that ends here", |bytes, at, _| bytes.truncate(at)),
    ];
    for (why, tear) in tears {
        for at in SEGMENT_HEAD_BYTES..=end {
            home.restore(&image);
            home.alter(2, |bytes| tear(bytes, at, end));
            let whole = all.len() - ends.iter().filter(|end| **end > at).count();
            let (mut journal, opening) = home.try_open().unwrap_or_else(|err| panic!("{why} {at}: {err}"));
            assert_eq!(contents(&journal), all[..whole], "{why} {at}");
            assert_eq!(opening.next_sequence, whole as u64 + 1, "{why} {at}");
            let kept = home.names().iter().filter(|name| name.starts_with("torn-")).count();
            assert_eq!(kept > 0, opening.torn_bytes > 0, "{why} {at}: what is cut is kept");

            let new = bodies(100..102, 33);
            put(&mut journal, &new);
            let (journal, opening) = home.try_open().unwrap();
            assert_eq!(opening.torn_bytes, 0, "{why} {at}: nothing stale follows");
            assert_eq!(contents(&journal), [&all[..whole], &new].concat(), "{why} {at}");
        }
    }
}

#[test]
fn sectors_of_a_batch_under_way_may_reach_the_disk_in_any_order() {
    let home = Home::new();
    put(&mut home.open(), &bodies(1..4, 50));
    let image = home.image();
    let batch = bodies(4..20, 130); // over six sectors
    for pattern in 0_u32..1 << 7 {
        home.restore(&image);
        let mut journal = home.open();
        home.disk.power_cut(|| true).unwrap(); // all so far is durable
        home.disk.fail_write(1, WriteFault::Torn(usize::MAX));
        try_put(&mut journal, &batch).unwrap_err();
        drop(journal);
        let mut sector = 0;
        let survives = || {
            sector += 1;
            pattern >> (sector - 1) & 1 == 1
        };
        home.disk.power_cut(survives).unwrap();
        let (mut journal, opening) = home.try_open().unwrap_or_else(|err| panic!("{pattern:b}: {err}"));
        let found = contents(&journal);
        let all = [bodies(1..4, 50), batch.clone()].concat();
        assert!(found.len() >= 3 && found == all[..found.len()], "{pattern:b}");
        assert_eq!(opening.next_sequence, found.len() as u64 + 1);
        let new = bodies(50..52, 500);
        put(&mut journal, &new);
        assert_eq!(contents(&home.open()), [found, new].concat(), "{pattern:b}");
    }
}

#[test]
fn what_a_killed_process_left_in_memory_is_durable_once_it_is_reported() {
    type Fault = fn(&FaultyDisk);
    let cases: [(&str, Fault); 2] = [
        ("killed between write and sync", |disk| disk.fail_write(1, WriteFault::Torn(usize::MAX))),
        ("the sync failed, so the pages count as clean", |disk| disk.fail_sync(1)),
    ];
    for (why, fault) in cases {
        let home = Home::new();
        let mut journal = home.open();
        put(&mut journal, &bodies(1..4, 50));
        fault(&home.disk);
        try_put(&mut journal, &bodies(4..20, 130)).unwrap_err();
        let reported = contents(&home.open());
        assert_eq!(reported.len(), 19, "{why}");
        home.disk.power_cut(|| false).unwrap();
        assert_eq!(contents(&home.open()), reported, "{why}");
    }
}

#[test]
fn only_the_newest_torn_tails_are_kept() {
    let home = Home::new();
    for number in 1..9 {
        let mut journal = home.open();
        put(&mut journal, &bodies(number..number + 1, 20));
        home.disk.fail_write(1, WriteFault::Torn(RECORD_HEAD_BYTES + 5));
        try_put(&mut journal, &bodies(99..100, 20)).unwrap_err();
    }
    home.open();
    let mut kept = home.names();
    kept.retain(|name| name.starts_with("torn-"));
    kept.sort();
    let newest: Vec<_> = (6..10).map(|sequence| format!("torn-{sequence:020}.bin")).collect();
    assert_eq!(kept, newest);
}

#[test]
fn a_full_disk_does_not_keep_the_journal_shut() {
    let home = Home::new();
    let mut journal = home.open();
    put(&mut journal, &bodies(1..4, 50));
    home.disk.fail_write(1, WriteFault::Torn(40));
    try_put(&mut journal, &bodies(4..5, 50)).unwrap_err();
    home.disk.set_full(true);
    let (mut journal, opening) = home.try_open().unwrap();
    assert_eq!((opening.next_sequence, opening.torn_bytes > 0), (4, true));
    put(&mut journal, &bodies(4..5, 50));
    assert_eq!(contents(&journal), bodies(1..5, 50));
}

#[test]
fn unfinished_files_are_dropped_and_strangers_left_alone() {
    let home = Home::new();
    put(&mut home.open(), &bodies(1..3, 10));
    for name in ["spare.tmp", "next.tmp", "notes.txt", "1.seg"] {
        fs::write(home.path().join(name), b"x").unwrap();
    }
    fs::write(home.path().join("spare.seg"), b"of another size").unwrap();
    assert_eq!(contents(&home.open()), bodies(1..3, 10));
    let mut names = home.names();
    names.sort();
    assert_eq!(names, ["0000000000000001.seg", "1.seg", "notes.txt"]);
}
