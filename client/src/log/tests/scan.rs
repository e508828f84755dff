//! What a damaged, torn or overwritten segment is read as.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::log::record::{HEADER_BYTES, RECORD_HEAD_BYTES};
use crate::log::scan::Scan;
use crate::log::segment::Segment;
use crate::log::story::Stories;
use crate::log::takeover::visit;

/// A saga of which nothing but the beginning is on record.
const JUST_BEGUN: u8 = 6;

/// A segment as a busy runner leaves it: carry-over, mark, groups that state what was durable, an unsynced group last.
fn busy() -> Written {
    let mut segment = Written::new();
    let mut stuck = open_events();
    stuck.push(crate::saga::tests::failed(1));
    segment.put_all(records(saga(1), stuck)).put_all(records(saga(2), settled_events()).into_iter().take(6));
    segment.put(Entry::CarriedOver).put_durable();
    segment.put_all(records(saga(JUST_BEGUN), [Event::Begun(begun().into())]));
    let mut third = records(saga(3), settled_events()).into_iter();
    let mut fourth = records(saga(4), live(&[3, 0, 4, 1, 3, 2, 4], true)).into_iter();
    while third.len() + fourth.len() > 0 {
        segment.put_all(third.next()).put_all(fourth.next()).put_all(fourth.next());
        if third.len().is_multiple_of(2) {
            segment.put_durable();
        }
    }
    segment.put_all(records(saga(2), settled_events()).into_iter().skip(6));
    segment.put_durable();
    segment.put_all(records(saga(5), settled_events()));
    segment
}

fn read(bytes: &[u8], carried: bool) -> (Scan, Stories, Vec<Damage>) {
    let scan =
        scan(PLACE, bytes, if carried { Certain::CarryOver { proven: true } } else { Certain::Stated });
    let header = Some(Header { place: PLACE, lowest_live: 1, boot: None });
    let records = scan.records.clone();
    let mut segment = Segment { place: PLACE, header, scan };
    let mut stories = Stories::new();
    let damage = visit(&mut segment, |story| {
        assert_eq!(stories.insert(story.saga, story), None, "a story is shown once");
    });
    (Scan { records, ..segment.scan }, stories, damage)
}

/// The highest offset that the records other than the one at `without` state to be durable.
fn durable_without(segment: &Written, without: usize) -> usize {
    let stated = segment.starts.iter().filter(|(start, _)| *start != without).map(|(_, entry)| match entry {
        Entry::DurableTo(to) => *to as usize,
        _ => 0,
    });
    stated.max().unwrap_or_default()
}

/// Asserts what is read of `bytes`, in which the record at `start` (to `end`) is no longer intact. `whole` are the stories
/// of the intact segment.
fn assert_costs_one_record(
    (segment, whole): (&Written, &Stories),
    bytes: &[u8],
    (start, end): (usize, usize),
    entry: &Entry,
) {
    let (scan, mut stories, damage) = read(bytes, false);
    if start >= durable_without(segment, start) {
        assert_eq!((scan.end, scan.torn, damage.len()), (start as u64, true, 0), "a torn tail from {start}");
        assert_eq!(stories, read(&segment.bytes[..start], false).1);
        return;
    }
    assert_eq!((scan.end, scan.torn), (segment.bytes.len() as u64, false));
    assert!(scan.complete);
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((damage[0].place, damage[0].from, damage[0].to), (PLACE, start as u64, end as u64));
    let Entry::Saga(record) = entry else {
        assert_eq!((&stories, &damage[0].sagas[..]), (whole, &[][..]));
        return;
    };
    let mut others = whole.clone();
    others.remove(&record.saga);
    let hit = stories.remove(&record.saga);
    assert_eq!(stories, others, "damage of one saga changed another");
    // Only a saga of which nothing else is on record can lose its name with its record.
    let anonymous = hit.is_none() && record.saga == saga(JUST_BEGUN);
    assert!(anonymous || damage[0].sagas == [record.saga], "{:?} hit by {record:?}", damage[0].sagas);
    let Some(hit) = hit else { return };
    if record.event == Event::Settled {
        let mut before = whole[&record.saga].records.clone();
        before.pop();
        assert_eq!(Some(hit), Story::of(before), "it has ended, and that stands");
        return;
    }
    let goes_on = hit.state.as_ref().is_some_and(|state| state.quarantined.is_none());
    assert!(!goes_on, "goes on without {record:?}: {hit:?}");
}

