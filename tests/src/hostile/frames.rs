//! Frames, in both directions.

use std::fmt::Debug;

use futures::{Sink, SinkExt, Stream, StreamExt};
use like_protocol::codec::{client_end, daemon_end};
use like_protocol::message::{FromDaemon, ToDaemon};

/// The first byte says which way; the rest is what comes in. What is read as messages is written again and read as the
/// same; whatever comes behind something that is none is not looked at.
pub fn frames(data: &[u8]) {
    let Some((way, bytes)) = data.split_first() else { return };
    super::run(async {
        let mut written = Vec::new();
        if way % 2 == 0 {
            let messages: Vec<ToDaemon> = said(daemon_end(bytes, tokio::io::sink()).0).await;
            send(client_end(tokio::io::empty(), &mut written).1, &messages).await;
            assert_eq!(all(daemon_end(&*written, tokio::io::sink()).0).await, messages);
        } else {
            let messages: Vec<FromDaemon> = said(client_end(bytes, tokio::io::sink()).0).await;
            send(daemon_end(tokio::io::empty(), &mut written).1, &messages).await;
            assert_eq!(all(client_end(&*written, tokio::io::sink()).0).await, messages);
        }
    });
}

/// The messages before what is none.
async fn said<M, E>(read: impl Stream<Item = Result<M, E>>) -> Vec<M> {
    let found: Vec<_> = read.collect().await;
    assert!(found.iter().rev().skip(1).all(Result::is_ok), "something was read behind nonsense");
    found.into_iter().flatten().collect()
}

async fn all<M, E: Debug>(read: impl Stream<Item = Result<M, E>>) -> Vec<M> {
    read.map(|message| message.expect("a message")).collect().await
}

async fn send<M: Clone, E: Debug>(mut write: impl Sink<M, Error = E> + Unpin, messages: &[M]) {
    for message in messages {
        write.feed(message.clone()).await.expect("what was read can be written");
    }
    write.flush().await.expect("memory takes everything");
}
