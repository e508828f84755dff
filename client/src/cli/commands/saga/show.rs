//! `likectl saga show`.

use like_protocol::ids::SagaId;

use super::find_one;
use crate::cli::error::CliError;
use crate::cli::timeline;
use crate::cli::tools::Tools;
use crate::log::owner;
use crate::view::SagaDocument;

/// Draws one saga.
pub(super) fn run(tools: &Tools, saga: SagaId) -> Result<(), CliError> {
    let found = find_one(tools, saga)?;
    let owner = owner::owner_of(&found.slot);
    if tools.output.json {
        return tools.output.document(&SagaDocument::new(found.view, found.slot.number(), owner.as_ref()));
    }
    tools.output.text(timeline::draw(&found.view, found.slot.number(), owner.as_ref()))
}
