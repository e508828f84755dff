//! `likectl saga list`.

use std::collections::BTreeMap;

use super::{Found, ListArgs, show_all};
use crate::cli::error::CliError;
use crate::cli::tools::Tools;
use crate::log::Story;
use crate::view::state_word;

/// Lists sagas.
pub(super) fn run(tools: &Tools, args: &ListArgs) -> Result<(), CliError> {
    let attention_after = tools.config.attention_after;
    let wanted = |story: &Story| {
        let state = story.state.as_ref();
        let alarming = || state.is_none_or(|state| state.needs_attention(attention_after));
        let in_state = args.states.is_empty() || args.states.iter().any(|wanted| wanted == state_word(state));
        in_state && (!args.needs_attention || alarming()) && args.after.is_none_or(|after| story.saga > after)
    };
    let most = args.limit.unwrap_or(usize::MAX);
    // No more is kept than is shown: the log may tell of a week.
    let mut found = BTreeMap::new();
    tools.survey(|slot, story| {
        if wanted(&story) {
            found.insert((story.saga, slot.number()), Found::new(tools, slot.clone(), &story));
        }
        if found.len() > most {
            found.pop_last();
        }
    })?;
    let found: Vec<_> = found.into_values().collect();
    if tools.output.json {
        return tools.output.document(&found.iter().map(|found| &found.view).collect::<Vec<_>>());
    }
    if found.is_empty() {
        let part = args.limit.is_some() || args.after.is_some();
        let asked_for_some = args.needs_attention || !args.states.is_empty() || part;
        tools.output.note(if asked_for_some { "no such sagas" } else { "no sagas" });
        return Ok(());
    }
    show_all(tools, &found.iter().collect::<Vec<_>>(), None)
}
