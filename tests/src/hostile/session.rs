//! A daemon's session, with a participant on a store in memory behind it.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use like_daemon::commit::space::Room;
use like_daemon::commit::writer::{GROUP_REQUESTS_MAX, Identity, Work};
use like_daemon::commit::{Gauges, Queue, Writer};
use like_daemon::likes::article::Articles;
use like_daemon::likes::user::Users;
use like_daemon::net::session::{Service, serve};
use like_daemon::participant::Participant;
use like_daemon::participant::domain::Domain;
use like_daemon::store::MemoryStore;
use like_protocol::codec::{client_end, daemon_end};
use like_protocol::ids::{BootId, StoreId};
use like_protocol::message::{
    ClientHello, FromDaemon, MAGIC, PROTOCOL_VERSION, ReplyBody, Request, RequestBody, ServerHello, ToDaemon,
};
use like_protocol::time::{Clock, Now};
use tokio::sync::watch;

/// The moment at which everything happens.
pub(super) const NOW: Now = Now { boot: BootId::from_bytes([2; 16]), at_ms: 1_000_000 };

pub(super) struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        NOW
    }
}

struct Daemon<D: Domain> {
    writer: Writer<D, MemoryStore>,
    work: Work,
    service: Arc<Service>,
}

impl<D: Domain> Daemon<D> {
    fn new(domain: D) -> Self {
        let mut store = MemoryStore::default();
        let participant = Participant::open(domain, &mut store, &NOW).expect("an empty store");
        let identity =
            Identity { role: D::ROLE, store: StoreId::from_bytes([3; 16]), software: "fuzzed".to_owned() };
        let queue = Arc::new(Queue::new(64));
        let room = || Ok(Room { free_bytes: 1 << 40, reserve_bytes: 1 << 20 });
        let writer = Writer {
            participant,
            store,
            queue: Arc::clone(&queue),
            clock: Arc::new(Still),
            space: Arc::new(room),
            identity: identity.clone(),
            gauges: Arc::new(Gauges::default()),
            heartbeat: None,
        };
        let work = writer.begin();
        Self { writer, work, service: Arc::new(Service { queue, identity, clock: Arc::new(Still) }) }
    }

    /// Serves one connection on which these bytes come, and returns what was sent on it.
    async fn connection(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        let (_close, closing) = watch::channel(false);
        {
            let mut session = std::pin::pin!(serve(bytes, &mut sent, Arc::clone(&self.service), closing));
            // Whatever the session makes of it, it touches nothing but itself.
            while futures::poll!(&mut session).is_pending() {
                let changes = self.service.queue.drain_now(GROUP_REQUESTS_MAX);
                let read = self.writer.answer_reads(&mut self.work);
                let done = read.and_then(|_| self.writer.group(&mut self.work, changes));
                done.expect("a store in memory does not fail");
                tokio::task::yield_now().await;
            }
        }
        sent
    }
}

fn hello() -> ToDaemon {
    ToDaemon::Hello(ClientHello { magic: MAGIC, protocol: PROTOCOL_VERSION, software: "fuzz".to_owned() })
}

async fn bytes_of(messages: Vec<ToDaemon>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (_, mut write) = client_end(tokio::io::empty(), &mut bytes);
    for message in messages {
        write.feed(message).await.expect("a message");
    }
    write.flush().await.expect("memory takes everything");
    drop(write);
    bytes
}

/// The ids of the requests that a daemon reads from these bytes.
async fn requests_in(bytes: &[u8]) -> Vec<u64> {
    let (read, _) = daemon_end(bytes, tokio::io::sink());
    let ids = read.filter_map(async |message| match message {
        Ok(ToDaemon::Request(request)) => Some(request.id),
        _ => None,
    });
    ids.collect().await
}

async fn replies_in(bytes: &[u8]) -> Vec<FromDaemon> {
    let (read, _) = client_end(bytes, tokio::io::sink());
    read.map(|message| message.expect("a daemon sends whole messages")).collect().await
}

/// Any bytes on a connection: every answer is well-formed and belongs to a request, what is stored can be taken up
/// again, and another session is served.
pub fn session(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    if which % 2 == 0 { with(Articles, data) } else { with(Users, data) }
}

fn with<D: Domain + Copy>(domain: D, data: &[u8]) {
    super::run(async {
        let bytes = super::stream(data, bytes_of(vec![hello()]).await);
        let mut daemon = Daemon::new(domain);
        let sent = daemon.connection(&bytes).await;
        let mut asked = requests_in(&bytes).await;
        let replies = replies_in(&sent).await;
        assert!(matches!(replies.first(), Some(FromDaemon::Hello(ServerHello::Welcome(_)))));
        for reply in &replies[1..] {
            let FromDaemon::Reply(reply) = reply else { panic!("said hello twice") };
            let at = asked.iter().position(|id| *id == reply.id).expect("nobody asked");
            asked.swap_remove(at);
            assert!(!matches!(reply.body, ReplyBody::Damaged(_) | ReplyBody::SettledBut(_)), "{reply:?}");
        }
        let status = ToDaemon::Request(Request { id: 7, body: RequestBody::Status });
        let other = daemon.connection(&bytes_of(vec![hello(), status]).await).await;
        let other = replies_in(&other).await;
        let served = |body: &ReplyBody| matches!(body, ReplyBody::Status(status) if status.damaged == 0);
        assert!(matches!(&other[..], [_, FromDaemon::Reply(reply)] if reply.id == 7 && served(&reply.body)));
        let mut store = daemon.writer.store.clone();
        let again = Participant::open(domain, &mut store, &NOW).expect("what was stored can be taken up");
        assert_eq!(again.damaged().0, 0);
        assert_eq!(again.unsettled(), daemon.writer.participant.unsettled());
    });
}
