use std::sync::Arc;

use like_protocol::ids::{SagaId, StoreId};
use like_protocol::message::{DaemonStatus, Payload};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw::{Theme, draw};
use super::follow::{Ended, Journaled, Seen};
use super::look::{Look, ServiceSeen};
use super::page::{Key, Page, Part};
use super::picture::Picture;
use crate::log::{Owner, SagaRecord, Story};
use crate::saga::event::{Failure, FailureKind};
use crate::saga::{End, Event, TurnBack};
use crate::view::Counts;
use crate::view::samples::{begun, foreign};

const NOW_MS: u64 = 1_763_805_600_000;

/// A saga of this user whose events came a millisecond apart, the first so long ago.
fn seen(user: u8, ago_ms: u64, events: Vec<Event>) -> Seen {
    let saga = SagaId::from_bytes([user; 16]);
    let at_ms = |seq: u32| NOW_MS - ago_ms + u64::from(seq);
    let record = |(seq, event)| SagaRecord { saga, seq, at_ms: at_ms(seq), event };
    let story = Story::of((0..).zip(events).map(record).collect()).unwrap();
    Seen { slot: 3, owner: None, story: Arc::new(story) }
}

fn completed(user: u8) -> Vec<Event> {
    vec![
        begun(user.into()),
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionDone { step: 0, reply: Payload::default() },
        Event::ActionSent { step: 1, attempt: 1 },
        Event::ActionDone { step: 1, reply: Payload::default() },
        Event::Ended(End::Completed),
        Event::Settled,
    ]
}

/// One that turned back, and whose compensation has failed so often.
fn stuck(user: u8, failures: u32) -> Vec<Event> {
    let failure = || Failure { kind: FailureKind::NotSent, detail: "the article service is down".to_owned() };
    let mut events = completed(user)[..3].to_vec();
    events.push(Event::TurnedBack(TurnBack::Deadline { step: 1 }));
    for attempt in 1..=failures {
        events.push(Event::CompensationSent { step: 0, attempt });
        events.push(Event::CompensationFailed { step: 0, failure: failure(), in_a_row: attempt });
    }
    events
}

fn owner(stopped: bool) -> Option<Owner> {
    Some(Owner { pid: 12, command: "like-gateway".to_owned(), stopped })
}

fn status(groups: u64, committed: u64) -> DaemonStatus {
    DaemonStatus {
        role: "article".to_owned(),
        store: StoreId::from_bytes([1; 16]),
        software: "0.1.0".to_owned(),
        pid: 4,
        up_ms: 125_000,
        connections: 2,
        queued: 1,
        queue_limit: 4096,
        unsettled: 2,
        collectable: 0,
        groups,
        committed,
        store_bytes: 1536,
        free_bytes: 5 << 30,
        storage_low: false,
        damaged: 0,
        damaged_rows: Vec::new(),
    }
}

fn up(service: &'static str, groups: u64, committed: u64) -> ServiceSeen {
    ServiceSeen { service, socket: format!("/run/{service}"), status: Ok(status(groups, committed)) }
}

fn look(at_ms: u64, services: Vec<ServiceSeen>, log: Journaled) -> Look {
    Look { at_ms, journal: "/journal".to_owned(), services, log, attention_after: 5 }
}

fn both_up(log: Journaled) -> Look {
    look(NOW_MS, vec![up("article", 40, 100), up("user", 40, 100)], log)
}

