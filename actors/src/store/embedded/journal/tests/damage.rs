//! Damage to what was durable: refused with its place, and on request set aside, alone.

use super::*;
use proptest::prelude::*;

/// Three segments; every record with its position.
fn three_segments(home: &Home) -> Vec<(Position, Record)> {
    let mut journal = home.open();
    for start in [1, 5, 9, 13, 17, 21, 25] {
        put(&mut journal, &bodies(start..start + 4, 250));
    }
    put(&mut journal, &bodies(29..30, 20));
    put(&mut journal, &bodies(30..31, 20));
    assert_eq!(journal.segments().len(), 3, "the records are meant for three segments");
    journal.reader().scan(1).map(Result::unwrap).collect()
}

fn end_of((position, record): &(Position, Record)) -> usize {
    position.offset as usize + RECORD_HEAD_BYTES + record.body.len()
}

#[test]
fn a_flipped_byte_is_refused_by_name_and_costs_one_record_when_accepted() {
    let home = Home::new();
    let all = three_segments(&home);
    let image = home.image();
    for hit in &all[..all.len() - 1] {
        for at in (hit.0.offset as usize..end_of(hit)).step_by(3) {
            let context = format!("record {} byte {at}", hit.1.sequence);
            home.restore(&image);
            home.alter(hit.0.segment, |bytes| bytes[at] ^= 0x40);
            let damaged = fs::read(home.segment_path(hit.0.segment)).unwrap();
            let refused = match home.try_open() {
                Err(JournalError::Damaged(damage)) => damage,
                Err(err) => panic!("{context}: {err}"),
                Ok((journal, _)) => match journal.reader().scan(1).find_map(Result::err) {
                    Some(ReadError::Damaged(damage)) if hit.0.segment < 3 => damage,
                    found => panic!("{context}: {found:?}"),
                },
            };
            assert_eq!(refused.file, home.segment_path(hit.0.segment), "{context}");
            assert_eq!(refused.offset, u64::from(hit.0.offset), "{context}");
            assert_eq!(refused.sequence, Some(hit.1.sequence), "{context}");
            assert!(refused.to_string().contains("weft repair --data DIR"), "{refused}");

            let (mut journal, opening) = home.repair();
            let left: Vec<_> = all.iter().filter(|one| *one != hit).cloned().collect();
            let found: Vec<_> = journal.reader().scan(1).map(Result::unwrap).collect();
            assert_eq!(found, left, "{context}: all others, where they were");
            assert_eq!((opening.records_lost(), opening.losses.len()), (1, 1), "{context}");
            let aside = home.path().join(format!("damaged-{:016x}.seg", hit.0.segment));
            assert_eq!(fs::read(aside).unwrap(), damaged, "{context}: the evidence is kept");

            put(&mut journal, &bodies(31..32, 10));
            let journal = home.open(); // sound again, without being asked to accept anything
            assert_eq!(sequences(&journal).last(), Some(&31), "{context}");
            let lost = journal.reader().read(hit.1.sequence);
            assert!(matches!(lost, Err(ReadError::Lost { .. })), "{context}: {lost:?}");
        }
    }
}

#[test]
fn a_sound_journal_is_not_changed_by_a_repair() {
    let home = Home::new();
    three_segments(&home);
    home.open();
    let image = home.image();
    let (_, opening) = home.repair();
    assert_eq!(opening.losses, []);
    assert!(home.image() == image);
}

#[test]
fn damage_to_segments_as_a_whole() {
    type Harm = fn(&Home);
    #[rustfmt::skip] // the columns are the point
    let cases: [(&str, Harm, &str, std::ops::RangeInclusive<u64>); 8] = [
        // why                       harm                                                     said                      records lost
        ("an old head is damaged",   |home| home.alter(1, |bytes| bytes[30] ^= 1),            "fails the checksum",     0..=0),
        ("the last head is damaged", |home| home.alter(3, |bytes| bytes[30] ^= 1),            "fails the checksum",     0..=0),
        ("an old head and its copy", |home| home.alter(2, |bytes| behead(bytes)),                            "fails the checksum",     0..=0),
        ("head and first record",    |home| home.alter(2, |bytes| { behead(bytes); bytes[64..200].fill(9); }), "fails", 1..=1),
        ("the last head and copy",   |home| home.alter(3, |bytes| behead(bytes)),                            "fails the checksum",     0..=0),
        ("a missing segment",        |home| fs::remove_file(home.segment_path(2)).unwrap(),   "segment is missing",     12..=12),
        ("a segment under another's name", |home| { fs::copy(home.segment_path(1), home.segment_path(2)).unwrap(); }, "another segment's", 12..=12),
        ("a segment of nothing",     |home| home.alter(2, |bytes| bytes.fill(0)),             "fails the checksum",     12..=12),
    ];
    for (why, harm, said, lost) in cases {
        let home = Home::new();
        let all = three_segments(&home);
        harm(&home);
        let err = home.try_open().map(|_| ()).unwrap_err().to_string();
        assert!(err.contains(said) && err.contains("weft repair"), "{why}: {err}");
        let (mut journal, opening) = home.repair();
        assert!(lost.contains(&opening.records_lost()), "{why}: {:?}", opening.losses);
        assert_eq!(sequences(&journal).len() as u64, all.len() as u64 - opening.records_lost(), "{why}");
        put(&mut journal, &bodies(31..32, 10));
        assert_eq!(sequences(&home.open()).last(), Some(&31), "{why}");
    }
}

