//! `likectl recover`.

use std::collections::BTreeSet;

use clap::Args;
use like_protocol::ids::SagaId;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::cli::commands::saga::find_open;
use crate::cli::error::CliError;
use crate::cli::json::RecoverDocument;
use crate::cli::output::{DIM, Output, WARN, count, paint};
use crate::cli::signals;
use crate::cli::tools::Tools;
use crate::log::{Slot, Story, history, owner, wall_ms};
use crate::runner::recover::{self, Report};
use crate::runner::watch::{self, Notice};
use crate::runner::{Context, Order};
use crate::saga::End;
use crate::view::moment;

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
    if args.watch { stay(tools, order).await } else { once(tools, order).await }
}

async fn once(tools: &Tools, order: Order) -> Result<(), CliError> {
    // A journal that is not there is not made: its name may be mistyped.
    if tools.journal_to_read()?.is_none() {
        return tell_once(tools, &Report::default(), &Told::default());
    }
    let context = tools.context()?;
    let before = ended_of_the_dead(&context)?;
    let report = tokio::select! {
        report = recover::once(&context, order, tools.config.timeout) => report?,
        () = signals::interrupted() => return Err(CliError::Interrupted(None)),
    };
    let left = ended_of_the_dead(&context)?;
    let settled = before.difference(&left).count();
    // What is left counts even if nobody reads on.
    let told = tell_once(tools, &report, &Told { settled, unsettled: left.len() });
    // Who had a stuck saga may have let go of it since, and who has it now may end it yet.
    let stuck = stuck_of_all(tools)?.max(report.needs_attention + report.quarantined);
    if stuck > 0 {
        let what = if stuck == 1 { "one saga needs an operator" } else { "sagas need an operator" };
        return Err(CliError::NeedsAttention(
            format!("{what}: see `likectl saga list --needs-attention`"),
            None,
        ));
    }
    let unusable = match &report.unusable[..] {
        [] if report.unfinished == 0 => return told,
        [] => return Err(CliError::Unfinished(report.unfinished)),
        [(slot, why)] => format!("slot {slot} of the journal could not be used ({why})"),
        [(slot, why), ..] => {
            let many = report.unusable.len();
            format!("{many} slots of the journal could not be used, the first of them slot {slot} ({why})")
        }
    };
    Err(CliError::JournalTrouble(format!("{unusable}: sagas may stand there that nobody finishes")))
}

/// Sagas of dead runners that had ended, and of whose end a service had not been told.
#[derive(Clone, Copy, Default)]
struct Told {
    /// It has been now.
    settled: usize,
    /// It has not been yet.
    unsettled: usize,
}

fn tell_once(tools: &Tools, report: &Report, told: &Told) -> Result<(), CliError> {
    if tools.output.json {
        return tools.output.document(&RecoverDocument::of(report, told.settled, told.unsettled));
    }
    tools.output.text(in_words(report, told))
}

/// What has ended and is not settled in slots whose runner is gone. Of slots that can't be read recovery tells by itself.
fn ended_of_the_dead(context: &Context) -> Result<BTreeSet<SagaId>, CliError> {
    let slots = context.journal.slots()?.into_iter().filter(|slot| owner::owner_of(slot).is_none());
    let open = slots.flat_map(|slot| history::open_in(&slot).unwrap_or_default());
    let has_ended = |story: &Story| story.state.as_ref().is_some_and(|state| state.ended().is_some());
    Ok(open.filter(has_ended).map(|story| story.saga).collect())
}

/// How many sagas need an operator, whoever has them. Says whose the unfinished ones are that recovery leaves alone, because
/// their runner lives.
fn stuck_of_all(tools: &Tools) -> Result<usize, CliError> {
    let unfinished: Vec<_> =
        find_open(tools)?.sagas.into_iter().filter(|found| found.view.is_unfinished()).collect();
    let mut slots: Vec<(&Slot, u64)> = Vec::new();
    for found in &unfinished {
        match slots.iter_mut().find(|(slot, _)| **slot == found.slot) {
            Some((_, sagas)) => *sagas += 1,
            None => slots.push((&found.slot, 1)),
        }
    }
    for (slot, sagas) in slots {
        if let Some(owner) = owner::owner_of(slot) {
            let sagas = count(sagas, "unfinished saga belongs", "unfinished sagas belong");
            tools.output.note(format!("left alone: {sagas} to {owner}"));
        }
    }
    Ok(unfinished.iter().filter(|found| found.view.needs_attention).count())
}

