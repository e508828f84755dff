//! `likectl bench`: durable likes per second, as callers see them.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use clap::Args;
use futures::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use like_protocol::likes::{ArticleId, UserId};
use serde::Serialize;
use uuid::Uuid;

use crate::cli::duration;
use crate::cli::error::CliError;
use crate::cli::output::{STRONG, WARN, count, paint};
use crate::cli::tools::Tools;
use crate::likes::{ActError, Likes};

/// What to measure.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// How many likes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    likes: u64,
    /// How many sagas in flight at the same time
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: u32,
    /// Over how many articles; they are created
    #[arg(long, value_name = "A", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    articles: u64,
}

/// What was measured.
#[derive(Serialize, Debug)]
struct BenchDocument {
    likes: u64,
    concurrency: u32,
    seconds: f64,
    likes_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
    failed: u64,
}

/// Runs `likectl bench`.
///
/// # Errors
/// The runner or a service can't be used. Likes that fail are counted instead.
pub async fn run(tools: &Tools, args: &BenchArgs) -> Result<(), CliError> {
    let articles = create_articles(tools, args.articles).await?;
    let (runner, likes) = tools.likes()?;
    let progress = progress_bar(tools, args.likes);
    let measured = measure(tools, args, &likes, &articles, &progress).await;
    progress.finish_and_clear();
    let (document, first_failure) = measured;
    runner.close(tools.config.timeout).await;
    if let Some(failure) = first_failure {
        let failed = count(document.failed, "like", "likes");
        tools.output.note(format!("{} {failed} failed; the first: {failure}", paint(WARN, "warning:")));
    }
    if tools.output.json {
        return tools.output.document(&document);
    }
    let micros = |us: u64| duration::show(Duration::from_micros(us));
    tools.output.text(format!(
        "{} durable likes per second ({} in {:.2} s, {} in flight)\n  p50 {}   p99 {}   max {}   failed {}",
        paint(STRONG, format!("{:.0}", document.likes_per_s)),
        count(document.likes, "like", "likes"),
        document.seconds,
        document.concurrency,
        micros(document.p50_us),
        micros(document.p99_us),
        micros(document.max_us),
        document.failed,
    ))
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

async fn measure(
    tools: &Tools,
    args: &BenchArgs,
    likes: &Likes,
    articles: &[ArticleId],
    progress: &ProgressBar,
) -> (BenchDocument, Option<ActError>) {
    let (first_user, timeout) = (first_user(), tools.config.timeout);
    let (latencies, failed, first_failure) = (RefCell::new(Vec::new()), Cell::new(0), RefCell::new(None));
    let began = Instant::now();
    let acts = (0..args.likes).map(|number| {
        let article = articles[(number % args.articles) as usize];
        let user = UserId(first_user.wrapping_add(number / args.articles));
        let (latencies, failed, first_failure) = (&latencies, &failed, &first_failure);
        async move {
            let sent = Instant::now();
            match likes.like(user, article, None, timeout).await {
                Ok(_) => latencies.borrow_mut().push(sent.elapsed()),
                Err(error) => {
                    failed.set(failed.get() + 1);
                    first_failure.borrow_mut().get_or_insert(error);
                }
            }
            progress.inc(1);
        }
    });
    stream::iter(acts).buffer_unordered(args.concurrency as usize).for_each(|()| async {}).await;
    let seconds = began.elapsed().as_secs_f64();
    let mut latencies = latencies.into_inner();
    latencies.sort_unstable();
    let document = BenchDocument {
        likes: args.likes,
        concurrency: args.concurrency,
        seconds,
        likes_per_s: latencies.len() as f64 / seconds,
        p50_us: percentile(&latencies, 50),
        p99_us: percentile(&latencies, 99),
        max_us: percentile(&latencies, 100),
        failed: failed.get(),
    };
    (document, first_failure.into_inner())
}

/// The nearest-rank percentile of sorted latencies, in microseconds; 0 if there are none.
fn percentile(sorted: &[Duration], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0, |latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))
}

fn progress_bar(tools: &Tools, likes: u64) -> ProgressBar {
    if !tools.output.shows_progress() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} likes, {eta} left");
    ProgressBar::new(likes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let latencies: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&latencies, 50), 100);
        assert_eq!(percentile(&latencies, 99), 198);
        assert_eq!(percentile(&latencies, 100), 200);
        assert_eq!(percentile(&latencies[..1], 50), 1);
        assert_eq!(percentile(&[], 99), 0);
    }
}
