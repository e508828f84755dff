//! The API keeps to its own description: every operation, asked well and badly, answers as its OpenAPI document says.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use like_tests::contract::{Contract, Operation};
use like_tests::gateway::{Gateway, Plan, like, unlike, until_done};
use like_tests::house::{House, Service};
use like_tests::http::{Answer, Place, Request, read_on};
use like_tests::random::Random;
use serde_json::{Value, json};

use crate::PROGRAM;
use crate::looks::HangingSegment;
use crate::sagas::{TOKEN, UNKNOWN, act, stuck, token_file, with_token};

/// How many generated requests every operation gets.
const REQUESTS: u64 = 60;

/// Why a described status is not provoked here; `None` if it is.
fn never_seen(operation: &Operation, status: u16) -> Option<&'static str> {
    match status {
        504 if operation.path.ends_with("/like") => Some("a sync of the saga log that hangs"),
        502 if operation.path.ends_with("/force") => {
            Some("a saga log that fails between two writes of one act")
        }
        _ => None,
    }
}

/// What was asked, what was answered, and what of it the document does not say.
struct Checked {
    contract: Contract,
    seen: BTreeMap<(Operation, u16), usize>,
    breaches: Vec<String>,
}

impl Checked {
    fn nothing_yet(contract: Contract) -> Self {
        Self { contract, seen: BTreeMap::new(), breaches: Vec::new() }
    }

    fn take_in(&mut self, other: Self) {
        for (what, times) in other.seen {
            *self.seen.entry(what).or_default() += times;
        }
        self.breaches.extend(other.breaches);
    }

    fn answer(&mut self, operation: &Operation, request: &Request, place: &Place) -> Answer {
        let answer = send(request, place);
        self.check(operation, request, &answer);
        answer
    }

    fn check(&mut self, operation: &Operation, request: &Request, answer: &Answer) {
        *self.seen.entry((operation.clone(), answer.status)).or_default() += 1;
        if let Err(breach) = self.contract.check(operation, answer) {
            self.breach(operation, request, answer, &breach);
        }
    }

    fn breach(&mut self, operation: &Operation, request: &Request, answer: &Answer, breach: &str) {
        let asked = String::from_utf8_lossy(&request.bytes()).chars().take(300).collect::<String>();
        self.breaches.push(format!(
            "{operation}: {breach}\n  {asked:?}\n  {} {}",
            answer.status,
            answer.text()
        ));
    }

    fn operation(&self, told: &str) -> Operation {
        let operations = self.contract.operations();
        operations.into_iter().find(|operation| operation.to_string() == told).expect("an operation")
    }

    fn expect(&mut self, told: &str, request: &Request, gateway: &Gateway, status: u16) -> Answer {
        let operation = self.operation(told);
        self.answer(&operation, request, &gateway.place).expect(status)
    }
}

/// Sends a request; of a stream of events the first is all that is waited for.
fn send(request: &Request, place: &Place) -> Answer {
    let mut stream = place.connect().expect("a connection");
    // Who is refused early may not be listened to till the end.
    let _ = stream.write_all(&request.bytes());
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = read_on(&mut stream, &mut buffer).unwrap_or_default();
        bytes.extend(&buffer[..read]);
        let is_event = String::from_utf8_lossy(&bytes).contains("event: overview");
        if read == 0 || is_event {
            return Answer::read(&bytes).unwrap_or_else(|e| panic!("{e}: {request:?}"));
        }
    }
}

/// A value that a schema allows.
fn valid(random: &mut Random, name: &str, schema: &Value) -> Value {
    let word = |schema: &Value| schema["type"].as_str().or(schema["type"][0].as_str()).map(str::to_owned);
    match (name, word(schema).as_deref()) {
        ("state", _) => json!("running,completed"),
        ("kind", _) => json!("like"),
        (_, Some("integer")) => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(least), Some(most)) => json!(least + random.below(most - least + 1)),
            _ => json!([1, 2, 1_000 + random.below(1_000_000), u64::MAX][random.below(4) as usize]),
        },
        (_, Some("boolean")) => json!(random.percent(50)),
        (_, Some("string")) if schema["format"] == "uuid" => {
            json!(uuid::Uuid::from_u64_pair(random.any(), random.any()).to_string())
        }
        (_, Some("string")) => match (schema["minLength"].as_u64(), schema["maxLength"].as_u64()) {
            (Some(least), Some(most)) => {
                let length = [least, most, least + random.below(most - least + 1)][random.below(3) as usize];
                json!("é".repeat(length as usize))
            }
            _ => json!(schema["enum"].get(0).and_then(Value::as_str).unwrap_or("some text")),
        },
        other => panic!("nobody knows how to make {other:?}"),
    }
}

