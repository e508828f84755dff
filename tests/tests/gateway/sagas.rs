//! Sagas over HTTP: what the log tells, and what administrators may do.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use like_tests::gateway::{Gateway, Plan, like, unlike};
use like_tests::house::{House, Service};
use like_tests::http::{Answer, Request, read_on};
use like_tests::process::eventually;
use like_tests::promises;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{PROGRAM, opened};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub const UNKNOWN: &str = "0198f000-0000-7000-8000-000000000000";

/// A gateway whose administrators' token is [`TOKEN`]; its likes try for half a second.
pub fn with_token(house: &House) -> Gateway {
    Gateway::start(house, &Plan::with(&["--admin-token-file", &token_file(house), "--timeout", "500ms"])).0
}

/// A file with [`TOKEN`].
pub fn token_file(house: &House) -> String {
    let file = house.path().join("token");
    std::fs::write(&file, TOKEN).expect("a file");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
    file.display().to_string()
}

pub fn act(gateway: &Gateway, saga: &str, act: &str, token: Option<&str>, document: &Value) -> Answer {
    let request = Request::new("POST", &format!("/sagas/{saga}/{act}")).json(document);
    gateway.send(&match token {
        Some(token) => request.header("Authorization", format!("Bearer {token}")),
        None => request,
    })
}

fn ids(page: &Answer) -> Vec<String> {
    let page = page.json();
    let rows = page.as_array().expect("a list").iter();
    rows.map(|saga| saga["saga_id"].as_str().expect("an id").to_owned()).collect()
}

/// Leaves a saga that has turned back and can't compensate its user step, in the slot of the gateway itself.
pub fn stuck(house: &mut House, gateway: &Gateway) -> String {
    gateway.until(200, &like(1, 6));
    house.freeze(Service::User);
    let pending = gateway.until(202, &like(1, 7)).json();
    house.kill(Service::User);
    pending["saga_id"].as_str().expect("a saga").to_owned()
}

#[test]
fn sagas_are_listed_newest_first_filtered_and_paged() {
    let (_house, gateway) = opened();
    gateway.article(2);
    let of = |answer: Answer| answer.expect(200).json()["saga_id"].as_str().expect("an id").to_owned();
    let made: Vec<_> =
        [gateway.like(1, 7), gateway.like(1, 8), gateway.like(2, 7), gateway.send(&unlike(1, 7))]
            .into_iter()
            .map(of)
            .collect();
    let newest_first: Vec<_> = made.iter().rev().cloned().collect();
    assert_eq!(ids(&gateway.get("/sagas").expect(200)), newest_first);

    let first = gateway.get("/sagas?limit=3&state=completed").expect(200);
    assert_eq!(ids(&first), newest_first[..3]);
    let link = first.header("link").expect("a next page");
    let next = link.trim_start_matches('<').split('>').next().expect("a path");
    let last = gateway.get(next).expect(200);
    assert_eq!(ids(&last), newest_first[3..]);
    assert_eq!(last.header("link"), None);

    assert_eq!(ids(&gateway.get("/sagas?kind=unlike").expect(200)), [made[3].clone()]);
    assert_eq!(ids(&gateway.get("/sagas?article_id=2").expect(200)), [made[2].clone()]);
    assert_eq!(ids(&gateway.get("/sagas?user_id=8").expect(200)), [made[1].clone()]);
    assert_eq!(ids(&gateway.get("/sagas?state=running,compensating").expect(200)), [""; 0]);
    assert_eq!(ids(&gateway.get("/sagas?needs_attention=true").expect(200)), [""; 0]);
    gateway.get("/sagas?state=sleeping").problem(422, "invalid");
    gateway.get("/sagas?before=yesterday").problem(422, "invalid");
}

