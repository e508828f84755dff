//! Daemons that die or hang, and are started again.

use like_tests::process::{Running, eventually};

use crate::machine::{ARTICLE, BENCH_LIKES, Machine, USER, message};

/// Callers that like article 1 one after the other, each with a process of its own, until they have enough.
struct Callers {
    loops: Vec<Running>,
}

const CALLERS: usize = 3;

impl Callers {
    fn start(machine: &Machine) -> Self {
        machine.json(&["article", "create", "--id", "1", "Title"]);
        let script = |caller: usize| {
            format!(
                "n=0
                 while [ ! -e /run/enough ]; do
                     likectl --json --timeout 30s like 1 --user {caller}$n || echo \"user {caller}$n: exit code $?\" >&2
                     n=$((n + 1))
                 done"
            )
        };
        let callers = 1..=CALLERS;
        let loops = callers.map(|caller| machine.start(&["sh", "-uc", &script(caller)])).collect();
        eventually("the first likes", || (machine.likes(1) > 10).then_some(()));
        Self { loops }
    }

    /// Waits until some more likes have been acknowledged.
    fn go_on_for(machine: &Machine, likes: u64) {
        let before = machine.likes(1);
        eventually("more likes", || (machine.likes(1) >= before + likes).then_some(()));
    }

    /// Ends them, insists that no like failed, and returns how many there were.
    fn end(self, machine: &Machine) -> u64 {
        machine.sh("touch /run/enough");
        let mut acknowledged = 0;
        for callers in self.loops {
            let ended = callers.end();
            assert_eq!(ended.stderr, "", "likes have failed");
            acknowledged += ended.stdout.lines().count() as u64;
        }
        acknowledged
    }
}

#[test]
fn daemons_killed_under_load_lose_no_like_and_fail_none() {
    let Some(machine) = Machine::boot_started("killed-under-load") else { return };
    let callers = Callers::start(&machine);
    for round in 0..6 {
        let unit = [ARTICLE, USER][round % 2];
        machine.kill(unit);
        Callers::go_on_for(&machine, 5);
    }
    let acknowledged = callers.end(&machine);
    assert_eq!(machine.likes(1), acknowledged);
    machine.promises_are_kept();
}

#[test]
fn many_likes_in_flight_survive_the_death_of_either_daemon() {
    let Some(machine) = Machine::boot_started("in-flight") else { return };
    let bench = machine.start_bench();
    for (kills, unit) in (0..).zip([ARTICLE, USER, ARTICLE, USER]) {
        eventually("more likes", || (machine.likes(1) > kills * 200).then_some(()));
        machine.kill(unit);
    }
    let before_the_end = machine.likes(1);
    assert!(before_the_end < BENCH_LIKES, "all kills were to happen under load");
    let measured = bench.end().expect_code(0).json();
    assert_eq!(measured["failed"], 0, "{measured}");
    assert_eq!(machine.likes(1), BENCH_LIKES);
    machine.promises_are_kept();
}

#[test]
fn twenty_kills_in_a_row_leave_daemons_and_sockets_in_service() {
    let Some(machine) = Machine::boot_started("twenty-kills") else { return };
    machine.json(&["article", "create", "Title"]);
    for kill in 0..20 {
        machine.kill(ARTICLE);
        machine.kill(USER);
        machine.likectl(&["like", "1", "--user", &kill.to_string()]).expect_code(0);
    }
    for unit in [ARTICLE, USER] {
        assert!(machine.property(unit, "NRestarts").parse::<u32>().expect("a number") >= 20);
    }
    for unit in [ARTICLE, USER, "like-article.socket", "like-user.socket"] {
        assert!(machine.is_active(unit), "{unit} is {}", machine.property(unit, "ActiveState"));
    }
    assert_eq!(machine.likes(1), 20);
    machine.promises_are_kept();
}

#[test]
fn kills_faster_than_a_daemon_can_start_leave_it_in_service() {
    let Some(machine) = Machine::boot_started("fast-kills") else { return };
    machine.json(&["article", "create", "Title"]);
    // Whatever process is there is killed, ready or not; connections in between start it again.
    machine.sh("for n in $(seq 30); do
             systemctl kill --signal=KILL like-article.service 2>/dev/null || :
             timeout 0.05 likectl article show 1 >/dev/null 2>&1 || :
         done");
    assert_eq!(machine.likes(1), 0);
    for unit in [ARTICLE, "like-article.socket"] {
        assert!(machine.is_active(unit), "{unit} is {}", machine.property(unit, "ActiveState"));
    }
}

#[test]
fn a_hung_commit_loop_is_caught_by_the_watchdog() {
    let Some(machine) = Machine::boot("watchdog") else { return };
    machine.override_unit(ARTICLE, "[Service]\\nWatchdogSec=1s\\n");
    machine.sh("systemctl start like.target");
    machine.json(&["article", "create", "Title"]);
    let hung = machine.property(ARTICLE, "MainPID");
    // Only the thread that commits stops, which is the first one.
    machine.sh(&format!(
        "cd /sys/fs/cgroup$(systemctl show --value --property=ControlGroup {ARTICLE})
         mkdir hung
         echo threaded >hung/cgroup.type
         echo {hung} >hung/cgroup.threads
         echo 1 >hung/cgroup.freeze"
    ));
    eventually("a daemon in the place of the hung one", || {
        (machine.property(ARTICLE, "MainPID") != hung && machine.is_active(ARTICLE)).then_some(())
    });
    let entries = machine.journal(&["--unit", ARTICLE]);
    assert!(entries.iter().any(|entry| message(entry).contains("Watchdog timeout")), "{entries:?}");
    assert!(
        entries.iter().any(|entry| message(entry).contains("Failed with result 'watchdog'")),
        "{entries:?}"
    );
    assert_eq!(machine.json(&["article", "show", "1"])["title"], "Title");
    machine.promises_are_kept();
}

#[test]
fn a_daemon_that_works_is_left_alone_by_the_watchdog() {
    let Some(machine) = Machine::boot("fed-watchdog") else { return };
    machine.override_unit(ARTICLE, "[Service]\\nWatchdogSec=500ms\\n");
    machine.sh("systemctl start like.target");
    let pid = machine.property(ARTICLE, "MainPID");
    machine.json(&["article", "create", "Title"]);
    let fed_at = || {
        let at = machine.property(ARTICLE, "WatchdogTimestampMonotonic");
        at.parse::<u64>().expect("a number")
    };
    // Idle and under load alike.
    let started = fed_at();
    eventually("four intervals of idleness", || (fed_at() > started + 2_000_000).then_some(()));
    machine.json(&["bench", "--likes", "1000", "--concurrency", "32"]);
    eventually("one interval more", || (fed_at() > started + 4_000_000).then_some(()));
    assert_eq!(machine.property(ARTICLE, "MainPID"), pid);
}