/// A daemon is down, a saga is stuck for it, one has a stopped runner, and a store is damaged.
fn bad_day() -> Look {
    let mut user = status(40, 100);
    (user.storage_low, user.damaged) = (true, 2);
    let down = ("there is nothing at /run/article.sock".to_owned(), Some("start it".to_owned()));
    let services = vec![
        ServiceSeen { service: "article", socket: "/run/article".to_owned(), status: Err(down) },
        ServiceSeen { service: "user", socket: "/run/user".to_owned(), status: Ok(user) },
    ];
    let frozen = Seen { owner: owner(true), ..seen(8, 2_000, completed(8)[..2].to_vec()) };
    let log = Journaled {
        open: vec![frozen, seen(9, 400_000, stuck(9, 5))],
        recent: vec![seen(7, 1_000, completed(7))],
        lately: vec![Ended { at_ms: NOW_MS - 995, took_ms: 5, state: "completed" }],
        problems: vec!["the journal is damaged: slot 1".to_owned()],
    };
    look(NOW_MS, services, log)
}

fn screen(picture: &Picture, page: &mut Page, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, picture, page, Theme { colored: false })).unwrap();
    let text = terminal.backend().to_string();
    let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn rates_are_told_against_the_look_before_and_not_across_a_restart() {
    let before = look(NOW_MS - 2_000, vec![up("article", 10, 40), up("user", 10, 40)], Journaled::default());
    let mut now = both_up(Journaled::default());
    now.services[1] =
        ServiceSeen { status: Ok(DaemonStatus { pid: 5, ..status(50, 900) }), ..up("user", 0, 0) };
    let picture = Picture::of(&now, Some(&before));
    let [article, user] = [0, 1].map(|at| picture.services[at].answer.as_ref().unwrap());
    assert_eq!((article.requests_per_s, article.group_size), (Some(30.0), Some(2.0)));
    assert_eq!((user.requests_per_s, user.group_size), (None, None));
    assert_eq!(Picture::of(&now, None).services[0].answer.as_ref().unwrap().requests_per_s, None);
}

#[test]
fn latencies_are_of_the_last_minute_and_rates_of_the_last_ten_seconds() {
    let ended = |ago_ms, took_ms, state| Ended { at_ms: NOW_MS - ago_ms, took_ms, state };
    let mut lately: Vec<_> = (1..=100).map(|took_ms| ended(20_000, took_ms, "completed")).collect();
    lately.extend([
        ended(1_000, 1, "completed"),
        ended(1_000, 1, "compensated"),
        ended(61_000, 999, "completed"),
    ]);
    let picture = Picture::of(&both_up(Journaled { lately, ..Journaled::default() }), None);
    let lately = &picture.lately;
    assert_eq!((lately.completed_per_s, lately.undone_per_s, lately.ended), (0.1, 0.1, 102));
    assert_eq!((lately.p50_ms, lately.p99_ms, lately.max_ms), (Some(49), Some(99), Some(100)));
    let none = Picture::of(&both_up(Journaled::default()), None).lately;
    assert_eq!((none.p50_ms, none.p99_ms, none.max_ms), (None, None, None));
}

#[test]
fn what_needs_an_operator_comes_first_with_the_command_that_helps() {
    let settling = Seen { owner: owner(false), ..seen(1, 3_000, completed(1)[..6].to_vec()) };
    let lost = SagaRecord {
        saga: SagaId::from_bytes([6; 16]),
        seq: 3,
        at_ms: NOW_MS - 10,
        event: Event::ActionSent { step: 1, attempt: 1 },
    };
    let lost = Seen { slot: 1, owner: None, story: Arc::new(Story::of(vec![lost]).unwrap()) };
    let open = vec![
        settling,
        Seen { owner: owner(false), ..seen(2, 2_000, stuck(2, 1)) },
        seen(3, 1_000, completed(3)[..2].to_vec()),
        Seen { owner: owner(true), ..seen(4, 900, completed(4)[..2].to_vec()) },
        seen(5, 400_000, stuck(5, 5)),
        seen(8, 800, foreign(completed(8)[..2].to_vec())),
        lost,
    ];
    let picture = Picture::of(&both_up(Journaled { open, ..Journaled::default() }), None);
    let counts =
        Counts { running: 3, compensating: 2, quarantined: 1, unsettled: 1, needs_attention: 2, hanging: 1 };
    assert_eq!(picture.counts, counts);
    let id = |byte: u8| SagaId::from_bytes([byte; 16]).to_string();
    let shown = picture.open.iter().map(|saga| (saga.summary.saga_id.clone(), saga.command.clone()));
    let command = |text: String| Some(text);
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            (id(5), command(format!("likectl saga retry {}", id(5)))),
            (
                id(6),
                command(format!("likectl saga force {} --as completed|compensated --reason TEXT", id(6)))
            ),
            (id(2), None),
            (id(3), command("likectl recover".to_owned())),
            (id(4), command("kill -CONT 12".to_owned())),
            (id(8), command(format!("likectl saga show {}", id(8)))),
            (id(1), None),
        ]
    );
    assert_eq!(picture.open[0].trouble.as_deref(), Some("the article service is down"));
}

