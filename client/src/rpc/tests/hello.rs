//! The hello: who is taken for the participant, and who is not.

use like_protocol::message::TurnedAway;
use tokio::net::UnixStream;

use super::*;

async fn turned_away_by(hello: ServerHello) -> Unreachable {
    let (remote, prepared) = remote();
    let stream = prepared.stream();
    let (connected, mut daemon) = tokio::join!(remote.connect(SOON), Daemon::greeting(stream, hello));
    let unreachable = connected.err().unwrap();
    assert!(daemon.reader.next().await.is_none(), "something was sent all the same");
    assert_eq!(remote.last_welcome(), None);
    unreachable
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_hello_has_been_read() {
    let (remote, prepared) = remote();
    let mut stream = prepared.stream();
    let unreachable = remote.connect(SOON).await.err().unwrap();
    assert_eq!(unreachable.kind, UnreachableKind::NoHello);
    drop(remote);
    let mut sent = Vec::new();
    stream.read_to_end(&mut sent).await.unwrap();
    assert_eq!(sent, b"");
}

#[tokio::test]
async fn whoever_turns_us_away_is_told_apart() {
    let turned = |away| ServerHello::Turned { magic: MAGIC, away };
    let full = turned_away_by(turned(TurnedAway::TooManyConnections)).await;
    assert_eq!(full.kind, UnreachableKind::TooManyConnections);
    let forbidden = turned_away_by(turned(TurnedAway::NotAllowed)).await;
    assert_eq!(forbidden.kind, UnreachableKind::PermissionDenied);
    let foreign = ServerHello::Turned { magic: *b"HTTP", away: TurnedAway::NotAllowed };
    assert_eq!(turned_away_by(foreign).await.kind, UnreachableKind::Incompatible);
}

#[tokio::test]
async fn the_wrong_peer_gets_nothing() {
    let other_role = Welcome { role: "user".to_owned(), ..welcome() };
    assert_eq!(turned_away_by(ServerHello::Welcome(other_role)).await.kind, UnreachableKind::WrongRole);
    let newer = Welcome { protocol: PROTOCOL_VERSION + 1, ..welcome() };
    assert_eq!(turned_away_by(ServerHello::Welcome(newer)).await.kind, UnreachableKind::Incompatible);
    let foreign = Welcome { magic: *b"HTTP", ..welcome() };
    assert_eq!(turned_away_by(ServerHello::Welcome(foreign)).await.kind, UnreachableKind::Incompatible);
}

#[tokio::test]
async fn what_speaks_another_protocol_is_told_from_what_closes_before_its_hello() {
    let (remote, prepared) = remote();
    let mut foreign = prepared.stream();
    foreign.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    assert_eq!(remote.connect(SOON).await.err().unwrap().kind, UnreachableKind::Incompatible);

    // It has not read what had come when it closes.
    let resets = Dial::new("reset", || async {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(b"unread").await?;
        drop(theirs);
        Ok(ours)
    });
    let remote = Remote::new("article", resets, Arc::new(FixedClock(0)));
    assert_eq!(remote.connect(SOON).await.err().unwrap().kind, UnreachableKind::Closed);
}

#[tokio::test]
async fn a_clock_that_is_not_ours_is_refused() {
    let skewed = |boot, at_ms| ServerHello::Welcome(Welcome { now: Now { boot, at_ms }, ..welcome() });
    for hello in [skewed(BOOT, 8_999), skewed(BOOT, 11_001), skewed(BootId::from_bytes([2; 16]), 10_000)] {
        assert_eq!(turned_away_by(hello).await.kind, UnreachableKind::ClockSkew);
    }
    for at_ms in [9_000, 11_000] {
        let (remote, prepared) = remote();
        let stream = prepared.stream();
        let (connected, _daemon) =
            tokio::join!(remote.connect(SOON), Daemon::greeting(stream, skewed(BOOT, at_ms)));
        assert!(connected.is_ok(), "{at_ms}");
    }
}
