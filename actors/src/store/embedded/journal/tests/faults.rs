//! Writes and syncs that fail, and disks that are full, while the journal is in use.

use super::*;

#[test]
fn a_failed_write_or_sync_gives_the_segment_up_and_the_next_append_goes_on() {
    type Fault = fn(&FaultyDisk);
    let cases: [(&str, Fault); 4] = [
        ("sync", |disk| disk.fail_sync(1)),
        ("write", |disk| disk.fail_write(1, WriteFault::Refused)),
        ("write cut short", |disk| disk.fail_write(1, WriteFault::Torn(70))),
        ("write done, answer lost", |disk| disk.fail_write(1, WriteFault::Torn(usize::MAX))),
    ];
    for (why, fault) in cases {
        let home = Home::new();
        let mut journal = home.open();
        put(&mut journal, &bodies(1..4, 40));
        let given_up = fs::read(home.segment_path(1)).unwrap();
        fault(&home.disk);
        let failed = try_put(&mut journal, &bodies(90..93, 40));
        assert!(matches!(failed, Err(AppendError::Io(_))), "{why}");
        assert_eq!(journal.next_sequence(), 4, "{why}: none of the batch counts");
        assert_eq!(contents(&journal), bodies(1..4, 40), "{why}");

        let after_fault = fs::read(home.segment_path(1)).unwrap();
        let positions = put(&mut journal, &bodies(4..6, 40));
        assert_eq!(positions[0].segment, 2, "{why}: a new segment");
        assert_eq!(fs::read(home.segment_path(1)).unwrap(), after_fault, "{why}: the old one is left alone");
        assert_eq!(contents(&journal), bodies(1..6, 40), "{why}");
        assert!(after_fault.starts_with(&given_up[..SEGMENT_HEAD_BYTES + 3 * (RECORD_HEAD_BYTES + 40)]));

        home.disk.power_cut(|| false).unwrap();
        let journal = home.open();
        assert_eq!(contents(&journal), bodies(1..6, 40), "{why}: after a power cut");
        let stale =
            Position { segment: 1, offset: (SEGMENT_HEAD_BYTES + 3 * (RECORD_HEAD_BYTES + 40)) as u32 };
        assert!(journal.reader().read_at(stale).is_err(), "{why}: what failed is not read");
    }
}

#[test]
fn a_disk_that_keeps_failing_is_not_filled_with_segments() {
    let home = Home::new();
    let mut journal = home.open();
    put(&mut journal, &bodies(1..4, 40));
    for _ in 0..10 {
        home.disk.fail_sync(1);
        try_put(&mut journal, &bodies(4..5, 40)).unwrap_err();
        home.disk.heal();
        home.disk.fail_sync(4); // two for the new segment, its directory's, then the append's
        try_put(&mut journal, &bodies(4..5, 40)).unwrap_err();
        home.disk.heal();
    }
    assert!(journal.segments().len() <= 2);
    put(&mut journal, &bodies(4..5, 40));
    assert_eq!(contents(&journal), bodies(1..5, 40));
    assert_eq!(contents(&home.open()), bodies(1..5, 40));
}

#[test]
fn whatever_fails_during_a_rotation_nothing_acknowledged_is_lost() {
    // The big ones need a new segment, the small ones would still fit the old one.
    let appends = [(10, 1200), (11, 20), (12, 20), (13, 1200), (14, 20)];
    let mut failed = 0;
    for (nth, crash_after) in (1..8).flat_map(|nth| (1..=appends.len()).map(move |after| (nth, after))) {
        for (syncs, spare) in [(true, false), (true, true), (false, false), (false, true)] {
            let context = format!("fault at {nth}, syncs {syncs}, spare {spare}, crash after {crash_after}");
            let home = Home::new();
            let mut journal = home.open();
            if spare {
                assert!(journal.spare_maker().make().unwrap());
            }
            let mut acknowledged = bodies(1..4, 1200);
            put(&mut journal, &acknowledged);
            match syncs {
                true => home.disk.fail_sync(nth),
                false => home.disk.fail_write(nth, WriteFault::Torn(100)),
            }
            for (number, bytes) in appends.into_iter().take(crash_after) {
                let body = bodies(number..number + 1, bytes);
                match try_put(&mut journal, &body) {
                    Ok(_) => acknowledged.extend(body),
                    Err(_) => failed += 1,
                }
                assert_eq!(contents(&journal), acknowledged, "{context}");
            }
            home.disk.heal();
            home.disk.power_cut(|| false).unwrap();
            let mut journal = home.open();
            assert_eq!(contents(&journal), acknowledged, "{context}: after a power cut");
            put(&mut journal, &bodies(20..21, 1200));
            let found = contents(&home.open());
            assert_eq!(found, [acknowledged, bodies(20..21, 1200)].concat(), "{context}: and goes on");
        }
    }
    assert!(failed >= 70, "the faults are meant to strike");
}

