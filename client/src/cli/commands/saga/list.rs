//! `likectl saga list`.

use super::{Found, ListArgs, find_views, rows};
use crate::cli::error::CliError;
use crate::cli::tools::Tools;

/// Lists sagas.
pub(super) fn run(tools: &Tools, args: &ListArgs) -> Result<(), CliError> {
    let wanted = |found: &&Found| {
        let in_state = args.states.is_empty() || args.states.iter().any(|state| state == found.view.state);
        let alarming = !args.needs_attention || found.view.needs_attention;
        in_state && alarming && args.after.is_none_or(|after| found.saga > after)
    };
    let all = find_views(tools)?;
    let found: Vec<_> = all.iter().filter(wanted).take(args.limit.unwrap_or(usize::MAX)).collect();
    if tools.output.json {
        return tools.output.document(&found.iter().map(|found| &found.view).collect::<Vec<_>>());
    }
    if found.is_empty() {
        tools.output.note("no such sagas");
        return Ok(());
    }
    tools.output.text(rows(&found, None))
}
