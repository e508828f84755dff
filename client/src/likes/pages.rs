//! Lists, fetched page by page: no list costs a service more than a page at a time, however long it is.

use like_protocol::message::PAGE_ROWS_MAX;

/// The rows of a list behind `after`, at most `limit` of them; if there are fewer, the list ends there. `page` asks the
/// service for the rows behind one of them, and `id` is what the next page is asked to come after.
///
/// # Errors
/// The service did not answer.
pub async fn fetch<Id: Clone, Row, E, Fetched>(
    mut after: Option<Id>,
    limit: u64,
    mut page: impl FnMut(Option<Id>, u32) -> Fetched,
    id: impl Fn(&Row) -> Id,
) -> Result<Vec<Row>, E>
where
    Fetched: Future<Output = Result<Vec<Row>, E>>,
{
    let mut rows = Vec::new();
    loop {
        let left = limit.saturating_sub(rows.len() as u64);
        let limit = u32::try_from(left).unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX);
        if limit == 0 {
            return Ok(rows);
        }
        let fetched = page(after, limit).await?;
        // A page may be short without being the last: a row that is none is left out.
        let Some(last) = fetched.last() else { return Ok(rows) };
        after = Some(id(last));
        rows.extend(fetched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ids(after: Option<u64>, limit: u64) -> (Vec<u64>, usize) {
        let mut pages = 0;
        let fetched = fetch(
            after,
            limit,
            |after, limit| {
                pages += 1;
                let from = after.map_or(1, |after| after + 1);
                let page: Vec<u64> = (from..=600).take(limit as usize).collect();
                async move { Ok::<_, ()>(page) }
            },
            |id| *id,
        );
        let fetched = fetched.await.unwrap();
        (fetched, pages)
    }

    #[tokio::test]
    async fn every_row_is_fetched_once_page_by_page() {
        assert_eq!(ids(None, u64::MAX).await, ((1..=600).collect(), 4));
        assert_eq!(ids(Some(598), u64::MAX).await.0, [599, 600]);
    }

    #[tokio::test]
    async fn a_limit_is_never_exceeded() {
        assert_eq!(ids(None, 300).await, ((1..=300).collect(), 2));
        assert_eq!(ids(None, 0).await, (vec![], 0));
        assert_eq!(ids(Some(590), 300).await.0.len(), 10);
    }
}
