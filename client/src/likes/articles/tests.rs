use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::StreamExt;
use like_protocol::codec;
use like_protocol::message::{ReplyBody, RequestBody, ToDaemon};
use like_protocol::time::BootClock;

use super::*;
use crate::rpc::Dial;
use crate::rpc::tests::Daemon;

const SOON: Duration = Duration::from_secs(5);

/// An article service that has article 1 and no other, counts what it is asked, and has another store after each question
/// for article 9, upon which it hangs up.
#[derive(Default)]
struct Service {
    asked: AtomicUsize,
    store: AtomicUsize,
    /// Whether it hangs up instead of the next answer.
    hangs_up: AtomicBool,
}

impl Service {
    fn answer(&self, id: ArticleId) -> ReplyBody {
        if id == ArticleId(1) {
            let article =
                Article { id, title: "one".to_owned(), likes: 0, change: 0, unsettled: 0, unaccounted: 0 };
            return ReplyBody::Answer(codec::encode(&ArticleAnswer::Article(article)).unwrap());
        }
        ReplyBody::Rejected(codec::encode(&ArticleRejection::NotFound(id)).unwrap())
    }

    async fn serve(self: Arc<Self>, stream: tokio::io::DuplexStream) {
        let store = StoreId::from_bytes([self.store.load(Ordering::Relaxed) as u8; 16]);
        let mut daemon = Daemon::of(stream, "article", store).await;
        while let Some(Ok(message)) = daemon.reader.next().await {
            let ToDaemon::Request(request) = message else { continue };
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.hangs_up.swap(false, Ordering::Relaxed) {
                return;
            }
            let RequestBody::Query(query) = request.body else { panic!("not a query") };
            let ArticleQuery::Show(id) = codec::decode(&query.0).unwrap() else { panic!("another query") };
            let body = self.answer(id);
            daemon.reply(request.id, body).await;
            if id == ArticleId(9) {
                self.store.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

fn served() -> (Arc<Service>, Arc<Remote>, ArticleService) {
    let service = Arc::new(Service::default());
    let clock = Arc::new(BootClock::open().unwrap());
    let served = Arc::clone(&service);
    let dial = Dial::new("memory", move || {
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(Arc::clone(&served).serve(theirs));
        std::future::ready(Ok(ours))
    });
    let remote = Arc::new(Remote::new("article", dial, clock));
    let articles = ArticleService::new(Arc::clone(&remote), SOON);
    (service, remote, articles)
}

#[tokio::test]
async fn a_question_whose_answer_was_lost_is_asked_again_and_a_command_is_not() {
    let (service, _, articles) = served();
    let asked = || service.asked.swap(0, Ordering::Relaxed);
    service.hangs_up.store(true, Ordering::Relaxed);
    assert_eq!(articles.show(ArticleId(1)).await.unwrap().title, "one");
    assert_eq!(asked(), 2);
    service.hangs_up.store(true, Ordering::Relaxed);
    let created = articles.create(None, "two".to_owned()).await;
    assert!(matches!(created, Err(AskError::Lost(_))), "{created:?}");
    assert_eq!(asked(), 1, "it may have been carried out");
}

#[tokio::test]
async fn what_is_no_title_is_not_sent_however_long_it_is() {
    let (service, _, articles) = served();
    for text in [String::new(), "é".repeat(256), "x".repeat(1_000_000)] {
        let refused = articles.create(None, text).await;
        assert_eq!(refused, Err(AskError::Rejected(ArticleRejection::BadTitle)));
    }
    assert_eq!(service.asked.load(Ordering::Relaxed), 0);
    service.hangs_up.store(true, Ordering::Relaxed);
    assert!(matches!(articles.create(None, "é".repeat(255)).await, Err(AskError::Lost(_))));
    assert_eq!(service.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_article_that_was_seen_is_asked_for_again_only_in_another_store() {
    let (service, remote, articles) = served();
    let asked = || service.asked.load(Ordering::Relaxed);
    for _ in 0..3 {
        articles.exists(ArticleId(1)).await.unwrap();
        articles.within(SOON).exists(ArticleId(1)).await.unwrap();
    }
    assert_eq!(asked(), 1);
    for missing in 1..=2 {
        let found = articles.exists(ArticleId(2)).await;
        assert_eq!(found, Err(AskError::Rejected(ArticleRejection::NotFound(ArticleId(2)))));
        assert_eq!(asked(), 1 + missing, "what is not there may come");
    }
    articles.exists(ArticleId(9)).await.unwrap_err();
    while remote.open().is_some() {
        tokio::task::yield_now().await;
    }
    articles.exists(ArticleId(1)).await.unwrap();
    assert_eq!(asked(), 5, "this store was not seen to have it");
    articles.exists(ArticleId(1)).await.unwrap();
    assert_eq!(asked(), 5);
}
