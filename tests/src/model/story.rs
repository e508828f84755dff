//! A counterexample as a story: what happened, step by step, in words.

use like_client::saga::SagaState;
use like_protocol::message::{Direction, ReplyBody, RequestBody, StepReply};

use super::caller::Told;
use super::expand::Next;
use super::state::{Order, State, Step};
use super::universe::Model;

/// The story of a path through the states, and of a last step that breaks a promise, if it is a step that does.
pub fn told(
    model: &mut Model,
    path: &[State],
    last: Option<(Step, Option<State>)>,
    what: &str,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut next: Vec<Next> = Vec::new();
    for pair in path.windows(2) {
        model.expand(&pair[0], &mut next);
        let step = next.iter().find(|(_, then)| then.as_ref().is_ok_and(|then| *then == pair[1]));
        let step = step.expect("a path consists of steps").0;
        lines.push(words(model, &pair[0], step, Some(&pair[1])));
    }
    let end = *path.last().expect("a path has a beginning");
    if let Some((step, then)) = last {
        lines.push(words(model, &end, step, then.as_ref()));
        lines.extend(standing(model, &then.unwrap_or(end)));
    } else {
        lines.extend(standing(model, &end));
    }
    let numbered = lines.into_iter().enumerate().map(|(at, line)| format!("{:3}. {line}", at + 1));
    numbered.chain([format!("  => {what}")]).collect()
}

fn words(model: &mut Model, state: &State, step: Step, then: Option<&State>) -> String {
    let (number, now) = model.now(state);
    match step {
        Step::Begin(ask) => format!("{}: a runner begins saga {}", asked(model, ask), ask + 1),
        Step::Check(ask) => format!("{}: the checks answer: {}", asked(model, ask), answer(model, then, ask)),
        Step::Move(ask, place) => {
            let part = state.sagas[usize::from(ask)];
            let moves = model.moves(usize::from(ask), part.log, (number, &now));
            let did = &moves[usize::from(place)];
            let told = if did.then.tells.is_some() {
                format!(": {}", answer(model, then, ask))
            } else {
                String::new()
            };
            format!("saga {}: its runner {}{told}", ask + 1, did.what)
        }
        Step::Arrive(ask, request) | Step::Answer(ask, request) => {
            let asked = model.requests.get(u32::from(request));
            let (role, what) = (asked.role, in_words(&asked.body));
            let standing = state.stores[role];
            let body = asked.body.clone();
            let reply =
                model.services[role].arrive(standing, (number, &now), (request, &body), &mut model.replies).1;
            let reply = reply_in_words(model.replies.get(reply));
            let got = if matches!(step, Step::Answer(..)) { "its runner hears" } else { "nobody hears" };
            let role = model.role(role);
            format!("saga {}: {what} arrives at the {role} service; {got}: {reply}", ask + 1)
        }
        Step::Kill(ask) => format!("saga {}: its runner dies", ask + 1),
        Step::Recover(ask, order) => {
            let order = match order {
                Order::GoOn => "",
                Order::Resume => ", and gives it a new deadline",
                Order::Compensate => ", and an operator turns it back",
                Order::Force => ", and an operator ends it by force",
            };
            format!("saga {}: another runner takes it over{order}", ask + 1)
        }
        Step::Tick => format!("the next instant: {}", state.instant + 1),
        Step::PowerLoss(left) => {
            let of = |ask: usize| {
                let had = model.logs.get(state.sagas[ask].log).records().len();
                format!("{} of {had} records of saga {}", left[ask], ask + 1)
            };
            let left: Vec<_> = (0..model.world.asks.len()).map(of).collect();
            format!("the power is lost; there are left {}", left.join(", "))
        }
        Step::Collect(role) => format!("the {} service forgets what it may", model.role(usize::from(role))),
        Step::Look => "an audit looks".to_owned(),
    }
}

fn asked(model: &Model, ask: u8) -> String {
    let of = model.world.asks[usize::from(ask)];
    let key = of.key.map_or(String::new(), |key| format!(" with key {key}"));
    format!("user {} asks for a {:?} of article {}{key}", of.user, of.usage, of.article).to_lowercase()
}

fn answer(model: &Model, then: Option<&State>, ask: u8) -> String {
    let told = then.map(|then| &model.words.get(u32::from(then.sagas[usize::from(ask)].told)).told);
    match told {
        None | Some(Told::Nothing) => "not what was told before".to_owned(),
        Some(Told::Liked(liked)) => format!("liked by saga {}", saga(model, liked.saga)),
        Some(Told::Unliked(unliked)) => format!("unliked by saga {}", saga(model, unliked.saga)),
        Some(Told::Forbidden(rule)) => rule.to_string(),
        Some(Told::Failed) => "failed".to_owned(),
    }
}

fn saga(model: &Model, id: like_protocol::ids::SagaId) -> String {
    model.saga_of(id).map_or_else(|| "of old".to_owned(), |saga| (saga + 1).to_string())
}

fn in_words(body: &RequestBody) -> String {
    match body {
        RequestBody::Step(step) => {
            let what = match step.direction {
                Direction::Action => "action",
                Direction::Compensation => "compensation",
            };
            format!("the {what} of step {}", step.id.step)
        }
        RequestBody::Settle(_) => "the settlement".to_owned(),
        other => format!("{other:?}"),
    }
}

fn reply_in_words(reply: &ReplyBody) -> String {
    match reply {
        ReplyBody::Step(StepReply::Done(_)) => "done".to_owned(),
        ReplyBody::Step(StepReply::Rejected(_)) => "rejected".to_owned(),
        ReplyBody::Step(other) => format!("{other:?}").to_lowercase(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// How everything stands.
fn standing(model: &Model, state: &State) -> Vec<String> {
    let mut lines = vec![format!("(boot {}, instant {})", state.boot + 1, state.instant)];
    for (ask, part) in state.sagas.iter().enumerate().take(model.world.asks.len()) {
        let log = model.logs.get(part.log);
        let phase = log.state().map_or_else(|| "not begun".to_owned(), phase_in_words);
        lines.push(format!(
            "(saga {}: {phase}; {} of {} records durable)",
            ask + 1,
            log.durable,
            log.records().len()
        ));
    }
    for (role, standing) in state.stores.iter().enumerate() {
        let seen = model.services[role].seen(*standing);
        let unsettled: Vec<_> = seen
            .unsettled
            .iter()
            .map(|step| format!("saga {} {:?}", saga(model, step.id.saga), step.state))
            .collect();
        lines.push(format!(
            "(the {} service: unsettled {unsettled:?}, settled {})",
            model.role(role),
            seen.records.1
        ));
    }
    for (article, sight) in model.sights(state).iter().enumerate() {
        let likers = sight.likers.count_ones();
        lines.push(format!("(article {}: {} likes, {likers} like records)", article + 1, sight.likes));
    }
    lines
}

fn phase_in_words(state: &SagaState) -> String {
    let settled = if state.settled { ", settled" } else { "" };
    format!("{:?}{settled}", state.phase)
}
