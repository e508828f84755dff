//! A client's connection, with anything at its other end.

use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt;
use like_client::rpc::{Dial, Remote};
use like_protocol::codec::daemon_end;
use like_protocol::ids::StoreId;
use like_protocol::message::{FromDaemon, MAGIC, PROTOCOL_VERSION, RequestBody, ServerHello, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::session::{NOW, Still};

/// Far longer than bytes in memory take: whoever waits for so long waits in vain.
const LONG: Duration = Duration::from_secs(20);

/// The other end says this at once, and that when it has heard something.
fn says(at_once: Vec<u8>, then: Vec<u8>) -> Dial {
    Dial::new("memory", move || {
        let (at_once, then) = (at_once.clone(), then.clone());
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (mut read, mut write) = tokio::io::split(theirs);
        tokio::spawn(async move {
            // The client may be gone before it has heard everything, and is listened to until then.
            let _gone = write.write_all(&at_once).await;
            if !then.is_empty() {
                let _gone = read.read_u8().await;
                let _gone = write.write_all(&then).await;
            }
            let _gone = write.shutdown().await;
            let _gone = read.read_to_end(&mut Vec::new()).await;
        });
        std::future::ready(Ok(ours))
    })
}

/// A daemon that says anything: the client gets an answer to what it asked, or says why it has none.
pub fn client(data: &[u8]) {
    super::run(async {
        let hello = welcome().await;
        let mut at_once = super::stream(data, hello.clone());
        let then = if at_once.starts_with(&hello) { at_once.split_off(hello.len()) } else { Vec::new() };
        let remote = Remote::new("article", says(at_once, then), Arc::new(Still));
        let Ok(connection) = remote.connect(LONG).await else { return };
        assert_eq!((connection.welcome().role.as_str(), connection.welcome().magic), ("article", MAGIC));
        let calls = (0..3).map(|_| connection.call(RequestBody::Status, LONG));
        let answers = tokio::time::timeout(LONG, futures::future::join_all(calls)).await;
        assert!(answers.is_ok(), "the other end is gone, and a call still waits");
    });
}

async fn welcome() -> Vec<u8> {
    let welcome = Welcome {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        role: "article".to_owned(),
        store: StoreId::from_bytes([3; 16]),
        now: NOW,
        software: "fuzz".to_owned(),
    };
    let mut bytes = Vec::new();
    let (_, mut write) = daemon_end(tokio::io::empty(), &mut bytes);
    write.send(FromDaemon::Hello(ServerHello::Welcome(welcome))).await.expect("memory takes everything");
    drop(write);
    bytes
}
