use super::*;
use crate::participant::harness::*;
use like_protocol::message::{PAGE_ROWS_MAX, Payload, ReplyBody, StepReply};

const A: ArticleId = ArticleId(1);

fn create(articles: &mut Harness<Articles>, id: Option<u64>, title: &str) -> ReplyBody {
    articles.command(&ArticleCommand::Create { id: id.map(ArticleId), title: title.to_owned() })
}

fn article(id: u64, title: &str, likes: u64, change: u64, unsettled: u32) -> Article {
    Article { id: ArticleId(id), title: title.to_owned(), likes, change, unsettled, unaccounted: 0 }
}

fn shown(article: Article) -> ReplyBody {
    ReplyBody::Answer(payload(&ArticleAnswer::Article(article)))
}

fn refused(rejection: ArticleRejection) -> ReplyBody {
    ReplyBody::Rejected(payload(&rejection))
}

fn show(articles: &mut Harness<Articles>, id: u64) -> ReplyBody {
    articles.query(&ArticleQuery::Show(ArticleId(id)))
}

fn repair(articles: &mut Harness<Articles>, likes: u64, if_change: u64) -> ReplyBody {
    articles.command(&ArticleCommand::Repair { article: A, likes, if_change })
}

#[test]
fn rows_are_pinned() {
    let mut articles = Harness::new(Articles);
    create(&mut articles, Some(258), "tea");
    for number in 1..=3 {
        articles.act(number, &ArticleOperation::AddLike(ArticleId(258)));
    }
    let rows = articles.domain_rows();
    let id = [0, 0, 0, 0, 0, 0, 1, 2];
    let title = ([&[0x10][..], &id].concat(), b"\x03tea".to_vec());
    let count = ([&[0x11][..], &id].concat(), vec![3, 3]);
    assert_eq!(rows, [title, count]);
}

#[test]
fn operations_and_replies_are_pinned() {
    for (operation, golden) in [
        (ArticleOperation::AddLike(ArticleId(300)), [0, 172, 2]),
        (ArticleOperation::RemoveLike(ArticleId(300)), [1, 172, 2]),
    ] {
        assert_eq!(operation.stored(), golden);
        assert_eq!(ArticleOperation::load_all(&golden), Ok(operation));
    }
    assert_eq!(ArticleReply { likes: 300 }.stored(), [172, 2]);
    assert!(ArticleOperation::load_all(&[2, 1]).is_err());
}

#[test]
fn articles_are_made_once_under_an_id() {
    let mut articles = Harness::new(Articles);
    assert_eq!(create(&mut articles, Some(5), "five"), shown(article(5, "five", 0, 0, 0)));
    assert_eq!(
        create(&mut articles, Some(5), "other"),
        refused(ArticleRejection::AlreadyExists(ArticleId(5)))
    );
    assert_eq!(show(&mut articles, 5), shown(article(5, "five", 0, 0, 0)));
    assert_eq!(show(&mut articles, 6), refused(ArticleRejection::NotFound(ArticleId(6))));
}

#[test]
fn ids_that_are_not_given_follow_the_highest_one_whatever_high_ones_are_given() {
    let mut articles = Harness::new(Articles);
    for (given, expected) in [
        (None, 1),
        (Some(7), 7),
        (None, 8),
        (Some(u64::MAX), u64::MAX),
        (None, 9),
        (Some(u64::MAX - 1), u64::MAX - 1),
        (Some(i64::MAX as u64), i64::MAX as u64),
        (Some((1 << 53) - 1), (1 << 53) - 1),
        (Some(CHOSEN_ID_MAX.0 + 1), CHOSEN_ID_MAX.0 + 1),
        (None, 10),
        (Some(u64::from(u32::MAX)), u64::from(u32::MAX)),
        (None, 1 << 32),
    ] {
        assert_eq!(create(&mut articles, given, "t"), shown(article(expected, "t", 0, 0, 0)));
    }
}

#[test]
fn where_no_id_follows_one_has_to_be_given() {
    let mut articles = Harness::new(Articles);
    let last = CHOSEN_ID_MAX.0;
    for (given, expected) in [(Some(last - 1), last - 1), (None, last)] {
        assert_eq!(create(&mut articles, given, "t"), shown(article(expected, "t", 0, 0, 0)));
    }
    assert_eq!(create(&mut articles, None, "t"), refused(ArticleRejection::NoNextId));
    assert_eq!(create(&mut articles, None, ""), refused(ArticleRejection::BadTitle), "that comes first");
    assert_eq!(create(&mut articles, Some(3), "t"), shown(article(3, "t", 0, 0, 0)));
    assert_eq!(create(&mut articles, None, "t"), refused(ArticleRejection::NoNextId));
}

