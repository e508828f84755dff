//! Probes, numbers, and the API's own description.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use like_tests::gateway::{Gateway, Plan, like};
use like_tests::house::{House, Service, in_time};
use like_tests::http::Request;
use like_tests::process::eventually;
use like_tests::source;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::{PROGRAM, opened, opened_as};

#[test]
fn probes_tell_life_from_readiness() {
    let mut house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    gateway.get("/healthz").expect(200);
    gateway.get("/readyz").expect(200);
    house.kill(Service::User);
    eventually("a gateway that is not ready", || {
        let answer = gateway.get("/readyz");
        (answer.status == 503).then(|| answer.problem(503, "unavailable"))
    });
    gateway.get("/healthz").expect(200);
    house.start(Service::User);
    eventually("a gateway that is ready again", || (gateway.get("/readyz").status == 200).then_some(()));
}

#[test]
fn numbers_tell_what_has_happened_and_how_things_stand() {
    let (_house, gateway) = opened();
    gateway.like(1, 7).expect(200);
    gateway.like(1, 7).expect(409);
    gateway.get("/nowhere/7").expect(404);
    // A method that anybody has thought out is no label of its own.
    gateway.send(&Request::new("BREW", "/articles")).expect(405);
    let told = gateway.get("/metrics").expect(200).text();
    for sample in [
        "like_gateway_acts_total{kind=\"like\",outcome=\"done\"} 1",
        "like_gateway_acts_total{kind=\"like\",outcome=\"refused\"} 1",
        "like_gateway_act_duration_seconds_count{kind=\"like\"} 2",
        "like_gateway_http_requests_total{method=\"POST\",route=\"/articles/{article_id}/like\",status=\"200\"} 1",
        "like_gateway_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "like_gateway_http_requests_total{method=\"other\",route=\"/articles\",status=\"405\"} 1",
        "like_sagas_open{kind=\"like\",state=\"running\"} 0",
        "like_sagas_needs_attention 0",
        "like_service_up{service=\"article\"} 1",
        "like_service_up{service=\"user\"} 1",
        "like_service_queue_depth{service=\"user\"} 0",
    ] {
        assert!(told.lines().any(|line| line == sample), "{sample} is missing in\n{told}");
    }
    for counted in ["like_gateway_log_sync_duration_seconds", "like_gateway_log_group_writes"] {
        let number = |what: &str| -> f64 {
            let name = format!("{counted}_{what} ");
            let value = told.lines().find_map(|line| line.strip_prefix(&name)).expect("a number");
            value.parse().expect("a number")
        };
        assert!(number("count") >= 1.0 && number("sum") > 0.0, "one like is at least one sync: {told}");
    }
}

/// A gateway with a like under way, at a user service that hangs, whose client has hung up.
fn with_a_like_that_nobody_waits_for(timeout: &str) -> (House, Gateway) {
    let (house, gateway) = opened_as(&Plan::with(&["--timeout", timeout]));
    gateway.like(1, 6).expect(200);
    house.freeze(Service::User);
    let mut client = gateway.place.connect().expect("a connection");
    client.write_all(&like(1, 7).bytes()).expect("sent");
    eventually("a like under way", || (house.json(&["saga", "list"]).as_array()?.len() == 2).then_some(()));
    (house, gateway)
}

/// On a day when nothing works, clients have less patience than sagas: an alarm must not depend on theirs.
#[test]
fn a_like_whose_client_hangs_up_is_counted_by_what_comes_of_it() {
    in_time("a like that the user service has in its hands", Duration::from_secs(2), |timeout| {
        let (house, gateway) = with_a_like_that_nobody_waits_for(timeout);
        let outcome = eventually("its outcome among the numbers", || {
            let told = gateway.get("/metrics").expect(200).text();
            let outcomes =
                told.lines().filter_map(|line| line.strip_prefix("like_gateway_acts_total{kind=\"like\","));
            outcomes.map(str::to_owned).find(|outcome| !outcome.starts_with("outcome=\"done\""))
        });
        house.thaw(Service::User);
        (outcome == "outcome=\"pending\"} 1").then_some(())
    });
}

#[test]
fn a_log_that_can_not_be_written_any_more_is_noticed_whether_or_not_a_client_waits() {
    let (house, mut gateway) = with_a_like_that_nobody_waits_for("3s");
    let limit = Rlimit { current: Some(1), maximum: getrlimit(Resource::Fsize).maximum };
    prlimit(Some(gateway.running().process()), Resource::Fsize, limit).expect("its files can be limited");
    eventually("the end of a gateway whose log has ended", || gateway.running().has_ended().then_some(()));
    gateway.end().expect_code(1);
    house.thaw(Service::User);
}

/// Damages article 88, and makes a slot of which nobody knows what stands in it.
pub fn damage(house: &mut House) {
    let title_of_88 = [&[0x10][..], &88_u64.to_be_bytes()].concat();
    house.damage(Service::Article, &title_of_88);
    std::fs::create_dir_all(house.journal().join("77/00000001.log")).expect("a segment that is none");
}

#[test]
fn what_is_damaged_or_cannot_be_read_is_told() {
    let mut house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    gateway.article(88);
    let told = gateway.get("/metrics").expect(200).text();
    assert!(told.contains("\nlike_journal_problems 0\n"), "{told}");
    assert!(told.contains("\nlike_service_damaged_rows{service=\"article\"} 0\n"), "{told}");
    damage(&mut house);
    gateway.get("/articles/88").problem(500, "damaged");
    let overview = eventually("an overview that tells of both", || {
        let overview = gateway.get("/overview").expect(200).json();
        let told = |value: &serde_json::Value| !value.is_null() && *value != 0;
        (told(&overview["problems"][0]) && told(&overview["services"][0]["status"]["damaged"]))
            .then_some(overview)
    });
    assert!(overview["problems"][0].as_str().is_some_and(|told| told.contains("slot 77")), "{overview}");
    let told = gateway.get("/metrics").expect(200).text();
    assert!(told.contains("\nlike_journal_problems 1\n"), "{told}");
    assert!(told.contains("\nlike_service_damaged_rows{service=\"article\"} 1\n"), "{told}");
}

#[test]
fn every_alert_rule_is_about_numbers_that_exist() {
    let (_house, gateway) = opened();
    gateway.like(1, 7).expect(200);
    let told = gateway.get("/metrics").expect(200).text();
    let names: BTreeSet<_> =
        told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let rules =
        std::fs::read_to_string(source::root().join("systemd/examples/like-alerts.yml")).expect("rules");
    let expressions = rules.lines().filter_map(|line| line.trim().strip_prefix("expr:"));
    let mut used = 0;
    for expression in expressions {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("like_")) {
            let family = word.trim_end_matches("_bucket");
            assert!(names.contains(family), "{word} is no number of the gateway");
            used += 1;
        }
    }
    assert!(used >= 8, "rules use only {used} numbers");
}