#[test]
fn a_whole_segment_has_no_damage_and_no_torn_tail() {
    let segment = busy();
    let (scan, stories, damage) = read(&segment.bytes, false);
    assert_eq!((scan.end, scan.torn, scan.complete), (segment.bytes.len() as u64, false, true));
    assert_eq!((damage, scan.tag), (vec![], segment.tag));
    assert_eq!(stories.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, JUST_BEGUN].map(saga));
    assert!(stories.values().all(|story| !story.is_quarantined()));
    let settled = |number| !stories[&saga(number)].is_open();
    assert_eq!([1, 2, 3, 4, 5, JUST_BEGUN].map(settled), [false, true, true, true, true, false]);
}

#[test]
fn any_byte_changed_costs_at_most_the_saga_it_hits() {
    let segment = busy();
    let whole = read(&segment.bytes, false).1;
    let ends = segment.starts.iter().skip(1).map(|(start, _)| *start).chain([segment.bytes.len()]);
    let mut seen = HashSet::new();
    for change in [0x01, 0xff] {
        for at in 0..HEADER_BYTES {
            let mut bytes = segment.bytes.clone();
            bytes[at] ^= change;
            assert_eq!(read(&bytes, false).1, whole, "the header says nothing of any saga");
        }
        for ((start, entry), end) in segment.starts.iter().zip(ends.clone()) {
            for at in *start..end {
                let mut bytes = segment.bytes.clone();
                bytes[at] ^= change;
                assert_costs_one_record((&segment, &whole), &bytes, (*start, end), entry);
                seen.insert(*start < durable_without(&segment, *start));
            }
        }
    }
    assert_eq!(seen.len(), 2, "both damage and torn tails have been seen");
}

#[test]
fn any_cut_is_a_torn_tail_that_costs_only_what_was_cut_off() {
    let segment = busy();
    for cut in 0..segment.bytes.len() {
        let (scan, stories, damage) = read(&segment.bytes[..cut], false);
        let boundary = segment.starts.iter().map(|(start, _)| *start).filter(|start| *start <= cut).max();
        let end = boundary.unwrap_or(cut.min(HEADER_BYTES));
        assert_eq!((scan.end, scan.torn, damage), (end as u64, end < cut, vec![]), "cut at {cut}");
        assert_eq!(stories, read(&segment.bytes[..end], false).1);
    }
}

#[test]
fn a_hole_above_what_was_durable_cuts_everything_behind_it() {
    let mut segment = busy();
    segment.put_durable();
    let durable = segment.bytes.len();
    let last = segment.starts.last().map(|(start, _)| *start).unwrap();
    while segment.bytes.len() < durable + 20_000 {
        let next = saga(100 + (segment.starts.len() % 100) as u8);
        segment.put_all(records(next, settled_events()));
    }
    let mut bytes = segment.bytes.clone();
    let page = durable.next_multiple_of(4096);
    bytes[page..page + 4096].fill(0);
    // What stands between it and another one counts as little.
    bytes[page + 2 * 4096] ^= 1;
    let (scan, _, damage) = read(&bytes, false);
    let boundary =
        segment.starts.iter().map(|(start, _)| *start).filter(|start| *start <= page).max().unwrap();
    assert_eq!((scan.end, scan.torn, damage), (boundary as u64, true, vec![]));
    assert!(scan.end > last as u64);
    assert!(scan.records.iter().all(|(at, _)| *at < boundary as u64));
}

#[test]
fn a_hole_below_what_was_durable_is_damage_and_hits_only_sagas_that_may_have_lost_something() {
    let mut segment = Written::new();
    segment.put(Entry::CarriedOver);
    segment.put_all(records(saga(1), settled_events())); // ended before the hole
    segment.put_all(records(saga(2), open_events())); // its last words may be in the hole
    let from = segment.bytes.len();
    segment.put_all(records(saga(3), open_events())); // stands in the hole alone
    segment.put_all(records(saga(4), open_events())); // begins in the hole
    let to = segment.bytes.len();
    segment.put_all(records(saga(4), settled_events()).into_iter().skip(4));
    segment.put_all(records(saga(5), open_events())); // behind the hole
    segment.put_durable();
    let mut bytes = segment.bytes.clone();
    bytes[from..to].fill(0);
    let (_, stories, damage) = read(&bytes, false);
    let (place, what) = (PLACE, "are damaged".into());
    assert_eq!(damage, [Damage { place, from: from as u64, to: to as u64, sagas: vec![saga(2)], what }]);
    let quarantined = |number| stories.get(&saga(number)).map(Story::is_quarantined);
    assert_eq!([1, 2, 3, 4, 5].map(quarantined), [Some(false), Some(true), None, Some(true), Some(false)]);
}

