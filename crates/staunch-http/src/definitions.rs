//! Definitions applied to a node, from a request or at the start.

use staunch_definitions::{Import, Planned, Verdict};
use staunch_node::OnRefusal;

use crate::{NodePort, error::ApiError};

/// Commands that are applied in one go: others who need the node wait so long.
const BATCH_COMMANDS_MAX: usize = 256;

/// Why definitions were not applied, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// An entry was refused; those before it are applied.
    #[error("{0}")]
    Refused(String),
    /// The node is gone.
    #[error("the node does not answer")]
    Unavailable,
}

impl From<DefinitionsError> for ApiError {
    fn from(error: DefinitionsError) -> Self {
        match error {
            DefinitionsError::Refused(reason) => Self::BadRequest(reason),
            DefinitionsError::Unavailable => Self::Unavailable,
        }
    }
}

/// Applies what a file says, in its order; when this resolves all of it is on disk. The answer is
/// what the log should say about entries that were passed over.
///
/// # Errors
/// [`DefinitionsError`] for the first entry that is refused.
pub async fn apply_definitions(
    node: &NodePort,
    import: Import,
) -> Result<Vec<String>, DefinitionsError> {
    let Import { plan, mut warnings } = import;
    for batch in plan.chunks(BATCH_COMMANDS_MAX) {
        let commands = batch
            .iter()
            .map(|planned| planned.command.clone())
            .collect();
        let answered = node.apply_all(commands, OnRefusal::GoOn).await;
        let results = answered.map_err(|_| DefinitionsError::Unavailable)?;
        for (planned, result) in batch.iter().zip(&results) {
            warnings.extend(judge(planned, result.as_ref().map(drop))?);
        }
    }
    Ok(warnings)
}

fn judge(
    planned: &Planned,
    answer: Result<(), &staunch_types::Refusal>,
) -> Result<Option<String>, DefinitionsError> {
    match planned.verdict(answer) {
        Verdict::Done => Ok(None),
        Verdict::Ignored(warning) => Ok(Some(warning)),
        Verdict::Failed(reason) => Err(DefinitionsError::Refused(reason)),
    }
}