/// A text that a parameter of this schema can't be; `None` if it can be any.
fn hostile(random: &mut Random, name: &str, schema: &Value) -> Option<String> {
    let whatever = ["x", "-1", "1.5", "18446744073709551616", "%ff", "%00", "0x1", "NaN"];
    let mut all: Vec<_> = whatever.iter().map(|text| (*text).to_owned()).collect();
    if schema["type"] == "string" && schema["format"].is_null() && name != "state" {
        return None;
    }
    all.extend(schema["minimum"].as_u64().filter(|least| *least > 0).map(|least| (least - 1).to_string()));
    all.extend(schema["maximum"].as_u64().map(|most| (most + 1).to_string()));
    Some(all[random.below(all.len() as u64) as usize].clone())
}

/// A request to an operation; whether one thing about it is wrong.
fn generated(random: &mut Random, contract: &Contract, operation: &Operation) -> (Request, bool) {
    let described = contract.of(operation);
    let parameters = described["parameters"].as_array().cloned().unwrap_or_default();
    let body = &described["requestBody"]["content"]["application/json"]["schema"];
    // 0: nothing is wrong. Then: a parameter, the query, the token, the body.
    let wrong = if random.percent(40) { 0 } else { 1 + random.below(parameters.len() as u64 + 3) as usize };
    let mut is_wrong = false;
    let (mut path, mut query, mut headers) = (operation.path.clone(), Vec::new(), Vec::new());
    for (number, parameter) in parameters.iter().enumerate() {
        let (name, schema) = (parameter["name"].as_str().expect("a name"), &parameter["schema"]);
        let required = parameter["required"] == true;
        let bad = if wrong == number + 1 { hostile(random, name, schema) } else { None };
        is_wrong |= bad.is_some();
        if bad.is_none() && !required && random.percent(50) {
            continue;
        }
        let value = valid(random, name, schema);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let text = bad.clone().unwrap_or(value);
        match parameter["in"].as_str() {
            Some("path") => path = path.replace(&format!("{{{name}}}"), &text),
            Some("query") => query.push(format!("{name}={text}")),
            _ if bad.is_some() && random.percent(30) => {
                headers.extend([(name, "1".to_owned()), (name, text)])
            }
            _ if bad.is_some() && required && random.percent(30) => {}
            _ => headers.push((name, text)),
        }
    }
    if wrong == parameters.len() + 1 && parameters.iter().any(|parameter| parameter["in"] == "query") {
        query.push("surprise=1".to_owned());
        is_wrong = true;
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let mut request = Request::new(&operation.method, &path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if !described["security"].is_null() {
        let bad = wrong == parameters.len() + 2;
        is_wrong |= bad;
        request = request.header("Authorization", format!("Bearer {}", if bad { UNKNOWN } else { TOKEN }));
    }
    if body.is_null() {
        return (request, is_wrong);
    }
    let document = document(random, contract, body);
    if wrong != parameters.len() + 3 {
        return (request.json(&document), is_wrong);
    }
    (broken(random, request, &document), true)
}

/// A document that a schema allows.
fn document(random: &mut Random, contract: &Contract, schema: &Value) -> Value {
    let resolved = |schema: &Value| match schema["$ref"].as_str() {
        Some(reference) => contract.0.pointer(&reference[1..]).expect("a schema").clone(),
        None => schema.clone(),
    };
    let schema = resolved(schema);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let mut document = serde_json::Map::new();
    for (name, property) in schema["properties"].as_object().expect("properties") {
        if required.contains(&json!(name)) || random.percent(50) {
            document.insert(name.clone(), valid(random, name, &resolved(property)));
        }
    }
    Value::Object(document)
}

/// The request with a body that the operation can't take. Every schema here has a required text.
fn broken(random: &mut Random, request: Request, document: &Value) -> Request {
    let text = document.as_object().expect("an object").iter().find(|(_, value)| value.is_string());
    let name = text.expect("a text").0.clone();
    let with = |value: Value| {
        let mut document = document.clone();
        document[&name] = value;
        document
    };
    match random.below(13) {
        0 => request,
        1 => request.body("{}"),
        2 => request.header("content-type", "text/plain").body(document.to_string()),
        3 => request.header("content-type", "application/json").body("{"),
        4 => request.header("content-type", "application/json").body("[".repeat(8_000)),
        5 => request.header("content-type", "application/json").body(vec![b'"', 0xff, b'"']),
        // The right fields in a list, whatever their order.
        6 => request.json(&json!(document.as_object().expect("an object").values().collect::<Vec<_>>())),
        7 => request.json(&with(json!({ "a": 1 }))),
        8 => request.json(&with(json!(7))),
        9 => request.json(&with(json!("x".repeat(801)))),
        10 => request.json(&json!({})),
        11 => request.json(&json!([])),
        _ => {
            let mut more = document.clone();
            more["surprise"] = json!(1);
            request.json(&more)
        }
    }
}

/// What any operation may be answered with, whatever it does.
fn ask_badly(checked: &mut Checked, house: &House, gateway: &Gateway) {
    let operations = checked.contract.operations();
    let plan = Plan::with(&["--max-connections", "1"]);
    let (tcp, _) = Gateway::start(house, &Plan::with(&[]).tcp());
    let mut slow = Vec::new();
    for operation in &operations {
        let path = operation
            .path
            .replace("{saga_id}", UNKNOWN)
            .replace("{article_id}", "1")
            .replace("{user_id}", "7");
        let request = || Request::new(&operation.method, &path);
        checked.answer(operation, &request().header("host", "attacker.example"), &tcp.place).expect(421);
        checked.answer(operation, &request().body("x".repeat(20_000)), &gateway.place).expect(413);
        let chunked = request().header("transfer-encoding", "chunked");
        let mut bytes = chunked.bytes();
        bytes.extend(b"no length\r\n");
        let answer =
            Answer::read(&gateway.place.exchange(&bytes).expect("an answer")).expect("a whole answer");
        checked.check(operation, &chunked, &answer);
        assert_eq!(answer.status, 400, "{answer:?}");
        let put = Request::new("PUT", &path);
        checked.answer(operation, &put, &gateway.place).expect(405);
        if operation.method != "GET" {
            let request = request().header("Sec-Fetch-Site", "cross-site");
            checked.answer(operation, &request, &gateway.place).expect(403);
        }
        if !checked.contract.of(operation)["requestBody"].is_null() {
            let request = request().header("Authorization", format!("Bearer {TOKEN}"));
            let request = request.header("content-type", "text/plain").body("a title");
            checked.answer(operation, &request, &gateway.place).expect(415);
        }
        let mut stream = gateway.place.connect().expect("a connection");
        stream.write_all(&request().header("content-length", 9).bytes()).expect("sent");
        slow.push((operation.clone(), request(), stream));
    }
    tcp.kill();
    for (operation, request, mut stream) in slow {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an end");
        let answer = Answer::read(&bytes).expect("an answer").expect(408);
        checked.check(&operation, &request, &answer);
    }
    let (full, _) = Gateway::start(house, &plan.tcp());
    let _taken = full.place.connect().expect("a connection");
    for operation in &operations {
        let request = Request::new(&operation.method, &operation.path);
        checked.answer(operation, &request, &full.place).expect(503);
    }
}

/// A gateway that looks for each service where the other one is.
fn ask_the_wrong_services(checked: &mut Checked, house: &House) {
    let [article, user] = Service::BOTH.map(|service| house.socket(service).display().to_string());
    let variables = Plan::with(&[&format!("--article-socket={user}"), &format!("--user-socket={article}")]);
    let (gateway, _) = Gateway::start(house, &variables.tcp());
    let title = json!({ "title": "A title" });
    let all = [
        ("GET /articles", Request::new("GET", "/articles")),
        ("POST /articles", Request::new("POST", "/articles").json(&title)),
        ("GET /articles/{article_id}", Request::new("GET", "/articles/1")),
        ("GET /articles/{article_id}/likes", Request::new("GET", "/articles/1/likes")),
        ("GET /users/{user_id}/likes", Request::new("GET", "/users/7/likes")),
        ("POST /articles/{article_id}/like", like(1, 7)),
        ("DELETE /articles/{article_id}/like", unlike(1, 7)),
    ];
    for (operation, request) in all {
        checked.expect(operation, &request, &gateway, 502);
    }
}

/// What only happens when a service is down or hangs.
fn ask_on_a_bad_day(checked: &mut Checked, house: &mut House, gateway: &Gateway) {
    const LIKE: &str = "POST /articles/{article_id}/like";
    const UNLIKE: &str = "DELETE /articles/{article_id}/like";
    let (likes, unlikes) = (checked.operation(LIKE), checked.operation(UNLIKE));
    gateway.article(77);
    checked.answer(&likes, &like(77, 1), &gateway.place).expect(200);
    checked.answer(&likes, &like(77, 2), &gateway.place).expect(200);
    checked.answer(&likes, &like(77, 1), &gateway.place).expect(409);
    checked.answer(&unlikes, &unlike(77, 2), &gateway.place).expect(200);
    checked.answer(&unlikes, &unlike(77, 2), &gateway.place).expect(409);
    house.freeze(Service::User);
    for (operation, request) in [(&likes, like(77, 3)), (&unlikes, unlike(77, 1))] {
        let answer = gateway.until(202, &request);
        checked.check(operation, &request, &answer);
    }
    house.thaw(Service::User);
    for (operation, request) in [(&likes, like(77, 7)), (&unlikes, unlike(77, 4))] {
        // The connection is there, and the service is not.
        until_done(&like(77, if *operation == likes { 4 } else { 5 }), &gateway.place);
        house.kill(Service::User);
        checked.answer(operation, &request, &gateway.place).expect(500);
        house.start(Service::User);
    }
}

/// Rows of an article that can't be read any more.
fn ask_for_what_is_damaged(checked: &mut Checked, house: &mut House, gateway: &Gateway) {
    gateway.article(88);
    let title_of_88 = [&[0x10][..], &88_u64.to_be_bytes()].concat();
    house.damage(Service::Article, &title_of_88);
    let read = Request::new("GET", "/articles/88");
    checked.expect("GET /articles/{article_id}", &read, gateway, 500).problem(500, "damaged");
    let again = Request::new("POST", "/articles").json(&json!({ "article_id": 88, "title": "Again" }));
    checked.expect("POST /articles", &again, gateway, 500).problem(500, "damaged");
    checked.expect("GET /articles", &Request::new("GET", "/articles"), gateway, 200);
}

/// A journal whose disk hangs, of a house of its own: it is waited for long, and others have much to do meanwhile.
fn ask_a_hanging_disk(contract: Contract) -> Checked {
    let house = House::open(PROGRAM);
    let mut checked = Checked::nothing_yet(contract);
    // One that has not looked at anything yet: what was seen is told for a while.
    let plan = Plan::with(&["--admin-token-file", &token_file(&house), "--timeout", "500ms"]);
    let (gateway, _) = Gateway::start(&house, &plan);
    let _hanging = HangingSegment::in_journal_of(&house);
    let reason = json!({ "reason": "to see" });
    let forced = json!({ "as": "compensated", "reason": "to see" });
    let act = |act: &str, document: &Value| {
        let request = Request::new("POST", &format!("/sagas/{UNKNOWN}/{act}")).json(document);
        request.header("Authorization", format!("Bearer {TOKEN}"))
    };
    let reads = ["/sagas", "/overview", "/events", "/readyz"]
        .map(|path| (format!("GET {path}"), Request::new("GET", path)));
    let of_one = [
        ("GET /sagas/{saga_id}".to_owned(), Request::new("GET", &format!("/sagas/{UNKNOWN}"))),
        ("POST /sagas/{saga_id}/retry".to_owned(), act("retry", &reason)),
        ("POST /sagas/{saga_id}/compensate".to_owned(), act("compensate", &reason)),
        ("POST /sagas/{saga_id}/force".to_owned(), act("force", &forced)),
    ];
    let asked: Vec<_> = reads.into_iter().chain(of_one).collect();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            asked.iter().map(|(_, request)| scope.spawn(|| send(request, &gateway.place))).collect();
        asking.into_iter().map(|asking| asking.join().expect("an answer")).collect()
    });
    for ((told, request), answer) in asked.iter().zip(answers) {
        let operation = checked.operation(told);
        checked.check(&operation, request, &answer);
        let detail = answer.problem(504, "timed_out")["detail"].to_string();
        assert_eq!(
            detail.contains("more than 5 s"),
            told == "GET /readyz",
            "a probe waits no longer: {detail}"
        );
    }
    // What needs no disk goes on, and an alarm is made of the hanging one.
    let told = checked.expect("GET /metrics", &Request::new("GET", "/metrics"), &gateway, 200).text();
    assert!(told.contains("\nlike_journal_readable 0\n"), "{told}");
    checked.expect("GET /healthz", &Request::new("GET", "/healthz"), &gateway, 200);
    checked.expect("GET /articles", &Request::new("GET", "/articles"), &gateway, 200);
    checked
}

