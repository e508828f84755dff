//! `likectl check`: what the timer runs.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::commands::saga::{find_views, rows};
use crate::cli::error::CliError;
use crate::cli::output::count;
use crate::cli::tools::Tools;
use crate::cli::view::SagaView;
use crate::cli::{duration, moment};

/// How many sagas the error message names; the result names all.
const NAMED_MAX: usize = 5;

/// What counts as hanging.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// How long a saga may be open before it counts as hanging
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    hanging_after: Duration,
}

/// What a check found.
#[derive(Serialize)]
struct CheckDocument<'a> {
    needs_attention: Vec<&'a str>,
    hanging: Vec<&'a str>,
    sagas: Vec<&'a SagaView>,
}

/// Runs `likectl check`. It reads the log and takes no lock.
///
/// # Errors
/// A saga needs an operator or hangs; or the journal can't be read.
pub async fn run(tools: &Tools, args: &CheckArgs) -> Result<(), CliError> {
    let views = find_views(tools)?;
    let now_ms = moment::now_ms();
    let hangs = |saga: &SagaView| saga.hangs(now_ms, args.hanging_after);
    let alarming: Vec<_> =
        views.iter().filter(|found| found.view.needs_attention || hangs(&found.view)).collect();
    if tools.output.json {
        let ids = |filter: &dyn Fn(&SagaView) -> bool| {
            alarming.iter().map(|f| &f.view).filter(|v| filter(v)).map(|v| v.saga_id.as_str()).collect()
        };
        tools.output.document(&CheckDocument {
            needs_attention: ids(&|view| view.needs_attention),
            hanging: ids(&hangs),
            sagas: alarming.iter().map(|found| &found.view).collect(),
        })?;
    } else if alarming.is_empty() {
        tools.output.text("all is well: no saga needs an operator or hangs")?;
    } else {
        tools.output.text(rows(&alarming, Some(args.hanging_after)))?;
    }
    let Some(first) = alarming.first() else { return Ok(()) };
    let need = alarming.iter().filter(|found| found.view.needs_attention).count();
    let hang = alarming.len() - need;
    let what =
        [count(need as u64, "needs an operator", "need an operator"), count(hang as u64, "hangs", "hang")];
    let what: Vec<_> = what.into_iter().filter(|words| !words.starts_with("0 ")).collect();
    let what = what.join(", ");
    let names: Vec<_> = alarming.iter().take(NAMED_MAX).map(|found| found.view.saga_id.as_str()).collect();
    let more = if alarming.len() > NAMED_MAX { ", …" } else { "" };
    Err(CliError::NeedsAttention(
        format!("sagas in trouble: {what}: {}{more}", names.join(", ")),
        Some(first.saga),
    ))
}
