//! Sagas as a table: a line each that fits into a terminal of 80 columns, whatever numbers stand in it.

use std::time::Duration;

use super::Found;
use crate::cli::error::CliError;
use crate::cli::output::{Column, LINE_COLUMNS, table};
use crate::cli::tools::Tools;
use crate::view::{SagaSummary, duration, moment};

/// Marks behind a saga's state, and what they mean. Words for all of it would not fit.
const NEEDS_OPERATOR: (char, &str) = ('!', "needs an operator");
const HANGS: (char, &str) = ('?', "hangs");
const UNSETTLED: (char, &str) = ('*', "not every service has been told yet");

/// Shows sagas, with what is the matter with them. After `hanging_after` they count as hanging.
///
/// # Errors
/// stdout is gone.
pub fn show_all(tools: &Tools, found: &[&Found], hanging_after: Option<Duration>) -> Result<(), CliError> {
    let views: Vec<_> = found.iter().map(|found| &found.view.summary).collect();
    let (text, marks) = drawn(&views, moment::now_ms(), hanging_after);
    tools.output.text(text)?;
    if !marks.is_empty() {
        tools.output.note(marks);
    }
    Ok(())
}

/// The table, and what the marks in it mean.
fn drawn(sagas: &[&SagaSummary], now_ms: u64, hanging_after: Option<Duration>) -> (String, String) {
    let hangs = |saga: &SagaSummary| hanging_after.is_some_and(|after| saga.hangs(now_ms, after));
    let matters: Vec<_> = sagas.iter().map(|saga| matter(saga, hangs(saga))).collect();
    let age = |saga: &SagaSummary| Duration::from_millis(now_ms.saturating_sub(saga.started_ms));
    let cells: Vec<_> = sagas
        .iter()
        .zip(&matters)
        .map(|(saga, matter)| [saga.saga_id.clone(), duration::short(age(saga)), state(saga, matter)])
        .collect();
    let heads = ["SAGA", "AGE", "STATE"];
    let width =
        |column: usize| cells.iter().map(|row| row[column].len()).fold(heads[column].len(), usize::max);
    let room = (0..heads.len()).fold(LINE_COLUMNS, |room, column| room.saturating_sub(width(column) + 2));

    let [id, age, state] = heads;
    let columns = [Column::Left(id), Column::Right(age), Column::Left("WHAT"), Column::Left(state)];
    let rows = cells.into_iter().zip(sagas);
    let text = table(&columns, rows.map(|([id, age, state], saga)| vec![id, age, about(saga, room), state]));
    let is_met = |mark: &_| matters.iter().any(|matter| matter.contains(mark));
    let met = [NEEDS_OPERATOR, HANGS, UNSETTLED].into_iter().filter(is_met);
    let meanings: Vec<_> = met.map(|(mark, meaning)| format!("{mark} {meaning}")).collect();
    (text, meanings.join("   "))
}

/// What is the matter with a saga.
fn matter(saga: &SagaSummary, hangs: bool) -> Vec<(char, &'static str)> {
    let marks = [(saga.needs_attention, NEEDS_OPERATOR), (hangs, HANGS), (saga.is_unsettled(), UNSETTLED)];
    marks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, mark)| mark).collect()
}

fn state(saga: &SagaSummary, matter: &[(char, &str)]) -> String {
    saga.state.chars().chain(matter.iter().map(|(mark, _)| *mark)).collect()
}

/// What a saga is about, as `like 1 by 7`. Where there is no room for that, numbers lose their middle.
fn about(saga: &SagaSummary, room: usize) -> String {
    let kind = saga.kind.as_deref().unwrap_or("-");
    let (Some(article), Some(user)) = (saga.article_id, saga.user_id) else {
        return shortened(kind, room);
    };
    let (article, user) = (article.to_string(), user.to_string());
    let room = room.saturating_sub(kind.len() + " ".len() + " by ".len());
    // What one does not need the other may have.
    let room_beside = |other: &str| (room / 2).max(room.saturating_sub(other.len()));
    let (article_room, user_room) = (room_beside(&user), room_beside(&article));
    format!("{kind} {} by {}", shortened(&article, article_room), shortened(&user, user_room))
}

/// A word of ASCII with at most so many characters, without its middle if it has more.
fn shortened(word: &str, most: usize) -> String {
    if word.len() <= most {
        return word.to_owned();
    }
    let kept = most.saturating_sub(1);
    let (head, tail) = (kept / 2, word.len() - kept.div_ceil(2));
    format!("{}…{}", word.get(..head).unwrap_or_default(), word.get(tail..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::SagaId;

    use super::*;
    use crate::likes;
    use crate::log::Story;
    use crate::view::samples;

    const NOW_MS: u64 = 1000 * 86_400_000;

    /// A running saga of this article and user that began so long ago.
    fn saga(article: u64, user: u64, age_ms: u64) -> SagaSummary {
        let story = Story::begin(SagaId::from_bytes([7; 16]), NOW_MS - age_ms, samples::begun(user)).unwrap();
        SagaSummary { article_id: Some(article), ..SagaSummary::of(&story, &likes::definitions(), 5) }
    }

    fn lines(sagas: &[&SagaSummary]) -> (Vec<String>, String) {
        let (text, marks) = drawn(sagas, NOW_MS, Some(Duration::from_secs(300)));
        (anstream::adapter::strip_str(&text).to_string().lines().map(str::to_owned).collect(), marks)
    }

    #[test]
    fn a_saga_is_told_by_its_id_age_article_user_and_state() {
        let (young, old) = (saga(1, 7, 2_000), saga(2, 18_446_744_073, 6 * 60_000));
        let id = &young.saga_id;
        let (lines, marks) = lines(&[&young, &old]);
        assert_eq!(lines[0], format!("SAGA{:32}  AGE  WHAT                   STATE", ""));
        assert_eq!(lines[1], format!("{id}   2s  like 1 by 7            running"));
        assert_eq!(lines[2], format!("{id}   6m  like 2 by 18446744073  running?"));
        assert_eq!(marks, "? hangs");
    }

    #[test]
    fn no_line_is_longer_than_80_columns_whatever_the_numbers_are() {
        let told = |state, needs_attention| {
            let of = |article, user, kind: &str| SagaSummary {
                state,
                needs_attention,
                kind: Some(kind.to_owned()),
                ..saga(article, user, NOW_MS)
            };
            let (lines, marks) =
                lines(&[&of(1_234_567, u64::MAX, "like"), &of(u64::MAX, u64::MAX, "unlike")]);
            for line in &lines {
                assert!(line.chars().count() <= LINE_COLUMNS, "{line}");
            }
            let what = |line: &String| line.split_once("1000d  ").unwrap().1.to_owned();
            (what(&lines[1]), what(&lines[2]), marks)
        };
        let (one, other, marks) = told("compensating", true);
        assert_eq!(one, "like 12…67 by 18…15  compensating!?");
        assert_eq!(other, "unlike 1…15 by 1…15  compensating!?");
        assert_eq!(marks, "! needs an operator   ? hangs");
        let (.., marks) = told("forced_compensated", false);
        assert_eq!(marks, "? hangs   * not every service has been told yet");
    }
}