/// Pages over a history of many segments, in which sagas end in another one than they began in.
#[test]
fn a_long_history_is_listed_page_by_page_and_read_no_more_than_needed() {
    let house = House::open(PROGRAM);
    for _ in 0..3 {
        house.json(&["bench", "--likes", "250", "--concurrency", "32"]);
    }
    let segments = std::fs::read_dir(house.journal().join("0")).expect("a slot").count();
    assert!(segments >= 3, "{segments} segments");
    let gateway = Gateway::open(&house);
    gateway.article(77);
    gateway.like(77, 7).expect(200);
    let all = house.json(&["saga", "list"]);
    let mut wanted: Vec<_> = all.as_array().expect("a list").iter().collect();
    wanted.sort_by_key(|saga| std::cmp::Reverse(saga["saga_id"].as_str()));
    let wanted: Vec<_> =
        wanted.iter().map(|saga| saga["saga_id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(wanted.len(), 751);
    // At first nothing is known of the segments, then how old their sagas are.
    for _ in 0..2 {
        let mut listed = Vec::new();
        let mut next = Some("/sagas?limit=77".to_owned());
        while let Some(path) = next {
            let page = gateway.get(&path).expect(200);
            listed.extend(ids(&page));
            let link = page.header("link").and_then(|link| link.strip_prefix('<')?.split('>').next());
            next = link.map(str::to_owned);
        }
        assert_eq!(listed, wanted);
    }
    let oldest = wanted.last().expect("a saga");
    gateway.get(&format!("/sagas/{oldest}")).expect(200);
    assert_eq!(ids(&gateway.get("/sagas?article_id=77&user_id=7").expect(200)), wanted[..1]);
}

#[test]
fn a_saga_is_shown_as_the_command_line_shows_it() {
    let (house, gateway) = opened();
    let liked = gateway.like(1, 7).expect(200).json();
    let saga = liked["saga_id"].as_str().expect("an id");
    let shown = eventually("a settled saga", || {
        let shown = gateway.get(&format!("/sagas/{saga}")).expect(200).json();
        (shown["settled"] == true).then_some(shown)
    });
    assert_eq!(shown, house.json(&["saga", "show", saga]));
    gateway.get(&format!("/sagas/{UNKNOWN}")).problem(404, "not_found");
    gateway.get("/sagas/one").problem(422, "invalid");
}

#[test]
fn nobody_administers_unless_somebody_was_named() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let reason = json!({ "reason": "to see" });
    for act_name in ["retry", "compensate"] {
        act(&gateway, UNKNOWN, act_name, Some(TOKEN), &reason).problem(403, "forbidden");
    }
    let forced = json!({ "as": "completed", "reason": "to see" });
    act(&gateway, UNKNOWN, "force", None, &forced).problem(403, "forbidden");
}

#[test]
fn administrators_are_known_by_their_token_or_as_users_of_this_host() {
    let house = House::open(PROGRAM);
    let gateway = with_token(&house);
    let reason = json!({ "reason": "to see" });
    let unknown = act(&gateway, UNKNOWN, "retry", None, &reason);
    assert_eq!(unknown.header("www-authenticate"), Some("Bearer realm=\"like\""));
    unknown.problem(401, "unauthorized");
    act(&gateway, UNKNOWN, "retry", Some(&TOKEN.to_uppercase()), &reason).problem(401, "unauthorized");
    act(&gateway, UNKNOWN, "retry", Some(TOKEN), &reason).problem(404, "not_found");
    act(&gateway, UNKNOWN, "retry", Some(TOKEN), &json!({ "reason": " " })).problem(422, "invalid");
    act(&gateway, UNKNOWN, "retry", Some(TOKEN), &json!({})).problem(422, "invalid");
    let long = |characters| json!({ "reason": "é".repeat(characters) });
    act(&gateway, UNKNOWN, "retry", Some(TOKEN), &long(801)).problem(422, "invalid");
    act(&gateway, UNKNOWN, "retry", Some(TOKEN), &long(800)).problem(404, "not_found");
    assert!(!gateway.log().contains(TOKEN), "a token is no log line");
    gateway.kill();

    let me = rustix::process::getuid().as_raw().to_string();
    let (gateway, _) = Gateway::start(&house, &Plan::with(&["--admin-user", &me]));
    act(&gateway, UNKNOWN, "retry", None, &reason).problem(404, "not_found");
    gateway.kill();
    let (gateway, _) = Gateway::start(&house, &Plan::with(&["--admin-user", "4711"]));
    act(&gateway, UNKNOWN, "retry", None, &reason).problem(401, "unauthorized");
    gateway.kill();
    let (gateway, _) = Gateway::start(&house, &Plan::with(&["--admin-user", &me]).tcp());
    act(&gateway, UNKNOWN, "retry", None, &reason).problem(401, "unauthorized");
}

#[test]
fn an_administrator_forces_the_end_of_a_saga_that_the_gateway_itself_drives() {
    let mut house = House::open(PROGRAM);
    let gateway = with_token(&house);
    gateway.article(1);
    let saga = stuck(&mut house, &gateway);
    let forced = json!({ "as": "compensated", "reason": "the disk is gone" });
    let acted = act(&gateway, &saga, "force", Some(TOKEN), &forced).expect(200).json();
    assert_eq!(acted["saga"]["state"], "forced_compensated", "{acted}");
    assert!(acted["leaves_broken"].as_array().is_some_and(|broken| broken.len() == 1), "{acted}");
    let told = house.json(&["saga", "show", &saga]).to_string();
    assert!(
        told.contains("the disk is gone (by a holder of the administrators' token, over HTTP)"),
        "{told}"
    );
    act(&gateway, &saga, "retry", Some(TOKEN), &json!({ "reason": "too late" })).problem(409, "ended");

    // The gateway goes on in another slot.
    house.start(Service::User);
    eventually("a like after all", || (gateway.like(1, 7).status == 200).then_some(()));
    house.likectl(&["--json", "recover"]).expect_code(0);
    promises::no_drift(&house);
}

/// While the gateway lets go of the slot of the saga that is acted on, a like that is under way holds that up.
#[test]
fn an_administrator_who_hangs_up_leaves_no_saga_where_nobody_reaches_it() {
    let house = House::open(PROGRAM);
    let gateway = with_token(&house);
    gateway.article(1);
    gateway.until(200, &like(1, 6));
    house.freeze(Service::User);
    let pending = gateway.until(202, &like(1, 7)).json();
    let sagas = || house.json(&["saga", "list"]).as_array().map_or(0, Vec::len);
    let before = sagas();
    let saga = pending["saga_id"].as_str().expect("a saga");
    let (mut under_way, mut administrator) =
        (gateway.place.connect().expect("a connection"), gateway.place.connect().expect("a connection"));
    under_way.write_all(&like(1, 8).bytes()).expect("sent");
    eventually("a like under way", || (sagas() > before).then_some(()));
    let retry = Request::new("POST", &format!("/sagas/{saga}/retry")).json(&json!({ "reason": "to see" }));
    let retry = retry.header("Authorization", format!("Bearer {TOKEN}"));
    administrator.write_all(&retry.bytes()).expect("sent");
    eventually("a fresh runner", || gateway.log().contains("letting go of a slot").then_some(()));
    drop(administrator);
    let forced = json!({ "as": "compensated", "reason": "it takes too long" });
    act(&gateway, saga, "force", Some(TOKEN), &forced).expect(200);
    house.thaw(Service::User);
    house.likectl(&["--json", "recover"]).expect_code(0);
}

/// A mistyped id writes nothing; a lost journal can be made up for.
#[test]
fn an_end_is_forced_on_an_unknown_saga_only_if_that_is_said() {
    let house = House::open(PROGRAM);
    let gateway = with_token(&house);
    let mut forced = json!({ "as": "compensated", "reason": "the journal was lost" });
    let problem = act(&gateway, UNKNOWN, "force", Some(TOKEN), &forced).problem(404, "not_found");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("even_if_unknown")), "{problem}");
    assert_eq!(house.json(&["saga", "list"]), json!([]));
    forced["even_if_unknown"] = json!(true);
    let acted = act(&gateway, UNKNOWN, "force", Some(TOKEN), &forced).expect(200).json();
    assert_eq!(acted["saga"]["state"], "forced_compensated", "{acted}");

    // The command line does it, and says so.
    let other = UNKNOWN.replace("0198f000", "0198f001");
    let words = ["saga", "force", &other, "--as", "compensated", "--reason", "the journal was lost"];
    let ended = house.likectl(&words).expect_code(0);
    assert!(ended.stderr.contains(&format!("no saga {other} stood in the journal")), "{ended:?}");
    gateway.kill();
    promises::no_drift(&house);
}

