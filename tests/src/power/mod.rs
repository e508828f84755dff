//! Power loss on real bytes: what real processes do to files is recorded, the states that a crash may leave are built
//! from that, and each is restarted on.
//!
//! * [`faults`]: what may go wrong with a disk, and how a process of `like-recorded` is told what to record or to meet.
//! * [`record`]: what processes did to files, and what they told, in order.
//! * [`stage`], [`workloads`], [`crowd`]: real daemons and runners that play while they are recorded.
//! * [`disk`]: a disk under such a record: what is certain, and what a power loss may keep, lose or tear. [`tree`]: a
//!   state that it leaves. [`losses`]: which to try.
//! * [`ledger`]: what has been promised up to any point of a record.
//! * [`restart`]: both stores are taken up, recovered, audited, and compared with the promises.
//! * [`search`], [`report`], [`command`]: all of it together.
//! * [`bulk`]: a store alone under groups of many batches.

pub mod bulk;
pub mod command;
pub mod crowd;
pub mod disk;
pub mod faults;
pub mod ledger;
pub mod losses;
pub mod record;
pub mod report;
pub mod restart;
pub mod search;
pub mod stage;
pub mod tree;
pub mod workloads;
