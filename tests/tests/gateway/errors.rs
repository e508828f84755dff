//! Every error is a problem document, those of the framework too.

use like_tests::gateway::{Gateway, Plan, like};
use like_tests::house::House;
use like_tests::http::{Answer, Request};

use crate::{PROGRAM, opened_as};

#[test]
fn errors_of_the_framework_are_problem_documents() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    gateway.get("/nowhere").problem(404, "no_such_path");
    gateway.get("/articles/1/like/").problem(404, "no_such_path");
    let put = gateway.send(&Request::new("PUT", "/articles"));
    let allowed = put.header("allow").expect("what is allowed").to_owned();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    put.problem(405, "method_not_allowed");
    let post = |media: &str, body: &str| {
        gateway.send(&Request::new("POST", "/articles").header("content-type", media).body(body))
    };
    post("text/plain", "{}").problem(415, "unsupported_media_type");
    post("application/json", "{").problem(400, "malformed");
    post("application/json", "{\"title\":7}").problem(422, "invalid");
    post("application/json", "{\"title\":\"t\",\"likes\":7}").problem(422, "invalid");
    post("application/json", &format!("{{\"title\":\"{}\"}}", "x".repeat(8000))).problem(422, "invalid");
    post("application/json", &format!("{{\"title\":\"{}\"}}", "x".repeat(20_000))).problem(413, "too_large");
    let endless = Request::new("POST", "/articles").header("transfer-encoding", "chunked");
    let mut bytes = endless.header("content-type", "application/json").bytes();
    bytes.extend(format!("8000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x8000)).bytes());
    let answer = gateway.place.exchange(&bytes).expect("an answer");
    Answer::read(&answer).expect("a whole answer").problem(413, "too_large");
    let many =
        (0..70).fold(Request::new("GET", "/articles"), |request, n| request.header(&format!("x-{n}"), n));
    many.send(&gateway.place).expect("an answer").expect(431);
}

#[test]
fn pages_of_other_sites_and_names_of_others_are_refused() {
    let (_house, gateway) = opened_as(&Plan::with(&["--host", "likes.example"]).tcp());
    for host in ["attacker.example", "attacker.example:80", "localhost.attacker.example", ""] {
        let request = Request::new("GET", "/articles").header("host", host);
        gateway.send(&request).problem(421, "misdirected");
    }
    for host in ["127.0.0.1:1", "[::1]:8080", "localhost", "LOCALHOST:80", "likes.example"] {
        gateway.send(&Request::new("GET", "/articles").header("host", host)).expect(200);
    }
    for site in ["cross-site", "same-site"] {
        gateway.send(&like(1, 7).header("Sec-Fetch-Site", site)).problem(403, "cross_site");
    }
    // Some browsers say no more than the page's origin.
    for origin in
        ["http://attacker.example", "http://likes.example.attacker.example", "http://127.0.0.1:1", "null"]
    {
        gateway.send(&like(1, 7).header("Origin", origin)).problem(403, "cross_site");
    }
    assert_eq!(gateway.likes(1), 0);
    gateway.send(&like(1, 7).header("Sec-Fetch-Site", "same-origin")).expect(200);
    gateway.send(&like(1, 8).header("Origin", "https://likes.example:8443")).expect(200);
    gateway.send(&like(1, 10).header("Sec-Fetch-Site", "none")).expect(200);
    // Whoever follows a link changes nothing.
    gateway.send(&Request::new("GET", "/").header("Sec-Fetch-Site", "cross-site")).expect(200);
    let own = like(1, 9).header("host", "127.0.0.1:8080").header("Origin", "http://127.0.0.1:8080");
    gateway.send(&own).expect(200);
}

#[test]
fn a_request_for_two_hosts_or_without_one_is_for_none() {
    let house = House::open(PROGRAM);
    for (is_tcp, plan) in [(false, Plan::with(&[])), (true, Plan::with(&[]).named("tcp").tcp())] {
        let (gateway, _) = Gateway::start(&house, &plan);
        for second in ["localhost", "attacker.example"] {
            let request = Request::new("GET", "/articles").header("host", "localhost").header("host", second);
            gateway.send(&request).problem(400, "malformed");
        }
        let to = |target: &str| Request::new("GET", target).header("host", "LOCALHOST");
        let send = |request: Request| request.send(&gateway.place).expect("an answer");
        send(to("http://attacker.example/articles")).problem(400, "malformed");
        send(to("http://localhost/articles")).expect(200);
        // Nor is one for no host at all.
        let unnamed = |version: &str| {
            let request = format!("GET /articles HTTP/{version}\r\nconnection: close\r\n\r\n");
            let answer = gateway.place.exchange(request.as_bytes()).expect("an answer");
            Answer::read(&answer).expect("a whole answer")
        };
        unnamed("1.1").problem(400, "malformed");
        // One so old need not name any, where nobody else's name could lead here.
        if is_tcp {
            unnamed("1.0").problem(400, "malformed");
        } else {
            unnamed("1.0").expect(200);
        }
    }
}

#[test]
fn answers_tell_browsers_to_be_careful() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    for path in ["/articles", "/nowhere"] {
        let answer = gateway.get(path);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
    // The page may load what stands beside it, and is asked for anew: it may be another version's.
    let page = gateway.get("/").expect(200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    assert_eq!(page.header("cache-control"), Some("no-cache"));
}