#[test]
fn a_quiet_day_fits_a_small_screen() {
    let log = Journaled {
        recent: vec![seen(7, 1_000, completed(7))],
        lately: vec![Ended { at_ms: NOW_MS - 995, took_ms: 5, state: "completed" }],
        ..Journaled::default()
    };
    let picture = Picture::of(&both_up(log), None);
    let expected = "\
likectl top  2025-11-22 10:00:00
nothing unfinished
0.1/s completed   p50 5 ms   p99 5 ms   max 5 ms   (1 ended in a minute)

SERVICE               UP   REQ/S  GROUP      QUEUE UNSETTLED      STORE       FREE
article  up    2 min 5 s       -      -     1/4096         2    1.5 KiB    5.0 GiB
user     up    2 min 5 s       -      -     1/4096         2    1.5 KiB    5.0 GiB

ENDED LAST
> like of article 1 by user 7, completed, 5 ms


q quit  ↑↓ choose  Enter timeline  ? help";
    assert_eq!(screen(&picture, &mut Page::default(), 90, 13), expected);
}

#[test]
fn a_bad_day_says_what_is_wrong_and_which_command_helps() {
    let picture = Picture::of(&bad_day(), None);
    let expected = "\
likectl top  2025-11-22 10:00:00
1 NEED ATTENTION, 1 running, 1 compensating, 1 open for over five minutes
0.1/s completed   p50 5 ms   p99 5 ms   max 5 ms   (1 ended in a minute)

✗ the journal is damaged: slot 1
SERVICE               UP   REQ/S  GROUP      QUEUE UNSETTLED      STORE       FREE
article  DOWN: there is nothing at /run/article.sock
  → start it
user     up    2 min 5 s       -      -     1/4096         2    1.5 KiB    5.0 GiB
! the user service refuses new actions: its disk space is short, or can't be told
✗ the user service's store is damaged (2 rows): see likectl status

OPEN
> like of article 1 by user 9, compensating, NEEDS ATTENTION, 6 min 40 s
    ✗ the article service is down
    → likectl saga retry 09090909-0909-0909-0909-090909090909
  like of article 1 by user 8, running, 2.00 s
    ✗ its runner, pid 12 (like-gateway), which is stopped, does nothing
    → kill -CONT 12
ENDED LAST
  like of article 1 by user 7, completed, 5 ms

q quit  ↑↓ choose  Enter timeline  ? help";
    assert_eq!(screen(&picture, &mut Page::default(), 90, 23), expected);
}

#[test]
fn a_terminal_of_forty_columns_shows_all_of_it() {
    let picture = Picture::of(&bad_day(), None);
    let expected = "\
likectl top  2025-11-22 10:00:00
1 NEED ATTENTION, 1 running, 1
compensating, 1 open for over five
minutes
0.1/s completed   p50 5 ms   p99 5 ms
max 5 ms   (1 ended in a minute)

✗ the journal is damaged: slot 1
article  DOWN: there is nothing at
         /run/article.sock
  → start it
user     up 2 min 5 s, - req/s, groups
         -, queue 1/4096, unsettled 2,
         store 1.5 KiB, free 5.0 GiB
! the user service refuses new actions:
  its disk space is short, or can't be
  told
✗ the user service's store is damaged (2
  rows): see likectl status

