//! A domain's data inside the engine's messages and records.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

/// How long a payload may be without memory of its own: what one step asks, answers or is about is a few numbers.
const INLINE_BYTES: usize = 32;

/// A domain's data, opaque to the engine. A short one takes no memory of its own, so that it costs little to make, to copy and
/// to drop: a saga does so dozens of times.
#[derive(PartialEq, Eq, Default)]
pub struct Payload(pub SmallVec<[u8; INLINE_BYTES]>);

impl Clone for Payload {
    fn clone(&self) -> Self {
        // What `SmallVec` does to clone itself takes one byte after the other.
        Self(SmallVec::from_slice(&self.0))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Takes the bytes that a format hands over.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Payload, E> {
        Ok(Payload(SmallVec::from_slice(bytes)))
    }
}
