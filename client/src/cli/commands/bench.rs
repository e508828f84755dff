//! `likectl bench`: durable likes per second, as callers see them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use futures::future::join_all;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use like_protocol::likes::{ArticleId, UserId};
use serde::Serialize;
use uuid::Uuid;

use crate::cli::error::CliError;
use crate::cli::output::{STRONG, WARN, count, paint};
use crate::cli::signals::StopSignals;
use crate::cli::tools::Tools;
use crate::likes::{ActError, Likes};
use crate::runner::Runner;
use crate::view::duration;

/// Latencies are told to three digits.
const DIGITS: u8 = 3;

/// Longer ones count as this: no act is waited for so long.
const LATENCY_US_MAX: u64 = 2 * 3_600_000_000;

/// More likes than any store holds, and as few as can be added up.
const LIKES_MAX: u64 = 1_000_000_000_000;

/// What to measure.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// How many likes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=LIKES_MAX))]
    likes: u64,
    /// How many sagas in flight at the same time
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: u32,
    /// Over how many articles; they are created
    #[arg(long, value_name = "A", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    articles: u64,
    /// How many likes first, which are not measured
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=LIKES_MAX))]
    warm_up: u64,
}

/// What was measured.
#[derive(Serialize, Debug)]
struct BenchDocument {
    likes: u64,
    /// How many were done: the others have failed, or were not begun any more.
    done: u64,
    concurrency: u32,
    articles: u64,
    warm_up: u64,
    seconds: f64,
    likes_per_s: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    failed: u64,
    /// How many failed, by the kind that the error would have had.
    failures: BTreeMap<&'static str, u64>,
}

/// Runs `likectl bench`.
///
/// # Errors
/// The runner or a service can't be used, from the start or any more; or not one like was done. Likes that fail are counted
/// otherwise.
pub async fn run(tools: &Tools, args: &BenchArgs) -> Result<(), CliError> {
    let mut signals = StopSignals::new();
    let (runner, likes, articles) = tokio::select! {
        prepared = prepare(tools, args) => prepared?,
        () = signals.next() => return Err(CliError::Interrupted(None)),
    };
    let bench = Bench { tools, args, likes: &likes, articles: &articles, first_user: first_user() };
    let warm_up = bench.likes(0..args.warm_up, "warm-up", &mut signals).await?;
    if let Some(gone) = warm_up.gone {
        return Err(stopped(tools, runner, gone).await);
    }
    let began = Instant::now();
    let measured = bench.likes(args.warm_up..args.warm_up + args.likes, "likes", &mut signals).await?;
    let document = measured.document(args, began.elapsed());
    let stopped = match measured.gone {
        Some(gone) => Some(stopped(tools, runner, gone).await),
        None => {
            runner.close(tools.config.timeout).await;
            None
        }
    };
    if let Some(failure) = &measured.first_failure {
        let (failed, failure) = (count(document.failed, "like", "likes"), failure.told());
        let first = failure.message();
        tools.output.note(format!("{} {failed} failed; the first: {first}", paint(WARN, "warning:")));
    }
    if tools.output.json {
        tools.output.document(&document)?;
    } else {
        tools.output.text(in_words(&document))?;
    }
    match (stopped, measured.first_failure) {
        (Some(stopped), _) => Err(stopped),
        // Nothing was measured.
        (None, Some(failure)) if document.failed == document.likes => Err(failure),
        _ => Ok(()),
    }
}

/// What was under way when a service went, or the log, stands in the log. Nothing is waited for that may not come.
async fn stopped(tools: &Tools, runner: Runner, gone: CliError) -> CliError {
    let unfinished = runner.active().len();
    let settles = matches!(gone, CliError::Interrupted(_)) && unfinished == 0;
    runner.close(if settles { tools.config.timeout } else { Duration::ZERO }).await;
    CliError::Stopped { what: "the benchmark", how_to_go_on: "run it again", unfinished, why: Box::new(gone) }
}

fn in_words(document: &BenchDocument) -> String {
    let micros = |us: u64| duration::show(Duration::from_micros(us));
    let kinds = document.failures.iter().map(|(kind, many)| format!(" {kind} {many}"));
    let kinds = kinds.collect::<Vec<_>>().join(",");
    let likes = count(document.likes, "like", "likes");
    format!(
        "{} durable likes per second ({} in {:.2} s, {} in flight)\n  \
         p50 {}   p90 {}   p99 {}   p99.9 {}   max {}   failed {}{}",
        paint(STRONG, format!("{:.0}", document.likes_per_s)),
        if document.done == document.likes { likes } else { format!("{} of {likes}", document.done) },
        document.seconds,
        document.concurrency,
        micros(document.p50_us),
        micros(document.p90_us),
        micros(document.p99_us),
        micros(document.p999_us),
        micros(document.max_us),
        document.failed,
        if kinds.is_empty() { kinds } else { format!(" ({})", kinds.trim_start()) },
    )
}

async fn prepare(tools: &Tools, args: &BenchArgs) -> Result<(Runner, Likes, Vec<ArticleId>), CliError> {
    tools.stores().await?;
    let (runner, likes) = tools.likes()?;
    runner.log().room_to_begin().map_err(ActError::LacksRoom)?;
    Ok((runner, likes, create_articles(tools, args.articles).await?))
}

async fn create_articles(tools: &Tools, how_many: u64) -> Result<Vec<ArticleId>, CliError> {
    let service = tools.articles();
    let mut articles = Vec::new();
    for number in 1..=how_many {
        articles.push(service.create(None, format!("bench {number} of {how_many}")).await?.id);
    }
    Ok(articles)
}

/// Every user of a run likes every article at most once, and no user of another run is met again: the first user is
/// drawn at random from far more than anyone will ever use.
fn first_user() -> u64 {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    high >> 20
}