#[test]
fn a_lone_record_that_lost_a_byte_of_its_name_is_its_sagas_and_one_that_lost_more_is_nobody_elses() {
    let mut segment = Written::new();
    segment.put(Entry::CarriedOver);
    segment.put_all(records(saga(1), open_events()));
    let hit = segment.bytes.len();
    segment.put_all(records(saga(2), [Event::Begun(begun().into())])).put_durable();
    let mut bytes = segment.bytes;
    let name = hit + RECORD_HEAD_BYTES + 1;
    let read = |bytes: &[u8]| {
        let (_, stories, damage) = read(bytes, false);
        (damage[0].sagas.clone(), stories[&saga(1)].is_quarantined(), stories.len())
    };
    // One byte of its name can be restored, and no more.
    for change in [1, 0xff] {
        for at in name..name + 16 {
            bytes[at] ^= change;
            assert_eq!(read(&bytes), (vec![saga(2)], false, 2));
            bytes[at] ^= change;
        }
    }
    (bytes[name], bytes[name + 15]) = (7, 7);
    assert_eq!(read(&bytes), (vec![], false, 1));
    // Without its length it may have been several, and the last of them another's.
    bytes[hit] ^= 1;
    assert_eq!(read(&bytes), (vec![saga(1)], true, 1));
}

#[test]
fn what_is_stated_to_be_durable_behind_a_torn_tail_makes_it_damage() {
    let mut segment = Written::new();
    segment.put(Entry::CarriedOver);
    segment.put_all(records(saga(1), open_events()));
    let (hit, _) = segment.starts[3];
    segment.put_durable();
    let mut bytes = segment.bytes.clone();
    bytes[hit + 5] ^= 1;
    assert_eq!(read(&bytes, false).2.len(), 1);
    let without_statement = segment.starts.last().unwrap().0;
    let (scan, _, damage) = read(&bytes[..without_statement], false);
    assert_eq!((scan.end, damage), (hit as u64, vec![]));
}

#[test]
fn a_bad_record_right_at_the_durable_offset_begins_the_torn_tail() {
    let mut segment = Written::new();
    segment.put(Entry::CarriedOver);
    let durable = segment.bytes.len();
    // Written while the sync ran that made everything before it durable.
    segment.put_all(records(saga(1), [Event::Begun(begun().into())]));
    segment.put(Entry::DurableTo(durable as u64));
    segment.bytes[durable] ^= 1;
    let (scan, _, damage) = read(&segment.bytes, false);
    assert_eq!((scan.end, scan.torn, damage), (durable as u64, true, vec![]));
}

#[test]
fn a_damaged_carry_over_that_was_synced_is_damage_and_one_that_was_not_is_no_carry_over() {
    let mut segment = Written::new();
    segment.put_all(records(saga(1), open_events())).put_all(records(saga(2), open_events()));
    segment.put(Entry::CarriedOver);
    let mut bytes = segment.bytes.clone();
    bytes[segment.starts[1].0] ^= 1;

    let (scan, _, damage) = read(&bytes, false);
    assert_eq!((scan.complete, scan.torn, damage.len()), (false, true, 0));

    let (scan, stories, damage) = read(&bytes, true);
    assert_eq!((scan.complete, scan.torn), (true, false));
    assert_eq!(damage[0].sagas, [saga(1)]);
    assert!(stories[&saga(1)].is_quarantined() && !stories[&saga(2)].is_quarantined());
}

