//! How long a request and a page may be, and how often the running time is saved.

use super::*;

#[test]
fn payloads_are_bounded() {
    let mut articles = articles();
    let titled = |bytes| payload(&ArticleCommand::Create { id: None, title: "t".repeat(bytes) });
    let head_bytes = titled(PAYLOAD_BYTES_MAX).0.len() - PAYLOAD_BYTES_MAX;
    let longest = titled(PAYLOAD_BYTES_MAX - head_bytes);
    assert!(
        matches!(articles.ask(RequestBody::Command(longest)), ReplyBody::Rejected(_)),
        "the domain's to say"
    );
    let longer = titled(PAYLOAD_BYTES_MAX - head_bytes + 1);
    assert!(matches!(articles.ask(RequestBody::Command(longer)), ReplyBody::Invalid(_)));
}

#[test]
fn payloads_that_make_no_sense_are_invalid() {
    let mut articles = articles();
    assert!(matches!(articles.act(1, &77u8), ReplyBody::Invalid(_)));
    assert!(matches!(articles.ask(RequestBody::Query(Payload::from(vec![77]))), ReplyBody::Invalid(_)));
    assert!(matches!(articles.ask(RequestBody::Command(Payload::from(vec![77]))), ReplyBody::Invalid(_)));
}

#[test]
fn running_time_is_saved_once_a_second_with_what_is_written_anyway() {
    let mut articles = articles();
    let saved = |articles: &Harness<Articles>| Tx::new(&articles.store).get(&[running::TAG]).unwrap();
    let at_start = saved(&articles);
    articles.wait(999);
    articles.act(1, &ADD);
    assert_eq!(saved(&articles), at_start, "not with every group");
    articles.wait(1);
    assert_eq!(likes(&mut articles), 1);
    assert_eq!(saved(&articles), at_start, "nor for its own sake");
    articles.act(2, &ADD);
    assert_ne!(saved(&articles), at_start);
}

#[test]
fn nobody_gets_more_unsettled_steps_at_once_than_a_page_has() {
    let mut articles = articles();
    let deadline = articles.within(10_000);
    let ids: Vec<_> =
        [1, 2].iter().flat_map(|by| (0..=u8::MAX).map(|step| StepId { saga: saga(*by), step })).collect();
    let cancel = |id: &StepId| {
        let (direction, operation) = (Direction::Compensation, payload(&ADD));
        RequestBody::Step(StepRequest { id: *id, direction, deadline, operation })
    };
    articles.group(ids.iter().map(cancel).collect());
    let (mut pages, mut after) = (Vec::new(), None);
    while let ReplyBody::Unsettled(page) = articles.ask(RequestBody::Unsettled { after, limit: u32::MAX })
        && let Some(last) = page.last()
    {
        assert!(page.len() <= PAGE_ROWS_MAX as usize, "{}", page.len());
        after = Some(last.id);
        pages.extend(page.iter().map(|row| row.id));
    }
    assert_eq!(pages, ids);
}
