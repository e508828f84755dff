use std::sync::Mutex;

use like_protocol::codec::{ReplyReader, RequestWriter, client_end};
use like_protocol::ids::{BootId, StoreId};
use like_protocol::message::{RequestBody, RetryReason, TurnedAway};
use like_protocol::time::Now;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;

use super::*;
use crate::commit::unsent::UnsentBytes;

struct Stopped(Mutex<Now>);

impl Clock for Stopped {
    fn now(&self) -> Now {
        *self.0.lock().unwrap()
    }
}

const NOW: Now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 7 };

/// A client's end, the session's end, and a queue in between that the test empties.
struct Rig {
    replies: ReplyReader<ReadHalf<DuplexStream>>,
    requests: RequestWriter<WriteHalf<DuplexStream>>,
    queue: Arc<Queue>,
    close: watch::Sender<bool>,
    ended: JoinHandle<Result<(), SessionError>>,
}

impl Rig {
    fn new(queue_limit: usize) -> Self {
        let queue = Arc::new(Queue::new(queue_limit));
        let identity =
            Identity { role: "article", store: StoreId::from_bytes([5; 16]), software: "t".to_owned() };
        let service =
            Arc::new(Service { queue: queue.clone(), identity, clock: Arc::new(Stopped(Mutex::new(NOW))) });
        let (near, far) = duplex(64 * 1024);
        let (close, closing) = watch::channel(false);
        let (read, write) = split(far);
        let ended = tokio::spawn(serve(read, write, service, closing));
        let (read, write) = split(near);
        let (replies, requests) = client_end(read, write);
        Self { replies, requests, queue, close, ended }
    }

    /// A session past its hello.
    async fn open(queue_limit: usize) -> Self {
        let mut rig = Self::new(queue_limit);
        assert!(matches!(rig.next().await, Some(FromDaemon::Hello(ServerHello::Welcome(_)))));
        rig.send(hello(MAGIC, PROTOCOL_VERSION)).await;
        rig
    }

    async fn send(&mut self, message: ToDaemon) {
        self.requests.send(message).await.unwrap();
    }

    async fn next(&mut self) -> Option<FromDaemon> {
        self.replies.next().await.transpose().unwrap()
    }

    /// Takes the reads that are in the queue once there is something, as the writer would.
    async fn jobs(&self) -> Vec<Job> {
        while self.queue.is_empty() {
            tokio::task::yield_now().await;
        }
        std::iter::from_fn(|| self.queue.next_read()).collect()
    }
}

fn hello(magic: [u8; 4], protocol: u16) -> ToDaemon {
    ToDaemon::Hello(ClientHello { magic, protocol, software: "test".to_owned() })
}

fn request(id: u64) -> ToDaemon {
    ToDaemon::Request(Request { id, body: RequestBody::Status })
}

fn reply(id: u64, body: ReplyBody) -> FromDaemon {
    FromDaemon::Reply(Reply { id, body })
}

fn answer(job: &Job) {
    answer_with(job, ReplyBody::Settled);
}

fn answer_with(job: &Job, body: ReplyBody) {
    let unsent = UnsentBytes::default().count(&job.session.unsent, &body);
    job.session.put(Answer { reply: Reply { id: job.request.id, body }, unsent });
}

fn page(bytes: usize) -> ReplyBody {
    ReplyBody::Answer(like_protocol::message::Payload::from(vec![0; bytes]))
}

#[tokio::test]
async fn the_daemon_speaks_first_and_says_who_it_is() {
    let mut rig = Rig::new(1);
    let Some(FromDaemon::Hello(ServerHello::Welcome(welcome))) = rig.next().await else {
        panic!("no welcome")
    };
    assert_eq!((welcome.magic, welcome.protocol, welcome.now), (MAGIC, PROTOCOL_VERSION, NOW));
    assert_eq!((welcome.role.as_str(), welcome.store), ("article", StoreId::from_bytes([5; 16])));
}

