//! The operation record: what a participant remembers of one step of one saga, in the same batch as what the step did.
//!
//! Row: `01 saga(16) step(1)` -> `kind(1) boot(number) deadline(number) [operation] [reply]`, where the highest bit of
//! `kind` says that the step is settled, and the rest is 0 applied (with operation and reply), 1 undone (with
//! operation), 2 cancelled (with neither). Numbers are those of [`crate::store::fields`], boots those of
//! [`super::boots`]. How an operation and a reply are stored is the domain's to say.

use like_protocol::ids::{SagaId, StepId};
use like_protocol::time::Deadline;

use super::barrier::{Standing, State};
use super::boots::Boots;
use crate::store::fields::{Fields, Malformed, NUMBER_BYTES_MAX, Stored, put_number};
use crate::store::logged_store::VALUE_BYTES_MAX;
use crate::store::seal::SEAL_BYTES;
use crate::store::{Found, Key, KeyRange, StoreError, Tx};

pub(super) const TAG: u8 = 0x01;
/// No usual record is longer, with its checksum: it takes memory once.
const RECORD_BYTES_USUAL: usize = 48;
const SETTLED: u8 = 0x80;
const APPLIED: u8 = 0;
const UNDONE: u8 = 1;
const CANCELLED: u8 = 2;

/// How many bytes an operation and its reply may have together, as they are stored: a value of a store less its checksum and the
/// longest head that a record can have. So a record that fits does so with any later deadline as well.
pub const STORED_BYTES_MAX: usize = VALUE_BYTES_MAX - SEAL_BYTES - (1 + 2 * NUMBER_BYTES_MAX);

/// What happened to a step, with what is needed to repeat, undo or trace it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum History<O, R> {
    /// The action has run.
    Applied {
        /// What was run: a compensation undoes this, whatever its own message says.
        operation: O,
        /// What it answered.
        reply: R,
    },
    /// It was undone. What it held it holds until the step is settled.
    Undone {
        /// What was run and undone.
        operation: O,
    },
    /// It never ran and never will; or it was undone and the step is settled, which comes to the same; or an operator
    /// has ended the saga while the record was damaged: then nobody knows what happened, and nothing will any more.
    Cancelled,
}

/// What a participant remembers of one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperationRecord<O, R> {
    /// What happened.
    pub history: History<O, R>,
    /// Whether the saga's end has been told here.
    pub settled: bool,
    /// The latest deadline that any request of this step has named.
    pub deadline: Deadline,
}

impl<O, R> OperationRecord<O, R> {
    /// What the barrier looks at.
    pub fn standing(&self) -> Standing {
        let state = match self.history {
            History::Applied { .. } => State::Applied,
            History::Undone { .. } => State::Undone,
            History::Cancelled => State::Cancelled,
        };
        Standing { state, settled: self.settled }
    }

    /// The operation, as long as it is remembered.
    pub fn operation(&self) -> Option<&O> {
        match &self.history {
            History::Applied { operation, .. } | History::Undone { operation } => Some(operation),
            History::Cancelled => None,
        }
    }
}

impl<O: Stored, R: Stored> OperationRecord<O, R> {
    /// Reads a step's record.
    ///
    /// # Errors
    /// The store can't be read, or the record is damaged.
    pub fn read(id: &StepId, tx: &Tx<'_>, boots: &Boots) -> Result<Option<Self>, StoreError> {
        let key = key_of(id);
        let Some(value) = tx.get(&key)? else { return Ok(None) };
        Self::decode(&value, boots).map(Some).map_err(|e| StoreError::damaged(&key, e))
    }

    /// Reads a record that was found.
    ///
    /// # Errors
    /// It is damaged.
    pub fn of(row: &Found, boots: &Boots) -> Result<Self, StoreError> {
        let value = row.value.as_ref().map_err(|e| *e);
        value.and_then(|value| Self::decode(value, boots)).map_err(|e| StoreError::damaged(&row.key, e))
    }

    /// Writes it.
    ///
    /// # Errors
    /// Its deadline counts by a boot that the store has not seen, which no request can bring about: only deadlines
    /// of the present boot are ever taken over.
    pub fn write(&self, id: &StepId, tx: &mut Tx<'_>, boots: &Boots) -> Result<(), StoreError> {
        let value = self.encode(boots).map_err(cant_write)?;
        tx.put(key_of(id), value);
        Ok(())
    }

    /// Writes it, unless its operation and reply are longer than [`STORED_BYTES_MAX`]. Whether they were short enough.
    ///
    /// # Errors
    /// As [`OperationRecord::write`].
    pub fn write_if_short(&self, id: &StepId, tx: &mut Tx<'_>, boots: &Boots) -> Result<bool, StoreError> {
        let mut value = self.head(boots).map_err(cant_write)?;
        let head_bytes = value.len();
        self.put_history(&mut value);
        let is_short = value.len() - head_bytes <= STORED_BYTES_MAX;
        if is_short {
            tx.put(key_of(id), value);
        }
        Ok(is_short)
    }

    fn encode(&self, boots: &Boots) -> Result<Vec<u8>, Malformed> {
        let mut out = self.head(boots)?;
        self.put_history(&mut out);
        Ok(out)
    }

