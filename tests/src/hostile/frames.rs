//! Frames, in both directions.

use futures::{SinkExt, StreamExt};
use like_protocol::codec::{client_end, daemon_end};
use like_protocol::message::{FromDaemon, ToDaemon};

/// The first byte says which way; the rest is what comes in. What is read as messages is written again and read as the
/// same; whatever comes behind something that is none is not looked at.
pub fn frames(data: &[u8]) {
    let Some((way, bytes)) = data.split_first() else { return };
    super::run(async {
        if way % 2 == 0 {
            let (read, _) = daemon_end(bytes, tokio::io::sink());
            let found: Vec<_> = read.collect().await;
            assert!(found.iter().rev().skip(1).all(Result::is_ok), "something was read behind nonsense");
            let messages: Vec<ToDaemon> = found.into_iter().flatten().collect();
            let mut written = Vec::new();
            let (_, mut write) = client_end(tokio::io::empty(), &mut written);
            for message in &messages {
                write.feed(message.clone()).await.expect("what was read can be written");
            }
            write.flush().await.expect("memory takes everything");
            drop(write);
            let (again, _) = daemon_end(&*written, tokio::io::sink());
            let again: Vec<_> = again.map(|message| message.expect("a message")).collect().await;
            assert_eq!(again, messages);
        } else {
            let (read, _) = client_end(bytes, tokio::io::sink());
            let found: Vec<_> = read.collect().await;
            assert!(found.iter().rev().skip(1).all(Result::is_ok), "something was read behind nonsense");
            let messages: Vec<FromDaemon> = found.into_iter().flatten().collect();
            let mut written = Vec::new();
            let (_, mut write) = daemon_end(tokio::io::empty(), &mut written);
            for message in &messages {
                write.feed(message.clone()).await.expect("what was read can be written");
            }
            write.flush().await.expect("memory takes everything");
            drop(write);
            let (again, _) = client_end(&*written, tokio::io::sink());
            let again: Vec<_> = again.map(|message| message.expect("a message")).collect().await;
            assert_eq!(again, messages);
        }
    });
}
