//! `likectl status`: both daemons, the log, and what is unfinished.

use std::collections::BTreeMap;
use std::time::Duration;

use like_protocol::message::{DaemonStatus, DamagedRow};
use serde::Serialize;

use crate::cli::commands::saga::{Found, numbers, show_all, unread_in_words};
use crate::cli::error::CliError;
use crate::cli::output::{BAD, Column, GOOD, STRONG, WARN, bytes, count, paint, table};
use crate::cli::tools::Tools;
use crate::likes::AskError;
use crate::log::history::{self, Gaps};
use crate::log::{Journal, Slot, owner};
use crate::rpc::Unreachable;
use crate::view::{HANGING_AFTER, OwnerView, SagaView, ServiceStatus, duration, moment, state_word};

/// A daemon that doesn't answer a question about itself within this time is shown as not reachable.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How many unfinished sagas the text shows.
const SHOWN_MAX: usize = 20;

#[derive(Serialize)]
struct StatusDocument<'a> {
    services: &'a [ServiceDocument],
    log: &'a LogDocument,
    unfinished_sagas: Vec<&'a SagaView>,
}

#[derive(Serialize)]
struct ServiceDocument {
    service: &'static str,
    socket: String,
    reachable: bool,
    /// Why it can't be reached.
    problem: Option<String>,
    /// How it says it is.
    #[serde(flatten)]
    status: Option<ServiceStatus>,
    /// The first of its damaged rows.
    damaged_rows: Vec<DamagedRowDocument>,
    #[serde(skip)]
    unreachable: Option<Unreachable>,
}

#[derive(Serialize)]
struct DamagedRowDocument {
    /// The row's key, in hexadecimal digits.
    row: String,
    /// What stands in it.
    what: String,
    /// What is wrong with it.
    why: String,
    /// The saga and step, if it is an operation record.
    saga_id: Option<String>,
    step: Option<u8>,
}

impl From<&DamagedRow> for DamagedRowDocument {
    fn from(damaged: &DamagedRow) -> Self {
        let DamagedRow { row, what, step, why } = damaged.clone();
        let (saga_id, step) = (step.map(|id| id.saga.to_string()), step.map(|id| id.step));
        Self { row, what, why, saga_id, step }
    }
}

#[derive(Serialize)]
struct LogDocument {
    journal: String,
    sagas: usize,
    unfinished: usize,
    unsettled: usize,
    needs_attention: usize,
    hanging: usize,
    /// How many sagas are in which state.
    by_state: BTreeMap<&'static str, usize>,
    /// Slots with a live runner.
    runners: Vec<RunnerDocument>,
    /// What stands in the way of reading the log, or a part of it.
    problem: Option<String>,
    /// Why nothing more can be written to it.
    lacks_room: Option<String>,
    /// Slots that can't be read: more sagas may stand there.
    unreadable_slots: Vec<u32>,
    /// What is damaged.
    damage: Vec<String>,
}

#[derive(Serialize)]
struct RunnerDocument {
    slot: u32,
    #[serde(flatten)]
    owner: OwnerView,
}

/// Runs `likectl status`.
///
/// # Errors
/// No daemon can be reached, or stdout is gone.
pub async fn run(tools: &Tools) -> Result<(), CliError> {
    let within = ANSWER_TIMEOUT.min(tools.config.timeout);
    let (articles, users) = (tools.articles().within(within), tools.users().within(within));
    let (article, user) = futures::join!(articles.status(), users.status());
    let [article_remote, user_remote] = tools.remotes();
    let services = vec![
        service("article", article_remote.target(), article),
        service("user", user_remote.target(), user),
    ];
    let (seen, problem) = match look(tools) {
        Ok(seen) => (seen, None),
        Err(error) => (Seen::default(), Some(error.told().message().to_owned())),
    };
    let log = log(tools, &seen, problem);
    let unfinished: Vec<_> = seen.open.iter().filter(|found| found.view.is_unfinished()).collect();
    let told = if tools.output.json {
        let unfinished_sagas = unfinished.iter().map(|found| &found.view).collect();
        tools.output.document(&StatusDocument { services: &services, log: &log, unfinished_sagas })
    } else {
        show(tools, &services, &log, &unfinished)
    };
    let unreachable: Vec<_> = services.iter().filter_map(|service| service.unreachable.clone()).collect();
    if unreachable.len() == services.len() { Err(CliError::NoDaemon(unreachable)) } else { told }
}

