//! Names of sagas, stores and boots.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How the 16 bytes of an id stand in an encoding: as they are, in their order. They go there by halves, each as the number that has
/// these bits, since bincode writes and reads a floating-point number as its eight bytes, and bytes one at a time. Where numbers are
/// written as people do, they go one at a time.
mod sixteen_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;
    use uuid::serde::compact;

    pub fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return compact::serialize(id, serializer);
        }
        let bits = u128::from_le_bytes(*id.as_bytes());
        let halves = [bits as u64, (bits >> 64) as u64].map(f64::from_bits);
        halves.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        if deserializer.is_human_readable() {
            return compact::deserialize(deserializer);
        }
        let [low, high] = <[f64; 2]>::deserialize(deserializer)?.map(|half| u128::from(half.to_bits()));
        Ok(Uuid::from_bytes((high << 64 | low).to_le_bytes()))
    }
}

/// Names one saga for ever. A UUIDv7: ids sort by the time their sagas began, and carry it.
///
/// A saga id is made by the runner that writes the saga's first log entry, and by nobody else: it is never taken
/// from a caller (a caller's key is domain data, see [`crate::likes::user`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SagaId(#[serde(with = "sixteen_bytes")] Uuid);

impl SagaId {
    /// A new id that carries the wall time of this moment; ids made by one process strictly increase.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id with these 16 bytes, as a store keeps it.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes that a store keeps; their order is the ids' order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The UUID itself, for printing.
    pub const fn uuid(&self) -> Uuid {
        self.0
    }

    /// When the saga began by its runner's wall clock, to the millisecond. For people: no rule depends on it.
    ///
    /// An id that is no UUIDv7 (a caller can name any) shows the Unix epoch.
    pub fn began_at(&self) -> SystemTime {
        let since_epoch = self.0.get_timestamp().map(|stamp| {
            let (seconds, nanos) = stamp.to_unix();
            Duration::new(seconds, nanos)
        });
        SystemTime::UNIX_EPOCH + since_epoch.unwrap_or_default()
    }
}

impl fmt::Display for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SagaId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// Names one incarnation of a daemon's store. Random, drawn when the store is made and again when it is restored
/// from a backup, so that a saga is never driven against another store than the one it began with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(#[serde(with = "sixteen_bytes")] Uuid);

impl StoreId {
    /// A fresh random id.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes that are stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StoreId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// Names one boot of the kernel (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(#[serde(with = "sixteen_bytes")] Uuid);

impl BootId {
    /// The id with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes that are stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BootId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text.trim()).map(Self)
    }
}

/// Names one step of one saga: the key under which a participant keeps its operation record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct StepId {
    /// The saga.
    pub saga: SagaId,
    /// The position of the step in its saga, counted from 0.
    pub step: u8,
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.saga, self.step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec;

    proptest! {
        #[test]
        fn the_bytes_of_an_id_stand_in_its_encoding_as_they_are(bytes: [u8; 16], exponent: [bool; 2]) {
            let mut bytes = bytes;
            for (half, all_ones) in bytes.chunks_mut(8).zip(exponent) {
                // Read as a number, such bits are none, quiet or signalling.
                if all_ones {
                    half[7] |= 0x7f;
                    half[6] |= 0xf0;
                }
            }
            let id = SagaId::from_bytes(bytes);
            let encoded = codec::encode(&id).unwrap();
            prop_assert_eq!(&encoded.0[..], &bytes[..]);
            prop_assert_eq!(codec::decode::<SagaId>(&encoded.0).unwrap(), id);
            prop_assert!(codec::decode::<SagaId>(&bytes[..15]).is_err());
        }
    }

    #[test]
    fn a_saga_id_carries_the_time_it_began() {
        let before = SystemTime::now();
        let began = SagaId::generate().began_at();
        let off = began.duration_since(before).unwrap_or_else(|e| e.duration());
        assert!(off < Duration::from_secs(5), "{off:?} apart");
    }

    #[test]
    fn ids_of_one_process_increase_and_their_bytes_sort_alike() {
        let ids: Vec<_> = (0..1000).map(|_| SagaId::generate()).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1] && w[0].as_bytes() < w[1].as_bytes()));
    }

    #[test]
    fn text_forms_are_pinned_and_read_back() {
        fn pinned<I: fmt::Display + fmt::Debug + FromStr<Err = uuid::Error> + PartialEq>(id: I) {
            let text = "11111111-1111-1111-1111-111111111111";
            assert_eq!((id.to_string(), format!("{id:?}")), (text.to_owned(), text.to_owned()));
            assert_eq!(text.parse::<I>().unwrap(), id);
            assert!("not-a-uuid".parse::<I>().is_err());
        }
        let saga = SagaId::from_bytes([0x11; 16]);
        pinned(saga);
        pinned(StoreId::from_bytes([0x11; 16]));
        pinned(BootId::from_bytes([0x11; 16]));
        assert_eq!(StepId { saga, step: 3 }.to_string(), "11111111-1111-1111-1111-111111111111#3");
    }
}
