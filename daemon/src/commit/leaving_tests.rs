//! When answers leave: none waits for what it does not rest on.

use super::*;

impl Rig {
    /// Serves what was submitted, beside a session on the same thread that sends what it is handed: what it has sent, and how many syncs
    /// there have been, when this answer is among it.
    async fn sent_until(&mut self, id: u64) -> (Vec<u64>, usize) {
        let (at_sync, synced) = std_mpsc::channel();
        self.writer.store.at_sync = Box::new(move || at_sync.send(()).unwrap());
        self.writer.queue.close();
        let answers = self.answers.clone();
        let session = async {
            let mut sent = Vec::new();
            while !sent.contains(&id) {
                tokio::task::yield_now().await;
                let ready = || answers.lock().unwrap().try_recv().ok();
                sent.extend(std::iter::from_fn(ready).map(|answer| answer.reply.id));
            }
            (sent, synced.try_iter().count())
        };
        let (sent, served) = futures::join!(session, self.writer.run());
        served.unwrap();
        sent
    }
}

#[tokio::test]
async fn answers_to_reads_leave_before_their_group_is_synced() {
    let mut rig = Rig::new();
    rig.submit(vec![rig.add(1, Direction::Action), show()]);
    let (_, syncs) = rig.sent_until(1).await;
    assert_eq!(syncs, 0, "the answer waited for a sync that it does not rest on");
}

#[tokio::test]
async fn answers_of_a_full_group_leave_before_the_next_one_is_synced() {
    let mut rig = Rig::new();
    rig.writer.queue = Arc::new(Queue::new(2 * GROUP_REQUESTS_MAX));
    let settlements = vec![RequestBody::Settle(Vec::new()); GROUP_REQUESTS_MAX - 1];
    rig.submit(
        [vec![rig.add(1, Direction::Action)], settlements, vec![rig.add(2, Direction::Action)]].concat(),
    );
    let (_, syncs) = rig.sent_until(0).await;
    assert_eq!(syncs, 1, "the answer waited for a sync that it does not rest on");
}

#[tokio::test]
async fn answers_of_a_group_leave_before_the_store_is_tidied() {
    let mut rig = Rig::new();
    rig.submit(vec![rig.add(1, Direction::Action), rig.add(2, Direction::Action)]);
    let (found, did, answers) = (Arc::new(Mutex::new(Vec::new())), rig.did.clone(), rig.answers.clone());
    let finds = Arc::clone(&found);
    rig.writer.store.at_tidy = Box::new(move || {
        finds.lock().unwrap().push((did.lock().unwrap().len(), answers.lock().unwrap().len()));
    });
    let (sent, _) = rig.sent_until(1).await;
    assert_eq!(sent, [0, 1]);
    assert_eq!(found.lock().unwrap()[..], [(2, 0)], "somebody waited for it");
}

#[tokio::test]
async fn answers_of_a_group_leave_before_the_reads_of_the_next_round() {
    let mut rig = Rig::new();
    // Three reads take the time of a round.
    rig.clock.ms_a_look.store(2, Ordering::Relaxed);
    rig.submit([vec![rig.add(1, Direction::Action)], vec![show(); 9]].concat());
    let (sent, _) = rig.sent_until(0).await;
    assert_eq!(sent, [1, 2, 3, 0], "the answer waited for reads that came later");
}
