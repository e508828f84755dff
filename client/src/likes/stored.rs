//! What the saga log and the operation records keep of this domain, read back.

use like_protocol::codec;
use like_protocol::message::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::saga::DefinitionError;

/// Encodes a value of this domain for a saga of this kind.
pub(super) fn write<T: Serialize>(kind: &'static str, value: &T) -> Result<Payload, DefinitionError> {
    codec::encode(value).map_err(|error| DefinitionError { kind, detail: error.to_string() })
}

/// Decodes a value of this domain that a saga of this kind recorded as `what`.
pub(super) fn read<T: DeserializeOwned>(
    kind: &'static str,
    what: &str,
    payload: &Payload,
) -> Result<T, DefinitionError> {
    codec::decode(&payload.0).map_err(|error| DefinitionError { kind, detail: format!("{what}: {error}") })
}

/// A step that a kind does not have.
pub(super) fn no_such_step(kind: &'static str, step: usize) -> DefinitionError {
    DefinitionError { kind, detail: format!("it has no step {step}") }
}