OPEN
> like of article 1 by user 9,
  compensating, NEEDS ATTENTION, 6 min
  40 s
    ✗ the article service is down
    → likectl saga retry
      09090909-0909-0909-0909-0909090909
      09
  like of article 1 by user 8, running,
  2.00 s";
    let shown = screen(&picture, &mut Page::default(), 40, 43);
    assert!(shown.starts_with(expected), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 40), "{shown}");
}

#[test]
fn any_size_of_terminal_can_be_drawn_on() {
    let picture = Picture::of(&bad_day(), None);
    for (width, height) in [(1, 1), (3, 40), (200, 2), (40, 5), (89, 13)] {
        for part in [Part::Sagas, Part::Timeline, Part::Help] {
            let mut page = Page::default();
            (page.part, page.scrolled) = (part, 9);
            screen(&picture, &mut page, width, height);
        }
    }
    assert!(screen(&Picture::default(), &mut Page::default(), 40, 4).contains("looking"));
}

#[test]
fn enter_opens_the_timeline_of_the_chosen_saga_which_stays_chosen_when_the_list_changes() {
    let picture = Picture::of(&bad_day(), None);
    let mut page = Page::default();
    let press = |page: &mut Page, key| assert!(!page.press(key, &picture), "{key:?} ends nothing");
    press(&mut page, Key::Down);
    assert_eq!(page.chosen(&picture).unwrap().summary.user_id, Some(8));
    press(&mut page, Key::Previous);
    press(&mut page, Key::Previous);
    assert_eq!(page.chosen(&picture).unwrap().summary.user_id, Some(7), "round and round");
    press(&mut page, Key::Next);
    press(&mut page, Key::Open);
    let shown = screen(&picture, &mut page, 90, 30);
    for told in [
        "like of article 1 by user 9",
        "state    compensating, NEEDS ATTENTION, hangs",
        "✗ add like: ",
        "What may be done next",
        "Safe, once the cause is gone: `likectl saga retry 09090909-0909-0909-0909-090909090909`",
    ] {
        let told = told.replace(", hangs", "");
        assert!(shown.contains(&told), "{told}: {shown}");
    }

    let mut later = bad_day();
    later.log.open.insert(0, seen(1, 500_000, stuck(1, 9)));
    let later = Picture::of(&later, None);
    assert_eq!(page.chosen(&later).unwrap().summary.user_id, Some(9));
    let gone = Picture::of(&both_up(Journaled::default()), None);
    let shown = screen(&gone, &mut page, 90, 5).replace('\n', " ");
    assert!(shown.contains("likectl saga show 09090909-"), "{shown}");
    assert!(!page.press(Key::Back, &gone));
    assert_eq!(page.part, Part::Sagas);
    assert!(page.press(Key::Quit, &gone));
}

#[test]
fn a_text_is_not_scrolled_further_than_its_end() {
    let picture = Picture::of(&bad_day(), None);
    let mut page = Page::default();
    page.press(Key::Help, &picture);
    (0..100).for_each(|_| assert!(!page.press(Key::Down, &picture)));
    let shown = screen(&picture, &mut page, 80, 6);
    assert!(shown.contains("by the saga log."), "{shown}");
    let end = page.scrolled;
    page.press(Key::Up, &picture);
    assert_eq!(page.scrolled, end - 1);
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let picture = Picture::of(&bad_day(), None);
    let colors = |colored| {
        let mut terminal = Terminal::new(TestBackend::new(80, 30)).unwrap();
        terminal.draw(|frame| draw(frame, &picture, &mut Page::default(), Theme { colored })).unwrap();
        let cells = &terminal.backend().buffer().content;
        cells.iter().filter(|cell| cell.fg != ratatui::style::Color::Reset).count()
    };
    assert_eq!(colors(false), 0);
    assert!(colors(true) > 0);
}