/// The acts of an administrator on a saga that is stuck, and then has ended.
fn administer(checked: &mut Checked, house: &mut House, gateway: &Gateway) {
    gateway.article(1_000_001);
    let saga = stuck(house, gateway);
    let reason = json!({ "reason": "to see" });
    let forced = json!({ "as": "compensated", "reason": "to see" });
    let request = |act: &str, document: &Value, token: &str| {
        let request = Request::new("POST", &format!("/sagas/{saga}/{act}")).json(document);
        request.header("Authorization", format!("Bearer {token}"))
    };
    let acts = [("retry", &reason), ("compensate", &reason), ("force", &forced)];
    for status in [200, 409] {
        for (act, document) in acts {
            // The same end once more is no act, and no error.
            let other = json!({ "as": "completed", "reason": "to see" });
            let document = if status == 409 && act == "force" { &other } else { document };
            let told = format!("POST /sagas/{{saga_id}}/{act}");
            checked.expect(&told, &request(act, document, TOKEN), gateway, status);
        }
    }
    for path in ["/sagas", &format!("/sagas/{saga}"), "/overview", "/events", "/readyz", "/metrics"] {
        let template = path.replace(&saga, "{saga_id}");
        let status = if path == "/readyz" { 503 } else { 200 };
        checked.expect(&format!("GET {template}"), &Request::new("GET", path), gateway, status);
    }
    act(gateway, &saga, "retry", None, &reason).expect(401);
    house.start(Service::User);
}

