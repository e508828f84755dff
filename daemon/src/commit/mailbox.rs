//! Where the answers of a session go.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use like_protocol::message::Reply;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::unsent::{Unsent, UnsentBytes};

/// A durable answer on its way to its session.
#[derive(Debug)]
pub struct Answer {
    /// What the client is told.
    pub reply: Reply,
    /// Counts the answer's bytes; to be dropped when they have been sent.
    pub unsent: Unsent,
}

/// A session, as whoever answers its requests sees it. It bounds how many requests it has on their way, and so what waits here.
#[derive(Debug)]
pub struct Mailbox {
    answers: UnboundedSender<Answer>,
    /// Of its answers, those that it has not sent.
    pub unsent: UnsentBytes,
    /// The turn of its latest read, for the queue alone.
    pub(super) turn: AtomicU64,
}

impl Mailbox {
    /// A new session's, and what comes out of it.
    pub fn open() -> (Arc<Self>, UnboundedReceiver<Answer>) {
        let (answers, receiver) = unbounded_channel();
        (Arc::new(Self { answers, unsent: UnsentBytes::default(), turn: AtomicU64::default() }), receiver)
    }

    /// Hands the session an answer. One that is gone asks again, if it matters to it, on a new connection.
    pub fn put(&self, answer: Answer) {
        let _gone = self.answers.send(answer);
    }
}
