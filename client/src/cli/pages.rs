//! Lists, or the part of them that was asked for.

use std::fmt::Display;
use std::str::FromStr;

use clap::Args;
use like_protocol::likes::user::LikeRecord;

use super::error::CliError;
use super::output::{Column, table};
use super::tools::Tools;
use crate::likes::pages;
use crate::view::moment;

/// Which part of a list.
#[derive(Args, Clone, Debug)]
pub struct PageArgs<Id: FromStr<Err: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static> {
    /// At most so many; all if left out
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Only those after this one
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    pub after: Option<Id>,
}

impl<Id: FromStr<Err: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static> PageArgs<Id> {
    /// The rows of that part, fetched page by page. `id` is what the next page is asked to come after.
    ///
    /// # Errors
    /// The service did not answer.
    pub async fn fetch<Row, E, Fetched>(
        &self,
        page: impl FnMut(Option<Id>, u32) -> Fetched,
        id: impl Fn(&Row) -> Id,
    ) -> Result<Vec<Row>, E>
    where
        Fetched: Future<Output = Result<Vec<Row>, E>>,
    {
        pages::fetch(self.after.clone(), self.limit.unwrap_or(u64::MAX), page, id).await
    }

    /// Says that there are no rows: `none`, unless only a part of the list was asked for.
    pub fn note_empty(&self, tools: &Tools, none: impl Display) {
        match (self.limit, &self.after) {
            (Some(_), _) | (_, Some(_)) => tools.output.note("nothing in that part of the list"),
            (None, None) => tools.output.note(none),
        }
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