#[test]
fn titles_have_1_to_255_characters() {
    let mut articles = Harness::new(Articles);
    let bad = refused(ArticleRejection::BadTitle);
    assert_eq!(create(&mut articles, None, ""), bad);
    assert_eq!(create(&mut articles, None, &"ö".repeat(256)), bad);
    let longest = "🫖".repeat(255);
    assert_eq!(create(&mut articles, None, &longest), shown(article(1, &longest, 0, 0, 0)));
}

#[test]
fn a_full_page_of_the_longest_titles_can_be_sent() {
    let mut articles = Harness::new(Articles);
    for _ in 0..PAGE_ROWS_MAX + 1 {
        create(&mut articles, None, &"🫖".repeat(255));
    }
    let ReplyBody::Answer(Payload(bytes)) =
        articles.query(&ArticleQuery::List { after: None, limit: u32::MAX })
    else {
        panic!("no page");
    };
    assert!(bytes.len() < like_protocol::codec::REPLY_FRAME_BYTES_MAX - 64, "{}", bytes.len());
    let ArticleAnswer::Page(page) = like_protocol::codec::decode(&bytes).unwrap() else { panic!("no page") };
    assert_eq!(page.len(), PAGE_ROWS_MAX as usize);
}

#[test]
fn articles_are_listed_by_id_in_pages() {
    let mut articles = Harness::new(Articles);
    for id in [300, 2, 1] {
        create(&mut articles, Some(id), "t");
    }
    articles.act(1, &ArticleOperation::AddLike(ArticleId(2)));
    let page = |articles: Vec<Article>| {
        let listed = articles.into_iter().map(ListedArticle::Whole).collect();
        ReplyBody::Answer(payload(&ArticleAnswer::Page(listed)))
    };
    let list = |after: Option<u64>, limit| ArticleQuery::List { after: after.map(ArticleId), limit };
    let (first, second, third) =
        (article(1, "t", 0, 0, 0), article(2, "t", 1, 1, 1), article(300, "t", 0, 0, 0));
    assert_eq!(articles.query(&list(None, 2)), page(vec![first, second.clone()]));
    assert_eq!(articles.query(&list(Some(1), 9)), page(vec![second, third]));
    assert_eq!(articles.query(&list(Some(300), 9)), page(vec![]));
}

#[test]
fn likes_go_up_and_down_and_compensations_commute() {
    let mut articles = Harness::new(Articles);
    create(&mut articles, Some(1), "t");
    let (add, remove) = (ArticleOperation::AddLike(A), ArticleOperation::RemoveLike(A));
    articles.act(1, &add);
    articles.act(2, &add);
    assert_eq!(articles.act(3, &remove), done(&ArticleReply { likes: 1 }));
    articles.undo(1, &add);
    assert_eq!(show(&mut articles, 1), shown(article(1, "t", 0, 4, 3)));
    articles.undo(3, &remove);
    for number in 1..=3 {
        articles.settle(number);
    }
    assert_eq!(show(&mut articles, 1), shown(article(1, "t", 1, 5, 0)), "what saga 2 added");
}

#[test]
fn a_count_is_repaired_only_as_it_was_seen_and_while_nothing_is_under_way() {
    let mut articles = Harness::new(Articles);
    create(&mut articles, Some(1), "t");
    let changed = refused(ArticleRejection::Changed(A));
    articles.act(1, &ArticleOperation::AddLike(A));
    assert_eq!(repair(&mut articles, 5, 1), changed, "a step is unsettled");
    articles.settle(1);
    assert_eq!(repair(&mut articles, 5, 0), changed, "the count has moved");
    assert_eq!(repair(&mut articles, 5, 1), shown(article(1, "t", 5, 2, 0)));
    assert_eq!(repair(&mut articles, 6, 1), changed);
    let missing = ArticleCommand::Repair { article: ArticleId(9), likes: 1, if_change: 0 };
    assert_eq!(articles.command(&missing), refused(ArticleRejection::NotFound(ArticleId(9))));
}

#[test]
fn taking_back_a_like_that_a_bad_repair_took_away_still_ends_the_saga() {
    // A repair is refused while a step is unsettled, so only a store that was tampered with gets here.
    let mut articles = Harness::new(Articles);
    create(&mut articles, Some(1), "t");
    articles.act(1, &ArticleOperation::AddLike(A));
    articles.put_row(key(COUNT, A), Count { likes: 0, change: 9 }.stored());
    assert_eq!(articles.undo(1, &ArticleOperation::AddLike(A)), ReplyBody::Step(StepReply::Undone));
    assert_eq!(show(&mut articles, 1), shown(article(1, "t", 0, 9, 1)));
}