/// Wipes out a segment's head and its copy.
fn behead(bytes: &mut [u8]) {
    let copy = bytes.len() - SEGMENT_HEAD_BYTES;
    bytes[..SEGMENT_HEAD_BYTES].fill(0xff);
    bytes[copy..].fill(0xff);
}

#[test]
fn what_cannot_be_repaired_says_so_and_stays_as_it_is() {
    let home = Home::new();
    put(&mut home.open(), &bodies(1..4, 50));
    let image = home.image();
    let accept = || Journal::open(Options { accept_damage: true, ..home.options() }).map(|_| ()).unwrap_err();

    home.alter(1, |bytes| behead(bytes));
    assert!(matches!(accept(), JournalError::BeyondRepair { .. }));
    assert_eq!(home.names().len(), 1);

    home.restore(&image);
    home.alter(1, |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(matches!(accept(), JournalError::NewerFormat { version: 2, .. }));
}

#[test]
fn a_repair_cut_short_at_any_write_or_sync_can_be_done_again() {
    let home = Home::new();
    let all = three_segments(&home);
    home.alter(1, |bytes| bytes[500] ^= 1);
    fs::remove_file(home.segment_path(2)).unwrap();
    home.alter(3, |bytes| bytes[100] ^= 1);
    let image = home.image();
    let accept = || Journal::open(Options { accept_damage: true, ..home.options() });
    let mut failed = 0;
    for nth in 1..40 {
        for breaks in [FaultyDisk::fail_sync as fn(&FaultyDisk, u32), tear_write] {
            home.restore(&image);
            breaks(&home.disk, nth);
            failed += u32::from(accept().is_err());
            home.disk.heal();
            let (journal, _) = accept().unwrap();
            assert_eq!(sequences(&journal).len(), all.len() - 14, "cut short at {nth}");
        }
    }
    assert!(failed > 20, "the faults are meant to strike");
}

fn tear_write(disk: &FaultyDisk, nth: u32) {
    disk.fail_write(nth, WriteFault::Torn(10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever is scribbled where, a repair ends, and every record not scribbled on is kept
    /// unless it is in the torn last stretch.
    #[test]
    fn scribbles_cost_only_what_they_hit(
        scribbles in prop::collection::vec((1..4_u64, 0..4000_usize, 1..300_usize, any::<u8>()), 1..5),
    ) {
        let home = Home::new();
        let all = three_segments(&home);
        for (segment, at, length, with) in &scribbles {
            home.alter(*segment, |bytes| {
                let to = (at + length).min(bytes.len());
                bytes[*at..to].fill(*with);
            });
        }
        let hit = |one: &(Position, Record)| scribbles.iter().any(|(segment, at, length, _)| {
            one.0.segment == *segment && *at < end_of(one) && (one.0.offset as usize) < at + length
        });
        let (mut journal, opening) = home.repair();
        let found: Vec<_> = journal.reader().scan(1).map(Result::unwrap).collect();
        let first_torn = opening.next_sequence;
        let due: Vec<_> = all.iter().filter(|one| !hit(one) && one.1.sequence < first_torn).cloned().collect();
        let kept: Vec<_> = found.iter().filter(|one| !hit(one)).cloned().collect();
        prop_assert_eq!(kept, due);
        put(&mut journal, &bodies(50..51, 10));
        prop_assert_eq!(sequences(&home.open()).last().copied(), Some(first_torn));
    }
}
