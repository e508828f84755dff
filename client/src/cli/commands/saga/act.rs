//! `likectl saga retry`, `compensate` and `force`.

use like_protocol::ids::SagaId;

use super::{ForceArgs, find_one};
use crate::cli::error::CliError;
use crate::cli::output::{WARN, paint};
use crate::cli::tools::Tools;
use crate::runner::admin;
use crate::saga::SagaState;

/// Tries a saga now.
pub(super) async fn retry(tools: &Tools, saga: SagaId) -> Result<(), CliError> {
    let state = admin::retry(&tools.context()?, saga, tools.config.timeout).await?;
    told(tools, saga, &state)
}

/// Undoes a saga.
pub(super) async fn compensate(tools: &Tools, saga: SagaId) -> Result<(), CliError> {
    let state = admin::compensate(&tools.context()?, saga, tools.config.timeout).await?;
    tools.output.note(format!(
        "{} this undoes the saga even if somebody was told that it succeeded",
        paint(WARN, "warning:")
    ));
    told(tools, saga, &state)
}

/// Ends a saga by the operator's word.
pub(super) async fn force(tools: &Tools, args: &ForceArgs) -> Result<(), CliError> {
    let context = tools.context()?;
    let forced =
        admin::force(&context, args.saga, args.end.into(), args.reason.clone(), tools.config.timeout).await?;
    if !forced.known {
        tools.output.note(format!(
            "{} no saga {} stood in the journal (is the id mistyped?): it has an end on record now, and once every service \
             knows of that, nothing of it can happen any more",
            paint(WARN, "warning:"),
            args.saga
        ));
    }
    // Of one that was not known every step that any saga could have had is named, which tells nobody anything.
    for broken in forced.leaves_broken.iter().filter(|_| forced.known) {
        tools.output.note(format!("{} left open: {broken}", paint(WARN, "warning:")));
    }
    if !forced.leaves_broken.is_empty() {
        tools.output.note("`likectl audit` finds what that broke, `likectl audit --repair` sets the counts");
    }
    if !forced.settled {
        tools.output.note(format!(
            "{} not every service has been told yet; `likectl recover` goes on with that",
            paint(WARN, "warning:")
        ));
    }
    show(tools, args.saga)
}

fn told(tools: &Tools, saga: SagaId, state: &SagaState) -> Result<(), CliError> {
    show(tools, saga)?;
    if state.ended().is_some() {
        return Ok(());
    }
    if state.needs_attention(tools.config.attention_after) {
        let what = format!("saga {saga} still needs an operator");
        return Err(CliError::NeedsAttention(what, Some(saga)));
    }
    Err(CliError::NotEnded(saga))
}

fn show(tools: &Tools, saga: SagaId) -> Result<(), CliError> {
    let found = find_one(tools, saga)?;
    if tools.output.json {
        return tools.output.document(&found.view);
    }
    let title = found.view.title();
    tools.output.text(format!("{title} is {}", found.view.state.replace('_', " ")))
}
