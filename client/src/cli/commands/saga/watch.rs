//! `likectl saga watch`: follows the log.

use std::collections::HashMap;
use std::time::Duration;

use like_protocol::ids::SagaId;
use serde::Serialize;

use super::Found;
use super::changes::FileStates;
use crate::cli::error::CliError;
use crate::cli::output::{BAD, DIM, GOOD, STRONG, paint, printable};
use crate::cli::signals;
use crate::cli::tools::Tools;
use crate::log::Journal;
use crate::view::{HistoryLine, SagaView, Tone};

/// How often the log is read again. The log has no doorbell for readers, and people don't see faster.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

#[derive(Serialize)]
struct WatchLine<'a> {
    saga_id: &'a str,
    kind: Option<&'a str>,
    state: &'a str,
    article_id: Option<u64>,
    user_id: Option<u64>,
    #[serde(flatten)]
    happened: &'a HistoryLine,
}

/// Tells what happens from now on, until it is ended.
pub(super) async fn run(tools: &Tools) -> Result<(), CliError> {
    let following = follow(tools);
    tokio::select! {
        gone = following => gone,
        () = signals::asked_to_end() => Ok(()),
        () = signals::interrupted() => Err(CliError::Interrupted(None)),
    }
}

async fn follow(tools: &Tools) -> Result<(), CliError> {
    let mut states = file_states(tools);
    let sagas = tools.history()?.sagas;
    let mut seen: HashMap<SagaId, usize> =
        sagas.iter().map(|(_, story)| (story.saga, story.records.len())).collect();
    drop(sagas);
    tools.output.note("following the saga log; Ctrl-C ends it");
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let now = file_states(tools);
        if states.are_still(&now) {
            continue;
        }
        states = now;
        for (slot, story) in tools.history()?.sagas {
            let known = seen.insert(story.saga, story.records.len()).unwrap_or_default();
            if known < story.records.len() {
                let view = Found::new(tools, slot, &story).view;
                view.history.iter().skip(known).try_for_each(|happened| tell(tools, &view, happened))?;
            }
        }
    }
}

/// How the log's files are.
fn file_states(tools: &Tools) -> FileStates {
    let mut states = FileStates::default();
    let journal = Journal::open_existing(&tools.config.journal);
    journal.and_then(|journal| journal.slots()).unwrap_or_default().iter().for_each(|slot| states.add(slot));
    states
}

fn tell(tools: &Tools, view: &SagaView, happened: &HistoryLine) -> Result<(), CliError> {
    if tools.output.json {
        return tools.output.document(&WatchLine {
            saga_id: &view.saga_id,
            kind: view.kind.as_deref(),
            state: view.state,
            article_id: view.article_id,
            user_id: view.user_id,
            happened,
        });
    }
    tools.output.text(line(view, happened))
}

/// What happened, in one line.
fn line(view: &SagaView, happened: &HistoryLine) -> String {
    let at_step = match (&happened.step, &happened.service) {
        (Some(step), Some(service)) => format!("{step} ({service}): "),
        _ => String::new(),
    };
    let style = match happened.tone {
        Tone::Good => GOOD,
        Tone::Bad => BAD,
        Tone::Turn => STRONG,
        Tone::Plain => DIM,
    };
    format!(
        "{} {} {}: {at_step}{}",
        paint(DIM, &happened.at),
        view.saga_id,
        view.title(),
        paint(style, printable(&happened.what))
    )
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::SagaId;

    use super::*;
    use crate::likes;
    use crate::log::Story;
    use crate::saga::{End, Event};
    use crate::view::samples;

    #[test]
    fn an_operators_words_can_not_make_a_second_line() {
        let saga = SagaId::from_bytes([7; 16]);
        let mut story = Story::begin(saga, 0, samples::begun(7)).unwrap();
        let reason = "restored\n2026-01-01T00:00:00.000Z \u{1b}[31mforged".to_owned();
        story.add(1, Event::Forced { end: End::Completed, reason, by_uid: 0, leaves_broken: Vec::new() });
        let view = SagaView::of(&story, &likes::definitions(), 5);
        let line = line(&view, view.history.last().unwrap());
        let plain = anstream::adapter::strip_str(&line).to_string();
        assert!(!plain.contains(char::is_control) && plain.ends_with("forged"), "{plain:?}");
    }
}