#[test]
fn every_operation_answers_as_the_document_says_whatever_it_is_asked() {
    let mut house = House::open(PROGRAM);
    let gateway = with_token(&house);
    gateway.article(1);
    let contract = Contract(gateway.document().clone());
    let operations = contract.operations();
    let mut checked = Checked::nothing_yet(contract.clone());
    let hanging = std::thread::spawn(|| ask_a_hanging_disk(contract));
    let mut random = Random::of(20_261_122);
    for operation in &operations {
        for _ in 0..REQUESTS {
            let (request, is_wrong) = generated(&mut random, &checked.contract, operation);
            let answer = checked.answer(operation, &request, &gateway.place);
            let refused = matches!(answer.status, 400 | 401 | 403 | 413 | 415 | 422);
            if refused != is_wrong {
                let breach =
                    if is_wrong { "takes what is not described" } else { "refuses what is described" };
                checked.breach(operation, &request, &answer, breach);
            }
        }
    }
    let generated: usize = checked.seen.values().sum();
    ask_badly(&mut checked, &house, &gateway);
    ask_the_wrong_services(&mut checked, &house);
    ask_on_a_bad_day(&mut checked, &mut house, &gateway);
    administer(&mut checked, &mut house, &gateway);
    ask_for_what_is_damaged(&mut checked, &mut house, &gateway);
    checked.take_in(hanging.join().expect("a disk that hangs is told of"));
    assert!(checked.breaches.is_empty(), "{}", checked.breaches.join("\n"));

    let mut described = 0;
    for operation in &operations {
        for status in checked.contract.statuses(operation) {
            described += 1;
            let seen = checked.seen.contains_key(&(operation.clone(), status));
            assert_eq!(!seen, never_seen(operation, status).is_some(), "{operation} {status}");
        }
    }
    println!(
        "{} operations, {described} statuses described, {} seen, {generated} generated requests of {} in all",
        operations.len(),
        checked.seen.len(),
        checked.seen.values().sum::<usize>()
    );
}
