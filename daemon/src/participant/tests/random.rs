//! Random histories: several sagas, every message late, repeated or lost, restarts, forgetting.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The runner of this saga takes its next step, whatever that is, and its request arrives.
    Advance(u8),
    /// The runner gives up going forward.
    TurnBack(u8),
    /// The runner gives its saga more time.
    Resume(u8),
    /// A copy of an action sent before arrives.
    LateAction(u8, usize),
    /// A copy of a compensation sent before arrives.
    LateCompensation(u8, usize),
    Wait(u64),
    Restart,
}

const SAGAS: u8 = 4;

fn event() -> impl Strategy<Value = Event> {
    let saga = 0..SAGAS;
    prop_oneof![
        6 => saga.clone().prop_map(Event::Advance),
        1 => saga.clone().prop_map(Event::TurnBack),
        1 => saga.clone().prop_map(Event::Resume),
        4 => (saga.clone(), any::<usize>()).prop_map(|(saga, copy)| Event::LateAction(saga, copy)),
        3 => (saga, any::<usize>()).prop_map(|(saga, copy)| Event::LateCompensation(saga, copy)),
        3 => (1..400u64).prop_map(Event::Wait),
        1 => Just(Event::Restart),
    ]
}

/// What a runner knows of its saga's one step.
struct Runner {
    deadline: Option<Deadline>,
    turned_back: bool,
    /// The definite end: whether the action stands.
    ended: Option<bool>,
    settled: bool,
    /// The deadlines that its actions and compensations named: any of these messages may arrive again at any time.
    actions: Vec<Deadline>,
    compensations: Vec<Deadline>,
}

fn runner() -> Runner {
    let (actions, compensations) = (Vec::new(), Vec::new());
    Runner { deadline: None, turned_back: false, ended: None, settled: false, actions, compensations }
}

/// Lets the next request of a runner arrive, and its reply reach it.
fn advance(articles: &mut Harness<Articles>, number: u8, runner: &mut Runner) {
    let deadline = *runner.deadline.get_or_insert_with(|| articles.within(500));
    match (runner.ended, runner.turned_back) {
        (None, false) => {
            runner.actions.push(deadline);
            match articles.act_by(number, &ADD, deadline) {
                ReplyBody::Step(StepReply::Done(_)) => runner.ended = Some(true),
                ReplyBody::Step(StepReply::Refused(Refusal::Expired)) => runner.turned_back = true,
                other => panic!("going forward: {other:?}"),
            }
        }
        (None, true) => {
            runner.compensations.push(deadline);
            assert_eq!(articles.undo_by(number, &ADD, deadline), UNDONE);
            runner.ended = Some(false);
        }
        (Some(_), _) => {
            let settlement = Settlement { deadline, ..articles.settlement(number, Natural) };
            assert_eq!(articles.ask(RequestBody::Settle(vec![settlement])), ReplyBody::Settled);
            runner.settled = true;
        }
    }
}

/// Lets a copy of a message arrive whose reply nobody waits for any more.
fn late(articles: &mut Harness<Articles>, number: u8, runner: &Runner, event: Event) {
    let (sent, copy) = match event {
        Event::LateAction(_, copy) => (&runner.actions, copy),
        Event::LateCompensation(_, copy) => (&runner.compensations, copy),
        _ => return,
    };
    if sent.is_empty() {
        return;
    }
    let deadline = sent[copy % sent.len()];
    let reply = match event {
        Event::LateAction(..) => articles.act_by(number, &ADD, deadline),
        _ => articles.undo_by(number, &ADD, deadline),
    };
    let ran = matches!(reply, ReplyBody::Step(StepReply::Done(_)));
    assert!(!(ran && runner.ended == Some(false)), "a late action ran after its saga was undone");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_count_is_what_the_sagas_ended_with(events in proptest::collection::vec(event(), 1..80)) {
        let mut articles = articles();
        let mut runners: Vec<Runner> = (0..SAGAS).map(|_| runner()).collect();
        for event in events {
            match event {
                Event::Wait(ms) => articles.wait(ms),
                Event::Restart => articles.restart(),
                Event::Advance(number) => advance(&mut articles, number, &mut runners[usize::from(number)]),
                Event::TurnBack(number) => {
                    let runner = &mut runners[usize::from(number)];
                    runner.turned_back |= runner.ended.is_none() && runner.deadline.is_some();
                }
                Event::Resume(number) => {
                    let runner = &mut runners[usize::from(number)];
                    if !runner.settled && let Some(deadline) = &mut runner.deadline {
                        *deadline = deadline.later(articles.within(300), &articles.now);
                    }
                }
                Event::LateAction(number, _) | Event::LateCompensation(number, _) => {
                    late(&mut articles, number, &runners[usize::from(number)], event);
                }
            }
        }
        // Whatever has happened, every saga can be brought to its end, and the count is what they ended with.
        for (number, runner) in (0..SAGAS).zip(&mut runners) {
            while runner.deadline.is_some() && !runner.settled {
                advance(&mut articles, number, runner);
            }
            if let Some(copy) = runner.actions.len().checked_sub(1) {
                late(&mut articles, number, runner, Event::LateAction(number, copy));
            }
        }
        let stand = runners.iter().filter(|runner| runner.ended == Some(true)).count() as u64;
        prop_assert_eq!(likes(&mut articles), stand);
        prop_assert!(articles.unsettled().is_empty() && articles.participant.holds.is_empty());
        articles.wait(10_000);
        articles.ask(RequestBody::Settle(vec![]));
        prop_assert_eq!(articles.records(), 0);
    }
}