#[test]
fn one_record_that_is_bad_in_the_boot_that_wrote_it_is_damage_and_several_are_a_torn_tail() {
    let mut segment = Written::new();
    segment.put_all(records(saga(1), open_events())).put(Entry::CarriedOver);
    segment
        .put_all(records(saga(2), open_events()))
        .put(Entry::DurableTo(0))
        .put_all(records(saga(3), open_events()));
    let starts: Vec<_> = segment.starts.iter().map(|(start, _)| *start).collect();
    let read = |bad: &[usize], certain| {
        let mut bytes = segment.bytes.clone();
        bad.iter().for_each(|number| bytes[starts[*number] + RECORD_HEAD_BYTES] ^= 1);
        let scan = scan(PLACE, &bytes, certain);
        (scan.damage.iter().map(|stretch| stretch.from as usize).collect::<Vec<_>>(), scan.end as usize)
    };
    let end = segment.bytes.len();
    let written = Certain::Written { carry_over: false };
    // A saga's record, and one of no saga; at the mark and in front of it, a takeover may have been killed in the middle.
    for (bad, is_damage) in [(6, true), (9, true), (1, false), (4, false)] {
        let torn = (vec![], starts[bad]);
        assert_eq!(read(&[bad], Certain::Stated), torn);
        assert_eq!(read(&[bad], written), if is_damage { (vec![starts[bad]], end) } else { torn }, "{bad}");
    }
    assert_eq!(read(&[6, 7], written), (vec![], starts[6]));
    assert_eq!(read(&[1], Certain::Written { carry_over: true }), (vec![starts[1]], end));
}

#[test]
fn a_segment_without_its_mark_is_no_carry_over() {
    let mut segment = Written::new();
    segment.put_all(records(saga(1), open_events()));
    assert!(!read(&segment.bytes, false).0.complete);
    segment.put(Entry::CarriedOver);
    assert!(read(&segment.bytes, false).0.complete);
}

#[test]
fn a_record_that_was_copied_elsewhere_in_the_segment_is_not_read() {
    let segment = busy();
    let whole = read(&segment.bytes, false);
    for (at, (start, _)) in segment.starts.iter().enumerate() {
        let end = segment.starts.get(at + 1).map_or(segment.bytes.len(), |(next, _)| *next);
        let bytes = [&segment.bytes[..], &segment.bytes[*start..end]].concat();
        let (scan, stories, damage) = read(&bytes, false);
        assert_eq!((scan.end, scan.torn, damage), (whole.0.end, true, vec![]));
        assert_eq!(stories, whole.1);
    }
}

#[test]
fn a_segment_under_another_number_or_in_another_slot_is_empty() {
    let bytes = busy().bytes;
    for place in [Place { slot: 4, ..PLACE }, Place { segment: 6, ..PLACE }] {
        let scan = scan(place, &bytes, Certain::CarryOver { proven: true });
        assert!(scan.records.is_empty() && !scan.complete && scan.torn);
    }
}

#[test]
fn damage_is_reported_with_its_place() {
    let damage = Damage { place: PLACE, from: 40, to: 90, sagas: vec![], what: "are damaged".into() };
    assert_eq!(damage.to_string(), "slot 3 segment 5: bytes 40 to 90 are damaged");
}

proptest! {
    #[test]
    fn no_bytes_make_scanning_panic_or_are_taken_for_records(bytes in vec(any::<u8>(), 0..3000), carried: bool) {
        let (scan, stories, damage) = read(&bytes, carried);
        prop_assert!(stories.is_empty() && damage.is_empty() && !scan.complete);
        prop_assert_eq!(scan.torn, bytes.len() > HEADER_BYTES);
    }

    #[test]
    fn nothing_is_read_that_was_not_written(
        garbage in vec(any::<u8>(), 1..300), at in 0usize..6000, carried: bool,
    ) {
        let segment = busy();
        let mut bytes = segment.bytes.clone();
        let at = at.min(bytes.len() - 1);
        let garbage = &garbage[..garbage.len().min(bytes.len() - at)];
        bytes[at..at + garbage.len()].copy_from_slice(garbage);
        let (scan, stories, _) = read(&bytes, carried);
        let written = |at: u64, record: &SagaRecord| {
            segment.starts.contains(&(at as usize, Entry::Saga(record.clone())))
        };
        prop_assert!(scan.records.iter().all(|(at, record)| written(*at, record)));
        // Whoever has all records is as before; whoever lost one is quarantined, ended, cut, or gone.
        let whole = read(&segment.bytes, false).1;
        for (saga, story) in stories.iter().filter(|(_, story)| !story.is_quarantined()) {
            let before = &whole[saga];
            let cut = scan.torn && before.records.starts_with(&story.records);
            let ended = story.state.as_ref().is_some_and(|state| state.ended().is_some());
            prop_assert!(before == story || cut || ended, "{:?}\nwas {:?}", story, before);
        }
    }
}
