//! In which order open sagas are handed on.

use super::*;

#[test]
fn what_was_told_of_last_comes_last_however_often_the_log_goes_on_in_a_new_segment() {
    for segment_bytes_max in [u64::MAX / 2, 0] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let keeping = Keeping { segment_bytes_max, ..Keeping::default() };
        let take = || {
            let slot = journal.slots().unwrap().into_iter().next();
            let lock = slot.map_or_else(
                || journal.claim_free().unwrap(),
                |slot| journal.claim_when_free(&slot).unwrap().unwrap(),
            );
            let TakenOver { log, open, .. } = take_over(lock, keeping).unwrap();
            (log, open.into_iter().map(|story| story.saga).collect::<Vec<_>>())
        };
        let goes_on = |log: &SagaLog, number, events: Vec<Event>| {
            let first = *log.segments().end();
            wait_for(log.durable(tell(log, saga(number), events))).unwrap();
            until("it goes on in a new segment", || segment_bytes_max > 0 || *log.segments().end() > first);
        };
        let (log, _) = take();
        (1..=4).for_each(|number| goes_on(&log, number, open_events()));
        goes_on(&log, 2, vec![sent(1, 2)]);
        log.let_go();
        let (log, order) = take();
        assert_eq!(order, [1, 3, 4, 2].map(saga));
        goes_on(&log, 1, vec![sent(1, 2)]);
        goes_on(&log, 4, vec![sent(1, 2)]);
        log.let_go();
        let (log, order) = take();
        assert_eq!(order, [3, 2, 1, 4].map(saga));
        log.let_go();
        assert_eq!(take().1, order, "nobody has driven any");
    }
}