/// What the log tells.
#[derive(Default)]
struct Seen {
    by_state: BTreeMap<&'static str, usize>,
    open: Vec<Found>,
    /// What of it can't be read or is damaged.
    gaps: Gaps,
    /// Why nothing more can be written to it.
    lacks_room: Option<String>,
}

fn look(tools: &Tools) -> Result<Seen, CliError> {
    let mut seen = Seen::default();
    let Some(journal) = tools.journal_to_read()? else { return Ok(seen) };
    seen.lacks_room = journal.lacks_room();
    let (by_state, open) = (&mut seen.by_state, &mut seen.open);
    seen.gaps = history::survey(&journal, |slot, story| {
        *by_state.entry(state_word(story.state.as_ref())).or_default() += 1;
        if story.is_open() {
            open.push(Found::new(tools, slot.clone(), &story));
        }
    })?;
    open.sort_by_key(|found| found.saga);
    Ok(seen)
}

fn service<R: std::fmt::Debug>(
    service: &'static str,
    socket: String,
    status: Result<DaemonStatus, AskError<R>>,
) -> ServiceDocument {
    let (status, problem, unreachable) = match status {
        Ok(status) => (Some(status), None, None),
        Err(AskError::Unreachable(unreachable)) => {
            (None, Some(unreachable.message.clone()), Some(unreachable))
        }
        Err(error) => (None, Some(error.to_string()), None),
    };
    let status = status.as_ref();
    ServiceDocument {
        service,
        socket,
        reachable: status.is_some(),
        problem,
        status: status.map(ServiceStatus::from),
        damaged_rows: status.map(|s| s.damaged_rows.iter().map(Into::into).collect()).unwrap_or_default(),
        unreachable,
    }
}

fn log(tools: &Tools, seen: &Seen, problem: Option<String>) -> LogDocument {
    let now_ms = moment::now_ms();
    let how_many =
        |filter: &dyn Fn(&SagaView) -> bool| seen.open.iter().filter(|found| filter(&found.view)).count();
    let journal = Journal::open_existing(&tools.config.journal);
    let slots = journal.and_then(|journal| journal.slots()).unwrap_or_default();
    let runner = |slot: &Slot| {
        owner::owner_of(slot)
            .map(|owner| RunnerDocument { slot: slot.number(), owner: OwnerView::from(&owner) })
    };
    LogDocument {
        journal: tools.config.journal.display().to_string(),
        sagas: seen.by_state.values().sum(),
        unfinished: how_many(&|view| view.is_unfinished()),
        unsettled: how_many(&|view| view.is_unsettled()),
        needs_attention: how_many(&|view| view.needs_attention),
        hanging: how_many(&|view| view.hangs(now_ms, HANGING_AFTER)),
        by_state: seen.by_state.clone(),
        runners: slots.iter().filter_map(runner).collect(),
        problem: problem.or_else(|| unread_in_words(&seen.gaps.skipped)),
        lacks_room: seen.lacks_room.clone(),
        unreadable_slots: numbers(&seen.gaps.skipped),
        damage: seen.gaps.damage.iter().map(ToString::to_string).collect(),
    }
}

