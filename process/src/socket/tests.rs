//! Sockets, live and stale, and their directories.

use std::os::unix::net::{UnixDatagram, UnixStream};

use super::*;

#[test]
fn a_socket_has_mode_0660_does_not_block_and_is_removed_at_the_end() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    let (listener, file) = listen(&path).unwrap();
    assert_eq!(file.path(), path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(listener);
    file.remove();
    assert!(!path.exists());
}

#[test]
fn a_path_that_no_socket_can_have_is_told_with_how_long_it_may_be() {
    let temp = tempfile::tempdir().unwrap();
    let of_length = |bytes: usize| {
        let rest = bytes - temp.path().as_os_str().len() - 1;
        temp.path().join("x".repeat(rest))
    };
    let told = listen(&of_length(PATH_MAX + 1)).unwrap_err().to_string();
    assert!(told.contains("too long: the path of a socket has at most 107 bytes"), "{told}");
    listen(&of_length(PATH_MAX)).expect("the longest is as long as the kernel allows");
}

#[test]
fn a_live_socket_is_never_stolen() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    let (_first, file) = listen(&path).unwrap();
    assert!(matches!(listen(&path), Err(SocketError::InUse(_))));
    file.remove();
    assert!(path.exists(), "nor removed");
    // Nor one whose queue of connections is full.
    let mut waiting = Vec::new();
    loop {
        let address = SocketAddrUnix::new(&path).unwrap();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let full = connect(&socket, &address).is_err();
        waiting.push(socket);
        if full {
            break;
        }
    }
    assert!(matches!(listen(&path), Err(SocketError::InUse(_))));
    // Nor one of another type.
    let other = temp.path().join("datagrams");
    let _theirs = UnixDatagram::bind(&other).unwrap();
    assert!(matches!(listen(&other), Err(SocketError::InUse(_))));
}

#[test]
fn a_stale_socket_is_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    let (first, its_file) = listen(&path).unwrap();
    drop(first);
    let _second = listen(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    its_file.remove();
    assert!(path.exists(), "the file of another socket is left alone");
}

#[test]
fn what_somebody_has_put_in_its_place_is_not_removed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    let (listener, file) = listen(&path).unwrap();
    drop(listener);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "theirs").unwrap();
    file.remove();
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}

#[test]
fn of_many_that_start_at_once_where_a_socket_is_stale_one_listens() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    for _ in 0..20 {
        let at_once = std::sync::Barrier::new(4);
        let start = || {
            at_once.wait();
            listen(&path)
        };
        let started: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (listening, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
        assert_eq!(listening.len(), 1);
        assert!(refused.iter().all(|refused| matches!(refused, Err(SocketError::InUse(_)))), "{refused:?}");
        // Dropped, and its file left: stale for the next ones.
    }
}

#[test]
fn a_directory_that_somebody_has_locked_is_not_waited_for_long() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    let (listener, file) = listen(&path).unwrap();
    let theirs = File::open(temp.path()).unwrap();
    theirs.lock().unwrap();
    let refused = listen(&temp.path().join("t")).unwrap_err();
    assert!(matches!(&refused, SocketError::Locked(directory) if directory == temp.path()), "{refused}");
    drop(listener);
    file.remove();
    assert!(path.exists(), "nothing is removed without the lock");
    // One that is held for a moment only is waited for.
    let until = thread::spawn(move || {
        thread::sleep(2 * LOCK_PAUSE);
        theirs.unlock().unwrap();
    });
    file.remove();
    assert!(!path.exists());
    until.join().unwrap();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    fs::write(&path, "letters").unwrap();
    assert!(matches!(listen(&path), Err(SocketError::NoSocket(_))));
    assert_eq!(fs::read(&path).unwrap(), b"letters");
}

#[test]
fn a_bare_name_is_one_in_the_present_directory() {
    let directories = ["s", "./s", "d/s", "/s"].map(|path| directory_of(Path::new(path)));
    assert_eq!(directories, [".", ".", "d", "/"].map(Path::new));
}

#[test]
fn a_missing_directory_is_named() {
    let refused = listen(Path::new("/no/such/directory/s")).unwrap_err().to_string();
    assert!(refused.contains("/no/such/directory/s"), "{refused}");
}

#[test]
fn what_was_accepted_already_does_not_listen() {
    let temp = tempfile::tempdir().unwrap();
    let (listener, _file) = listen(&temp.path().join("s")).unwrap();
    assert!(must_listen(&listener).is_ok());
    let (accepted, _theirs) = UnixStream::pair().unwrap();
    assert!(must_listen(&accepted).is_err());
}
