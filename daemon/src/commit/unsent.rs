//! A bound on answers that wait for slow readers.
//!
//! Most answers are a few bytes, but a page of a list can have hundreds of kilobytes, and a client may ask for many and
//! read none. All sessions together may leave so much unread; past it, reads are answered with `busy`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use like_protocol::message::ReplyBody;

/// How many bytes of answers may be unsent before reads are put off. One group more may come on top.
pub const UNSENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Counts the bytes of all answers that are not sent yet.
#[derive(Clone, Default, Debug)]
pub struct UnsentTotal(Arc<AtomicUsize>);

/// One answer's part of the total; dropped when the answer is sent or its session is gone.
#[derive(Debug)]
pub struct Unsent {
    total: UnsentTotal,
    bytes: usize,
}

impl UnsentTotal {
    /// Counts an answer.
    pub fn count(&self, reply: &ReplyBody) -> Unsent {
        let bytes = match reply {
            ReplyBody::Answer(payload) | ReplyBody::Rejected(payload) => payload.0.len(),
            ReplyBody::Unsettled(steps) => size_of_val(steps.as_slice()),
            _ => 0,
        };
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Unsent { total: self.clone(), bytes }
    }

    /// Whether so much is unsent that reads are put off.
    pub fn is_too_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) > UNSENT_BYTES_MAX
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.total.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::message::Payload;

    use super::*;

    #[test]
    fn answers_count_until_they_are_dropped() {
        let total = UnsentTotal::default();
        let page = ReplyBody::Answer(Payload::from(vec![0; UNSENT_BYTES_MAX / 2 + 1]));
        let first = total.count(&page);
        assert!(!total.is_too_much());
        let second = total.count(&page);
        assert!(total.is_too_much());
        drop(first);
        assert!(!total.is_too_much());
        drop(second);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }
}