fn show(
    tools: &Tools,
    services: &[ServiceDocument],
    log: &LogDocument,
    unfinished: &[&Found],
) -> Result<(), CliError> {
    tools.output.text(services_table(services))?;
    for service in services {
        // Two paths beside each other would not fit.
        tools.output.text(format!("{:<11}  {}", format!("{} at", service.service), service.socket))?;
        if let Some(problem) = &service.problem {
            tools.output.text(format!("{} {problem}", paint(BAD, "✗")))?;
        }
        if service.status.as_ref().is_some_and(|status| status.storage_low) {
            let warning = format!(
                "the {} service refuses new actions: its disk space is short, or can't be told",
                service.service
            );
            tools.output.text(format!("{} {warning}", paint(WARN, "!")))?;
        }
        show_damage(tools, service)?;
    }
    tools.output.text(format!("\n{} {}", paint(STRONG, "log"), log.journal))?;
    for problem in log.problem.iter().chain(&log.lacks_room).chain(&log.damage) {
        tools.output.text(format!("{} {problem}", paint(BAD, "✗")))?;
    }
    if log.problem.is_some() && log.unreadable_slots.is_empty() {
        return Ok(());
    }
    let sagas = log.by_state.iter().map(|(state, many)| format!("{many} {}", state.replace('_', " ")));
    let sagas: Vec<_> = sagas.collect();
    let sagas = if sagas.is_empty() { "none".to_owned() } else { sagas.join(", ") };
    tools.output.text(format!("  sagas    {sagas}"))?;
    for runner in &log.runners {
        let RunnerDocument { slot, owner: OwnerView { pid, command, stopped } } = runner;
        let stopped = if *stopped { paint(BAD, " (stopped)") } else { String::new() };
        tools.output.text(format!("  runner   slot {slot}: pid {pid} {command}{stopped}"))?;
    }
    let trouble = [
        (log.unfinished, "unfinished", "unfinished"),
        (log.unsettled, "ended, but not settled", "ended, but not settled"),
        (log.needs_attention, "needs an operator", "need an operator"),
        (log.hanging, "hangs", "hang"),
    ];
    let trouble = trouble.iter().filter(|(many, ..)| *many > 0);
    let trouble: Vec<_> = trouble.map(|(many, one, more)| count(*many as u64, one, more)).collect();
    if trouble.is_empty() && log.problem.is_none() {
        tools.output.text(format!("  {} nothing unfinished", paint(GOOD, "✓")))?;
    } else if !trouble.is_empty() {
        tools.output.text(format!("  {} {}", paint(WARN, "!"), trouble.join(", ")))?;
    }
    if unfinished.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = unfinished.iter().take(SHOWN_MAX).copied().collect();
    tools.output.text("")?;
    show_all(tools, &shown, Some(HANGING_AFTER))?;
    if unfinished.len() > SHOWN_MAX {
        let more = unfinished.len() - SHOWN_MAX;
        tools.output.text(format!("… and {more} more: see `likectl saga list`"))?;
    }
    Ok(())
}

fn show_damage(tools: &Tools, service: &ServiceDocument) -> Result<(), CliError> {
    let Some(damaged @ 1..) = service.status.as_ref().map(|status| status.damaged) else { return Ok(()) };
    let rows = count(damaged, "damaged row", "damaged rows");
    tools.output.text(format!("{} the {} service has {rows}", paint(BAD, "✗"), service.service))?;
    for DamagedRowDocument { row, what, why, .. } in &service.damaged_rows {
        tools.output.text(format!("  {what}: {why} (row {row})"))?;
    }
    Ok(())
}

/// A column for each service.
fn services_table(services: &[ServiceDocument]) -> String {
    let columns = std::iter::once(Column::Left("SERVICE"));
    let columns: Vec<_> =
        columns.chain(services.iter().map(|service| Column::Left(service.service))).collect();
    let row = |name: &str, value: fn(&ServiceStatus) -> String, otherwise: &str| {
        let values = services.iter().map(|of| of.status.as_ref().map_or(otherwise.to_owned(), value));
        std::iter::once(name.to_owned()).chain(values).collect::<Vec<_>>()
    };
    let rows = [
        row("state", |_| "up".to_owned(), "unreachable"),
        row("version", |s| s.version.clone(), "-"),
        row("up for", |s| duration::show_ms(s.up_ms), "-"),
        row("queue", |s| format!("{} of {}", s.queued, s.queue_limit), "-"),
        row("connections", |s| s.connections.to_string(), "-"),
        row("unsettled", |s| s.unsettled.to_string(), "-"),
        row("store", |s| bytes(s.store_bytes), "-"),
        row("disk free", |s| bytes(s.free_bytes), "-"),
    ];
    table(&columns, rows)
}
