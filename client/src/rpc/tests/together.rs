//! Calls that are made together.

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

fn asked(numbers: std::ops::Range<u8>, within: Duration) -> Vec<Asked> {
    numbers.map(|number| Asked { number: number.into(), body: query(number), within }).collect()
}

fn grounds(are_so: bool) -> (Grounds, Arc<AtomicUsize>) {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked_for);
    let grounds = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        are_so
    };
    (Box::new(grounds), asked_for)
}

/// What came of so many calls, in words, by their numbers.
async fn came(
    connection: &Connection,
    mailbox: &mut UnboundedReceiver<(u64, Came)>,
    many: usize,
) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..many {
        let (number, came) = tokio::time::timeout(SOON, mailbox.recv()).await.unwrap().unwrap();
        all.push((
            number,
            connection
                .came(came, BRIEFLY)
                .map_or_else(|lost| format!("{:?}", lost.kind), |_| "a reply".into()),
        ));
    }
    assert!(mailbox.try_recv().is_err(), "more came than was asked for");
    all.sort();
    assert!(all.iter().map(|(number, _)| *number).eq(0..many as u64), "{all:?}");
    all.into_iter().map(|(_, came)| came).collect()
}

#[tokio::test]
async fn what_comes_of_each_is_told_apart_and_their_grounds_are_made_so_once() {
    let (connection, mut daemon) = connected().await;
    let ((grounds, made_so), (mailbox, mut answers)) = (grounds(true), unbounded_channel());
    connection.call_together(grounds, asked(0..10, SOON), &mailbox);
    assert_eq!(made_so.load(Ordering::Relaxed), 0, "not before their turn has come");
    let mut requests = Vec::new();
    for number in 0..10 {
        requests.push(daemon.request().await);
        assert_eq!(requests.last().unwrap().body, query(number));
    }
    assert_eq!(made_so.load(Ordering::Relaxed), 1);
    for Request { id, body } in requests.into_iter().rev() {
        let RequestBody::Query(payload) = body else { panic!("not a query") };
        daemon.reply(id, ReplyBody::Answer(payload)).await;
    }
    for expected in (0..10).rev() {
        let (number, came) = answers.recv().await.unwrap();
        let answer = ReplyBody::Answer(Payload::from(vec![expected]));
        assert_eq!((number, connection.came(came, SOON)), (expected.into(), Ok(answer)));
    }
    assert_eq!(connection.calls_waiting(), 0);
}

#[tokio::test]
async fn what_is_answered_together_is_heard_together_however_much_came_before() {
    let (connection, mut daemon) = connected().await;
    let (mailbox, mut answers) = unbounded_channel();
    for many in [40, 250, 40, 250] {
        connection.call_together(grounds(true).0, asked(0..many, SOON), &mailbox);
        for _ in 0..many {
            let id = daemon.request().await.id;
            daemon.writer.feed(FromDaemon::Reply(Reply { id, body: ReplyBody::Settled })).await.unwrap();
        }
        daemon.writer.flush().await.unwrap();
        let mut heard = Vec::new();
        answers.recv_many(&mut heard, usize::MAX).await;
        assert_eq!(heard.len(), usize::from(many), "some had their turn before the others");
    }
}

#[tokio::test]
async fn without_grounds_none_leaves_and_each_is_told_at_once() {
    let (connection, mut daemon) = connected().await;
    let ((grounds, _), (mailbox, mut answers)) = (grounds(false), unbounded_channel());
    connection.call_together(grounds, asked(0..3, SOON), &mailbox);
    assert_eq!(came(&connection, &mut answers, 3).await, ["Closed"; 3]);
    assert!(connection.call(query(9), BRIEFLY).now_or_never().is_none());
    let serve = async { assert_eq!(daemon.request().await.body, query(8)) };
    tokio::join!(connection.call(query(8), BRIEFLY), serve).0.unwrap_err();
    assert_eq!(connection.calls_waiting(), 0);
}

#[tokio::test]
async fn a_lost_connection_fails_each_of_them_now_and_later() {
    let (connection, mut daemon) = connected().await;
    let (mailbox, mut answers) = unbounded_channel();
    connection.call_together(grounds(true).0, asked(0..5, SOON), &mailbox);
    daemon.request().await;
    drop(daemon);
    assert_eq!(came(&connection, &mut answers, 5).await, ["Closed"; 5]);
    connection.call_together(grounds(true).0, asked(0..5, SOON), &mailbox);
    assert_eq!(came(&connection, &mut answers, 5).await, ["Closed"; 5]);
    assert_eq!(connection.calls_waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_waits_no_longer_than_it_was_told_to_and_one_that_finds_no_room_not_at_all() {
    let (connection, _daemon) = connected().await;
    let (mailbox, mut answers) = unbounded_channel();
    let began = tokio::time::Instant::now();
    connection.call_together(grounds(true).0, asked(0..3, BRIEFLY), &mailbox);
    assert_eq!(came(&connection, &mut answers, 3).await, ["Timeout"; 3]);
    assert!((BRIEFLY..2 * BRIEFLY).contains(&began.elapsed()), "{:?}", began.elapsed());

    let big = RequestBody::Query(Payload::from(vec![0; 4096]));
    let full = join_all((0..2000).map(|_| connection.call(big.clone(), SOON))).map(drop);
    let mut full = std::pin::pin!(full);
    assert!(futures::poll!(&mut full).is_pending());
    connection.call_together(grounds(true).0, asked(0..3, SOON), &mailbox);
    assert_eq!(came(&connection, &mut answers, 3).await, ["Closed"; 3]);
    assert!(connection.is_open());
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_stays() {
    let (connection, mut daemon) = connected().await;
    let ((grounds, made_so), (mailbox, answers)) = (grounds(true), unbounded_channel());
    connection.call_together(grounds, asked(0..3, SOON), &mailbox);
    drop(answers);
    let serve = async {
        let request = daemon.request().await;
        assert_eq!(request.body, query(9));
        daemon.reply(request.id, ReplyBody::Settled).await;
    };
    tokio::join!(connection.call(query(9), SOON), serve).0.unwrap();
    assert_eq!(made_so.load(Ordering::Relaxed), 0);
}
