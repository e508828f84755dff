//! `likectl recover`.

use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::cli::commands::saga::find_open;
use crate::cli::error::CliError;
use crate::cli::json::RecoverDocument;
use crate::cli::moment;
use crate::cli::output::{DIM, Output, WARN, count, paint};
use crate::cli::signals;
use crate::cli::tools::Tools;
use crate::log::{Slot, owner, wall_ms};
use crate::runner::recover::{self, Report};
use crate::runner::watch::{self, Notice};
use crate::runner::{Context, Order};
use crate::saga::End;

/// How to recover.
#[derive(Args, Debug)]
pub struct RecoverArgs {
    /// Give sagas that go forward a new deadline (--timeout) first
    #[arg(long, conflicts_with = "compensate")]
    resume: bool,
    /// Undo sagas that go forward instead. This can take back what somebody was told had happened
    #[arg(long)]
    compensate: bool,
    /// Stay, and take over the moment a runner dies
    #[arg(long)]
    pub watch: bool,
}

/// Runs `likectl recover`.
///
/// # Errors
/// Sagas are left that are unfinished or need an operator, or the journal can't be used.
pub async fn run(tools: &Tools, args: &RecoverArgs) -> Result<(), CliError> {
    let context = tools.context()?;
    let order = match (args.resume, args.compensate) {
        (true, _) => Order::Resume { timeout: tools.config.timeout },
        (_, true) => Order::Compensate,
        _ => Order::GoOn,
    };
    if order == Order::Compensate {
        tools.output.note(format!(
            "{} --compensate undoes sagas whose success may have been acknowledged already",
            paint(WARN, "warning:")
        ));
    }
    if args.watch { stay(tools, &context, order).await } else { once(tools, &context, order).await }
}

async fn once(tools: &Tools, context: &Context, order: Order) -> Result<(), CliError> {
    let report = tokio::select! {
        report = recover::once(context, order, tools.config.timeout) => report?,
        () = signals::interrupted() => return Err(CliError::Interrupted(None)),
    };
    if tools.output.json {
        tools.output.document(&RecoverDocument::from(&report))?;
    } else {
        tools.output.text(in_words(&report))?;
    }
    name_live_owners(tools)?;
    let stuck = report.needs_attention + report.quarantined;
    if stuck > 0 {
        let what = if stuck == 1 { "one saga needs an operator" } else { "sagas need an operator" };
        return Err(CliError::NeedsAttention(
            format!("{what}: see `likectl saga list --needs-attention`"),
            None,
        ));
    }
    if report.unfinished > 0 {
        return Err(CliError::Unfinished(report.unfinished));
    }
    Ok(())
}

/// Says whose the unfinished sagas are that recovery leaves alone, because their runner lives.
fn name_live_owners(tools: &Tools) -> Result<(), CliError> {
    let mut slots: Vec<(Slot, u64)> = Vec::new();
    for found in find_open(tools)?.into_iter().filter(|found| found.view.is_unfinished()) {
        match slots.iter_mut().find(|(slot, _)| *slot == found.slot) {
            Some((_, sagas)) => *sagas += 1,
            None => slots.push((found.slot, 1)),
        }
    }
    for (slot, sagas) in slots {
        if let Some(owner) = owner::owner_of(&slot) {
            let sagas = count(sagas, "unfinished saga belongs", "unfinished sagas belong");
            tools.output.note(format!("left alone: {sagas} to {owner}"));
        }
    }
    Ok(())
}

fn in_words(report: &Report) -> String {
    let Report { recovered, completed, compensated, unfinished, needs_attention, quarantined } = *report;
    if recovered == 0 && quarantined == 0 {
        return "nothing to recover".to_owned();
    }
    let parts = [
        (completed, "completed"),
        (compensated, "compensated"),
        (unfinished, "still unfinished"),
        (needs_attention, "in need of an operator"),
        (quarantined, "quarantined"),
    ];
    let parts: Vec<_> =
        parts.iter().filter(|(many, _)| *many > 0).map(|(many, what)| format!("{many} {what}")).collect();
    format!("recovered {}: {}", count(recovered as u64, "saga", "sagas"), parts.join(", "))
}

async fn stay(tools: &Tools, context: &Context, order: Order) -> Result<(), CliError> {
    let (notices, mut told) = mpsc::unbounded_channel();
    let ending = async {
        tokio::select! {
            () = signals::asked_to_end() => Ok(()),
            () = signals::interrupted() => Err(CliError::Interrupted(None)),
        }
    };
    let (ended, end) = tokio::sync::oneshot::channel();
    let shutdown = async {
        // Whoever listens is gone only if the watch has ended by itself.
        let _ = ended.send(ending.await);
    };
    tools.output.note(format!("watching {} for sagas whose runner dies", context.journal.path().display()));
    let watching = watch::watch(context, order, notices, shutdown);
    let telling = async {
        while let Some(notice) = told.recv().await {
            tell(&tools.output, &notice)?;
        }
        Ok::<(), CliError>(())
    };
    tokio::pin!(watching);
    tokio::select! {
        watched = &mut watching => watched?,
        told = telling => told?,
    }
    end.await.unwrap_or(Ok(()))
}

/// One line of a watch.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    event: &'static str,
    slot: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<usize>,
    #[serde(flatten)]
    report: Option<RecoverDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sagas: Option<Vec<SagaLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct SagaLine {
    saga_id: String,
    /// `completed`, `compensated`, or null while it has not ended.
    end: Option<&'static str>,
}

fn tell(output: &Output, notice: &Notice) -> Result<(), CliError> {
    let at = moment::show(moment::of_ms(wall_ms()));
    if !output.json {
        let lines: Vec<_> = match notice {
            Notice::TakenOver { slot, unfinished } => {
                vec![format!(
                    "slot {slot} taken over: {} unfinished",
                    count(*unfinished as u64, "saga", "sagas")
                )]
            }
            Notice::LetGo { slot, report, sagas } => {
                let saga_line = |(saga, end): &(_, Option<End>)| {
                    format!("  {saga} {}", end.map_or("has not ended yet", end_word))
                };
                let first = format!("slot {slot} let go: {}", in_words(report));
                std::iter::once(first).chain(sagas.iter().map(saga_line)).collect()
            }
            Notice::Skipped { slot, why } => vec![format!("slot {slot} skipped: {why}")],
        };
        return lines.iter().try_for_each(|line| output.text(format!("{} {line}", paint(DIM, &at))));
    }
    let empty = Line { at, event: "", slot: 0, unfinished: None, report: None, sagas: None, detail: None };
    let line = match notice {
        Notice::TakenOver { slot, unfinished } => {
            Line { event: "taken_over", slot: *slot, unfinished: Some(*unfinished), ..empty }
        }
        Notice::LetGo { slot, report, sagas } => {
            let saga_line = |(saga, end): &(like_protocol::ids::SagaId, Option<End>)| SagaLine {
                saga_id: saga.to_string(),
                end: end.map(end_word),
            };
            let sagas = sagas.iter().map(saga_line).collect();
            Line { event: "let_go", slot: *slot, report: Some(report.into()), sagas: Some(sagas), ..empty }
        }
        Notice::Skipped { slot, why } => Line { event: "skipped", slot: *slot, detail: Some(why), ..empty },
    };
    output.document(&line)
}

fn end_word(end: End) -> &'static str {
    match end {
        End::Completed => "completed",
        End::Compensated => "compensated",
    }
}
