use std::fs;
use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// `EPOLLIN` and `EPOLLOUT`.
const IN: u32 = 0x1;
const OUT: u32 = 0x4;

/// More than a socket holds.
const MUCH: usize = 4 * 1024 * 1024;

/// What the kernel is asked to tell of a socket.
fn asked_of(socket: &Socket) -> u32 {
    asked(socket.watched().unwrap().as_raw_fd())
}

fn pair() -> (Socket, Socket) {
    let (one, other) = tokio::net::UnixStream::pair().unwrap();
    (Socket::new(one).unwrap(), Socket::new(other).unwrap())
}

/// What the kernel is asked to tell of a descriptor: nothing if it is asked for nothing. The kernel itself says so.
fn asked(descriptor: i32) -> u32 {
    let mut events = 0;
    for file in fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        // One that was closed meanwhile is none of ours.
        for line in fs::read_to_string(file.path()).unwrap_or_default().lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            if let ["tfd:", watched, "events:", mask, ..] = words[..]
                && watched == descriptor.to_string()
            {
                events |= u32::from_str_radix(mask, 16).unwrap() & (IN | OUT);
            }
        }
    }
    events
}

/// Some bytes that are not all alike.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn a_socket_that_has_room_is_watched_for_what_comes_and_for_nothing_else() {
    let (mut ours, mut theirs) = pair();
    ours.write_all(b"request").await.unwrap();
    let mut received = [0; 7];
    theirs.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"request");
    for socket in [&ours, &theirs] {
        assert_eq!(asked_of(socket), IN);
    }
}

#[tokio::test]
async fn a_writer_without_room_waits_for_it_and_then_no_more() {
    let (mut ours, mut theirs) = pair();
    let sent = bytes(MUCH);
    let mut received = vec![0; MUCH];
    {
        let mut writing = std::pin::pin!(ours.write_all(&sent));
        let waited = tokio::time::timeout(Duration::from_millis(50), &mut writing).await;
        assert!(waited.is_err(), "a socket holds {MUCH} bytes");
        let (written, read) = tokio::join!(writing, theirs.read_exact(&mut received));
        written.and(read).unwrap();
    }
    assert!(received == sent, "other bytes were received than were sent");
    assert_eq!(asked_of(&ours), IN, "it is watched for room that it has");
}

#[tokio::test]
async fn while_it_waits_it_is_watched_for_both_and_takes_no_other_descriptor() {
    let (mut ours, _theirs) = pair();
    let descriptor = ours.watched().unwrap().as_raw_fd();
    let waited = tokio::time::timeout(Duration::from_millis(50), ours.write_all(&bytes(MUCH))).await;
    assert!(waited.is_err(), "a socket holds {MUCH} bytes");
    assert_eq!((ours.watched().unwrap().as_raw_fd(), asked_of(&ours)), (descriptor, IN | OUT));
}

/// Two that send each other more than a socket holds, each by a task that reads and one that writes: whoever reads must go on
/// hearing of what comes while the other waits for room, or both wait for ever.
#[tokio::test]
async fn who_reads_beside_a_writer_that_waits_hears_of_what_comes() {
    let (ours, theirs) = pair();
    let tasks = [ours, theirs].map(|socket| {
        let (mut read, mut write) = tokio::io::split(socket);
        let writing = tokio::spawn(async move { write.write_all(&bytes(MUCH)).await.map(|()| write) });
        let reading = tokio::spawn(async move {
            let mut received = vec![0; MUCH];
            read.read_exact(&mut received).await.map(|_| (received, read))
        });
        async move {
            let (_write, (received, _read)) =
                (writing.await.unwrap().unwrap(), reading.await.unwrap().unwrap());
            assert!(received == bytes(MUCH), "other bytes were received than were sent");
        }
    });
    let both = futures::future::join_all(tasks);
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("both wait for ever");
}

#[tokio::test]
async fn a_waiting_reader_hears_of_every_message_however_it_is_cut() {
    let (mut ours, mut theirs) = pair();
    let whole = bytes(100_000);
    let write = async {
        let mut left = whole.as_slice();
        let mut length = 1;
        while !left.is_empty() {
            let (piece, rest) = left.split_at(length.min(left.len()));
            ours.write_all(piece).await.unwrap();
            left = rest;
            length = length * 7 % 1999 + 1;
            // Now the reader has taken all there is and waits, now it is in the middle of it.
            for _ in 0..length % 3 {
                tokio::task::yield_now().await;
            }
        }
        drop(ours);
    };
    let read = async {
        let (mut received, mut chunk) = (Vec::new(), [0; 512]);
        loop {
            match theirs.read(&mut chunk).await.unwrap() {
                0 => return received,
                count => received.extend_from_slice(&chunk[..count]),
            }
        }
    };
    let ((), received) = tokio::join!(write, read);
    assert!(received == whole, "{} of {} bytes, or others", received.len(), whole.len());
}

/// The kernel tells of it once, however much of it is taken at a time.
#[tokio::test]
async fn what_has_come_at_once_is_read_to_its_end_in_pieces() {
    let (mut ours, mut theirs) = pair();
    theirs.write_all(&bytes(64)).await.unwrap();
    let mut received = Vec::new();
    for _ in 0..4 {
        let mut piece = [0; 16];
        let reading = tokio::time::timeout(Duration::from_secs(20), ours.read_exact(&mut piece));
        reading.await.expect("it waits for what is there").unwrap();
        received.extend(piece);
    }
    assert_eq!(received, bytes(64));
}

#[tokio::test]
async fn whoever_waits_for_a_peer_that_leaves_without_reading_is_told() {
    let (mut ours, theirs) = pair();
    ours.write_all(b"never read").await.unwrap();
    drop(theirs);
    let mut received = [0; 8];
    let reading = tokio::time::timeout(Duration::from_secs(20), ours.read(&mut received));
    let broken = reading.await.expect("it waits for whoever is gone").unwrap_err();
    assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_end_is_told_to_a_reader_as_often_as_it_asks_and_to_a_writer() {
    let (mut ours, mut theirs) = pair();
    theirs.write_all(b"last").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut received = Vec::new();
    ours.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"last");
    assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
    ours.write_all(b"it was shut one way only").await.unwrap();
    drop(theirs);
    let refused = ours.write_all(b"nobody there").await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_writer_that_waits_is_told_when_its_peer_goes() {
    let (mut ours, theirs) = pair();
    let much = bytes(MUCH);
    let gone = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(theirs);
    };
    let (written, ()) = tokio::join!(ours.write_all(&much), gone);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

/// How often a future that is never ready is polled within 50 ms.
async fn polls(future: impl Future) -> u32 {
    let mut polls = 0;
    let mut future = std::pin::pin!(future);
    let counting = std::future::poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx)
    });
    assert!(tokio::time::timeout(Duration::from_millis(50), counting).await.is_err(), "it is ready");
    polls
}

#[tokio::test]
async fn whoever_waits_sleeps() {
    let (mut ours, mut theirs) = pair();
    // What has come and was taken is no reason to look again.
    theirs.write_all(b"all").await.unwrap();
    ours.read_exact(&mut [0; 3]).await.unwrap();
    let looked = polls(ours.read_exact(&mut [0; 3])).await;
    let tried = polls(ours.write_all(&bytes(MUCH))).await;
    // Once to begin with, once more for what the runtime was told before that, and when the time is over.
    assert!(looked <= 4 && tried <= 4, "{looked} and {tried} times");
}
