//! A bound on answers that wait for slow readers.
//!
//! Most answers are a few bytes, but a page of a list can have hundreds of kilobytes, and a client may ask for many and
//! read none. All sessions together may leave so much unread; past it, reads are answered with `busy`. As in
//! [`super::queue`], half of it is kept for sessions that have little unread, or whoever reads nothing would have everybody
//! put off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use like_protocol::message::ReplyBody;

/// How many bytes of answers may be unsent: from there on a session is answered only if it has sent all that it had. So one
/// answer for each session may come on top.
pub const UNSENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where half of that is unsent, a session that has more than one part in so many of it unsent must wait.
const LITTLE: usize = 64;

/// Counts the bytes of answers that are not sent yet: those of one session, or of all.
#[derive(Clone, Default, Debug)]
pub struct UnsentBytes(Arc<AtomicUsize>);

/// One answer's part of what is unsent; dropped when the answer is sent or its session is gone.
#[derive(Debug)]
pub struct Unsent {
    bytes: usize,
    /// Of its session, and of all.
    counts: [UnsentBytes; 2],
}

impl UnsentBytes {
    /// How many there are.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts an answer to a session, where these are all sessions' bytes.
    pub fn count(&self, session: &Self, reply: &ReplyBody) -> Unsent {
        let bytes = match reply {
            ReplyBody::Answer(payload) | ReplyBody::Rejected(payload) => payload.0.len(),
            ReplyBody::Unsettled(steps) => size_of_val(steps.as_slice()),
            _ => 0,
        };
        let counts = [session.clone(), self.clone()];
        for count in &counts {
            count.0.fetch_add(bytes, Ordering::Relaxed);
        }
        Unsent { bytes, counts }
    }

    /// Whether the reads of a session are put off, where these are all sessions' bytes.
    pub fn put_off(&self, session: &Self) -> bool {
        match self.get() {
            all if all > UNSENT_BYTES_MAX => session.get() > 0,
            all if all > UNSENT_BYTES_MAX / 2 => session.get() > UNSENT_BYTES_MAX / LITTLE,
            _ => false,
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        for count in &self.counts {
            count.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::{SagaId, StepId};
    use like_protocol::message::{Payload, UnsettledState, UnsettledStep};

    use super::*;

    fn page(bytes: usize) -> ReplyBody {
        ReplyBody::Answer(Payload::from(vec![0; bytes]))
    }

    #[test]
    fn answers_count_until_they_are_dropped() {
        let (all, session) = (UnsentBytes::default(), UnsentBytes::default());
        let first = all.count(&session, &page(7));
        let second = all.count(&UnsentBytes::default(), &page(2));
        assert_eq!((all.get(), session.get()), (9, 7));
        drop(first);
        assert_eq!((all.get(), session.get()), (2, 0));
        drop(second);
        let step = StepId { saga: SagaId::from_bytes([1; 16]), step: 0 };
        let unsettled = UnsettledStep { id: step, deadline: None, state: UnsettledState::Damaged };
        let list = all.count(&session, &ReplyBody::Unsettled(vec![unsettled; 3]));
        assert_eq!(all.get(), 3 * size_of::<UnsettledStep>());
        drop(list);
        assert_eq!(all.get(), 0);
    }

    #[test]
    fn half_of_it_is_for_those_who_have_little_unsent() {
        let (all, deaf, slow, good) =
            (UnsentBytes::default(), UnsentBytes::default(), UnsentBytes::default(), UnsentBytes::default());
        let _half = all.count(&deaf, &page(UNSENT_BYTES_MAX / 2));
        assert!(!all.put_off(&deaf));
        let _little = all.count(&slow, &page(UNSENT_BYTES_MAX / LITTLE));
        assert!(all.put_off(&deaf));
        assert!(!all.put_off(&slow) && !all.put_off(&good));
        let _more = all.count(&slow, &page(1));
        assert!(all.put_off(&slow), "that is not little");
        assert!(!all.put_off(&good));
    }

    #[test]
    fn past_all_of_it_those_alone_are_answered_who_have_nothing_unsent() {
        let (all, deaf, slow, good) =
            (UnsentBytes::default(), UnsentBytes::default(), UnsentBytes::default(), UnsentBytes::default());
        let _all = all.count(&deaf, &page(UNSENT_BYTES_MAX));
        let little = all.count(&slow, &page(1));
        assert!(all.put_off(&deaf) && all.put_off(&slow));
        assert!(!all.put_off(&good));
        drop(little);
        assert!(!all.put_off(&slow));
    }
}