#[tokio::test]
async fn without_a_proper_hello_nothing_is_served() {
    type Expected = fn(&SessionError) -> bool;
    let cases: [(ToDaemon, Expected); 3] = [
        (hello(*b"Kafk", PROTOCOL_VERSION), |e| matches!(e, SessionError::NoHello(_))),
        (hello(MAGIC, PROTOCOL_VERSION + 1), |e| matches!(e, SessionError::OtherProtocol(_))),
        (request(1), |e| matches!(e, SessionError::NoHello(_))),
    ];
    for (first, expected) in cases {
        let mut rig = Rig::new(1);
        rig.next().await;
        rig.send(first.clone()).await;
        let ended = timeout(Duration::from_secs(10), rig.ended).await.expect("the session ends");
        let ended = ended.unwrap().unwrap_err();
        assert!(expected(&ended), "{first:?}: {ended}");
        assert!(rig.queue.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_no_hello_is_not_waited_for() {
    let mut rig = Rig::new(1);
    rig.next().await;
    let begun = tokio::time::Instant::now();
    assert!(matches!(rig.ended.await.unwrap(), Err(SessionError::NoHello(_))));
    assert_eq!(begun.elapsed(), HELLO_WAIT_MAX);
}

#[tokio::test]
async fn a_peer_may_leave_without_a_word() {
    let mut rig = Rig::new(1);
    rig.next().await;
    drop((rig.replies, rig.requests));
    rig.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_second_hello_ends_the_session() {
    let mut rig = Rig::open(1).await;
    rig.send(hello(MAGIC, PROTOCOL_VERSION)).await;
    assert!(matches!(rig.ended.await.unwrap(), Err(SessionError::SecondHello)));
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_session() {
    let mut rig = Rig::open(1).await;
    rig.requests.flush().await.unwrap();
    let (_, mut raw) = (rig.replies, rig.requests.into_inner().into_inner());
    raw.write_all(&[0, 0, 0, 2, 99, 99]).await.unwrap();
    assert!(matches!(rig.ended.await.unwrap(), Err(SessionError::Broken(_))));
    assert!(rig.queue.is_empty());
}

#[tokio::test]
async fn a_full_queue_is_answered_with_busy_and_a_closed_one_with_draining() {
    let mut rig = Rig::open(1).await;
    rig.send(request(1)).await;
    rig.send(request(2)).await;
    assert_eq!(rig.next().await, Some(reply(2, ReplyBody::Retry(RetryReason::Busy))));
    rig.queue.close();
    rig.send(request(3)).await;
    assert_eq!(rig.next().await, Some(reply(3, ReplyBody::Retry(RetryReason::Draining))));
    answer(&rig.jobs().await[0]);
    assert_eq!(rig.next().await, Some(reply(1, ReplyBody::Settled)));
}

#[tokio::test]
async fn only_so_many_requests_of_a_session_are_on_their_way() {
    let mut rig = Rig::open(usize::MAX).await;
    for id in 0..IN_FLIGHT_MAX as u64 + 20 {
        rig.send(request(id)).await;
    }
    while rig.queue.len() < IN_FLIGHT_MAX {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let jobs = rig.jobs().await;
    assert_eq!(jobs.len(), IN_FLIGHT_MAX);
    jobs[..5].iter().for_each(answer);
    for _ in 0..5 {
        rig.next().await;
    }
    while rig.queue.len() < 5 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.queue.len(), 5);
}

#[tokio::test]
async fn a_peer_that_has_said_all_still_gets_its_answers() {
    let mut rig = Rig::open(9).await;
    rig.send(request(1)).await;
    rig.requests.close().await.unwrap();
    let jobs = rig.jobs().await;
    answer(&jobs[0]);
    assert_eq!(rig.next().await, Some(reply(1, ReplyBody::Settled)));
    assert_eq!(rig.next().await, None);
    rig.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_sends_what_is_answered_and_ends() {
    let mut rig = Rig::open(9).await;
    rig.send(request(1)).await;
    rig.send(request(2)).await;
    let mut jobs = rig.jobs().await;
    while jobs.len() < 2 {
        jobs.extend(rig.jobs().await);
    }
    jobs.iter().for_each(answer);
    rig.close.send(true).unwrap();
    assert_eq!(rig.next().await, Some(reply(1, ReplyBody::Settled)));
    assert_eq!(rig.next().await, Some(reply(2, ReplyBody::Settled)));
    assert_eq!(rig.next().await, None);
    rig.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_does_not_wait_for_a_hello() {
    let mut rig = Rig::new(1);
    rig.next().await;
    rig.close.send(true).unwrap();
    rig.ended.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_replies_is_cut_off() {
    let mut rig = Rig::open(9).await;
    rig.send(request(1)).await;
    let jobs = rig.jobs().await;
    answer_with(&jobs[0], page(512 * 1024));
    assert!(matches!(rig.ended.await.unwrap(), Err(SessionError::Stalled)));
}

#[tokio::test]
async fn what_is_gathered_counts_as_unsent_until_the_peer_takes_it() {
    let mut rig = Rig::open(9).await;
    for id in 1..=3 {
        rig.send(request(id)).await;
    }
    let mut jobs = rig.jobs().await;
    while jobs.len() < 3 {
        jobs.extend(rig.jobs().await);
    }
    let unsent = jobs[0].session.unsent.clone();
    jobs.iter().for_each(|job| answer_with(job, page(100 * 1024)));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(unsent.get(), 300 * 1024, "nobody has read, and only a part of the first has left");
    for left in [2, 1, 0] {
        assert!(matches!(rig.next().await, Some(FromDaemon::Reply(_))));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // What has been read was sent; of what follows, some fits on the way.
        assert!(unsent.get() <= left * 100 * 1024, "{} with {left} to come", unsent.get());
    }
}

/// A session past its hello with so many requests on their way, of which a test takes the part of the peer and of the writer.
fn sending(queue: &Queue, in_flight: usize, to: DuplexStream) -> Session<'_, tokio::io::Empty, DuplexStream> {
    let (requests, replies) = daemon_end(tokio::io::empty(), to);
    let (session, answers) = Mailbox::open();
    Session { requests, replies, queue, session, answers, in_flight }
}

/// So many answers.
async fn answers<R, W>(sending: &mut Session<'_, R, W>, count: usize, body: &ReplyBody) -> Vec<Answer> {
    for id in 0..count as u64 {
        let request = Request { id, body: RequestBody::Status };
        answer_with(&Job { request, session: Arc::clone(&sending.session) }, body.clone());
    }
    let mut answered = Vec::new();
    assert_eq!(sending.answers.recv_many(&mut answered, count).await, count);
    answered
}

#[tokio::test]
async fn what_a_long_reply_took_is_not_kept() {
    let (queue, (near, far)) = (Queue::new(1), duplex(64 * 1024));
    let (mut sending, mut peer) = (sending(&queue, 2, far), client_end(near, tokio::io::sink()).0);
    for (bytes, is_kept) in [(KEPT_BYTES_MAX / 2, true), (2 * KEPT_BYTES_MAX, false)] {
        let mut answered = answers(&mut sending, 1, &page(bytes)).await;
        let (sent, taken) = futures::join!(sending.send(&mut answered), peer.next());
        sent.unwrap();
        assert_eq!(taken.unwrap().unwrap(), reply(0, page(bytes)));
        // Whether there is room for as much again without more memory.
        let has_room = sending.replies.get_mut().write_buffer_mut().try_reclaim(bytes);
        assert_eq!(has_room, is_kept, "{bytes} bytes");
    }
}

#[tokio::test]
async fn who_waits_for_nothing_keeps_no_room_for_many_answers() {
    let (queue, (near, far)) = (Queue::new(1), duplex(64 * 1024));
    let mut sending = sending(&queue, IN_FLIGHT_MAX, far);
    let mut answered = answers(&mut sending, IN_FLIGHT_MAX - 1, &ReplyBody::Settled).await;
    sending.send(&mut answered).await.unwrap();
    assert!(answered.capacity() >= IN_FLIGHT_MAX - 1, "there is one to come");
    answered.append(&mut answers(&mut sending, 1, &ReplyBody::Settled).await);
    sending.send(&mut answered).await.unwrap();
    assert!(answered.capacity() <= KEPT_ANSWERS_MAX);
    drop(near);
}

#[tokio::test]
async fn who_is_turned_away_is_told_why() {
    let frame = turned_away(TurnedAway::NotAllowed).unwrap();
    let (mut replies, _requests) = client_end(&frame[..], tokio::io::sink());
    let told = replies.next().await.unwrap().unwrap();
    assert_eq!(told, FromDaemon::Hello(ServerHello::Turned { magic: MAGIC, away: TurnedAway::NotAllowed }));
    assert!(replies.next().await.is_none());
}
