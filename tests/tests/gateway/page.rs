//! The operator's page in a real browser.

use std::io::Write;

use like_tests::browser::Browser;
use like_tests::gateway::{Gateway, Plan, like};
use like_tests::house::{House, Service};
use like_tests::http::Place;
use like_tests::promises;

use crate::PROGRAM;
use crate::operation::damage;
use crate::sagas::{TOKEN, token_file};

fn gateway(house: &House) -> Gateway {
    let flags = ["--admin-token-file", &token_file(house), "--timeout", "500ms", "--attention-after", "1"];
    Gateway::start(house, &Plan::with(&flags).tcp()).0
}

fn address(gateway: &Gateway) -> String {
    let Place::Tcp(address) = &gateway.place else { unreachable!("on TCP") };
    format!("http://{address}/")
}

/// Keeps a picture for people, where one is asked for (`LIKE_PICTURES=DIRECTORY`).
fn keep(browser: &mut Browser, name: &str) {
    let Some(directory) = std::env::var_os("LIKE_PICTURES") else { return };
    let path = std::path::Path::new(&directory).join(format!("{name}.png.base64"));
    std::fs::write(path, browser.picture()).expect("a picture");
}

#[test]
fn an_operator_sees_what_is_wrong_and_mends_it_on_the_page() {
    let mut house = House::open(PROGRAM);
    let gateway = gateway(&house);
    let Some(mut browser) = Browser::open(&house.path().join("profile"), &address(&gateway)) else { return };
    browser.screen(1200, 900, "light");
    browser.until("document.getElementById('verdict').textContent === 'All is well'");
    browser.until("document.getElementById('live-text').textContent === 'live'");

    // What happens is seen without asking.
    gateway.article(1);
    let hostile =
        serde_json::json!({ "article_id": 2, "title": "<img src=x onerror=document.title='taken'>" });
    gateway.post("/articles", &hostile).expect(201);
    gateway.until(200, &like(1, 6));
    browser.until("document.getElementById('recent').textContent.includes('like of article 1 by user 6')");
    browser.click("#more-articles", "");
    browser.until("document.getElementById('articles').textContent.includes('onerror')");
    let rows = "document.querySelectorAll('#articles tbody tr').length";
    let rows = browser.script(&format!("Promise.all([readArticles(), readArticles()]).then(() => {rows})"));
    assert_eq!(rows, 2, "whoever clicks twice sees no article twice");
    browser.click("#recent button", "by user 6");
    browser.until("document.querySelectorAll('#saga svg circle').length >= 6");
    browser.until("document.getElementById('saga').textContent.includes('every service knows')");
    keep(&mut browser, "saga");
    let liked = gateway.get("/overview").expect(200).json();
    let saga = liked["recent"][0]["saga_id"].as_str().expect("a saga").to_owned();
    browser.script("document.getElementById('saga').replaceChildren()");
    browser.script(&format!("Promise.all([show('mistyped', true), show('{saga}', true)])"));
    let shown = browser.script("document.getElementById('saga').textContent").to_string();
    assert!(shown.contains(&saga), "what was asked for last is shown, whatever becomes of the rest: {shown}");

    // No id is rounded, and none is shown otherwise than it has to be typed.
    gateway.article(u64::MAX);
    gateway.until(200, &like(u64::MAX, u64::MAX - 1));
    let act = format!("like of article {} by user {}", u64::MAX, u64::MAX - 1);
    browser.until(&format!("document.getElementById('recent').textContent.includes('{act}')"));
    browser.click("#more-articles", "Read again");
    let articles = "document.getElementById('articles').textContent";
    browser.until(&format!("{articles}.includes('{}')", u64::MAX));
    browser.script("[...document.querySelectorAll('#articles button')].at(-1).click()");
    let likers = "document.getElementById('likers').textContent";
    browser.until(&format!("{likers}.includes('is liked by user {}')", u64::MAX - 1));

    // A bad day.
    house.freeze(Service::User);
    gateway.until(202, &like(1, 7));
    house.kill(Service::User);
    browser.until("document.getElementById('verdict').textContent.includes('1 saga needs an operator')");
    browser
        .until("document.getElementById('verdict').textContent.includes('the user service does not answer')");
    browser.until("document.title.startsWith('(!)')");
    browser.until("document.getElementById('services').textContent.includes('Does not answer')");
    browser.until("!document.getElementById('trouble-section').hidden");
    keep(&mut browser, "trouble");

    // The end is forced, with the keyboard alone from the opened dialog on.
    browser.click("#trouble button", "Force an end");
    browser.until("document.getElementById('act').open && document.activeElement.id === 'act-reason'");
    keep(&mut browser, "dialog");
    browser.type_text("the disk is gone");
    browser.press("Tab");
    browser.type_text("not the token");
    browser.press("Enter");
    browser.until("document.getElementById('act-error').textContent.includes('not the administrators')");
    browser.script("document.getElementById('act-token').select()");
    browser.type_text(TOKEN);
    browser.press("Enter");
    browser.until("!document.getElementById('act').open");
    browser.until("document.getElementById('saga').textContent.includes('forced compensated')");
    browser.until("document.getElementById('saga').textContent.includes('the disk is gone')");
    browser.until("document.getElementById('trouble-section').hidden");
    assert_eq!(browser.script("location.href"), address(&gateway), "nothing is said in the address");

    // On a phone, in the dark.
    browser.screen(360, 780, "dark");
    browser.until("document.documentElement.scrollWidth <= window.innerWidth");
    keep(&mut browser, "phone");
    house.start(Service::User);
    browser.until("document.getElementById('verdict').textContent === 'All is well'");
    assert_eq!(browser.complaints, [""; 0]);
    house.likectl(&["--json", "recover"]).expect_code(0);
    promises::no_drift(&house);

    // A gateway that is gone is said to be.
    gateway.kill();
    browser.until("document.getElementById('live-text').textContent.includes('out of date')");
}

