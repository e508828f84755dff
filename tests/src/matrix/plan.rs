//! Which cases there are: every passage of every point in every scenario, found by looking at runs in which nothing
//! fails; and for second crashes, by looking at what whoever takes over passes.

use std::collections::HashSet;

use super::case::{Case, First, How, Passage, Process, Taker};
use super::{World, first};

/// A scenario, and every passage that is made in it.
#[derive(Debug)]
pub struct Ground<W: World> {
    scenario: W::Scenario,
    passages: Vec<Passage<W::Service>>,
}

/// How often each scenario is looked at: how many groups a daemon makes of what arrives is up to the moment, and a case
/// planned on a passage that is rarely made would have to be played dozens of times.
const LOOKS: usize = 4;

/// Looks at each scenario some times. What is passed every time can be planned on.
///
/// # Panics
/// A victim that nothing happens to does not end as it should.
pub fn survey<W: World>(world: &mut W) -> Vec<Ground<W>> {
    let mut look = |scenario: W::Scenario| {
        world.set(scenario);
        let (ended, passages) = first::watch(world, scenario);
        let codes: &[i32] = if W::turns_back(scenario) { &[4, 5] } else { &[0] };
        assert!(ended.code().is_some_and(|code| codes.contains(&code)), "{ended:?}");
        passages
    };
    let mut ground = |&scenario: &W::Scenario| {
        let mut passages = look(scenario);
        for _ in 1..LOOKS {
            let again = look(scenario);
            passages.retain(|passage| again.contains(passage));
        }
        Ground { scenario, passages }
    };
    W::SCENARIOS.iter().map(&mut ground).collect()
}

/// Every process of a world, struck in every way.
fn blows<W: World>() -> Vec<(Process<W::Service>, How)> {
    let daemons = W::SERVICES.iter().map(|service| Process::Daemon(*service));
    let all: Vec<_> = [Process::Runner].into_iter().chain(daemons).collect();
    all.iter().flat_map(|whom| How::ALL.map(|how| (*whom, how))).collect()
}

/// The whole product of first faults and who takes over: every passage in every scenario, whoever is struck however.
pub fn product<W: World>(grounds: &[Ground<W>]) -> Vec<Case<W>> {
    let mut cases = Vec::new();
    for Ground { scenario, passages } in grounds {
        for at in passages {
            for (whom, how) in blows::<W>() {
                let first = First { at: *at, whom, how };
                let takers = Taker::after(&whom, how).into_iter();
                cases.extend(takers.map(|taker| Case { scenario: *scenario, first, taker, second: None }));
            }
        }
    }
    cases
}

/// A passage in its scenario.
type Placed<W> = (<W as World>::Scenario, Passage<<W as World>::Service>);

/// How much a covering part covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cover {
    /// Every point, whoever is struck however, recovered in every mode.
    Modes,
    /// The same, but the modes take turns.
    Kinds,
}

/// A covering part of the product. Scenarios and passages take turns, and so do those who finish besides recovery.
pub fn covering<W: World>(grounds: &[Ground<W>], cover: Cover) -> Vec<Case<W>> {
    let all: Vec<_> = grounds.iter().flat_map(|g| g.passages.iter().map(|at| (g.scenario, *at))).collect();
    let mut points: Vec<Vec<Placed<W>>> = Vec::new();
    for (scenario, at) in all {
        match points.iter_mut().find(|point| (point[0].1.by, point[0].1.point) == (at.by, at.point)) {
            Some(point) => point.push((scenario, at)),
            None => points.push(vec![(scenario, at)]),
        }
    }
    let mut cases = Vec::new();
    for (turn, point) in points.iter().enumerate() {
        let mut places = point.iter().cycle().skip(turn % point.len());
        for (number, (whom, how)) in blows::<W>().into_iter().enumerate() {
            let takers = Taker::after(&whom, how);
            let whose_turn = takers[(turn + number) % takers.len()];
            let plays = |taker: &Taker| {
                *taker == whose_turn || (cover == Cover::Modes && matches!(taker, Taker::Recovery(_)))
            };
            for taker in takers.into_iter().filter(plays) {
                let Some((scenario, at)) = places.next().copied() else { break };
                cases.push(Case { scenario, first: First { at, whom, how }, taker, second: None });
            }
        }
    }
    cases
}

/// A case, and what was passed after its first fault: where a second crash may come.
pub type Looked<W> = (Case<W>, Vec<Passage<<W as World>::Service>>);

/// Second crashes that cover, pairwise, the point of the second crash with: the kind of the first fault, who takes over,
/// and, with every mode, the point of the first fault.
pub fn pairwise<W: World>(looked: &[Looked<W>], cover: Cover) -> Vec<Case<W>> {
    let mut covered = HashSet::new();
    let mut cases: Vec<Case<W>> = Vec::new();
    loop {
        let before = cases.len();
        for (case, passages) in looked {
            let fresh = |second: &&Passage<W::Service>| {
                let pairs = pairs(&case.then(**second), cover);
                pairs.iter().filter(|pair| !covered.contains(*pair)).count()
            };
            let Some(best) = passages.iter().max_by_key(fresh).filter(|best| fresh(best) > 0) else {
                continue;
            };
            let chosen = case.then(*best);
            covered.extend(pairs(&chosen, cover));
            cases.push(chosen);
        }
        if cases.len() == before {
            return cases;
        }
    }
}

fn pairs<W: World>(case: &Case<W>, cover: Cover) -> Vec<[String; 2]> {
    let Some(second) = case.second else { return Vec::new() };
    let point = |at: &Passage<W::Service>| format!("{} {}", at.by, at.point.name());
    let first = (cover == Cover::Modes).then(|| point(&case.first.at));
    let others = [case.kind(), case.taker.to_string()].into_iter().chain(first);
    others.map(|other| [point(&second), other]).collect()
}
