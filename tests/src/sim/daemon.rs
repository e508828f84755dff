//! A daemon process: the real sessions, queue, commit writer and participant, on a simulated network and store.

use std::sync::Arc;
use std::time::Duration;

use like_daemon::commit::space::Room;
use like_daemon::commit::writer::{GROUP_REQUESTS_MAX, Identity};
use like_daemon::commit::{Gauges, Queue, Writer};
use like_daemon::net::session;
use like_daemon::participant::Participant;
use like_daemon::participant::domain::Domain;
use like_protocol::ids::StoreId;
use like_protocol::time::Clock;
use tokio::sync::watch;

use super::store::SimStore;
use super::world::{Host, Service, lock};

/// How many requests wait at most: few, so that queues are full now and then.
pub const QUEUE_LIMIT: usize = 24;

/// A daemon's life, until it is killed or its store fails.
pub async fn live<D: Domain>(host: Host, role: Service, domain: D) {
    let pause = |most_ms: u64| tokio::time::sleep(Duration::from_millis(1 + host.world.below(most_ms)));
    pause(5).await;
    let clock: Arc<dyn Clock> = Arc::new(host.clone());
    let Some(mut store) = SimStore::open(&host, role) else { return };
    tokio::spawn(work_aside(host.clone(), role));
    let participant = match Participant::open(domain, &mut store, &clock.now()) {
        Ok(participant) => participant,
        Err(e) => return damage(&host, &e),
    };
    let queue = Arc::new(Queue::new(QUEUE_LIMIT));
    let store_id = StoreId::from_bytes([role as u8 + 1; 16]);
    let identity = Identity { role: role.role(), store: store_id, software: "simulated".to_owned() };
    let mut writer = Writer {
        participant,
        store,
        queue: Arc::clone(&queue),
        clock: Arc::clone(&clock),
        space: space(&host, role),
        identity: identity.clone(),
        gauges: Arc::new(Gauges::default()),
        heartbeat: None,
    };
    tokio::spawn(accept(
        host.clone(),
        role,
        Arc::new(session::Service { queue: Arc::clone(&queue), identity, clock }),
    ));
    let mut work = writer.begin();
    loop {
        pause(host.world.plan.commit_ms).await;
        let due = writer.participant.next_due_ms().is_some_and(|due_ms| due_ms + 1000 <= host.now().at_ms);
        if queue.is_empty() && !due {
            continue;
        }
        host.world.note(host.life.pid, "group", queue.len() as u64, u64::from(due));
        let changes = queue.drain_now(GROUP_REQUESTS_MAX);
        // A round whose time was over before it came to the reads that are left.
        let read = if host.world.below(4) == 0 { Ok(false) } else { writer.answer_reads(&mut work) };
        let done = read.and_then(|_| writer.group(&mut work, changes));
        if let Err(e) = done {
            return damage(&host, &e);
        }
    }
}

/// Does the work that the store has besides, a step at a time.
async fn work_aside(host: Host, role: Service) {
    loop {
        tokio::time::sleep(Duration::from_millis(1 + host.world.below(host.world.plan.checkpoint_ms))).await;
        let background = &host.world.background[role as usize];
        let waiting = lock(background).len() as u64;
        if waiting == 0 {
            continue;
        }
        let (what, mut work) = lock(background).swap_remove(host.world.below(waiting) as usize);
        if work() {
            lock(background).push((what, work));
        }
    }
}

/// A store that fails ends its daemon; one that is damaged is a broken promise, since no fault damages stores.
fn damage(host: &Host, error: &like_daemon::store::StoreError) {
    if let like_daemon::store::StoreError::Damaged { .. } = error {
        host.world.broken(error.to_string());
    }
}

fn space(host: &Host, role: Service) -> like_daemon::commit::space::Space {
    let host = host.clone();
    Arc::new(move || {
        let low = lock(&host.world.stores[role as usize]).low_until_ms > host.world.now_ms();
        if low {
            host.world.fault(super::faults::Fault::StorageLow, host.life.pid);
        }
        Ok(Room { free_bytes: if low { 0 } else { 1 << 40 }, reserve_bytes: 1 << 20 })
    })
}

async fn accept(host: Host, role: Service, service: Arc<session::Service>) {
    let listener = host.world.network.listen(&host, role);
    // A daemon of a simulation never closes: it is killed.
    let (_never, closing) = watch::channel(false);
    loop {
        let stream = listener.accept().await;
        let (read, write) = tokio::io::split(stream);
        let (service, closing) = (Arc::clone(&service), closing.clone());
        tokio::spawn(async move {
            let _ended = session::serve(read, write, service, closing).await;
        });
    }
}
