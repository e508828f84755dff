//! A saga in a few facts, as lists show it, and how many there are of which kind: derived from its story in the log, by
//! itself.

use std::time::Duration;

use serde::Serialize;

use super::moment;
use super::words::{TURNED_BACK, Teller};
use crate::log::Story;
use crate::runner::admin::ORPHAN_KIND;
use crate::saga::{Definitions, End, Event, Phase, SagaState};

/// How long a saga may be open before it counts as hanging, if nobody says otherwise: as `check` has it by default.
pub const HANGING_AFTER: Duration = Duration::from_secs(5 * 60);

/// A saga in a list. The JSON form is public.
#[derive(Clone, PartialEq, Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SagaSummary {
    /// Its id.
    pub saga_id: String,
    /// Its kind; null if its beginning is lost.
    pub kind: Option<String>,
    /// running, compensating, completed, compensated, forced_completed, forced_compensated or quarantined.
    pub state: &'static str,
    /// The article that it is about.
    pub article_id: Option<u64>,
    /// The user that it is about.
    pub user_id: Option<u64>,
    /// When it began.
    #[cfg_attr(feature = "schema", schema(format = DateTime))]
    pub started_at: String,
    /// When it ended.
    #[cfg_attr(feature = "schema", schema(format = DateTime))]
    pub ended_at: Option<String>,
    /// Whether every service has been told of its end.
    pub settled: bool,
    /// Whether an operator is needed.
    pub needs_attention: bool,
    /// How many attempts at its steps were sent, compensations included.
    pub attempts: u32,
    /// What the last attempt came to, while nothing better is known; of one that was undone, why.
    pub last_failure: Option<String>,
    /// For sorting and arithmetic: when it began, in milliseconds since the epoch.
    #[serde(skip)]
    pub started_ms: u64,
    /// When it ended, in milliseconds since the epoch.
    #[serde(skip)]
    pub ended_ms: Option<u64>,
}

impl SagaSummary {
    /// Of a story. `definitions` explain kinds that are known; others are shown all the same.
    pub fn of(story: &Story, definitions: &Definitions, attention_after: u32) -> Self {
        let state = story.state.as_ref();
        let teller = Teller::of(story, definitions);
        let subject = match (state, teller.definition) {
            (Some(state), Some(definition)) => definition.subject(&state.begun.params).unwrap_or_default(),
            _ => Vec::new(),
        };
        let about = |name| subject.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        // Not by its id: one that was only ended by force may have been begun by anybody.
        let started_ms = started_ms(story);
        let ended_ms = ended_ms(story);
        let state_word = state_word(state);
        let steps = || state.into_iter().flat_map(|state| &state.steps);
        let last = steps().rev().find_map(|step| Some(step.last_failure.as_ref()?.detail.clone()));
        Self {
            saga_id: story.saga.to_string(),
            kind: state.map(|state| state.begun.kind.to_string()),
            state: state_word,
            article_id: about("article_id"),
            user_id: about("user_id"),
            started_at: moment::show(moment::of_ms(started_ms)),
            ended_at: ended_ms.map(|ms| moment::show(moment::of_ms(ms))),
            settled: state.is_some_and(|state| state.settled),
            needs_attention: state.is_none_or(|state| state.needs_attention(attention_after)),
            attempts: steps().map(|step| step.action_attempts + step.compensation_attempts).sum(),
            last_failure: match state_word {
                "compensated" => last.or_else(|| why_undone(story, &teller)),
                _ => last,
            },
            started_ms,
            ended_ms,
        }
    }

    /// Whether it has not ended.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.state, "running" | "compensating" | "quarantined")
    }

    /// Whether it has ended, and not every service knows.
    pub fn is_unsettled(&self) -> bool {
        !self.is_unfinished() && !self.settled
    }

    /// Whether it has not ended, or has and not every service knows it.
    pub fn is_open(&self) -> bool {
        self.is_unfinished() || !self.settled
    }

    /// Whether it has been open for longer than `after`.
    pub fn hangs(&self, now_ms: u64, after: Duration) -> bool {
        let open_ms = now_ms.saturating_sub(self.started_ms);
        self.is_open() && u128::from(open_ms) > after.as_millis()
    }

    /// What it is, in a few words: `like of article 1 by user 7`.
    pub fn title(&self) -> String {
        let kind = match self.kind.as_deref() {
            None => "saga whose beginning is lost",
            Some(ORPHAN_KIND) => "saga of which only the id is known",
            Some(kind) => kind,
        };
        match (self.article_id, self.user_id) {
            (Some(article), Some(user)) => format!("{kind} of article {article} by user {user}"),
            _ => kind.to_owned(),
        }
    }
}

/// How many sagas are open, and how they stand. The JSON form is public.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Counts {
    /// Going forward.
    pub running: usize,
    /// Going back.
    pub compensating: usize,
    /// With a damaged record.
    pub quarantined: usize,
    /// Ended, and not every service knows it yet.
    pub unsettled: usize,
    /// In need of an operator.
    pub needs_attention: usize,
    /// Open for more than five minutes.
    pub hanging: usize,
}

impl Counts {
    /// Of what is open now.
    pub fn of<'a>(open: impl Iterator<Item = &'a SagaSummary> + Clone, now_ms: u64) -> Self {
        let count = |which: &dyn Fn(&SagaSummary) -> bool| open.clone().filter(|saga| which(saga)).count();
        Self {
            running: count(&|saga| saga.state == "running"),
            compensating: count(&|saga| saga.state == "compensating"),
            quarantined: count(&|saga| saga.state == "quarantined"),
            unsettled: count(&SagaSummary::is_unsettled),
            needs_attention: count(&|saga| saga.needs_attention),
            hanging: count(&|saga| saga.hangs(now_ms, HANGING_AFTER)),
        }
    }
}

/// Why a saga was undone: what failed last of what it was to do, or else that it was turned back.
fn why_undone(story: &Story, teller: &Teller<'_>) -> Option<String> {
    let mut events = teller.step_events(story).into_iter();
    let failed = events.rfind(|event| event.action_type == "main" && event.status == "failed");
    let mut latest = story.records.iter().rev().map(|record| teller.line(record, 0).what);
    let turned = || latest.find_map(|what| what.strip_prefix(TURNED_BACK).map(str::to_owned));
    failed.and_then(|event| event.detail).or_else(turned)
}

/// The documented word for where a saga stands.
pub fn state_word(state: Option<&SagaState>) -> &'static str {
    let Some(state) = state.filter(|state| !state.quarantined_now()) else { return "quarantined" };
    match state.phase {
        Phase::Forward => "running",
        Phase::Back(_) => "compensating",
        Phase::Ended(end) => end.as_str(),
        Phase::Forced(End::Completed) => "forced_completed",
        Phase::Forced(End::Compensated) => "forced_compensated",
    }
}

/// Every documented word for where a saga stands.
pub const STATE_WORDS: [&str; 7] = [
    "running",
    "compensating",
    "completed",
    "compensated",
    "forced_completed",
    "forced_compensated",
    "quarantined",
];

/// When a saga began, in milliseconds since the epoch.
pub(super) fn started_ms(story: &Story) -> u64 {
    story.records.first().map_or(0, |record| record.at_ms)
}

/// When a saga ended, in milliseconds since the epoch; `None` if it has not.
pub fn ended_ms(story: &Story) -> Option<u64> {
    let is_end = |event: &Event| matches!(event, Event::Ended(_) | Event::Forced { .. });
    story.records.iter().rev().find(|record| is_end(&record.event)).map(|record| record.at_ms)
}
