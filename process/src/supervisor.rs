//! What the supervisor of a process is told: sd_notify(3), as far as it is needed here.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use tracing::debug;

/// How long a supervisor may take to have room for a message. Whoever tells it does nothing else meanwhile.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);

/// Tells the supervisor, if there is one: assignments such as `READY=1`. One that can't be told is not.
pub fn tell(assignments: &[&str]) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(e) = send(&socket, &assignments.join("\n")) {
        debug!("can't tell the supervisor: {e}");
    }
}

/// How long the supervisor waits for `WATCHDOG=1` before it ends this process, if it does.
pub fn watchdog() -> Option<Duration> {
    watchdog_of(|name| env::var(name).ok(), process::id())
}

/// Whose name begins with `@` has no file.
fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(ROOM_WAIT_MAX))?;
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

fn watchdog_of(variable: impl Fn(&str) -> Option<String>, own_pid: u32) -> Option<Duration> {
    if variable("WATCHDOG_PID").is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let wait_us = variable("WATCHDOG_USEC")?.parse().ok()?;
    // systemd would not say so, and others may: a beat at every turn would take all of a processor.
    Some(Duration::from_micros(wait_us)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_supervisor_is_told_by_its_path_and_by_a_name_without_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let name = format!("like-process/{}", process::id());
        let unnamed = SocketAddr::from_abstract_name(&name).unwrap();
        for (supervisor, told) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&unnamed).unwrap(), format!("@{name}").into()),
        ] {
            send(&told, "READY=1").unwrap();
            let mut message = [0; 16];
            let length = supervisor.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"READY=1");
        }
        assert!(send(OsStr::new("/no/such/directory/s"), "READY=1").is_err());
    }

    #[test]
    fn a_supervisor_that_reads_nothing_holds_nobody_up_for_long() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let (told, end) = mpsc::channel();
        thread::spawn(move || {
            let refused =
                std::iter::repeat_with(|| send(path.as_os_str(), "WATCHDOG=1")).find_map(Result::err);
            told.send(refused.unwrap().kind()).unwrap();
        });
        let refused = end.recv_timeout(30 * ROOM_WAIT_MAX).expect("an end");
        assert_eq!(refused, io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_watchdog_is_one_that_waits_for_this_process_and_for_some_time() {
        let wait_us = |usec: Option<&'static str>, pid: Option<&'static str>| {
            let variable = |name: &str| if name == "WATCHDOG_PID" { pid } else { usec }.map(str::to_owned);
            watchdog_of(variable, 7).map(|wait| wait.as_micros())
        };
        assert_eq!(wait_us(Some("300"), None), Some(300));
        assert_eq!(wait_us(Some("300"), Some("7")), Some(300));
        assert_eq!(wait_us(Some("300"), Some("8")), None, "another process's");
        assert_eq!(wait_us(Some("300"), Some("seven")), None);
        assert_eq!(wait_us(Some("0"), None), None);
        assert_eq!(wait_us(Some("soon"), None), None);
        assert_eq!(wait_us(None, Some("7")), None);
    }
}
