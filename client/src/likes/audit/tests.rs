use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;

/// How many records a page of the fake books has.
const PAGE: usize = 2;

/// Something that changes the books.
type Happening = fn(&FakeBooks);

/// Books that a test can change between any two looks.
#[derive(Default)]
struct FakeBooks {
    articles: RefCell<BTreeMap<u64, Article>>,
    records: RefCell<BTreeMap<u64, Vec<u64>>>,
    unsettled_records: RefCell<BTreeMap<u64, u32>>,
    /// Articles and users whose rows are damaged.
    damaged: RefCell<Vec<u64>>,
    damaged_likers: RefCell<Vec<u64>>,
    /// Damaged operation records at the user service.
    unaccounted: Cell<u32>,
    looks: Cell<u64>,
    /// What happens right before the look of this number.
    happens: RefCell<BTreeMap<u64, Happening>>,
}

impl FakeBooks {
    fn article(&self, id: u64, likes: u64, users: &[u64]) {
        let article = Article {
            id: ArticleId(id),
            title: "t".to_owned(),
            likes,
            change: likes,
            unsettled: 0,
            unaccounted: 0,
        };
        self.articles.borrow_mut().insert(id, article);
        if !users.is_empty() {
            self.records.borrow_mut().insert(id, users.to_vec());
        }
    }

    fn change(&self, id: u64, likes: u64) {
        if let Some(article) = self.articles.borrow_mut().get_mut(&id) {
            article.likes = likes;
            article.change += 1;
        }
    }

    fn looked(&self) {
        self.looks.set(self.looks.get() + 1);
        let happens = self.happens.borrow().get(&self.looks.get()).copied();
        if let Some(happens) = happens {
            happens(self);
        }
    }

    async fn audited(&self) -> Findings {
        audit(self, || {}).await.unwrap()
    }
}

impl Books for FakeBooks {
    type Error = Infallible;

    async fn article(&self, id: ArticleId) -> Result<Option<ListedArticle>, Infallible> {
        self.looked();
        if self.damaged.borrow().contains(&id.0) {
            return Ok(Some(ListedArticle::Damaged { id, why: "its count".to_owned() }));
        }
        Ok(self.articles.borrow().get(&id.0).cloned().map(ListedArticle::Whole))
    }

    async fn articles(&self, after: Option<ArticleId>) -> Result<Vec<ArticleId>, Infallible> {
        let from = after.map_or(0, |id| id.0 + 1);
        Ok(self.articles.borrow().range(from..).take(PAGE).map(|(id, _)| ArticleId(*id)).collect())
    }

    async fn count(&self, article: ArticleId, after: Option<UserId>) -> Result<LikerCount, Infallible> {
        self.looked();
        let records = self.records.borrow();
        let users = records.get(&article.0).map(Vec::as_slice).unwrap_or_default();
        let page: Vec<_> =
            users.iter().copied().filter(|user| after.is_none_or(|last| *user > last.0)).take(PAGE).collect();
        let more_after = if page.len() == PAGE { page.last().copied().map(UserId) } else { None };
        let unsettled = self.unsettled_records.borrow().get(&article.0).copied().unwrap_or(0);
        let damaged = page.iter().filter(|user| self.damaged_likers.borrow().contains(user)).count() as u64;
        let records = page.len() as u64 - damaged;
        let unaccounted = self.unaccounted.get();
        Ok(LikerCount { records, damaged, more_after, unsettled, unaccounted })
    }

    async fn liked_articles(&self, after: Option<ArticleId>) -> Result<Vec<ArticleId>, Infallible> {
        let from = after.map_or(0, |id| id.0 + 1);
        Ok(self.records.borrow().range(from..).take(PAGE).map(|(id, _)| ArticleId(*id)).collect())
    }

    async fn repair(&self, article: ArticleId, likes: u64, if_change: u64) -> Result<bool, Infallible> {
        let as_compared = self.articles.borrow().get(&article.0).is_some_and(|a| a.change == if_change);
        if as_compared {
            self.change(article.0, likes);
        }
        Ok(as_compared)
    }
}

#[tokio::test(start_paused = true)]
async fn articles_that_agree_are_counted_and_not_reported() {
    let books = FakeBooks::default();
    books.article(1, 5, &[1, 2, 3, 4, 5]);
    books.article(2, 0, &[]);
    books.article(3, 1, &[9]);
    let findings = books.audited().await;
    assert_eq!(findings, Findings { articles_checked: 3, likes_checked: 6, ..Findings::default() });
}

