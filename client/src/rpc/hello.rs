//! The daemon's hello: read first, checked in full, before anything is sent.

use std::time::Duration;

use futures::StreamExt;
use like_protocol::codec::ReplyReader;
use like_protocol::message::{FromDaemon, MAGIC, PROTOCOL_VERSION, ServerHello, TurnedAway, Welcome};
use like_protocol::time::Now;
use tokio::io::AsyncRead;

use super::error::{Unreachable, UnreachableKind};

/// How far a daemon's boot clock may seem to be from ours. Both read one kernel's clock; only another time namespace or
/// another kernel makes a difference, and deadlines would mean different moments on the two sides then.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(1);

/// Reads the first message.
pub(super) async fn read<R: AsyncRead + Unpin>(
    reader: &mut ReplyReader<R>,
    role: &'static str,
    target: &str,
) -> Result<ServerHello, Unreachable> {
    let failed = |kind, message| Err(Unreachable::new(role, kind, message));
    match reader.next().await {
        Some(Ok(FromDaemon::Hello(hello))) => Ok(hello),
        Some(Ok(FromDaemon::Reply(_))) => failed(
            UnreachableKind::Incompatible,
            format!("what answers at {target} does not begin with a hello: it is no {role} service"),
        ),
        Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => closed(role, target),
        Some(Err(error)) => failed(
            UnreachableKind::Incompatible,
            format!("what answers at {target} speaks another protocol: it is no {role} service ({error})"),
        ),
        None => closed(role, target),
    }
}

fn closed(role: &'static str, target: &str) -> Result<ServerHello, Unreachable> {
    let message = format!("the {role} service at {target} closed the connection before it said anything");
    Err(Unreachable::new(role, UnreachableKind::Closed, message))
}

/// Checks a hello that was read between `before` (the dial) and `after`. The daemon read its clock in between, so a
/// process that was stopped for a while in the middle sees no skew where there is none.
pub(super) fn check(
    hello: ServerHello,
    role: &'static str,
    target: &str,
    before: Now,
    after: Now,
) -> Result<Welcome, Unreachable> {
    let failed = |kind, message| Err(Unreachable::new(role, kind, message));
    let welcome = match hello {
        ServerHello::Welcome(welcome) => welcome,
        ServerHello::Turned { magic, .. } if magic != MAGIC => return foreign(role, target),
        ServerHello::Turned { away: TurnedAway::TooManyConnections, .. } => {
            let message = format!("the {role} service at {target} has as many connections as it allows");
            return failed(UnreachableKind::TooManyConnections, message);
        }
        ServerHello::Turned { away: TurnedAway::NotAllowed, .. } => {
            let message = format!("the {role} service at {target} does not serve this user or its groups");
            return failed(UnreachableKind::PermissionDenied, message);
        }
    };
    if welcome.magic != MAGIC {
        return foreign(role, target);
    }
    if welcome.protocol != PROTOCOL_VERSION {
        let message = format!(
            "the {role} service at {target} speaks protocol {}, this program {PROTOCOL_VERSION}",
            welcome.protocol
        );
        return failed(UnreachableKind::Incompatible, message);
    }
    if welcome.role != role {
        let message = format!("{target} belongs to the {} service, not to the {role} service", welcome.role);
        return failed(UnreachableKind::WrongRole, message);
    }
    if !is_our_clock(&welcome.now, &before, &after) {
        let message = format!(
            "the boot clock of the {role} service at {target} is not this process's \
             (another time namespace, or another machine behind the socket?)"
        );
        return failed(UnreachableKind::ClockSkew, message);
    }
    Ok(welcome)
}

fn foreign(role: &'static str, target: &str) -> Result<Welcome, Unreachable> {
    let message = format!("what answers at {target} is no {role} service");
    Err(Unreachable::new(role, UnreachableKind::Incompatible, message))
}

fn is_our_clock(theirs: &Now, before: &Now, after: &Now) -> bool {
    let skew_ms = u64::try_from(CLOCK_SKEW_MAX.as_millis()).unwrap_or(u64::MAX);
    let same_boot = theirs.boot == before.boot && theirs.boot == after.boot;
    let earliest = before.at_ms.saturating_sub(skew_ms);
    let latest = after.at_ms.saturating_add(skew_ms);
    same_boot && (earliest..=latest).contains(&theirs.at_ms)
}
