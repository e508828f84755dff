//! Lists, fetched page by page: no list costs a service more than a page at a time, however long it is.

use std::str::FromStr;

use clap::Args;
use like_protocol::likes::user::LikeRecord;
use like_protocol::message::PAGE_ROWS_MAX;

use super::error::CliError;
use super::output::{Column, table};
use super::tools::Tools;
use crate::view::moment;

/// Which part of a list.
#[derive(Args, Clone, Debug)]
pub struct PageArgs<Id: FromStr<Err: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static> {
    /// At most so many; all if left out
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Only those after this one
    #[arg(long, value_name = "ID")]
    pub after: Option<Id>,
}

/// Fetches a list page by page. `id` is what the next page is asked to come after.
///
/// # Errors
/// The service did not answer.
pub async fn fetch<Id, Row, E, Fetched>(
    page: &PageArgs<Id>,
    mut fetch: impl FnMut(Option<Id>, u32) -> Fetched,
    id: impl Fn(&Row) -> Id,
) -> Result<Vec<Row>, CliError>
where
    Id: FromStr<Err: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static,
    CliError: From<E>,
    Fetched: Future<Output = Result<Vec<Row>, E>>,
{
    let mut rows = Vec::new();
    let mut after = page.after.clone();
    loop {
        let left = page.limit.map_or(u64::MAX, |limit| limit.saturating_sub(rows.len() as u64));
        let limit = u32::try_from(left).unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX);
        if limit == 0 {
            return Ok(rows);
        }
        let fetched = fetch(after.clone(), limit).await?;
        let Some(last) = fetched.last() else { return Ok(rows) };
        after = Some(id(last));
        rows.extend(fetched);
    }
}

/// Shows like records; `who` is the column in which they differ.
///
/// # Errors
/// stdout is gone.
pub fn show_records(
    tools: &Tools,
    records: &[LikeRecord],
    column: Column,
    who: impl Fn(&LikeRecord) -> String,
) -> Result<(), CliError> {
    let columns = [column, Column::Left("SINCE (UTC)"), Column::Left("RECORD")];
    let rows = records.iter().map(|record| {
        let open = if record.pending { "*" } else { "" };
        match record.record {
            Some(id) => vec![who(record), moment::short(id.began_at()), format!("{id}{open}")],
            None => vec![who(record), "-".to_owned(), "damaged".to_owned()],
        }
    });
    tools.output.text(table(&columns, rows))?;
    if records.iter().any(|record| record.pending) {
        tools.output.note("* a saga is in flight: this record may still go");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ids(after: Option<u64>, limit: Option<u64>) -> (Vec<u64>, usize) {
        let mut pages = 0;
        let page = PageArgs { limit, after };
        let fetched = fetch::<u64, u64, CliError, _>(
            &page,
            |after, limit| {
                pages += 1;
                let from = after.map_or(1, |after| after + 1);
                let page: Vec<u64> = (from..=600).take(limit as usize).collect();
                async move { Ok(page) }
            },
            |id| *id,
        );
        let fetched = fetched.await.unwrap();
        (fetched, pages)
    }

    #[tokio::test]
    async fn every_row_is_fetched_once_page_by_page() {
        assert_eq!(ids(None, None).await, ((1..=600).collect(), 4));
        assert_eq!(ids(Some(598), None).await.0, [599, 600]);
    }

    #[tokio::test]
    async fn a_limit_is_never_exceeded() {
        assert_eq!(ids(None, Some(300)).await, ((1..=300).collect(), 2));
        assert_eq!(ids(None, Some(0)).await, (vec![], 0));
        assert_eq!(ids(Some(590), Some(300)).await.0.len(), 10);
    }
}
