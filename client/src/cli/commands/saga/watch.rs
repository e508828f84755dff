//! `likectl saga watch`: follows the log.

use std::collections::HashMap;
use std::time::Duration;

use like_protocol::ids::SagaId;
use serde::Serialize;

use super::Found;
use super::changes::Followed;
use crate::cli::error::CliError;
use crate::cli::output::{BAD, DIM, GOOD, STRONG, paint, printable};
use crate::cli::signals;
use crate::cli::tools::Tools;
use crate::log::history::{HEAD_ALONE, Newest};
use crate::log::{Journal, JournalError, SagaRecord, Slot, Story};
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
    let mut slots = HashMap::new();
    let journal = tools.journal_to_read()?;
    for slot in journal.map_or(Ok(Vec::new()), |journal| journal.slots())? {
        // What is there already is not told.
        let mut told = Told::since(HEAD_ALONE);
        warn(tools, &told.news(&slot).1);
        slots.insert(slot.number(), told);
    }
    tools.output.note("following the saga log; Ctrl-C ends it");
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        for slot in slots_now(tools)? {
            let told = slots.entry(slot.number()).or_insert_with(|| Told::since(0));
            let (news, problems) = told.news(&slot);
            warn(tools, &problems);
            for (story, first) in news {
                let view = Found::new(tools, slot.clone(), &story).view;
                view.history.iter().skip(first).try_for_each(|happened| tell(tools, &view, happened))?;
            }
        }
    }
}

fn warn(tools: &Tools, problems: &[String]) {
    problems.iter().for_each(|problem| tools.output.warn(format!("warning: {problem}")));
}

/// The slots that there are; none where there is no journal yet, or no more.
fn slots_now(tools: &Tools) -> Result<Vec<Slot>, JournalError> {
    match Journal::open_existing(&tools.config.journal).and_then(|journal| journal.slots()) {
        Err(JournalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        slots => slots,
    }
}

/// A slot, and what has been told of it.
struct Told {
    slot: Followed,
    /// Of each saga that its newest segments tell of, the last record.
    last: HashMap<SagaId, SagaRecord>,
    problems: Vec<String>,
}

impl Told {
    /// Of its older segments those are read that have this number or a higher one.
    fn since(segment: u64) -> Self {
        Self { slot: Followed::from(segment), last: HashMap::new(), problems: Vec::new() }
    }

    /// The sagas to which something has happened since, each with the record that is the first to tell; and what can't be
    /// read, unless that was told.
    fn news(&mut self, slot: &Slot) -> (Vec<(Story, usize)>, Vec<String>) {
        let mut news = Vec::new();
        let problems = match self.slot.read(slot) {
            Ok(None) => return (news, Vec::new()),
            Ok(Some(Newest { stories, damage, .. })) => {
                let mut last = HashMap::new();
                for story in stories.into_values() {
                    let first = self.last.get(&story.saga).map_or(0, |last| behind(&story, last));
                    last.extend(story.records.last().map(|record| (story.saga, record.clone())));
                    if first < story.records.len() {
                        news.push((story, first));
                    }
                }
                self.last = last;
                damage.iter().map(|damage| format!("the journal is damaged: {damage}")).collect()
            }
            Err(error) => vec![format!("slot {} of the journal can't be read: {error}", slot.number())],
        };
        if problems == self.problems {
            return (news, Vec::new());
        }
        self.problems.clone_from(&problems);
        (news, problems)
    }
}

/// Where in a story it goes on behind a record that was the last one. Of attempts that were repeated, a new segment tells the
/// first and the last alone: then it goes on with what is younger.
fn behind(story: &Story, last: &SagaRecord) -> usize {
    let records = &story.records;
    let same = |record: &SagaRecord| (record.at_ms, &record.event) == (last.at_ms, &last.event);
    let younger = || records.iter().position(|record| record.at_ms > last.at_ms);
    records.iter().rposition(same).map(|at| at + 1).or_else(younger).unwrap_or(records.len())
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
    use std::path::Path;

    use like_protocol::ids::SagaId;

    use super::*;
    use crate::likes;
    use crate::log::{Keeping, SagaLog, take_over};
    use crate::saga::{End, Event};
    use crate::view::samples;

    /// The log of the first free slot, and what was open in it.
    fn log(journal: &Path) -> SagaLog {
        let journal = Journal::open(journal).unwrap();
        take_over(journal.claim_free().unwrap(), Keeping::default()).unwrap().log
    }

    async fn write(log: &SagaLog, saga: u8, events: impl IntoIterator<Item = Event>) {
        let position = log.append(SagaId::from_bytes([saga; 16]), events).unwrap();
        log.written(position).await.unwrap();
    }

    /// What is news, as the sagas' first bytes and how many records are new.
    fn news(told: &mut Told, log: &SagaLog) -> Vec<(u8, usize)> {
        let (news, problems) = told.news(log.slot());
        assert_eq!(problems, [""; 0]);
        let news = news.iter();
        news.map(|(story, first)| (story.saga.as_bytes()[0], story.records.len() - first)).collect()
    }

    #[tokio::test]
    async fn everything_is_told_once_also_where_a_new_segment_tells_less_of_it() {
        let journal = tempfile::tempdir().unwrap();
        let first = log(journal.path());
        write(&first, 1, [samples::begun(7)]).await;
        let mut told = Told::since(HEAD_ALONE);
        assert_eq!(news(&mut told, &first), [(1, 1)], "what is there already");
        assert_eq!(news(&mut told, &first), []);
        let failed = |_| Event::ActionFailed { step: 0, failure: samples::down() };
        write(&first, 1, (0..20).map(failed)).await;
        write(&first, 2, [samples::begun(8)]).await;
        assert_eq!(news(&mut told, &first), [(1, 20), (2, 1)]);
        // Of the failures the first and the last are left.
        write(&first, 2, [Event::Ended(End::Completed), Event::Settled]).await;
        first.let_go();
        let second = log(journal.path());
        write(&second, 1, [Event::ActionSent { step: 0, attempt: 21 }]).await;
        assert_eq!(news(&mut told, &second), [(1, 2), (2, 2)], "taken over, and sent; ended, and settled");
        write(&second, 3, [samples::begun(9)]).await;
        assert_eq!(news(&mut told, &second), [(3, 1)]);
    }

    #[test]
    fn behind_a_record_that_is_told_no_more_it_goes_on_with_what_is_younger() {
        let saga = SagaId::from_bytes([7; 16]);
        let sent = |attempt| Event::ActionSent { step: 0, attempt };
        let record = |seq, at_ms, event| SagaRecord { saga, seq, at_ms, event };
        let story =
            Story::of(vec![record(0, 0, samples::begun(7)), record(1, 1, sent(1)), record(2, 9, sent(9))]);
        let goes_on_at = |at_ms, attempt| behind(story.as_ref().unwrap(), &record(5, at_ms, sent(attempt)));
        assert_eq!([goes_on_at(1, 1), goes_on_at(5, 5), goes_on_at(9, 9), goes_on_at(9, 8)], [2, 2, 3, 3]);
    }

    #[test]
    fn what_cannot_be_read_is_told_once() {
        let journal = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(journal.path().join("7/00000001.log")).unwrap();
        let slot = Journal::open_existing(journal.path()).unwrap().slots().unwrap().remove(0);
        let mut told = Told::since(0);
        assert!(told.news(&slot).1[0].starts_with("slot 7 of the journal can't be read"));
        assert_eq!(told.news(&slot).1, [""; 0]);
    }

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
