//! `likectl saga`: list, show, watch, and an operator's acts.

mod act;
pub mod changes;
mod list;
mod show;
mod table;
mod watch;

use std::collections::HashMap;

use clap::{Args, Subcommand, ValueEnum};
use like_protocol::ids::SagaId;

use crate::cli::error::CliError;
use crate::cli::tools::Tools;
use crate::likes;
use crate::log::{JournalError, Owner, Slot, Story, history, owner};
use crate::saga::End;
use crate::view::{STATE_WORDS, SagaView};
pub use table::show_all;

/// Look at sagas, and act on one.
#[derive(Subcommand, Debug)]
pub enum SagaCommand {
    /// List the sagas that the log knows, oldest first
    ///
    /// Marks behind a saga's state: `!` needs an operator, `*` not every service has been told of its end yet. Where a line
    /// has no room for an id, its middle is left out: --json and `saga show` have all of it.
    List(ListArgs),
    /// Draw one saga's timeline, and say what may be done next
    Show(IdArgs),
    /// Follow what happens to all sagas
    Watch,
    /// Try a saga now, with a new deadline (--timeout)
    Retry(IdArgs),
    /// Undo a saga. This can take back what somebody was told had happened
    Compensate(IdArgs),
    /// End a saga by your word, whatever its services say
    Force(ForceArgs),
}

impl SagaCommand {
    /// The saga that it does something to.
    pub fn acts_on(&self) -> Option<SagaId> {
        match self {
            Self::List(_) | Self::Show(_) | Self::Watch => None,
            Self::Retry(args) | Self::Compensate(args) => Some(args.saga),
            Self::Force(args) => Some(args.saga),
        }
    }
}

/// Which sagas.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only those in this state; may be given several times
    #[arg(long = "state", value_name = "STATE", value_parser = STATE_WORDS)]
    states: Vec<String>,
    /// Only those that need an operator
    #[arg(long)]
    needs_attention: bool,
    /// At most so many; all if left out
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only those after this one
    #[arg(long, value_name = "ID", value_parser = saga_id)]
    after: Option<SagaId>,
}

/// Which saga.
#[derive(Args, Debug)]
pub struct IdArgs {
    /// Which saga
    #[arg(value_name = "ID", value_parser = saga_id)]
    saga: SagaId,
}

/// Which saga, and how it is to end.
#[derive(Args, Debug)]
pub struct ForceArgs {
    /// Which saga
    #[arg(value_name = "ID", value_parser = saga_id)]
    saga: SagaId,
    /// As what it counts from now on
    #[arg(long = "as", value_name = "END")]
    end: ForcedEnd,
    /// Why; recorded with your uid
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

fn saga_id(typed: &str) -> Result<SagaId, String> {
    typed.parse().map_err(|_| "no saga's id: they look like 0198f0c2-5a3e-7b1d-9c44-2f6d1e8a7b90".to_owned())
}

/// As what a saga counts.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForcedEnd {
    /// As if every step had been done.
    Completed,
    /// As if every step had been undone.
    Compensated,
}

impl From<ForcedEnd> for End {
    fn from(end: ForcedEnd) -> Self {
        match end {
            ForcedEnd::Completed => Self::Completed,
            ForcedEnd::Compensated => Self::Compensated,
        }
    }
}

/// Runs `likectl saga`.
///
/// # Errors
/// The journal can't be read, there is no such saga, or an act was not carried out.
pub async fn run(tools: &Tools, command: &SagaCommand) -> Result<(), CliError> {
    match command {
        SagaCommand::List(args) => list::run(tools, args),
        SagaCommand::Show(args) => show::run(tools, args.saga),
        SagaCommand::Watch => watch::run(tools).await,
        SagaCommand::Retry(args) => act::retry(tools, args.saga).await,
        SagaCommand::Compensate(args) => act::compensate(tools, args.saga).await,
        SagaCommand::Force(args) => act::force(tools, args).await,
    }
}

/// A saga found in the log.
pub struct Found {
    /// Its id.
    pub saga: SagaId,
    /// The slot that it stands in.
    pub slot: Slot,
    /// How it is shown.
    pub view: SagaView,
}

impl Found {
    /// As it is shown.
    pub fn new(tools: &Tools, slot: Slot, story: &Story) -> Self {
        let view = SagaView::of(story, &likes::definitions(), tools.config.attention_after);
        Self { saga: story.saga, slot, view }
    }
}

/// One saga.
///
/// # Errors
/// The journal can't be read, or not all of it; or the saga does not stand in it.
pub fn find_one(tools: &Tools, saga: SagaId) -> Result<Found, CliError> {
    let found = match tools.journal_to_read()? {
        Some(journal) => history::find(&journal, saga)?,
        None => None,
    };
    found.map(|(slot, story)| Found::new(tools, slot, &story)).ok_or(CliError::NoSuchSaga(saga))
}

/// What is open: unfinished, quarantined, or ended and not known to every service; oldest first. Cheap however long the
/// log's history is.
///
/// # Errors
/// The journal can't be read.
pub fn find_open(tools: &Tools) -> Result<Open, CliError> {
    let mut open = Open::default();
    let Some(journal) = tools.journal_to_read()? else { return Ok(open) };
    open.lacks_room = journal.lacks_room();
    for slot in journal.slots()? {
        match history::open_in(&slot) {
            Ok(stories) => {
                open.sagas.extend(stories.iter().map(|story| Found::new(tools, slot.clone(), story)))
            }
            Err(error) => open.unreadable.push((slot, error)),
        }
    }
    open.sagas.sort_by_key(|found| found.saga);
    Ok(open)
}

/// What is open in a journal.
#[derive(Default)]
pub struct Open {
    /// The sagas, oldest first.
    pub sagas: Vec<Found>,
    /// Slots that can't be read, and why: whatever stands there nobody sees.
    pub unreadable: Vec<(Slot, JournalError)>,
    /// Why nothing more can be written to it, in words.
    pub lacks_room: Option<String>,
}

/// The numbers of slots that can't be read.
pub fn numbers(unreadable: &[(Slot, JournalError)]) -> Vec<u32> {
    unreadable.iter().map(|(slot, _)| slot.number()).collect()
}

/// Says which slots can't be read, and of the first one why; nothing if all can.
pub fn unread_in_words(unreadable: &[(Slot, JournalError)]) -> Option<String> {
    match unreadable {
        [] => None,
        [(slot, why)] => Some(format!("slot {} of the journal can't be read ({why})", slot.number())),
        [(slot, why), ..] => {
            let many = unreadable.len();
            Some(format!(
                "{many} slots of the journal can't be read, the first of them slot {} ({why})",
                slot.number()
            ))
        }
    }
}

/// The live processes that hold the slots of these sagas, by slot number.
pub fn owners<'a>(found: impl IntoIterator<Item = &'a Found>) -> HashMap<u32, Owner> {
    let slots: HashMap<_, _> = found.into_iter().map(|found| (found.slot.number(), &found.slot)).collect();
    slots.into_iter().filter_map(|(number, slot)| Some((number, owner::owner_of(slot)?))).collect()
}
