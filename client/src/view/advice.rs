//! What may be done about a saga, and who does it.

use super::SagaView;
use crate::log::Owner;

/// What an operator may safely do next, safest first.
pub fn advice(saga: &SagaView, owner: Option<&Owner>) -> Vec<String> {
    let id = &saga.saga_id;
    let force = format!(
        "Last resort: `likectl saga force {id} --as completed|compensated --reason TEXT` ends it by your word. What it \
         leaves broken is recorded; `likectl audit` finds it."
    );
    if saga.state == "quarantined" {
        return vec!["Part of its record is damaged: nobody drives it any more.".to_owned(), force];
    }
    if !saga.is_unfinished() {
        if saga.settled {
            return vec!["Nothing: it has ended, and every service knows.".to_owned()];
        }
        let telling = match owner {
            Some(owner) => format!(
                "Nothing: it has ended, and {owner} goes on telling the services. Its locks stay until then."
            ),
            None => {
                "Safe: `likectl recover` tells the services that it has ended. Its locks stay until then."
                    .to_owned()
            }
        };
        // The log does not say what a service has become since.
        let end = saga.state.trim_start_matches("forced_");
        let restored = format!(
            "If a service was restored from a backup since, that is in vain: then `likectl saga force {id} --as {end} \
             --reason TEXT`."
        );
        return vec![telling, restored];
    }
    if !saga.known && owner.is_none() {
        let kind = saga.kind.as_deref().unwrap_or_default();
        return vec![
            format!(
                "This program does not know how to drive a saga of kind `{kind}` as it was begun. Safe at any time: `likectl recover` \
                 of a release that does goes on with it."
            ),
            force,
        ];
    }
    let mut advice = match owner {
        Some(owner) if owner.stopped => vec![format!(
            "Its runner does nothing: {owner}. Safe: `kill -CONT {0}` lets it go on, `kill -9 {0}` hands its sagas to \
             recovery.",
            owner.pid
        )],
        Some(owner) => vec![format!("Wait: its runner, {owner}, is driving it.")],
        None => vec![
            "Safe at any time: `likectl recover` goes on with it, as its dead runner would have.".to_owned(),
        ],
    };
    let failures = saga.steps.iter().filter_map(|step| step.last_failure.as_ref().map(|last| (step, last)));
    for (step, last) in failures {
        let (name, service) = (&step.name, &step.service);
        advice.push(format!(
            "In the way: the last attempt at `{name}` ({service} service) came to nothing: {last}"
        ));
    }
    if saga.needs_attention && owner.is_some_and(acts_itself) {
        advice.push(format!(
            "Safe, once the cause is gone: have that gateway try it now, on its page or by `POST /sagas/{id}/retry`. It also \
             does so by itself, now and then."
        ));
        advice.push(
            "Last resort, there too: an end by your word. What it leaves broken is recorded; `likectl audit` finds it."
                .to_owned(),
        );
    } else if saga.needs_attention {
        advice.push(format!("Safe, once the cause is gone: `likectl saga retry {id}` tries it now."));
        advice.push(force);
    } else if saga.state == "running" && owner.is_none() {
        advice.push(format!(
            "Risky: `likectl saga compensate {id}` undoes it, even if somebody was told that it succeeded."
        ));
    }
    advice
}

/// Whether a live owner keeps its sagas to itself and offers the acts of an operator: a gateway. Others let go of a saga now
/// and then (`recover --watch`), or end before long.
pub fn acts_itself(owner: &Owner) -> bool {
    owner.command.split_whitespace().take(2).any(|word| word.ends_with("like-gateway"))
}
