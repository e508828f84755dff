//! How a service says it is.

use like_protocol::message::DaemonStatus;
use serde::Serialize;

/// How a service says it is. The JSON form is public.
#[derive(Clone, PartialEq, Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServiceStatus {
    /// Its version.
    pub version: String,
    /// Which store it serves.
    pub store_id: String,
    /// Its process id.
    pub pid: u32,
    /// For how long it has been ready.
    pub up_ms: u64,
    /// Open connections.
    pub connections: u32,
    /// Requests that wait in its queue.
    pub queued: u32,
    /// How many may wait there.
    pub queue_limit: u32,
    /// Steps that are not settled.
    pub unsettled: u64,
    /// Groups made durable since it started.
    pub groups: u64,
    /// Requests that those groups held.
    pub committed: u64,
    /// Bytes that its store takes on disk.
    pub store_bytes: u64,
    /// Bytes free on the store's file system.
    pub free_bytes: u64,
    /// Whether new actions are refused for want of disk space.
    pub storage_low: bool,
    /// How many rows of its store it has found damaged. `likectl status` names them.
    pub damaged: u64,
}

impl From<&DaemonStatus> for ServiceStatus {
    fn from(status: &DaemonStatus) -> Self {
        Self {
            version: status.software.clone(),
            store_id: status.store.to_string(),
            pid: status.pid,
            up_ms: status.up_ms,
            connections: status.connections,
            queued: status.queued,
            queue_limit: status.queue_limit,
            unsettled: status.unsettled,
            groups: status.groups,
            committed: status.committed,
            store_bytes: status.store_bytes,
            free_bytes: status.free_bytes,
            storage_low: status.storage_low,
            damaged: status.damaged,
        }
    }
}
