use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use like_protocol::codec;
use like_protocol::ids::{SagaId, StoreId};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::{DamagedRow, ReplyBody, RequestBody, RetryReason, ToDaemon};
use like_protocol::time::BootClock;
use tokio::io::DuplexStream;

use super::*;
use crate::rpc::tests::Daemon;
use crate::rpc::{Dial, Remote};

/// A user whose row is damaged.
const DAMAGED: UserId = UserId(13);

/// What a user service was asked: about how many at once, each time.
type Asked = Arc<Mutex<Vec<usize>>>;

/// What it says instead of an answer.
type Instead = fn() -> Option<ReplyBody>;

/// The user's record is named after the user.
fn standing_of(user: UserId) -> Standing {
    Standing { record: Some(SagaId::from_bytes([user.0 as u8; 16])), locked_by: None, key: None }
}

fn answer(query: UserQuery, asked: &Asked) -> ReplyBody {
    let (targets, is_one) = match query {
        UserQuery::Standing(target) => (vec![target], true),
        UserQuery::Standings(targets) => (targets, false),
        other => panic!("another query: {other:?}"),
    };
    asked.lock().unwrap().push(targets.len());
    if targets.iter().any(|target| target.user == DAMAGED) {
        let [row, what, why] = ["r", "s", "t"].map(str::to_owned);
        return ReplyBody::Damaged(Box::new(DamagedRow { row, what, step: None, why }));
    }
    let mut standings: Vec<_> = targets.iter().map(|target| standing_of(target.user)).collect();
    let answer = match is_one {
        true => UserAnswer::Standing(standings.remove(0)),
        false => UserAnswer::Standings(standings),
    };
    ReplyBody::Answer(codec::encode(&answer).unwrap())
}

async fn serve(stream: DuplexStream, asked: Asked, instead: Instead) {
    let mut daemon = Daemon::of(stream, "user", StoreId::from_bytes([1; 16])).await;
    while let Some(Ok(message)) = daemon.reader.next().await {
        let ToDaemon::Request(request) = message else { continue };
        let RequestBody::Query(query) = request.body else { panic!("not a query") };
        let answer = answer(codec::decode(&query.0).unwrap(), &asked);
        let body = instead().unwrap_or(answer);
        daemon.reply(request.id, body).await;
    }
}

/// Standings of a service that does this with each stream to it.
fn over<F>(within: Duration, serve: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Standings
where
    F: Future<Output = ()> + Send + 'static,
{
    let dial = Dial::new("memory", move || {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(theirs));
        std::future::ready(Ok(ours))
    });
    let remote = Arc::new(Remote::new("user", dial, Arc::new(BootClock::open().unwrap())));
    Standings::new(Asker::new(remote, within))
}

fn served(within: Duration, instead: Instead) -> (Asked, Standings) {
    let asked = Asked::default();
    let served = asked.clone();
    (asked, over(within, move |stream| serve(stream, served.clone(), instead)))
}

const SOON: Duration = Duration::from_secs(5);

fn target(user: u64) -> LikeTarget {
    LikeTarget { user: UserId(user), article: ArticleId(1), key: None }
}

async fn ask_for(standings: &Standings, users: impl IntoIterator<Item = u64>) -> Vec<bool> {
    let asking = users.into_iter().map(|user| async move {
        let answer = standings.ask(target(user)).await;
        match answer {
            Ok(standing) => {
                assert_eq!(standing, standing_of(UserId(user)), "each is told of its own");
                true
            }
            Err(AskError::Damaged { .. }) if UserId(user) == DAMAGED => false,
            Err(e) => panic!("user {user}: {e}"),
        }
    });
    join_all(asking).await
}

#[tokio::test]
async fn those_who_ask_in_the_same_moment_ask_together_and_who_is_alone_asks_for_its_own() {
    let (asked, standings) = served(SOON, || None);
    assert_eq!(ask_for(&standings, 0..5).await, [true; 5]);
    assert_eq!(ask_for(&standings.clone(), [5]).await, [true]);
    let all = 0..STANDINGS_MAX as u64 + 1;
    ask_for(&standings, all.map(|user| 100 + user)).await;
    let mut asked = asked.lock().unwrap().clone();
    asked[2..].sort_unstable();
    assert_eq!(asked, [5, 1, 1, STANDINGS_MAX]);
}

