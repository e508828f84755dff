//! The model check on its small worlds. `cargo model` searches the large ones too.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use like_client::log::Story;
use like_client::saga::event::{Failure, FailureKind};
use like_client::saga::settlement::settlements;
use like_client::saga::{Event, SagaState};
use like_protocol::message::Direction;
use like_tests::model::mutation::SWITCHES;
use like_tests::model::search::{Verdict, search, search_from};
use like_tests::model::universe::Model;
use like_tests::model::world::{self, WORLDS};

#[test]
fn small_worlds_keep_every_promise_in_every_state() {
    for world in WORLDS.iter().filter(|world| world.small) {
        let report = search(world, None, |_, _| ());
        println!("{}: {} states, {} transitions", world.name, report.states, report.transitions);
        if let Verdict::Broken(property, story) = &report.verdict {
            panic!("{}: {property:?} is broken:\n{}", world.name, story.join("\n"));
        }
        assert!(report.holds() && report.ends > 0, "{}: {report:?}", world.name);
    }
}

#[test]
fn every_rule_that_is_switched_off_is_missed() {
    let mut missed = Vec::new();
    for switch in SWITCHES {
        let world = world::find(switch.world).expect("a world of this name");
        let report = search(world, Some(switch.mutation), |_, _| ());
        match report.verdict {
            Verdict::Broken(property, _) if property == switch.breaks => {}
            Verdict::Broken(property, story) => {
                missed.push(format!(
                    "{}: {property:?} is broken instead:\n{}",
                    switch.name,
                    story.join("\n")
                ));
            }
            other => missed.push(format!("{}: {other:?} after {} states", switch.name, report.states)),
        }
    }
    assert!(missed.is_empty(), "\n{}", missed.join("\n"));
}

/// What a saga's state decides: everything that depends on it but texts for people.
fn decisions(model: &Model, state: &SagaState) -> String {
    let mut decided = String::new();
    for boot in 0..=model.world.power_losses {
        for instant in 0..model.world.instants {
            let next = state.next(&model.clock(boot, instant));
            decided += &format!("{next:?} {:?} ", next.rests_on());
        }
    }
    let definition = model.definition(&state.begun);
    let saga = model.saga_id(0);
    decided += &format!("{:?} ", settlements(saga, state, Some(definition)));
    for step in 0..state.steps.len() {
        for direction in [Direction::Action, Direction::Compensation] {
            decided += &format!("{:?} ", state.request(saga, definition, step, direction).ok());
        }
    }
    decided
}

/// The model leaves out the events of attempts that came to nothing. That they decide nothing is checked in every log
/// that comes up in the small worlds.
#[test]
fn failures_decide_nothing() {
    let mut fitted = 0;
    for name in ["one-like", "forced"] {
        let (mut model, first) = Model::new(world::find(name).expect("a world of this name"), None);
        assert!(search_from(&mut model, first, |_, _| ()).holds());
        for log in model.logs() {
            let Some(state) = log.state() else { continue };
            for kind in [FailureKind::NotSent, FailureKind::Unknown, FailureKind::Locked] {
                for step in 0..2 {
                    let failure = || Failure { kind, detail: "why".to_owned() };
                    let action = Event::ActionFailed { step, failure: failure() };
                    let compensation = Event::CompensationFailed { step, in_a_row: 1, failure: failure() };
                    for event in [action, compensation] {
                        let mut story = log.story.clone().expect("it has a state");
                        story.add(0, event);
                        let Some(failed) = story.state.clone().filter(|state| state.quarantined.is_none())
                        else {
                            continue;
                        };
                        fitted += 1;
                        let again = Story::of(story.condensed().records).and_then(|story| story.state);
                        assert_eq!(decisions(&model, &failed), decisions(&model, state));
                        assert_eq!(again, Some(failed));
                    }
                }
            }
        }
    }
    assert!(fitted > 100, "{fitted}");
}
