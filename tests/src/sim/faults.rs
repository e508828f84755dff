//! What can go wrong, and how often it did.

use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// A client process is killed between two of its steps.
    ClientKilled,
    /// A daemon is.
    DaemonKilled,
    /// A process dies at one of its operations on disk, store or network, before or after that took effect.
    KilledAtOperation,
    /// The host loses power at such an operation.
    PowerLostAtOperation,
    /// Recovery, or an operator's command, is killed.
    RecoveryKilled,
    /// The host loses power.
    PowerLost,
    /// A process is stopped for a while.
    Stopped,
    /// A connection breaks, with bytes on their way that never arrive: mostly in the middle of a frame.
    ConnectionCut,
    /// Bytes take far longer than usual.
    BytesLate,
    /// Requests that were sent once arrive again on another connection, some left out, in any order.
    RequestsReplayed,
    /// An append to the saga log is refused: the disk is full.
    DiskFull,
    /// An append is cut short.
    WriteShort,
    /// A sync of the saga log fails.
    SyncFailed,
    /// A file of the saga log can't be read for once.
    ReadFailed,
    /// A daemon's store fails to write.
    StoreWriteFailed,
    /// A daemon's store fails to sync.
    StoreSyncFailed,
    /// A daemon is short of disk space.
    StorageLow,
    /// A crash takes writes of a store that were not synced.
    BatchesLost,
    /// A store's disk is full.
    StoreDiskFull,
    /// A store's base fails to write or to sync.
    BaseFailed,
    /// A crash takes writes of a store's base that were not synced.
    BaseBatchesLost,
    /// A power loss takes or tears writes to a store's files that were not synced.
    StoreTorn,
    /// A power loss takes the name of a store's file that was not synced.
    StoreNameLost,
    /// A power loss brings back the name of a store's file whose removal was not synced.
    StoreNameBack,
    /// A start finds a checkpoint that was cut short.
    CheckpointCutShort,
    /// A daemon dies between two steps of a merge.
    MergeCutShort,
    /// A start finds blocks of a run that a checkpoint or a merge was not done with, or that was not removed to its end.
    RunCutShort,
    /// A start is cut short while it opens the store.
    StartCutShort,
    /// A power loss takes or tears bytes of the saga log that were not synced.
    LogTorn,
    /// A power loss takes the name of a file or directory that was not synced.
    NameLost,
    /// A power loss brings back the name of a file whose removal was not synced.
    NameBack,
    /// A caller stops waiting for its answer.
    CallerGone,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 32] = [
        Self::ClientKilled,
        Self::DaemonKilled,
        Self::KilledAtOperation,
        Self::PowerLostAtOperation,
        Self::RecoveryKilled,
        Self::PowerLost,
        Self::Stopped,
        Self::ConnectionCut,
        Self::BytesLate,
        Self::RequestsReplayed,
        Self::DiskFull,
        Self::WriteShort,
        Self::SyncFailed,
        Self::ReadFailed,
        Self::StoreWriteFailed,
        Self::StoreSyncFailed,
        Self::StorageLow,
        Self::BatchesLost,
        Self::StoreDiskFull,
        Self::BaseFailed,
        Self::BaseBatchesLost,
        Self::StoreTorn,
        Self::StoreNameLost,
        Self::StoreNameBack,
        Self::CheckpointCutShort,
        Self::MergeCutShort,
        Self::RunCutShort,
        Self::StartCutShort,
        Self::LogTorn,
        Self::NameLost,
        Self::NameBack,
        Self::CallerGone,
    ];
}

/// A host that is not to be trusted: no program can keep its promises on it, and the oracle must say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A sync of the saga log's files that says it is done does nothing.
    LogSyncLies,
    /// Names of the saga log's files and directories are never durable.
    NamesLost,
    /// The lock of a slot is given to everybody.
    LocksShared,
    /// A sync of a store's files that says it is done does nothing.
    StoreSyncLies,
    /// Names of a store's files are never durable.
    StoreNamesLost,
    /// A store leaves out the last row of one batch in a hundred.
    RowsLost,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LogSyncLies,
        Self::NamesLost,
        Self::LocksShared,
        Self::StoreSyncLies,
        Self::StoreNamesLost,
        Self::RowsLost,
    ];
}

/// What stores do of their own accord, and faults strike in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Chore {
    /// A segment of a commit log is begun.
    SegmentBegun,
    /// A checkpoint is.
    CheckpointBegun,
    /// All that a checkpoint was for is where it belongs.
    CheckpointConcluded,
    /// Runs are begun to be merged.
    MergeBegun,
    /// Runs have been merged.
    MergeConcluded,
}

impl Chore {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::SegmentBegun,
        Self::CheckpointBegun,
        Self::CheckpointConcluded,
        Self::MergeBegun,
        Self::MergeConcluded,
    ];
}

/// How often each kind of fault had an effect, and how often stores did what faults are to strike.
#[derive(Default, Debug)]
pub struct Fired([AtomicU64; Fault::ALL.len()], [AtomicU64; Chore::ALL.len()]);

impl Fired {
    /// One more.
    pub fn count(&self, fault: Fault) {
        self.0[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often one had an effect.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize].load(Ordering::Relaxed)
    }

    /// A store has done something.
    pub fn chore(&self, chore: Chore) {
        self.1[chore as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often stores did so.
    pub fn done(&self, chore: Chore) -> u64 {
        self.1[chore as usize].load(Ordering::Relaxed)
    }

    /// Adds what another simulation counted.
    pub fn add(&self, other: &Self) {
        for fault in Fault::ALL {
            self.0[fault as usize].fetch_add(other.of(fault), Ordering::Relaxed);
        }
        for chore in Chore::ALL {
            self.1[chore as usize].fetch_add(other.done(chore), Ordering::Relaxed);
        }
    }
}
