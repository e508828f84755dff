//! What records add up to, what is lost with a gap, and what a stuck saga may forget.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::log::story::{self, Stories};
use crate::saga::tests::{back, failed, forced, undo_failed, undo_sent};
use crate::saga::{Next, TurnBack};
use like_protocol::ids::BootId;
use like_protocol::time::Now;

const NOW: Now = Now { boot: BootId::from_bytes([7; 16]), at_ms: 1 };

fn story(events: impl IntoIterator<Item = Event>) -> Story {
    Story::of(records(saga(1), events)).unwrap()
}

/// The story of a settled saga without the events of these numbers.
fn without(lost: &[usize]) -> Story {
    let kept = records(saga(1), settled_events()).into_iter();
    Story::of(kept.filter(|record| !lost.contains(&(record.seq as usize))).collect()).unwrap()
}

#[test]
fn a_story_goes_from_open_to_settled() {
    let open = story(open_events());
    assert!(open.is_open() && !open.is_quarantined());
    assert_eq!((open.next_seq(), open.last_at_ms()), (4, 1_000_003));
    let unsettled = story(settled_events().into_iter().take(6));
    assert!(unsettled.is_open() && !unsettled.is_quarantined());
    let settled = story(settled_events());
    assert!(!settled.is_open() && !settled.is_quarantined());
    assert_eq!(Story::of(Vec::new()), None);
}

#[test]
fn a_gap_quarantines_a_saga_and_says_what_is_lost() {
    let records: Vec<_> =
        records(saga(1), open_events()).into_iter().filter(|record| record.seq != 1).collect();
    let story = Story::of(records).unwrap();
    assert!(story.is_open() && story.is_quarantined());
    let state = story.state.unwrap();
    assert_eq!(state.quarantined.as_deref(), Some("events 1 to 1 are lost"));
    assert_eq!(state.next(&NOW), Next::Nothing);
}

#[test]
fn an_intact_end_behind_a_gap_counts() {
    let settled = without(&[2, 3]);
    assert!(!settled.is_open() && !settled.is_quarantined());
    let unsettled = without(&[2, 6]);
    assert!(unsettled.is_open() && !unsettled.is_quarantined());
    assert_eq!(unsettled.state.unwrap().next(&NOW), Next::Settle(vec![0, 1]));
}

#[test]
fn a_saga_that_lost_its_end_but_not_its_settlement_stays_in_plain_sight() {
    assert!(without(&[5]).is_quarantined());
}

#[test]
fn a_saga_that_lost_its_beginning_is_quarantined_until_it_is_begun_and_ended_anew() {
    let mut stories = Stories::new();
    let tell = |stories: &mut Stories, records: Vec<SagaRecord>| {
        for record in records {
            story::tell(stories, record);
        }
    };
    tell(&mut stories, records(saga(1), open_events()).into_iter().skip(1).collect());
    assert!(stories[&saga(1)].is_open() && stories[&saga(1)].is_quarantined());
    assert_eq!(stories[&saga(1)].state, None);
    tell(&mut stories, records(saga(1), [Event::Begun(begun().into()), forced(End::Compensated)]));
    assert!(stories[&saga(1)].is_open() && !stories[&saga(1)].is_quarantined());
    assert_eq!(stories[&saga(1)].records.len(), 2);
}

#[test]
fn an_event_that_does_not_fit_quarantines_its_saga() {
    let mut open = story(open_events());
    open.add(0, Event::Settled);
    assert!(open.is_quarantined());
    assert!(open.state.unwrap().quarantined.unwrap().contains("Settled"));
}

#[test]
fn a_quarantined_saga_keeps_every_word_and_number() {
    let mut gapped = without(&[2, 5, 6]);
    assert!(gapped.is_quarantined());
    assert_eq!(gapped.clone().condensed(), gapped);
    gapped.add(0, forced(End::Completed));
    gapped.add(0, Event::Settled);
    assert!(!gapped.is_open());
    let retold = Story::of(gapped.clone().condensed().records).unwrap();
    assert_eq!(retold, gapped);
}

#[test]
fn a_saga_that_was_stuck_for_long_is_told_in_a_few_words() {
    let mut events = vec![Event::Begun(begun().into())];
    events.extend((1..1000).flat_map(|attempt| {
        let resumed = Event::Resumed { deadline: begun().deadline, by_uid: attempt };
        [sent(0, attempt), failed(0), Event::TakenOver { by_pid: attempt }, resumed]
    }));
    events.push(back(TurnBack::Operator { by_uid: 0 }));
    events.extend((1..1000).flat_map(|attempt| [undo_sent(0, attempt), undo_failed(0, attempt)]));
    let long = story(events);
    let short = long.clone().condensed();
    assert_eq!((short.state.as_ref(), short.records.len()), (long.state.as_ref(), 14));
    assert_eq!(short.state.unwrap().steps[0].compensation_failures, 999);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_condensed_story_is_legal_and_means_the_same(fates in vec(any::<u8>(), 0..400), ended: bool) {
        let long = story(live(&fates, ended));
        prop_assert!(!long.is_quarantined());
        let short = long.clone().condensed();
        let retold = Story::of(short.records.clone()).unwrap();
        prop_assert_eq!(&retold, &short);
        prop_assert_eq!(&retold.state, &long.state);
        prop_assert_eq!(retold.last_at_ms(), long.last_at_ms());
        prop_assert!(short.records.iter().map(|record| record.seq).eq(0..short.records.len() as u32));
        prop_assert!(short.records.len() <= 32, "{} records", short.records.len());
        prop_assert_eq!(short.clone().condensed(), short);
    }

    #[test]
    fn a_story_with_a_gap_is_never_driven_on(fates in vec(any::<u8>(), 0..60), lost in any::<prop::sample::Index>()) {
        let whole = records(saga(1), live(&fates, false));
        let lost = lost.index(whole.len()) as u32;
        let behind = whole.iter().any(|record| record.seq > lost);
        let Some(story) = Story::of(whole.into_iter().filter(|record| record.seq != lost).collect()) else {
            return Ok(());
        };
        let ended = story.state.as_ref().is_some_and(|state| state.ended().is_some());
        prop_assert!(!behind || ended || story.is_quarantined());
    }
}
