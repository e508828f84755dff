//! `likectl check`: what the timer runs.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::commands::saga::{Found, find_open, numbers, owners, show_all, unread_in_words};
use crate::cli::error::CliError;
use crate::cli::output::count;
use crate::cli::tools::Tools;
use crate::view::{OwnerView, SagaView, duration, moment};

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
    /// Slots of the journal that can't be read.
    unreadable_slots: Vec<u32>,
    /// Why nothing more can be written to the journal.
    lacks_room: Option<&'a str>,
    needs_attention: Vec<&'a str>,
    hanging: Vec<&'a str>,
    sagas: Vec<AlarmingSaga<'a>>,
}

#[derive(Serialize)]
struct AlarmingSaga<'a> {
    #[serde(flatten)]
    saga: &'a SagaView,
    /// The live process that drives it, or doesn't.
    owner: Option<OwnerView>,
}

/// Runs `likectl check`. It reads the log and takes no lock.
///
/// # Errors
/// A saga needs an operator or hangs; or the journal can't be read, or a slot of it, or it has no room for more.
pub async fn run(tools: &Tools, args: &CheckArgs) -> Result<(), CliError> {
    let open = find_open(tools)?;
    let now_ms = moment::now_ms();
    let hangs = |saga: &SagaView| saga.hangs(now_ms, args.hanging_after);
    let alarming: Vec<_> =
        open.sagas.iter().filter(|found| found.view.needs_attention || hangs(&found.view)).collect();
    let owners = owners(alarming.iter().copied());
    let owner = |found: &Found| owners.get(&found.slot.number());
    let hidden = |unread| format!("{unread}: sagas may stand there that nobody finishes");
    let journal: Vec<_> =
        unread_in_words(&open.unreadable).map(hidden).into_iter().chain(open.lacks_room.clone()).collect();
    // The verdict counts even if nobody reads on.
    let told = if tools.output.json {
        let ids = |filter: &dyn Fn(&SagaView) -> bool| {
            alarming.iter().map(|f| &f.view).filter(|v| filter(v)).map(|v| v.saga_id.as_str()).collect()
        };
        tools.output.document(&CheckDocument {
            unreadable_slots: numbers(&open.unreadable),
            lacks_room: open.lacks_room.as_deref(),
            needs_attention: ids(&|view| view.needs_attention),
            hanging: ids(&hangs),
            sagas: alarming
                .iter()
                .map(|found| AlarmingSaga { saga: &found.view, owner: owner(found).map(OwnerView::from) })
                .collect(),
        })
    } else if alarming.is_empty() && journal.is_empty() {
        tools.output.text("no saga needs an operator or hangs")
    } else if alarming.is_empty() {
        Ok(())
    } else {
        show_all(tools, &alarming, Some(args.hanging_after))
    };
    let Some(first) = alarming.first() else {
        return match open.lacks_room {
            _ if journal.is_empty() => told,
            Some(lacks_room) if open.unreadable.is_empty() => Err(CliError::NoRoom(lacks_room)),
            _ => Err(CliError::JournalTrouble(journal.join("; and "))),
        };
    };
    let need = alarming.iter().filter(|found| found.view.needs_attention).count();
    let hang = alarming.len() - need;
    let what = [(need, "needs an operator", "need an operator"), (hang, "hangs", "hang")];
    let what =
        what.iter().filter(|(many, ..)| *many > 0).map(|(many, one, more)| count(*many as u64, one, more));
    let what = what.collect::<Vec<_>>().join(", ");
    let name = |found: &&Found| match owner(found) {
        Some(owner) => format!("{} of {owner}", found.saga),
        None => found.saga.to_string(),
    };
    let names: Vec<_> = alarming.iter().take(NAMED_MAX).map(name).collect();
    let more = if alarming.len() > NAMED_MAX { ", …" } else { "" };
    let sagas = format!("sagas in trouble: {what}: {}{more}", names.join(", "));
    let all: Vec<_> = std::iter::once(sagas).chain(journal).collect();
    Err(CliError::NeedsAttention(all.join("; and "), Some(first.saga)))
}