struct Bench<'a> {
    tools: &'a Tools,
    args: &'a BenchArgs,
    likes: &'a Likes,
    articles: &'a [ArticleId],
    first_user: u64,
}

impl Bench<'_> {
    /// The likes of these numbers, so many in flight. Once a service can't be reached or does not answer any more, or the log
    /// can't be written any more, or the user presses Ctrl-C, none is begun; what is under way is waited for until the next
    /// Ctrl-C.
    async fn likes(
        &self,
        numbers: std::ops::Range<u64>,
        what: &'static str,
        signals: &mut StopSignals,
    ) -> Result<Measured, CliError> {
        let likes = numbers.end - numbers.start;
        let progress = progress_bar(self.tools, likes, what);
        let measured = RefCell::new(Measured::new()?);
        let left = Cell::new(numbers);
        let next = || {
            let mut numbers = left.take();
            let number = numbers.next();
            left.set(numbers);
            number
        };
        // Each has one like after the other in flight.
        let caller = || async {
            while let Some(number) = next() {
                let article = self.articles[(number % self.args.articles) as usize];
                let user = UserId(self.first_user.wrapping_add(number / self.args.articles));
                let sent = Instant::now();
                let came = self.likes.like(user, article, None, self.tools.config.timeout).await;
                let took = sent.elapsed();
                progress.inc(1);
                let gone = match &came {
                    Ok(_) => None,
                    Err(failure) => self.gone(failure).await,
                };
                measured.borrow_mut().note(came.err(), took);
                if let Some(gone) = gone {
                    left.take();
                    measured.borrow_mut().gone.get_or_insert(gone);
                }
            }
        };
        {
            let mut callers = pin!(join_all((0..likes.min(self.args.concurrency.into())).map(|_| caller())));
            tokio::select! {
                biased;
                _ = &mut callers => {}
                () = signals.next() => {
                    left.take();
                    measured.borrow_mut().gone.get_or_insert(CliError::Interrupted(None));
                    progress.set_message("stopping, what was begun is finished:");
                    tokio::select! { _ = callers => {}, () = signals.next() => {} }
                }
            }
        }
        progress.finish_and_clear();
        Ok(measured.into_inner())
    }

    /// Why no more likes are begun after this failure, if none are.
    async fn gone(&self, failure: &ActError) -> Option<CliError> {
        match failure {
            ActError::LogEnded { .. } => Some(failure.clone().into()),
            // Even its compensation was not answered. A process that is stopped keeps its connections, so they don't tell.
            ActError::Unfinished { .. } => {
                Some(self.tools.stores().await.err().unwrap_or_else(|| failure.clone().into()))
            }
            _ => self.tools.stores().await.err(),
        }
    }
}

/// What came of likes.
struct Measured {
    latencies_us: Histogram<u64>,
    failures: BTreeMap<&'static str, u64>,
    first_failure: Option<CliError>,
    /// Why no more were begun.
    gone: Option<CliError>,
}

impl Measured {
    fn new() -> Result<Self, CliError> {
        let latencies_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
            .map_err(|e| CliError::Internal(e.to_string()))?;
        Ok(Self { latencies_us, failures: BTreeMap::new(), first_failure: None, gone: None })
    }

    /// Only what was acknowledged has a latency.
    fn note(&mut self, failure: Option<ActError>, latency: Duration) {
        match failure {
            None => {
                let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latencies_us.saturating_record(us);
            }
            Some(failure) => {
                let failure = CliError::from(failure);
                *self.failures.entry(failure.told().kind()).or_default() += 1;
                self.first_failure.get_or_insert(failure);
            }
        }
    }

    fn document(&self, args: &BenchArgs, took: Duration) -> BenchDocument {
        let us = |quantile| self.latencies_us.value_at_quantile(quantile);
        BenchDocument {
            likes: args.likes,
            done: self.latencies_us.len(),
            concurrency: args.concurrency,
            articles: args.articles,
            warm_up: args.warm_up,
            seconds: took.as_secs_f64(),
            likes_per_s: self.latencies_us.len() as f64 / took.as_secs_f64(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.latencies_us.max(),
            failed: self.failures.values().sum(),
            failures: self.failures.clone(),
        }
    }
}

fn progress_bar(tools: &Tools, likes: u64, what: &'static str) -> ProgressBar {
    if !tools.output.shows_progress() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}, {per_sec}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(likes).with_style(style).with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> BenchArgs {
        BenchArgs { likes: 201, concurrency: 1, articles: 1, warm_up: 0 }
    }

    #[test]
    fn percentiles_are_of_what_was_acknowledged_and_failures_are_counted_by_kind() {
        let mut measured = Measured::new().unwrap();
        (1..=200).for_each(|us| measured.note(None, Duration::from_micros(us)));
        measured.note(Some(ActError::Internal("a bug".to_owned())), Duration::from_secs(9));
        let document = measured.document(&args(), Duration::from_secs(2));
        assert_eq!((document.p50_us, document.p99_us, document.max_us), (100, 198, 200));
        assert_eq!(document.likes_per_s, 100.0);
        assert_eq!((document.failed, document.failures["internal"]), (1, 1));
        let words = in_words(&document);
        assert!(words.contains("(200 of 201 likes in 2.00 s"), "{words}");
        assert!(words.ends_with("failed 1 (internal 1)"), "{words}");
    }

    #[test]
    fn nothing_measured_is_no_time_at_all() {
        let document = Measured::new().unwrap().document(&args(), Duration::from_secs(1));
        assert_eq!((document.p50_us, document.p99_us, document.max_us, document.failed), (0, 0, 0, 0));
    }
}
