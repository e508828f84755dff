//! `likectl article`: create, show, list, likers.

use clap::{Args, Subcommand};
use like_protocol::likes::article::{Article, ListedArticle};
use like_protocol::likes::{ArticleId, UserId};

use crate::cli::error::CliError;
use crate::cli::output::{Column, DIM, STRONG, count, paint, printable, table};
use crate::cli::pages::{self, PageArgs};
use crate::cli::tools::Tools;
use crate::view::{ArticleDocument, ListedArticleDocument, RecordDocument};

/// Create and look at articles.
#[derive(Subcommand, Debug)]
pub enum ArticleCommand {
    /// Create an article
    Create(CreateArgs),
    /// Show an article
    Show(ShowArgs),
    /// List articles by id
    List(ListArgs),
    /// List the users that like an article
    Likers(LikersArgs),
}

/// What to create.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Its id; if left out, the one after the highest, ids above 999999999999999 aside
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    id: Option<ArticleId>,
    /// Its title, 1 to 255 characters
    title: String,
}

/// What to show.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Which article
    #[arg(value_name = "ARTICLE", allow_negative_numbers = true)]
    article: ArticleId,
}

/// Which articles.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    page: PageArgs<ArticleId>,
}

/// Which likers.
#[derive(Args, Debug)]
pub struct LikersArgs {
    /// Of which article
    #[arg(value_name = "ARTICLE", allow_negative_numbers = true)]
    article: ArticleId,
    #[command(flatten)]
    page: PageArgs<UserId>,
}

/// Runs `likectl article`.
///
/// # Errors
/// The service did not do it.
pub async fn run(tools: &Tools, command: &ArticleCommand) -> Result<(), CliError> {
    match command {
        ArticleCommand::Create(args) => {
            let article = tools.articles().create(args.id, args.title.clone()).await?;
            if tools.output.json {
                return tools.output.document(&ArticleDocument::from(&article));
            }
            tools.output.text(format!(
                "created article {}: {}",
                paint(STRONG, article.id),
                printable(&article.title)
            ))
        }
        ArticleCommand::Show(args) => show(tools, &tools.articles().show(args.article).await?),
        ArticleCommand::List(args) => list(tools, args).await,
        ArticleCommand::Likers(args) => likers(tools, args).await,
    }
}

fn show(tools: &Tools, article: &Article) -> Result<(), CliError> {
    if tools.output.json {
        return tools.output.document(&ArticleDocument::from(article));
    }
    let Article { id, title, likes, unsettled, .. } = article;
    let likes = count(*likes, "like", "likes");
    tools.output.text(format!(
        "article {}: {}\n{likes}{}",
        paint(STRONG, id),
        printable(title),
        pending(*unsettled)
    ))
}

fn pending(unsettled: u32) -> String {
    match unsettled {
        0 => String::new(),
        many => paint(DIM, format!(" ({} in flight)", count(many.into(), "saga", "sagas"))),
    }
}

async fn list(tools: &Tools, args: &ListArgs) -> Result<(), CliError> {
    let service = tools.articles();
    let articles = args.page.fetch(|after, limit| service.page(after, limit), ListedArticle::id).await?;
    if tools.output.json {
        return tools.output.document(&articles.iter().map(ListedArticleDocument::from).collect::<Vec<_>>());
    }
    if articles.is_empty() {
        args.page.note_empty(tools, "no articles");
        return Ok(());
    }
    let columns = [Column::Right("ARTICLE"), Column::Right("LIKES"), Column::Long("TITLE")];
    let rows = articles.iter().map(|listed| match listed {
        ListedArticle::Whole(Article { id, likes, title, unsettled, .. }) => {
            let open = if *unsettled > 0 { "*" } else { "" };
            vec![id.to_string(), format!("{likes}{open}"), title.clone()]
        }
        ListedArticle::Damaged { id, .. } => vec![id.to_string(), "-".to_owned(), "damaged".to_owned()],
    });
    tools.output.text(table(&columns, rows))?;
    let in_flight =
        |listed: &ListedArticle| matches!(listed, ListedArticle::Whole(article) if article.unsettled > 0);
    if articles.iter().any(in_flight) {
        tools.output.note("* sagas are in flight: the number may still change");
    }
    Ok(())
}

async fn likers(tools: &Tools, args: &LikersArgs) -> Result<(), CliError> {
    let service = tools.users();
    let likers = |after, limit| service.likers_of(args.article, after, limit);
    let records = args.page.fetch(likers, |record| record.user).await?;
    if records.is_empty() {
        // Nobody likes it, or there is no such article: a difference that people should be told.
        tools.articles().show(args.article).await?;
    }
    if tools.output.json {
        return tools.output.document(&records.iter().map(RecordDocument::from).collect::<Vec<_>>());
    }
    if records.is_empty() {
        args.page.note_empty(tools, format_args!("nobody likes article {}", args.article));
        return Ok(());
    }
    pages::show_records(tools, &records, Column::Right("USER"), |record| record.user.to_string())
}
