//! Who is at the other end of a connection, as the kernel says.
//!
//! The socket's mode decides first who can connect at all; this check holds whatever the mode. The primary group of
//! a peer comes with `SO_PEERCRED`, its other groups with `SO_PEERGROUPS`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use tokio::net::UnixStream;

/// The credentials of a peer as they were when it connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its groups: the primary one first, then the supplementary ones.
    pub gids: Vec<u32>,
    /// Its process, if it can be seen from here.
    pub pid: Option<i32>,
}

impl Peer {
    /// Asks the kernel who is at the other end of `stream`.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let mut gids = vec![credentials.gid()];
        gids.extend(supplementary_groups(stream.as_fd())?);
        Ok(Self { uid: credentials.uid(), gids, pid: credentials.pid() })
    }
}

/// Who may speak to this daemon. Its own user and root always may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowed {
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Allowed {
    /// The daemon's own user, root, `uids`, and members of `gids`.
    pub fn new(uids: Vec<u32>, gids: Vec<u32>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self { uids: uids.into_iter().chain([own, 0]).collect(), gids }
    }

    /// Whether `peer` may speak.
    pub fn admits(&self, peer: &Peer) -> bool {
        self.uids.contains(&peer.uid) || peer.gids.iter().any(|gid| self.gids.contains(gid))
    }
}

/// The supplementary groups of the process at the other end of a Unix socket.
fn supplementary_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // Enough for nearly everybody; the kernel says how many there are if it is not.
    let mut room = 64;
    loop {
        let mut groups: Vec<libc::gid_t> = vec![0; room];
        let mut bytes =
            libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: `groups` is writable for `bytes` bytes, and `bytes` is a valid length for the kernel to replace.
        // Both outlive the call, and the borrowed descriptor is open.
        #[allow(unsafe_code)]
        let returned = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let found = bytes as usize / size_of::<libc::gid_t>();
        if returned == 0 {
            groups.truncate(found);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || found <= room {
            return Err(error);
        }
        room = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gids: &[u32]) -> Peer {
        Peer { uid, gids: gids.to_vec(), pid: None }
    }

    #[test]
    fn root_and_the_daemons_own_user_are_always_admitted() {
        let nobody_else = Allowed::new(Vec::new(), Vec::new());
        assert!(nobody_else.admits(&peer(0, &[0])));
        assert!(nobody_else.admits(&peer(rustix::process::geteuid().as_raw(), &[77])));
        assert!(!nobody_else.admits(&peer(12345, &[12345])));
    }

    #[test]
    fn users_and_groups_are_admitted_supplementary_groups_too() {
        let allowed = Allowed::new(vec![1001], vec![2001]);
        assert!(allowed.admits(&peer(1001, &[1])));
        assert!(allowed.admits(&peer(1002, &[2001])));
        assert!(allowed.admits(&peer(1002, &[1, 5, 2001])));
        assert!(!allowed.admits(&peer(1002, &[1, 5])));
    }

    #[tokio::test]
    async fn the_kernel_tells_who_a_peer_is() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gids[0], rustix::process::getegid().as_raw());
        let own: Vec<_> = rustix::process::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(peer.gids[1..], own);
    }
}
