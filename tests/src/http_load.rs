//! How many likes a second go through the gateway, and what each costs, beside `likectl bench` in the same house and minute.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;

use crate::gateway::{Gateway, Plan};
use crate::house::{House, Service};
use crate::http::Place;
use crate::promises;

/// How many articles are liked, in turns.
const ARTICLES: u64 = 16;

/// Likes through the gateway against likes by `likectl bench`, in turns.
#[derive(Parser, Debug)]
#[command(name = "http-load")]
struct Flags {
    /// How many connections at once, each with one like under way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    connections: u64,

    /// How many likes in a turn
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    likes: u64,

    /// How many turns of both
    #[arg(long, value_name = "N", default_value_t = 3)]
    turns: u64,
}

/// What a turn came to.
struct Turn {
    seconds: f64,
    p50: Duration,
    p99: Duration,
    /// CPU seconds of the gateway (or `likectl`), the article daemon and the user daemon.
    cpu: [f64; 3],
}

/// Its main. `program` holds all programs.
///
/// # Panics
/// A like is refused, or lost.
pub fn main(program: PathBuf, arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let flags = Flags::parse_from(arguments);
    let mut house = House::open(program);
    (1..=ARTICLES).for_each(|article| house.article(article));
    let (mut gateway, _) = Gateway::start(&house, &Plan::with(&[]).tcp());
    println!("{} connections, {} likes a turn; CPU in microseconds a like", flags.connections, flags.likes);
    println!(
        "{:16}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "likes/s", "p50 ms", "p99 ms", "front", "article", "user"
    );
    for turn in 0..flags.turns {
        let pids = [
            gateway.running().pid(),
            house.process(Service::Article).pid(),
            house.process(Service::User).pid(),
        ];
        tell("gateway", &flags, &by_http(&gateway.place, pids, &flags, turn));
        tell("likectl bench", &flags, &by_bench(&house, [pids[1], pids[2]], &flags));
    }
    gateway.kill();
    promises::no_drift(&house);
    ExitCode::SUCCESS
}

fn tell(who: &str, flags: &Flags, turn: &Turn) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let [front, article, user] = turn.cpu.map(|seconds| seconds * 1e6 / flags.likes as f64);
    let per_second = flags.likes as f64 / turn.seconds;
    println!(
        "{who:16}{per_second:>10.0}{:>10.2}{:>10.2}{front:>10.0}{article:>10.0}{user:>10.0}",
        ms(turn.p50),
        ms(turn.p99)
    );
}

fn by_http(place: &Place, pids: [u32; 3], flags: &Flags, turn: u64) -> Turn {
    let next = AtomicU64::new(0);
    let before = pids.map(cpu_seconds);
    let began = Instant::now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..flags.connections)
            .map(|_| scope.spawn(|| like_on(place, &next, flags.likes, turn * flags.likes)))
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |permille: usize| took[(took.len() * permille / 1000).min(took.len() - 1)];
    let after = pids.map(cpu_seconds);
    Turn { seconds, p50: at(500), p99: at(990), cpu: std::array::from_fn(|n| after[n] - before[n]) }
}

/// One client: a connection that is kept, one like after the other.
fn like_on(place: &Place, next: &AtomicU64, likes: u64, offset: u64) -> Vec<Duration> {
    let mut stream = place.connect().expect("a connection");
    let (mut took, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= likes {
            return took;
        }
        let (article, user) = (1 + number % ARTICLES, offset + number);
        let began = Instant::now();
        let request =
            format!("POST /articles/{article}/like HTTP/1.1\r\nhost: localhost\r\nx-user-id: {user}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            let read = stream.read(&mut buffer).expect("an answer");
            assert!(read > 0, "cut off: {}", String::from_utf8_lossy(&answer));
            answer.extend(&buffer[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        took.push(began.elapsed());
    }
}

/// Whether an answer is all there: a head that names its body's length, and so much of a body.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| body.len() >= length)
}

fn by_bench(house: &House, daemons: [u32; 2], flags: &Flags) -> Turn {
    let before = daemons.map(cpu_seconds);
    let (likes, connections) = (flags.likes.to_string(), flags.connections.to_string());
    let own = children_seconds();
    let told = house.json(&["bench", "--likes", &likes, "--concurrency", &connections, "--articles", "16"]);
    let after = daemons.map(cpu_seconds);
    let time = |name: &str| Duration::from_micros(told[name].as_u64().expect("microseconds"));
    let cpu = [children_seconds() - own, after[0] - before[0], after[1] - before[1]];
    let seconds = told["seconds"].as_f64().expect("seconds");
    assert_eq!(told["failed"], Value::from(0), "{told}");
    Turn { seconds, p50: time("p50_us"), p99: time("p99_us"), cpu }
}

/// CPU time of a process, to the tick of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    ticks(&format!("/proc/{pid}/stat"), 11)
}

/// CPU time of children of this process that have ended.
fn children_seconds() -> f64 {
    ticks("/proc/self/stat", 13)
}

/// The sum of two fields of a `stat` file behind the name, as seconds.
fn ticks(stat: &str, first: usize) -> f64 {
    let stat = fs::read_to_string(stat).expect("the process is there");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(first).take(2);
    fields.map(|field| field.parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
}