#[tokio::test]
async fn a_damaged_row_costs_nobody_else_an_answer() {
    let (asked, standings) = served(SOON, || None);
    let told = ask_for(&standings, [1, DAMAGED.0, 2]).await;
    assert_eq!(told, [true, false, true]);
    assert_eq!(*asked.lock().unwrap(), [3, 1, 1, 1]);
}

#[tokio::test]
async fn when_the_time_for_an_answer_is_over_it_is_so_for_all_of_them() {
    let (asked, standings) = served(Duration::from_millis(50), || Some(ReplyBody::Retry(RetryReason::Busy)));
    let told = join_all((0..3).map(|user| standings.ask(target(user)))).await;
    let busy = |answer: &Result<_, _>| matches!(answer, Err(AskError::Retry { kind: RetryReason::Busy, .. }));
    assert!(told.iter().all(busy), "{told:?}");
    assert!(asked.lock().unwrap().iter().all(|many| *many == 3), "none begins anew by itself");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_says_nothing_is_waited_for_once() {
    let standings = over(SOON, |stream| async move {
        let _open = stream;
        std::future::pending().await
    });
    let began = tokio::time::Instant::now();
    for answer in join_all((0..3).map(|user| standings.ask(target(user)))).await {
        assert!(matches!(answer, Err(AskError::Unreachable(_))), "{answer:?}");
    }
    assert!(began.elapsed() < SOON * 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_that_fits_not_all_of_them_is_for_none() {
    let too_few = || {
        let standings = UserAnswer::Standings(vec![standing_of(UserId(1))]);
        Some(ReplyBody::Answer(codec::encode(&standings).unwrap()))
    };
    let (asked, standings) = served(SOON, too_few);
    for answer in join_all((1..3).map(|user| standings.ask(target(user)))).await {
        assert!(matches!(answer, Err(AskError::Misunderstood { .. })), "{answer:?}");
    }
    assert_eq!(*asked.lock().unwrap(), [2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn nobody_depends_on_who_came_first() {
    // It is dropped, or never polled again, before or after the others are asked for too.
    for (dropped, asked_before) in [(true, false), (false, false), (true, true), (false, true)] {
        let (asked, standings) = served(SOON, || None);
        let mut first = Box::pin(standings.ask(target(0)));
        assert!(first.as_mut().now_or_never().is_none());
        let mut others = Box::pin(ask_for(&standings, [1, 2]));
        assert!(others.as_mut().now_or_never().is_none());
        if asked_before {
            tokio::task::yield_now().await;
            assert!(standings.asking.depart().is_empty(), "they have departed");
        }
        let kept = (!dropped).then_some(first);
        assert_eq!(tokio::time::timeout(SOON, others).await, Ok([true; 2].into()));
        assert_eq!(*asked.lock().unwrap(), [3]);
        assert!(ask_for(&standings, [3]).await[0], "nothing is left behind");
        drop(kept);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_its_own_after_all_does_so_in_what_is_left_of_the_time() {
    let standings = over(SOON, |stream| async move {
        let mut daemon = Daemon::of(stream, "user", StoreId::from_bytes([1; 16])).await;
        let mut first = true;
        while let Some(Ok(message)) = daemon.reader.next().await {
            let ToDaemon::Request(request) = message else { continue };
            // To any other question it says nothing.
            if std::mem::take(&mut first) {
                tokio::time::sleep(SOON * 9 / 10).await;
                daemon.reply(request.id, ReplyBody::Invalid("what is that?".to_owned())).await;
            }
        }
    });
    let began = Instant::now();
    for answer in join_all((0..2).map(|user| standings.ask(target(user)))).await {
        assert!(matches!(answer, Err(AskError::Lost(_))), "{answer:?}");
    }
    assert!((SOON..SOON * 11 / 10).contains(&began.elapsed()), "{:?}", began.elapsed());
}