fn in_words(report: &Report, told: &Told) -> String {
    let Report { recovered, completed, compensated, unfinished, needs_attention, quarantined, .. } = *report;
    let ended = |many: usize| count(many as u64, "saga", "sagas");
    let mut ends = Vec::new();
    if told.settled > 0 {
        ends.push(format!("told the services how {} had ended", ended(told.settled)));
    }
    if told.unsettled > 0 {
        ends.push(format!("a service has still to be told how {} ended", ended(told.unsettled)));
    }
    if recovered == 0 && quarantined == 0 {
        return if ends.is_empty() { "nothing to recover".to_owned() } else { ends.join("; ") };
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
    ends.insert(0, format!("recovered {}: {}", ended(recovered), parts.join(", ")));
    ends.join("; ")
}

/// What a watch did to a slot. Where nothing was unfinished, all that was left to do was to tell the services of ends.
fn let_go_in_words(report: &Report) -> String {
    if report.recovered == 0 && report.quarantined == 0 {
        return "nothing was unfinished, only ends that a service had to be told".to_owned();
    }
    in_words(report, &Told::default())
}

async fn stay(tools: &Tools, order: Order) -> Result<(), CliError> {
    let context = tools.context()?;
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
    let watching = watch::watch(&context, order, notices, shutdown);
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

/// How many sagas of a slot are named: a line stays below the 48 KiB at which the system's journal would break it.
const NAMED_MAX: usize = 500;

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
                    format!("  {saga} {}", end.map_or("has not ended yet", End::as_str))
                };
                let first = format!("slot {slot} let go: {}", let_go_in_words(report));
                let more = sagas.len().saturating_sub(NAMED_MAX);
                let more = (more > 0).then(|| format!("  and {more} more"));
                std::iter::once(first).chain(named(sagas).map(saga_line)).chain(more).collect()
            }
            Notice::Skipped { slot, why } => vec![format!("slot {slot} skipped: {why}")],
        };
        return lines.iter().try_for_each(|line| output.text(format!("{} {line}", paint(DIM, &at))));
    }
    output.document(&Line::of(at, notice))
}

/// Those that are named of a slot's sagas: what has ended first.
fn named(sagas: &[(SagaId, Option<End>)]) -> impl Iterator<Item = &(SagaId, Option<End>)> {
    let [ended, open] =
        [true, false].map(|wanted| sagas.iter().filter(move |(_, end)| end.is_some() == wanted));
    ended.chain(open).take(NAMED_MAX)
}

impl<'a> Line<'a> {
    fn of(at: String, notice: &'a Notice) -> Self {
        let empty =
            Line { at, event: "", slot: 0, unfinished: None, report: None, sagas: None, detail: None };
        match notice {
            Notice::TakenOver { slot, unfinished } => {
                Line { event: "taken_over", slot: *slot, unfinished: Some(*unfinished), ..empty }
            }
            Notice::LetGo { slot, report, sagas } => {
                let saga_line = |(saga, end): &(SagaId, Option<End>)| SagaLine {
                    saga_id: saga.to_string(),
                    end: end.map(End::as_str),
                };
                let sagas = named(sagas).map(saga_line).collect();
                Line {
                    event: "let_go",
                    slot: *slot,
                    report: Some(report.into()),
                    sagas: Some(sagas),
                    ..empty
                }
            }
            Notice::Skipped { slot, why } => {
                Line { event: "skipped", slot: *slot, detail: Some(why), ..empty }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_watch_stays_short_however_many_sagas_a_slot_has() {
        let saga =
            |number: u32, end| (SagaId::from_bytes((u128::MAX - u128::from(number)).to_be_bytes()), end);
        let open = (0..10_000).map(|number| saga(number, None));
        let sagas = open.chain([saga(10_000, Some(End::Compensated))]).collect();
        let report = Report { recovered: 10_001, compensated: 1, unfinished: 10_000, ..Report::default() };
        let notice = Notice::LetGo { slot: 0, report, sagas };
        let line = serde_json::to_string(&Line::of(moment::show(moment::of_ms(0)), &notice)).unwrap();
        assert!(line.len() < 48 * 1024, "{}", line.len());
        assert!(
            line.contains("\"compensated\"}") && line.contains("\"unfinished\":10000"),
            "{}",
            &line[..400]
        );
    }

    #[test]
    fn what_was_only_settled_is_not_nothing() {
        let nothing = Report::default();
        let words = |report: &Report, settled, unsettled| in_words(report, &Told { settled, unsettled });
        assert_eq!(words(&nothing, 0, 0), "nothing to recover");
        assert_eq!(words(&nothing, 1, 0), "told the services how 1 saga had ended");
        assert_eq!(words(&nothing, 0, 2), "a service has still to be told how 2 sagas ended");
        let report = Report { recovered: 3, completed: 2, compensated: 1, ..nothing };
        assert_eq!(words(&report, 0, 0), "recovered 3 sagas: 2 completed, 1 compensated");
        let both = "recovered 3 sagas: 2 completed, 1 compensated; told the services how 1 saga had ended";
        assert_eq!(words(&report, 1, 0), both);
    }
}
