//! Whole lives of sagas, drawn at random: see [`live`] for what is asserted on the way.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The state that a life adds up to.
fn told(life: &[Event]) -> SagaState {
    after(life[1..].iter().cloned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn every_life_reaches_an_end(fates in vec(any::<u8>(), 0..40)) {
        let life = live(&fates, true);
        let state = told(&life);
        prop_assert!(state.settled);
        prop_assert_eq!(state.next(&LATE), Next::Nothing);
    }

    #[test]
    fn an_end_can_be_reached_from_wherever_a_life_stands(fates in vec(any::<u8>(), 0..40)) {
        // `live` goes on with all well once the fates are used up, and panics if that takes long.
        let open = live(&fates, false);
        let ended = live(&fates, true);
        prop_assert!(ended.starts_with(&open));
    }

    #[test]
    fn a_saga_completes_only_with_every_step_done_and_is_compensated_only_with_nothing_left(
        fates in vec(any::<u8>(), 0..40),
    ) {
        let state = told(&live(&fates, true));
        match state.phase {
            Phase::Ended(End::Completed) => {
                prop_assert!(state.steps.iter().all(|step| matches!(step.action, Action::Done(_))));
            }
            Phase::Ended(End::Compensated) => {
                let clean = |step: usize| state.steps[step].compensated || !state.may_have_been_sent(step);
                prop_assert!((0..state.steps.len()).all(clean));
            }
            ref forced => prop_assert!(matches!(forced, Phase::Forced(_))),
        }
    }

    #[test]
    fn a_saga_that_was_taken_over_while_going_forward_turns_back_only_for_certain_or_by_an_operator(
        fates in vec(any::<u8>(), 0..40),
    ) {
        let life = live(&fates, true);
        let turned = life.iter().position(|event| matches!(event, Event::TurnedBack(_)));
        let taken_over = life.iter().position(|event| *event == TAKEN_OVER);
        if let (Some(turned), Some(taken_over)) = (turned, taken_over) && taken_over < turned {
            let gave_up = matches!(life[turned], Event::TurnedBack(TurnBack::Deadline { .. }));
            prop_assert!(!gave_up);
        }
    }
}