/// A hundred sagas at once: some need an operator, some are still tried, all for one reason.
#[test]
fn a_bad_day_stays_readable_on_a_phone_and_in_the_dark() {
    const STUCK: u64 = 60;
    const TRIED: u64 = 40;
    let mut house = House::open(PROGRAM);
    let gateway = gateway(&house);
    let patient = Plan::with(&["--timeout", "10m"]).named("patient");
    let (patient, _) = Gateway::start(&house, &patient);
    let Some(mut browser) = Browser::open(&house.path().join("profile"), &address(&gateway)) else { return };
    (1..=3).for_each(|article| gateway.article(article));
    for user in 0..6 {
        gateway.until(200, &like(1 + user % 3, 1_000_000 + user));
        patient.like(1 + user % 3, 2_000_000 + user).expect(200);
    }
    house.freeze(Service::User);
    let waiting: Vec<_> = (0..TRIED)
        .map(|user| {
            let mut stream = patient.place.connect().expect("a connection");
            stream.write_all(&like(1 + user % 3, 3_000_000 + user).bytes()).expect("sent");
            stream
        })
        .collect();
    std::thread::scope(|scope| {
        for user in 0..STUCK {
            let gateway = &gateway;
            scope.spawn(move || gateway.until(202, &like(1 + user % 3, 4_000_000 + user)));
        }
    });
    house.kill(Service::User);
    let wanted = format!("{STUCK} sagas need an operator");
    browser.until(&format!("document.getElementById('verdict').textContent.includes('{wanted}')"));
    browser.until("document.getElementById('open').textContent.includes('user service')");
    browser.until(
        "document.getElementById('trouble-first').textContent.includes('Mend the user service first')",
    );
    // Those that need an operator come first, though others are older.
    let open = gateway.get("/overview").expect(200).json()["open"].clone();
    let first = open.as_array().expect("a list").iter().take(STUCK as usize);
    assert!(first.clone().all(|saga| saga["needs_attention"] == true), "{open}");
    let shown = |list: &str, count| format!("document.querySelectorAll('{list}').length === {count}");
    browser.until(&shown("#trouble li", 5));
    browser.until(&shown("#open tbody tr", 10));
    for (name, width, height) in [("desktop", 1280, 900), ("phone", 390, 844)] {
        for scheme in ["light", "dark"] {
            browser.screen(width, height, scheme);
            browser.until("document.documentElement.scrollWidth <= window.innerWidth");
            // Titles are read, not spelled: two lines at most.
            let title = "document.querySelector('#open tbody button')";
            browser.until(&format!("{title}.getBoundingClientRect().height <= 60"));
            keep(&mut browser, &format!("bad-day-{name}-{scheme}"));
        }
    }
    // What needs an operator comes first by the keyboard, and what a button is about is said without seeing it.
    let stops: Vec<_> = (0..6)
        .map(|_| {
            browser.press("Tab");
            let said = "(e => e.getAttribute('aria-label') ?? e.textContent)(document.activeElement)";
            browser.script(said).as_str().expect("a text").to_owned()
        })
        .collect();
    assert_eq!(stops[..3], ["Skip to the content", "API", "Metrics"]);
    let saga = &stops[3];
    assert!(saga.starts_with("like of article"), "{stops:?}");
    assert_eq!(stops[4..], [format!("Retry now: {saga}"), format!("Force an end: {saga}")]);
    // Whoever thinks better of it is where it began, though all was drawn anew meanwhile.
    browser.press("Enter");
    browser.until("document.getElementById('act').open");
    browser.script("tell(overview)");
    browser.click("#act-cancel", "");
    browser.until(&format!("document.activeElement.getAttribute('aria-label') === 'Force an end: {saga}'"));

    // By the keyboard, and what is shown stays so when news comes.
    browser.script("document.getElementById('trouble-all').focus()");
    browser.press("Enter");
    browser.until(&shown("#trouble li", STUCK));
    browser.until("document.activeElement.id === 'trouble-all'");
    let at = browser.script("document.getElementById('counts').textContent");
    house.start(Service::User);
    browser.until(&format!("document.getElementById('counts').textContent !== {at}"));
    drop(waiting);
}

