//! What damage of the head costs, and what the next runners still know of it.

use std::fs;

use super::takeover::{Open, numbers, open_at, segment_path};
use super::*;
use crate::saga::tests::forced;

#[test]
fn damage_in_the_head_costs_its_saga_and_the_evidence_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let log = take(path).log;
    tell(&log, saga(1), open_events());
    let position = tell(&log, saga(2), open_events());
    wait_for(log.durable(position)).unwrap();
    tell(&log, saga(3), open_events());
    log.let_go();
    let before = open_at(path);
    let file = segment_path(path, 1);
    let mut bytes = fs::read(&file).unwrap();
    // The parameters' place in the first saga's first record.
    let at = bytes.windows(8).position(|window| window == b"transfer").unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();

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
    let log = take(path).log;
    tell(&log, saga(2), open_events());
    let position = tell(&log, saga(1), [Event::Begun(begun().into())]);
    wait_for(log.durable(position)).unwrap();
    tell(&log, saga(3), open_events());
    log.let_go();
    let file = segment_path(path, 1);
    let mut bytes = fs::read(&file).unwrap();
    let first_of_3 = bytes.windows(16).position(|window| window == [3; 16]).unwrap();
    let of_1 = bytes[..first_of_3].windows(8).rposition(|window| window == b"transfer").unwrap();
    bytes[of_1] ^= 1;
    fs::write(&file, bytes).unwrap();
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
    let log = take(path).log;
    tell(&log, saga(1), open_events());
    wait_for(log.durable(tell(&log, saga(2), open_events()))).unwrap();
    tell(&log, saga(3), open_events());
    log.let_go();
    let file = segment_path(path, 1);
    let mut bytes = fs::read(&file).unwrap();
    let first_of_2 = bytes.windows(16).position(|window| window == [2; 16]).unwrap();
    let last_of_1 = bytes[..first_of_2].windows(16).rposition(|window| window == [1; 16]).unwrap();
    bytes[last_of_1 + 20] ^= 1;
    fs::write(&file, bytes).unwrap();
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
