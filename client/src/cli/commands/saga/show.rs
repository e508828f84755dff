//! `likectl saga show`.

use like_protocol::ids::SagaId;
use serde::Serialize;

use super::find_one;
use crate::cli::error::CliError;
use crate::cli::timeline;
use crate::cli::tools::Tools;
use crate::cli::view::{OwnerView, SagaView};
use crate::log::owner;

#[derive(Serialize)]
struct ShownSaga<'a> {
    #[serde(flatten)]
    saga: &'a SagaView,
    /// The slot of the journal that it stands in.
    slot: u32,
    /// The live process that holds the slot.
    owner: Option<OwnerView>,
    /// What an operator may do next, safest first.
    advice: Vec<String>,
}

/// Draws one saga.
pub(super) fn run(tools: &Tools, saga: SagaId) -> Result<(), CliError> {
    let found = find_one(tools, saga)?;
    let owner = owner::owner_of(&found.slot);
    if tools.output.json {
        return tools.output.document(&ShownSaga {
            saga: &found.view,
            slot: found.slot.number(),
            owner: owner.as_ref().map(OwnerView::from),
            advice: timeline::advice(&found.view, owner.as_ref()),
        });
    }
    tools.output.text(timeline::draw(&found.view, found.slot.number(), owner.as_ref()))
}
