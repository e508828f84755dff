//! `likectl audit`.

use std::collections::BTreeSet;

use clap::Args;
use indicatif::ProgressBar;
use like_protocol::ids::SagaId;

use crate::cli::commands::saga::{find_open, numbers, unread_in_words};
use crate::cli::error::CliError;
use crate::cli::json::AuditDocument;
use crate::cli::output::{BAD, Column, WARN, count, paint, table};
use crate::cli::tools::Tools;
use crate::likes::audit::{self, DamagedArticle, Drift, Findings, LiveBooks};

/// Whether to repair.
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Show how counts would be set to the number of records
    #[arg(long)]
    repair: bool,
    /// Do it
    #[arg(long, requires = "repair")]
    yes: bool,
}

/// Runs `likectl audit`.
///
/// # Errors
/// Drift was found and not repaired, or a service does not answer.
pub async fn run(tools: &Tools, args: &AuditArgs) -> Result<(), CliError> {
    let books = tools.books();
    let open = find_open(tools)?;
    let unfinished = open.sagas.iter().filter(|found| found.view.is_unfinished()).count();
    let progress =
        if tools.output.shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    progress.set_message("comparing articles");
    let findings = audit::audit(&books, || progress.inc(1)).await;
    progress.finish_and_clear();
    let findings = findings?;
    let orphans =
        if findings.not_compared.is_empty() { BTreeSet::new() } else { orphans(tools, &books).await? };

    let mut repaired = Vec::new();
    if args.yes {
        for drift in &findings.drift {
            if audit::repair(&books, drift).await? {
                repaired.push(drift.article.0);
            }
        }
    }
    // What was found counts even if nobody reads on.
    let told = if tools.output.json {
        let unreadable_slots = numbers(&open.unreadable);
        let document = AuditDocument::new(&findings, &orphans, unfinished, unreadable_slots, &repaired);
        tools.output.document(&document)
    } else {
        let shown = show(tools, args, &findings, unfinished, &repaired);
        shown.and_then(|()| show_orphans(tools, &orphans))
    };
    if let Some(unread) = unread_in_words(&open.unreadable) {
        tools.output.note(format!("{} {unread}: more sagas may be unfinished", paint(WARN, "warning:")));
    }
    if !findings.not_compared.is_empty() {
        tools.output.note(format!(
            "{} {} could not be compared, because sagas touch it or may: `likectl recover`, then audit again",
            paint(WARN, "warning:"),
            count(findings.not_compared.len() as u64, "article", "articles")
        ));
    }
    match findings.drift.len() - repaired.len() {
        0 => told_damaged(&findings.damaged).and(told),
        left => Err(CliError::Drift(left)),
    }
}

/// Sagas that a service holds, before the log is read and after that, and that are open in no log: what is held before was
/// begun in a log by then, and what is settled there is not held after. So their log was lost, or their end was settled with
/// a store that has been restored since, and nobody will ever settle them. Nothing is said of any while a slot can't be read,
/// since they may stand there.
async fn orphans(tools: &Tools, books: &LiveBooks) -> Result<BTreeSet<SagaId>, CliError> {
    let before = books.unsettled().await?;
    let open = find_open(tools)?;
    if !open.unreadable.is_empty() {
        return Ok(BTreeSet::new());
    }
    let known: BTreeSet<_> = open.sagas.iter().map(|found| found.saga).collect();
    let after = books.unsettled().await?;
    Ok(before.intersection(&after).filter(|saga| !known.contains(saga)).copied().collect())
}

fn show_orphans(tools: &Tools, orphans: &BTreeSet<SagaId>) -> Result<(), CliError> {
    for saga in orphans {
        tools.output.text(format!("{} saga {saga} is open in no log here", paint(WARN, "!")))?;
    }
    if !orphans.is_empty() {
        tools.output.note(
            "what is open in no log, and in no other journal, nobody ends: `likectl saga force ID --as \
             completed|compensated --reason TEXT` does, as `likectl saga show ID` says that it ended, if it did",
        );
    }
    Ok(())
}

fn told_damaged(damaged: &[DamagedArticle]) -> Result<(), CliError> {
    let Some(first) = damaged.first() else { return Ok(()) };
    let what = count(damaged.len() as u64, "article", "articles");
    Err(CliError::Damaged(format!(
        "{what} could not be compared, because of damage: article {}: {}",
        first.article, first.why
    )))
}

fn show(
    tools: &Tools,
    args: &AuditArgs,
    findings: &Findings,
    unfinished: usize,
    repaired: &[u64],
) -> Result<(), CliError> {
    let Findings { articles_checked, likes_checked, drift, damaged, .. } = findings;
    let verdict = match drift.len() {
        0 => "no drift".to_owned(),
        many => count(many as u64, "article drifts", "articles drift"),
    };
    tools.output.text(format!(
        "{verdict}: compared {} and {}; {} unfinished",
        count(*articles_checked, "article", "articles"),
        count(*likes_checked, "like record", "like records"),
        count(unfinished as u64, "saga", "sagas"),
    ))?;
    for DamagedArticle { article, why } in damaged {
        tools.output.text(format!("{} article {article}: {why}", paint(BAD, "✗")))?;
    }
    if drift.is_empty() {
        return Ok(());
    }
    let columns =
        [Column::Right("ARTICLE"), Column::Right("LIKES"), Column::Right("RECORDS"), Column::Left("REPAIR")];
    let rows = drift.iter().map(|drift| {
        let likes = drift.count.map_or_else(|| "no article".to_owned(), |seen| seen.likes.to_string());
        vec![
            drift.article.to_string(),
            likes,
            drift.records.to_string(),
            remedy(args, drift, repaired).to_owned(),
        ]
    });
    tools.output.text(table(&columns, rows))?;
    if drift.iter().any(|drift| drift.count.is_none()) {
        tools.output.note("what has no article: `likectl article create --id ARTICLE TITLE`, then repair");
    }
    if args.repair && !args.yes {
        tools.output.note("nothing has been changed; add --yes to do it");
    }
    Ok(())
}

fn remedy(args: &AuditArgs, drift: &Drift, repaired: &[u64]) -> &'static str {
    if drift.count.is_none() {
        return "create the article first";
    }
    match (args.yes, repaired.contains(&drift.article.0)) {
        (true, true) => "likes set to records",
        (true, false) => "not done: it changed meanwhile",
        (false, _) if args.repair => "would set likes to records",
        (false, _) => "likes can be set to records",
    }
}