#[test]
fn a_full_disk_refuses_rotation_and_harms_nothing() {
    let home = Home::new();
    let mut journal = home.open();
    put(&mut journal, &bodies(1..4, 1200));
    home.disk.set_full(true);
    let refused = try_put(&mut journal, &bodies(4..5, 1200));
    assert!(matches!(refused, Err(AppendError::NoSpace(_))));
    put(&mut journal, &bodies(4..5, 20)); // what fits is still taken
    assert_eq!(journal.segments().len(), 1);
    home.disk.set_full(false);
    put(&mut journal, &bodies(5..6, 1200));
    assert_eq!(journal.segments().len(), 2);
    assert_eq!(sequences(&home.open()), [1, 2, 3, 4, 5]);
}

#[test]
fn a_write_refused_for_want_of_room_is_no_space_too() {
    let home = Home::new();
    let mut journal = home.open();
    put(&mut journal, &bodies(1..2, 20));
    home.disk.fail_write(1, WriteFault::NoSpace); // as on a copy-on-write file system
    assert!(matches!(try_put(&mut journal, &bodies(2..3, 20)), Err(AppendError::NoSpace(_))));
    put(&mut journal, &bodies(2..3, 20));
    assert_eq!(contents(&home.open()), bodies(1..3, 20));
}

#[test]
fn rotation_to_the_spare_needs_no_room() {
    let home = Home::new();
    let mut journal = home.open();
    let maker = journal.spare_maker();
    assert!(maker.wanted());
    assert!(maker.make().unwrap());
    assert!(!maker.wanted());
    assert!(!maker.make().unwrap(), "there is one");
    drop(journal);
    journal = home.open();
    assert!(!journal.spare_maker().wanted(), "a spare outlives its process");
    put(&mut journal, &bodies(1..4, 1200));
    home.disk.set_full(true);
    put(&mut journal, &bodies(4..5, 1200));
    assert!(journal.spare_maker().wanted());
    assert!(matches!(journal.spare_maker().make(), Err(JournalError::NoSpace(_))));
    assert!(!home.names().iter().any(|name| name.ends_with(".tmp")), "no room is held in vain");
    assert_eq!(contents(&home.open()), bodies(1..5, 1200));
}

#[test]
fn the_reserve_is_given_up_and_made_again() {
    let home = Home::new();
    let journal = home.open();
    let reserve = journal.reserve();
    assert!(!reserve.is_whole(), "opening does not write it");
    reserve.restore().unwrap();
    assert!(reserve.is_whole());
    assert_eq!(fs::metadata(home.path().join("reserve.bin")).unwrap().len(), 2 * 4096);
    reserve.release().unwrap();
    reserve.release().unwrap();
    assert!(!reserve.is_whole());
    home.disk.set_full(true);
    assert!(matches!(reserve.restore(), Err(JournalError::NoSpace(_))));
    assert!(!reserve.is_whole());
    home.disk.set_full(false);
    reserve.restore().unwrap();
    assert!(reserve.is_whole());
}

#[test]
fn an_append_is_one_write_and_one_sync() {
    let home = Home::new();
    let mut journal = home.open();
    for bodies in [bodies(1..2, 10), bodies(2..30, 10), bodies(30..31, 600)] {
        let (writes, syncs) = home.disk.counts();
        put(&mut journal, &bodies);
        assert_eq!(home.disk.counts(), (writes + 1, syncs + 1));
    }
}