#[test]
fn the_api_describes_every_route_and_every_error() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let document = gateway.document();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    let described: Vec<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let declared = [
        "GET /articles",
        "POST /articles",
        "GET /articles/{article_id}",
        "DELETE /articles/{article_id}/like",
        "POST /articles/{article_id}/like",
        "GET /articles/{article_id}/likes",
        "GET /events",
        "GET /healthz",
        "GET /metrics",
        "GET /overview",
        "GET /readyz",
        "GET /sagas",
        "GET /sagas/{saga_id}",
        "POST /sagas/{saga_id}/compensate",
        "POST /sagas/{saga_id}/force",
        "POST /sagas/{saga_id}/retry",
        "GET /users/{user_id}/likes",
    ];
    assert_eq!(BTreeSet::from_iter(described), declared.map(str::to_owned).into());
    // Nothing is referred to that is not there, and every kind of problem is told by some operation.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let place = reference.split('"').next().expect("a place");
        assert!(document.pointer(place).is_some(), "{place} is missing");
    }
    let kinds = document["components"]["schemas"]["Kind"]["enum"].as_array().cloned();
    let kinds = kinds.unwrap_or_else(|| {
        let one_of = document["components"]["schemas"]["Kind"]["oneOf"].as_array().expect("kinds");
        one_of.iter().map(|kind| kind["enum"][0].clone()).collect()
    });
    assert!(kinds.len() > 20, "{kinds:?}");
    let responses = paths.values().map(ToString::to_string).collect::<String>();
    for kind in kinds {
        let word = kind.as_str().expect("a word");
        // Where nothing is there is no operation, and where bugs are nobody can say.
        let told = matches!(word, "no_such_path" | "internal") || responses.contains(&format!("`{word}`"));
        assert!(told, "no operation tells {word}");
    }
}