#[test]
fn what_is_damaged_or_cannot_be_read_is_said_first() {
    let mut house = House::open(PROGRAM);
    let gateway = gateway(&house);
    gateway.article(88);
    damage(&mut house);
    gateway.get("/articles/88").problem(500, "damaged");
    let Some(mut browser) = Browser::open(&house.path().join("profile"), &address(&gateway)) else { return };
    browser.screen(1000, 800, "light");
    let said = "The store of the article service is damaged; something is wrong with the saga log";
    browser.until(&format!("document.getElementById('verdict').textContent === '{said}'"));
    browser.until("document.getElementById('problems').textContent.includes('slot 77')");
    browser.until("document.getElementById('services').textContent.includes('likectl status names')");
    keep(&mut browser, "damaged");

    // The last picture is not taken for the present one.
    let away = house.path().join("away");
    std::fs::rename(house.journal(), &away).expect("a journal that is gone");
    browser.until("document.getElementById('verdict').textContent.includes('can\\'t be seen')");
    browser.until("document.getElementById('live-text').textContent.includes('out of date')");
    std::fs::rename(&away, house.journal()).expect("a journal that is back");
    browser.until(&format!("document.getElementById('verdict').textContent === '{said}'"));
    browser.until("document.getElementById('live-text').textContent === 'live'");
}

#[test]
fn the_api_is_shown_on_a_page() {
    let house = House::open(PROGRAM);
    let gateway = gateway(&house);
    let address = format!("{}docs", address(&gateway));
    let Some(mut browser) = Browser::open(&house.path().join("profile"), &address) else { return };
    browser.until("document.body.textContent.includes('POST /articles/{article_id}/like')");
    browser.until("document.body.textContent.includes('already_liked')");
    // A page of this length has a way in, and what is named can be followed.
    browser.click("nav li a", "POST /articles/{article_id}/like");
    let top = "document.getElementById('post--articles-article_id-like').getBoundingClientRect().top";
    browser.until(&format!("Math.abs({top}) < 60"));
    let link = "document.querySelector('td a[href=\"#Problem\"]') !== null";
    browser.until(&format!("{link} && document.getElementById('Problem') !== null"));
    browser.until("!document.getElementById('main').textContent.includes('`')");
    keep(&mut browser, "docs");
    assert_eq!(browser.complaints, [""; 0]);
}
