//! Definitions that a node starts with.

use std::{io, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use staunch_broker::{CatalogCommand, ParameterCommand, ParameterValue};
use staunch_definitions::{ImportError, Planned};
use staunch_http::{DefinitionsError, NodePort, apply_definitions};
use staunch_node::{AdminAnswer, AdminRequest, CatalogRead};
use staunch_types::{Name, field_table::Value};

use crate::{config::Config, http::salt};

/// The global parameter that remembers which file was applied last; RabbitMQ's name.
const HASH_PARAMETER: &str = "imported_definition_hash_value";

/// Why a node does not start with its definitions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{}: cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Wrong { path: PathBuf, error: ImportError },
    #[error("{}: {error}", path.display())]
    Refused {
        path: PathBuf,
        error: DefinitionsError,
    },
}

/// Applies the file that the configuration names, if it names one.
pub(crate) async fn load(config: &Config, node: &NodePort) -> Result<(), LoadError> {
    let Some(path) = config.load_definitions.clone() else {
        return Ok(());
    };
    let read = std::fs::read(&path);
    let file = read.map_err(|error| LoadError::Read {
        path: path.clone(),
        error,
    })?;
    let hash = STANDARD.encode(Sha256::digest(&file));
    if config.definitions_skip_if_unchanged && last_hash(node).await.as_ref() == Some(&hash) {
        tracing::info!(event = "definitions.unchanged", path = %path.display(), "definitions are as before");
        return Ok(());
    }
    let import = staunch_definitions::import(&file, None, &mut salt);
    let mut import = import.map_err(|error| LoadError::Wrong {
        path: path.clone(),
        error,
    })?;
    let count = import.plan.len();
    import.plan.push(Planned {
        entry: HASH_PARAMETER.to_owned(),
        command: CatalogCommand::Parameter(ParameterCommand::SetGlobal {
            name: Name::from_static(HASH_PARAMETER),
            value: ParameterValue::new(Value::LongStr(hash.as_bytes())),
        }),
    });
    let applied = apply_definitions(node, import).await;
    let warnings = applied.map_err(|error| LoadError::Refused {
        path: path.clone(),
        error,
    })?;
    for warning in warnings {
        tracing::warn!(event = "definitions.ignored", %warning, "part of the definitions was ignored");
    }
    tracing::info!(event = "definitions.loaded", path = %path.display(), count, "definitions applied");
    Ok(())
}

/// The hash of the file that was applied last.
async fn last_hash(node: &NodePort) -> Option<String> {
    let read = CatalogRead::new(|catalog| {
        let value = catalog.global_parameter(HASH_PARAMETER.as_bytes())?;
        value.as_str().map(str::to_owned)
    });
    match node.ask(AdminRequest::Read(read)).await? {
        AdminAnswer::Read(found) => *found.downcast::<Option<String>>().ok()?,
        _ => None,
    }
}