#[test]
fn an_administrator_retries_what_is_stuck() {
    let mut house = House::open(PROGRAM);
    let gateway = with_token(&house);
    gateway.article(1);
    let saga = stuck(&mut house, &gateway);
    house.start(Service::User);
    let acted = act(&gateway, &saga, "retry", Some(TOKEN), &json!({ "reason": "it is back" }));
    // Its own retries may have been quicker.
    if acted.status == 409 {
        acted.problem(409, "ended");
    } else {
        assert_eq!(acted.expect(200).json()["saga"]["state"], "compensated");
    }
    assert_eq!(gateway.likes(1), 1);
    promises::kept(&house);
}

#[test]
fn an_administrator_turns_back_what_could_still_go_forward() {
    let house = House::open(PROGRAM);
    let flags = ["--admin-token-file", &token_file(&house), "--timeout", "10m"];
    let (gateway, _) = Gateway::start(&house, &Plan::with(&flags));
    gateway.article(1);
    gateway.like(1, 6).expect(200);
    house.freeze(Service::User);
    let mut client = gateway.place.connect().expect("a connection");
    client.write_all(&like(1, 7).bytes()).expect("sent");
    let running = || gateway.get("/sagas?state=running").expect(200);
    let saga = eventually("a like under way", || ids(&running()).pop());
    let reason = json!({ "reason": "the user has asked for it" });
    let undone = std::thread::scope(|scope| {
        let undoing = scope.spawn(|| act(&gateway, &saga, "compensate", Some(TOKEN), &reason));
        eventually("a saga that has turned back", || ids(&running()).is_empty().then_some(()));
        house.thaw(Service::User);
        undoing.join().expect("an answer").expect(200).json()
    });
    assert_eq!(undone["saga"]["state"], "compensated", "{undone}");
    assert_eq!(gateway.likes(1), 1);
    promises::kept(&house);
}

#[test]
fn live_updates_tell_what_is_new_until_the_gateway_stops() {
    let (_house, mut gateway) = opened();
    let mut stream = gateway.place.connect().expect("a connection");
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
    let mut heard = String::new();
    let mut hear = |until: &str| {
        let mut buffer = [0; 4096];
        while !heard.contains(until) {
            let length = read_on(&mut stream, &mut buffer).expect("news");
            assert!(length > 0, "the stream has ended without {until}: {heard}");
            heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    hear("event: overview");
    let liked = gateway.like(1, 7).expect(200).json();
    hear(liked["saga_id"].as_str().expect("an id"));
    // As whoever runs it by hand does.
    gateway.running().signal(Signal::INT);
    eventually("its end", || gateway.running().has_ended().then_some(()));
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut rest).expect("an end");
    assert!(!gateway.log().contains("have not taken their answers"), "{}", gateway.log());
    assert_eq!(gateway.end().code(), Some(0));
}
