//! The documents that HTTP alone takes and answers with. What `likectl --json` prints too is in `like_client::view`.

use like_protocol::ids::SagaId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::take::rows;

/// A like or unlike whose outcome is not known yet: it stands in the saga log, and is finished whatever happens.
#[derive(Serialize, ToSchema)]
pub struct Pending {
    /// The saga.
    saga_id: String,
    /// Where it can be looked at.
    saga: String,
    /// What to do meanwhile.
    hint: &'static str,
}

impl Pending {
    /// Of a saga.
    pub fn of(saga: SagaId) -> Self {
        Self {
            saga_id: saga.to_string(),
            saga: place_of(saga),
            hint: "look at the saga, or repeat the request with the same Idempotency-Key",
        }
    }
}

/// Where a saga can be looked at.
pub fn place_of(saga: SagaId) -> String {
    format!("/sagas/{saga}")
}

/// A new article.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewArticle {
    /// Its number; if left out, the one after the highest, numbers above 999999999999999 aside.
    pub article_id: Option<u64>,
    /// Its title: 1 to 255 characters.
    #[schema(min_length = 1, max_length = 255)]
    pub title: String,
}

/// A page of a list that is ordered by number.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// At most so many.
    #[serde(default = "Page::usual")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// Only those after this number: the last one of the page before.
    pub after: Option<u64>,
}

impl Page {
    /// The longest page.
    pub const ROWS_MAX: u32 = 1000;

    fn usual() -> u32 {
        100
    }

    /// How many rows.
    ///
    /// # Errors
    /// None, or more than a page may have.
    pub fn rows(&self) -> Result<u64, Problem> {
        rows(self.limit, Self::ROWS_MAX).map(u64::from)
    }
}