#[tokio::test(start_paused = true)]
async fn drift_is_found_either_way_and_repaired() {
    let books = FakeBooks::default();
    books.article(1, 2, &[1]);
    books.article(2, 1, &[1, 2, 3]);
    let findings = books.audited().await;
    assert_eq!(findings.drift.iter().map(|d| (d.article.0, d.records)).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
    for drift in &findings.drift {
        assert!(repair(&books, drift).await.unwrap());
    }
    assert_eq!(books.audited().await.drift, []);
}

#[tokio::test(start_paused = true)]
async fn a_repair_of_an_article_that_changed_since_does_nothing() {
    let books = FakeBooks::default();
    books.article(1, 2, &[1]);
    let findings = books.audited().await;
    books.change(1, 3);
    assert!(!repair(&books, &findings.drift[0]).await.unwrap());
    assert_eq!(books.articles.borrow()[&1].likes, 3);
}

#[tokio::test(start_paused = true)]
async fn a_like_in_the_middle_of_a_look_is_not_drift() {
    // A like between any two looks of the first round: the count moves first, the record follows at once.
    for at in 1..=4 {
        let books = FakeBooks::default();
        books.article(1, 3, &[1, 2, 5]);
        books.happens.borrow_mut().insert(at, |books| {
            books.change(1, 4);
            books.records.borrow_mut().insert(1, vec![1, 2, 4, 5]);
        });
        let findings = books.audited().await;
        assert_eq!(findings.drift, [], "before look {at}");
        assert_eq!(findings.likes_checked, 4, "before look {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_unsettled_on_either_side_is_never_compared() {
    let books = FakeBooks::default();
    books.article(1, 2, &[1]);
    books.articles.borrow_mut().get_mut(&1).unwrap().unsettled = 1;
    books.article(2, 2, &[1]);
    books.unsettled_records.borrow_mut().insert(2, 1);
    let findings = books.audited().await;
    assert_eq!(findings.not_compared, [ArticleId(1), ArticleId(2)]);
    assert_eq!((findings.articles_checked, findings.drift), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_settles_while_the_audit_looks_is_compared_after_all() {
    // A like that had raised the count before the first look makes its record after the records were counted, and is
    // settled before the last look: the change number does not move, and only the first look shows it.
    let books = FakeBooks::default();
    books.article(1, 1, &[]);
    books.articles.borrow_mut().get_mut(&1).unwrap().unsettled = 1;
    books.happens.borrow_mut().insert(3, |books| {
        books.records.borrow_mut().insert(1, vec![1]);
        books.articles.borrow_mut().entry(1).and_modify(|article| article.unsettled = 0);
    });
    let findings = books.audited().await;
    assert_eq!((findings.articles_checked, findings.drift, findings.not_compared), (1, vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn records_of_an_article_that_does_not_exist_are_drift_that_no_repair_touches() {
    let books = FakeBooks::default();
    books.article(1, 1, &[1]);
    books.records.borrow_mut().insert(7, vec![1, 2, 3]);
    let findings = books.audited().await;
    assert_eq!(findings.drift, [Drift { article: ArticleId(7), count: None, records: 3 }]);
    assert!(!repair(&books, &findings.drift[0]).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_is_named_and_everything_else_is_compared() {
    let books = FakeBooks::default();
    for id in 1..=4 {
        books.article(id, 1, &[id]);
    }
    books.article(5, 2, &[5]);
    books.damaged.borrow_mut().push(2);
    books.damaged_likers.borrow_mut().push(3);
    let findings = books.audited().await;
    let damaged = |id, why: &str| DamagedArticle { article: ArticleId(id), why: why.to_owned() };
    assert_eq!(findings.damaged, [damaged(2, "its count"), damaged(3, "1 of its like records")]);
    assert_eq!(findings.drift.iter().map(|drift| drift.article.0).collect::<Vec<_>>(), [5]);
    assert_eq!((findings.articles_checked, findings.not_compared), (3, vec![]));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_not_known_what_is_in_flight_a_difference_is_not_drift() {
    for at_the_articles in [true, false] {
        let books = FakeBooks::default();
        books.article(1, 2, &[1]);
        books.article(2, 1, &[1]);
        match at_the_articles {
            true => books.articles.borrow_mut().values_mut().for_each(|article| article.unaccounted = 1),
            false => books.unaccounted.set(1),
        }
        let findings = books.audited().await;
        assert_eq!((findings.not_compared, findings.drift), (vec![ArticleId(1)], vec![]));
        assert_eq!(findings.articles_checked, 1, "what agrees agrees");
    }
}

#[test]
fn damage_that_is_found_by_the_second_look_alone_counts_as_much() {
    let books = FakeBooks::default();
    books.article(1, 2, &[1]);
    let whole = books.articles.borrow()[&1].clone();
    let looks = Looks::begin(Some(ListedArticle::Whole(whole.clone()))).unwrap();
    assert!(matches!(looks.end(Some(ListedArticle::Whole(whole.clone()))), Look::Still { .. }));
    let unaccounted = Article { unaccounted: 1, ..whole };
    assert_eq!(looks.end(Some(ListedArticle::Whole(unaccounted))), Look::Moving);
}
