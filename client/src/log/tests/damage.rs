//! What damage of the head costs, and what the next runners still know of it.

use std::fs;

use super::takeover::{Open, numbers, open_at, segment_path};
use super::*;
use crate::saga::tests::forced;

/// A runner tells of three sagas, of which only the last may not be durable, and lets go.
fn told_of_three(path: &Path, [first, second]: [(SagaId, Vec<Event>); 2]) {
    let log = take(path).log;
    tell(&log, first.0, first.1);
    wait_for(log.durable(tell(&log, second.0, second.1))).unwrap();
    tell(&log, saga(3), open_events());
    log.let_go();
}

/// Flips a bit of the first segment.
fn flip(path: &Path, place: impl FnOnce(&[u8]) -> usize) {
    let file = segment_path(path, 1);
    let mut bytes = fs::read(&file).unwrap();
    let at = place(&bytes);
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
}

#[test]
fn damage_in_the_head_costs_its_saga_and_the_evidence_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    told_of_three(path, [1, 2].map(|number| (saga(number), open_events())));
    let before = open_at(path);
    // The parameters' place in the first saga's first record.
    flip(path, |bytes| bytes.windows(8).position(|window| window == b"transfer").unwrap());

    let taken = take(path);
    assert_eq!(taken.damage.len(), 1);
    assert_eq!((taken.damage[0].sagas.as_slice(), taken.damage[0].place.segment), (&[saga(1)][..], 1));
    let quarantined: Vec<_> = taken.open.iter().map(Story::is_quarantined).collect();
    assert_eq!(quarantined, [true, false, false]);
    let others =
        |open: &Open| open.iter().filter(|(s, _)| **s != saga(1)).map(|(_, s)| s.clone()).collect::<Vec<_>>();
    assert_eq!(others(&open_sagas(taken.open)), others(&before));
    assert_eq!(numbers(path), [1, 2]);
    taken.log.let_go();
    // It is still quarantined after the next takeover, and can be begun and ended anew.
    let taken = take(path);
    assert!(taken.open[0].is_quarantined());
    tell(&taken.log, saga(1), [Event::Begun(begun().into()), forced(End::Compensated), Event::Settled]);
    taken.log.let_go();
    assert!(!open_at(path).contains_key(&saga(1)));
}

#[test]
fn a_saga_whose_only_record_is_damaged_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    told_of_three(path, [(saga(2), open_events()), (saga(1), vec![Event::Begun(begun().into())])]);
    flip(path, |bytes| {
        let first_of_3 = bytes.windows(16).position(|window| window == [3; 16]).unwrap();
        bytes[..first_of_3].windows(8).rposition(|window| window == b"transfer").unwrap()
    });
    for _ in 0..3 {
        let taken = take(path);
        let quarantined: Vec<_> =
            taken.open.iter().map(|story| (story.saga, story.is_quarantined())).collect();
        assert_eq!(quarantined, [(saga(1), true), (saga(2), false), (saga(3), false)]);
        taken.log.let_go();
    }
}

#[test]
fn a_saga_that_may_have_lost_its_last_words_stays_quarantined_until_an_operator_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    told_of_three(path, [1, 2].map(|number| (saga(number), open_events())));
    flip(path, |bytes| {
        let first_of_2 = bytes.windows(16).position(|window| window == [2; 16]).unwrap();
        20 + bytes[..first_of_2].windows(16).rposition(|window| window == [1; 16]).unwrap()
    });
    let mut taken = take(path);
    for _ in 0..3 {
        let quarantined: Vec<_> = taken.open.iter().map(Story::is_quarantined).collect();
        assert_eq!(quarantined, [true, false, false]);
        let detail = taken.open[0].state.as_ref().unwrap().quarantined.as_deref();
        assert_eq!(detail, Some("events behind number 2 may be lost"));
        taken.log.let_go();
        taken = take(path);
    }
    tell(&taken.log, saga(1), [forced(End::Completed), Event::Settled]);
    taken.log.let_go();
    assert_eq!(open_at(path).into_keys().collect::<Vec<_>>(), [saga(2), saga(3)]);
}