    /// What stands in front of operation and reply.
    fn head(&self, boots: &Boots) -> Result<Vec<u8>, Malformed> {
        let boot =
            boots.number_of(self.deadline.boot).ok_or(Malformed("its deadline is of an unknown boot"))?;
        let kind = match self.history {
            History::Applied { .. } => APPLIED,
            History::Undone { .. } => UNDONE,
            History::Cancelled => CANCELLED,
        };
        let mut out = Vec::with_capacity(RECORD_BYTES_USUAL);
        out.push(if self.settled { kind | SETTLED } else { kind });
        put_number(&mut out, boot);
        put_number(&mut out, self.deadline.at_ms);
        Ok(out)
    }

    fn put_history(&self, out: &mut Vec<u8>) {
        match &self.history {
            History::Applied { operation, reply } => {
                operation.store(out);
                reply.store(out);
            }
            History::Undone { operation } => operation.store(out),
            History::Cancelled => {}
        }
    }

    fn decode(bytes: &[u8], boots: &Boots) -> Result<Self, Malformed> {
        let mut fields = Fields::of(bytes);
        let kind = fields.byte()?;
        let boot = boots.numbered(fields.number()?).ok_or(Malformed("its deadline is of an unknown boot"))?;
        let deadline = Deadline { boot, at_ms: fields.number()? };
        let history = match kind & !SETTLED {
            APPLIED => History::Applied { operation: O::load(&mut fields)?, reply: R::load(&mut fields)? },
            UNDONE => History::Undone { operation: O::load(&mut fields)? },
            CANCELLED => History::Cancelled,
            _ => return Err(Malformed("it is of an unknown kind")),
        };
        fields.end()?;
        Ok(Self { history, settled: kind & SETTLED != 0, deadline })
    }
}

fn cant_write(why: Malformed) -> StoreError {
    StoreError::failed("write an operation record", why)
}

/// Where all records are.
pub fn all() -> KeyRange {
    KeyRange::prefix(&[TAG])
}

/// Where a step's record is.
pub fn key_of(id: &StepId) -> Key {
    let mut key = [TAG; 18];
    key[1..17].copy_from_slice(id.saga.as_bytes());
    key[17] = id.step;
    Key::from_slice(&key)
}

/// Whose record is under a key.
///
/// # Errors
/// The key is not that of a record.
pub fn id_of(key: &[u8]) -> Result<StepId, StoreError> {
    let parse = || {
        let mut fields = Fields::of(key);
        fields.byte()?;
        let id = StepId { saga: SagaId::from_bytes(fields.array()?), step: fields.byte()? };
        fields.end()?;
        Ok(id)
    };
    parse().map_err(|e| StoreError::damaged(key, e))
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::BootId;
    use like_protocol::likes::user::{LikeTarget, UserOperation, UserReply};
    use like_protocol::likes::{ArticleId, UserId};

    use super::*;
    use crate::store::MemoryStore;

    type Record = OperationRecord<UserOperation, UserReply>;

    const BOOT: BootId = BootId::from_bytes([9; 16]);

    fn boots() -> Boots {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let (mut boots, _) = Boots::load(&tx).unwrap();
        boots.enter(BootId::from_bytes([8; 16]), &mut tx);
        boots.enter(BOOT, &mut tx);
        boots
    }

    fn record(history: History<UserOperation, UserReply>, settled: bool) -> Record {
        OperationRecord { history, settled, deadline: Deadline { boot: BOOT, at_ms: 300 } }
    }

    fn operation() -> UserOperation {
        UserOperation::CreateLike(LikeTarget { user: UserId(7), article: ArticleId(1), key: None })
    }

    #[track_caller]
    fn pinned(record: &Record, golden: &[u8]) {
        assert_eq!(record.encode(&boots()).unwrap(), golden);
        assert_eq!(&Record::decode(golden, &boots()).unwrap(), record);
    }

    #[test]
    fn records_are_pinned() {
        let reply = UserReply { record: SagaId::from_bytes([0x11; 16]) };
        let applied = History::Applied { operation: operation(), reply };
        let mut golden = vec![0, 1, 172, 2, 0, 7, 1];
        golden.extend([0x11; 16]);
        pinned(&record(applied.clone(), false), &golden);
        golden[0] = 0x80;
        pinned(&record(applied, true), &golden);
        pinned(&record(History::Undone { operation: operation() }, false), &[1, 1, 172, 2, 0, 7, 1]);
        pinned(&record(History::Cancelled, false), &[2, 1, 172, 2]);
        pinned(&record(History::Cancelled, true), &[0x82, 1, 172, 2]);
    }

    #[test]
    fn keys_are_pinned_and_read_back() {
        let id = StepId { saga: SagaId::from_bytes([0x11; 16]), step: 3 };
        let mut golden = vec![1];
        golden.extend([0x11; 16]);
        golden.push(3);
        assert_eq!(key_of(&id)[..], golden);
        assert_eq!(id_of(&golden).unwrap(), id);
        assert!(id_of(&golden[..17]).is_err());
    }

    #[test]
    fn damage_is_noticed() {
        for bytes in [&[][..], &[3, 1, 172, 2], &[2, 7, 172, 2], &[2, 1, 172, 2, 0], &[1, 1, 172, 2, 0, 7]] {
            assert!(Record::decode(bytes, &boots()).is_err(), "{bytes:?}");
        }
    }
}
